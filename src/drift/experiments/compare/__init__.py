"""`drift compare`: one experiment, many recipes."""
