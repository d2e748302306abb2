"""How results read to people, where a table of their fields would not do."""
