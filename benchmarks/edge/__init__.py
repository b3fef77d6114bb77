"""The edge: one machine without and with a GPU, one stream and many."""
