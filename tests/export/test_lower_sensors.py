"""Each part of a sensor detector, written as a graph, answers as its PyTorch module does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import anomaly.export.lower_sensors  # noqa: F401  (registers the functions)
from anomaly.export.detector import _Operations
from anomaly.export.lower import lower
from anomaly.export.writer import GraphWriter
from anomaly.features.encoder import SensorEncoder, SensorExtractor
from anomaly.features.preprocess import SensorPreprocess
from anomaly.scorers.boosted import Stump, Vote, vote_tensors, with_vote
from anomaly.scorers.sensors.choice import ViewPlan
from anomaly.scorers.sensors.views import Views, fit_views, with_units
from anomaly.scorers.sensors.windows import by_position
from tests.features.windows import kernels

Arrays = list[NDArray[np.float32]]


def both(
    module: nn.Module, inputs: Sequence[torch.Tensor], free: Sequence[int], *, listed: int = 0
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(PyTorch's, ONNX Runtime's) answers; axis `free[i]` of input i is left open, the first `listed` inputs are given as one list."""
    write = GraphWriter()
    names = []
    for index, (value, axis) in enumerate(zip(inputs, free, strict=True)):
        shape = [f"free{index}" if position == axis else size for position, size in enumerate(value.shape)]
        names.append(write.input(f"x{index}", np.float32, shape))
    answers = lower(module, write, *names)
    with torch.inference_mode():
        theirs = module(list(inputs[:listed]), *inputs[listed:]) if listed else module(*inputs)
    theirs = [theirs] if isinstance(theirs, torch.Tensor) else list(theirs)
    assert len(theirs) == len(answers)
    for index, (name, answer) in enumerate(zip(answers, theirs, strict=True)):
        write.output(name, f"y{index}", np.float32, [f"y{index}.{axis}" for axis in range(answer.ndim)])
    session = ort.InferenceSession(write.content(), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    return list(zip(theirs, map(torch.from_numpy, found), strict=True))


def agree(module: nn.Module, inputs: Sequence[torch.Tensor], free: Sequence[int], rtol: float = 1e-5, *, listed: int = 0) -> None:
    for theirs, ours in both(module.eval(), inputs, free, listed=listed):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)


