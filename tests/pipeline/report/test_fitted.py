"""The report that every fit leaves: what it shows, where it goes, and that it changes nothing of the bundle."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly.bundle.archive import read_bundle
from anomaly.evaluation.report.detector import standing_out
from anomaly.pipeline.fitted import Fitted as FitResult
from anomaly.pipeline.report.camera import _speaks
from tests.conftest import Fitted, run


def _words(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", "", path.read_text()))


def _fit(fitted: Fitted, out: Path, *more: object) -> str:
    """The same fit once more: every step is found in the work folder."""
    return run("fit", fitted.spec, "--data", fitted.data, "--out", out, "--work", fitted.steps.work, "--force", *more)


def test_by_which_way_of_looking_marks_are_found() -> None:
    shown = {
        "mark_sizes": torch.tensor([4.0, 8.0, 16.0, 2.0]),
        "mark_scores": torch.tensor([2.0, 3.0, 4.0, 0.5]),
        "mark_speaks": torch.tensor([1, 1, 0, 0]),
    }
    fitted = FitResult("memory_bank", {}, np.zeros(4), 4.0, pd.DataFrame(), shown=shown)
    pools = [{"view": "main", "share": 0.02}, {"view": "blocks.2", "share": 0.0}]
    _, table = _speaks({"extractor": {"plan": {"scorer": {"pools": pools}}}}, fitted, 1.0)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["the worst 2 % of places", "33 %", "16 px"],
        ["the worst place, in fine detail (layer 2 of the network)", "67 %", "6 px"],
    ]
    assert _speaks({"extractor": {"plan": {"scorer": {"pools": pools[:1]}}}}, fitted, 1.0) == ()


def test_a_camera_fit_leaves_its_report(camera: Fitted, tmp_path: Path) -> None:
    said = _fit(camera, tmp_path / "part.anomaly")
    page = tmp_path / "part.html"
    assert f"report: {page}" in said
    words, text = _words(page), page.read_text()
    assert re.search(
        r"Expect 5 in 100 good parts flagged; of the normals held out [\d.]+ in 100 are flagged, 95 % interval [\d.]+ to [\d.]+\.", words
    )
    held_out = camera.steps.fitted.held_out
    at = int(np.argmax(held_out))
    shown = re.findall(r"<figcaption><b>([^<]+)</b>", text.replace("<wbr>", ""))
    assert shown[0] == camera.steps.line.pictures.readable[at].id  # type: ignore[attr-defined]
    assert "Made-up marks that are found, the smallest first" in words
    assert "Sizes tried" not in words  # the spec names the size
    assert "A picture takes" in words
    assert bundle_hash(tmp_path / "part.anomaly") in words
    assert "ci95" not in words  # no raw structures
    assert not re.search(r"\[0?\.\d+, ", words)


def bundle_hash(path: Path) -> str:
    return read_bundle(path).hash


def test_a_sensor_fit_leaves_its_report(sensor: Fitted, tmp_path: Path) -> None:
    _fit(sensor, tmp_path / "pump.anomaly", "--report", tmp_path / "seen.html")
    assert not (tmp_path / "pump.html").exists()
    words, text = _words(tmp_path / "seen.html"), (tmp_path / "seen.html").read_text()
    assert "Expect 2 in 100 normal moments flagged; of the normals held out" in words
    assert re.search(r"With the alarm rules on, these normals make \d+ alarms? in 2\.7\d h", words)
    assert "train.csv: what was learnt from" in words
    assert re.search(r"train\.csv, 2026-\d\d-\d\d \d\d:\d\d:\d\dZ: (unusual as about|rarer than) 1 normal moment in", words)
    assert "step on " in words
    assert ": missed" in words
    manifest = read_bundle(tmp_path / "pump.anomaly").manifest
    threshold = manifest.threshold.score
    assert threshold is not None
    scores = sensor.steps.fitted.report["injected_scores"]
    found = {kind: sum(score >= threshold for score in some) / len(some) for kind, some in scores.items()}
    assert manifest.provenance["fit"]["injected_found"] == pytest.approx(found, abs=1e-3)  # at the detector's own threshold
    for kind, share in found.items():
        name = kind.replace("_", " ")
        assert bool(re.search(rf"{name} on [^:]+: found", words)) == (share > 0)
        assert bool(re.search(rf"{name} on [^:]+: missed", words)) == (share < 1)
    assert "time (UTC)" in words
    assert text.count("data-hover=") >= 2


def test_a_report_changes_nothing_of_the_bundle(camera: Fitted, tmp_path: Path) -> None:
    _fit(camera, tmp_path / "with.anomaly")
    _fit(camera, tmp_path / "without.anomaly", "--no-report")
    assert not (tmp_path / "without.html").exists()
    assert (tmp_path / "with.anomaly").read_bytes() == (tmp_path / "without.anomaly").read_bytes() == camera.bundle.read_bytes()


def test_a_file_that_is_no_report_stays(sensor: Fitted, tmp_path: Path) -> None:
    (tmp_path / "pump.html").write_text("<p>ours</p>")
    assert "is no report, so none was written" in _fit(sensor, tmp_path / "pump.anomaly")
    assert (tmp_path / "pump.html").read_text() == "<p>ours</p>"


def test_a_report_of_the_same_bundle_stays_as_it_is(sensor: Fitted, tmp_path: Path) -> None:
    _fit(sensor, tmp_path / "pump.anomaly")
    before = (tmp_path / "pump.html").stat().st_mtime_ns
    _fit(sensor, tmp_path / "pump.anomaly")
    assert (tmp_path / "pump.html").stat().st_mtime_ns == before
    text = (tmp_path / "pump.html").read_text()
    (tmp_path / "pump.html").write_text(text.replace(bundle_hash(tmp_path / "pump.anomaly"), "0" * 64))
    _fit(sensor, tmp_path / "pump.anomaly")
    assert bundle_hash(tmp_path / "pump.anomaly") in (tmp_path / "pump.html").read_text()


def test_pictures_that_are_gone_leave_a_report_without_them(camera: Fitted, tmp_path: Path) -> None:
    data = shutil.copytree(camera.data, tmp_path / "data")
    run("fit", camera.spec, "--data", data, "--out", tmp_path / "a.anomaly", "--work", camera.steps.work)
    assert "Made-up marks" in _words(tmp_path / "a.html")
    assert bundle_hash(tmp_path / "a.anomaly") == bundle_hash(camera.bundle)


@pytest.mark.parametrize(
    ("suspects", "threshold", "found"),
    [
        ({"far": 1.0, "near": 9.5}, 10.0, ["near"]),
        ({"far": 1.0, "worst": 3.0}, 100.0, ["worst"]),
        ({}, 10.0, []),
        ({"b": 6.0, "a": 12.0}, 10.0, ["a", "b"]),
        ({"b": 6.0, "a": 12.0}, None, ["a", "b"]),
        ({"negative": -1.0, "far": -9.0}, -0.5, ["negative"]),
    ],
)
def test_suspects_far_below_the_threshold_are_not_told(suspects: dict[str, float], threshold: float | None, found: list[str]) -> None:
    assert list(standing_out(suspects, threshold, -10.0 if threshold == -0.5 else 0.0)) == found
