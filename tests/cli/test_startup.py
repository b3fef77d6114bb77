"""Help and mistakes are answered at once: nothing that is slow to import is imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anomaly import __version__
from tests.conftest import run

SLOW = ("torch", "torchvision", "sklearn", "scipy", "pandas", "onnxruntime", "pint", "matplotlib", "timm")
WATCHED = f"""
import sys
from anomaly.cli.main import main
try:
    main()
finally:
    print("imported:", [name for name in {SLOW} if name in sys.modules])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.toml").write_text('kind = "camera"')
    (tmp_path / "wrong.toml").write_text('kind = "camera"\n[input]\nsiz = 3')
    (tmp_path / "gone.toml").write_text('kind = "sensor"\n[calibration]\nrecords = "nowhere"')
    (tmp_path / "empty.csv").touch()
    (tmp_path / ".plant").mkdir()
    (tmp_path / ".plant/t.csv").write_text("time;flow\n0;1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], "Fit a detector on normal data"),
        (["fit", "--help"], "--extractor"),
        (["fit", "wrong.toml", "--data", ".", "--out", "b"], "error: wrong.toml: unknown key `input.siz`; did you mean `size`?"),
        (["fit", "absent.toml", "--data", ".", "--out", "b"], "error: absent.toml: no such file; specs/camera.toml"),
        (["fit", "gone.toml", "--data", ".", "--out", "b"], "error: gone.toml: key `calibration.records`: nowhere: no such file or folder"),
        (["fit", "good.toml", "--data", "nowhere", "--out", "b"], "error: nowhere: no such file or folder; --data names"),
        (["pretrain", "wrong.toml", "--data", ".", "--out", "b"], "unknown key `input.siz`"),
        (["transfer", "nowhere.anomaly", "good.toml", "--data", ".", "--out", "b"], "error: nowhere.anomaly: no such file or folder"),
        (["transfer", ".", "wrong.toml", "--data", ".", "--out", "b"], "unknown key `input.siz`"),
        (["sources", "wrong.toml", "--data", ".", "--source", "."], "unknown key `input.siz`"),
        (["sources", "good.toml", "--data", ".", "--source", "nowhere"], "error: nowhere: no such file or folder; --source names"),
        (["fit", "good.toml", "--data", "empty.csv", "--out", "b"], "error: empty.csv: the file is empty (0 bytes)"),
        (["fit", "good.toml", "--data", ".plant/t.csv", "--out", "b"], "t.csv: this looks like a table of readings: use specs/sensor.toml"),
        (["fit", ".plant", "--data", ".plant", "--out", "b"], ".plant: this looks like a table of readings: use specs/sensor.toml"),
        (["table", "empty.csv", "--out", "o.csv"], "error: empty.csv: the file is empty (0 bytes)"),
        (["curve", ".", "good.toml", "--data", "nowhere", "--out", "c.html"], "error: nowhere: no such file or folder; --data names"),
        (["evaluate", "nowhere.anomaly", "--data", "."], "error: nowhere.anomaly: no such bundle"),
        (["evaluate", "nowhere.anomaly", "--data", "nowhere"], "error: nowhere: no such file or folder"),
        (["score", "nowhere.anomaly", "."], "error: nowhere.anomaly: no such bundle"),
        (["bundle", "inspect", "nowhere.anomaly"], "error: nowhere.anomaly: no such bundle"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_mistakes_import_nothing_slow(folder: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    assert message in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"
    assert done.returncode == (0 if "--help" in arguments else 1)


def test_version() -> None:
    """The command prints the version of the package, which work folders and bundles are named by."""
    assert run("--version").strip() == f"anomaly-pipeline {__version__}"
