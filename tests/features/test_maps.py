"""Feature maps of many pictures: the same on disk as in memory, and nothing of them stays behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from anomaly.errors import DataError
from anomaly.features import maps as kept
from anomaly.features.maps import gather_maps, pictures_at_once


def parts() -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    sizes = (2, 0, 3)
    return [[torch.randn(n, 4, 6, 5, generator=generator), torch.randn(n, 2, 3, 3, generator=generator)] if n else [] for n in sizes]


def test_maps_on_disk_are_those_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = gather_maps(parts(), most=9)
    monkeypatch.setattr(kept, "IN_MEMORY", 100)
    disk = gather_maps(parts(), most=9)
    assert [tuple(one.shape) for one in disk] == [(5, 4, 6, 5), (5, 2, 3, 3)]
    assert all(torch.equal(a, b) for a, b in zip(memory, disk, strict=True))
    assert list(tmp_path.iterdir()) == []  # no name even while they are in use: nothing is left after a kill


def test_no_picture_at_all_gives_no_maps() -> None:
    assert gather_maps([[], []], most=2) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no space beforehand")
def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "IN_MEMORY", 100)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="TMPDIR"):
        gather_maps(parts(), most=9)


def test_large_pictures_go_one_at_a_time() -> None:
    assert [pictures_at_once(8, (side, side)) for side in (64, 512, 1024, 2048)] == [8, 8, 2, 1]
