"""The detector: preprocess, extractor, scorer, calibrator, composed once and exported whole."""

from __future__ import annotations

from torch import Tensor, nn


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