def readings(count: int, rows: int, sensors: int, seed: int) -> torch.Tensor:
    """Raw windows (N, T, C) with single readings, whole rows and one sensor missing, and one reading far out."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, rows, sensors)).cumsum(axis=1).astype(np.float32)
    values += rng.normal(scale=10, size=sensors).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = np.nan
    values[rng.random((count, rows)) < 0.05] = np.nan
    values[0, : rows // 2] = np.nan
    values[-1, :, 0] = np.nan
    values[0, -1, -1] = 1e20
    return torch.from_numpy(values)


def preprocess(sensors: int, seed: int) -> SensorPreprocess:
    generator = torch.Generator().manual_seed(seed)
    return SensorPreprocess(10 * torch.randn(sensors, generator=generator), 0.5 + torch.rand(sensors, generator=generator))


def scorer(extractor: SensorExtractor, sensors: int) -> Views:
    """A scorer fitted on features of random windows; with one sensor more than a relation needs."""
    rows, plan = extractor.rows, ViewPlan(extractor.level, extractor.shape)
    z = torch.randn(60, 1, rows, sensors, generator=torch.Generator().manual_seed(3)) + torch.linspace(0, 2, 60)[:, None, None, None]
    with torch.inference_mode():
        features = SensorExtractor(extractor.level, extractor.shape, extractor.encoder)(torch.cat([z, torch.ones_like(z)], dim=1))
    views = fit_views(features, sensors, np.arange(60) * rows, plan, seed=0)
    return with_units(views, np.array([2.0, 0.5][: 2 if plan.shape else 1]))


SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([6, 9, 15, 30]), st.integers(1, 40), st.integers(0, 1000))


@given(shape=SHAPES, seen=st.sampled_from([0, 6, 11, 40]), learnt=st.sampled_from([0, 1, 4]))
@settings(max_examples=40, deadline=None)
def test_windows_are_scored_alike(shape: tuple[int, int, int, int], seen: int, learnt: int) -> None:
    count, window, sensors, seed = shape
    extractor = SensorExtractor(window, seen, kernels(learnt) if learnt else None).requires_grad_(False).eval()
    raw = readings(count, extractor.rows, sensors, seed)
    standard = preprocess(sensors, seed)
    agree(standard, [raw], [0])
    with torch.inference_mode():
        features = extractor(standard(raw))
    agree(extractor, [standard(raw)], [0], 1e-4)  # readings of hundreds of spreads, less their mean
    agree(scorer(extractor, sensors), features, [0] * len(features), 1e-4, listed=len(features))


@given(shape=SHAPES, seen=st.sampled_from([0, 6, 11, 40]), learnt=st.sampled_from([0, 2]))
@settings(max_examples=25, deadline=None)
def test_rows_that_follow_each_other_are_scored_alike(shape: tuple[int, int, int, int], seen: int, learnt: int) -> None:
    more, window, sensors, seed = shape
    extractor = SensorExtractor(window, seen, kernels(learnt) if learnt else None, every_row=True).eval()
    standard = preprocess(sensors, seed)
    x = standard(readings(1, extractor.rows + 7 * more - 7, sensors, seed))
    agree(extractor, [x], [2], 1e-4)
    with torch.inference_mode():
        features = by_position(extractor(x))
    agree(scorer(extractor, sensors), features, [0] * len(features), 1e-4, listed=len(features))


@given(shape=SHAPES, seen=st.sampled_from([0, 11]), every_row=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_vote_of_labelled_faults_raises_scores_alike(shape: tuple[int, int, int, int], seen: int, every_row: bool) -> None:
    more, window, sensors, seed = shape
    extractor = SensorExtractor(window, seen, every_row=every_row).eval()
    rows = extractor.rows + 7 * more - 7 if every_row else extractor.rows
    with torch.inference_mode():
        features = extractor(preprocess(sensors, seed)(readings(1 if every_row else more, rows, sensors, seed)))
        features = by_position(features) if every_row else features
        plain = scorer(SensorExtractor(window, seen).eval(), sensors)
        evidence = plain.evidence(features).double().numpy()
    rng = np.random.default_rng(seed)
    stumps = [Stump(int(rng.integers(evidence.shape[1])), float(rng.normal()), (0, 1) if rng.random() < 0.7 else (1, 0)) for _ in range(5)]
    spread = np.tile([[-50.0], [50.0]], evidence.shape[1])  # ramps wide enough for float32
    voted = with_vote(plain, vote_tensors(Vote(tuple(stumps), (1.0, 2.0, 0.5, 1.0, 1.0)), spread, sensors, floor=0.6), 1.0)
    agree(voted, features, [0] * len(features), 1e-4, listed=len(features))
    with torch.inference_mode():
        (score, share), (bare, _) = voted(features), plain(features)
    assert (score >= bare - 1e-5).all()
    torch.testing.assert_close(share.sum(dim=1), score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4, 8)])
def test_the_encoder_answers_alike(dilations: tuple[int, ...]) -> None:
    encoder = SensorEncoder(3, dilations).requires_grad_(False)
    agree(SensorExtractor(30, 41, encoder).eval(), [preprocess(5, 1)(readings(4, 41, 5, 1))], [0], 1e-4)


def test_a_graph_takes_any_number_of_windows_and_of_rows() -> None:
    """Sizes that are left open are not those of the example."""
    write = GraphWriter()
    raw = write.input("raw", np.float32, ["N", 30, 3])
    standard, extractor = preprocess(3, 0), SensorExtractor(30, 24).eval()
    fitted = scorer(extractor, 3).eval()
    score, _ = lower(fitted, write, *lower(extractor, write, *lower(standard, write, raw)))
    write.output(score, "score", np.float32, ["N"])
    session = ort.InferenceSession(write.content(), providers=["CPUExecutionProvider"])
    for count in (1, 2, 17):
        window = readings(count, 30, 3, count)
        with torch.inference_mode():
            expected = fitted(extractor(standard(window)))[0]
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"raw": window.numpy()})[0]), expected, rtol=1e-5, atol=1e-5)


def test_operations_are_counted_as_pytorch_counts_them() -> None:
    """Decomposed operators, batches and groups among them."""
    net = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.GELU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(2), nn.Linear(169, 5)).eval()

    def work() -> None:
        with torch.inference_mode():
            y = net(torch.zeros(2, 4, 32, 32))
            torch.einsum("abc,abd->acd", y, y @ y.transpose(1, 2) @ y)

    with _Operations() as ours:
        work()
    with FlopCounterMode(display=False) as theirs:
        work()
    assert ours.count == theirs.get_total_flops() > 0
