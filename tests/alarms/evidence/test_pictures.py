"""An alarm over several pictures: what is said of one is not said of the others, in the store, in files and in the audit log."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly.alarms.events import make_event
from anomaly.alarms.evidence import Evidence, Role
from anomaly.alarms.labels.export import export_labels
from anomaly.alarms.life import State
from anomaly.alarms.store import Batch, Scored, Store
from anomaly.errors import DataError

NAMES: dict[Role, str] = {"opened": "good/1.png@1700000000000", "worst": "2.png@1700000001000"}


def picture(role: Role, shade: int) -> Evidence:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40), shade, np.uint8)).save(buffer, "JPEG")
    meta = {"size": [80, 60], "kept": [40, 30]}
    worst = role == "worst"
    return Evidence("a1", role, "picture", NAMES[role], 100.0 + worst, 0.002 if worst else 0.004, meta, buffer.getvalue(), b"")


def made_store(path: Path) -> Store:
    """An alarm that a good part opened, and whose worst picture shows a fault."""
    made = Store(path, clock=lambda: 200.0)
    data = {"class": "process", "condition": "process", "where": {"x": 0.5, "y": 0.5}, "record": NAMES["opened"], "p_value": 0.004}
    event = make_event("opened", "press", "a1", 100.0, data | {"began": "1970-01-01T00:01:40Z", "threshold_p": 0.01})
    scored = [Scored(name, 100.0 + i, 2.0 + i, 0.004 / (1 + i)) for i, name in enumerate([*NAMES.values(), "3.png@1700000002000"])]
    scored.append(Scored("calm.png@1700000003000", 104.0, 1.0, 0.6))
    batch = Batch("press", "b", {}, State(), None, scored, events=[event], evidence=[picture("opened", 200), picture("worst", 50)])
    book = made.book("press")
    book.apply([event], 100.0)
    batch.prepare = lambda batch: setattr(batch, "changes", book.changes)
    made.commit(batch)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return made_store(tmp_path / "s.db")


def test_each_picture_goes_out_under_what_was_said_of_it(store: Store, tmp_path: Path) -> None:
    store.label("a1", "nuisance", "ada", records=[NAMES["opened"]])
    said = store.label("a1", "real", "bob", kind="crack", boxes=[(10, 20, 30, 20)], records=[NAMES["worst"]])
    assert (said.verdict, said.kind, len(said.pictures)) == ("real", "crack", 2)  # the alarm is real since one of its pictures is
    assert store.labels() == [said]
    assert [each.action for each in store.actions(alarm="a1")] == [
        "labelled nuisance, picture good/1.png", "labelled real (crack), boxes 10,20,30,20, picture 2.png",
    ]  # fmt: skip
    found = export_labels(store, tmp_path / "out")
    assert (found.faults, found.good, found.notes) == (1, 1, [])
    assert [path.name for path in (tmp_path / "out/press/good").iterdir()] == ["a1-opened.jpg"]
    coco = json.loads((tmp_path / "out/press/faults/labels.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["crack/a1-worst.jpg"]
    assert [one["bbox"] for one in coco["annotations"]] == [[5.0, 10.0, 15.0, 10.0]]  # in pixels of the picture as it is kept
    rows = list(csv.DictReader((tmp_path / "out/labels.csv").open()))
    assert [(row["record"], row["verdict"], row["kind"], row["boxes"]) for row in rows] == [
        ("good/1.png", "nuisance", "", "[]"), ("2.png", "real", "crack", "[[10, 20, 30, 20]]"),
    ]  # fmt: skip


def test_a_picture_of_which_nothing_was_said_does_not_go_out(store: Store, tmp_path: Path) -> None:
    store.label("a1", "real", "ada", kind="crack", records=[NAMES["worst"]])
    found = export_labels(store, tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").rglob("*.jpg")] == ["a1-worst.jpg"]
    store.label("a1", "nuisance", "ada", records=[NAMES["worst"]])  # the newest word on that picture
    label = store.label_of("a1")
    assert label is not None
    assert (label.verdict, label.kind) == ("nuisance", "")
    store.label("a1", "real", "ada", kind="crack")  # of the alarm: of which picture is not said
    found = export_labels(store, tmp_path / "none")
    assert not list((tmp_path / "none").rglob("*.jpg"))
    assert "2 pictures are kept of it, and the label does not say of which" in found.notes[0]
    store.label("a1", "real", "ada", kind="crack", boxes=[(1, 2, 3, 4)])  # on the picture that opened it
    export_labels(store, tmp_path / "opened")
    assert [path.name for path in (tmp_path / "opened").rglob("*.jpg")] == ["a1-opened.jpg"]


def test_a_box_belongs_to_one_picture_and_lies_on_it(store: Store) -> None:
    with pytest.raises(DataError, match="a box belongs to one picture"):
        store.label("a1", "real", "ada", boxes=[(1, 2, 3, 4)], records=list(NAMES.values()))
    with pytest.raises(DataError, match="beyond the picture, which is 80 by 60"):
        store.label("a1", "real", "ada", boxes=[(70, 2, 30, 4)], records=[NAMES["worst"]])
    assert store.label_of("a1") is None
