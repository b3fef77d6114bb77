"""ONNX Runtime's packages report to their maker by network, unless they are told not to before they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Fitted

# What uploads keeps an id of the machine and what is to be sent on the disk, and has a thread of its own.
SCORES = """
import sys, pathlib
from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import open_session
open_session(read_bundle(pathlib.Path(sys.argv[1])), "cpu")
print([path.name for path in pathlib.Path.home().rglob("*")])
"""


def left_at_home(bundle: Path, home: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY", "PYTEST_CURRENT_TEST")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    command = [sys.executable, "-c", SCORES, str(bundle)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_nothing_is_kept_to_be_sent(sensor: Fitted, tmp_path: Path) -> None:
    assert left_at_home(sensor.bundle, tmp_path) == "[]"


def test_who_wants_to_report_can() -> None:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    command = [sys.executable, "-c", "import os, anomaly; print(os.environ['ORT_DISABLE_TELEMETRY'])"]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout.strip() == "0"
