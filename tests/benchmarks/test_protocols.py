"""The published protocols, as a user types them: `python -m benchmarks.protocols…`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.spec import read_spec
from benchmarks.protocols import elpv, layouts, sensors
from tests.conftest import Fitted


def run(*arguments: object) -> None:
    sensors.main([str(a) for a in arguments])


def without_encoder(folder: Path) -> Path:
    """A spec of sensors that trains nothing."""
    spec = folder / "s.toml"
    spec.write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    return spec


def test_skab_learns_the_first_400_rows_and_judges_the_rest(like_skab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = without_encoder(tmp_path)
    run("skab", "--data", like_skab, "--json", tmp_path / "f.json", "--spec", spec)
    assert "point_adjusted_inflated" in capsys.readouterr().out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures["by_run"]) == {"other/1", "valve2/0"}  # not the normal record
    assert figures["mean_roc_auc"] > 0.95
    assert figures["f1"] > 0.8
    assert figures["nab"]["standard"]["missed"] <= 2
    assert figures["spec"]["budget"]["false_alarm_rate"] == 0.01
    records = ["--records", like_skab / "anomaly-free", "--rate", "0.05"]
    run("skab", "--data", like_skab, "--json", tmp_path / "g.json", "--spec", spec, *records)
    again = json.loads((tmp_path / "g.json").read_text())
    assert again["mean_roc_auc"] == figures["mean_roc_auc"]  # records move the threshold, not the ranking
    assert again["false_alarm_rate"] < 0.12


def test_skab_takes_row_after_row_whatever_time_lies_between(like_skab: Path, tmp_path: Path) -> None:
    spec = without_encoder(tmp_path)
    found = []
    for name, gap_s in (("whole", 0), ("broken", 3600)):
        frame = pd.read_csv(like_skab / "other" / "1.csv", sep=";", parse_dates=["datetime"])
        frame.loc[510:, "datetime"] += pd.Timedelta(seconds=gap_s)  # within the fault
        (tmp_path / name / "other").mkdir(parents=True)
        frame.to_csv(tmp_path / name / "other" / "1.csv", sep=";", index=False)
        run("skab", "--data", tmp_path / name, "--json", tmp_path / f"{name}.json", "--spec", spec)
        found.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert found[0]["mean_roc_auc"] == found[1]["mean_roc_auc"]
    assert found[0]["f1"] == found[1]["f1"]


def test_nab_scores_the_first_row_of_each_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    times = pd.date_range("2026-01-01", periods=1500, freq="h")
    values = 20 + rng.normal(0, 0.5, 1500)
    values[900:940] += 9
    pd.DataFrame({"timestamp": times, "value": values}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SystemExit) as stopped:
        run("nab", "--data", tmp_path, "--json", tmp_path / "f.json")
    assert stopped.value.code == 1
    assert "windows.json: not there" in capsys.readouterr().err
    (tmp_path / "windows.json").write_text(json.dumps({"realX/t.csv": [[str(times[880]), str(times[960])]]}))
    run("nab", "--data", tmp_path, "--json", tmp_path / "f.json", "--rate", "0.001")  # too little for a false alarm before
    series = json.loads((tmp_path / "f.json").read_text())["by_series"]["t"]
    assert series["nab"]["standard"] > 50
    assert 0.2 <= series["fired_at_share_of_window"][0] <= 0.5


def test_a_camera_spec_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("skab", "--data", tmp_path, "--json", tmp_path / "f.json", "--spec", "specs/camera.toml")
    assert stopped.value.code == 2
    assert "a camera spec; these benchmarks are of sensors" in capsys.readouterr().err


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the `elpv-dataset` package, found on the import path: five normal and two broken mono cells, and what is left out."""
    package = tmp_path / "site" / "elpv_dataset"
    (package / "data" / "images").mkdir(parents=True)
    (package / "__init__.py").touch()
    lines = []
    for number, (probability, kind) in enumerate([("0.0", "mono")] * 5 + [("1.0", "mono")] * 2 + [("0.33", "mono"), ("0.0", "poly")]):
        name = f"images/cell{number}.png"
        (package / "data" / name).write_bytes(b"picture %d" % number)
        lines.append(f"{name} {probability} {kind}")
    (package / "data" / "labels.csv").write_text("\n".join(lines))
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.syspath_prepend(package.parent)
    return tmp_path


def test_elpv_is_laid_out_as_mvtec_ad(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elpv.main(["--out", str(cells / "solar"), "--train", "3"])
    found = {f: sorted(p.name for p in (cells / "solar" / f).iterdir()) for f in ("train/good", "test/good", "test/defect")}
    assert len(found["train/good"]) == 3
    assert sorted(found["train/good"] + found["test/good"]) == [f"cell{n}.png" for n in range(5)]
    assert found["test/defect"] == ["cell5.png", "cell6.png"]
    assert (cells / "solar/test/defect/cell6.png").read_bytes() == b"picture 6"
    assert "test/defect: 2 pictures" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        elpv.main(["--out", str(cells / "none"), "--train", "5"])
    assert "leaves none to test on" in capsys.readouterr().err


def test_a_bundle_is_judged_on_skab_rows_after_the_first_400(sensor: Fitted, tmp_path: Path) -> None:
    layouts.main(["skab", str(sensor.bundle), "--data", str(sensor.data / "test.csv"), "--json", str(tmp_path / "f.json")])
    assert json.loads((tmp_path / "f.json").read_text())["n"] == 3600


def test_a_bundle_is_judged_on_nab_rows_after_the_first_15_percent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = pd.date_range("2026-01-01", periods=900, freq="h")
    values = 20 + 3 * np.sin(np.arange(900) / 24 * 2 * np.pi) + rng.normal(0, 0.3, 900)
    values[600:640] += 9
    pd.DataFrame({"timestamp": times[:500], "value": values[:500]}).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "nab").mkdir()
    pd.DataFrame({"timestamp": times, "value": values}).to_csv(tmp_path / "nab" / "t.csv", index=False)
    (tmp_path / "nab" / "windows.json").write_text(json.dumps({"realX/t.csv": [[str(times[600]), str(times[640])]]}))
    bundle = Steps(open_line(read_spec(without_encoder(tmp_path)), tmp_path / "train.csv"), tmp_path / "w").export()
    layouts.main(["nab", str(bundle), "--data", str(tmp_path / "nab"), "--json", str(tmp_path / "f.json")])
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["n"], figures["n_anomaly"], figures["faults_found"]) == (765, 41, 1)
