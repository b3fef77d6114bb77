"""Where all commands print."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from anomaly.names import shown


class SafeConsole(Console):
    """A console on which text from outside can do nothing: no emoji, no markup, no escape sequence, no password."""

    def print(self, *objects: Any, **how: Any) -> None:
        """As Console.print. Newlines in the text are kept: text from outside that must stay one line goes through `one_line` before."""
        super().print(*(shown(item) if isinstance(item, str) else item for item in objects), **how)


out, err = (SafeConsole(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False) for stderr in (False, True))
