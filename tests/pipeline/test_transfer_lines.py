"""From another line to this one, as a user would: cameras and sensors, through bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.cli.main import app
from anomaly.data.samples.generated import generated, write_generated
from anomaly.data.samples.synthetic import plant
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import open_session
from anomaly.errors import AnomalyError, DataError, SpecError, WeightsError
from anomaly.evaluation.report.curve import write_curve
from anomaly.evaluation.transfer import ALONE
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.curve import ALL, camera_curve, sensor_curve
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import Pretrain, SensorSpec, Transfer, read_spec
from tests.conftest import Fitted

runner = CliRunner()


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def darker(camera: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same parts seen by a darker camera."""
    root = tmp_path_factory.mktemp("darker")
    for path in (camera.data / "train" / "good").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) * 0.6).astype(np.uint8)).save(root / path.name)
    return root


def test_batch_norm_from_a_brighter_camera_and_on_to_a_third_line(camera: Fitted, darker: Path, tmp_path: Path) -> None:
    out, spec = tmp_path / "b.anomaly", camera.spec
    normals = camera.data / "train" / "good"
    arguments = (
        "transfer",
        camera.bundle,
        spec,
        "--data",
        darker,
        "--normals",
        normals,
        "--method",
        "batch-norm",
        "--work",
        tmp_path / "w",
    )
    said = run(*arguments, "--out", out)
    assert "taken: batch-norm; asked for" in said
    bundle = read_bundle(out)
    found = bundle.manifest.provenance["fit"]["extractor"]["transfer"]
    assert set(found["ways"]) == {"batch-norm"}
    assert found["ways"]["batch-norm"]["verdict"] in said
    assert CARRIED in bundle.members
    assert self_test(bundle, open_session(bundle, "cpu")) > 0
    run(*arguments, "--out", tmp_path / "again.anomaly")
    assert read_bundle(tmp_path / "again.anomaly").hash == bundle.hash
    third = Steps(
        CameraLine(read_spec(spec).model_copy(update={"transfer": Transfer(source=out, method="frozen")}), normals), tmp_path / "w3"
    )  # type: ignore[arg-type]
    about = third.line.pretrain(tmp_path / "e.safetensors", lambda _: None)
    assert about["changed"]  # frozen, but no longer as packaged: the next bundle must carry it too


