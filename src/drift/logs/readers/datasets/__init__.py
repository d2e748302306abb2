"""Published datasets of chats, each with a row shape of its own."""
