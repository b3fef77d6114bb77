"""The exported graph decides as the PyTorch detector does, or there is no export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image

from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import ExportError
from anomaly.export.onnx_graph import check_parity, export_onnx
from anomaly.pipeline.camera.line import CameraLine
from anomaly.pipeline.kinds import open_line
from anomaly.pipeline.steps import Steps
from anomaly.scorers.pictures.patches import PatchBank
from anomaly.spec import Bank, Budget, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, PoolSpec, Pretrain, read_spec
from tests.conftest import Fitted


@pytest.mark.parametrize("kind", ["camera", "sensor"])
def test_200_random_and_200_real_inputs_agree(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    bundle = read_bundle(fitted.bundle)
    for inputs in ("random", "real"):
        parity = bundle.manifest.parity[inputs]
        assert parity["inputs"] == 200
        assert parity["max_relative_score"] < 1e-4
        assert parity["decisions_that_differ"] == 0
    # and once more here, on inputs the export has not seen
    detector, session = fitted.steps.detector(), Session(bundle.detector, "cpu")
    examples = fitted.steps.line.examples(bundle.manifest.input, 40, np.random.default_rng(99))
    p = bundle.manifest.threshold.p_value
    assert check_parity(detector, lambda raw: session.run(raw)[:2], [*examples.noise, *examples.real], p).decisions_that_differ == 0


def test_rows_that_follow_each_other_are_answered_as_windows_are_in_any_portions(sensor: Fitted) -> None:
    bundle = read_bundle(sensor.bundle)
    assert bundle.manifest.parity["stream"]["inputs"] == 2000 - 29
    session = open_session(bundle, "cpu")
    rng = np.random.default_rng(1)
    rows = np.cumsum(rng.standard_normal((700, 8)), axis=0).astype(np.float32)
    rows[100:150] = rows[400:405, 2] = np.nan  # all sensors are away for a while, then one
    windows = np.lib.stride_tricks.sliding_window_view(rows, 30, axis=0).transpose(0, 2, 1)
    expected = session.run(np.ascontiguousarray(windows))
    at_once, portions, end = session.run_stream(rows), [], 29
    while end < 700:
        count = min(int(rng.choice([1, 1, 1, 2, 7, 40])), 700 - end)
        portions.append(session.run_stream(rows[end - 29 : end + count]))
        end += count
    for index, theirs in enumerate(expected):
        assert len(theirs) == 700 - 29
        np.testing.assert_allclose(at_once[index], theirs, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(np.concatenate([p[index] for p in portions]), theirs, rtol=1e-4, atol=1e-3)


MAIN = (Bank(stage="", metric="raw", size=200), Bank(stage="", metric="unit", size=100, model="gaussian"))
LITE = tuple(bank.model_copy(update={"stage": stage}) for bank, stage in zip(MAIN, ("blocks.4", "blocks.5"), strict=True))
FILTERS = tuple(bank.model_copy(update={"stage": stage}) for bank, stage in zip(MAIN, ("mean", "peak"), strict=True))
FINE = (
    Bank(stage="blocks.2", metric="unit", size=300, view="fine"),
    Bank(stage="blocks.2", metric="raw", size=24, model="place", view="place"),
)


@pytest.mark.parametrize(
    ("backbone", "scorer"),
    [
        ("efficientnet_lite0", MemoryBankSpec(banks=LITE)),
        ("oriented_filters", MemoryBankSpec(banks=FILTERS)),
        (
            "efficientnet_lite0",
            MemoryBankSpec(
                banks=LITE + FINE,
                pools=(PoolSpec(view="main"), PoolSpec(view="fine", share=0.0), PoolSpec(view="place", share=0.002)),
            ),
        ),
    ],
    ids=["network", "filters", "several views"],
)
def test_long_pictures_keep_their_proportions(tmp_path: Path, backbone: str, scorer: MemoryBankSpec) -> None:
    rng = np.random.default_rng(3)
    stripes = 110 + 30 * np.sin(np.arange(600) / 7.0)
    for i in range(20):
        Image.fromarray((stripes + 4 * rng.standard_normal((150, 600))).clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    spec = CameraSpec(
        kind="camera",
        input=CameraInput(size=(128, 512)),
        extractor=CameraExtractor(backbone=backbone, stages=tuple(dict.fromkeys(bank.stage for bank in scorer.banks))),
        scorer=scorer,
        pretrain=Pretrain(method="none"),
    )
    detector = Steps(CameraLine(spec, tmp_path), tmp_path / "w").detector()
    marked = (stripes + 4 * rng.standard_normal((150, 600))).clip(0, 255).astype(np.uint8)
    marked[60:90, 450:480] = 255
    pair = np.stack([marked[:, :, None], np.ascontiguousarray(marked[:, ::-1, None])])
    for search in ("blocks", "whole"):
        session = Session(export_onnx(detector, pair, search=search), "cpu")
        assert check_parity(detector, lambda raw: session.run(raw)[:2], [pair], 0.05).max_relative_score < 1e-4
    _, p, maps = session.run(pair)
    np.testing.assert_allclose(maps, detector.run(pair)[2], atol=2e-3)
    assert maps.shape[-1] == 4 * maps.shape[-2]
    assert p[0] < 0.05
    row, column = np.unravel_index(int(maps[0].argmax()), maps[0].shape[-2:])
    assert abs((row + 0.5) / maps.shape[-2] - 0.5) < 0.2
    assert abs((column + 0.5) / maps.shape[-1] - 465 / 600) < 0.1


@pytest.mark.parametrize("kind", ["camera", "sensor"])
def test_export_twice_gives_the_same_bytes(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Fitted = request.getfixturevalue(kind)
    bundle = read_bundle(fitted.bundle)
    noise = fitted.steps.line.examples(bundle.manifest.input, 4, np.random.default_rng(fitted.steps.line.spec.seed)).noise
    assert export_onnx(fitted.steps.detector(), noise[0][:2]) == bundle.detector


def test_signatures_are_the_contract(camera: Fitted, sensor: Fitted) -> None:
    answer = Session(read_bundle(camera.bundle).detector, "cpu").run(np.zeros((3, 77, 201, 3), np.uint8))
    assert answer.score.shape == answer.p_value.shape == (3,)
    assert answer.detail.shape == (3, 8, 8)
    assert {part.dtype for part in answer} == {np.dtype(np.float32)}
    answer = Session(read_bundle(sensor.bundle).detector, "cpu").run(np.full((2, 30, 8), np.nan, np.float32))
    assert answer.detail.shape == (2, 8)
    assert all(np.isfinite(part).all() for part in answer)


@pytest.mark.parametrize("block", [1024, 64])
def test_8_bit_search_is_the_float_search_of_rounded_queries(camera: Fitted, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """The search alone in 8 bits equals PyTorch on rounded queries; with small blocks a bank is searched in several products."""
    for name in ("anomaly.scorers.pictures.patches.BLOCK", "anomaly.export.search.BLOCK", "anomaly.export.search.LEAST"):
        monkeypatch.setattr(name, block)
    detector = camera.steps.detector()
    examples = camera.steps.line.examples(read_bundle(camera.bundle).manifest.input, 12, np.random.default_rng(5))
    pair = np.concatenate([examples.noise[0][:1], examples.noise[0][:1]])
    plain = Session(export_onnx(detector, pair), "cpu")
    parity = check_parity(detector, lambda raw: plain.run(raw)[:2], [*examples.noise, *examples.real], 0.01)
    assert parity.decisions_that_differ == 0
    graph = export_onnx(detector, pair, search="integers")
    assert export_onnx(detector, pair, search="integers") == graph
    small = Session(graph, "cpu")
    for bank in (b for b in detector.scorer.banks if isinstance(b, PatchBank)):
        exact = bank.distance
        bank.distance = lambda q, *rest, exact=exact: exact(torch.round(q).clamp(-127, 127), *rest)
    for raw in examples.real:
        with torch.inference_mode():
            expected = detector(torch.from_numpy(raw.copy()))[0].numpy()
        # a query on the edge between two whole numbers may fall either way
        np.testing.assert_allclose(small.run(raw).score, expected, atol=5e-3)
    assert any(abs(small.run(raw).score - plain.run(raw).score).max() > 0 for raw in examples.real)


@pytest.mark.parametrize("most", [16_384, 64])
def test_the_search_for_gpus_is_the_search_for_processors(camera: Fitted, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Also in several products, with patches that do not fill the last one."""
    monkeypatch.setattr("anomaly.export.search.MOST", most)
    detector = camera.steps.detector()
    examples = camera.steps.line.examples(read_bundle(camera.bundle).manifest.input, 12, np.random.default_rng(5))
    pair = np.concatenate([examples.noise[0][:1], examples.noise[0][:1]])
    graph = export_onnx(detector, pair, search="whole")
    assert "ReduceMin" not in {node.op_type for node in onnx.load_from_string(graph).graph.node}
    session = Session(graph, "cpu")
    parity = check_parity(detector, lambda raw: session.run(raw)[:2], [*examples.noise, *examples.real], 0.01)
    assert parity.decisions_that_differ == 0
    for raw in (np.concatenate(examples.real[:3]), examples.real[0][:0]):  # a batch, and none at all
        assert len(session.run(raw).score) == len(raw)


