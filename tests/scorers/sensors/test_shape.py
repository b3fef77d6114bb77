"""The shape view: the nearest normal window is found, by the sensors that count; many sensors do not make it slow."""

from __future__ import annotations

import torch

from anomaly.scorers.sensors.shape import COMPONENTS, ENTRIES, PRODUCT, SIZE, ShapeBank, fit_shape


def bank_of(windows: int, sensors: int, rows: int) -> tuple[ShapeBank, torch.Tensor]:
    """A bank, and the normal windows (n, C * E, 1) it was fitted on: few movements that all sensors share."""
    generator = torch.Generator().manual_seed(0)
    movements = torch.randn(5, sensors, rows, generator=generator)
    shape = torch.randn(windows, 5, generator=generator) @ (movements - movements.mean(dim=2, keepdim=True)).flatten(1)
    return fit_shape(shape.unsqueeze(2), torch.ones(windows, shape.shape[1], 1), sensors, generator), shape.unsqueeze(2)


def test_the_nearest_window_is_found_by_the_sensors_that_count() -> None:
    bank, normal = bank_of(50, 3, 8)
    known = torch.ones(50, 3 * 8, 1)
    known[:, 8:12] = 0.0  # too few readings: whatever stands in their place must not matter
    wild = normal.clone()
    wild.reshape(50, 3, 8)[:, 1] = 1e3
    score, share = bank(wild, known)
    assert float(score.max()) < 1e-3
    assert float(share[:, 1].abs().max()) == 0.0


def test_a_bank_of_many_sensors_is_bounded() -> None:
    bank, normal = bank_of(300, 64, 128)
    assert bank.basis.numel() <= max(PRODUCT, 16 * 64 * 128)
    assert len(bank.basis) <= COMPONENTS
    assert len(bank.bank) <= SIZE
    assert bank.lookup().numel() <= ENTRIES
    score, _ = bank(normal[:20], torch.ones(20, 64 * 128, 1))
    assert float(score.max()) < 1e-3


def test_strokes_that_hardly_differ_are_told_apart() -> None:
    """Where a stroke is ten thousand times as large as its noise, the window nearest to it is still found."""
    generator = torch.Generator().manual_seed(1)
    stroke = 3 * torch.sin(torch.arange(60) / 5)
    normal = (stroke + 3e-4 * torch.randn(200, 60, generator=generator)).reshape(200, 2, 30)
    normal = (normal - normal.mean(dim=2, keepdim=True)).reshape(200, 60, 1)
    bank = fit_shape(normal, torch.ones(200, normal.shape[1], 1), 2, generator)
    score, _ = bank(normal, torch.ones(200, 60, 1))
    assert float(score.max()) < 3e-5


def test_a_missing_reading_takes_no_part_in_the_distance() -> None:
    """Whatever stands in its place, as long as the nearest window is found: the distance is that over the other readings."""
    bank, normal = bank_of(50, 2, 20)
    known = torch.ones(50, 40, 1)
    known[:, 7] = 0.0
    held = normal.clone()
    held[:, 7] = held[:, 6]
    held.reshape(50, 2, 20)[:, 0] -= held.reshape(50, 2, 20)[:, 0].mean(dim=1, keepdim=True)  # as the window's own mean is taken
    assert float(bank(held, known)[0].max()) < 1e-3
    assert float(bank(held, torch.ones(50, 40, 1))[0].median()) > 0.05
