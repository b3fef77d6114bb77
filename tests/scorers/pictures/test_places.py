"""Patches of each place: what is normal elsewhere in the picture is not normal here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomaly.scorers.pictures.patches import fit_patch_bank
from anomaly.scorers.pictures.places import fit_place_bank, grouped, ungrouped


def layout(count: int, seed: int = 0) -> Tensor:
    """Pictures (count, 4, 8, 8) of one layout: left half one texture, right half another, with noise."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.zeros(1, 4, 8, 8)
    base[:, 0, :, :4], base[:, 1, :, 4:] = 3.0, 3.0
    return base + 0.1 * torch.randn(count, 4, 8, 8, generator=generator)


def swapped(maps: Tensor) -> Tensor:
    """A piece of the right half where the left half should be."""
    wrong = maps.clone()
    wrong[:, :, 2:5, 0:3] = maps[:, :, 2:5, 5:8]
    return wrong


def test_what_is_usual_elsewhere_is_found_by_place_and_by_no_bank_of_all_places() -> None:
    generator = torch.Generator().manual_seed(0)
    normal, fresh = layout(30), layout(4, seed=1)
    by_place, _ = fit_place_bank(normal, 30, "raw", 32, generator)
    anywhere, _ = fit_patch_bank(normal, 30, "raw", 400, 1.0, generator)
    for bank, factor in ((by_place, 5.0), (anywhere, 0.0)):
        clean, wrong = bank(fresh).amax(dim=(1, 2, 3)), bank(swapped(fresh))[:, :, 3, 1].amax(dim=1)
        assert bool((wrong > clean + factor).all()) == (factor > 0)


def test_a_part_shifted_by_one_place_stays_usual() -> None:
    normal = layout(30)
    bank, held_out = fit_place_bank(normal, 30, "raw", 64, torch.Generator().manual_seed(0))
    shifted = torch.roll(layout(5, seed=2), 1, dims=3)
    shifted[:, :, :, 0] = shifted[:, :, :, 1]
    assert float(bank(shifted).max()) < float(bank(swapped(layout(5, seed=2))).amax(dim=(1, 2, 3)).min()) / 2
    assert held_out.shape == (30, 8, 8)


def test_leave_one_out_is_a_fit_without_the_picture() -> None:
    """With a bank that holds every patch there is, leaving a picture out and never having seen it are the same."""
    normal = layout(7)
    whole, distances = fit_place_bank(normal, 7, "raw", 10_000, torch.Generator().manual_seed(0))
    assert whole.patches.shape[2] == 7 * 16
    for left in (0, 3):
        others = torch.cat([normal[:left], normal[left + 1 :]])
        fewer, _ = fit_place_bank(others, 6, "raw", 10_000, torch.Generator().manual_seed(0))
        again = fewer.distance(normal[left : left + 1], fewer.squared)[0]
        assert torch.allclose(distances[left], again, atol=0.05)  # patches are rounded to a byte, by a step of each bank's own
        asked = whole.leave_one_out([left])(normal[left : left + 1])[0, 0]
        assert torch.allclose(asked * whole.usual[1] + whole.usual[0], distances[left], atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.sampled_from([2, 3, 4]), st.sampled_from([2, 5, 6]), st.integers(1, 3))
def test_groups_of_places_go_back_to_where_they_were(count: int, high: int, wide: int, width: int) -> None:
    rows = torch.arange(count * high * wide * width, dtype=torch.float32).reshape(count, high, wide, width)
    down, across = (side // 2 if side % 2 == 0 else side for side in (high, wide))
    groups = grouped(rows, down, across)
    for channel in range(width):
        assert torch.equal(ungrouped(groups[..., channel], count, high, wide, down, across), rows[..., channel])


@pytest.mark.parametrize("metric", ["raw", "unit"])
def test_the_same_pictures_give_the_same_bank(metric: str) -> None:
    made = [fit_place_bank(layout(20), 20, metric, 16, torch.Generator().manual_seed(3))[0] for _ in range(2)]  # type: ignore[arg-type]
    assert all(torch.equal(one, other) for one, other in zip(*(bank.state_dict().values() for bank in made), strict=True))
    assert np.isfinite(made[0](layout(2, seed=9)).numpy()).all()
