"""Running a detector's graph: sessions on a provider, bound buffers, batching, self-test, and what is quickest here (bench)."""
