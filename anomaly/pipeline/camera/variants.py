"""The variants of a camera detector's graph that a bundle carries: what is made, and what is good enough to go in.

Made are float16 (for GPUs) and int8 (for CPUs; the banks' search always, the convolutions where that pays). Each is judged against the
float graph on normals and on synthetic defects: how far scores move, which decisions change, and the AUROC between the two. The edge
measures which of those that a bundle carries is the quickest there.
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
from anomaly.data.pictures.defects import inject_inside
from anomaly.data.pictures.reading import Picture
from anomaly.edge.runtime.session import Device, Session
from anomaly.evaluation.injected import Ranking
from anomaly.export.detector import Detector
from anomaly.export.onnx_graph import export_features, export_onnx
from anomaly.export.precision import fp16_extractor, int8_extractor
from anomaly.features.maps import gather_maps
from anomaly.parallel import on_all_cores
from anomaly.pipeline.camera.pictures import PictureFolder, from_8_bit, to_8_bit
from anomaly.progress import Progress, counted, part, parts, silent
from anomaly.scorers.build import region
from anomaly.scorers.pictures.memory_bank import MemoryBank, recalibrate
from anomaly.scorers.pictures.patches import PatchBank
from anomaly.scorers.pictures.repeats import leave_parts_out
from anomaly.spec import CameraSpec

RANGES_FROM = 32  # normal pictures that the ranges of the 8-bit convolutions are measured on
JUDGED = 40  # normal pictures, and as many synthetic defects on them, that a variant is judged by; at most
NOT_FINITE = 1e9  # counted for a score that is none (overflow in float16): such a variant is refused
AUROC_LOSS = 0.01  # of synthetic defects against normals, at most
SHIFT = 0.25  # mean difference of scores, in standard deviations of normal scores, at most
SHIFT_UNCALIBRATED = 0.1  # the same where nothing is calibrated again: a score that close to the threshold may be decided otherwise


def make_variants(
    spec: CameraSpec,
    pictures: PictureFolder,
    detector: Detector,
    model: bytes,
    held_out: NDArray[np.float64],
    borrowed: list[torch.Tensor],
    p: float,
    progress: Progress,
) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """Graphs by variant ("fp16", "int8") that are fit for use beside `model`, and what was found of each, accepted or not.

    `held_out` (N,) are the normals' scores by which `model` is calibrated. `borrowed` are another line's features in its banks, one
    (m, C_s, h_s, w_s) a stage. `p` is the p-value that decides.
    """
    told = parts(progress, {"judge": 2, "fp16": 3, "whole": 5, "search": 2})
    judge = VariantJudge(spec, pictures, model, held_out, p, told["judge"])
    graphs: dict[str, bytes] = {}
    report: dict[str, dict[str, Any]] = {}

    def judged(made: VariantCandidate | None, progress: Progress) -> bool:
        """Put a variant where it belongs; whether it is accepted."""
        if made is None:
            return False
        verdict = judge.verdict(made, progress)
        found: dict[str, Any] = verdict.as_dict() | {"accepted": verdict.accepted}
        if made.convolutions is not None:
            found["convolutions"] = made.convolutions
        if verdict.accepted:
            graphs[made.name] = made.graph
        report[made.name if verdict.accepted else made.refused_as] = found
        return verdict.accepted

    judged(_half(pictures, detector, held_out), told["fp16"])
    making, judging = part(told["whole"], 0.0, 0.7), part(told["whole"], 0.7, 1.0)
    if not judged(_integer_convolutions(spec, pictures, detector, borrowed, making), judging):
        judged(_integer_search(pictures, detector, held_out), told["search"])
    return graphs, report


# --- what is made ---


@dataclass(frozen=True)
class VariantCandidate:
    """A graph in less precise arithmetic, and what it is to be judged by.

    `held_out` (N,) are the normals' scores by which it is calibrated. `convolutions` is the arithmetic of its convolutions, where that
    varies. A variant that is refused is reported as `refused_as`: int8 throughout then stands beside int8 with float convolutions, whose
    place it would have taken.
    """

    name: str
    refused_as: str
    graph: bytes
    held_out: NDArray[np.float64]
    largest_shift: float
    convolutions: str | None = None


def _half(pictures: PictureFolder, detector: Detector, held_out: NDArray[np.float64]) -> VariantCandidate | None:
    """The graph with convolutions in float16, and memory banks searched as suits a GPU; None when it has no convolutions."""
    half = fp16_extractor(export_onnx(detector, _example(pictures), search="whole"))
    return None if half is None else VariantCandidate("fp16", "fp16", half, held_out, SHIFT_UNCALIBRATED)


def _integer_search(pictures: PictureFolder, detector: Detector, held_out: NDArray[np.float64]) -> VariantCandidate | None:
    """The graph with the search of its memory banks in int8 and convolutions in float32; None when there is nothing to search."""
    if not any(isinstance(module, PatchBank) for module in detector.scorer.modules()):
        return None
    graph = export_onnx(detector, _example(pictures), search="integers")
    return VariantCandidate("int8", "int8", graph, held_out, SHIFT_UNCALIBRATED, "float")


def _example(pictures: PictureFolder) -> NDArray[Any]:
    """A raw batch of two, for the export."""
    raw = pictures.read_all(pictures.readable[:1])[0][None]
    return np.concatenate([raw, raw])


def _integer_convolutions(
    spec: CameraSpec, pictures: PictureFolder, detector: Detector, borrowed: list[torch.Tensor], progress: Progress
) -> VariantCandidate | None:
    """The graph in int8 throughout, calibrated anew; None where the scorer is not a plain memory bank, or there are no convolutions.

    Suspects that were left out, and a vote, are fitted in ways that this does not repeat.
    """
    scorer = detector.scorer
    if not isinstance(scorer, MemoryBank) or spec.scorer.suspects == "leave_out":
        return None
    chosen = pictures.readable[:: max(1, len(pictures.readable) // RANGES_FROM)][:RANGES_FROM]
    ranges = [raw[None] for raw in pictures.read_all(chosen)]
    example = np.concatenate([ranges[0], ranges[0]])
    progress("8-bit convolutions: ranges of the normals' features")
    quantised = int8_extractor(export_features(detector, example), ranges)
    if quantised is None:
        return None
    features = _features(pictures, quantised.SerializeToString(), part(progress, 0.4, 0.9))
    progress("8-bit convolutions: calibration", 9, 10)
    with torch.inference_mode():
        fitted = leave_parts_out(recalibrate(scorer, features, borrowed), features, torch.from_numpy(pictures.survey.groups))
    held_out = fitted.held_out.double().numpy()
    calibrator = fit_calibrator(held_out, float(pictures.survey.parts))
    again = Detector(detector.form, detector.preprocess, detector.extractor, fitted.scorer, calibrator).eval()
    graph = export_onnx(again, example, features=quantised, search="integers")
    return VariantCandidate("int8", "int8_convolutions", graph, held_out, SHIFT, "int8")


def _features(pictures: PictureFolder, graph: bytes, progress: Progress) -> list[torch.Tensor]:
    """Feature maps of all normals as the 8-bit convolutions give them, one (N, C_s, h_s, w_s) a stage."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def features_of(picture: Picture) -> list[torch.Tensor]:
        raw = pictures.read(picture)
        return [] if raw is None else [torch.from_numpy(maps) for maps in session.run(None, {"image": raw[None]})]

    answers = on_all_cores(features_of, pictures.readable)
    told = counted(pictures.readable, progress, "8-bit convolutions: features of pictures")
    return gather_maps((maps for _, maps in zip(told, answers, strict=True)), len(pictures.readable))


