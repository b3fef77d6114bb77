"""A further kind of input, registered by this test alone: one-dimensional spectra, a file each, from a folder of normals to an alarm.

All that the kind needs is here: its spec, its line, what its bundles can be asked, its source at the edge, and the rows that name them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.alarms.quality import Repeats
from anomaly.alarms.store import Store
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.calibration.conformal import Calibrator
from anomaly.data.files import find_files
from anomaly.data.records import Record, Rejected, fingerprint
from anomaly.data.tables.windows import Run
from anomaly.edge import kinds as edge_kinds
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.base import Poll, Source
from anomaly.edge.sources.uri import SCHEMES, Request, Scheme
from anomaly.errors import BundleError, DataError, RecordError, SpecError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.metrics import auroc
from anomaly.evaluation.report.page import Plot
from anomaly.export.detector import Detector, GraphForm
from anomaly.features.tensors import save_tensors
from anomaly.pipeline import kinds
from anomaly.pipeline.fitted import Fitted
from anomaly.pipeline.line import Delays, Examples, Exported, Graphs
from anomaly.pipeline.steps import Steps
from anomaly.progress import Progress, silent
from anomaly.schema import InputSchema, Part
from anomaly.spec import SPECS, Alarm, Budget, Transfer, read_spec
from tests.conftest import run

LINES = 32  # of a spectrum
SUFFIXES = frozenset({".npy"})
Rows = NDArray[np.float32]


class SpectrumSpec(Part):
    """What may be asked of a detector of spectra."""

    kind: Literal["spectrum"]
    name: str = "spectrum"
    version: str = "1"
    seed: int = 0
    smooth: int = 3
    transfer: Transfer = Transfer()
    budget: Budget = Budget(false_alarm_rate=0.02)
    alarm: Alarm = Alarm(off_delay_s=0)


# --- training side: the line ---


def read_spectrum(path: Path) -> Rows:
    """One spectrum (LINES,). Raises RecordError when the file holds something else."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a spectrum: {error}") from error
    if found.shape != (LINES,):
        raise RecordError(f"{path}: a spectrum has {LINES} lines, this has the shape {found.shape}")
    return np.asarray(found, np.float32)


