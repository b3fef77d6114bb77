"""Years of pictures or rows through a detector, to Parquet: in parts, in bounded memory, and going on where it was stopped."""
