"""How far sources are from a target, and what their features are worth, on known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from anomaly.evaluation.domains import logme, nearest_ratio, proxy_a_distance


def test_proxy_a_distance_is_small_between_samples_of_one_domain() -> None:
    rng = np.random.default_rng(0)
    a, same, other = rng.normal(size=(300, 5)), rng.normal(size=(300, 5)), rng.normal(size=(300, 5)) * 2 + 1
    assert proxy_a_distance(a, same) < 0.4
    assert proxy_a_distance(a, other + 5) > 1.9


def test_proxy_a_distance_never_sees_a_record_on_both_sides() -> None:
    """Ten records of twenty equal rows a side: told apart only by having been seen."""
    rng = np.random.default_rng(2)
    a, b = (np.repeat(rng.normal(size=(10, 30)), 20, axis=0) for _ in range(2))
    groups = [np.repeat(np.arange(10), 20).tolist()] * 2
    assert proxy_a_distance(a, b) > 1.9
    assert proxy_a_distance(a, b, (groups[0], groups[1])) < 1.0


def test_the_nearest_ratio_is_one_for_more_of_the_same_and_counts_no_row_of_its_own_record() -> None:
    target, owner = torch.tensor([[0.0], [0.1], [4.0]]), torch.tensor([0, 0, 1])
    # 0 and 0.1 are one record: their nearest other is 4, at 4 and 3.9; of 4 it is 0.1, at 3.9
    assert nearest_ratio(torch.tensor([[2.0]]), target, owner) == pytest.approx(2 / 4)
    rows = torch.randn(2500, 3, generator=torch.Generator().manual_seed(0))
    more = torch.randn(2500, 3, generator=torch.Generator().manual_seed(1))
    assert nearest_ratio(more, rows, torch.arange(2500)) == pytest.approx(1.0, abs=0.05)
    assert nearest_ratio(more + 6, rows, torch.arange(2500)) > 10


def test_logme_is_the_largest_evidence() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    labels = x[:, 0] + 0.5 * rng.normal(size=60) > 0
    z, y = (x - x.mean(0)) / x.std(0), labels - labels.mean()

    def negative(log: np.ndarray) -> float:
        alpha, beta = np.exp(log)
        law = np.eye(60) / beta + z @ z.T / alpha
        return float(0.5 * (y @ np.linalg.solve(law, y) + np.linalg.slogdet(law)[1] + 60 * np.log(2 * np.pi)) / 60)

    best = -minimize(negative, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun
    assert logme(x, labels) == pytest.approx(best, abs=1e-4)
    assert logme(x, labels) > logme(x, rng.permutation(labels))
