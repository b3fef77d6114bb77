"""Items with several pictures each are told by names, and believed where their pictures are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomaly.data.pictures.items import items_by_name, items_in_words


def test_items_are_told_by_folder_prefix_or_running_number() -> None:
    by_folder = items_by_name([Path(f"kos{item:02d}/Part{side}.jpg") for item in range(9) for side in range(8)])
    by_name = items_by_name([Path(f"good/bolt{item}-{side}.png") for item in range(9) for side in ("left", "top")])
    assert by_folder is not None
    assert by_folder.tolist() == np.repeat(np.arange(9), 8).tolist()
    assert by_name is not None
    assert by_name.tolist() == np.repeat(np.arange(9), 2).tolist()


@pytest.mark.parametrize("form", ["cell{:04d}.png", "exp{0}_num_{0}.jpg", "20260105_{:06d}.png", "{:02d}.png", "n{0}_{0}.png"])
def test_numbers_alone_name_no_items(form: str) -> None:
    assert items_by_name([Path("good") / form.format(number) for number in range(60)]) is None


@pytest.mark.parametrize("apart", [0.0, 2.0])
def test_names_are_believed_where_pictures_of_one_item_are_alike(apart: float) -> None:
    rng = np.random.default_rng(0)
    paths = [Path(f"item{item:02d}_side{side}.png") for item in range(15) for side in range(4)]
    layout, light = rng.uniform(0, 200, (4, 64, 64)), rng.normal(0, 1, 15)
    shown = [layout[i % 4] + apart * light[i // 4] + rng.normal(0, 1) + rng.normal(0, 3, (64, 64)) for i in range(60)]
    said = items_in_words(paths, [one.astype(np.float32) for one in shown])
    assert (said is None) == (apart == 0)
    assert said is None or said.startswith("names show 15 items with several pictures each")
