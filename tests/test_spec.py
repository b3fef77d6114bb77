"""A bad spec stops before any work, naming file, key and fix."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from anomaly.errors import DataError, SpecError
from anomaly.pipeline.kinds import open_line
from anomaly.schema import Channel, Part
from anomaly.spec import (
    SPECS,
    Alarm,
    Approval,
    Bank,
    Budget,
    Calibration,
    CameraExtractor,
    CameraInput,
    CameraSpec,
    MemoryBankSpec,
    Modes,
    PoolSpec,
    Pretrain,
    Rectangle,
    SensorExtractor,
    SensorInput,
    SensorScorerSpec,
    SensorSpec,
    Transfer,
    read_spec,
)


def spec(tmp_path: Path, text: str):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return read_spec(path)


@pytest.mark.parametrize("path", sorted(Path("specs").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path: Path) -> None:
    assert read_spec(path).kind == ("camera" if path.stem.startswith("camera") else "sensor")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "camera"\n[scorer]\ncoresetshare = 0.5', r"s\.toml: unknown key `scorer\.coresetshare`; did you mean `coreset_share`\?"),
        ('kind = "camera"\n[zzz]\na = 1', r"unknown key `zzz`; known here: kind, name"),
        ('kind = "sensor"\n[input]\nsensors = [{name = "p", low = 3, high = 1}]', r"low 3\.0 is not below high 1\.0"),
        ('kind = "sensor"\n[input]\nwindow = 1', r"key `input\.window`: should be a multiple of 3 from 6 to 4096 \(given: 1\)"),
        (
            'kind = "sensor"\n[input]\ncontext = 200',
            r"s\.toml: unknown key `input\.context`; scores are no longer eased after a fault; leave it out",
        ),
        ('kind = "sensor"\n[scorer]\nmethod = "pca"', r"unknown key `scorer\.method`; there is one scorer of readings, so leave it out"),
        ('kind = "robot"', r'key `kind` is \'robot\'; set kind = "camera" or kind = "sensor"'),
        (
            'kind = "camera"\n[extractor]\nstages = ["blocks.5"]\n[[scorer.banks]]\nstage = "blocks.4"\nmetric = "raw"',
            r"scorer\.banks names stage 'blocks\.4'",
        ),
        (
            'kind = "camera"\n[scorer]\nbanks = [{ stage = "blocks.4", metric = "raw" }]\npools = [{ view = "fine" }]',
            r"pools names view 'fine', which none of the banks belongs to; name one of \['main'\]",
        ),
        ('kind = "camera"\n[input]\nsmallest_mark = "3 mm"', r"in millimetres: say how many pixels one takes, px_per_mm = 12"),
        ('kind = "camera"\n[input]\nsmallest_mark = inf', r"smallest_mark"),
        ('kind = "camera"\n[input]\nsmallest_mark = true', r"smallest_mark"),
        ('kind = "camera"\n[scorer]\npools = [{ share = 0.1 }]', r"pools are given and banks are not"),
        ('kind = "camera"\n[input]\nsmallest_mark = "3 inches"', r"smallest_mark '3 inches': write a number of pixels"),
        ('kind = "camera"\n[input]\nsize = [128, 32]', r"key `input\.size`: must be from 64 to 2,048 each \(given: 32\)"),
        ("kind = ", r"s\.toml, line 1: not valid TOML"),
        ('kind = "camera"\nseed = 1\nname = "x', r"s\.toml, line 3: not valid TOML"),
        ('kind = "camera"\n[budget]\nfalse_alarm_rate = = 2', r"s\.toml, line 3: not valid TOML"),
        (
            'kind = "camera"\n[budget]\nfalse_alarm_rate = 0,02  # a share\n',
            r"s\.toml, line 3: not valid TOML: a number has a decimal point, so write false_alarm_rate = 0\.02",
        ),
        ('kind = "camera"\n[budget]\nfalse_alarm_rate = 2', r"budget\.false_alarm_rate"),
    ],
)
def test_errors_name_key_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(tmp_path, text)


def test_any_text_is_a_unit(tmp_path: Path) -> None:
    units = ("m3/h", "degC", "barg", "psig", "gpm", "scfm", "NTU", "dBA", "kvar", "Stück/h")
    sensors = ", ".join(f'{{name = "s{i}", unit = "{u}"}}' for i, u in enumerate(units))
    read = spec(tmp_path, f'kind = "sensor"\n[input]\nsensors = [{sensors}]')
    assert isinstance(read, SensorSpec)
    assert tuple(sensor.unit for sensor in read.input.sensors) == units


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes('kind = "sensor"\nname = "Kühlung"\n'.encode("latin-1"))
    with pytest.raises(SpecError, match=r"s\.toml, line 2: not valid TOML: not UTF-8"):
        read_spec(path)


def test_a_further_kind_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SpectrumSpec(Part):
        kind: Literal["spectrum"]
        bins: int = 64

    text = 'kind = "spectrum"\nbins = 8'
    with pytest.raises(SpecError, match=r'set kind = "camera" or kind = "sensor"$'):
        spec(tmp_path, text)
    monkeypatch.setitem(SPECS, "spectrum", SpectrumSpec)
    assert spec(tmp_path, text) == SpectrumSpec(kind="spectrum", bins=8)
    with pytest.raises(SpecError, match="unknown key `bin`; did you mean `bins`"):
        spec(tmp_path, 'kind = "spectrum"\nbin = 8')


def test_missing_spec_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: no such file; specs/camera\.toml"):
        read_spec(tmp_path / "none.toml")
    for kind in ("camera", "sensor"):
        with pytest.raises(DataError, match="no such"):
            open_line(spec(tmp_path, f'kind = "{kind}"'), tmp_path / "nowhere")


PAGE = next(Path("docs").rglob("spec.md"))
TABLES = {  # heading of the spec page -> whose keys its table lists
    "A camera": CameraSpec,
    "`[input]`, camera": CameraInput,
    "`[extractor]`, camera": CameraExtractor,
    "`[scorer]`, camera": MemoryBankSpec,
    "Sensors": SensorSpec,
    "`[input]`, sensors": SensorInput,
    "`sensors`, each": Channel,
    "`modes`": Modes,
    "`[extractor]`, sensors": SensorExtractor,
    "`[scorer]`, sensors": SensorScorerSpec,
    "`[pretrain]`": Pretrain,
    "`[transfer]`": Transfer,
    "`[calibration]`": Calibration,
    "`[budget]`": Budget,
    "`[alarm]`": Alarm,
    "`[release]`": Approval,
}


def as_documented(field: FieldInfo) -> str:
    """A default as the page writes it."""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if value is None:
        return "`auto`" if field is CameraInput.model_fields["size"] else "–"
    return f"`{value}`"


def as_range(schema: dict[str, Any]) -> str:
    """What a key takes, as the page writes it, from its JSON schema."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    if len(kinds) != 1 or kinds[0] is not schema:
        return " or ".join(dict.fromkeys(as_range(kind) for kind in kinds))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"{len(schema['prefixItems'])} of: {as_range(schema['prefixItems'][0])}"
        return f"list of {as_range(schema['items'])}"
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        bounds = f"{low:,.10g} to {high:,.10g}"
    else:
        words = (("from", low), ("above", above), ("up to", high), ("below", below))
        bounds = ", ".join(f"{word} {value:,.10g}" for word, value in words if value is not None)
    names = {"integer": "whole number", "number": "", "boolean": "`true`, `false`", "string": "text"}
    name = "path" if schema.get("format") == "path" else names.get(schema.get("type", ""), "table")
    return ", ".join(part for part in (name, bounds) if part) or "number"


