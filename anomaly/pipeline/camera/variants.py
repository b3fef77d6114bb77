"""The variants of a detector's graph that a bundle carries: what is made, and what is good enough to go in.

float16 (for GPUs) and int8 (for CPUs; the banks' search always, the convolutions where that pays) are judged against the float graph:
scores on normals and on made-up defects, decisions, and the AUROC between the two. The edge measures which is the quickest there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from anomaly.calibration.conformal import fit_calibrator
from anomaly.data.pictures.defects import inject
from anomaly.edge.runtime.session import Session
from anomaly.evaluation.injected import Ranking
from anomaly.export.detector import Detector
from anomaly.export.integer_search import integer_search
from anomaly.export.onnx_graph import export_onnx
from anomaly.export.precision import feature_graph, half_extractor, integer_extractor
from anomaly.pipeline.camera.line import CameraLine, narrow, widen
from anomaly.pipeline.line import Progress
from anomaly.scorers.pictures.memory_bank import MemoryBank, measured_again

RANGES_FROM = 64  # normal pictures that the ranges of the 8-bit convolutions are measured on
JUDGED = 60  # normal pictures, and as many made-up defects on them, that a variant is judged by
AUROC_LOSS = 0.01  # of made-up defects against normals, at most
DRIFT = 0.25  # mean difference of scores, in deviations of normal scores, at most
SEARCH_DRIFT = 0.1  # the same where nothing is calibrated again: a score that close to the threshold may be decided otherwise


@dataclass(frozen=True)
class Judged:
    """A variant against the float graph on the same pictures."""

    drift: float
    auroc: float
    auroc_float: float
    decisions_that_differ: int
    pictures: int

    def accepted(self, drift: float) -> bool:
        return self.drift <= drift and self.auroc_float - self.auroc <= AUROC_LOSS

    def as_dict(self) -> dict[str, float]:
        """The figures as the manifest states them."""
        return {
            "pictures": self.pictures,
            "mean_difference_in_deviations": round(self.drift, 4),
            "auroc_made_up": round(self.auroc, 4),
            "auroc_made_up_float": round(self.auroc_float, 4),
            "decisions_that_differ": self.decisions_that_differ,
        }


def make_variants(
    line: CameraLine,
    detector: Detector,
    model: bytes,
    held_out: NDArray[np.float64],
    borrowed: list[torch.Tensor],
    p: float,
    progress: Progress,
) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """Graphs by variant that are fit for use beside `model`, and what was found of each, accepted or not.

    `held_out` (N,) are the normals' scores by which `model` is calibrated, `borrowed` another line's features in its banks, `p` is the
    p-value that decides.
    """
    normals, defects = _pictures(line)
    bench = _Bench(normals, defects, p, held_out)
    plain = bench.run(model)
    graphs: dict[str, bytes] = {}
    report: dict[str, dict[str, Any]] = {}
    half = half_extractor(model)
    if half is not None:
        judged = bench.judge(plain, bench.run(half), held_out)
        report["fp16"] = judged.as_dict() | {"accepted": judged.accepted(SEARCH_DRIFT)}
        if judged.accepted(SEARCH_DRIFT):
            graphs["fp16"] = half
    search = integer_search(model)
    if search is not None:
        judged = bench.judge(plain, bench.run(search), held_out)
        report["int8"] = judged.as_dict() | {"accepted": judged.accepted(SEARCH_DRIFT), "convolutions": "float"}
        if judged.accepted(SEARCH_DRIFT):
            graphs["int8"] = search
    progress("8-bit convolutions: ranges, features of all normals, calibration")
    whole = _integer_convolutions(line, detector, model, borrowed)
    if whole is not None:
        graph, again = whole
        judged = bench.judge(plain, bench.run(graph), again)
        found = judged.as_dict() | {"accepted": judged.accepted(DRIFT), "convolutions": "int8"}
        if judged.accepted(DRIFT):
            graphs["int8"], report["int8"] = graph, found
        else:
            report["int8_convolutions"] = found
    return graphs, report


def _integer_convolutions(
    line: CameraLine, detector: Detector, model: bytes, borrowed: list[torch.Tensor]
) -> tuple[bytes, NDArray[np.float64]] | None:
    """The graph in 8 bits throughout, and the held-out scores it is calibrated by; None where the scorer is not a plain memory bank.

    Suspects that were left out, and a vote, are fitted in ways that this does not repeat.
    """
    scorer = detector.scorer
    if not isinstance(scorer, MemoryBank) or line.spec.scorer.suspects == "leave_out":
        return None
    chosen = line.readable[:: max(1, len(line.readable) // RANGES_FROM)][:RANGES_FROM]
    ranges = [raw[None] for picture in chosen if (raw := line.read(picture)) is not None]
    quantised = integer_extractor(model, ranges)
    if quantised is None:
        return None
    extractor = feature_graph(quantised, len(line.spec.extractor.stages))
    if extractor is None:
        return None
    features = _features(line, extractor)
    with torch.inference_mode():
        fitted = measured_again(scorer, features, borrowed)
    held_out = fitted.held_out.double().numpy()
    again = Detector(detector.preprocess, detector.extractor, fitted.scorer, fit_calibrator(held_out, float(len(held_out)))).eval()
    graph = integer_extractor(export_onnx(again, np.concatenate([ranges[0], ranges[0]])), ranges)
    assert graph is not None
    return integer_search(graph) or graph, held_out  # Gaussians alone have no bank to search


def _features(line: CameraLine, graph: bytes) -> list[torch.Tensor]:
    """Feature maps of all normals as the 8-bit convolutions give them, one (N, C_s, h_s, w_s) a stage."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"image": raw[None]}) for picture in line.readable if (raw := line.read(picture)) is not None]
    return [torch.from_numpy(np.concatenate(maps)) for maps in zip(*rows, strict=True)]


