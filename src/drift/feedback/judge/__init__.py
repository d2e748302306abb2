"""A language model behind a server says what each user turn expresses, by a rubric (SPUR, arXiv 2403.12388)."""
