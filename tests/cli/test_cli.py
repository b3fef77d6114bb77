"""The fixed commands, as a user types them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from anomaly import __version__
from anomaly.bundle.archive import read_bundle
from anomaly.cli.main import app
from anomaly.data.samples.synthetic import write_samples
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, SpecError
from tests.conftest import Fitted
from tests.data.test_files import litter

runner = CliRunner()


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pretrain_then_fit_with_its_extractor(sensor: Fitted, tmp_path: Path) -> None:
    weights, bundle = tmp_path / "e.safetensors", tmp_path / "b.anomaly"
    assert "held out error" in run("pretrain", sensor.spec, "--data", sensor.data, "--out", weights, "--work", tmp_path / "w")
    said = run("fit", sensor.spec, "--data", sensor.data, "--extractor", weights, "--out", bundle, "--work", tmp_path / "w")
    assert "flagged at p <= 0.02" in said
    assert read_bundle(bundle).hash == read_bundle(sensor.bundle).hash
    assert "nothing has changed" in run(
        "fit", sensor.spec, "--data", sensor.data, "--extractor", weights, "--out", bundle, "--work", tmp_path / "w"
    )


def test_evaluate_camera_writes_the_figures(camera: Fitted, tmp_path: Path) -> None:
    run("evaluate", camera.bundle, "--data", camera.data, "--json", tmp_path / "f.json", "--report", tmp_path / "r.html")
    figures = json.loads((tmp_path / "f.json").read_text())
    wanted = {
        "image_auroc",
        "image_ap",
        "image_f1",
        "pixel_auroc",
        "pixel_aupro",
        "f1",
        "precision",
        "recall",
        "false_alarm_rate",
        "missed_alarm_rate",
    }
    assert wanted | {"n", "threshold", "ci95", "per_defect"} <= set(figures)
    assert figures["n"] == 16
    assert figures["image_auroc"] > 0.8
    low, high = figures["ci95"]["image_auroc"]
    assert low <= figures["image_auroc"] <= high
    page = (tmp_path / "r.html").read_text()
    assert "Defects ranked lowest" in page
    assert "http://" not in page  # self-contained
    assert "https://" not in page


def test_evaluate_sensor_writes_the_figures(sensor: Fitted, tmp_path: Path) -> None:
    run("evaluate", sensor.bundle, "--data", sensor.data, "--layout", "table", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    wanted = {"f1", "precision", "recall", "false_alarm_rate", "missed_alarm_rate", "roc_auc", "pr_auc", "vus_pr", "detection_delay_s"}
    assert wanted | {"n", "threshold", "false_alarms_per_day", "ci95"} <= set(figures)
    assert figures["n"] == 4000


def test_a_layout_of_another_kind_is_refused(sensor: Fitted) -> None:
    with pytest.raises(DataError, match="--layout mvtec does not fit a sensor bundle"):
        run("evaluate", sensor.bundle, "--data", sensor.data, "--layout", "mvtec")


def without_encoder(folder: Path, more: str = "") -> Path:
    """A spec of sensors that trains nothing."""
    spec = folder / "s.toml"
    spec.write_text(f'kind = "sensor"\n[pretrain]\nmethod = "none"\n{more}\n')
    return spec


def test_suspects_are_told_by_table_and_rows(like_skab: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(like_skab / "other" / "1.csv", sep=";").drop(columns=["anomaly", "changepoint"])
    frame.iloc[:540].to_csv(tmp_path / "train.csv", index=False)  # its last 40 rows are the fault
    spec = without_encoder(tmp_path)
    said = run("fit", spec, "--data", tmp_path / "train.csv", "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    suspects = read_bundle(tmp_path / "b.anomaly").manifest.provenance["fit"]["suspects"]
    found = re.fullmatch(r"train\.csv, data rows (\d+) to (\d+)", max(suspects, key=lambda where: suspects[where]))
    assert found is not None
    assert 480 <= int(found[1]) <= 510  # a window before may stand out a little, and is one stretch with it
    assert int(found[2]) == 540
    assert "among the normals stand out, for a person to look at" in said
    assert said.index(found[0]) < min(
        (said.index(where) for where in suspects if where != found[0]), default=len(said)
    )  # the worst comes first


def test_suspects_left_out_are_not_learnt(like_skab: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(like_skab / "other" / "1.csv", sep=";").drop(columns=["anomaly", "changepoint"])
    frame.iloc[:560].to_csv(tmp_path / "train.csv", index=False)  # its last 60 rows are the fault
    scores, fit = {}, {}
    fault = frame.iloc[330:560][["flow", "force", "heat"]].to_numpy(np.float32)[None]
    for suspects in ("list", "leave_out"):
        spec = without_encoder(tmp_path, f'[scorer]\nsuspects = "{suspects}"')
        run("fit", spec, "--data", tmp_path / "train.csv", "--out", tmp_path / f"{suspects}.anomaly", "--work", tmp_path / "w")
        bundle = read_bundle(tmp_path / f"{suspects}.anomaly")
        fit[suspects] = bundle.manifest.provenance["fit"]
        scores[suspects] = float(Session(bundle.detector, "cpu").run(fault).score[0])
    assert (fit["list"]["suspects_left_out"], fit["leave_out"]["suspects_left_out"]) == (False, True)
    assert fit["leave_out"]["suspects"] == fit["list"]["suspects"]  # both name them
    assert scores["leave_out"] > 1.1 * scores["list"]


def test_records_too_short_for_a_pseudo_run_are_refused(like_skab: Path, tmp_path: Path) -> None:
    from anomaly.errors import DataError

    short = tmp_path / "records"
    short.mkdir()
    pd.read_csv(like_skab / "anomaly-free" / "anomaly-free.csv", sep=";").head(500).to_csv(short / "r.csv", index=False)
    train = tmp_path / "train.csv"
    pd.read_csv(like_skab / "other" / "1.csv", sep=";").head(400).drop(columns=["anomaly", "changepoint"]).to_csv(train, index=False)
    spec = without_encoder(tmp_path, f'[calibration]\nrecords = "{short}"')
    with pytest.raises(DataError, match="no table of at least 800 normal rows in one piece, for 400 are learnt from here"):
        run("fit", spec, "--data", train, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")


def test_flat_folder_counts_false_alarms(camera: Fitted, tmp_path: Path) -> None:
    parts = litter(shutil.copytree(camera.data / "test" / "good", tmp_path / "parts"))
    run("evaluate", camera.bundle, "--data", parts, "--layout", "folder", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["n"] == 6
    assert figures["n_defect"] == 0
    assert figures["image_auroc"] is None
    assert 0 <= figures["false_alarm_rate"] <= 1


def test_score_files(camera: Fitted, sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    parts = litter(shutil.copytree(camera.data / "test" / "good", tmp_path / "parts"))
    said = run("score", camera.bundle, parts, tmp_path / "bad.jpg", "--json", tmp_path / "s.json")
    assert "bad.jpg: the file is empty" in said
    records = json.loads((tmp_path / "s.json").read_text())
    assert len(records) == 6
    assert set(records[0]) == {"record", "score", "p_value", "flagged"}
    run("score", sensor.bundle, sensor.data / "test.csv", "--csv", tmp_path / "s.csv")
    frame = pd.read_csv(tmp_path / "s.csv")
    assert frame["record"].iloc[0] == "test.csv:31"
    assert {"time", "score", "p_value", "top_sensor", "flagged"} <= set(frame)


def test_errors_come_before_any_work(sensor: Fitted, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('kind = "sensor"\n[input]\nwindw = 30\n')
    with pytest.raises(SpecError, match="did you mean `window`"):
        runner.invoke(
            app,
            ["fit", str(bad), "--data", str(sensor.data), "--out", str(tmp_path / "b"), "--work", str(tmp_path / "w")],
            catch_exceptions=False,
        )
    with pytest.raises(DataError, match="no such file or folder"):
        runner.invoke(app, ["fit", str(sensor.spec), "--data", "nowhere", "--out", str(tmp_path / "b")], catch_exceptions=False)
    assert not (tmp_path / "w").exists()


def test_a_unit_that_is_not_known_is_pointed_out(like_skab: Path, tmp_path: Path) -> None:
    units = '[input]\nsensors = [{name = "flow", unit = "gpm"}, {name = "force", unit = "barr"}, {name = "heat", unit = "degC"}]'
    spec = without_encoder(tmp_path, units)
    data = like_skab / "anomaly-free" / "anomaly-free.csv"
    said = run("fit", spec, "--data", data, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    assert "note: unit 'gpm' is not known to pint and is shown as written\n" in said
    assert "note: unit 'barr' is not known to pint and is shown as written; did you mean 'bar'?" in said
    assert "degC" not in said
    assert [sensor.unit for sensor in read_bundle(tmp_path / "b.anomaly").manifest.input.sensors] == ["gpm", "barr", "degC"]


def test_one_broken_picture_does_not_stop_a_fit(camera: Fitted, tmp_path: Path) -> None:
    shutil.copytree(camera.data / "train" / "good", tmp_path / "good")
    (tmp_path / "good" / "broken.jpg").write_bytes((tmp_path / "good" / "000.jpg").read_bytes()[:900])
    run("fit", camera.spec, "--data", tmp_path / "good", "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    report = read_bundle(tmp_path / "b.anomaly").manifest.provenance["fit"]
    assert report["normals"] == 24
    assert "damaged or cut short" in report["rejected"]["broken.jpg"]


def test_shipped_samples_are_what_the_generator_makes(tmp_path: Path) -> None:
    write_samples(tmp_path)
    shipped = Path("data_samples")
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert made == sorted(p.relative_to(shipped) for p in shipped.rglob("*") if p.is_file() and p.suffix in (".jpg", ".png", ".csv"))
    assert sum((shipped / p).stat().st_size for p in made) < 3_000_000
    for name in ("plant/train.csv", "plant/test.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / name), pd.read_csv(shipped / name), rtol=1e-6)


def test_a_trivial_threshold_fails_on_the_sample_plant() -> None:
    """The faults hide inside the load changes: an alarm on the largest deviation, set on normals, misses most of them."""
    train, test = (pd.read_csv(f"data_samples/plant/{name}.csv") for name in ("train", "test"))
    sensors = list(train.columns[1:])
    seen, new = (((d[sensors] - train[sensors].mean()) / train[sensors].std()).abs().max(axis=1).fillna(0) for d in (train, test))
    flagged = new > seen.quantile(0.99)
    assert flagged[test["anomaly"] == 1].mean() < 0.3
    by_kind = flagged.groupby(test["fault_kind"]).mean()
    assert (by_kind > 0.5).sum() <= 1  # of five faults


def test_version() -> None:
    """The command tells the package's one version, by which work folders and bundles are told apart."""
    assert run("--version").strip() == f"anomaly-pipeline {__version__}"
