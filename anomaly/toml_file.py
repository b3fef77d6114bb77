"""Reading a TOML file: specs, boxes of lines, and lists of sinks alike."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from anomaly.errors import SpecError


def read_toml(path: Path, example: str) -> dict[str, Any]:
    """The content of a TOML file. Raises SpecError naming the file and the line; `example` is a file to start from when it is not there."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such file; {example} is there to start from") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}; {example} is there to start from") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path}, line {line}: not valid TOML: not UTF-8; save it as UTF-8") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = int(found[1]) if found and found[1] else text.rstrip("\n").count("\n") + 1
        raise SpecError(f"{path}, line {line}: not valid TOML: {error}") from error


def unknown_key(key: str, known: Collection[str]) -> str:
    """What is said of a key (`a.0.b` with those above it) that no reader knows.

    >>> unknown_key("line.1.silent_after", ["name", "silent_after_s"])
    'unknown key `line.1.silent_after`; did you mean `silent_after_s`?'
    >>> unknown_key("x", ["name", "path"])
    'unknown key `x`; known here: name, path'
    """
    near = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
    return f"unknown key `{key}`; " + (f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}")


def with_keys(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds, with other values for some of its keys, each with those above it. What was given is not changed.

    >>> with_keys({"name": "a", "budget": {"rate": 1}}, {"budget.rate": 2, "input.size": 64})
    {'name': 'a', 'budget': {'rate': 2}, 'input': {'size': 64}}
    """
    found = dict(content)
    for key, value in values.items():
        first, _, rest = key.partition(".")
        if rest:
            inner = found.get(first, {})
            found[first] = with_keys(inner if isinstance(inner, Mapping) else {}, {rest: value})
        else:
            found[first] = value
    return found
