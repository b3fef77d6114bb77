"""Measurements on public data and side by side with peers; each script prints, or writes to benchmarks/results, what it found."""
