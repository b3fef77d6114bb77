"""Generators of sample data: `synthetic` (what data_samples/ ships) and `generated` (random machines to transfer from)."""
