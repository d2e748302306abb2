"""The report of a comparison: all arms on one page."""
