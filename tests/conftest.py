"""Small real detectors, fitted once a session: a camera on synthetic parts, a plant on synthetic readings.

The tests may run in several processes at once (`pytest -n 2`). Each takes a core to itself, and what all need is made by one of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from typer.testing import CliRunner

from anomaly.cli.main import app
from anomaly.cli.terminal.options import FOUND
from anomaly.data.samples.synthetic import part_picture, plant, write_samples
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec

settings.register_profile("untimed", deadline=None)  # a loaded machine is no failure
settings.load_profile("untimed")

CAMERA_SPEC = """kind = "camera"
name = "cam"
[input]
size = 128
[pretrain]
method = "none"
[scorer]
banks = [
  {stage = "blocks.4", metric = "raw", size = 200}, {stage = "blocks.5", metric = "unit", size = 200},
  {stage = "blocks.4", metric = "unit", model = "gaussian"},
]
[budget]
false_alarm_rate = 0.05
"""
SENSOR_SPEC = """kind = "sensor"
name = "pump"
[input]
labels = ["anomaly"]
[pretrain]
epochs = 2
[budget]
false_alarm_rate = 0.02
"""


def run(*arguments: object) -> str:
    """What a command of `anomaly` prints; it must succeed, where it judges with or without findings, and its own errors come through."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0 or (result.exit_code == FOUND and arguments[0] in ("score", "monitor", "flagged")), result.output
    return result.output


def pytest_configure(config: pytest.Config) -> None:
    """One core for each process of pytest-xdist: threads that wait for each other in turns would cost more than they bring.

    A process more than there are cores takes whichever is idle, with one thread.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        every, number = sorted(os.sched_getaffinity(0)), int(worker.removeprefix("gw"))
        if number < len(every):
            os.sched_setaffinity(0, {every[number]})
        else:
            torch.set_num_threads(1)
            os.environ["OMP_NUM_THREADS"] = "1"  # for what is started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process is left with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/integration"))  # stable: else as collected


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: object) -> Generator[None, Any, Any]:
    """What a test said may hold file names that are not UTF-8; between processes only UTF-8 is sent, so these are escaped."""
    return _sendable((yield))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(held) for key, held in value.items()}
    return type(value)(map(_sendable, value)) if type(value) in (list, tuple) else value


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder filled by `make` once, however many processes run the tests; each of them gets a copy of its own."""
    own = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    common = factory.getbasetemp().parent / f"once-{name}"
    with FileLock(f"{common}.lock"):
        if not common.exists():
            making = common.with_name(f"{common.name}-begun")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            make(making)
            making.rename(common)
    return shutil.copytree(common, own, dirs_exist_ok=True)


@dataclass(frozen=True)
class Fitted:
    """A detector with where it came from."""

    spec: Path
    data: Path
    bundle: Path
    steps: Steps


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(root: Path) -> None:
        write_samples(root, seed=7, train=24, good=6, each=2)
        rng = np.random.default_rng(3)
        plant(2000, rng).drop(columns=["anomaly", "fault_kind"]).to_csv(root / "plant" / "train.csv", index=False)

    return made_once(tmp_path_factory, "samples", make)


def _fit(factory: pytest.TempPathFactory, name: str, text: str, data: Path) -> Fitted:
    def steps_in(root: Path) -> Steps:
        (root / "spec.toml").write_text(text)
        return Steps(open_line(read_spec(root / "spec.toml"), data), root / "work")

    root = made_once(factory, name, lambda root: steps_in(root).export())
    steps = steps_in(root)
    return Fitted(root / "spec.toml", data, steps.export(), steps)  # every step is found in the work folder


@pytest.fixture(scope="session")
def camera(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return _fit(tmp_path_factory, "camera", CAMERA_SPEC, samples / "camera")


@pytest.fixture(scope="session")
def sensor(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return _fit(tmp_path_factory, "sensor", SENSOR_SPEC, samples / "plant")


@pytest.fixture
def short_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test of something else: graph and PyTorch are compared on 20 inputs of each sort, and no graphs in other arithmetic are made.

    Detectors of the whole session are exported in full all the same, for they are made before.
    """
    monkeypatch.setattr("anomaly.pipeline.steps.PARITY_INPUTS", 20)
    monkeypatch.setattr("anomaly.pipeline.camera.line.make_variants", lambda *_: ({}, {}))


@pytest.fixture
def picture() -> np.ndarray:
    return part_picture(np.random.default_rng(0))[0]


@pytest.fixture(scope="session")
def like_skab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs and a long normal record in SKAB's layout: three sensors, one that wanders, a step in one as the fault."""

    root = tmp_path_factory.mktemp("skab")
    rng = np.random.default_rng(0)

    def record(rows: int, fault: tuple[int, int] | None) -> pd.DataFrame:
        values = rng.normal(size=(rows, 3)) + np.array([10.0, 0.0, 50.0])
        values[:, 2] += np.cumsum(rng.normal(0, 0.05, rows))
        frame = pd.DataFrame({"datetime": pd.date_range("2026-01-01", periods=rows, freq="s"), "flow": values[:, 0], "force": values[:, 1]})
        frame["heat"] = values[:, 2]
        if fault:
            frame.loc[fault[0] : fault[1] - 1, "flow"] += 4.0
            frame["anomaly"] = 0.0
            frame.loc[fault[0] : fault[1] - 1, "anomaly"] = 1.0
            frame["changepoint"] = 0.0
            frame.loc[list(fault), "changepoint"] = 1.0
        return frame

    for path, rows, fault in (("other/1", 800, (500, 650)), ("valve2/0", 800, (550, 700)), ("anomaly-free/anomaly-free", 3000, None)):
        (root / path).parent.mkdir(exist_ok=True)
        record(rows, fault).to_csv(root / f"{path}.csv", sep=";", index=False)
    return root
