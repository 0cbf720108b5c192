"""Small real things that several test folders share."""
