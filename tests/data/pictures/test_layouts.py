"""Where pictures lie: each layout, manifests, and test pictures that show what training pictures show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.data.pictures.layouts import find_pictures, near_duplicates
from anomaly.data.pictures.reading import Picture
from anomaly.errors import DataError


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
