"""An extractor's graph is kept without its weights, made again when anything it depends on changes, and never met by other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from anomaly.cache import CACHE
from anomaly.export import traced
from anomaly.export.traced import extractor_graph, kept_path, shipped_path
from anomaly.export.writer import GraphWriter
from anomaly.features.backbones import load_backbone
from anomaly.features.backbones.convolutional import NetworkStages
from anomaly.features.backbones.weights import LITE_STAGES
from anomaly.features.stages import Stages, fold_batch_norm


@pytest.fixture(autouse=True)
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty cache; the names of the modules that were traced."""
    monkeypatch.setenv(CACHE, str(tmp_path))
    made: list[str] = []
    plain = traced.trace

    def counted(module: nn.Module, examples: list[Tensor], free: dict[int, str]) -> onnx.ModelProto:
        made.append(type(module).__name__)
        return plain(module, examples, free)

    monkeypatch.setattr(traced, "trace", counted)
    return made


@pytest.fixture(scope="module")
def kept_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file that is kept of `small()` at 16 by 16, traced once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.mktemp("cache")))
        answers(small(), pictures(16, 16))
        return kept_path(fold_batch_norm(small()), pictures(16, 16)).read_bytes()


@pytest.fixture
def kept(kept_content: bytes, traces: list[str]) -> Path:
    """The cache holds the graph of `small()` at 16 by 16, and nothing has been traced yet."""
    path = kept_path(fold_batch_norm(small()), pictures(16, 16))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(kept_content)
    traces.clear()
    return path


class Small(nn.Module):
    """Two convolutions and a residual, `scaled` by a constant that neither a parameter nor the list of modules shows."""

    def __init__(self, scaled: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1)
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x))
        second: Tensor = self.second(torch.relu(y) * self.scaled) + y
        return second


def small(seed: int = 0, scaled: float = 1.0, backbone: str = "small") -> Stages:
    torch.manual_seed(seed)
    found = NetworkStages(Small(scaled), ["second"]).eval()
    found.backbone = backbone
    return found


def answers(extractor: Stages, x: Tensor) -> None:
    """The kept graph with the extractor's weights answers as PyTorch does."""
    model, weights = extractor_graph(extractor, x)
    write = GraphWriter()
    own = write.input("x", np.float32, ["N", *x.shape[1:]])
    for index, value in enumerate(write.inline(model, {model.graph.input[0].name: own}, weights)):
        write.output(value, f"stage{index}", np.float32, ["N", None, None, None])
    session = ort.InferenceSession(write.content(), providers=["CPUExecutionProvider"])
    for batch in (x, x[:1], torch.cat([x, x])):
        with torch.inference_mode():
            expected = extractor(batch)
        for ours, theirs in zip(session.run(None, {"x": batch.numpy()}), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-4)


def pictures(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))


def test_other_weights_take_the_kept_graph_and_answer_as_themselves(kept: Path, traces: list[str]) -> None:
    for seed in (0, 1, 2):
        answers(small(seed), pictures(16, 16))
    assert traces == []


@pytest.mark.parametrize("change", ["size", "stage", "backbone", "code", "library"])
def test_what_the_graph_depends_on_makes_a_new_one(kept: Path, traces: list[str], change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if change == "library":
        monkeypatch.setattr(traced, "version", lambda name: "99.0")
    other = small(scaled=2.0 if change == "code" else 1.0, backbone="other" if change == "backbone" else "small")
    if change == "stage":
        other = NetworkStages(Small(), ["first", "second"]).eval()
        other.backbone = "small"
    answers(other, pictures(16, 32) if change == "size" else pictures(16, 16))
    assert len(traces) == 1


def test_the_graph_of_a_network_without_a_name_is_never_kept(traces: list[str]) -> None:
    for scaled in (1.0, 2.0):
        answers(small(0, scaled, backbone=""), pictures(16, 16))
    assert len(traces) == 2


class Standardised(nn.Module):
    """A convolution whose weights are standardised as they are used: the exporter computes constants from them."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        weight = self.raw.weight
        return [nn.functional.conv2d(x, (weight - weight.mean()) / weight.std(), self.raw.bias, padding=1)]


class StandardisedStages(Stages):
    def __init__(self, seed: int) -> None:
        super().__init__(["only"])
        torch.manual_seed(seed)
        self.network = Standardised()
        self.backbone = "standardised"

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.network(x)
        return found


def test_constants_computed_from_weights_are_not_taken_for_others(traces: list[str]) -> None:
    for seed in (0, 1, 0):
        answers(StandardisedStages(seed).eval(), pictures(8, 8))
    assert len(traces) >= 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_made_again(kept: Path, traces: list[str], damage: str) -> None:
    content = kept.read_bytes()
    middle = len(content) // 2
    kept.write_bytes({"cut": content[:-7], "flipped": content[:middle] + b"\xff\x00" + content[middle + 2 :], "empty": b""}[damage])
    answers(small(), pictures(16, 16))
    assert len(traces) == 1
    assert kept.read_bytes() == content


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_extractor_comes_with_the_package(traces: list[str], channels: int) -> None:
    """Where this fails after an update of timm: `python -m anomaly.export.traced` makes the graphs of the package again."""
    for stages, size in ((LITE_STAGES, (256, 256)), (LITE_STAGES[1:], (320, 192))):  # one graph serves all sizes
        extractor, _ = traced.default_extractor(stages, channels)
        x = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
        assert shipped_path(fold_batch_norm(extractor), torch.zeros(2, channels, 256, 256)).exists()
        answers(extractor, x)
    assert traces == []


def test_the_packaged_graph_is_the_one_that_would_be_made() -> None:
    extractor, _ = load_backbone("efficientnet_lite0", LITE_STAGES)
    x = torch.zeros(2, 3, 256, 256)
    folded = fold_batch_norm(extractor)
    weights = {name: tensor.contiguous().numpy() for name, tensor in folded.state_dict().items()}
    fresh = traced.without_weights(traced.trace(folded, [x], {0: "N"}), weights)
    kept = traced.read_graph(shipped_path(folded, x), weights)
    assert kept is not None
    assert [node.op_type for node in kept.graph.node] == [node.op_type for node in fresh.graph.node]