# --- what is good enough to go in ---


@dataclass(frozen=True)
class VariantVerdict:
    """A variant against the float graph on the same pictures.

    `shift` is the mean absolute difference of scores, in standard deviations of the float graph's held-out normal scores, and
    `largest_shift` what is allowed. `auroc` is that of synthetic defects against normals.
    """

    shift: float
    largest_shift: float
    auroc: float
    auroc_float: float
    decisions_that_differ: int
    pictures: int

    @property
    def accepted(self) -> bool:
        """Whether a bundle may carry it.

        >>> VariantVerdict(0.02, 0.1, 0.97, 0.975, 1, 120).accepted  # loses 0.005 AUROC
        True
        >>> VariantVerdict(0.02, 0.1, 0.95, 0.975, 1, 120).accepted  # loses 0.025
        False
        """
        return self.shift <= self.largest_shift and self.auroc_float - self.auroc <= AUROC_LOSS

    def as_dict(self) -> dict[str, float]:
        """The figures as the manifest states them."""
        return {
            "pictures": self.pictures,
            "mean_difference_in_deviations": round(self.shift, 4),
            "auroc_made_up": round(self.auroc, 4),
            "auroc_made_up_float": round(self.auroc_float, 4),
            "decisions_that_differ": self.decisions_that_differ,
        }


