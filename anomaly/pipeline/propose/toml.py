"""A proposed spec as the TOML file that a person edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit

from anomaly import __version__
from anomaly.errors import SpecError
from anomaly.names import one_line
from anomaly.pipeline.propose.proposal import Entry, Proposal

MARK = "# Made for: "  # begins the line that names the data a spec was proposed for
COMMENTS_FROM = 38  # column, at least


def to_toml(proposal: Proposal, asks: bool = False) -> str:
    """The spec with a comment on each line; what is left to the fit stands there as comments. Reading it gives the proposal's spec.

    `asks`: a person has still to say how the data is meant, by taking the # off a line; the first line says so.
    """
    fits = "It fits as it is; change what you know better."
    if asks:
        fits = "IT DOES NOT FIT YET: how the data is meant cannot be seen. Take the # off the line in [input] that is right, or change it."
    lines = [
        f"# The spec of a detector, proposed by anomaly-pipeline {__version__}. {fits}",
        "# Every key, with its range: docs/reference/spec.md. A line that begins with # is a comment: take the # off to set it.",
        f"{MARK}{one_line(str(proposal.data.resolve()))}",
        "",
    ]
    section = ""
    for entry in proposal.entries:
        if entry.section != section:
            section = entry.section
            lines += ["", f"[{section}]"]
        lines += _written(entry)
    return "\n".join(lines) + "\n"


def made_for(path: Path) -> str | None:
    """The data that a spec file was proposed for, None where it was not proposed, or cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((line.removeprefix(MARK) for line in lines[:10] if line.startswith(MARK)), None)


def _written(entry: Entry) -> list[str]:
    mark = "" if entry.active else "# "
    comment = f"   # {one_line(entry.comment)}" if entry.comment else ""
    if isinstance(entry.value, list) and entry.value and isinstance(entry.value[0], dict):
        return [f"{mark}{entry.key} = [{comment}", *(f"{mark}  {_value(item)}," for item in entry.value), f"{mark}]"]
    setting = f"{mark}{entry.key} = {_value(entry.value)}"
    return [f"{setting:{COMMENTS_FROM - 3}}{comment}".rstrip()]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    if isinstance(value, (str, int, float, list, tuple, bool)):
        return tomlkit.item(value).as_string()
    raise SpecError(f"{value!r} cannot be written as TOML")
