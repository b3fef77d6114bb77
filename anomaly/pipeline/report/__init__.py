"""What is shown of a detector: the report that every fit leaves (`fitted`, with `camera` and `sensor`), and what it flags (`flagged`)."""