def test_a_graph_that_decides_otherwise_is_refused(sensor: Fitted) -> None:
    detector = sensor.steps.detector()
    bundle = read_bundle(sensor.bundle)
    session = Session(bundle.detector, "cpu")
    real = sensor.steps.line.examples(bundle.manifest.input, 50, np.random.default_rng(0)).real
    with torch.no_grad():
        detector.preprocess.center += 0.01 * detector.preprocess.scale
    with pytest.raises(ExportError, match=r"does not decide as the PyTorch detector.*the worst is record \d"):
        check_parity(detector, lambda raw: session.run(raw)[:2], real, 0.01)


def test_a_camera_without_weights_goes_the_whole_way(camera: Fitted, tmp_path: Path) -> None:
    spec = read_spec(Path("specs/camera-no-weights.toml")).model_copy(update={"input": CameraInput(size=128)})
    steps = Steps(open_line(spec, camera.data), tmp_path / "work")
    bundle = read_bundle(steps.export())
    assert bundle.manifest.provenance["fit"]["extractor"]["source"]["weights"] == "none (fixed filters)"
    assert bundle.manifest.provenance["fit"]["extractor"]["adaptation"]["why"] == "fixed filters have nothing to adapt"
    assert bundle.manifest.parity["real"]["decisions_that_differ"] == 0
    assert bundle.manifest.metrics["image_auroc"] > 0.6


