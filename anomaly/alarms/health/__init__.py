"""Health that others can watch: what each line shows of itself, over HTTP, to systemd, and as heartbeat events."""
