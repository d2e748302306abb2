"""Log files as streams: found, unpacked, recoded, and cut into the pieces that hold a row each."""
