"""The sensor at fault is named first: made-up faults of one sensor, by view and kind, on fresh rows of records of three natures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter

from anomaly.data.samples.press import press
from anomaly.data.samples.synthetic import plant
from anomaly.data.tables.faults import KINDS, SHAPES, inject
from anomaly.data.tables.windows import windows_at
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.scorers.sensors.views import NAMES, Views
from anomaly.spec import Pretrain, SensorSpec

LEARNT, EACH = 3000, 120  # rows to learn from, and faults of a kind
FEWEST = 10  # flagged faults of a kind that say something
RIGHT = 0.9  # share of a view's flagged faults that must name the faulty sensor first, and of each kind but these:
RIGHT_ON_PRESS = 0.8  # a fault of one sensor's shape breaks its relation to the others, whose part may then be the larger
SHORT = {
    **{(view, "stuck"): 0.4 for view in ("level", "shape")},
    **{("shape", kind): 0.65 for kind in ("decoupled", "mirrored", "shifted", "wrong_moment")},
    **{("level", kind): 0.75 for kind in ("mirrored", "shifted")},
}
SPEC = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))


def record(name: str) -> pd.DataFrame:
    """Readings of one machine, of which LEARNT rows are learnt from."""
    rng = np.random.default_rng(5)
    if name == "generated":  # six sensors that follow two loads, with noise of their own
        loads = lfilter([1.0], [1.0, -0.9], rng.normal(size=(2 * LEARNT, 2)), axis=0)
        frame = pd.DataFrame(loads @ rng.normal(size=(2, 6)) + rng.normal(size=(2 * LEARNT, 6)), columns=[f"s{i}" for i in range(6)])
        frame.insert(0, "time", pd.date_range("2026-01-01", periods=len(frame), freq="s"))
        return frame
    return {"plant": plant, "press": press}[name](2 * LEARNT, rng).drop(columns=["anomaly", "fault_kind"])


@pytest.mark.parametrize(("name", "seen"), [("plant", {"level"}), ("press", {"level", "shape"}), ("generated", {"level"})])
def test_the_faulty_sensor_is_named_first_in_every_view(name: str, seen: set[str], tmp_path: Path) -> None:
    frame = record(name)
    frame.iloc[:LEARNT].to_csv(tmp_path / "train.csv", index=False)
    line = SensorLine(SPEC, tmp_path / "train.csv")
    steps = Steps(line, tmp_path / "work")
    detector, threshold = steps.detector(), steps.threshold().p_value
    values, scale, window = frame.iloc[LEARNT:, 1:].to_numpy(np.float32), line.readings.preprocess.scale.numpy(), line.readings.window
    rng = np.random.default_rng(0)
    normal = windows_at(values, rng.choice(np.arange(window - 1, len(values)), EACH, replace=False), window)
    calm = normal[detector.run(normal)[1] > threshold]  # what is flagged as it is says nothing of a fault
    found: dict[str, dict[str, np.ndarray]] = {view: {} for view in NAMES}
    views = detector.scorer
    assert isinstance(views, Views)
    for kind in (*KINDS, *SHAPES):
        pairs = [inject(w, rng, scale, kind, calm[rng.integers(len(calm))]) for w in calm]
        faulty, sensors = np.stack([w for w, _ in pairs]), np.array([sensor for _, sensor in pairs])
        _, p_value, share = detector.run(faulty)
        with torch.inference_mode():
            each = views.each(detector.extractor(detector.preprocess(torch.from_numpy(faulty))))
            speaks = (torch.stack([score for score, _ in each], dim=1) / views.unit).argmax(dim=1).numpy()
        for index in range(len(each)):
            found[NAMES[index]][kind] = (share.argmax(axis=1) == sensors)[(p_value <= threshold) & (speaks == index)]
    for view in seen:
        assert np.concatenate(list(found[view].values())).mean() >= (RIGHT_ON_PRESS if name == "press" else RIGHT)
        assert sum(len(right) for right in found[view].values()) >= 100
    wrong = {
        (view, kind): right.mean()
        for view, kinds in found.items()
        for kind, right in kinds.items()
        if len(right) >= FEWEST and right.mean() < SHORT.get((view, kind), RIGHT)
    }
    assert not wrong
