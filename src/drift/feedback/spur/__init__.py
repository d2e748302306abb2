"""A rubric learnt from a user's own labelled chats (SPUR, arXiv 2403.12388): extract, summarise, then a regression."""
