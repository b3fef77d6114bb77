"""The commands that pages show: in fences and indented blocks, and in the text."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4,}| {2,}(?=anomaly ))(.*)$", re.MULTILINE)
START = re.compile(r"^(?:\$ )?(?:sudo -u \w+ )?(?:\S*/bin/)?anomaly (?=\S)")


def shown_commands(page: Path) -> list[str]:
    """The lines of a page's blocks that run `anomaly`, without what they are preceded by and the remark after them."""
    text = page.read_text(encoding="utf-8")
    lines = [line for language, body in FENCE.findall(text) if language in ("", "bash", "sh", "console") for line in _lines(body)]
    lines += _lines("\n".join(INDENTED.findall(FENCE.sub("", text))))
    return [re.split(r"\s+#\s|;| && ", START.sub("anomaly ", line))[0].strip() for line in lines if START.match(line)]


def inline_commands(page: Path) -> list[str]:
    """What a page's text names as `anomaly …`."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"(?<!`)`(anomaly [a-z][^`\n]*)`(?!`)", text)


def words(command: str) -> list[str]:
    """A command's words after `anomaly`."""
    return shlex.split(command.replace("\\|", "|"))[1:]


def _lines(body: str) -> list[str]:
    return [line.strip() for line in re.sub(r"\\\n\s*", "", body).splitlines()]
