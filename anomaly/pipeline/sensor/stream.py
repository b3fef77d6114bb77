"""A sensor detector's second graph: for rows that follow each other, so that no row's features are computed twice.

It is the same arithmetic as the graph for windows, so the parity check of every export judges it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.edge.runtime.session import Session
from anomaly.export.detector import Detector, stream_detector
from anomaly.export.onnx_graph import check_parity, export_stream
from anomaly.pipeline.sensor.tables import NormalReadings

CHECKED_WINDOWS = 1000  # of the record, and as many of noise: the two graphs must agree on all of them


def make_stream(
    readings: NormalReadings, detector: Detector, model: bytes, p: float, rng: np.random.Generator
) -> tuple[bytes | None, dict[str, dict[str, float]]]:
    """The detector's graph for rows that follow each other, with its parity to the detector; None for one that has no such form.

    `model` is its graph for windows, `p` the p-value that decides. Raises ExportError when the answers differ from the detector's.
    """
    found = stream_detector(detector)
    if found is None:
        return None, {}
    real, values = readings.successive_windows(CHECKED_WINDOWS), readings.values
    spread = 5 * np.nanstd(values, axis=0)
    noise = (np.nanmean(values, axis=0) + spread * rng.standard_normal((CHECKED_WINDOWS, real.shape[2]))).astype(np.float32)
    noise[rng.random(noise.shape) < 0.05] = np.nan
    graph = export_stream(found, noise)
    session = Session(model, "cpu", stream=graph)

    def run(windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        following = np.concatenate([windows[0], windows[1:, -1]])  # each window is the one before, moved on by a row
        answer = session.run_stream(following)
        return answer.score, answer.p_value

    synthetic = np.lib.stride_tricks.sliding_window_view(noise, real.shape[1], axis=0).transpose(0, 2, 1)
    return graph, {"stream": check_parity(detector, run, [synthetic, real], p).as_dict()}
