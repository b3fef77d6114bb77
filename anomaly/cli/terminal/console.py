"""Where all commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json import dumps, loads
from typing import Any, TypeVar

from rich.console import Console
from rich.highlighter import JSONHighlighter

from anomaly.names import seen_json, shown

Item = TypeVar("Item")


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

    def print_json(self, json: str | None = None, **how: Any) -> None:
        """JSON, indented. What cannot be seen in its texts is written as \\uHHHH: programs read the same, and a terminal obeys nothing."""
        if not self.muted:
            text = seen_json(dumps(loads(json or "null"), indent=2, ensure_ascii=False))
            super().print(JSONHighlighter()(text), soft_wrap=True, **how)


@dataclass
class Manner:
    """How much the command that runs is to say: set by -q and -v."""

    quiet: bool = False
    verbose: bool = False

    def some(self, items: Sequence[Item], count: int) -> Sequence[Item]:
        """The first of several things to tell, all of them with -v."""
        return items if self.verbose else items[:count]


manner = Manner()
out, err = (SafeConsole(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False) for stderr in (False, True))


def print_verdict(lines: Iterable[str], under: str = "") -> None:
    """The verdict in bold, and what stands `under` it, each line with that before it."""
    for number, text in enumerate(lines):
        out.print(f"{under}{text}" if number else text, style=None if number else "bold")
