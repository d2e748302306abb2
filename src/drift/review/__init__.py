"""A web page on loopback where people audit labels and compare replies."""
