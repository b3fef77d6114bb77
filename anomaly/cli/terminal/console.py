"""Where all commands print."""

from __future__ import annotations

from rich.console import Console

# names of files are shown as they are: nothing in them is an emoji or markup
out, err = (Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False) for stderr in (False, True))
