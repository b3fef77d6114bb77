"""Reading a TOML file: specs, boxes of lines, and lists of sinks alike."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from anomaly.errors import SpecError

BEYOND = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")  # pydantic's words for a number out of its range


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
        raise SpecError(f"{path}, line {line}: not valid TOML: {_decimal_comma(text, line) or error}") from error


def _decimal_comma(text: str, line: int) -> str:
    """What is wrong with a line in which a number has a decimal comma, "" where none has."""
    lines = text.splitlines()
    found = re.search(r"^\s*(?P<key>[^=#]+?)\s*=\s*(?P<number>[+-]?\d+,\d+)\s*(#.*)?$", lines[line - 1]) if line <= len(lines) else None
    return f"a number has a decimal point, so write {found['key']} = {found['number'].replace(',', '.')}" if found else ""


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


def explain(model: type[BaseModel], item: Any, gone: Mapping[str, str] = MappingProxyType({})) -> str:
    """One mistake that pydantic found in a file of a model: the key, what it must be with the whole range, and what was given.

    `gone` says of keys of an older version what became of them.

    >>> from pydantic import Field, ValidationError
    >>> class Part(BaseModel):
    ...     share: float = Field(0.1, gt=0, lt=0.5)
    >>> try:
    ...     Part.model_validate({"share": 2})
    ... except ValidationError as error:
    ...     explain(Part, error.errors()[0])
    'key `share`: must be above 0 and below 0.5 (given: 2)'
    """
    where = [str(part) for part in item["loc"]]
    key = ".".join(where) or "(whole file)"
    if item["type"] == "extra_forbidden":
        return f"unknown key `{key}`; {gone[key]}" if key in gone else unknown_key(key, list(_model_at(model, where[:-1]).model_fields))
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    field = _field_at(model, where)
    if field is not None and item["type"] in BEYOND:
        key = ".".join(part for part in where if not part.isdigit())  # both sides of a size are one mistake
        message = f"must be {_range(_bounds(field))}" + (" each" if key != ".".join(where) else "")
    given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
    return f"key `{key}`: {message}{given}"


def _model_at(model: Any, parents: Sequence[str]) -> Any:
    """The model of a table of the file."""
    for name in parents:
        if not name.isdigit():
            annotation = model.model_fields[name].annotation
            candidates = [annotation, *get_args(annotation)]
            model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return model


def _field_at(model: type[BaseModel], where: Sequence[str]) -> FieldInfo | None:
    """The field that a key names, None where the place is no plain key."""
    names = [part for part in where if not part.isdigit()]
    try:
        found = _model_at(model, names[:-1]).model_fields.get(names[-1])
    except (KeyError, IndexError, StopIteration):
        return None
    return found if isinstance(found, FieldInfo) else None


def _bounds(field: FieldInfo) -> dict[str, float]:
    """The bounds of a field's numbers, those of the items of a list too: gt, ge, lt, le."""
    found: dict[str, float] = {}
    left: list[Any] = [*field.metadata, field.annotation]
    while left:
        part = left.pop()
        found |= {name: getattr(part, name) for name in ("gt", "ge", "lt", "le") if getattr(part, name, None) is not None}
        left += [*getattr(part, "__metadata__", ()), *getattr(part, "metadata", ()), *get_args(part)]
    return found


def _range(bounds: Mapping[str, float]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f"from {bounds['ge']:,.10g} to {bounds['le']:,.10g}"
    words = (("gt", "above {}"), ("ge", "{} or more"), ("lt", "below {}"), ("le", "{} at most"))
    return " and ".join(text.format(f"{bounds[name]:,.10g}") for name, text in words if name in bounds)
