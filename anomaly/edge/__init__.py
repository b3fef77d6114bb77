"""Detectors beside the line: the monitor loop, many lines in one process (box), release folders and their probation, doctor."""
