"""From another machine to this one, as a user would: sensors, through bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.data.samples.generated import generated, write_generated
from anomaly.data.samples.synthetic import plant
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import open_session
from anomaly.errors import AnomalyError, DataError
from anomaly.evaluation.report.curve import write_curve
from anomaly.evaluation.transfer import ALONE
from anomaly.pipeline.sensor.curve import ALL, sensor_curve
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.progress import silent
from anomaly.spec import Pretrain, SensorSpec, Transfer, read_spec
from tests.conftest import Fitted, run


def machine(path: Path, rows: int, seed: int, gain: float, offset: float) -> Path:
    frame = plant(rows, np.random.default_rng(seed)).drop(columns=["anomaly", "fault_kind"])
    sensors = frame.columns[1:]
    frame[sensors] = frame[sensors] * gain + offset
    frame.to_csv(path, index=False)
    return path


def test_a_curve_of_sensors_begins_where_the_target_alone_cannot(tmp_path: Path) -> None:
    line = tmp_path / "line"
    line.mkdir()
    machine(line / "train.csv", 500, 5, 1.0, 0.0)
    plant(900, np.random.default_rng(7), faults=True).drop(columns="fault_kind").to_csv(line / "test.csv", index=False)
    other = machine(tmp_path / "other.csv", 2000, 6, 1.3, 5.0)
    plain = SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
    spec = plain.model_copy(update={"transfer": Transfer(normals=other, method="coral")})
    curve = sensor_curve(SensorLine(spec, line), (20, 200, ALL), 2, silent)
    assert [tuple(row) for row in curve[["way", "normals", "seed"]].to_numpy().tolist()] == [
        (ALONE, 200, 0), (ALONE, 200, 1), (ALONE, 471, 0),
        ("coral", 20, 0), ("coral", 20, 1), ("coral", 200, 0), ("coral", 200, 1), ("coral", 471, 0),
    ]  # fmt: skip
    whole = Steps(SensorLine(plain, line), tmp_path / "w")
    assert curve["auroc"][2] == pytest.approx(json.loads(whole.evaluate().read_text())["roc_auc"])
    page = tmp_path / "c.html"
    write_curve(curve, "a curve", page, "normal windows", "ROC-AUC of rows")
    assert "ROC-AUC of rows" in page.read_text()
    with pytest.raises(DataError, match="no labelled tables"):
        sensor_curve(SensorLine(spec, line / "train.csv"), (20,), 1, silent)
    with pytest.raises(DataError, match="8 are needed"):
        sensor_curve(SensorLine(spec, line), (5,), 1, silent)


def test_twenty_windows_are_enough_with_another_machines_record(sensor: Fitted, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    pd.read_csv(sensor.data / "train.csv").head(49).to_csv(few, index=False)
    normals = machine(tmp_path / "other.csv", 2000, 11, 2.0, 50.0)
    with pytest.raises(DataError, match="at least 102"):
        run("fit", sensor.spec, "--data", few, "--out", tmp_path / "no.anomaly", "--work", tmp_path / "w")
    said = run("transfer", normals, sensor.spec, "--data", few, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    assert "not compared with the target alone" in said
    bundle = read_bundle(tmp_path / "b.anomaly")
    assert "pseudo-runs of 49 rows" in bundle.manifest.calibration["held_out_by"]
    assert self_test(bundle, open_session(bundle, "cpu")) > 0
    run("evaluate", tmp_path / "b.anomaly", "--data", sensor.data / "test.csv", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["roc_auc"] > 0.6


@pytest.mark.parametrize(("rows", "by"), [(400, "1 pseudo-run of 79 rows"), (200, "3 blocks")])
def test_a_short_record_lends_to_a_part_of_itself_as_long_as_enough_is_left(sensor: Fitted, tmp_path: Path, rows: int, by: str) -> None:
    """A pseudo-run as long as it is from a long record would leave nothing of 400 rows to lend to it."""
    few = tmp_path / "few.csv"
    pd.read_csv(sensor.data / "train.csv").head(79).to_csv(few, index=False)
    normals = machine(tmp_path / "other.csv", rows, 11, 2.0, 50.0)
    run("transfer", normals, sensor.spec, "--data", few, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    bundle = read_bundle(tmp_path / "b.anomaly")
    assert bundle.manifest.calibration["held_out_by"].startswith(by)
    assert self_test(bundle, open_session(bundle, "cpu")) > 0


def test_a_record_of_nothing_but_gaps_is_named(sensor: Fitted, tmp_path: Path) -> None:
    few, normals = tmp_path / "few.csv", machine(tmp_path / "other.csv", 1000, 11, 2.0, 50.0)
    pd.read_csv(sensor.data / "train.csv").head(79).to_csv(few, index=False)
    frame = pd.read_csv(normals)
    time = frame.columns[0]
    frame[time] = (pd.to_datetime(frame[time]) + pd.to_timedelta(np.arange(1000) // 20, unit="h")).map(lambda t: t.isoformat())
    frame.to_csv(normals, index=False)
    with pytest.raises(DataError, match=r"other\.csv: no 30 rows without a gap"):
        run("transfer", normals, sensor.spec, "--data", few, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")


def test_a_machine_with_shuffled_channels_is_ranked_last(sensor: Fitted, tmp_path: Path) -> None:
    here, like = machine(tmp_path / "here.csv", 600, 5, 1.0, 0.0), machine(tmp_path / "like.csv", 2000, 12, 1.5, 3.0)
    frame, shuffled = pd.read_csv(like), tmp_path / "shuffled.csv"
    names = list(frame.columns[1:])
    frame.rename(columns=dict(zip(names, np.roll(names, 3), strict=True))).to_csv(shuffled, index=False)

    def ranked(data: Path) -> list[dict[str, Any]]:
        run("sources", sensor.spec, "--data", data, "--source", shuffled, "--source", like, "--json", tmp_path / "r.json")
        return json.loads((tmp_path / "r.json").read_text())  # type: ignore[no-any-return]

    for data in (sensor.data / "train.csv", here):
        assert [row["source"] for row in ranked(data)] == [str(like), str(shuffled)]
    few = tmp_path / "few.csv"
    pd.read_csv(here).head(35).to_csv(few, index=False)
    first, second = ranked(few)  # too few rows to hold some out: by distance
    assert "lent_auroc" not in first
    assert first["proxy_a_distance"] <= second["proxy_a_distance"]


def test_generated_signals_are_the_same_again_and_finite(tmp_path: Path) -> None:
    one, two = (generated(3000, 6, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.isfinite(one).all()
    path = write_generated(tmp_path / "g.csv", ["a", "b"], 500, 0)
    spec = tmp_path / "s.toml"
    spec.write_text('kind = "sensor"\n')
    assert SensorLine(read_spec(spec), path).readings.normals.windows.shape == (471, 30, 2)  # type: ignore[arg-type]


def test_a_source_without_an_encoder_says_so(sensor: Fitted, tmp_path: Path) -> None:
    spec, weights = tmp_path / "s.toml", tmp_path / "e.safetensors"
    spec.write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    run("pretrain", spec, "--data", sensor.data, "--out", weights, "--work", tmp_path / "w")
    with pytest.raises(AnomalyError, match="nothing to transfer"):
        run("transfer", weights, spec, "--data", sensor.data, "--out", tmp_path / "b.anomaly")
