"""Labels as files that `anomaly fit` reads: a folder a line, with faults to give as --faults and good records to add to the normals.

OUT/labels.csv                     every label, also of alarms that nothing else is kept of
OUT/LINE/faults/KIND/ID.jpg        pictures that were called real, and faults/labels.json with their boxes (COCO)
OUT/LINE/faults/stretches.csv      when faults of a machine lasted: from, to, kind
OUT/LINE/good/ID.jpg               pictures that were called a nuisance
OUT/LINE/nuisances.csv             when a machine was well although an alarm was on: from, to

A picture goes out under what was said of it, and one of which nothing was said does not: an alarm may cover good parts and bad ones.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly.alarms.book import Alarm, Label, PictureLabel
from anomaly.alarms.events import iso
from anomaly.alarms.evidence import Evidence
from anomaly.alarms.store import Store
from anomaly.alarms.wording import record_words
from anomaly.atomic import replacing, write_text
from anomaly.data.pictures.labels import is_good
from anomaly.data.pictures.layouts import TEST, TRAIN, TRUTH, VALIDATION
from anomaly.data.spreadsheet import written_cell
from anomaly.errors import DataError
from anomaly.names import slug

NO_KIND = "fault"  # the folder of faults whose kind nobody named
READ_OTHERWISE = frozenset({*TRAIN, *VALIDATION, *TEST, *TRUTH})  # folders that a fit takes for something else, as those of good parts


@dataclass
class Exported:
    """How many labels became pictures or stretches of faults, and of what was well; `notes`: what could not be used, in words."""

    labels: int = 0
    faults: int = 0
    good: int = 0
    folders: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Line:
    """What is gathered of one line."""

    pictures: list[tuple[str, Evidence, PictureLabel]] = field(default_factory=list)  # path below the line's folder
    faults: list[tuple[str, str, str, str]] = field(default_factory=list)  # from, to, kind, alarm
    well: list[tuple[str, str, str]] = field(default_factory=list)  # from, to, alarm


def export_labels(store: Store, out: Path, line: str | None = None) -> Exported:
    """Write all labels of a store, or of a line. Raises DataError when `out` holds anything already: two exports are never mixed."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; give a new folder, so that labels of two days are not mixed")
    labels = store.labels(line)
    alarms = {alarm.id: alarm for alarm in store.alarms(line, live=False)}
    found, lines = Exported(len(labels)), dict[str, _Line]()
    for label in labels:
        alarm = alarms.get(label.alarm)
        if alarm is not None:
            _take(label, alarm, store.evidence(alarm.id), lines.setdefault(label.line, _Line()), found)
    out.mkdir(parents=True, exist_ok=True)
    _write_csv(out / "labels.csv", COLUMNS, [row for label in labels for row in _rows(label, alarms.get(label.alarm))])
    for name, one in sorted(lines.items()):
        folder = out / slug(name)
        if one.pictures or one.faults or one.well:
            found.folders.append(folder)
            _write_line(folder, one)
    return found


def _take(label: Label, alarm: Alarm, evidence: Sequence[Evidence], one: _Line, found: Exported) -> None:
    """One label into what is written of its line."""
    if alarm.condition != "process":
        found.notes.append(f"alarm {alarm.id[:8]} of line {alarm.line}: is of {alarm.condition}, which no fit learns from")
        return
    pictures = [each for each in evidence if each.kind == "picture"]
    if pictures:
        said = _said(label, pictures)
        for each, of_it in said:
            folder = f"faults/{folder_of(of_it.kind)}" if of_it.verdict == "real" else "good"
            one.pictures.append((f"{folder}/{alarm.id[:16]}-{each.role}.jpg", each, of_it))
        if len(said) < max(1, len(label.pictures)):
            why = "a picture that was labelled is not kept any more" if label.pictures else f"{len(pictures)} pictures are kept of it"
            ask = "" if label.pictures else ", and the label does not say of which; look at them and say it again, with --picture"
            found.notes.append(f"alarm {alarm.id[:8]} of line {alarm.line}: {why}{ask}")
        found.faults += any(of_it.verdict == "real" for _, of_it in said)
        found.good += any(of_it.verdict == "nuisance" for _, of_it in said)
        return
    if "where" in alarm.data or not (alarm.data.get("top") or alarm.data.get("sensors")):
        found.notes.append(f"alarm {alarm.id[:8]} of line {alarm.line}: its picture is not kept any more")
        return
    spans = label.stretches or _lasted(alarm)
    if not spans:
        found.notes.append(f"alarm {alarm.id[:8]} of line {alarm.line}: is still on, and no stretch of time is given (--from, --to)")
        return
    kind = label.kind or NO_KIND
    for begin, end in spans:
        if label.verdict == "real":
            one.faults.append((iso(begin), iso(end), kind, alarm.id))
        else:
            one.well.append((iso(begin), iso(end), alarm.id))
    found.faults, found.good = found.faults + (label.verdict == "real"), found.good + (label.verdict == "nuisance")


