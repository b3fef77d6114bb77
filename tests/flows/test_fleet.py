"""A fleet of lines on a real Dask cluster of this machine: what fails is a row, and nothing is trained twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.data.samples.synthetic import plant

SPEC = 'kind = "sensor"\nname = "any"\n[pretrain]\nmethod = "none"\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "spec.toml").write_text(SPEC)
    for at in range(2):
        (tmp_path / f"line{at}").mkdir()
        rows = plant(700, np.random.default_rng(at)).drop(columns=["anomaly", "fault_kind"])
        rows.to_csv(tmp_path / f"line{at}" / "train.csv", index=False)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "train.csv").write_text("this is\nno table\n")
    (tmp_path / "lines.csv").write_text(
        "name,spec,data,budget.false_alarm_rate\n"
        "Press Süd,spec.toml,line0,0.02\nnowhere,spec.toml,gone,\nwords,spec.toml,words,\nno spec,other.toml,line0,\n"
        "Press 2,spec.toml,line1,\n"
    )
    return tmp_path


def run(site: Path, *arguments: str) -> tuple[int, pd.DataFrame, str]:
    command = [sys.executable, "-m", "flows.fleet", str(site / "lines.csv"), "--out", str(site / "out"), *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(site / "prefect"), "PREFECT_LOGGING_LEVEL": "INFO"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=environment)
    path = site / "out" / "summary.csv"
    assert path.exists(), done.stderr
    return done.returncode, pd.read_csv(path).set_index("line"), done.stdout + done.stderr


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("prefect")
def test_lines_that_fail_are_told_and_the_others_are_published_once(site: Path) -> None:
    code, found, shown = run(site, "--workers", "2")
    assert code == 1
    assert shown.count("Starting temporary server") == 1  # for the command and its workers
    assert "Error" not in shown
    assert found["state"].to_dict() == {
        "nowhere": "failed",
        "words": "failed",
        "no spec": "failed",
        "Press Süd": "published",
        "Press 2": "published",
    }
    assert "gone: no such file or folder" in found["reason"]["nowhere"]
    assert "other.toml: no such file" in found["reason"]["no spec"]
    assert "train.csv" in found["reason"]["words"]
    assert "Press 2" in shown
    bundles = {}
    for name, folder in (("Press Süd", "press-sued"), ("Press 2", "press-2")):
        pointer = json.loads((site / "out" / "release" / folder / "champion.json").read_text())
        bundle = read_bundle(site / "out" / "release" / folder / pointer["bundle"])
        bundles[name] = bundle.hash
        assert bundle.manifest.name == name
        assert bundle.manifest.threshold.budget["false_alarm_rate"] == (0.02 if name == "Press Süd" else 0.01)

    from flows.fleet import fleet_flow, runner

    fleet_flow.with_options(task_runner=runner(0, None))(site / "lines.csv", site / "out")  # in this process, without Dask
    again = pd.read_csv(site / "out" / "summary.csv").set_index("line")
    assert set(again["state"]) == {"failed", "unchanged"}
    assert again["bundle"].dropna().to_dict() == found["bundle"].dropna().to_dict()


def test_workers_are_not_profiled_which_can_make_them_stand_still() -> None:
    from flows.shared import runner

    runner(1, None)
    assert dask.config.get("distributed.worker.profile.enabled") is False
