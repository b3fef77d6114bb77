"""A bad spec stops before any work, naming file, key and fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomaly.errors import DataError, SpecError
from anomaly.pipeline.steps import open_line
from anomaly.spec import read_spec


def spec(tmp_path: Path, text: str):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return read_spec(path)


@pytest.mark.parametrize("name", ["camera", "sensor", "plant"])
def test_shipped_specs_are_valid(name: str) -> None:
    assert read_spec(Path("specs") / f"{name}.toml").kind in ("camera", "sensor")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "camera"\n[scorer]\ncoresetshare = 0.5', r"s\.toml: unknown key `scorer\.coresetshare`; did you mean `coreset_share`\?"),
        ('kind = "camera"\n[zzz]\na = 1', r"unknown key `zzz`; known here: kind, name"),
        (
            'kind = "sensor"\n[input]\nsensors = [{name = "p", unit = "barr"}]',
            r"input\.sensors\.0\.unit.*'barr' is not known; did you mean 'bar'",
        ),
        ('kind = "sensor"\n[input]\nsensors = [{name = "p", low = 3, high = 1}]', r"low 3\.0 is not below high 1\.0"),
        ('kind = "sensor"\n[input]\nwindow = 1', r"key `input\.window`: Input should be a multiple of 3 \(given: 1\)"),
        ('kind = "robot"', r'key `kind` is \'robot\'; set kind = "camera" or kind = "sensor"'),
        ('kind = "camera"\n[extractor]\nstages = ["blocks.5"]', r"scorer\.banks names stage 'blocks\.4'"),
        ('kind = "camera"\n[input]\nsize = [128, 32]', r"key `input\.size\.1`: Input should be greater than or equal to 64 \(given: 32\)"),
        ("kind = ", r"not valid TOML"),
        ('kind = "camera"\n[budget]\nfalse_alarm_rate = 2', r"budget\.false_alarm_rate"),
    ],
)
def test_errors_name_key_and_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(tmp_path, text)


def test_units_as_plants_write_them(tmp_path: Path) -> None:
    units = ["m3/h", "degC", "bar", "mm/s", "rpm", "%", "kW", "A", "l/min", "m/s2"]
    sensors = ", ".join(f'{{name = "s{i}", unit = "{u}"}}' for i, u in enumerate(units))
    assert len(spec(tmp_path, f'kind = "sensor"\n[input]\nsensors = [{sensors}]').input.sensors) == len(units)


def test_missing_spec_and_missing_data(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such spec"):
        read_spec(tmp_path / "none.toml")
    for kind in ("camera", "sensor"):
        with pytest.raises(DataError, match="no such"):
            open_line(spec(tmp_path, f'kind = "{kind}"'), tmp_path / "nowhere")


def test_every_key_is_documented() -> None:
    from anomaly import spec as module
    from anomaly.spec import BaseModel

    text = Path("docs/reference/spec.md").read_text()
    models = [m for m in vars(module).values() if isinstance(m, type) and issubclass(m, BaseModel) and not m.__name__.startswith("_")]
    parts = {"input", "extractor", "scorer", "pretrain", "transfer", "calibration", "budget", "alarm"}  # these are headings
    keys = {name for model in models for name in model.model_fields} - parts
    assert {key for key in keys if f"`{key}`" not in text} == set()