def rows_of(heading: str) -> dict[str, list[str]]:
    """The rows of a heading's table of keys: the key, then default, range, example and meaning."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    assert section is not None
    table = re.search(r"^\| key \| default \|.*?(?=\n\n|\Z)", section[1], re.M | re.S)
    assert table is not None
    cells = [re.split(r"(?<!\\) ?\| ?", line.strip("| "))[:4] for line in table[0].splitlines()[2:]]
    return {key.strip("`"): rest for key, *rest in cells}


@pytest.mark.parametrize(("heading", "model"), TABLES.items(), ids=TABLES)
def test_the_page_gives_each_key_its_range_and_an_example_that_fits(heading: str, model: type[BaseModel]) -> None:
    rows, schema = rows_of(heading), model.model_json_schema()["properties"]
    assert {key: row[1] for key, row in rows.items()} == {key: as_range(schema[key]) for key in rows}
    examples = "\n".join(f"{key} = {row[2].strip('`')}" for key, row in rows.items() if row[2])
    assert model.model_validate(tomllib.loads(examples))  # all of them together


@pytest.mark.parametrize(("heading", "model"), TABLES.items(), ids=TABLES)
def test_the_page_lists_the_keys_of_each_table_with_their_defaults(heading: str, model: type[BaseModel]) -> None:
    listed = {key: row[0] for key, row in rows_of(heading).items()}
    fields = {key: f for key, f in model.model_fields.items() if not isinstance(f.default, BaseModel)}  # those have headings of their own
    assert listed == {key: as_documented(field) for key, field in fields.items()}


def test_the_page_has_no_other_tables_of_keys() -> None:
    assert PAGE.read_text().count("| key | default |") == len(TABLES)


@pytest.mark.parametrize(("key", "model"), [("roi", Rectangle), ("banks", Bank), ("pools", PoolSpec)])
def test_the_row_of_a_list_names_the_keys_of_its_items(key: str, model: type[BaseModel]) -> None:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{key}` |"))
    assert [name for name in model.model_fields if f"`{name}`" not in row] == []
