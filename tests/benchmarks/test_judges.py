"""The sets that only judge: laid out from a checkout, none of what is learnt is judged, and what a threshold in hindsight would find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly.data.pictures.layouts import find_labelled
from anomaly.data.pictures.reading import read_mask
from anomaly.errors import DataError
from benchmarks.camera.judges import decisions
from benchmarks.protocols.judges import boards, castings, commutators, fabrics
from benchmarks.protocols.judges.__main__ import main
from benchmarks.protocols.judges.placing import Placed


def picture(path: Path, value: int = 90, mode: str = "L", size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def by_folder(placed: list[Placed]) -> dict[str, set[str]]:
    return {folder: {one.name for one in placed if one.folder == folder} for folder in ("train/good", "test/good", "test/fault")}


def test_boards_learn_some_templates_and_judge_the_others_with_their_faulty_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "LEARNT", 2)
    for layout in boards.LAYOUTS:
        root = tmp_path / "PCBData" / f"group{layout}"
        for end in ("temp", "test"):
            picture(root / layout / f"{layout}000_{end}.jpg", size=(640, 640))
        (root / f"{layout}_not").mkdir()
        (root / f"{layout}_not" / f"{layout}000.txt").write_text("10 20 12 23 3\n\n")
    found = by_folder(boards.boards(tmp_path))
    assert (len(found["train/good"]), len(found["test/good"]), len(found["test/fault"])) == (2, 1, 1)
    assert not found["train/good"] & found["test/good"]
    assert {name.replace("_test", "_temp") for name in found["test/fault"]} == found["test/good"]
    main(["boards", str(tmp_path), "--out", str(tmp_path / "out")])
    faulty = next(one for one in find_labelled(tmp_path / "out") if one.defect)
    assert faulty.mask is not None
    rows, columns = np.nonzero(read_mask(faulty.mask))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 23, 10, 12)


def test_a_box_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3 4 5\n1 2 three 4 5\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: .* is no box"):
        boards.mask_of(tmp_path / "a.txt")


def test_commutators_are_learnt_by_items_and_judged_by_their_masks(tmp_path: Path) -> None:
    for item in ("kos01", "kos35", "kos36"):
        for part, crack in (("Part0", 0), ("Part1", 255)):
            picture(tmp_path / "data" / item / f"{part}.jpg")
            picture(tmp_path / "data" / item / f"{part}_label.bmp", crack)
    found = by_folder(commutators.commutators(tmp_path))
    assert found["train/good"] == {"kos01_Part0.jpg", "kos35_Part0.jpg"}
    assert found["test/good"] == {"kos36_Part0.jpg"}
    assert found["test/fault"] == {f"kos{n}_Part1.jpg" for n in ("01", "35", "36")}


def test_fabrics_are_learnt_each_in_part_and_written_without_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabrics, "LEARNT", 1)
    for fabric in ("00", "01"):
        for number in ("0001", "0002"):
            picture(tmp_path / "no_defect" / f"a{fabric}" / f"{number}_000_{fabric}.png", mode="LA", value=(70, 255))  # type: ignore[arg-type]
    picture(tmp_path / "no_defect" / "a00" / "0002_00_00.png")  # a stray copy
    for name in ("0001_002_00", "0002_002_08"):  # of fabric 08 there is no faultless strip
        picture(tmp_path / "defect" / f"{name}.png")
    found = by_folder(fabrics.fabrics(tmp_path))
    assert found["train/good"] == {"0001_000_00.png", "0001_000_01.png"}
    assert found["test/good"] == {"0002_000_00.png", "0002_000_01.png"}
    assert found["test/fault"] == {"0001_002_00.png"}
    main(["fabrics", str(tmp_path), "--out", str(tmp_path / "out")])
    with Image.open(tmp_path / "out/train/good/0001_000_00.png") as written:
        assert (written.mode, written.getpixel((0, 0))) == ("L", 70)


def test_castings_are_drawn_the_same_each_time_and_judged_on_the_test_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(castings, "LEARNT", 3)
    for part, count in (("train/ok_front", 6), ("test/ok_front", 2), ("test/def_front", 2)):
        for number in range(count):
            picture(tmp_path / "data/casting_data" / part / f"{part[:5].strip('/')}_{number}.jpeg")
    found = by_folder(castings.castings(tmp_path))
    assert found == by_folder(castings.castings(tmp_path))
    assert [len(names) for names in found.values()] == [3, 2, 2]


def test_a_folder_that_is_no_checkout_or_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["commutators", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "give a checkout of github.com/songpeixuan22" in capsys.readouterr().err
    picture(tmp_path / "data/kos01/Part0.jpg")
    picture(tmp_path / "data/kos01/Part0_label.bmp", 0)
    with pytest.raises(SystemExit):
        main(["commutators", str(tmp_path), "--out", str(tmp_path)])
    assert "give a new folder" in capsys.readouterr().err


def test_hindsight_is_told_at_the_false_alarms_that_came_and_at_shares_of_good_parts() -> None:
    good, bad = np.arange(200.0), np.array([150.5, 197.5, 198.5, 250.0])
    frame = pd.DataFrame({"label": ["good"] * 200 + ["crack"] * 4, "score": [*good, *bad]})
    frame["flagged"] = frame["score"] > 196.2  # three good parts, three faults
    found = decisions(frame, 0.01)
    assert (found["recall"], found["false_alarms"]) == (0.75, 3)
    assert found["recall_in_hindsight"] == {"same false alarms": 0.75, "1%": 0.75, "2%": 0.75}  # 1 %: two good parts above 197
    low, high = found["false_alarm_rate_ci95"]
    assert low < 0.015 < high
    assert found["would_be"] == [0, 5]
    frame["flagged"] = frame["score"] > 1000.0
    assert decisions(frame, 0.01)["recall_in_hindsight"]["same false alarms"] == 0.25
