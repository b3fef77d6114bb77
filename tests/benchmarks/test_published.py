"""Published picture sets on made-up trees of their exact layouts: what is learnt and judged, one small fit, going on, the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.samples.synthetic import part_picture
from anomaly.evaluation.pixels import PixelFigures
from benchmarks.protocols.published.__main__ import main
from benchmarks.protocols.published.figures import table
from benchmarks.protocols.published.sets import SETS
from tests.conftest import CAMERA_SPEC


def picture(path: Path, value: int = 90, size: tuple[int, int] = (64, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def mvtec(root: Path) -> None:
    for category in SETS["mvtec"].categories:
        for number in range(3):
            picture(root / category / f"train/good/{number:03}.png")
        picture(root / category / "test/good/000.png")
        picture(root / category / "test/cut_lead/000.png")
        picture(root / category / "ground_truth/cut_lead/000_mask.png", 255)
    (root / "license.txt").write_text("CC BY-NC-SA 4.0")


def mvtec2(root: Path) -> None:
    for category in SETS["mvtec2"].categories:
        for part in ("train/good", "validation/good", "test_public/good"):
            picture(root / "mvtec_ad_2" / category / part / "000_regular.png")
        picture(root / "mvtec_ad_2" / category / "train/good/001_overexposed.png")
        picture(root / "mvtec_ad_2" / category / "test_public/bad/000_underexposed.png")
        picture(root / "mvtec_ad_2" / category / "test_public/ground_truth/bad/000_underexposed_mask.png", 255)
        picture(root / "mvtec_ad_2" / category / "test_private/000.png")
        picture(root / "mvtec_ad_2" / category / "test_private_mixed/000_mixed.png")


def visa(root: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for category in SETS["visa"].categories:
        images = f"{category}/Data/Images"
        for number, part in ((0, "train"), (1, "train"), (2, "train"), (3, "test")):
            picture(root / images / f"Normal/{number:04}.JPG")
            rows.append(f"{category},{part},normal,{images}/Normal/{number:04}.JPG,")
        picture(root / images / "Anomaly/000.JPG")
        picture(root / category / "Data/Masks/Anomaly/000.png", 1)
        rows.append(f"{category},test,anomaly,{images}/Anomaly/000.JPG,{category}/Data/Masks/Anomaly/000.png")
        (root / category / "image_anno.csv").write_text("image,label,mask\n")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")


def btad(root: Path) -> None:
    for category, suffix, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        base = root / "BTech_Dataset_transformed" / category
        for number in range(3):
            picture(base / f"train/ok/{number:04}.{suffix}")
        picture(base / f"test/ok/0000.{suffix}")
        picture(base / f"test/ko/0000.{suffix}")
        picture(base / f"ground_truth/ko/0000.{masks}", 255)


def kolektor(root: Path) -> None:
    for item in (1, 35, 36, 50):
        for part, crack in ((0, 0), (1, 255)):
            picture(root / f"KolektorSDD/kos{item:02}/Part{part}.jpg")
            picture(root / f"KolektorSDD/kos{item:02}/Part{part}_label.bmp", crack)
    for part, first in (("train", 10000), ("test", 20000)):
        for number, fault in ((first, 0), (first + 1, 0), (first + 2, 255)):
            picture(root / f"KolektorSDD2/{part}/{number}.png")
            picture(root / f"KolektorSDD2/{part}/{number}_GT.png", fault)
    picture(root / "KolektorSDD2/train/10001 (copy).png")
    (root / "KolektorSDD2/split_weakly_246.pyb").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "make", "learnt", "good"),
    [("mvtec", mvtec, 3, 1), ("mvtec2", mvtec2, 3, 1), ("visa", visa, 3, 1), ("btad", btad, 3, 1)],
)
def test_every_category_is_found_in_the_published_layout(name: str, make: object, learnt: int, good: int, tmp_path: Path) -> None:
    make(tmp_path / "set")  # type: ignore[operator]
    published = SETS[name]
    for category in published.categories:
        found = find_pictures(published.data_of(category, tmp_path / "set", tmp_path / "work"))
        assert (len(found.train), found.notes) == (learnt, ())
        faulty = [p for p in found.test if p.defect is not None]
        assert (len(found.test) - len(faulty), len(faulty)) == (good, 1)
        assert faulty[0].mask is not None
        assert faulty[0].mask.is_file()
    assert not (tmp_path / "work").exists()  # read where they lie


def test_kolektor_is_learnt_from_faultless_pictures_and_judged_by_masks(tmp_path: Path) -> None:
    kolektor(tmp_path / "set")
    found = {c: find_pictures(SETS["kolektor"].data_of(c, tmp_path / "set", tmp_path / "work")) for c in SETS["kolektor"].categories}
    items, surfaces = found["KolektorSDD"], found["KolektorSDD2"]
    assert {p.path.name for p in items.train} == {"kos01_Part0.jpg", "kos35_Part0.jpg"}
    assert {p.path.name for p in items.test if p.defect is None} == {"kos36_Part0.jpg", "kos50_Part0.jpg"}
    assert sum(p.defect is not None for p in items.test) == 4
    assert {p.path.name for p in surfaces.train} == {"10000.png", "10001.png"}  # not the copy, not the faulty one, no mask
    assert {(p.path.name, p.defect is None) for p in surfaces.test} == {("20000.png", True), ("20001.png", True), ("20002.png", False)}
    assert all(p.mask is not None for p in (*items.test, *surfaces.test) if p.defect)


def test_a_mask_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kolektor(tmp_path / "set")
    (tmp_path / "set/KolektorSDD2/test/20001_GT.png").unlink()
    with pytest.raises(SystemExit):
        main(["kolektor", str(tmp_path / "set"), "--out", str(tmp_path / "r.json"), "--categories", "KolektorSDD2"])
    assert "20001_GT.png: there is no such mask" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mvtec", "SET", "--categories", "botle"], "no category botle; it has bottle, cable"),
        (["visa", "SET"], "looked for Data/Images/Normal in candle"),
        (["mvtec", "SET/none"], "no such folder"),
    ],
)
def test_what_is_not_there_is_told(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mvtec(tmp_path / "set")
    with pytest.raises(SystemExit) as stopped:
        main([a.replace("SET", str(tmp_path / "set")) for a in arguments] + ["--out", str(tmp_path / "r.json")])
    assert stopped.value.code == 1
    assert said in capsys.readouterr().err


def test_one_category_is_judged_kept_and_not_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, base = np.random.default_rng(0), tmp_path / "set/BTech_Dataset_transformed/02"
    for number in range(20):
        folder, kind = ("train/ok", None) if number < 16 else ("test/ok", None) if number < 18 else ("test/ko", "stain")
        shown, mask = part_picture(rng, kind)
        (base / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown).resize((64, 64)).save(base / folder / f"{number:04}.png")
        if kind:
            (base / "ground_truth/ko").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).resize((64, 64)).save(base / f"ground_truth/ko/{number:04}.png")
    spec, out = tmp_path / "s.toml", tmp_path / "r.json"
    spec.write_text(CAMERA_SPEC)
    command = ["btad", str(tmp_path / "set"), "--out", str(out), "--spec", str(spec)]
    main(command)
    said = capsys.readouterr().out
    assert "not there, and left out: 01, 03" in said
    found = json.loads(out.read_text())["categories"]["02"]
    assert (found["learnt"], found["judged"], found["size"], found["aupro_limit"]) == (16, 4, "128x128", 0.3)
    assert found["image_auroc"] is not None
    assert min(found["fit_s"], found["picture_ms"]) > 0
    written = out.read_bytes()
    main(command)
    assert "1 of 1 categories are in" in capsys.readouterr().out
    assert out.read_bytes() == written
    spec.write_text(CAMERA_SPEC + "# the same\n")
    main(command)  # a comment is no other spec
    spec.write_text(CAMERA_SPEC.replace("0.05", "0.02"))
    with pytest.raises(SystemExit):
        main(command)
    assert "results of another spec" in capsys.readouterr().err


def test_the_table_has_a_row_a_category_in_the_published_order_and_the_mean() -> None:
    found = {
        "b": {"learnt": 10, "judged": 4, "size": "256x256", "image_auroc": 0.5, "pixel_aupro": None, "recall": 0.25, "fit_s": 10.0},
        "a": {"learnt": 20, "judged": 5, "size": "256x256", "image_auroc": 1.0, "pixel_aupro": 0.8, "recall": 0.75, "fit_s": 20.0},
    }
    lines = table(found, ("a", "b", "c")).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a", "| b", "| mean of 2 (of 3)"]
    assert lines[-1] == "| mean of 2 (of 3) |  |  |  | 0.7500 |  | 0.8000 | 50.0% |  | 15 |  |"


def test_aupro_is_taken_up_to_the_limit_that_is_asked_for() -> None:
    mask = np.zeros((256, 256), bool)
    mask[:128, :128] = True  # a quarter of the picture is defective
    scored = np.zeros((256, 256), np.float32)
    scored[:, :128] = 1.0  # found, with as much of the good part: a false-positive rate of a third at full overlap
    values = {}
    for limit in (0.3, 0.05):
        figures = PixelFigures(limit)
        figures.add_map(mask, scored)
        values[limit] = figures.result()["pixel_aupro"]
    assert values == pytest.approx({0.3: 0.45, 0.05: 0.075})  # the curve is straight from (0, 0) to (1/3, 1): limit * 3 / 2