def _said(label: Label, pictures: Sequence[Evidence]) -> list[tuple[Evidence, PictureLabel]]:
    """The pictures that are kept of which somebody said something, and what. Older labels name none."""
    known = {one.record: one for one in label.pictures}
    if not known:
        seen = pictures if len(pictures) == 1 else [each for each in pictures if each.role == "opened" and label.boxes]
        known = {each.record: PictureLabel(each.record, label.verdict, label.kind, label.boxes) for each in seen}
    return [(each, known[each.record]) for each in pictures if each.record in known]


def _lasted(alarm: Alarm) -> list[tuple[float, float]]:
    """From its first flagged record to its end; nothing while it is on."""
    return [] if alarm.closed is None else [(alarm.began, alarm.closed)]


def folder_of(kind: str) -> str:
    """The folder of a kind of fault: never one that a fit would take for good parts, or for a test.

    >>> folder_of("Crack"), folder_of(""), folder_of("good")
    ('crack', 'fault', 'kind-good')
    """
    name = slug(kind) if kind.strip() else NO_KIND
    return f"kind-{name}" if name in READ_OTHERWISE or is_good(name) else name


# --- files ---

COLUMNS = (
    "line", "alarm", "verdict", "kind", "reason", "who", "time", "opened", "closed", "condition", "record", "p_value", "boxes", "stretches",
)  # fmt: skip


def _rows(label: Label, alarm: Alarm | None) -> list[list[Any]]:
    """A row for each picture of which something was said, else one for the alarm."""
    said = label.as_dict()
    of_alarm: list[Any] = ["", "", "", "", ""]
    if alarm is not None:
        over = iso(alarm.closed) if alarm.closed is not None else ""
        of_alarm = [iso(alarm.opened), over, alarm.condition, alarm.data.get("record", ""), alarm.data.get("p_value", "")]
    found = []
    for one in said["pictures"] or [{"record": record_words(of_alarm[3])}]:
        row, known = {**said, **one}, one["record"] == record_words(of_alarm[3])
        of_record = [one["record"], of_alarm[4] if known else ""]
        marks = [json.dumps(row["boxes"]), json.dumps(said["stretches"])]
        found.append([*(row[name] for name in COLUMNS[:7]), *of_alarm[:3], *of_record, *marks])
    return found


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([written_cell(cell) for cell in row] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _write_line(folder: Path, one: _Line) -> None:
    for name, evidence, _ in one.pictures:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_bytes(evidence.picture)
        os.utime(path, (evidence.time, evidence.time))
    if any(name.startswith("faults/") for name, *_ in one.pictures):
        write_text(folder / "faults" / "labels.json", json.dumps(_coco(one), indent=1) + "\n")
    if one.faults:
        _write_csv(folder / "faults" / "stretches.csv", ("from", "to", "kind", "alarm"), one.faults)
    if one.well:
        _write_csv(folder / "nuisances.csv", ("from", "to", "alarm"), one.well)


def _coco(one: _Line) -> dict[str, Any]:
    """The faults' pictures with their boxes, in pixels of the pictures as they are kept. https://cocodataset.org/#format-data"""
    faults = [(name.removeprefix("faults/"), evidence, label) for name, evidence, label in one.pictures if label.verdict == "real"]
    kinds = sorted({label.kind or NO_KIND for *_, label in faults})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, evidence, label) in enumerate(faults, start=1):
        wide, high = evidence.meta["kept"]
        images.append({"id": number, "file_name": name, "width": wide, "height": high})
        scale = wide / evidence.meta["size"][0]
        for box in label.boxes:
            sides = [round(side * scale, 2) for side in box]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": kinds.index(label.kind or NO_KIND) + 1, "bbox": sides,
                    "area": round(sides[2] * sides[3], 2), "iscrowd": 0,
                }
            )  # fmt: skip
    categories = [{"id": number, "name": kind} for number, kind in enumerate(kinds, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
