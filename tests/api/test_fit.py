"""`anomaly.fit`: the same bundle as the shell writes, from files, a DataFrame or arrays; what is wrong is told before anything slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import anomaly
from anomaly.spec import Budget, CameraSpec, SensorSpec
from tests.conftest import Fitted

SMALL = {"size": 128}, {"method": "none"}, {"banks": [{"stage": "blocks.4", "metric": "raw", "size": 200}]}


@pytest.fixture(scope="module")
def normals(samples: Path) -> pd.DataFrame:
    return pd.read_csv(samples / "plant" / "train.csv", parse_dates=["time"]).head(600).set_index("time")


def test_the_same_data_and_spec_give_the_bundle_of_the_steps(sensor: Fitted, tmp_path: Path) -> None:
    """And what was told of the progress is what the shell tells, to a function that is given."""
    told: list[str] = []
    detector = anomaly.fit(sensor.data, spec=sensor.spec, progress=lambda text, done=None, total=None: told.append(text))
    assert detector.save(tmp_path / "api.anomaly").read_bytes() == sensor.bundle.read_bytes()
    assert "fingerprint of the data" in told
    assert any("ONNX Runtime" in text for text in told)


def test_a_frame_becomes_a_detector(normals: pd.DataFrame, tmp_path: Path) -> None:
    """The same one wherever the work is done; and rows of a fault are flagged."""
    detector = anomaly.fit(normals, name="Pumpe 7", budget="1 in 50", work=tmp_path)
    assert detector.manifest.name == "Pumpe 7"
    assert detector.budget == {"false_alarm_rate": 0.02}
    steps = sorted(path.name for path in tmp_path.iterdir())
    again = anomaly.fit(normals, name="Pumpe 7", budget=Budget(false_alarm_rate=0.02), work=tmp_path)
    assert again.hash == detector.hash
    assert sorted(path.name for path in tmp_path.iterdir()) == steps  # nothing was learnt anew
    assert anomaly.fit(normals.reset_index(), name="Pumpe 7", budget=0.02).hash == detector.hash

    faulty = normals.copy()
    faulty.iloc[300:400, 0] += 10 * normals.iloc[:, 0].std()
    scores = detector.score(faulty)
    during = (scores.index >= normals.index[330]) & (scores.index < normals.index[400])
    assert scores["flagged"][during].all()
    assert (scores["top_sensor"][during] == normals.columns[0]).all()
    assert scores["flagged"][scores.index < normals.index[300]].mean() < 0.1


@pytest.mark.usefixtures("short_export")
def test_arrays_become_a_detector(samples: Path) -> None:
    files = sorted((samples / "camera" / "train" / "good").iterdir())
    pictures = [np.asarray(Image.open(file)) for file in files]
    size, pretrain, scorer = SMALL
    spec = CameraSpec.model_validate({"kind": "camera", "input": size, "pretrain": pretrain, "scorer": scorer})
    detector = anomaly.fit(np.stack(pictures), spec=spec, budget=0.1, quick=True)
    assert detector.manifest.provenance["fit"]["normals"] == len(pictures)
    assert detector.score(pictures)["flagged"].mean() <= 0.2
    dark = pictures[0].copy()
    dark[60:90, 60:90] = 0
    assert detector.score(dark)["p_value"].iloc[0] < detector.score(pictures)["p_value"].median()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": 3.0}, "budget '3.0' is a share of 3"),
        ({"name": "a\nb"}, "name"),
        ({"name": "", "spec": SensorSpec(kind="sensor")}, "name: "),
        ({"spec": "nowhere.toml"}, "nowhere.toml: no such file"),
        ({"spec": CameraSpec(kind="camera")}, "looks like a table of readings"),
        ({"faults": "nowhere"}, "nowhere: no such file or folder"),
    ],
)
def test_what_is_wrong_is_told_first(samples: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(anomaly.AnomalyError, match=words):
        anomaly.fit(samples / "plant" / "train.csv", **settings)


def test_data_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(anomaly.AnomalyError, match="no such file or folder"):
        anomaly.fit(tmp_path / "nowhere")
    with pytest.raises(anomaly.AnomalyError, match="a list of files was given"):
        anomaly.fit(["a.png", "b.png"])
    with pytest.raises(anomaly.AnomalyError, match=r"^the DataFrame: no time column found .* pd\.date_range"):
        anomaly.fit(pd.DataFrame({"flow": np.zeros(50)}), spec=SensorSpec(kind="sensor"))
    with pytest.raises(anomaly.AnomalyError, match="float64 was given: pictures are uint8"):
        anomaly.fit(np.zeros((200, 3)))


def test_what_is_wrong_in_the_data_is_a_warning_and_kept(tmp_path: Path) -> None:
    rng, seconds = np.random.default_rng(0), pd.date_range("2026-01-01", periods=400, freq="s")
    frame = pd.DataFrame(rng.normal(size=(400, 2)), index=seconds, columns=["flow", "pressure"]).assign(remark="ok", dead=np.nan)
    frame = pd.concat([frame, frame.iloc[[7]]])
    with pytest.warns(UserWarning, match=r"the DataFrame: .*detector\.notes"):
        detector = anomaly.fit(frame, work=tmp_path)
    said = " | ".join(detector.notes)
    assert "1 row has the time of a later row" in said
    assert "column 'remark' is no sensor" in said
    assert "column 'dead' is no sensor: it holds no reading" in said
    assert str(tmp_path) not in said
    assert detector.sensors == ["flow", "pressure"]


def test_times_that_fit_two_orders_are_told_with_the_line_of_pandas(tmp_path: Path) -> None:
    times = [f"05.01.2026 {i // 60:02d}:{i % 60:02d}:00" for i in range(400)]
    frame = pd.DataFrame({"Zeit": times, "flow": np.arange(400) % 7 + 0.5})
    with pytest.raises(anomaly.AnomalyError, match=r"(?s)^the DataFrame: .*day first.*pd\.to_datetime\(times, dayfirst=True\)"):
        anomaly.fit(frame)
