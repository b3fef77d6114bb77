"""What bench measures, and that a choice is what the next session takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cache import CACHE
from anomaly.cli.main import app
from anomaly.edge.runtime.session import open_session
from anomaly.edge.runtime.variant_cache import read_variants, write_variants
from anomaly.errors import BundleError
from tests.edge.tiny import tiny_bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_bench_keeps_the_quickest_variant_and_the_next_session_takes_it(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.anomaly", variants=("float", "int8"))
    assert open_session(bundle, "cpu").variant == "int8"  # preferred until something has been measured
    figures = tmp_path / "figures.json"
    arguments = ["bench", str(bundle.path), "--batch", "1,2", "--streams", "2", "--seconds", "0.05", "--provider", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--choose", "--json", str(figures)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    measured = json.loads(figures.read_text())
    assert set(measured["variants"]) == {"float", "int8"}
    assert all(row["p50_ms"] > 0 and row["per_s"] > 0 for rows in measured["variants"].values() for row in rows.values())
    assert measured["streams"]["2"]["per_s"] > 0
    assert read_variants(bundle.hash) == {"cpu": measured["quickest"]}
    assert open_session(bundle, "cpu").variant == measured["quickest"]


def test_what_was_chosen_is_read_back_a_provider_at_a_time(tmp_path: Path, cache: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.anomaly", variants=("float", "int8"))
    write_variants(bundle.hash, {"cpu": "float"})
    path = write_variants(bundle.hash, {"cuda": "fp16"})
    assert read_variants(bundle.hash) == {"cpu": "float", "cuda": "fp16"}
    assert open_session(bundle, "cpu").variant == "float"
    assert open_session(bundle, "cpu", variant="int8").variant == "int8"  # asked for by name
    with pytest.raises(BundleError, match="has no variant 'fp16'; it has float, int8"):
        open_session(bundle, "cpu", variant="fp16")
    write_variants(bundle.hash, {"cpu": "fp16"})
    assert open_session(bundle, "cpu").variant == "int8"  # the bundle has no such variant any more
    path.write_text("{damaged")
    assert open_session(bundle, "cpu").variant == "int8"
