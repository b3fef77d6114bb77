"""Where all commands print."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from anomaly.names import shown


class SafeConsole(Console):
    """A console on which text from outside can do nothing: no emoji, no markup, no escape sequence, no password."""

    muted = False

    def print(self, *objects: Any, always: bool = False, **how: Any) -> None:
        """As Console.print. Newlines in the text are kept: text from outside that must stay one line goes through `one_line` before.

        What is not to be printed `always` is left out where the console is muted.
        """
        if self.muted and not always:
            return
        super().print(*(shown(item) if isinstance(item, str) else item for item in objects), **how)


out, err = (SafeConsole(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False) for stderr in (False, True))
