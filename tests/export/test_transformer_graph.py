"""Vision transformers as graphs, against PyTorch, on random weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from anomaly.cache import CACHE
from anomaly.export import traced
from anomaly.export.onnx_stages import OnnxStages
from anomaly.export.precision import fp16_extractor
from anomaly.export.traced import extractor_graph, kept_path
from anomaly.export.writer import GraphWriter
from anomaly.features.backbones import load_backbone
from anomaly.features.stages import Stages

PLAIN = "untrained:vit_tiny_patch16_224"
REGISTERS = "untrained:vit_small_patch14_reg4_dinov2"
ROTARY = "untrained:vit_tiny_patch16_dinov3_qkvb"


def transformer(name: str, seed: int = 0) -> Stages:
    """Two blocks in which everything matters and no two weights are alike: as trained ones, random ones come with zeros and ones."""
    extractor, _ = load_backbone(name, ["blocks.0", "blocks.1"])
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in extractor.named_parameters():
        wide = 1.0 if parameter.ndim < 2 or "embed" in key or "token" in key else 1 / math.sqrt(parameter[0].numel())
        parameter.copy_(wide * torch.randn(parameter.shape, generator=generator))
    return extractor


def pictures(count: int, *size: int) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


SIZES = [(REGISTERS, (56, 84)), (ROTARY, (64, 112))]  # the same for all tests, so that each is traced once


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_the_graph_answers_as_pytorch_at_other_sizes_than_the_pretraining_and_in_batches(name: str, size: tuple[int, int]) -> None:
    extractor = transformer(name)
    graph = OnnxStages(extractor)
    for count in (1, 8):
        x = pictures(count, *size)
        with torch.inference_mode():
            expected = extractor(x)
        for ours, theirs in zip(graph(x), expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-5 * float(theirs.abs().max()), rtol=0)


def test_other_weights_take_the_kept_graph_which_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path))
    x = pictures(2, 64, 48)
    extractor_graph(transformer(PLAIN), x)
    path = kept_path(transformer(PLAIN), x)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(traced, "trace", None)  # the next ones must do without
    other = transformer(PLAIN, 1)
    with torch.inference_mode():
        for ours, theirs in zip(OnnxStages(other)(x), other(x), strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)
    paths = {kept_path(transformer(name), x) for name in (PLAIN, ROTARY)} | {kept_path(transformer(PLAIN), pictures(2, 48, 64))}
    assert len(paths) == 3


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_a_transformers_products_are_halved_and_answer_nearly_the_same(name: str, size: tuple[int, int]) -> None:
    extractor = transformer(name)
    x = pictures(2, *size)
    model, weights = extractor_graph(extractor, x)
    write = GraphWriter()
    own = write.input("x", np.float32, ["N", *x.shape[1:]])
    for index, value in enumerate(write.inline(model, {model.graph.input[0].name: own}, weights)):
        write.output(value, f"stage{index}", np.float32, ["N", None, None, None])
    whole = write.content()
    half = fp16_extractor(whole)
    assert half is not None
    assert len(half) < 0.6 * len(whole)  # positions and normalisations alone stay whole
    answers = [ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()}) for graph in (whole, half)]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=0.05)
        assert not np.array_equal(theirs, ours)
