"""The detector: preprocess, extractor, scorer, calibrator, composed once and exported whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.features.encoder import SensorExtractor
from anomaly.scorers.windows import Recovering, RecoveringRows


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


class RowsDetector(Detector):
    """A sensor detector for long stretches of rows: what its overlapping windows have in common is worked out once.

    rows (R, C) float32, R >= T, NaN = missing -> score, p_value and contribution of each of the R - T + 1 windows of T rows in them.
    """

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(raw.unsqueeze(0))


def rows_detector(detector: Detector, context: int) -> RowsDetector | None:
    """The same sensor detector for stretches of rows, its windows having `context` rows before those judged.

    None for a detector with a learnt encoder, whose answer depends on where a window begins.
    """
    extractor, recovering = detector.extractor, detector.scorer
    if not isinstance(extractor, SensorExtractor) or not isinstance(recovering, Recovering) or extractor.encoder is not None:
        return None
    every = SensorExtractor(extractor.rows, every_row=True)
    scorer = RecoveringRows(recovering.scorer, context, extractor.step)
    return RowsDetector(detector.preprocess, every, scorer, detector.calibrator).eval()
