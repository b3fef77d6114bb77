"""Plots of stretches claim no more than the normals can tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anomaly.evaluation.report.series import Stretch, stretch_figure


def stretch(least: float) -> Stretch:
    """Sixty rows, one of them with a p-value far below the others."""
    p_values = np.full(60, 0.5)
    p_values[30] = 1e-5
    return Stretch(1.8e9 + np.arange(60.0), np.zeros((60, 1)), p_values, np.ones((60, 1)), ("flow",), ("l/s",), least=least)


@pytest.mark.parametrize(("least", "highest", "told"), [(0.0005, 2_000, True), (0.0, 100_000, False), (0.05, 100, True)])
def test_no_moment_is_drawn_rarer_than_the_normals_can_tell(least: float, highest: float, told: bool) -> None:
    figure, hover = stretch_figure(stretch(least), 0.01, [0])
    assert max(figure.axes[0].lines[0].get_ydata()) == pytest.approx(highest)  # type: ignore[arg-type]
    assert (f"dotted: {highest:,.0f} or more" in figure.axes[0].get_ylabel()) == told
    assert ("told from" in hover) == told
    assert min(json.loads(hover)["rows"][0]["v"]) == pytest.approx(1 / highest)
