"""The detector: preprocess, extractor, scorer, calibrator, composed once and exported whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.features.encoder import SensorExtractor
from anomaly.scorers.sensors.windows import RecoveryDamping, RecoveryDampingStream


class Detector(nn.Module):
    """Raw records in, decision out.

    Cameras: image (N, H, W, C) uint8 or uint16 -> score (N,), p_value (N,), map (N, h, w).
    Sensors: window (N, T, C) float32, NaN = missing -> score (N,), p_value (N,), contribution (N, C).
    """

    def __init__(self, preprocess: nn.Module, extractor: nn.Module, scorer: nn.Module, calibrator: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.extractor = extractor
        self.scorer = scorer
        self.calibrator = calibrator

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, detail = self.scorer(self.extractor(self.preprocess(raw)))
        return score, self.calibrator(score), detail

    def run(self, raw: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """The same of arrays, as `edge.session.Session.run` answers."""
        with torch.inference_mode():
            score, p_value, detail = self(torch.from_numpy(np.ascontiguousarray(raw).copy()))
        return score.numpy(), p_value.numpy(), detail.numpy()


class StreamDetector(nn.Module):
    """A sensor detector for rows that follow each other, one or many at a time: what their windows have in common is worked out once.

    rows (R, C) float32, NaN = missing, the last R - T + 1 of them new, T a window without its context; before (context,) float32, the bare
    scores of the rows before the new ones, 0 where there are none -> score, p_value, contribution and bare score of each new row.
    """

    def __init__(self, detector: Detector, extractor: SensorExtractor, scorer: RecoveryDampingStream) -> None:
        super().__init__()
        self.preprocess = detector.preprocess
        self.extractor = extractor
        self.scorer = scorer
        self.calibrator = detector.calibrator

    def forward(self, rows: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        score, contribution, bare = self.scorer(self.extractor(self.preprocess(rows.unsqueeze(0))), before)
        return score, self.calibrator(score), contribution, bare


def stream_detector(detector: Detector, context: int) -> StreamDetector | None:
    """The same sensor detector for rows that follow each other, its windows having `context` rows before those judged.

    None for a detector with a learnt encoder, whose answer depends on where a window begins.
    """
    extractor, recovering = detector.extractor, detector.scorer
    if not isinstance(extractor, SensorExtractor) or not isinstance(recovering, RecoveryDamping) or extractor.encoder is not None:
        return None
    every = SensorExtractor(extractor.rows, every_row=True)
    return StreamDetector(detector, every, RecoveryDampingStream(recovering.scorer, context, extractor.step)).eval()
