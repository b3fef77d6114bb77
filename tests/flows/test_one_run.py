"""Runs of one line take turns, in processes of their own: a command, a flow, and one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from anomaly.bundle.release_folder import ReleaseFolder
from anomaly.data.samples.synthetic import plant
from tests.edge.conftest import until

SPEC = 'kind = "sensor"\nname = "Pump 1"\n[pretrain]\nmethod = "none"\n'
HOLDS = """
import sys
from pathlib import Path
from anomaly.parallel import one_run
with one_run(Path(sys.argv[1]), "Pump 1", print):
    print("held", flush=True)
    sys.stdin.read()
"""
FLOW = """
import sys
from pathlib import Path
import flows
from flows.loop import retrain_flow
from flows.pipeline import pipeline
site = Path(sys.argv[1])
if __name__ == "__main__":
    pipeline(site / "spec.toml", site / "data", site / "release" / "pump", site / "out", site / "work")
    print("FIRST DONE", flush=True)
    retrain_flow(site / "spec.toml", site / "newer", site / "release" / "pump", work=site / "work")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "spec.toml").write_text(SPEC)
    for seed, name in enumerate(("data", "newer", "newest")):
        (tmp_path / name).mkdir()
        readings = plant(700, np.random.default_rng(seed)).drop(columns=["anomaly", "fault_kind"])
        readings.to_csv(tmp_path / name / "train.csv", index=False)
    return tmp_path


@contextmanager
def begun(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with what it says in a file, gone at the end."""
    own = os.environ | {"PREFECT_HOME": str(log.parent / "prefect"), "COLUMNS": "400"}
    own["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "240"  # on a machine with much else to do
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, env=own)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def says(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has said this."""

    def found() -> bool:
        text = " ".join(log.read_text(errors="replace").split())
        assert words in text or process.poll() is None, text[-2000:]
        return words in text

    until(found, 300)


def results(site: Path) -> set[str]:
    return {path.name for path in (site / "work").glob("[a-z]*")}


@pytest.mark.timeout(600)
def test_a_fit_waits_for_another_process_and_goes_on_when_that_is_killed(site: Path) -> None:
    fit = ["-m", "anomaly.cli", "fit", str(site / "spec.toml"), "--data", str(site / "data"), "--work", str(site / "work"), "--no-report"]
    with begun(["-c", HOLDS, str(site / "work")], site / "other.log") as other:
        says(site / "other.log", "held", other)
        with begun([*fit, "--quick", "--out", str(site / "a.anomaly")], site / "fit.log") as fitting:
            says(site / "fit.log", f"waits: process {other.pid} on", fitting)
            says(site / "fit.log", "works on line 'Pump 1' in", fitting)
            assert results(site) == set()
            other.kill()
            assert fitting.wait(300) == 0, (site / "fit.log").read_text()
    assert (site / "a.anomaly").is_file()


@pytest.mark.timeout(900)
def test_a_flow_is_waited_for_from_its_first_step_to_its_last(site: Path) -> None:
    """A nightly pipeline, then a retrain: another process gets in between the two, and the second changes no champion."""
    with begun(["-c", HOLDS, str(site / "work")], site / "other.log") as other:
        says(site / "other.log", "held", other)
        with begun(["-c", FLOW, str(site)], site / "flow.log") as flow:
            says(site / "flow.log", "waits: process", flow)
            assert results(site) == set()
            other.communicate()
            until(lambda: bool(results(site)), 240)  # the first step is done, the others are not
            with begun(["-c", HOLDS, str(site / "work")], site / "third.log") as third:
                says(site / "third.log", f"waits: process {flow.pid} on", third)
                says(site / "third.log", "held", third)
                assert (site / "release" / "pump" / "champion.json").is_file(), "it was let in between two steps"
                third.communicate()
            says(site / "flow.log", "FIRST DONE", flow)
            assert flow.wait(300) == 0, (site / "flow.log").read_text()
    folder = ReleaseFolder(site / "release" / "pump")
    assert [entry.action for entry in folder.history()] == ["published", "challenger"]


@pytest.mark.timeout(600)
def test_a_nightly_run_leaves_the_champion_unless_it_is_told_otherwise(site: Path) -> None:
    import flows  # noqa: F401, I001 - first, for it sets Prefect up offline
    from prefect.testing.utilities import prefect_test_harness

    from flows.pipeline import pipeline

    release = site / "release" / "pump"
    folder = ReleaseFolder(release)
    with prefect_test_harness(server_startup_timeout=120):
        first = pipeline(site / "spec.toml", site / "data", release, site / "out", site / "work")
        assert folder.pointed("champion") == first
        second = pipeline(site / "spec.toml", site / "newer", release, site / "out", site / "work")
        assert (folder.pointed("champion"), folder.pointed("challenger")) == (first, second)
        third = pipeline(site / "spec.toml", site / "newest", release, site / "out", site / "work", role="champion")
        assert folder.pointed("champion") == third
