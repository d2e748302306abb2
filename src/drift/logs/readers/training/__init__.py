"""Files that fine-tuning tools read: chats, and preferred replies beside rejected ones."""
