"""Where events go: one file a sink, and the reader of alerts.toml."""
