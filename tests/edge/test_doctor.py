"""What the doctor says of this machine, and of a bundle on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly.cache import CACHE
from anomaly.cli.main import app
from anomaly.edge.doctor import examine
from anomaly.edge.runtime.variant_cache import write_variants
from tests.edge.tiny import tiny_bundle


def absent(name: str) -> object:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


def test_a_machine_without_a_gpu_is_fit_for_the_cpu(tmp_path: Path) -> None:
    found = {finding.what: finding for finding in examine(tmp_path / "deep" / "s.db", load=absent)}
    assert found["ONNX Runtime"].state == "ok"
    assert found["NVIDIA GPU"].state == "note"
    assert "GPU" in found["NVIDIA GPU"].text
    assert str(tmp_path) in found["disk"].text  # the folder that is there, not the one still to be made
    assert found["JPEG decoder"].text


def test_a_bundle_is_run_on_every_provider(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.anomaly")
    cpu = next(finding for finding in examine(tmp_path / "s.db", bundle, absent) if finding.what == "bundle on cpu")
    assert (cpu.state, cpu.text) == (
        "ok",
        "float runs and gives the right answers on 1 examples; not measured yet: anomaly bench BUNDLE --choose",
    )
    write_variants(bundle.hash, {"cpu": "float"})
    cpu = next(finding for finding in examine(tmp_path / "s.db", bundle, absent) if finding.what == "bundle on cpu")
    assert "not measured yet" not in cpu.text


def test_a_bundle_that_computes_something_else_here_is_missing_and_the_command_fails(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "wrong.anomaly", shift=1.0)
    result = CliRunner().invoke(app, ["doctor", str(tmp_path / "wrong.anomaly"), "--store", str(tmp_path / "s.db")])
    assert result.exit_code == 1
    assert "MISSING  bundle on cpu: " in result.output
    assert "self-test examples/0.npz gives" in result.output


def test_what_can_be_no_store_is_said_and_the_command_fails(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all")
    for store, words in (
        (tmp_path, f"{tmp_path} is a folder; name a file in it"),
        (tmp_path / "notes.txt", "notes.txt is no event store (not SQLite)"),
        (tmp_path / "notes.txt" / "s.db", "notes.txt is a file, so it cannot be a folder for s.db"),
        (Path("/dev/null"), "/dev/null is not a plain file"),
        (Path("/proc/s.db"), "nothing can be written in /proc"),
    ):
        result = CliRunner().invoke(app, ["doctor", "--store", str(store)], env={"COLUMNS": "1000"})
        assert result.exit_code == 1, store
        assert words in result.output