def test_auto_from_normals_alone_judges_every_way(camera: Fitted, darker: Path, tmp_path: Path) -> None:
    spec = tmp_path / "s.toml"
    spec.write_text(camera.spec.read_text().replace('method = "none"', 'method = "auto"\nepochs = 1\nmax_minutes = 0.2'))
    said = run("transfer", darker, spec, "--data", camera.data, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    found = read_bundle(tmp_path / "b.anomaly").manifest.provenance["fit"]["extractor"]["transfer"]
    assert set(found["ways"]) == {"finetune", "coral", "batch-norm", "deep-coral", "dann"}
    assert f"taken: {found['method']}" in said
    best = max(found["ways"].values(), key=lambda way: way["auroc"])
    assert (found["method"] == "target only") == (best["verdict"] != "helps")


def test_labelled_faults_become_a_vote_in_the_graph_or_are_refused(camera: Fitted, tmp_path: Path) -> None:
    faults = camera.data / "test"
    out = tmp_path / "b.anomaly"
    said = run(
        "transfer", camera.bundle, camera.spec, "--data", camera.data / "train" / "good", "--method", "tradaboost",
        "--faults", faults, "--source-faults", faults, "--out", out, "--work", tmp_path / "w",
    )  # fmt: skip
    bundle = read_bundle(out)
    labels = bundle.manifest.provenance["fit"]["extractor"]["transfer"]["few_labels"]
    assert labels["faults"] == 10
    assert f"vote {labels['vote']}" in said
    assert bundle.manifest.parity["real"]["decisions_that_differ"] == 0
    assert {"adaboost", "tradaboost", "over_normal_only"} <= set(labels)


def test_sources_are_ranked_and_a_curve_is_drawn(camera: Fitted, darker: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.mkdir()
    for i in range(16):
        Image.fromarray(np.random.default_rng(i).integers(255, size=(96, 96)).astype(np.uint8)).save(noise / f"{i}.png")
    run("sources", camera.spec, "--data", camera.data, "--source", noise, "--source", darker, "--json", tmp_path / "s.json")
    ranked = json.loads((tmp_path / "s.json").read_text())
    assert [Path(row["source"]).name for row in ranked] == [darker.name, "noise"]
    assert ranked[0]["nearest_ratio"] < ranked[1]["nearest_ratio"]
    spec = read_spec(camera.spec).model_copy(update={"transfer": Transfer(normals=darker, method="coral")})
    curve = camera_curve(CameraLine(spec, camera.data), "coral", (5, 1000), 2, lambda _: None)  # type: ignore[arg-type]
    assert sorted(set(curve["normals"])) == [5, 24]
    assert curve["auroc"].between(0, 1).all()
    assert len(curve[(curve["way"] == "coral") & (curve["normals"] == 5)]) == 2
    run("curve", darker, camera.spec, "--data", camera.data, "--method", "coral", "--seeds", 1, "--out", tmp_path / "c.html")
    assert "the target alone" in (tmp_path / "c.html").read_text()
    assert len(pd.read_csv(tmp_path / "c.csv")) == 8  # 5, 10, 20 and all 24, both ways


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "coral"], "needs the source line's normal data"),
        (["--method", "tradaboost"], "needs labelled faults of this line"),
        (["--normals", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_is_missing_is_said_before_any_work(camera: Fitted, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        run("transfer", camera.bundle, camera.spec, "--data", camera.data, "--out", tmp_path / "b.anomaly", *arguments)


def test_a_source_of_another_make_is_refused(camera: Fitted, sensor: Fitted, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(camera.spec.read_text().replace("[scorer]", '[extractor]\nstages = ["blocks.4", "blocks.5", "blocks.3"]\n[scorer]'))
    with pytest.raises(WeightsError, match="stages"):
        run("transfer", camera.bundle, other, "--data", camera.data, "--out", tmp_path / "b.anomaly")
    with pytest.raises(WeightsError, match="kind"):
        run("transfer", sensor.bundle, camera.spec, "--data", camera.data, "--out", tmp_path / "b.anomaly")
    with pytest.raises(SpecError, match="is for cameras"):
        run(
            "transfer", sensor.data / "train.csv", sensor.spec, "--data", sensor.data, "--method", "dann", "--out", tmp_path / "b.anomaly"
        )  # fmt: skip


# --- sensors ---


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
    curve = sensor_curve(SensorLine(spec, line), (20, 200, ALL), 2, lambda _: None)
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
        sensor_curve(SensorLine(spec, line / "train.csv"), (20,), 1, lambda _: None)
    with pytest.raises(DataError, match="8 are needed"):
        sensor_curve(SensorLine(spec, line), (5,), 1, lambda _: None)


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
    assert SensorLine(read_spec(spec), path).normals.windows.shape == (471, 30, 2)  # type: ignore[arg-type]


def test_a_source_without_an_encoder_says_so(sensor: Fitted, tmp_path: Path) -> None:
    spec, weights = tmp_path / "s.toml", tmp_path / "e.safetensors"
    spec.write_text('kind = "sensor"\n[pretrain]\nmethod = "none"\n')
    run("pretrain", spec, "--data", sensor.data, "--out", weights, "--work", tmp_path / "w")
    with pytest.raises(AnomalyError, match="nothing to transfer"):
        run("transfer", weights, spec, "--data", sensor.data, "--out", tmp_path / "b.anomaly")


@pytest.mark.timeout(300)
def test_the_flow_leaves_the_guards_verdict_as_an_artifact(sensor: Fitted, tmp_path: Path) -> None:
    from prefect.artifacts import Artifact
    from prefect.testing.utilities import prefect_test_harness

    from flows.pipeline import transfer_flow  # first, for it sets Prefect up offline

    normals = machine(tmp_path / "other.csv", 1500, 12, 1.5, 3.0)
    spec = tmp_path / "s.toml"
    spec.write_text(f'{sensor.spec.read_text()}[transfer]\nnormals = "{normals}"\nmethod = "batch-norm"\n')
    with prefect_test_harness(server_startup_timeout=120):
        bundle = transfer_flow(spec, sensor.data, tmp_path / "w")
        artifact = Artifact.get("pump-transfer")
        assert artifact is not None
        assert "| batch-norm |" in str(artifact.data)
        with pytest.raises(SpecError, match="names no source"):
            transfer_flow(sensor.spec, sensor.data, tmp_path / "w")
    found = read_bundle(bundle).manifest.provenance["fit"]["extractor"]["transfer"]
    assert found["method"] == "batch-norm"
    assert found["ways"]["batch-norm"]["verdict"] in str(artifact.data)
