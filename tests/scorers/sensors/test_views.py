"""Views of a window: each in its unit, the one that stands out most speaks, and the shape sees what level and spread do not."""

from __future__ import annotations

import numpy as np
import torch

from anomaly.scorers.sensors.shape import fit_shape
from anomaly.scorers.sensors.views import LEAST_UNIT, units, with_units
from tests.features.windows import ROWS, noise, seen
from tests.scorers.sensors.fitting import fitted


def strokes(count: int, seed: int = 0) -> torch.Tensor:
    """Windows (N, 2, T) of a stroke of slightly different height each: two sensors."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.stack([torch.hann_window(ROWS, periodic=False) ** 2, torch.linspace(-1, 1, ROWS)])
    height = 1 + 0.05 * torch.randn(count, 1, 1, generator=generator)
    return height * shape + 0.02 * torch.randn(count, 2, ROWS, generator=generator)


def test_the_largest_view_in_its_unit_speaks_and_its_contributions_are_given() -> None:
    views = with_units(fitted(strokes(200), ROWS), np.array([4.0, 0.05]))
    mirrored, shifted = strokes(20, 1), strokes(20, 2)
    mirrored[:, 1] = mirrored[:, 1].flip(1)
    shifted[:, 0] += 5.0
    for windows, sensor, speaks in ((mirrored, 1, 1), (shifted, 0, 0)):
        features = seen(windows, shape=ROWS)
        each = [score / unit for (score, _), unit in zip(views.each(features), views.unit, strict=True)]
        score, share = views(features)
        torch.testing.assert_close(score, torch.maximum(*each))
        assert (torch.stack(each).argmax(dim=0) == speaks).all()
        assert (share.argmax(dim=1) == sensor).all()
        torch.testing.assert_close(share.sum(dim=1), score, rtol=1e-4, atol=1e-5)


def test_a_mirrored_stroke_is_seen_by_its_shape_alone() -> None:
    def anywhere(count: int, seed: int) -> torch.Tensor:
        """Windows that begin at any moment of a stroke."""
        begins = torch.randint(ROWS, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
        return torch.stack([torch.roll(stroke, begin, dims=1) for stroke, begin in zip(strokes(count, seed), begins, strict=True)])

    views = fitted(anywhere(600, 0), ROWS)
    (normal_level, _), (normal_shape, _) = views.each(seen(anywhere(200, 1), shape=ROWS))
    mirrored = anywhere(50, 2)
    mirrored[:, 0] = mirrored[:, 0].flip(1)
    (level, _), (shape, _) = views.each(seen(mirrored, shape=ROWS))
    assert (shape > normal_shape.max()).float().mean() > 0.7
    assert (level > normal_level.max()).float().mean() < 0.2


def test_the_distance_is_that_of_the_nearest_window_by_hand() -> None:
    """As many components as there are windows: the basis holds every one of them in full."""

    def apart(z: torch.Tensor) -> torch.Tensor:
        return (z - z.mean(dim=2, keepdim=True)).flatten(1)

    windows = apart(noise(20, 3))[:, :, None]
    known = torch.ones(20, 3 * ROWS, 1)
    bank = fit_shape(windows, known, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(bank(windows, known)[0], torch.zeros(20), rtol=0, atol=1e-5)
    other = apart(noise(7, 3, seed=1))
    expected = torch.cdist(other, windows[:, :, 0]).amin(dim=1) / (3 * ROWS) ** 0.5
    torch.testing.assert_close(bank(other[:, :, None], known[:7])[0], expected, rtol=1e-4, atol=1e-5)


def test_a_sensor_that_does_not_count_takes_no_part_in_the_distance() -> None:
    windows, known = noise(200, 3).flatten(1)[:, :, None], torch.ones(200, 3 * ROWS, 1)
    bank = fit_shape(windows, known, 3, torch.Generator().manual_seed(0))
    lost = known[:20].clone()
    lost[:, ROWS : ROWS + ROWS // 2] = 0.0
    wild = windows[:20].clone()
    wild[:, ROWS : 2 * ROWS] = 99.0
    score, share = bank(wild, lost)
    torch.testing.assert_close(score, bank(windows[:20], lost)[0])
    assert (share[:, 1] == 0).all()


def test_windows_with_a_sensor_missing_are_not_learnt_as_shapes() -> None:
    windows, known = strokes(100).flatten(1)[:, :, None], torch.ones(100, 2 * ROWS, 1)
    known[:50, : ROWS // 2] = 0.0
    windows[:50, :ROWS] = 0.0
    bank = fit_shape(windows, known, 2, torch.Generator().manual_seed(0))
    assert len(bank.bank) == 50


def test_units_are_high_quantiles_of_normal_scores_and_never_nothing() -> None:
    scores = np.stack([np.arange(101.0), np.zeros(101)], axis=1)
    np.testing.assert_allclose(units(scores), [95.0, LEAST_UNIT[1]])
    np.testing.assert_allclose(units(scores[:, :1]), [95.0])
