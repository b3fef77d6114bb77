"""Pictures as plants keep them, through the commands: names, layouts, pictures that are refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.alarms.store import Store
from anomaly.bundle.archive import read_bundle
from anomaly.edge.runtime.files import score_paths
from anomaly.edge.runtime.session import Session
from tests.conftest import Fitted, run


def parts(camera: Fitted, kind: str) -> list[Path]:
    return sorted((camera.data / "test" / kind).iterdir())


def mask_of(camera: Fitted, picture: Path) -> Path:
    return next(p for p in (camera.data / "ground_truth" / picture.parent.name).iterdir() if p.stem.startswith(picture.stem))


def place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == target.suffix:
        shutil.copyfile(source, target)
    else:
        Image.open(source).save(target)


def mvtec(camera: Fitted, root: Path) -> Path:
    for number, path in enumerate(parts(camera, "good")[:3]):
        place(path, root / "Test" / "Good" / f"{number}.png")
    for number, path in enumerate(parts(camera, "scratch")):
        place(path, root / "Test" / "scratch" / f"{number}.png")
        place(mask_of(camera, path), root / "Ground_Truth" / "scratch" / f"{number}_mask.png")
    return root


def mvtec_2(camera: Fitted, root: Path) -> Path:
    mvtec(camera, root)
    (root / "Test").rename(root / "test_public")
    (root / "Ground_Truth").rename(root / "test_public" / "ground_truth")
    return root


def btad(camera: Fitted, root: Path) -> Path:
    for number, path in enumerate(parts(camera, "good")[:3]):
        place(path, root / "test" / "ok" / f"{number}.bmp")
    for number, path in enumerate(parts(camera, "scratch")):
        place(path, root / "test" / "ko" / f"{number}.bmp")
        place(mask_of(camera, path), root / "ground_truth" / "ko" / f"{number}.png")
    return root


def visa(camera: Fitted, root: Path) -> Path:
    rows = ["object,split,label,image,mask"]
    for number, path in enumerate(parts(camera, "good")[:3]):
        place(path, root / "part" / "Data" / "Images" / "Normal" / f"{number}.JPG")
        rows.append(f"part,test,normal,part/Data/Images/Normal/{number}.JPG,")
    for number, path in enumerate(parts(camera, "scratch")):
        place(path, root / "part" / "Data" / "Images" / "Anomaly" / f"{number}.JPG")
        mask = root / "part" / "Data" / "Masks" / "Anomaly" / f"{number}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        marked = np.asarray(Image.open(mask_of(camera, path)).convert("L")) > 0
        Image.fromarray(np.where(marked, 1 + np.arange(marked.shape[1]) % 3, 0).astype(np.uint8)).save(mask)
        rows.append(f"part,test,anomaly,part/Data/Images/Anomaly/{number}.JPG,part/Data/Masks/Anomaly/{number}.png")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
    return root / "part"


def manifest(camera: Fitted, root: Path) -> Path:
    mvtec(camera, root)
    rows = [f"Test\\Good\\{n}.png;pass;" for n in range(3)]
    rows += [f"Test\\scratch\\{n}.png;Kratzer;Ground_Truth\\scratch\\{n}_mask.png" for n in range(2)]
    (root / "list.csv").write_text("\n".join(["Image;Label;Mask", *rows]) + "\n", encoding="utf-8-sig")
    return root / "list.csv"


def folders(camera: Fitted, root: Path) -> Path:
    mvtec(camera, root)
    for path in (root / "Test").iterdir():
        path.rename(root / path.name)
    (root / "Test").rmdir()
    return root


@pytest.mark.parametrize("layout", [mvtec, mvtec_2, btad, visa, manifest, folders])
def test_every_layout_gives_figures_of_pixels_and_a_report(camera: Fitted, tmp_path: Path, layout: Callable[[Fitted, Path], Path]) -> None:
    data = layout(camera, tmp_path / "data")
    said = run("evaluate", camera.bundle, "--data", data, "--json", tmp_path / "f.json", "--report", tmp_path / "r.html")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["n"], figures["n_defect"], figures["masks"], figures["masks_left_out"]) == (5, 2, 2, 0)
    assert figures["pixel_auroc"] > 0.6
    assert "2 masks used, 0 defects without one, 0 masks left out" in said
    assert (tmp_path / "r.html").read_text().count("data:image/png") >= 4


ODD = [b"pr\xfcf.png", b"\xff\xfe.png", b"line\nbreak.png", "µ 部品.png".encode()]


@pytest.fixture
def odd_names(camera: Fitted, tmp_path: Path) -> Path:
    folder = tmp_path / os.fsdecode(b"schicht \xe9")
    for name, source in zip(ODD, parts(camera, "good"), strict=False):
        place(source, folder / "good" / os.fsdecode(name))
    place(parts(camera, "scratch")[0], folder / os.fsdecode(b"ri\xdf") / "1.png")
    return folder


def test_names_that_are_not_utf_8_are_escaped_alike_by_every_command(camera: Fitted, tmp_path: Path, odd_names: Path) -> None:
    run("score", camera.bundle, odd_names, "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv")
    scored = {row["record"].split("good/")[-1].split("\\xe9/")[-1]: row["score"] for row in json.loads((tmp_path / "s.json").read_text())}
    assert set(scored) == {r"pr\xfcf.png", r"\xff\xfe.png", r"line\x0abreak.png", "µ 部品.png", r"ri\xdf/1.png"}
    run("evaluate", camera.bundle, "--data", odd_names, "--json", tmp_path / "f.json", "--report", tmp_path / "r.html")
    assert list(json.loads((tmp_path / "f.json").read_text())["per_defect"]) == [r"ri\xdf"]
    for path in odd_names.rglob("*.png"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    for _ in range(2):  # and after a restart
        run("monitor", camera.bundle, "--source", odd_names, "--once", "--store", tmp_path / "m.db", "--line", "odd")
    stored = {row.record.removeprefix("good/").split("@")[0]: row.score for row in Store(tmp_path / "m.db").scores("odd")}
    assert stored == pytest.approx(scored, rel=1e-5)


def test_one_bad_picture_stops_nothing_and_is_named(camera: Fitted, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number, part in enumerate(parts(camera, "good")[:4]):  # most can be read: else the command would end with 1
        place(part, folder / f"{number}.png")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "float.tif")
    page = Image.new("L", (8, 8))
    page.save(folder / "pages.tif", save_all=True, append_images=[page, page])
    (folder / os.fsdecode(b"\xfc.jpg")).write_bytes(b"no picture")
    frame, rejected = score_paths(read_bundle(camera.bundle), Session(read_bundle(camera.bundle).detector, "cpu"), [folder])
    assert len(frame) == 4
    named = ("float.tif: floating", "pages.tif: holds 3", r"\xfc.jpg: not a")
    assert [any(words in reason for reason in rejected) for words in named] == [True] * 3
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    said = run("monitor", camera.bundle, "--source", folder, "--once", "--store", tmp_path / "m.db", "--line", "bad")
    assert r"\xfc.jpg: not a picture" in said
    assert len(Store(tmp_path / "m.db").rejections("bad")) == 3


def test_inspect_tells_of_pictures_what_a_fit_would_find(camera: Fitted, tmp_path: Path) -> None:
    said = run("inspect", camera.data)
    assert "24 pictures of good parts, read as rgb" in said
    assert "2 scratch" in said
    for number, path in enumerate(parts(camera, "good")):
        place(path, tmp_path / f"{number}.png")
        place(path, tmp_path / f"{number} again.png")
    said = run("inspect", tmp_path)
    assert "12 pictures show 6 different parts" in said
    assert "12 readable pictures of good parts; at least 16 are needed" in said
