"""A network's first layers in strips answer as they do for the whole picture, whatever its size, in floats and in whole numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from anomaly.export.lower import lower
from anomaly.export.precision import int8_extractor
from anomaly.export.rewrite import strips
from anomaly.export.rewrite.strips import in_strips
from anomaly.export.writer import GraphWriter, Search
from anomaly.features.preprocess import ImagePreprocess
from anomaly.scorers.pictures.patches import fit_patch_bank


def network(size: tuple[int, int], first: str = "Conv") -> onnx.ModelProto:
    """Preprocessing and convolutions of several heights, steps and edges, some of them side by side: down to an eighth of the picture."""
    rng, write = np.random.default_rng(0), GraphWriter()

    def layer(x: str, channels: int, out: int, high: int, step: int = 1, **attributes: object) -> str:
        weights = (rng.standard_normal((out, channels // int(str(attributes.get("group", 1))), high, high)) / high / channels**0.5).astype(
            np.float32
        )
        given = {"strides": [step, step], "pads": [high // 2] * 4, **attributes}
        return write.op("Conv", x, weights, rng.standard_normal(out).astype(np.float32), **given)

    image = write.input("image", np.uint8, ["N", "H", "W", 3])
    (x,) = lower(ImagePreprocess(size, (127.0,) * 3, (60.0,) * 3), write, image)
    if first == "MaxPool":
        x = write.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = write.op("Clip", layer(x, 3, 8, 3, 2, pads=[0, 0, 1, 1]), 0.0, 6.0)
    x = write.op("Clip", layer(x, 8, 8, 3, group=8, dilations=[2, 2], pads=[2, 2, 2, 2]), 0.0, 6.0)
    x = write.op("Relu", layer(x, 8, 12, 1))
    x = write.op("Clip", layer(x, 12, 12, 5, 2, group=12), 0.0, 6.0)
    x = layer(x, 12, 6, 1)
    x = write.op("Add", x, layer(write.op("Clip", layer(x, 6, 16, 3), 0.0, 6.0), 16, 6, 3))
    x = write.op("Clip", layer(x, 6, 24, 1), 0.0, 6.0)
    write.output(layer(x, 24, 10, 3, 2), "stage0", np.float32, ["N", 10, size[0] // 8, size[1] // 8])
    return onnx.load_from_string(write.content())


def answers(graph: bytes, raw: np.ndarray) -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"image": raw})[0]
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are large, and strips low, at sizes that a test can afford."""
    monkeypatch.setattr(strips, "LARGE", 1000)
    monkeypatch.setattr(strips, "PIXELS", 800)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [(64, 64), (96, 40), (72, 200)])
@pytest.mark.parametrize("arithmetic", ["float", "int8"])
def test_strips_answer_as_the_whole(size: tuple[int, int], arithmetic: str) -> None:
    raw = np.random.default_rng(1).integers(256, size=(3, 90, 110, 3)).astype(np.uint8)
    model: onnx.ModelProto | None = network(size)
    if arithmetic == "int8":
        assert model is not None
        model = int8_extractor(model, [raw[:1], raw[1:2]])
    assert model is not None
    whole = model.SerializeToString()
    cut = in_strips(whole, size)
    kinds = [node.op_type for node in onnx.load_from_string(cut).graph.node]
    assert kinds.count("Conv") > 3 * 9  # the eight of the network, most of them several times
    np.testing.assert_allclose(answers(cut, raw), answers(whole, raw), rtol=1e-4, atol=1e-4)
    assert cut == in_strips(whole, size)


@pytest.mark.usefixtures("small")
def test_layers_that_are_not_known_and_small_pictures_stay_whole() -> None:
    pooled, small = network((64, 64), first="MaxPool").SerializeToString(), network((24, 24)).SerializeToString()
    assert in_strips(pooled, (64, 64)) == pooled
    assert in_strips(small, (24, 24)) == small


@pytest.mark.parametrize("search", ["blocks", "integers"])
def test_places_of_a_large_grid_are_searched_in_portions(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(20, 8, 6, 7, generator=generator)
    bank, _ = fit_patch_bank(maps, 20, "unit", 300, 1.0, generator)

    def graph() -> bytes:
        write = GraphWriter(search=search)
        own = write.input("image", np.float32, ["N", 8, 6, 7])
        write.shapes[own] = (8, 6, 7)
        write.output(lower(bank, write, own)[0], "map", np.float32, ["N", 1, 6, 7])
        return write.content()

    whole = graph()
    monkeypatch.setattr("anomaly.export.search.PLACES", 9)
    portions = graph()
    assert [node.op_type for node in onnx.load_from_string(portions).graph.node].count("Slice") == 5
    for count in (0, 1, 3):
        asked = torch.randn(count, 8, 6, 7, generator=generator).numpy()
        np.testing.assert_allclose(answers(portions, asked), answers(whole, asked), rtol=1e-5, atol=1e-5)
