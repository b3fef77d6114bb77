"""How long the first bundle takes: `first_bundle` times the whole command, `code` by `code`."""