class Smooth(nn.Module):
    """Moving mean along a spectrum: the extractor, one map (N, 1, LINES)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.AvgPool1d(width, stride=1, padding=width // 2)

    def forward(self, raw: Tensor) -> list[Tensor]:
        return [self.mean(raw.unsqueeze(1))]


class LineDeviation(nn.Module):
    """The largest deviation of a line, in standard deviations of the normals: score (N,) and the deviation of each line (N, LINES)."""

    center: Tensor
    spread: Tensor

    def __init__(self, center: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        deviation = (features[0].squeeze(1) - self.center).abs() / self.spread
        return deviation.amax(dim=1), deviation


def fit_line_deviation(smoothed: Tensor) -> LineDeviation:
    return LineDeviation(smoothed.mean(dim=0), smoothed.std(dim=0) + 1e-3)


class SpectrumLine:
    """Spectra under one folder: `train/` holds normal ones, `test/good` and `test/bad` labelled ones."""

    def __init__(self, spec: SpectrumSpec, data: Path) -> None:
        self.spec = spec
        self.root = data
        self.paths = find_files(data / "train", SUFFIXES)
        if not self.paths:
            raise DataError(f"{data}: no spectra in train/")

    @cached_property
    def normals(self) -> Rows:
        return np.stack([read_spectrum(path) for path in self.paths])

    def files(self) -> list[Path]:
        return [*self.paths, *find_files(self.root / "test", SUFFIXES, deep=True)]

    def fingerprint(self) -> str:
        return fingerprint(self.paths, self.root)

    def test_fingerprint(self) -> str:
        return fingerprint(find_files(self.root / "test", SUFFIXES, deep=True), self.root)

    def notes(self) -> list[str]:
        return []

    def pretrain(self, out: Path, progress: Progress, *, full: bool = False) -> dict[str, Any]:
        about = {"kind": "spectrum", "adaptation": {"kept": False, "why": "a moving mean has nothing to adapt"}}
        save_tensors(out, {}, about)
        return about

    def fit(self, extractor: Path, progress: Progress) -> Fitted:
        smoothed = Smooth(self.spec.smooth)(torch.from_numpy(self.normals))[0].squeeze(1)
        scorer = fit_line_deviation(smoothed)
        every = torch.arange(len(smoothed))
        held_out = np.array([float(fit_line_deviation(smoothed[every != i])([smoothed[i : i + 1, None]])[0]) for i in every.tolist()])
        report = {"normals": len(smoothed), "held_out_by": "leave one out", "injected_auroc": 1.0, "extractor": {"kind": "spectrum"}}
        return Fitted("line_deviation", scorer.state_dict(), held_out, float(len(held_out)), pd.DataFrame({"score": held_out}), report)

    def detector(self, extractor: Path, fitted: Fitted, calibrator: Calibrator) -> Detector:
        assert fitted.method == "line_deviation"
        scorer = LineDeviation(fitted.tensors["center"], fitted.tensors["spread"])
        return Detector(GraphForm("spectrum", "deviation"), nn.Identity(), Smooth(self.spec.smooth), scorer, calibrator).eval()

    def input_schema(self) -> InputSchema:
        return InputSchema(name="spectrum", dtype="float32", channels=LINES)

    def evaluate(self, run: Run, schema: InputSchema, p: float, progress: Progress) -> Evaluation | None:
        return evaluate_spectra(run, self.root / "test", p)

    def examples(self, schema: InputSchema, count: int, rng: np.random.Generator) -> Examples:
        return Examples([rng.normal(1, 0.3, (count, LINES)).astype(np.float32)], [self.normals])

    def graphs(self, exported: Exported, rng: np.random.Generator, progress: Progress, *, quick: bool = False) -> Graphs:
        return Graphs()

    def decisions_per_day(self, report: dict[str, Any]) -> float | None:
        return None

    def delays(self) -> Delays:
        return Delays()


# --- training side: what its bundles can be asked ---


def evaluate_spectra(run: Run, folder: Path, p: float) -> Evaluation:
    paths = find_files(folder, SUFFIXES, deep=True)
    score, p_value, _ = run(np.stack([read_spectrum(path) for path in paths]))
    records = pd.DataFrame({"id": [path.stem for path in paths], "label": [path.parent.name for path in paths]})
    records = records.assign(score=score.astype(float), p_value=p_value.astype(float), flagged=p_value <= p)
    return Evaluation({"n": len(paths), "roc_auc": auroc((records["label"] != "good").to_numpy(), score.astype(float))}, records)


def evaluate(bundle: Bundle, session: Session, data: Path, layout: str | None, progress: Progress) -> Evaluation:
    return evaluate_spectra(session.run, data / "test", bundle.manifest.threshold.p_value)


def report_plots(bundle: Bundle, evaluation: Evaluation, data: Path) -> list[Plot]:
    return []


# --- plant side ---


class SpectrumFolder:
    """Spectra that appear in a folder, in name order."""

    def __init__(self, request: Request) -> None:
        self._folder, self._known, self._seen = Path(request.path), request.known, set[str]()

    def poll(self, limit: int) -> Poll:
        new = [p for p in find_files(self._folder, SUFFIXES) if p.name not in self._seen and not self._known(p.name)][:limit]
        found = Poll(position={"seen": len(self._seen)})
        for path in new:
            self._seen.add(path.name)
            try:
                found.records.append(Record(path.name, float(path.stem), read_spectrum(path)))
            except RecordError as error:
                found.rejected.append(Rejected(path.name, float(path.stem), str(error)))
        return found

    def close(self) -> None:
        return


def open_folder(request: Request) -> Source:
    return SpectrumFolder(request)


def explain(detail: NDArray[np.float32], schema: InputSchema) -> dict[str, Any]:
    return {"cause": f"line {int(detail.argmax())} of {schema.channels}"}


def score_file(run: Run, schema: InputSchema, path: Path) -> pd.DataFrame:
    score, p_value, deviation = run(read_spectrum(path)[None])
    return pd.DataFrame({"record": [path.name], "score": score, "p_value": p_value, "line": deviation.argmax(axis=1)})


def never_frozen(before: Repeats, records: Sequence[Record[NDArray[Any]]], schema: InputSchema) -> tuple[Repeats, str]:
    return before, ""


SPECTRUM = kinds.Kind(SpectrumSpec, ("folder",), SpectrumLine, evaluate, report_plots)
SPECTRUM_AT_THE_EDGE = edge_kinds.EdgeKind(
    output="deviation", records_per_poll=8, records_per_run=8, accepts="spectra: give a folder of them",
    scheme_of_path=lambda path: "spectra", explain=explain, find_frozen=never_frozen, score_file=score_file, suffixes=SUFFIXES,
)  # fmt: skip


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "spectrum", SpectrumSpec)
    monkeypatch.setitem(kinds.KINDS, "spectrum", SPECTRUM)
    monkeypatch.setitem(edge_kinds.KINDS, "spectrum", SPECTRUM_AT_THE_EDGE)
    monkeypatch.setitem(SCHEMES, "spectra", Scheme("spectrum", open_folder))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A spec, normal spectra, labelled ones, and a folder of new ones: the 7th to 9th have a peak that none of the normals has."""
    rng = np.random.default_rng(0)

    def write(path: Path, peak: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        spectrum = 1 + np.sin(np.arange(LINES) / 4) + 0.05 * rng.standard_normal(LINES)
        if peak is not None:
            spectrum[peak - 1 : peak + 2] += 2.0
        np.save(path, spectrum.astype(np.float32))

    (tmp_path / "spec.toml").write_text('kind = "spectrum"\nname = "lamp"\n')
    for i in range(60):
        write(tmp_path / "data" / "train" / f"{i:03}.npy")
    for i in range(10):
        write(tmp_path / "data" / "test" / "good" / f"{i:03}.npy")
        write(tmp_path / "data" / "test" / "bad" / f"{i:03}.npy", peak=3 + i)
        write(tmp_path / "new" / f"{i + 1:03}.npy", peak=21 if i in (6, 7, 8) else None)
    (tmp_path / "new" / "011.npy").write_bytes(b"not a spectrum")
    return tmp_path


@pytest.mark.usefixtures("registered")
def test_a_further_kind_goes_from_normals_to_an_alarm(site: Path) -> None:
    bundle, data = site / "lamp.anomaly", site / "data"
    printed = run("fit", site / "spec.toml", "--data", data, "--out", bundle, "--work", site / "work")
    assert "Seen on the 60 normal records learnt from" in printed
    assert "lamp, version 1: fitted" in (site / "lamp.html").read_text()
    manifest = read_bundle(bundle).manifest
    assert (manifest.kind, manifest.input.name, manifest.input.channels) == ("spectrum", "spectrum", LINES)
    assert manifest.parity["real"]["decisions_that_differ"] == 0
    assert "self-test passed on 4 examples" in run("bundle", "verify", bundle)

    run("score", bundle, site / "new", "--json", site / "scores.json")
    scores = json.loads((site / "scores.json").read_text())
    assert [row["record"] for row in scores if row["flagged"]] == ["007.npy", "008.npy", "009.npy"]
    assert {row["line"] for row in scores if row["flagged"]} <= {20, 21, 22}
    assert len(scores) == 10  # the broken file is set aside

    run("evaluate", bundle, "--data", data, "--json", site / "figures.json", "--report", site / "report.html")
    assert json.loads((site / "figures.json").read_text()) == {"n": 20, "roc_auc": 1.0}
    assert "lamp" in (site / "report.html").read_text()

    run("monitor", bundle, "--source", site / "new", "--once", "--store", site / "s.db", "--line", "hall")
    store = Store(site / "s.db")
    assert [scored.record for scored in store.scores("hall")] == [f"{i:03}.npy" for i in range(1, 11)]
    events = store.events()
    opened, closed = (next(e for e in events if e["type"] == f"anomaly.alarm.{what}") for what in ("opened", "closed"))
    assert opened["data"]["record"] == "007.npy"
    assert opened["data"]["cause"].startswith("line 2")
    assert closed["data"]["record"] == "010.npy"


@pytest.mark.usefixtures("registered")
def test_a_key_of_its_own_spec_is_seen_when_it_changes(site: Path) -> None:
    def fitted(more: str) -> Path:
        (site / "spec.toml").write_text('kind = "spectrum"\n' + more)
        return Steps(kinds.open_line(read_spec(site / "spec.toml"), site / "data"), site / "work").fit()

    first = fitted('name = "lamp"\n')
    assert fitted('name = "lamp"\nsmooth = 9\n') != first
    assert fitted('name = "other"\n[budget]\nfalse_alarm_rate = 0.05\n') == first  # nothing is fitted by these


@pytest.mark.usefixtures("registered")
def test_what_a_kind_cannot_do_is_said(site: Path) -> None:
    line = kinds.open_line(read_spec(site / "spec.toml"), site / "data")
    with pytest.raises(DataError, match="cannot be ranked for a spectrum detector"):
        kinds.rank_source(line, site / "data")
    with pytest.raises(SpecError, match="no learning curves for a spectrum detector"):
        kinds.learning_curve(line, 1, silent)


def test_a_kind_that_is_not_registered_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match='key `kind` is \'spectrum\'; set kind = "camera" or kind = "sensor"'):
        read_spec(site / "spec.toml")
    with monkeypatch.context() as patch:
        patch.setitem(SPECS, "spectrum", SpectrumSpec)
        spec = read_spec(site / "spec.toml")
    with pytest.raises(SpecError, match="spectrum"):
        kinds.open_line(spec, site / "data")


def test_every_spec_has_a_row_and_every_row_a_spec() -> None:
    assert {name: kind.spec for name, kind in kinds.KINDS.items()} == SPECS
    for name, kind in kinds.KINDS.items():
        assert kind.spec.model_fields["kind"].annotation == Literal[name]  # type: ignore[valid-type]


@pytest.mark.usefixtures("registered")
def test_a_bundle_of_an_unknown_kind_is_refused_by_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("fit", site / "spec.toml", "--data", site / "data", "--out", site / "lamp.anomaly", "--work", site / "work")
    monkeypatch.delitem(kinds.KINDS, "spectrum")
    with pytest.raises(BundleError, match="lamp: a spectrum bundle; known here: camera, sensor"):
        run("evaluate", site / "lamp.anomaly", "--data", site / "data")
