"""The detector: preprocess, extractor, scorer and calibrator, composed once and exported as one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from anomaly.features.encoder import SensorExtractor
from anomaly.scorers.sensors.windows import by_position


@dataclass(frozen=True)
class GraphForm:
    """What a detector's graph is like from outside: the name of its input, of its third output, and which sizes of the input may vary.

    `free` has one letter for each such axis, from the first on: "N" for records of one shape, "NHW" for pictures of any size. The input's
    name is that of the input schema; the third output's name is what `anomaly.edge.kinds` expects for it.
    """

    input: str
    detail: str
    free: str = "N"


PICTURES = GraphForm("image", "map", "NHW")
WINDOWS = GraphForm("window", "contribution")


class Detector(nn.Module):
    """Raw records in, score, p-value and explanation out.

    Cameras: image (N, H, W, C) uint8 or uint16 -> score (N,), p_value (N,), map (N, h, w).
    Sensors: window (N, T, C) float32, NaN = missing -> score (N,), p_value (N,), contribution (N, C).
    Another kind of input has a `form` of its own.
    """

    def __init__(self, form: GraphForm, preprocess: nn.Module, extractor: nn.Module, scorer: nn.Module, calibrator: nn.Module) -> None:
        super().__init__()
        self.form = form
        self.preprocess = preprocess
        self.extractor = extractor
        self.scorer = scorer
        self.calibrator = calibrator

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, detail = self.scorer(self.extractor(self.preprocess(raw)))
        return score, self.calibrator(score), detail

    def run(self, raw: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """`forward` on and to NumPy arrays, float32, as `edge.runtime.session.Session.run` answers."""
        with torch.inference_mode():
            score, p_value, detail = self(torch.from_numpy(np.ascontiguousarray(raw).copy()))
        return score.numpy(), p_value.numpy(), detail.numpy()


class StreamDetector(nn.Module):
    """Streaming sensor detector: consecutive rows in, one or many at a time; what overlapping windows have in common is computed once.

    Rows (R, C) float32, NaN = missing, R at least the T rows of a window -> score (P,), p_value (P,), contribution (P, C) of the windows
    that end at the last P = R - T + 1 rows.
    """

    def __init__(self, detector: Detector, extractor: SensorExtractor) -> None:
        """`extractor` gives the features of the window at every row."""
        super().__init__()
        self.preprocess = detector.preprocess
        self.extractor = extractor
        self.scorer = detector.scorer
        self.calibrator = detector.calibrator

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, contribution = self.scorer(by_position(self.extractor(self.preprocess(rows.unsqueeze(0)))))
        return score, self.calibrator(score), contribution


def stream_detector(detector: Detector) -> StreamDetector | None:
    """The streaming form of a sensor detector; None for a detector of something else."""
    extractor = detector.extractor
    if not isinstance(extractor, SensorExtractor):
        return None
    return StreamDetector(
        detector, SensorExtractor(extractor.level, extractor.shape, extractor.encoder, part=extractor.part, every_row=True)
    ).eval()


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts floating-point operations as `torch.utils.flop_counter.FlopCounterMode` does, without the compiler that it imports."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it PyTorch would import it first, which takes a second and 200 MB

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        count, named = flop_registry.get(func._overloadpacket), kwargs or {}
        if count is None:
            with self:
                found = func.decompose(*args, **named)
            if found is not NotImplemented:
                return found
        answer = func(*args, **named)
        if count is not None:
            self.count += count(*args, **named, out_val=answer)
        return answer


def multiply_adds(detector: Detector, raw: NDArray[Any]) -> int:
    """Multiply-adds of one raw batch. `anomaly bench` compares throughput with the machine's own limit by them."""
    with _Operations() as operations:
        detector.run(raw)
    return int(operations.count // 2)
