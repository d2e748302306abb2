"""The report of a comparison: arms side by side, on one page."""
