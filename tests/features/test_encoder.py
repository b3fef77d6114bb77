"""Features of sensor windows: level, spread and the encoder."""

from __future__ import annotations

import math

import pytest
import torch

from anomaly.features.encoder import STD_FLOOR, SensorEncoder, SensorExtractor, balanced
from tests.features.windows import ROWS, kernels, noise, seen


def test_level_and_spread_by_hand() -> None:
    z = noise(5, 3) + 40.0
    level, spread, movement, known = seen(z)
    torch.testing.assert_close(level[:, :, 0], z[:, :, -ROWS // 3 :].mean(dim=2))
    torch.testing.assert_close(spread[:, :, 0], torch.log(z.std(dim=2, correction=0) + STD_FLOOR), rtol=1e-4, atol=1e-4)
    expected = torch.log(z.diff(dim=2).square().mean(dim=2).sqrt() + STD_FLOOR)
    torch.testing.assert_close(movement[:, :, 0], expected, rtol=1e-4, atol=1e-4)
    assert (known == 1).all()


def test_a_window_that_ends_at_any_row_of_a_stretch_is_seen_as_by_itself() -> None:
    z = noise(2, 3, rows=ROWS + 4)
    maps = SensorExtractor(ROWS, every_row=True)(torch.stack([z, torch.ones_like(z)], dim=1).transpose(2, 3))
    for row in range(5):
        for one, other in zip(maps, seen(z[:, :, row : row + ROWS]), strict=True):
            torch.testing.assert_close(one[:, :, row], other[:, :, 0], rtol=1e-4, atol=1e-5)


def test_a_shape_is_the_last_rows_less_their_mean_sensor_by_sensor() -> None:
    z = noise(2, 3) + 40.0
    apart = z[:, :, -8:] - z[:, :, -8:].mean(dim=2, keepdim=True)
    shape, known = seen(z, shape=8)[3:5]
    torch.testing.assert_close(shape[:, :, 0], apart.flatten(1), rtol=1e-4, atol=1e-4)
    assert (known == 1).all()
    torch.testing.assert_close(seen(z, encoder=kernels(2), shape=8)[3][:, :, 0], kernels(2)(apart).flatten(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("missing", "line"),
    [([5], {4: 0.5, 6: 0.5}), ([0], {1: 1.0}), ([ROWS - 1], {ROWS - 2: 1.0})],
    ids=["between its neighbours", "at the beginning the next", "at the end the one before"],
)
def test_a_missing_reading_lies_on_the_line_between_its_neighbours_in_a_shape(missing: list[int], line: dict[int, float]) -> None:
    z, known = noise(1, 2, rows=ROWS), torch.ones(1, 2, ROWS)
    known[0, 1, missing] = 0.0
    filled = z.clone()
    filled[0, 1, missing] = sum(share * z[0, 1, row] for row, share in line.items())
    torch.testing.assert_close(seen(z * known, known, shape=ROWS)[3], seen(filled, shape=ROWS)[3])
    torch.testing.assert_close(seen(z * known, known, shape=ROWS)[4][:, :, 0], known.flatten(1))


def test_the_shape_of_a_window_in_a_stretch_takes_nothing_from_before_it() -> None:
    """A reading that is missing takes one of its own window alone, also where rows that follow each other are seen together."""
    z = noise(1, 3, rows=70) + 5.0
    known = (torch.rand(z.shape, generator=torch.Generator().manual_seed(1)) > 0.4).float()
    x = torch.stack([z * known, known], dim=1).transpose(2, 3)
    along = SensorExtractor(ROWS, 30, every_row=True)(x)
    for row in range(41):
        alone = SensorExtractor(ROWS, 30)(x[:, :, row : row + 30])
        for one, other in zip(along[3:5], alone[3:5], strict=True):
            torch.testing.assert_close(one[:, :, row], other[:, :, 0], rtol=1e-4, atol=1e-5)


def test_only_known_readings_count() -> None:
    z, known = noise(4, 2), torch.ones(4, 2, ROWS)
    known[:, 0, ::2] = 0.0
    level, spread, movement, share = seen(z * known, known)
    kept = z[:, 0, 1::2]
    torch.testing.assert_close(level[:, 0, 0], kept[:, -2:].mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(spread[:, 0, 0], torch.log(kept.std(dim=1, correction=0) + STD_FLOOR), rtol=1e-4, atol=1e-4)
    assert (share[:, 0] == 0.5).all()
    assert (movement[:, 0] == math.log(STD_FLOOR)).all()  # no two readings are neighbours


def test_an_encoder_gives_the_readings_and_how_its_kernels_respond() -> None:
    z = noise(2, 3, rows=16)
    found = kernels(2)(z).reshape(2, 3, -1)
    torch.testing.assert_close(found[:, :, :16], z / 2.0)
    responses = found[:, :, 16:] * 0.5
    assert responses.shape[2] == 2 * 3 * 4
    assert ((responses > 0) & (responses < 1)).all()
    shuffled = kernels(2)(z[:, [2, 0, 1]]).reshape(2, 3, -1)
    torch.testing.assert_close(shuffled, found[:, [2, 0, 1]])  # a sensor's features are its own


def test_a_kernel_sees_where_in_a_window_something_is() -> None:
    early, late = torch.zeros(1, 1, 40), torch.zeros(1, 1, 40)
    early[..., 2:5], late[..., 35:38] = 3.0, 3.0
    encoder = SensorEncoder(4, (1,)).requires_grad_(False)
    apart = (encoder.embed(early) - encoder.embed(late)).reshape(4, 4).abs()  # (kernels, quarters)
    assert float(apart[:, [0, 3]].max()) > 0.05
    assert float(apart[:, 1:3].max()) < 0.01


def test_balanced_units_are_the_distance_of_a_normal_window_to_its_nearest() -> None:
    """Every window of this record comes again, with a known noise, in the only other one that shares no row with it."""
    rows = 20
    cycle, rng = torch.randn(1, 2, rows, generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    windows = cycle + 0.1 * torch.randn(2, 2, rows, generator=rng)
    encoder = balanced(SensorEncoder().requires_grad_(False), windows, torch.tensor([rows, 2 * rows]))
    own, learnt = (float((part[0] - part[1]).square().sum().sqrt()) for part in (windows, encoder.embed(windows)))
    assert encoder.unit.tolist() == pytest.approx([own, learnt], rel=1e-4)
    alone = balanced(SensorEncoder(), windows, torch.tensor([rows, rows + 1]))  # nothing to compare with
    assert alone.unit.tolist() == [1.0, 1.0]
