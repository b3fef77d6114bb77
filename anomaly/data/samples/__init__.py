"""Generators of sample data: `synthetic` and `press` (what data_samples/ ships) and `generated` (random machines to transfer from)."""
