"""What all commands share: where they print, and how they show that they are at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner with the current step on a terminal; plain lines elsewhere."""
    if not err.is_terminal:
        yield lambda text: err.print(f"{title}: {text}", markup=False)
        return
    with err.status(title) as status:
        yield lambda text: status.update(f"{title}: {text}")
