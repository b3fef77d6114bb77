"""The table of a fleet's lines: a TOML file, or a CSV that a spreadsheet keeps."""

from __future__ import annotations

import csv
import io
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from anomaly.errors import SpecError
from anomaly.names import one_line, slug
from anomaly.schema import Part
from anomaly.toml_file import read_toml, unknown_key

TEXTS = ("version",)  # keys of a spec that are text, whatever they look like: 1.10 is not 1.1
UNNAMED = "\0"  # what the name of a column without one begins with
COLUMNS = ("name", "spec", "data")  # of a CSV; any further one is a key of the spec that a line sets otherwise


class FleetLine(Part):
    """One line: its spec, its data, and keys of the spec that it sets otherwise (`budget.false_alarm_rate`)."""

    name: str = Field(min_length=1)
    spec: Path
    data: Path
    override: dict[str, Any] = Field(default_factory=dict)

    @field_validator("override", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return dict(_dotted(value)) if isinstance(value, dict) else value

    @field_validator("spec", "data", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("is empty; name a file or folder")
        return value

    @property
    def slug(self) -> str:
        """The name as folders take it."""
        return slug(self.name)


class Fleet(Part):
    """All lines, the folder of their release folders, and the work folder that they share."""

    line: tuple[FleetLine, ...] = Field(min_length=1)
    release: Path = Path("out/release")
    work: Path = Path(".anomaly")


def _dotted(table: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """The keys of a table, each with those above it.

    >>> _dotted({"budget": {"false_alarm_rate": 0.02}, "seed": 3})
    [('budget.false_alarm_rate', 0.02), ('seed', 3)]
    """
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _dotted(value, f"{above}{key}.") if isinstance(value, dict) else [(above + key, value)]
    return found


def read_fleet(path: Path) -> Fleet:
    """Read a table of lines: TOML with a [[line]] each, or CSV with the columns name, spec and data. Paths are those of the file's folder.

    Raises SpecError, with every mistake at once. Whether a line's spec and data are there is found when the line is worked on: one that
    is missing must not stop the others.
    """
    raw = {"line": _rows(path)} if path.suffix.lower() == ".csv" else read_toml(path, "deploy/fleet.toml")
    try:
        fleet = Fleet.model_validate(raw)
    except ValidationError as error:
        raise SpecError(*(_explain(path, item) for item in error.errors())) from None
    twice = [name for name, count in Counter(line.slug for line in fleet.line).items() if count > 1]
    if twice:
        names = {name: [line.name for line in fleet.line if line.slug == name] for name in twice}
        raise SpecError(*(f"{path}: lines {', '.join(some)} would share the folder {name!r}; rename one" for name, some in names.items()))
    return fleet.model_copy(
        update={
            "line": tuple(
                line.model_copy(update={"spec": path.parent / line.spec, "data": path.parent / line.data}) for line in fleet.line
            ),
            "release": path.parent / fleet.release,
            "work": path.parent / fleet.work,
        }
    )


def _explain(path: Path, item: Any) -> str:
    at = [part for part in item["loc"] if part != "line"]
    number = f", line {at[0] + 1} of the table" if at and isinstance(at[0], int) else ""
    key = ".".join(str(part) for part in at if not isinstance(part, int))
    if item["type"] == "extra_forbidden":
        return f"{path}{number}: {unknown_key(key, list(FleetLine.model_fields if number else Fleet.model_fields))}"
    if item["loc"] == ("line",):
        return f"{path}: no lines; give each a [[line]] with name, spec and data"
    return f"{path}{number}: key `{key}`: {item['msg'].lower().removeprefix('value error, ')}"


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a CSV. Empty cells set nothing."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; deploy/fleet.toml is there to start from") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not UTF-8; save it as UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as spreadsheets end lines
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    names = [name.strip() for name in reader.fieldnames or ()]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise SpecError(f"{path}: column {', '.join(twice)} is there twice; which one counts cannot be told")
    reader.fieldnames = [name or f"{UNNAMED}{at}" for at, name in enumerate(names)]
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise SpecError(f"{path}: no column {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    found = []
    for number, row in enumerate(reader, start=2):
        if None in row or None in row.values():
            raise SpecError(f"{path}, row {number}: {len(reader.fieldnames or ())} cells are expected, as the first row has")
        cells = {key.strip(): value.strip() for key, value in row.items()}
        nameless = [value for key, value in cells.items() if key.startswith(UNNAMED) and value]
        if nameless:
            raise SpecError(f"{path}, row {number}: {nameless[0]!r} stands in a column without a name in the first row")
        if any(cells.values()):
            override = {key: value if key in TEXTS else _value(value) for key, value in cells.items() if key not in COLUMNS and value}
            found.append({key: cells[key] for key in COLUMNS} | {"override": override})
    return found


def _value(text: str) -> Any:
    """A cell as TOML reads it, and text that TOML does not read as it is.

    >>> _value("0.02"), _value("[256, 512]"), _value("auto")
    (0.02, [256, 512], 'auto')
    """
    try:
        found = tomllib.loads(f"value = {one_line(text)}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text
