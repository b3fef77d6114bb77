"""The greedy k-center coreset against its plain form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.scorers import coreset
from anomaly.scorers.coreset import greedy_coreset
from tests.reference import nearest as naive


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_coreset_is_the_greedy_one(seed: int, total: int, dimensions: int) -> None:
    points = torch.randn(total, dimensions, generator=torch.Generator().manual_seed(seed))
    count = max(1, total // 3)
    picked = greedy_coreset(points, count, torch.Generator().manual_seed(seed)).tolist()
    assert picked == naive.farthest_points(points.double().numpy(), count, picked[0])


def test_coreset_of_more_than_there_is_takes_all() -> None:
    assert greedy_coreset(torch.randn(5, 3), 9, torch.Generator()).tolist() == [0, 1, 2, 3, 4]


def test_coreset_over_many_blocks_is_the_greedy_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than candidates, so that picks are found over several blocks and passes."""
    monkeypatch.setattr(coreset, "CANDIDATES", 8)
    points = torch.randn(150, 4, generator=torch.Generator().manual_seed(5))
    picked = coreset.greedy_coreset(points, 60, torch.Generator().manual_seed(5)).tolist()
    assert picked == naive.farthest_points(points.double().numpy(), 60, picked[0])
