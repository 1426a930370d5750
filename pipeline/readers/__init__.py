"""One reader a file format; all give the same lazy Dataset."""
