"""Whole files through a detector: what it says of a picture file, and of every window of a table."""
