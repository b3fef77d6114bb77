"""Labelled faults in the choice of how a camera's pictures are looked at: what they change, and what they must not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from anomaly.data.pictures.boxes import read_boxes
from anomaly.data.pictures.layouts import find_faults
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError
from anomaly.pipeline.camera.pictures import PictureFolder
from anomaly.pipeline.camera.plan import Plan, choose_plan
from anomaly.pipeline.camera.plan.labelled import DECIDE, POOL_ERRORS, LabelledFaults, Ranked, RankedPools, fault_size, size_by_faults
from anomaly.scorers.pictures.views import Pool
from anomaly.spec import Bank, CameraExtractor, CameraInput, CameraSpec, MemoryBankSpec, PoolSpec, Transfer

SIDE = 384
MAIN, FINE = Pool("main"), Pool("fine", 0.0)


def part(seed: int, fine: bool) -> np.ndarray:
    """Clouds of gray. `fine`: with a patch of a chessboard of single pixels, which is gone where the picture is made smaller."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    gray = np.full((SIDE, SIDE), 128.0)
    if fine:
        y, x = rng.integers(40, SIDE - 104, 2)
        gray[y : y + 64, x : x + 64] += 30.0 - 60.0 * ((rows + columns) % 2)
    clouds = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 4, mode="wrap")
    return (gray + clouds * 2.5 / clouds.std() + rng.normal(0, 0.5, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts; beside them eight faults that are seen in full size only, and six pictures that are as good as any."""
    root = tmp_path_factory.mktemp("lines")
    for name, count in (("good", 24), ("fine", 8), ("same", 6)):
        (root / name).mkdir()
        for i in range(count):
            Image.fromarray(part(i + 100 * len(name), name == "fine")).save(root / name / f"{i}.png")
    return root


def plan(line: Path, faults: str | None) -> Plan:
    spec = CameraSpec(
        kind="camera",
        input=CameraInput(smallest_mark=90),
        extractor=CameraExtractor(stages=("blocks.1",)),
        scorer=MemoryBankSpec(banks=(Bank(stage="blocks.1", metric="raw", size=100),), pools=(PoolSpec(share=0.0),)),
        transfer=Transfer(faults=line / faults if faults else None),
    )
    return choose_plan(spec, PictureFolder(line / "good", spec.input), lambda *_: None)


def test_labelled_faults_that_nothing_sees_change_nothing(line: Path) -> None:
    alone, with_faults = plan(line, None), plan(line, "same")
    assert "faults" not in alone.report
    assert with_faults.spec.input == alone.spec.input
    assert with_faults.spec.scorer == alone.spec.scorer
    assert "no other size or pool ranks them clearly better, so made-up marks decide" in with_faults.words()
    assert {key: value for key, value in with_faults.report.items() if key not in ("faults", "tried")} == {
        key: value for key, value in alone.report.items() if key != "tried"
    }


def test_a_size_that_alone_shows_labelled_faults_is_taken(line: Path) -> None:
    found = plan(line, "fine")
    ranked = {tuple(one["size"]): one["faults"]["auroc"] for one in found.report["tried"]}
    assert ranked[384, 384] > 0.95 > 0.7 > ranked[256, 256]
    assert found.report["faults"]["size_without"] == [256, 256]
    assert found.spec.input.size == (384, 384)
    words = "\n".join(found.words())
    assert f"8 labelled faults: 256 x 256 ranks them at {ranked[256, 256]:.2f}, 384 x 384 at" in words
    assert "384 x 384 is taken by them; made-up marks alone would take 256 x 256" in words


def test_one_labelled_fault_is_refused(tmp_path: Path, line: Path) -> None:
    (line / "one").mkdir()
    Image.fromarray(part(0, True)).save(line / "one" / "0.png")
    with pytest.raises(DataError, match="1 labelled fault; at least 2"):
        plan(line, "one")


# --- the rules, on scores ---


def rng_scores(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count) + shift


def test_another_size_is_taken_only_where_it_is_clearly_better_and_keeps_the_made_up_marks() -> None:
    blind, sees = Ranked(rng_scores(0, 48), rng_scores(1, 8)), Ranked(rng_scores(2, 24), rng_scores(3, 8, 4))
    assert size_by_faults([blind, sees], 0, [True, True], 0) == 1
    assert size_by_faults([sees, blind], 1, [True, True], 0) == 0  # a smaller one too
    assert size_by_faults([blind, sees], 0, [True, False], 0) == 0
    assert size_by_faults([blind, blind], 0, [True, True], 0) == 0


def test_fewer_than_five_faults_decide_nothing() -> None:
    blind, sees = Ranked(rng_scores(0, 48), np.full(DECIDE - 1, -9.0)), Ranked(rng_scores(0, 48), np.full(DECIDE - 1, 9.0))
    assert sees.auroc - blind.auroc == 1
    assert not sees.clearly_better(blind, 0)


def test_chance_hardly_ever_passes_for_evidence() -> None:
    """Eleven pools that are no better: one of them is taken in less than one line of ten."""
    taken = 0
    for trial in range(40):
        common = rng_scores(1000 + trial, 56)
        rows = [0.7 * common + 0.7 * rng_scores(100 * trial + i, 56) for i in range(12)]
        first, *others = (Ranked(row[:48], row[48:] + 1) for row in rows)
        taken += any(one.clearly_better(first, 0, POOL_ERRORS) for one in others)
    assert taken < 4


@pytest.mark.parametrize(("marks_lost", "taken"), [(0.0, [FINE]), (0.03, [FINE]), (0.1, [])])
def test_a_pool_that_sees_labelled_faults_is_added_unless_made_up_marks_are_lost(marks_lost: float, taken: list[Pool]) -> None:
    blind = Pool("blind")
    clean = {pool: rng_scores(at, 48) for at, pool in enumerate((MAIN, blind, FINE))}
    faults = {MAIN: rng_scores(7, 8), blind: rng_scores(8, 8), FINE: rng_scores(9, 8, 6)}

    def found(pools: Sequence[Pool]) -> Mapping[float, float]:
        return {4.0: 0.5 - marks_lost * (FINE in pools)}

    assert [pool for pool, _ in RankedPools([(clean, faults)]).further([MAIN], found, 0)] == taken


# --- masks ---


def write_faults(root: Path, sizes: Sequence[int], masks: str) -> list[Picture]:
    for at, size in enumerate(sizes):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[100 : 100 + size, 200 : 200 + size] = 255
        for path, pixels in ((root / f"{at}.png", part(at, False)), (root / masks.format(at), mask)):
            path.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels).save(path)
    return find_faults(root)


@pytest.mark.parametrize("masks", ["ground_truth/{}_mask.png", "{}_mask.png", "../ground_truth/cracks/{}.png"])
def test_masks_are_no_faults_and_set_the_sizes_of_made_up_marks(line: Path, tmp_path: Path, masks: str) -> None:
    faults = write_faults(tmp_path / "cracks", [20, 12, 30, 30, 30], masks)
    assert [picture.mask is not None for picture in faults] == [True] * 5
    found = LabelledFaults(faults, PictureFolder(line / "good", CameraInput()))
    assert (found.smallest, found.notes) == (12.0, [])
    assert found.smallest_marks(2.0, 64.0) == 6.0  # the next fault may be half as large
    assert found.smallest_marks(2.0, 16.0) == 4.0  # three sizes of marks are left in any case
    few = LabelledFaults(faults[:2], PictureFolder(line / "good", CameraInput()))
    assert few.smallest_marks(2.0, 64.0) == 2.0


def test_a_mask_that_cannot_be_used_is_said(line: Path, tmp_path: Path) -> None:
    faults = write_faults(tmp_path, [20, 0], "{}_mask.png")
    Image.fromarray(np.full((8, 9), 255, np.uint8)).save(tmp_path / "0_mask.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    found = LabelledFaults([*faults, Picture("2.png", tmp_path / "2.png", "crack")], PictureFolder(line / "good", CameraInput()))
    assert found.smallest is None
    assert [words.split(": ", 1)[1] for words in found.notes] == [
        "the mask is 9 x 8, its picture 384 x 384; its fault is judged without it",
        "the mask marks nothing; its fault is judged without it",
        "a labelled fault that cannot be read is left out",
    ]


def write_boxes(root: Path, *boxes: tuple[str, Sequence[float]], side: int | None = SIDE) -> Path:
    names = list(dict.fromkeys(name for name, _ in boxes))
    images = [{"id": at, "file_name": name} | ({"width": side, "height": side} if side else {}) for at, name in enumerate(names)]
    coco = {
        "images": images,
        "annotations": [{"id": at, "image_id": names.index(name), "bbox": box} for at, (name, box) in enumerate(boxes)],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    path = root / "annotations" / "instances.json"
    path.write_text(json.dumps(coco))
    return path


def test_boxes_stand_for_masks(line: Path, tmp_path: Path) -> None:
    faults = write_faults(tmp_path / "cracks", [20, 20, 20, 20, 20, 20], "../elsewhere/{}.png")
    assert [picture.mask for picture in faults] == [None] * 6
    (tmp_path / "notes.json").write_text('{"camera": "A"}')  # of another kind: none of ours
    boxes = [*((f"cracks/{at}.png", (200.0, 100.0, 30.0, 30.0)) for at in range(4)), ("4.PNG", (199.6, 10.0, 9.0, 16.0))]
    path = write_boxes(tmp_path, *boxes, ("4.PNG", (300.0, 10.0, 40.0, 0.0)))
    found = LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)
    assert found.smallest == pytest.approx((10 * 16) ** 0.5)  # from column 199 to 208
    assert [mask is not None for mask in found.masks] == [True] * 5 + [False]
    assert found.notes == [f"{path}: a box of 4.PNG has no area and is left out"]
    clean, seen = torch.zeros(1, 12, 12), torch.zeros(6, 12, 12)
    seen[0, 3, 6], seen[1, 10, 1] = 5.0, 9.0
    assert found.scores(clean, seen, [0.0])[0.0].tolist()[:2] == [5.0, 0.0]


def test_boxes_of_another_size_are_said_and_a_broken_file_is_refused(line: Path, tmp_path: Path) -> None:
    faults = write_faults(tmp_path / "cracks", [20, 20], "../elsewhere/{}.png")
    path = write_boxes(tmp_path, ("0.png", (0.0, 0.0, 5.0, 5.0)), ("1.png", (0.0, 0.0, 5.0, 5.0)), side=200)
    assert read_boxes(tmp_path).of(Picture("d/0.png", tmp_path / "d" / "0.png", "d"), tmp_path) is not None
    path = write_boxes(tmp_path, ("scratch/0.png", (0.0, 0.0, 5.0, 5.0)), side=200)
    assert read_boxes(tmp_path).of(Picture("d/0.png", tmp_path / "d" / "0.png", "d"), tmp_path) is None
    path = write_boxes(tmp_path, ("0.png", (0.0, 0.0, 5.0, 5.0)), ("1.png", (0.0, 0.0, 5.0, 5.0)), side=200)
    found = LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)
    assert found.notes[0].endswith("the boxes of 0.png were drawn on 200 x 200, and it is 384 x 384; its fault is judged without them")
    path = write_boxes(tmp_path, ("0.png", (900.0, 0.0, 5.0, 5.0)), side=None)
    found = LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)
    assert "the boxes of 0.png lie outside of it" in found.notes[0]
    for broken, why in (
        ({"images": [], "annotations": [{"image_id": 7, "bbox": [0, 0, 2, 2]}]}, "picture 7, which is not among its images"),
        ({"images": [], "annotations": [{"image_id": 7, "bbox": [0, 0, 1]}]}, r"not a COCO file at annotations\.0\.bbox"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=why):
            LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)


def test_boxes_that_may_be_of_several_pictures_or_are_no_pixels_are_not_used(line: Path, tmp_path: Path) -> None:
    faults = [*write_faults(tmp_path / "a", [20, 20], "../x/{}.png"), *write_faults(tmp_path / "b", [20, 20], "../x/{}.png")]
    path = write_boxes(tmp_path, ("0.png", (0.0, 0.0, 5.0, 5.0)), ("a/1.png", (0.0, 0.0, 9.0, 9.0)))
    more = {
        "images": [{"id": 1, "file_name": "a/1.png", "width": 384, "height": 384}],
        "annotations": [{"image_id": 1, "bbox": [90, 90, 20, 20]}],
    }
    (tmp_path / "more.json").write_text(json.dumps(more))
    found = LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)
    assert [mask is not None for mask in found.masks] == [False, True, False, False]
    assert found.smallest == 20.0  # of both files' boxes: the largest piece
    assert found.notes == [
        f"{path}: 2 pictures are called 0.png ({faults[0].id}, {faults[2].id}), so its boxes are left out; "
        "export file names with their folders"
    ]
    write_boxes(tmp_path, ("a/0.png", (0.1, 0.2, 0.25, 0.5)))
    (tmp_path / "more.json").unlink()
    with pytest.raises(DataError, match="all boxes lie between 0 and 1: shares of the picture"):
        LabelledFaults(faults, PictureFolder(line / "good", CameraInput()), boxes_of=tmp_path)


def test_boxes_that_may_be_of_either_of_two_pictures_are_left_out(tmp_path: Path) -> None:
    path = write_boxes(tmp_path, ("A.png", (0.0, 0.0, 5.0, 5.0)), ("a.png", (0.0, 0.0, 9.0, 9.0)), ("b.png", (0.0, 0.0, 9.0, 9.0)))
    found = read_boxes(tmp_path)
    assert list(found.by_path) == ["b.png"]
    assert [note.partition(": ")[2].split(",")[0] for note in found.notes] == ["A.png and a.png differ in capital letters alone"] * 2
    assert str(path) in found.notes[0]


def test_a_box_over_the_whole_as_a_share_is_told_too(tmp_path: Path) -> None:
    write_boxes(tmp_path, ("a.png", (0.0, 0.0, 1.0, 1.0)))
    with pytest.raises(DataError, match="shares of the picture"):
        read_boxes(tmp_path)


def test_a_fault_with_a_mask_counts_only_where_it_is(line: Path, tmp_path: Path) -> None:
    found = LabelledFaults(write_faults(tmp_path, [32, 32], "{}_mask.png"), PictureFolder(line / "good", CameraInput()))
    clean, faults = torch.zeros(3, 12, 12), torch.zeros(2, 12, 12)
    faults[0, 3, 6], faults[1, 10, 1] = 5.0, 9.0  # rows 100 to 132, columns 200 to 232 of 384; and far from there
    assert found.scores(clean, faults, [0.0])[0.0].tolist() == [5.0, 0.0]


def test_a_fault_is_as_large_as_its_largest_piece() -> None:
    mask = np.zeros((50, 50), bool)
    mask[0:3, 0:3] = mask[10:20, 10:20] = True
    assert fault_size(mask) == 10.0


def test_of_a_whole_layout_only_faults_are_labelled(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/good/1.png", "test/crack/2.png", "ground_truth/crack/2_mask.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for root in (tmp_path, tmp_path / "test", tmp_path / "test" / "crack"):
        assert [(p.path.name, p.defect, p.mask is not None) for p in find_faults(root)] == [("2.png", "crack", True)]
