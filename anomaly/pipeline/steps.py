"""The path from data to bundle, step by step: pretrain, fit, calibrate, evaluate, graph, parity, variants, export, publish.

Each step's result is one file in the work folder, named by the step and a key over everything that goes into it: the data's
fingerprint, the spec, the version of the code, the step before. A file that is there is not made again. A file appears whole
or not at all, so a run that was killed goes on where it stopped. Of the runs of one line in one work folder one works at a time. The
command line and the flows both walk these steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from anomaly import __version__
from anomaly.atomic import replacing, sha256_file, write_text
from anomaly.bundle.archive import CARRIED, DETECTOR, STREAM, VARIANTS, sign_where_set, signing_key, write_bundle
from anomaly.bundle.manifest import Manifest, Threshold
from anomaly.bundle.release_folder import ReleaseFolder, Role
from anomaly.calibration.budget import p_threshold, score_threshold, too_coarse, too_short
from anomaly.calibration.conformal import Calibrator, fit_calibrator
from anomaly.edge.runtime.session import Device, Session
from anomaly.errors import ExportError
from anomaly.evaluation.figures import Evaluation
from anomaly.evaluation.injected import share_found
from anomaly.evaluation.marks_found import marks_found
from anomaly.export.detector import Detector, multiply_adds
from anomaly.export.onnx_graph import Parity, ParityError, check_parity, export_onnx
from anomaly.features.build import carried_weights
from anomaly.features.tensors import load_tensors, save_tensors
from anomaly.features.threads import one_thread
from anomaly.parallel import one_run
from anomaly.pipeline.data_key import DataKey, stamp_of
from anomaly.pipeline.fitted import Fitted, load_fitted, save_fitted
from anomaly.pipeline.graphs_file import load_graphs, save_graphs
from anomaly.pipeline.line import Examples, Exported, Graphs, Line
from anomaly.progress import Progress, finished, part, parts, repaced, silent, skipped
from anomaly.schema import AlarmSettings

NOT_FITTED_BY = ("name", "version", "budget", "alarm", "release")  # parts of a spec
PARITY_INPUTS = 200  # random records, and as many real ones, that graph and PyTorch must decide alike
FIT_FORMAT = 7  # of the fit step's file: one written by other code is not read
CALIBRATE_FORMAT = 2  # of the calibrate step's file
QUICKLY = 4  # one in so many of the random ones, in a quick fit
EXAMPLES = 4  # records in a bundle for the edge's self-test


@dataclass
class Steps:
    """One line (a spec on its data), with the work folder that holds the steps' results. Each step takes those before it as needed.

    `trained` lists the steps that did work in this process; steps found in the work folder are not in it.
    """

    line: Line
    work: Path
    extractor: Path | None = None  # a file from `anomaly pretrain`; made by the first step when None
    progress: Progress = silent
    expected: Callable[[Path | None], Mapping[str, float]] = lambda _: {}  # seconds of each step, by the extractor once it is there
    report: bool = False  # whether a report of the fit follows the steps
    quick: bool = False  # leave out the graphs in other arithmetic, which can be added to the bundle later; compare on fewer records
    full_pretraining: bool = False  # train the extractor to the end, even where a first stretch of it promises nothing
    known: DataKey | None = None  # from an earlier Steps object on the same data, so that it need not be hashed again
    trained: list[str] = field(default_factory=list)
    evaluation: Evaluation | None = None  # what the evaluate step found, where it did work in this process
    _done: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        signing_key()  # one that cannot be read is said before the work, not after it

    # --- what each step depends on ---

    @cached_property
    def data_key(self) -> DataKey:
        """Which data it is: `known`, unless a file has changed since; else hashed now, once a Steps object."""
        stamp = stamp_of(self.line.files())
        if self.known is not None and self.known.stamp == stamp:
            return self.known
        self.progress("fingerprint of the data")
        return DataKey(self.line.fingerprint(), self.line.test_fingerprint(), stamp)

    @cached_property
    def _extractor_key(self) -> str:
        return sha256_file(self.pretrain())

    def _path(self, step: str, suffix: str, *inputs: Any) -> Path:
        text = json.dumps([step, __version__, torch.__version__, *inputs], sort_keys=True, default=str)
        return self.work / f"{step}-{hashlib.sha256(text.encode()).hexdigest()[:16]}{suffix}"

    def _spec_less(self, *settled: str) -> dict[str, Any]:
        """The spec as far as anything is fitted by it (further kinds have parts of their own), less what an earlier step's key holds."""
        whole = self.line.spec.model_dump(mode="json")
        return {name: part for name, part in whole.items() if name not in (*NOT_FITTED_BY, *settled)}

    @property
    def _budget(self) -> dict[str, Any]:
        """What the threshold follows from, beside the fit."""
        return self.line.spec.budget.model_dump(mode="json")

    def _once(self, step: str, path: Path, make: Callable[[], object]) -> Path:
        if self._done.get(step) == path:
            return path
        self._done[step] = path
        progress = self._progress(step)
        if path.exists():
            skipped(progress)
            return path
        with one_run(self.work, self.line.spec.name, progress):
            if path.exists():  # made by the run that was waited for
                skipped(progress)
                return path
            progress(f"{step} …")
            make()
        finished(progress)
        self.trained.append(step)
        return path

    def _progress(self, step: str) -> Progress:
        """What a step tells its progress to."""
        return self.told.get(step) or part(self.progress, 0.0, 0.0, step)

    @cached_property
    def told(self) -> dict[str, Progress]:
        """What each step up to the last tells its progress to, and the report of the fit after them."""
        return parts(self.progress, self._at_first)

    @cached_property
    def _at_first(self) -> dict[str, float]:
        return self._seconds(self.extractor)

    def _seconds(self, extractor: Path | None) -> dict[str, float]:
        left_out = {"pretrain": self.extractor is not None, "variants": self.quick, "report": not self.report}
        return {step: seconds for step, seconds in self.expected(extractor).items() if not left_out.get(step)}

    def _expect_anew(self, extractor: Path) -> None:
        """Share out anew what follows the first step, which has settled how the data is looked at."""
        before, now = dict(self._at_first), self._seconds(extractor)
        first, _ = before.pop("pretrain", 0.0), now.pop("pretrain", 0.0)
        if before and now:
            rest = part(self.progress, first / (first + sum(before.values())), 1.0)
            self.told = self.told | parts(rest, now)
            repaced(self.progress, sum(now.values()) / sum(before.values()))

    # --- the steps ---

    def pretrain(self) -> Path:
        """The extractor file: the one given, or made from the pretrained weights and the normals."""
        if self.extractor is not None:
            return self.extractor
        path = self._path("pretrain", ".safetensors", self.data_key.train, self._spec_less(), *(["full"] if self.full_pretraining else []))
        if "pretrain" not in self._done:
            self._once("pretrain", path, lambda: self.line.pretrain(path, self._progress("pretrain"), full=self.full_pretraining))
            self._expect_anew(path)
        return path

    def fit(self) -> Path:
        """The fitted scorer with held-out normal scores."""
        extractor = self.pretrain()
        asked = self._spec_less("pretrain", "transfer")
        path = self._path("fit", ".safetensors", FIT_FORMAT, self.data_key.train, self._extractor_key, asked)
        return self._once("fit", path, lambda: save_fitted(path, self.line.fit(extractor, self._progress("fit"))))

    def calibrate(self) -> Path:
        """The calibrator: held-out normal scores, how many of them are independent, and the fitted tail."""
        fitted = self.fit()
        path = self._path("calibrate", ".safetensors", CALIBRATE_FORMAT, fitted.name)
        return self._once("calibrate", path, lambda: self._calibrate(path))

    def _calibrate(self, path: Path) -> None:
        fitted = self.fitted
        save_tensors(path, fit_calibrator(fitted.held_out, fitted.effective, in_time=fitted.in_time).state_dict(), {})

    def evaluate(self) -> Path:
        """Figures on the labelled part of the data as JSON; a file that says so when there is none."""
        calibrated = self.calibrate()
        path = self._path("evaluate", ".json", calibrated.name, self.data_key.test, self._budget)
        return self._once("evaluate", path, lambda: self._evaluate(path))

    def _evaluate(self, path: Path) -> None:
        with one_thread():  # the pictures are spread over the cores; and the last digits do not depend on how many there are
            found = self.line.evaluate(self._detector.run, self.line.input_schema(), self.threshold().p_value, self._progress("evaluate"))
        self.evaluation = found
        figures: dict[str, Any] = found.figures if found else {"n": 0, "why": "no labelled records in the data"}
        figures["injected_auroc"] = self.fitted.report["injected_auroc"]
        if found is not None:
            figures["threshold"] = self.threshold().score
        write_text(path, json.dumps(figures, indent=1, sort_keys=True) + "\n")

    def graph(self) -> Path:
        """The detector as one ONNX graph, float32."""
        calibrated = self.calibrate()
        path = self._path("graph", ".onnx", calibrated.name)
        return self._once("graph", path, lambda: self._graph(path))

    def _graph(self, path: Path) -> None:
        raw = self._examples.real[0][:1]
        with replacing(path) as part:
            part.write_bytes(export_onnx(self._detector, np.concatenate([raw, raw])))

    def parity(self) -> Path:
        """How far the graph and PyTorch differ on random and on real records, as JSON. Raises ParityError when they decide otherwise."""
        graph = self.graph()
        path = self._path("parity", ".json", graph.name, self._budget, self.quick)
        return self._once("parity", path, lambda: self._parity(graph, path))

    def _parity(self, graph: Path, path: Path) -> None:
        examples = self._examples
        try:
            found = {
                "random": self._compared(graph, "random", examples.noise[:: QUICKLY if self.quick else 1]),
                "real": self._compared(graph, "real", examples.real, examples.names),
            }
        except ParityError as error:
            raise self._kept(error, graph, path) from error
        write_text(path, json.dumps({name: parity.as_dict() for name, parity in found.items()}, indent=1) + "\n")

    def _compared(self, graph: Path, what: str, batches: list[NDArray[Any]], names: Sequence[str] = ()) -> Parity:
        session, count = Session(graph.read_bytes(), "cpu", Device(threads=1)), sum(map(len, batches))
        progress = part(self._progress("parity"), *((0.0, 0.5) if what == "random" else (0.5, 1.0)))

        def say(done: int) -> None:
            first = done <= len(batches)  # PyTorch's turn; then that of ONNX Runtime
            told = part(progress, 0.0, 0.5) if first else part(progress, 0.5, 1.0)
            batch = done if first else done - len(batches)
            told(f"{'PyTorch' if first else 'ONNX Runtime'} on {what} records", count * batch // len(batches), count)

        return check_parity(self._detector, lambda raw: session.run(raw)[:2], batches, self.threshold().p_value, names, say)

    def _kept(self, error: ParityError, graph: Path, path: Path) -> ExportError:
        """The parity error with what is left of the work and what to do, after the record that shows it has been kept."""
        record = path.with_suffix(".npz")
        with replacing(record) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, raw=error.record)
        return ExportError(
            f"{error}. No bundle was written, and nothing is lost: the fitted detector is in {self.work}, its graph is {graph.name}, and "
            f"the worst input is {record.name} there. Try another size or backbone in the spec, or another version of onnxruntime, and run "
            "the same command again; please report the input"
        )

    def variants(self) -> Path:
        """Further graphs of the detector (8 bits, 16 bits, a stream's), with what was found of each."""
        graph = self.graph()
        path = self._path("variants", ".zip", graph.name, self.quick, self._budget, self._spec_less())
        return self._once("variants", path, lambda: save_graphs(path, self._variants(graph)))

    def _variants(self, graph: Path) -> Graphs:
        exported = Exported(self._detector, graph.read_bytes(), self.pretrain(), self.fitted.held_out, self.threshold().p_value)
        return self.line.graphs(exported, np.random.default_rng([self.line.spec.seed, 6]), self._progress("variants"), quick=self.quick)

    def export(self) -> Path:
        """The bundle, after the parity check."""
        evaluated, parity, variants = self.evaluate(), self.parity(), self.variants()
        whole = self.line.spec.model_dump(mode="json")
        path = self._path("export", ".anomaly", evaluated.name, evaluated.read_text(), parity.name, variants.name, whole)
        self._once("export", path, lambda: self._export(path))
        sign_where_set(path)
        return path

    def _export(self, path: Path) -> None:
        graphs, model, real = load_graphs(self.variants()), self.graph().read_bytes(), self._examples.real
        sessions = {f"_{variant}": Session(graph, provider="cpu") for variant, graph in graphs.variants.items()}
        members = self._members(model, graphs)
        sessions = {"": Session(model, provider="cpu")} | sessions
        members |= {f"examples/{i}.npz": _example(sessions, raw) for i, raw in enumerate(_singles(real, EXAMPLES))}
        parity = json.loads(self.parity().read_text()) | graphs.parity
        manifest = self._manifest(json.loads(self.evaluate().read_text()), parity, multiply_adds(self._detector, real[0][:1]))
        write_bundle(path, manifest, members)

    @cached_property
    def _examples(self) -> Examples:
        _ = self._detector  # with it a camera's line knows its size of input
        return self.line.examples(self.line.input_schema(), PARITY_INPUTS, np.random.default_rng(self.line.spec.seed))

    def _members(self, model: bytes, graphs: Graphs) -> dict[str, bytes]:
        """The bundle's files by name, but for its examples and the manifest."""
        members = {DETECTOR: model, "reference.parquet": _parquet(self.fitted.reference)}
        carried = carried_weights(self.pretrain())
        if carried is not None:
            members[CARRIED] = carried
        members |= {VARIANTS[variant]: graph for variant, graph in graphs.variants.items()}
        if graphs.stream is not None:
            members[STREAM] = graphs.stream
        return members

    def _manifest(self, metrics: dict[str, Any], parity: dict[str, Any], multiply_adds: int) -> Manifest:
        spec = self.line.spec
        return Manifest(
            name=spec.name,
            version=spec.version,
            kind=spec.kind,
            input=self.line.input_schema(),
            calibration=self._calibration(),
            threshold=self.threshold(),
            alarm=self._alarm(),
            provenance={
                "data_sha256": self.data_key.train,
                "code": f"anomaly-pipeline {__version__}",
                "torch": torch.__version__,
                "spec": spec.model_dump(mode="json"),
                "fit": self.fit_report(),
                "multiply_adds": multiply_adds,
            },
            metrics=metrics,
            parity=parity,
        )

    def fit_report(self) -> dict[str, Any]:
        """What the fit reports; made-up marks and faults as the shares of them that the threshold finds."""
        report, threshold = dict(self.fitted.report), self.threshold()
        if "injected_scores" in report and threshold.score is not None:
            report["injected_found"] = share_found(report.pop("injected_scores"), threshold.score)
        if "marks" not in report:
            return report
        return report | {"marks": marks_found(**report["marks"], threshold=threshold.score, rate=threshold.p_value)}

    def publish(self, release: Path, *, role: Role = "champion", by: str = "", why: str = "") -> Path:
        """Copy the bundle into a release folder as its champion or challenger. See `ReleaseFolder.publish`."""
        return ReleaseFolder(release).publish(self.export(), role=role, by=by, why=why)

    # --- parts read back ---

    @property
    def results(self) -> dict[str, Path]:
        """The file of each step that was taken so far, whoever made it."""
        return dict(self._done)

    @cached_property
    def fitted(self) -> Fitted:
        """The fit step's result, read once."""
        return load_fitted(self.fit())

    @cached_property
    def calibrator(self) -> Calibrator:
        """The calibrate step's result, read once."""
        tensors, _ = load_tensors(self.calibrate())
        return Calibrator(**tensors)

    def detector(self) -> Detector:
        """The composed detector, in PyTorch: a new one each time, so that a caller may move or change it."""
        return self.line.detector(self.pretrain(), self.fitted, self.calibrator)

    @cached_property
    def _detector(self) -> Detector:
        return self.detector()

    def threshold(self) -> Threshold:
        """The p-value the budget asks for, and the score it stands for."""
        budget = self.line.spec.budget
        p = p_threshold(budget, self.line.decisions_per_day(self.fitted.report))
        score = score_threshold(self.calibrator, p)
        chosen = {k: v for k, v in budget.model_dump().items() if v is not None}
        return Threshold(p_value=p, score=score, budget=chosen)

    def _alarm(self) -> AlarmSettings:
        asked = {key: value for key, value in self.line.spec.alarm.model_dump().items() if value is not None}
        return AlarmSettings(**self.line.delays()._asdict() | asked)

    def _calibration(self) -> dict[str, Any]:
        calibrator = self.calibrator
        start, scale, shape, _, power = (float(v) for v in calibrator.tail)
        smallest, p = calibrator.counted, self.threshold().p_value
        report, effective = self.fitted.report, float(calibrator.effective)
        seen = smallest if self.fitted.in_time else 1 / (effective + 1)  # the tail of exchangeable scores begins far within them
        return {
            "method": "cross-conformal",
            "held_out_by": report["held_out_by"],
            "scores": len(calibrator.scores),
            "usual_score": float(f"{np.median(self.fitted.held_out):.6g}"),
            "independent_scores": round(effective, 3),
            **{key: report[key] for key in ("block",) if key in report},
            "tail": {
                "law": "generalised Pareto of (score - start) ** power",
                "start": start,
                "scale": scale,
                "shape": shape,
                "power": power,
                "used_below_p": smallest,
            },
            "threshold_is_extrapolated": p < seen,
            "too_short": too_short(p, effective, report.get("learnt", f"{report['normals']} normals")),
            "too_coarse": too_coarse(calibrator, p),
        }


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    exact = {"score": np.float64, "place": np.int64, "record": np.int64}  # the rest only describes
    frame.astype({column: exact.get(str(column), np.float32) for column in frame}).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _singles(batches: list[NDArray[Any]], count: int) -> list[NDArray[Any]]:
    """The first `count` records of batches (N, ...), each as a batch of one (1, ...)."""
    return [record[None] for batch in batches for record in batch][:count]


def _example(sessions: Mapping[str, Session], raw: NDArray[Any]) -> bytes:
    """A raw record with the answers that each graph must give for it, as npz; the suffix of their names says which graph."""
    answers: dict[str, NDArray[Any]] = {"raw": raw}
    for suffix, session in sessions.items():
        answers[f"score{suffix}"], answers[f"p_value{suffix}"], _ = session.run(raw)
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **answers)
    return buffer.getvalue()
