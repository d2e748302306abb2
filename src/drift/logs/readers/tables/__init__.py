"""Tables whose columns the user names."""
