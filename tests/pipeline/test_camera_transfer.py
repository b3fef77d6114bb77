"""From another line to this one, as a user would: cameras, through bundles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.bundle.archive import CARRIED, read_bundle
from anomaly.edge.runtime.self_test import self_test
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import SpecError, WeightsError
from anomaly.features.build import load_vote
from anomaly.pipeline.camera.curve import camera_curve
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.steps import Steps
from anomaly.progress import silent
from anomaly.spec import Transfer, read_spec
from tests.conftest import Fitted, run

pytestmark = pytest.mark.usefixtures("short_export")


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
    assert "batch-norm is taken, as asked" in said
    assert "batch-norm is taken, as asked" in (tmp_path / "b.html").read_text()
    bundle = read_bundle(out)
    found = bundle.manifest.provenance["fit"]["extractor"]["transfer"]
    assert set(found["ways"]) == {"batch-norm"}
    assert f"batch-norm: AUROC {found['ways']['batch-norm']['auroc']:.3f}, " in said
    assert CARRIED in bundle.members
    assert self_test(bundle, open_session(bundle, "cpu")) > 0
    run(*arguments, "--out", tmp_path / "again.anomaly")
    assert read_bundle(tmp_path / "again.anomaly").hash == bundle.hash
    third = Steps(
        CameraLine(read_spec(spec).model_copy(update={"transfer": Transfer(source=out, method="frozen")}), normals), tmp_path / "w3"
    )  # type: ignore[arg-type]
    about = third.line.pretrain(tmp_path / "e.safetensors", silent)
    assert about["changed"]  # frozen, but no longer as packaged: the next bundle must carry it too


def test_auto_from_normals_alone_judges_every_way(camera: Fitted, darker: Path, tmp_path: Path) -> None:
    spec = tmp_path / "s.toml"
    spec.write_text(camera.spec.read_text().replace('method = "none"', 'method = "auto"\nepochs = 1\nmax_minutes = 0.05'))
    said = run("transfer", darker, spec, "--data", camera.data, "--out", tmp_path / "b.anomaly", "--work", tmp_path / "w")
    found = read_bundle(tmp_path / "b.anomaly").manifest.provenance["fit"]["extractor"]["transfer"]
    assert set(found["ways"]) == {"finetune", "coral", "batch-norm", "deep-coral", "dann"}
    alone = found["method"] == "target only"
    assert ("learns from this line alone" if alone else f"The other line helps: {found['method']} is taken") in said
    best = max(found["ways"].values(), key=lambda way: way["auroc"])
    assert (found["method"] == "target only") == (best["verdict"] != "helps")


def test_labelled_faults_that_the_normals_do_not_give_away_become_a_vote_in_the_graph(camera: Fitted, tmp_path: Path) -> None:
    """Good parts themselves, a little brighter: to the banks, which hold them, they look more normal than parts never seen."""
    faults, out = tmp_path / "faults", tmp_path / "b.anomaly"
    faults.mkdir()
    for path in sorted((camera.data / "train" / "good").iterdir())[:10]:
        Image.fromarray((np.asarray(Image.open(path)) * 0.9 + 12).astype(np.uint8)).save(faults / path.name)
    said = run(
        "transfer", camera.bundle, camera.spec, "--data", camera.data / "train" / "good", "--method", "tradaboost",
        "--faults", faults, "--source-faults", faults, "--out", out, "--work", tmp_path / "w",
    )  # fmt: skip
    bundle = read_bundle(out)
    labels = bundle.manifest.provenance["fit"]["extractor"]["transfer"]["few_labels"]
    assert labels["faults"] == 10
    assert {"adaboost", "tradaboost", "over_normal_only"} <= set(labels)
    assert labels["vote"] in ("adaboost", "tradaboost")
    assert f"The 10 labelled faults are used (by {labels['vote']})" in said
    assert bundle.manifest.parity["real"]["decisions_that_differ"] == 0
    ours, plain = (Session(read_bundle(path).detector, "cpu") for path in (out, camera.bundle))
    raised = [ours.run(raw).score[0] - plain.run(raw).score[0] for raw in (np.asarray(Image.open(p))[None] for p in faults.iterdir())]
    assert np.median(raised) > 0
    assert min(raised) > -1e-4  # a vote never lowers a score


def test_labelled_faults_that_stand_out_anyway_are_refused_as_a_vote(camera: Fitted, tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(255, size=(96, 96)).astype(np.uint8)).save(faults / f"{i}.png")
    spec = read_spec(camera.spec).model_copy(update={"transfer": Transfer(method="tradaboost", faults=faults)})
    about = CameraLine(spec, camera.data).pretrain(tmp_path / "e.safetensors", silent)  # type: ignore[arg-type]
    assert about["transfer"]["few_labels"]["over_normal_only"]["auroc"] == 1
    assert about["transfer"]["few_labels"]["vote"] == "none"
    assert load_vote(tmp_path / "e.safetensors") == {}


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
    curve = camera_curve(CameraLine(spec, camera.data), "coral", (5, 1000), 2, silent)  # type: ignore[arg-type]
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
    other.write_text(camera.spec.read_text().replace("[scorer]", '[extractor]\nbackbone = "untrained:efficientnet_lite1"\n[scorer]'))
    with pytest.raises(WeightsError, match="backbone"):
        run("transfer", camera.bundle, other, "--data", camera.data, "--out", tmp_path / "b.anomaly")
    with pytest.raises(WeightsError, match="kind"):
        run("transfer", sensor.bundle, camera.spec, "--data", camera.data, "--out", tmp_path / "b.anomaly")
    with pytest.raises(SpecError, match="is for cameras"):
        run(
            "transfer", sensor.data / "train.csv", sensor.spec, "--data", sensor.data, "--method", "dann", "--out", tmp_path / "b.anomaly"
        )  # fmt: skip
