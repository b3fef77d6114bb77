"""`anomaly pretrain` and `fit`, as a user types them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, SpecError
from tests.conftest import Fitted, run


def test_pretrain_then_fit_with_its_extractor(sensor: Fitted, tmp_path: Path) -> None:
    weights, bundle, spec = tmp_path / "e.safetensors", tmp_path / "b.anomaly", tmp_path / "s.toml"
    plain = run("pretrain", sensor.spec, "--data", sensor.data, "--out", weights, "--work", tmp_path / "w")
    assert "nothing was trained, as the spec says" in plain
    spec.write_text(sensor.spec.read_text().replace("[pretrain]", '[pretrain]\nmethod = "auto"'))
    said = " ".join(run("pretrain", spec, "--data", sensor.data, "--out", weights, "--work", tmp_path / "w").split())
    assert "adaptation to the normals" in said
    assert "over the kernels as they were" in said
    said = run("fit", spec, "--data", sensor.data, "--extractor", weights, "--out", bundle, "--work", tmp_path / "w")
    assert "its p-value is at or below 0.02" in said
    assert re.search(r"found, at the threshold: .*step \d+%.*, wrong moment \d+%", " ".join(said.split()))
    assert "nothing has changed" in run(
        "fit", spec, "--data", sensor.data, "--extractor", weights, "--out", bundle, "--work", tmp_path / "w"
    )


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
    found = re.fullmatch(
        r"train\.csv, [\d-]+ [\d:]+Z to [\d-]+ [\d:]+Z \(data rows (\d+) to (\d+)\)", max(suspects, key=lambda where: suspects[where])
    )
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
    fault = frame.iloc[530:560][["flow", "force", "heat"]].to_numpy(np.float32)[None]
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


def test_errors_come_before_any_work(sensor: Fitted, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('kind = "sensor"\n[input]\nwindw = 30\n')
    with pytest.raises(SpecError, match="did you mean `window`"):
        run("fit", bad, "--data", sensor.data, "--out", tmp_path / "b", "--work", tmp_path / "w")
    with pytest.raises(DataError, match="no such file or folder"):
        run("fit", sensor.spec, "--data", "nowhere", "--out", tmp_path / "b", "--work", tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_unit_that_is_not_known_is_pointed_out(like_skab: Path, tmp_path: Path) -> None:
    units = '[input]\nsensors = [{name = "flow", unit = "gpm"}, {name = "force", unit = "barr"}, {name = "heat", unit = "degC"}]'
    spec = without_encoder(tmp_path, units)
    data = like_skab / "anomaly-free" / "anomaly-free.csv"
    said = run("fit", spec, "--data", data, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    assert "note: units that pint does not know, shown as they are written: gpm, barr\n" in said
    assert [sensor.unit for sensor in read_bundle(tmp_path / "b.anomaly").manifest.input.sensors] == ["gpm", "barr", "degC"]


@pytest.mark.usefixtures("short_export")
def test_one_broken_picture_does_not_stop_a_fit(camera: Fitted, tmp_path: Path) -> None:
    shutil.copytree(camera.data / "train" / "good", tmp_path / "good")
    (tmp_path / "good" / "broken.jpg").write_bytes((tmp_path / "good" / "000.jpg").read_bytes()[:900])
    run("fit", camera.spec, "--data", tmp_path / "good", "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w", "--quick")
    report = read_bundle(tmp_path / "b.anomaly").manifest.provenance["fit"]
    assert report["normals"] == 24
    assert "damaged or cut short" in report["rejected"]["broken.jpg"]
