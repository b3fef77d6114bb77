"""Pixel figures: which masks count, thin defects in large pictures, and how exact the binned figures are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly.data.pictures.reading import Picture, PictureFormat
from anomaly.evaluation.figures import SHOWN, evaluate_pictures
from anomaly.evaluation.metrics import aupro, auroc
from anomaly.evaluation.pixels import MAP_SIDE, PixelFigures, resize_map, shrink_mask

SIDE = 64


def bright(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A detector whose map is the picture."""
    detail = raw[..., 0].astype(np.float32)
    score = detail.reshape(len(raw), -1).max(axis=1)
    return score, np.exp(-score), detail


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    """Four good parts, and four with a bright square that their masks mark."""
    found = []
    for number in range(8):
        image = np.random.default_rng(number).integers(0, 50, (SIDE, SIDE)).astype(np.uint8)
        path, mask = tmp_path / f"{number}.png", np.zeros((SIDE, SIDE), np.uint8)
        if number >= 4:
            mask[10:20, 5 * number : 5 * number + 10] = 255
            image[mask > 0] = 200
            Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
        Image.fromarray(image).save(path)
        found.append(Picture(path.name, path, "spot" if number >= 4 else None, tmp_path / f"{number}_mask.png" if number >= 4 else None))
    return found


def spoilt(path: Path, how: str) -> str:
    """Spoil one mask; returns what is said of it."""
    mask = Image.open(path)
    if how == "half":
        mask.resize((SIDE // 2, SIDE // 2)).save(path)
    if how == "turned":
        mask.resize((SIDE, SIDE // 2)).save(path)
    if how == "empty":
        Image.new("L", (SIDE, SIDE)).save(path)
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:60])
    if how == "no bytes":
        path.write_bytes(b"")
    if how == "gone":
        path.unlink()
    if how == "pages":
        mask.save(path, format="PNG", save_all=True, append_images=[Image.new("L", (SIDE, SIDE), 3)])
    return {
        "half": "the mask is 32 x 32, its picture 64 x 64", "turned": "the mask is 64 x 32, its picture 64 x 64",
        "empty": "the mask is empty, though 5.png has a defect", "damaged": "damaged or cut short", "no bytes": "the file is empty",
        "gone": "there is no such mask", "pages": "holds 2 pictures",
    }[how]  # fmt: skip


@pytest.mark.parametrize("how", ["half", "turned", "empty", "damaged", "no bytes", "gone", "pages"])
def test_a_mask_that_cannot_be_used_is_named_and_left_out(pictures: list[Picture], how: str) -> None:
    assert pictures[5].mask is not None
    said = spoilt(pictures[5].mask, how)
    found = evaluate_pictures(bright, pictures, PictureFormat("gray"), 0.01)
    assert found.figures["n"] == 8
    assert [found.figures[name] for name in ("masks", "masks_left_out", "defects_without_mask")] == [3, 1, 0]
    assert found.figures["pixel_auroc"] == pytest.approx(1.0, abs=1e-3)
    assert found.notes[0] == "3 masks used, 0 defects without one, 1 masks left out"
    assert "5_mask.png: " in found.notes[1]
    assert said in found.notes[1]


def test_a_good_part_with_a_mask_that_marks_something_is_left_out(pictures: list[Picture]) -> None:
    odd = Picture("0.png", pictures[0].path, None, pictures[5].mask)
    found = evaluate_pictures(bright, [odd, *pictures[1:]], PictureFormat("gray"), 0.01)
    assert "marks a defect, though 0.png is good" in found.notes[1]


def test_defects_without_masks_are_counted(pictures: list[Picture]) -> None:
    bare = [Picture(p.id, p.path, p.defect) for p in pictures]
    found = evaluate_pictures(bright, [*bare[:7], pictures[7]], PictureFormat("gray"), 0.01)
    assert [found.figures[name] for name in ("masks", "masks_left_out", "defects_without_mask")] == [1, 0, 3]
    none = evaluate_pictures(bright, bare, PictureFormat("gray"), 0.01)
    assert "pixel_auroc" not in none.figures
    assert none.notes == ["0 masks used, 4 defects without one, 0 masks left out"]


@pytest.mark.parametrize("value", [1, 3, 255])
def test_figures_do_not_depend_on_what_a_mask_calls_a_defect(pictures: list[Picture], value: int) -> None:
    expected = evaluate_pictures(bright, pictures, PictureFormat("gray"), 0.01).figures
    for picture in pictures[4:]:
        assert picture.mask is not None
        Image.fromarray((np.asarray(Image.open(picture.mask)) > 0).astype(np.uint8) * value).save(picture.mask)
    found = evaluate_pictures(bright, pictures, PictureFormat("gray"), 0.01).figures
    assert {name: found[name] for name in found if name.startswith("pixel")} == {
        name: expected[name] for name in expected if name.startswith("pixel")
    }


@pytest.mark.parametrize("wide", range(1, 7))
@pytest.mark.parametrize("along", ["across", "down", "diagonal"])
def test_a_thin_scratch_in_a_large_picture_stays_whole(wide: int, along: str) -> None:
    for start in range(301, 309):
        mask = np.zeros((2048, 2048), bool)
        for step in range(600):
            y, x = {"across": (start, 700 + step), "down": (700 + step, start), "diagonal": (start + step, 700 + step)}[along]
            mask[y : y + wide, x : x + wide] = True
        small = shrink_mask(mask)
        labels = resize_map(small.astype(np.float32)) > 0.5
        assert small.sum() >= 600 // 8
        cells = {(y // 8, x // 8) for y, x in zip(*np.nonzero(mask), strict=True)}
        assert set(zip(*(axis.tolist() for axis in np.nonzero(small)), strict=True)) == cells
        np.testing.assert_array_equal(labels, small)


@pytest.mark.parametrize("shape", [(100, 77), (256, 256), (300, 511), (64, 1024)])
def test_no_pixel_of_a_mask_is_lost(shape: tuple[int, int]) -> None:
    for seed in range(50):
        mask = np.zeros(shape, bool)
        mask.flat[np.random.default_rng(seed).integers(mask.size)] = True
        assert shrink_mask(mask).any()
    assert shrink_mask(np.ones(shape, bool)).all()
    assert not shrink_mask(np.zeros(shape, bool)).any()


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), ties=st.booleans(), scale=st.sampled_from([1e-3, 1.0, 1e6]), shift=st.sampled_from([-3.0, 0.0, 50.0]))
def test_binned_figures_are_the_exact_ones_up_to_what_they_state(seed: int, ties: bool, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    masks, maps, figures = [], [], PixelFigures()
    for _ in range(4):
        mask = np.zeros((MAP_SIDE, MAP_SIDE), bool)
        for _ in range(int(rng.integers(0, 4))):
            y, x, high, wide = rng.integers(1, 200, 2).tolist() + rng.integers(1, 50, 2).tolist()
            mask[y : y + high, x : x + wide] = True
        scored = rng.normal(size=mask.shape) + mask
        masks.append(mask)
        maps.append((scale * ((scored.round(1) if ties else scored) + shift)).astype(np.float32))
        figures.add_map(mask, maps[-1])
    labels, scores = np.stack(masks).ravel(), np.stack(maps).ravel().astype(np.float64)
    if not labels.any():
        assert figures.result() == {}
        return
    found = figures.result()
    for name, exact in (("pixel_auroc", auroc(labels, scores)), ("pixel_aupro", aupro(masks, maps))):
        assert found[name] == pytest.approx(exact, abs=found["pixel_binning_error"][name] + 1e-9)
        assert ties or found["pixel_binning_error"][name] < (0.05 if shift == 50.0 else 0.002)  # equal scores are in one bin anyway


def test_memory_does_not_grow_with_the_number_of_pictures(pictures: list[Picture]) -> None:
    def peak(times: int) -> int:
        tracemalloc.start()
        many = [Picture(f"{i}-{p.id}", p.path, p.defect, p.mask) for i in range(times) for p in pictures]
        found = evaluate_pictures(bright, many, PictureFormat("gray"), 0.01)
        assert len(found.maps) <= 3 * SHOWN
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    def least(times: int) -> int:
        return min(peak(times) for _ in range(3))  # threads of other tests may be at work: they are counted too

    assert (least(3) - least(1)) / 16 < 20_000  # bytes a picture: its row and its names; a mask with its map would be 5,600,000
