"""deploy/upgrade.sh with real boxes and a stand-in for systemctl: a good version stays, a bad one is taken back with its store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Fitted
from tests.integration.servers import free_port, listening

ROOT = Path(__file__).parents[2]
SYSTEMCTL = """#!/bin/sh
case "$1" in
  start) cd "{folder}"; "{folder}/opt/bin/anomaly" box "{folder}/box.toml" >> "{folder}/log" 2>&1 & echo $! > "{folder}/pid" ;;
  stop) if [ -e "{folder}/pid" ]; then kill "$(cat "{folder}/pid")" 2>/dev/null; while kill -0 "$(cat "{folder}/pid")" 2>/dev/null; do sleep 0.1; done; rm "{folder}/pid"; fi ;;
esac
"""  # noqa: E501


def version(folder: Path, runs: str) -> Path:
    """An environment whose `anomaly` does what `runs` says."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    script = folder / "bin" / "anomaly"
    script.write_text(f'#!/bin/sh\n[ "$1" != --version ] || exec echo anomaly-pipeline\n{runs}\n')
    script.chmod(0o755)
    return folder


@pytest.fixture
def machine(sensor: Fitted, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A box that runs from `opt`, a link to the first version; what upgrade.sh is told of it."""
    port = free_port()
    (tmp_path / "store").mkdir()
    (tmp_path / "in.csv").write_text((sensor.data / "test.csv").read_text())
    line = f'[[line]]\nname = "pump"\nbundle = "{sensor.bundle}"\nsource = "csv:{tmp_path}/in.csv"\n'
    (tmp_path / "box.toml").write_text(f'store = "{tmp_path}/store/anomaly.db"\n{line}')
    good = f'exec {sys.executable} -m anomaly.cli "$@"'
    (tmp_path / "opt").symlink_to(version(tmp_path / "v1", good))
    version(tmp_path / "v2", good)
    spoil = f"import sqlite3; d = sqlite3.connect('{tmp_path}/store/anomaly.db'); d.execute('DROP TABLE alarms'); d.commit()"
    bad = f'{sys.executable} -c "{spoil}"'
    version(tmp_path / "bad", f"{bad}\nexit 1")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "systemctl").write_text(SYSTEMCTL.format(folder=tmp_path))
    (tmp_path / "path" / "systemctl").chmod(0o755)
    told = {"LINK": f"{tmp_path}/opt", "STORE": f"{tmp_path}/store", "BACKUPS": f"{tmp_path}/backups", "WAIT_S": "60"}
    told |= {"HEALTH": f"http://127.0.0.1:{port}/healthz", "ANOMALY_LISTEN": f"127.0.0.1:{port}", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **told, "PATH": f"{tmp_path / 'path'}:{os.environ['PATH']}"}
    subprocess.run(["systemctl", "start"], env=environment, check=True)
    deadline = time.monotonic() + 60
    while not listening(port):
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.1)
    yield environment
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


@pytest.mark.timeout(600)
def test_a_version_that_runs_stays_and_one_that_does_not_is_taken_back_with_its_store(machine: dict[str, str], tmp_path: Path) -> None:
    def upgrade(to: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(ROOT / "deploy" / "upgrade.sh"), str(tmp_path / to)]
        return subprocess.run(command, env=machine, capture_output=True, text=True, timeout=300)

    done = upgrade("v2")
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    assert (tmp_path / "opt").resolve() == tmp_path / "v2"
    machine["WAIT_S"] = "3"
    failed = upgrade("bad")
    assert failed.returncode == 1
    assert "did not get healthy" in failed.stderr
    assert (tmp_path / "opt").resolve() == tmp_path / "v2"
    assert sqlite3.connect(tmp_path / "store" / "anomaly.db").execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'alarms'"
    ).fetchone() == (1,)
    assert os.kill(int((tmp_path / "pid").read_text()), 0) is None  # and it runs again
    assert upgrade("nowhere").returncode == 2
    assert (tmp_path / "opt").resolve() == tmp_path / "v2"