def _pictures(line: CameraLine) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Normal pictures and made-up defects on them, raw batches of one."""
    rng = np.random.default_rng([line.spec.seed, 5])
    order = rng.permutation(len(line.readable))[:JUDGED]
    normals = [raw for i in sorted(order.tolist()) if (raw := line.read(line.readable[i])) is not None]
    deep = line.format[1]
    return [raw[None] for raw in normals], [widen(inject(narrow(raw, deep), rng)[0], deep)[None] for raw in normals]


@dataclass(frozen=True)
class _Answers:
    normal: NDArray[np.float64]
    defect: NDArray[np.float64]
    decisions: NDArray[np.bool_]


@dataclass(frozen=True)
class _Bench:
    """The pictures that variants are judged on. The scores of normals in AUROC are held-out ones: the banks know the pictures."""

    normals: Sequence[NDArray[Any]]
    defects: Sequence[NDArray[Any]]
    p: float
    held_out: NDArray[np.float64]

    def run(self, graph: bytes) -> _Answers:
        session = Session(graph, "cpu")
        answers = [session.run(raw) for raw in (*self.normals, *self.defects)]
        scores = np.array([float(answer.score[0]) for answer in answers])
        decisions = np.array([float(answer.p_value[0]) <= self.p for answer in answers])
        return _Answers(scores[: len(self.normals)], scores[len(self.normals) :], decisions)

    def judge(self, plain: _Answers, other: _Answers, their_held_out: NDArray[np.float64]) -> Judged:
        deviation = max(float(self.held_out.std()), 1e-9)
        again = their_held_out is not self.held_out  # the pictures' own scores then differ by how well the banks know them
        normal = their_held_out - self.held_out if again else other.normal - plain.normal
        moved = np.abs(np.concatenate([normal, other.defect - plain.defect])) / deviation
        return Judged(
            float(moved.mean()),
            Ranking(their_held_out, other.defect).auroc(),
            Ranking(self.held_out, plain.defect).auroc(),
            int((plain.decisions != other.decisions).sum()),
            len(moved),
        )
