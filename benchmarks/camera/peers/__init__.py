"""Further peers beside anomalib, each with a script for a Python of its own."""
