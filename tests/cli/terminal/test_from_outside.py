"""Names and addresses from outside, by the real command: no file name forges a line, no password is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anomaly.alarms.store import Store
from anomaly.cli.terminal.options import FOUND
from tests.conftest import Fitted
from tests.edge.conftest import save
from tests.edge.tiny import tiny_bundle

SECRET = "S3cretPass"


def anomaly(folder: Path, *arguments: object) -> tuple[int, str]:
    """(exit code, all that was said)."""
    command = [sys.executable, "-m", "anomaly.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_a_file_name_with_a_newline_forges_no_line(camera: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bad = "a\n2026-01-01T00:00:00Z  alarm over  everything is fine\x1b]0;owned\x07\u202e.png"
    (folder / bad).write_bytes(b"no picture")
    save(folder / "good\x1b[2J.png", np.zeros((64, 64, 3), np.uint8), age=100)
    code, said = anomaly(tmp_path, "monitor", camera.bundle, "--source", "in", "--once", "--provider", "cpu")
    assert code == FOUND, said
    assert "1 scored" in said
    assert r"a\x0a2026-01-01T00:00:00Z  alarm over  everything is fine\x1b]0;owned\x07\u202e.png" in said
    assert not [line for line in said.splitlines() if line.startswith("2026-01-01")]
    assert "\x1b" not in said
    assert all(event["data"]["reason"].isprintable() for event in Store(tmp_path / "anomaly.db").events() if "reason" in event["data"])


@pytest.mark.parametrize("scheme", ["rtsp", "mqtt", "kafka", "opc.tcp", "banana"])
def test_a_password_in_an_address_is_not_shown(tmp_path: Path, scheme: str) -> None:
    tiny_bundle(tmp_path / "tiny.anomaly")
    source = f"{scheme}://admin:{SECRET}@127.0.0.1:9/topic"
    code, said = anomaly(tmp_path, "monitor", "tiny.anomaly", "--source", source, "--once", "--provider", "cpu")
    assert code == 1, said  # nobody answers there, or the bundle takes no pictures: with --once that is said
    assert "error" in said.lower()
    assert SECRET not in said
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.rglob("anomaly.db*") if path.is_file())


def test_a_source_that_is_not_there_is_an_error_with_once(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.anomaly")
    (tmp_path / "pictures").mkdir()
    save(tmp_path / "pictures" / "1.png", np.zeros((8, 8, 3), np.uint8))
    for source, words in (
        ("none.csv", "none.csv: cannot be read (No such file or directory)"),
        ("banana://x", "no scheme 'banana' is known"),
        ("pictures", "a folder of pictures, and this bundle takes sensor rows"),
    ):
        code, said = anomaly(tmp_path, "monitor", "tiny.anomaly", "--source", source, "--once", "--provider", "cpu")
        assert (code, words in said) == (1, True), said
