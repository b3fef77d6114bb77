"""The steps from data to bundle: what is read, what is done again, and what is refused."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.data.samples.synthetic import plant
from anomaly.errors import ExportError, WeightsError
from anomaly.export.detector import Detector
from anomaly.export.onnx_graph import export_onnx
from anomaly.pipeline.fitted import Fitted as FitResult
from anomaly.pipeline.fitted import load_fitted, save_fitted
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.progress import FEWEST_SHARE, Course, Part
from anomaly.scorers.build import load_sensor_scorer
from anomaly.spec import Pretrain, SensorSpec
from tests.conftest import run


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of normal readings that fits in seconds."""
    path = tmp_path_factory.mktemp("machine") / "train.csv"
    plant(700, np.random.default_rng(1)).drop(columns=["anomaly", "fault_kind"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def work(machine: Path) -> Path:
    """A work folder in which every step has been taken for `machine`."""
    folder = machine.parent / "work"
    steps_of(machine, folder).export()
    return folder


def steps_of(data: Path, work: Path) -> Steps:
    return Steps(open_line(SensorSpec(kind="sensor", pretrain=Pretrain(method="none")), data), work)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of tensors is opened, by its step."""
    counts: Counter[str] = Counter()
    real = safetensors.safe_open

    def counted(path: Path, *arguments: object, **named: object) -> object:
        counts[Path(path).name.split("-")[0]] += 1
        return real(path, *arguments, **named)

    monkeypatch.setattr(safetensors, "safe_open", counted)
    return counts


def test_an_export_reads_what_fit_and_calibrate_left_once(machine: Path, tmp_path: Path, opened: Counter[str]) -> None:
    steps_of(machine, tmp_path / "work").export()
    assert opened["fit"] == 1
    assert opened["calibrate"] == 1


def test_what_follows_the_first_step_is_shared_out_anew_once_that_is_known(machine: Path, work: Path) -> None:
    course = Course()
    steps = steps_of(machine, work)
    steps.progress, steps.report, steps.quick = Part(course), True, True
    steps.expected = lambda extractor: {
        "pretrain": 50,
        "fit": 40 if extractor is None else 4,
        "variants": 99,
        "report": 10 if extractor is None else 6,
    }
    at = {step: (told.start, told.stop) for step, told in steps.told.items() if isinstance(told, Part)}
    assert at == {"pretrain": (0.0, 0.5), "fit": (0.5, 0.9), "report": (0.9, 1.0)}
    steps.pretrain()
    after = {step: (told.start, told.stop) for step, told in steps.told.items() if isinstance(told, Part)}
    assert after == {"pretrain": (0.0, 0.5), "fit": (0.5, 0.7), "report": (0.7, 1.0)}
    assert course.share == 0.5


@given(spent=st.floats(1.0, 1000.0), share=st.floats(0.05, 0.9), factor=st.floats(0.01, 100.0))
def test_the_time_left_follows_what_is_learnt_on_the_way(spent: float, share: float, factor: float) -> None:
    now = 0.0
    course = Course(lambda: now)
    now = spent
    course.tell("first", 1, 1, share)
    course.repace(factor)
    left = course.left()
    assert left is None if share / factor < FEWEST_SHARE else left == pytest.approx(spent / share * (1 - share) * factor)


def test_a_second_run_trains_nothing_and_gives_the_same_bundle(machine: Path, work: Path, opened: Counter[str]) -> None:
    steps = steps_of(machine, work)
    before = {path.name: path.stat().st_mtime_ns for path in work.iterdir()}
    bundle = steps.export()
    assert steps.trained == []
    assert {path.name: path.stat().st_mtime_ns for path in work.iterdir()} == before
    assert bundle.name in before
    assert not opened  # nothing of it is even read


def test_other_data_is_fitted_anew(machine: Path, work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    other = tmp_path / "train.csv"
    frame = pd.read_csv(machine)
    frame.iloc[0, 1] += 0.5
    frame.to_csv(other, index=False)
    steps = steps_of(other, folder)
    steps.fit()
    assert "fit" in steps.trained


def test_a_lost_step_alone_is_done_again(machine: Path, work: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(work, folder)
    next(folder.glob("calibrate-*")).unlink()
    next(folder.glob("export-*")).unlink()
    steps = steps_of(machine, folder)
    assert steps.export().read_bytes() == next(work.glob("export-*")).read_bytes()
    assert steps.trained == ["calibrate", "export"]


def test_a_fit_result_is_the_same_when_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(9)
    written = FitResult("nearest", {"mean": torch.arange(3.0)}, scores, 4.5, pd.DataFrame({"score": scores, "b": rng.random(9)}), {"n": 9})
    save_fitted(tmp_path / "fit.safetensors", written)
    read = load_fitted(tmp_path / "fit.safetensors")
    assert (read.method, read.effective, read.report) == ("nearest", 4.5, {"n": 9})
    assert list(read.tensors) == ["mean"]
    assert torch.equal(read.tensors["mean"], torch.arange(3.0))
    np.testing.assert_array_equal(read.held_out, scores)
    pd.testing.assert_frame_equal(read.reference, written.reference)


def test_a_scorer_is_loaded_by_its_name_and_never_guessed(work: Path) -> None:
    fitted = load_fitted(next(work.glob("fit-*")))
    assert fitted.method == "views"
    with pytest.raises(WeightsError, match="no sensor scorer is named 'nearest'"):
        load_sensor_scorer("nearest", fitted.tensors)
    with pytest.raises(WeightsError, match="'views' needs the tensor"):
        load_sensor_scorer("views", {})


@pytest.mark.parametrize("killed_in", ["graph", "parity", "variants", "export"])
def test_a_run_that_was_killed_in_the_export_does_only_what_is_left(machine: Path, work: Path, tmp_path: Path, killed_in: str) -> None:
    def kill(text: str, done: float | None = None, total: float | None = None) -> None:
        if text.startswith(f"{killed_in} …"):
            raise KeyboardInterrupt

    steps = steps_of(machine, tmp_path / "work")
    steps.progress = kill
    with pytest.raises(KeyboardInterrupt):
        steps.export()
    again = steps_of(machine, tmp_path / "work")
    bundle = again.export()
    last = ["graph", "parity", "variants", "export"]
    assert again.trained == last[last.index(killed_in) :]
    assert bundle.read_bytes() == steps_of(machine, work).export().read_bytes()


def test_a_graph_that_decides_otherwise_loses_nothing(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the worst record and what to do; the parts and that record are kept; the same command then goes on."""

    def bent(detector: Detector, example: np.ndarray) -> bytes:
        moved = copy.deepcopy(detector)
        moved.preprocess.center += 0.05 * moved.preprocess.scale
        return export_onnx(moved, example)

    monkeypatch.setattr("anomaly.pipeline.steps.export_onnx", bent)
    folder = tmp_path / "work"
    with pytest.raises(ExportError, match=r"(?s)the worst is .*No bundle was written, and nothing is lost.*run the same command again"):
        steps_of(machine, folder).export()
    assert not list(folder.glob("*.anomaly"))
    (record,) = folder.glob("parity-*.npz")
    with np.load(record) as kept:
        assert kept["raw"].shape[0] == 1
    monkeypatch.undo()
    for graph in folder.glob("graph-*"):
        graph.unlink()  # as another version of the library would make it anew
    again = steps_of(machine, folder)
    again.export()
    assert again.trained == ["graph", "parity", "variants", "export"]


def test_a_name_as_people_say_it_stays_and_files_get_its_slug(machine: Path, work: Path, tmp_path: Path) -> None:
    steps = steps_of(machine, work)
    spec = steps.line.spec.model_copy(update={"name": "Prüfstand Süd 3"})
    named = Steps(open_line(spec, machine), work)
    published = named.publish(tmp_path)
    assert "fit" not in named.trained
    assert published.name.startswith("pruefstand-sued-3-1-")
    assert read_bundle(published).manifest.name == "Prüfstand Süd 3"
    store = tmp_path / "s.db"
    run("monitor", tmp_path, "--source", machine, "--once", "--store", store)
    assert len(Store(store).scores("Prüfstand Süd 3")) > 600
