"""The guard: what counts as help, as no difference, and as negative transfer."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.evaluation.injected import Ranking
from anomaly.evaluation.transfer import ALONE, choose, compare, judge, label_gain, summary


def ranking(lift: float, seed: int = 0) -> Ranking:
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=60)
    return Ranking(clean, clean[:, None] + lift + 0.3 * rng.normal(size=(60, 2)))


def test_auto_takes_what_helps_beyond_doubt_and_names_what_harms() -> None:
    rankings = {ALONE: ranking(1.0), "frozen": ranking(2.0), "coral": ranking(0.1)}
    judged = judge(rankings, 0)
    taken, why = choose(judged, "auto")
    assert taken == "frozen"
    assert "helps" in why
    assert judged["coral"].verdict == "negative transfer"
    found = summary("auto", taken, why, rankings[ALONE], judged)
    assert found["negative_transfer"] == ["coral"]


def test_auto_falls_back_where_nothing_clearly_helps_and_a_named_way_is_warned_of() -> None:
    judged = judge({ALONE: ranking(1.0), "coral": ranking(0.1), "dann": ranking(1.0)}, 0)
    assert choose(judged, "auto")[0] == ALONE
    taken, why = choose(judged, "coral")
    assert taken == "coral"
    assert "negative transfer" in why


def test_a_gain_that_proves_nothing_is_never_taken_for_help_and_its_harm_still_counts() -> None:
    rankings = {ALONE: ranking(1.0), "coral": ranking(3.0), "batch-norm": ranking(0.1), "finetune": ranking(2.0)}
    judged = judge(rankings, 0, unproven=("coral", "batch-norm"))
    assert judged["coral"].verdict == "no clear difference"
    assert judged["batch-norm"].verdict == "negative transfer"
    assert choose(judged, "auto")[0] == "finetune"
    assert choose({"coral": judged["coral"]}, "auto")[0] == ALONE


def test_a_gain_that_is_certain_but_tiny_is_no_help() -> None:
    alone = ranking(1.0)
    tiny, clear = (compare(Ranking(alone.clean, alone.faulty + more), alone, 0) for more in (0.05, 0.5))
    assert 0 < tiny.low < tiny.gain < 0.02
    assert not tiny.helps
    assert clear.helps


def test_gain_on_a_handful_of_labels_draws_both_kinds() -> None:
    labels = np.array([0] * 50 + [1] * 3)
    good = labels + 0.1 * np.random.default_rng(0).normal(size=53)
    gain, low, high = label_gain(labels, good, -good, np.random.default_rng(0))
    assert gain == pytest.approx(1.0)
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(1.0)
    assert label_gain(labels, good, good, np.random.default_rng(0)) == (0.0, 0.0, 0.0)