def test_gaussians_alone_go_the_whole_way(camera: Fitted, tmp_path: Path) -> None:
    """A scorer that keeps no patches: all variants without a search, and no defect of the samples is missed at a loose threshold."""
    spec = read_spec(Path("specs/camera-dirty-normals.toml"))
    changes = {"input": CameraInput(size=128), "pretrain": Pretrain(method="none"), "budget": Budget(false_alarm_rate=0.05)}
    steps = Steps(open_line(spec.model_copy(update=changes), camera.data), tmp_path / "work")
    bundle = read_bundle(steps.export())
    assert bundle.manifest.parity["real"]["decisions_that_differ"] == 0
    assert {"int8", "int8_convolutions"} & set(bundle.manifest.parity)  # judged, with nothing to search
    assert bundle.manifest.metrics["image_auroc"] > 0.8
    assert len(bundle.detector) < 20_000_000


def test_scaling_a_unit_changes_nothing(sensor: Fitted, tmp_path: Path) -> None:
    """The same readings in other units, fitted and scored, give the same p-values."""
    source = sensor.steps.line
    factor = np.array([1000, 0.001, 60, 1e5, 1, 25.4, 3.28, 0.01], dtype=np.float64)
    for name in ("train.csv", "test.csv"):
        frame = pd.read_csv(sensor.data / name)
        sensors = list(frame.columns[1:9])
        frame[sensors] = frame[sensors] * factor
        frame.to_csv(tmp_path / name, index=False)
    other = Steps(open_line(source.spec, tmp_path), tmp_path / "work")
    (windows,) = source.examples(source.input_schema(), 100, np.random.default_rng(0)).real
    scaled = (windows * factor).astype(np.float32)
    one, two = sensor.steps.detector(), other.detector()
    with torch.inference_mode():
        ours = one(torch.from_numpy(windows))[1].numpy()
        theirs = two(torch.from_numpy(scaled))[1].numpy()
    np.testing.assert_allclose(np.log(ours), np.log(theirs), atol=0.05)