@dataclass(frozen=True)
class _Answers:
    normal: NDArray[np.float64]
    defect: NDArray[np.float64]
    decisions: NDArray[np.bool_]


class VariantJudge:
    """The pictures that variants are judged on, with the float graph's answers to them.

    The AUROC takes held-out scores for the normals, since the banks know the pictures.
    """

    def __init__(
        self,
        spec: CameraSpec,
        pictures: PictureFolder,
        model: bytes,
        held_out: NDArray[np.float64],
        p: float,
        progress: Progress = silent,
    ) -> None:
        """`model` is the float graph, `held_out` (N,) the normals' scores it is calibrated by, `p` the p-value that decides."""
        self.held_out, self.p = held_out, p
        self.normals, self.defects = _pictures(spec, pictures)
        self.plain = self._answers(model, "float", progress)

    def verdict(self, made: VariantCandidate, progress: Progress = silent) -> VariantVerdict:
        """Run a variant on the pictures and compare it with the float graph."""
        plain, other = self.plain, self._answers(made.graph, made.refused_as, progress)
        deviation = max(float(self.held_out.std()), 1e-9)
        again = made.held_out is not self.held_out  # the pictures' own scores then differ by how well the banks know them
        normal = made.held_out - self.held_out if again else other.normal - plain.normal
        moved = np.abs(np.concatenate([normal, other.defect - plain.defect])) / deviation
        return VariantVerdict(
            float(moved.mean()),
            made.largest_shift,
            Ranking(made.held_out, other.defect).auroc(),
            Ranking(self.held_out, plain.defect).auroc(),
            int((plain.decisions != other.decisions).sum()),
            len(moved),
        )

    def _answers(self, graph: bytes, name: str, progress: Progress) -> _Answers:
        session, pictures = Session(graph, "cpu", Device(threads=1)), [*self.normals, *self.defects]
        told = counted(pictures, progress, f"variants judged, {name}: pictures")
        answers = [answer for _, answer in zip(told, on_all_cores(session.run, pictures), strict=True)]
        scores = np.array([float(answer.score[0]) for answer in answers])
        scores = np.nan_to_num(scores, nan=NOT_FINITE, posinf=NOT_FINITE, neginf=-NOT_FINITE)
        decisions = np.array([float(answer.p_value[0]) <= self.p for answer in answers])
        return _Answers(scores[: len(self.normals)], scores[len(self.normals) :], decisions)


def _pictures(spec: CameraSpec, pictures: PictureFolder) -> tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]:
    """Normal pictures, and synthetic defects on them, as raw batches of one (1, H, W, C)."""
    rng = np.random.default_rng([spec.seed, 5])
    order = rng.permutation(len(pictures.readable))[: pictures.at_hand(2 * JUDGED) // 2]
    found = (pictures.smaller(pictures.readable[i]) for i in sorted(order.tolist()))
    normals, deep = [one for one in found if one is not None], pictures.format.deep
    marked = [inject_inside(to_8_bit(one.pixels, deep), rng, region(spec), one.scale)[0] for one in normals]
    return [one.pixels[None] for one in normals], [from_8_bit(one, deep)[None] for one in marked]
