"""The bundle, one file that holds a detector: `archive` reads, verifies, writes and signs it; `manifest` is what it says of itself."""
