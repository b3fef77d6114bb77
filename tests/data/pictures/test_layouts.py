"""Where pictures lie: each layout, manifests, and test pictures that show what training pictures show."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.data.pictures.layouts import find_labelled, find_pictures
from anomaly.data.pictures.reading import Picture
from anomaly.data.pictures.repeats import near_duplicates
from anomaly.data.records import fingerprint
from anomaly.errors import DataError
from anomaly.pipeline.data_key import stamp_of


def test_layouts(samples: Path, tmp_path: Path) -> None:
    found = find_pictures(samples / "camera")
    assert len(found.train) == 24
    assert {p.defect for p in found.test} == {None, "scratch", "dent", "stain", "chipped_edge", "missing_hole"}
    assert all(p.mask is not None and p.mask.is_file() for p in found.test if p.defect)
    flat = find_pictures(samples / "camera" / "train" / "good")
    assert len(flat.train) == 24
    assert flat.test == ()
    with pytest.raises(DataError, match="no such folder"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures in it"):
        find_pictures(tmp_path)


def touch(root: Path, *names: str) -> None:
    """Small different pictures under `root`."""
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (40, 40), dtype=np.uint8)).save(path)


def kinds(root: Path) -> tuple[int, dict[str, tuple[str | None, bool]]]:
    found = find_pictures(root)
    return len(found.train), {p.id: (p.defect, p.mask is not None and p.mask.is_file()) for p in found.test}


def test_btad_layout(tmp_path: Path) -> None:
    touch(tmp_path, "train/ok/0.bmp", "test/ok/1.bmp", "test/ko/2.bmp", "ground_truth/ko/2.png")
    assert kinds(tmp_path) == (1, {"test/ko/2.bmp": ("ko", True), "test/ok/1.bmp": (None, False)})


def test_mvtec_ad_2_layout(tmp_path: Path) -> None:
    public = "test_public"
    touch(tmp_path, "train/good/0.png", "validation/good/1.png", f"{public}/good/2.png", f"{public}/bad/3.png")
    touch(tmp_path, f"{public}/ground_truth/bad/3_mask.png")
    assert kinds(tmp_path) == (2, {f"{public}/bad/3.png": ("bad", True), f"{public}/good/2.png": (None, False)})


def test_visa_layout(tmp_path: Path) -> None:
    candle = "candle/Data"
    touch(tmp_path, f"{candle}/Images/Normal/0.JPG", f"{candle}/Images/Normal/1.JPG", f"{candle}/Images/Anomaly/2.JPG")
    touch(tmp_path, f"{candle}/Masks/Anomaly/2.png")
    with pytest.raises(DataError, match=r"1cls\.csv: not there"):
        find_pictures(tmp_path / "candle")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text(
        "object,split,label,image,mask\n"
        f"candle,train,normal,{candle}/Images/Normal/0.JPG,\n"
        f"candle,test,normal,{candle}/Images/Normal/1.JPG,\n"
        f"candle,test,anomaly,{candle}/Images/Anomaly/2.JPG,{candle}/Masks/Anomaly/2.png\n"
        "capsules,train,normal,capsules/Data/Images/Normal/9.JPG,\n"
    )
    expected = {f"{candle}/Images/Anomaly/2.JPG": ("anomaly", True), f"{candle}/Images/Normal/1.JPG": (None, False)}
    assert kinds(tmp_path / "candle") == (1, expected)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_manifest(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "a/0.png", "b/1.png", "b/2.png", "m/2.png")
    rows = [("a/0.png", "train", "good", None), ("b/1.png", "test", "ok", None), ("b/2.png", "test", "scratch", "m/2.png")]
    table = pd.DataFrame(rows, columns=["image", "split", "label", "mask"])
    path = tmp_path / f"list{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    assert kinds(path) == (1, {"b/1.png": (None, False), "b/2.png": ("scratch", True)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,good\n", "no column split"),
        ("image,split,label\na.png,training,good\n", "row 2: split is 'training'; write train or test"),
        ("image,split,label\na.png,train,scratch\n", "1 training rows are labelled as defects"),
        ("image,split,label\n../a.png,train,good\n", "row 2: .* leads out of"),
        ("image,split,label,mask\na.png,test,scratch,../m.png\n", r"row 2: \.\./m\.png leads out of"),
        ("image,split,label\na.png,test,good\n", "no row with split = train"),
        ("image,split,label\na.png,train,good\n,train,good\n", "row 3: image is blank"),
        *(
            (f"image,split,label\na.png,train,good\nb.png,test,{label}\n", "row 3: label .* says neither good nor defective")
            for label in ("", "  ", "nan", "None", "n/a", "?", "2", "0.5", "-1", "unknown", "yes", "no", "todo", "-")
        ),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        find_pictures(path)


def test_near_duplicates_are_found_through_light_and_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = [np.asarray(Image.fromarray(rng.integers(40, 160, (12, 12), dtype=np.uint8)).resize((96, 96)), dtype=float) for _ in range(6)]
    for index, one in enumerate(texture[:4]):
        Image.fromarray(one.astype(np.uint8)).save(tmp_path / f"train{index}.png")
    again = texture[2] * 1.3 + 10 + rng.normal(0, 1, (96, 96))
    Image.fromarray(again.clip(0, 255).astype(np.uint8)).save(tmp_path / "again.png")
    Image.fromarray(texture[5].astype(np.uint8)).save(tmp_path / "new.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    train = [Picture(f"train{i}", tmp_path / f"train{i}.png") for i in range(4)]
    test = [Picture(name, tmp_path / f"{name}.png") for name in ("again", "new", "broken")]
    assert near_duplicates(train, test) == {"again": "train2"}


# --- labels, names and files of manifests ---

GOOD = (
    "good",
    "Good",
    "OK",
    " ok ",
    "okay",
    "normal",
    "0",
    "0.0",
    "False",
    "false",
    "pass",
    "Passed",
    "i.O.",
    "io",
    "defect-free",
    "No_Defect",
)
BAD = {
    "scratch": "scratch", "NG": "NG", "ko": "ko", "nok": "nok", "1": "defect", "1.0": "defect", "True": "defect", "fail": "fail",
    "anomaly": "anomaly", "Kratzer 2": "Kratzer 2", "n.i.O.": "n.i.O.",
}  # fmt: skip


@pytest.mark.parametrize(("label", "kind"), [*((label, None) for label in GOOD), *BAD.items()])
def test_what_a_label_says(tmp_path: Path, label: str, kind: str | None) -> None:
    (tmp_path / "list.csv").write_text(f"image,split,label\na.png,train,good\nb.png,test,{label}\n")
    assert [p.defect for p in find_pictures(tmp_path / "list.csv").test] == [kind]


@pytest.mark.parametrize("column", [[0.0, 1.0], [False, True], [0, 1], ["ok", "1"]])
def test_labels_of_a_parquet_manifest(tmp_path: Path, column: list[object]) -> None:
    table = pd.DataFrame({"image": ["a.png", "b.png"], "split": ["train", "test"], "label": column, "mask": [None, None]})
    table.to_parquet(tmp_path / "list.parquet")
    found = find_pictures(tmp_path / "list.parquet")
    assert [(p.defect, p.mask) for p in (*found.train, *found.test)] == [(None, None), ("defect", None)]


def test_a_blank_label_of_a_parquet_manifest(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": ["a.png", "b.png"], "split": ["train", "test"], "label": [0.0, None]})
    table.to_parquet(tmp_path / "list.parquet")
    with pytest.raises(DataError, match="row 3: label '' says neither"):
        find_pictures(tmp_path / "list.parquet")


@pytest.mark.parametrize(
    "text",
    [
        "image,split,label\n{0},train,good\n",
        "\ufeffImage;Split;Label\n{0};TRAIN;Good\n",
        "image\tsplit\tlabel\n{0}\ttrain\tok\n",
        "split,label,image\ntrain,0,{0}\n",
    ],
    ids=["plain", "BOM, semicolons, capitals", "tabs", "other order"],
)
@pytest.mark.parametrize(
    ("written", "encoding"), [("teile\\prüf.png", "utf-8"), ("teile/prüf.png", "cp1252"), ("teile/pru\u0308f.png", "utf-8")]
)
def test_manifests_as_other_systems_write_them(tmp_path: Path, text: str, written: str, encoding: str) -> None:
    touch(tmp_path, "teile/prüf.png")
    text = text.removeprefix("\ufeff") if encoding != "utf-8" else text
    (tmp_path / "list.csv").write_bytes(text.format(written).encode(encoding))
    assert [p.path for p in find_pictures(tmp_path / "list.csv").train] == [tmp_path / "teile" / "prüf.png"]


# --- folders in any case, without a training part, and with folders in them ---


@pytest.mark.parametrize("train", ["train/good", "train/Good", "Train/OK", "TRAIN/normal", "training/Gut"])
@pytest.mark.parametrize(("test", "truth"), [("test", "ground_truth"), ("Test", "Ground_Truth"), ("TEST", "masks")])
def test_folder_names_in_any_case(tmp_path: Path, train: str, test: str, truth: str) -> None:
    touch(tmp_path, f"{train}/0.png", f"{test}/GOOD/1.png", f"{test}/Crack/2.png", f"{truth}/crack/2_mask.png")
    assert kinds(tmp_path) == (1, {f"{test}/Crack/2.png": ("Crack", True), f"{test}/GOOD/1.png": (None, False)})


@pytest.mark.parametrize("mask", ["2_mask.png", "2.png", "2.bmp", "2.PNG", "2_MASK.tif", "2_gt.png", "2_mask.jpg"])
def test_names_of_masks(tmp_path: Path, mask: str) -> None:
    touch(tmp_path, "train/good/0.png", "test/crack/2.jpg", "test/crack/20.jpg", f"ground_truth/crack/{mask}")
    assert kinds(tmp_path)[1] == {"test/crack/2.jpg": ("crack", True), "test/crack/20.jpg": ("crack", False)}


def test_no_training_part_is_needed_to_judge(tmp_path: Path) -> None:
    touch(tmp_path, "test/good/1.png", "test/crack/2.png", "ground_truth/crack/2_mask.png")
    assert [(p.id, p.defect, p.mask is not None) for p in find_labelled(tmp_path)] == [
        ("test/crack/2.png", "crack", True), ("test/good/1.png", None, False),
    ]  # fmt: skip
    (tmp_path / "list.csv").write_text("image,label\ntest/good/1.png,pass\ntest/crack/2.png,crack\n")
    assert [p.defect for p in find_labelled(tmp_path / "list.csv")] == [None, "crack"]
    with pytest.raises(DataError, match="no pictures in it"):
        find_pictures(tmp_path)


def test_a_folder_a_kind_with_masks_beside(tmp_path: Path) -> None:
    touch(tmp_path, "good/1.png", "good/2026-01/2.png", "crack/3.png", "line 2/crack/4.png", "5.png", "ground_truth/crack/3_mask.png")
    found = {p.id: (p.defect, p.mask is not None) for p in find_labelled(tmp_path, layout="folder")}
    assert found == {
        "5.png": (None, False), "good/1.png": (None, False), "good/2026-01/2.png": (None, False),
        "crack/3.png": ("crack", True), "line 2/crack/4.png": ("crack", False),
    }  # fmt: skip


def test_good_parts_in_subfolders_are_learnt_from_and_what_is_passed_over_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/monday/0.png", "train/good/1.png", "train/bad/2.png", "train/3.png", "test/good/4.png")
    found = find_pictures(tmp_path)
    assert [p.id for p in found.train] == ["train/good/1.png", "train/good/monday/0.png"]
    assert len(found.notes) == 2
    assert "train: 1 pictures in it are not learnt from" in found.notes[0]
    assert "train/bad: 1 pictures in it are not learnt from" in found.notes[1]
    touch(tmp_path / "flat", "0.png", "crack/1.png", "test/crack/2.png")
    flat = find_pictures(tmp_path / "flat")
    assert ([p.id for p in flat.train], [p.id for p in flat.test]) == (["0.png"], ["test/crack/2.png"])
    assert ["crack: 1 pictures in it" in note for note in flat.notes] == [True]


def test_pictures_straight_in_the_training_folder(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "test/crack/1.png")
    assert kinds(tmp_path) == (1, {"test/crack/1.png": ("crack", False)})


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/a/1.png")
    (tmp_path / "train" / "good" / "0.png").rename(tmp_path / "train" / "good" / os.fsdecode(b"pr\xfcf.png"))
    (tmp_path / "test" / "a").rename(tmp_path / "test" / os.fsdecode(b"ri\xdf"))
    found = find_pictures(tmp_path)
    assert [p.id for p in found.train] == [r"train/good/pr\xfcf.png"]
    assert [(p.id, p.defect) for p in found.test] == [(r"test/ri\xdf/1.png", r"ri\xdf")]
    assert fingerprint([p.path for p in found.train], tmp_path) != fingerprint([], tmp_path)
    assert stamp_of([p.path for p in found.train])
