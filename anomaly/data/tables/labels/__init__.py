"""Faults that someone labelled: rows of a table with a label column, and stretches of time that point into tables."""
