"""Alarms as the page shows them: rows of the list, one with all that is known of it, and what is kept of its records."""

from __future__ import annotations

import base64
import io
import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from anomaly.alarms.book import PROCESS, PictureLabel
from anomaly.alarms.book import Alarm as StoredAlarm
from anomaly.alarms.book import Label as StoredLabel
from anomaly.alarms.events import iso
from anomaly.alarms.evidence import Evidence, Role
from anomaly.alarms.evidence.rows import read_evidence
from anomaly.alarms.store.alarm_rows import Action
from anomaly.alarms.wording import about, record_words
from anomaly.page import models, queries
from anomaly.page.lines import cause_of, cause_of_event, held_model, number
from anomaly.page.site import NotThereError, Site
from anomaly.rarity import shades_of

MOST_SIMILAR = 5
MOST_FLAGGED = 200  # pictures of an alarm that are listed
FACTS = ("top", "where", "reason", "cause", "threshold_p", "least_p", "began", "record", "bundle", "sensors", "worst", "last")


def rows(db: sqlite3.Connection, alarms: Sequence[StoredAlarm]) -> list[models.Alarm]:
    """Alarms as rows of a list, in their order."""
    marks = queries.marks_of(db, [alarm.id for alarm in alarms])
    return [_row(alarm, marks) for alarm in alarms]


def _row(alarm: StoredAlarm, marks: queries.Marks) -> models.Alarm:
    p_value = alarm.data.get("p_value")
    known = float(p_value) if isinstance(p_value, int | float) and 0 <= p_value <= 1 else None
    label, least = marks.labels.get(alarm.id), float(alarm.data.get("least_p", 0.0))
    return models.Alarm(
        id=alarm.id, line=alarm.line, alarm_class=alarm.alarm_class, condition=alarm.condition, priority=alarm.priority, state=alarm.state,
        opened=iso(alarm.opened), closed=_time(alarm.closed), acknowledged=_time(alarm.acknowledged),
        acknowledged_by=alarm.acknowledged_by, about=about(alarm.data), cause=cause_of(alarm), p_value=known, least_p=least or None,
        label=None if label is None else label.verdict, kept=marks.kept.get(alarm.id, 0),
    )  # fmt: skip


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)


def find(db: sqlite3.Connection, id_: str) -> StoredAlarm:
    """An alarm by its id. Raises NotThereError."""
    found = queries.one_alarm(db, id_)
    if found is None:
        raise NotThereError("no alarm has this id; it may be older than what the store keeps")
    return found


def detail(site: Site, id_: str) -> models.AlarmDetail:
    """All that is known of one alarm. Raises NotThereError."""
    with queries.reading(site.store) as db:
        alarm = find(db, id_)
        evidence = read_evidence(db, id_)
        deeds = queries.actions(db, alarms=[id_])
        label = queries.marks_of(db, [id_]).labels.get(id_)
        similar = _similar(db, alarm)
        total, flagged = _flagged(db, alarm, evidence, label)
        held = [held_model(*each) for each in queries.holds(db, alarm.line) if any(each[1].covers(name) for name in alarm.conditions)]
        return models.AlarmDetail(
            alarm=rows(db, [alarm])[0], facts=_facts(alarm.data),
            conditions=list(alarm.conditions), history=[happened(body) for body in queries.events_of(db, id_)],
            deeds=[deed(each) for each in deeds], kept=[_kept(each) for each in evidence], label=None if label is None else _label(label),
            flagged=flagged, flagged_total=total,
            similar=similar, held=held, normal=normal_picture(site, alarm.line) is not None,
        )  # fmt: skip


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    found = {name: data[name] for name in FACTS if name in data}
    return found | {"record": record_words(found.get("record", ""))}


def _flagged(
    db: sqlite3.Connection, alarm: StoredAlarm, evidence: Sequence[Evidence], label: StoredLabel | None
) -> tuple[int, list[models.Flagged]]:
    """(how many pictures an alarm covers, those that are shown). What is kept is among them, also where its score is not in the store."""
    kept = {each.record: each for each in evidence if each.kind == "picture"}
    threshold = alarm.data.get("threshold_p")
    if alarm.condition != PROCESS or not (kept or "where" in alarm.data) or threshold is None:
        return 0, []
    end = math.inf if alarm.closed is None else alarm.closed
    total, rows = queries.flagged_of(db, alarm.line, alarm.began, end, float(threshold), MOST_FLAGGED)
    known = {record for record, *_ in rows}
    rows += [(each.record, each.time, None, each.p_value) for each in kept.values() if each.record not in known]
    said = {} if label is None else {one.record: one for one in label.pictures}
    found = [
        models.Flagged(
            time=iso(time), record=record_words(record), score=score, p_value=p_value,
            role=kept[record].role if record in kept else None,
            label=_picture_label(said[record]) if record in said else None,
        )
        for record, time, score, p_value in sorted(rows, key=lambda row: row[1])
    ]  # fmt: skip
    return max(total, len(found)), found


def _picture_label(one: PictureLabel) -> models.PictureLabel:
    return models.PictureLabel(record=record_words(one.record), verdict=one.verdict, kind=one.kind, boxes=list(one.boxes))


def _similar(db: sqlite3.Connection, alarm: StoredAlarm) -> list[models.Similar]:
    """Earlier alarms of the same line and condition, the newest first, with what people did about them."""
    _, found = queries.find_alarms(db, line=alarm.line, condition=alarm.condition, end=alarm.opened, order="newest", limit=MOST_SIMILAR + 1)
    earlier = [each for each in found if each.id != alarm.id][:MOST_SIMILAR]
    deeds = queries.actions(db, alarms=[each.id for each in earlier]) if earlier else []
    return [
        models.Similar(alarm=row, deeds=[deed(each) for each in deeds if each.alarm == row.id])
        for row in rows(db, earlier)
    ]  # fmt: skip


def deed(action: Action) -> models.Deed:
    """A row of the audit log."""
    return models.Deed(time=iso(action.time), who=action.who, action=action.action, line=action.line, alarm=action.alarm, why=action.why)


def happened(body: dict[str, Any]) -> models.Happened:
    """One event, from its CloudEvent."""
    data = body["data"]
    kind = str(body["type"]).rpartition(".")[2]
    return models.Happened(
        cause=None if "who" in data or not data.get("reason") else cause_of_event(kind, data),
        time=body["time"], kind=kind, priority=str(data.get("priority", "")), state=str(data.get("state", "")),
        by=str(data.get("who", "")), why=str(data.get("why" if "who" in data else "reason") or ""),
    )  # fmt: skip


def _label(label: StoredLabel) -> models.Label:
    said = label.as_dict()
    return models.Label(**{name: said[name] for name in models.Label.model_fields})


# --- what is kept ---


def _kept(one: Evidence) -> models.Kept:
    meta = one.meta
    return models.Kept(
        role=one.role, kind=one.kind, record=record_words(one.record), time=iso(one.time), p_value=one.p_value,
        bytes=one.size, size=meta.get("size"),
        kept=meta.get("kept"), sensors=meta.get("sensors", []), shares=meta.get("shares", []),
    )  # fmt: skip


def evidence(site: Site, id_: str, role: Role, kind: str) -> Evidence:
    """What is kept of one record of an alarm. Raises NotThereError."""
    with queries.reading(site.store) as db:
        found = [each for each in read_evidence(db, id_) if each.role == role and each.kind == kind]
    if not found:
        raise NotThereError(f"no {kind} of this alarm is kept, or not any more")
    return found[0]


def scaled(jpeg: bytes, side: int | None) -> bytes:
    """A picture of at most so many pixels a side, as JPEG; None for as it is."""
    if side is None:
        return jpeg
    with Image.open(io.BytesIO(jpeg)) as image:
        if max(image.size) <= side:
            return jpeg
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()


def levels(one: Evidence) -> models.Levels:
    """The map of a picture in 256 steps, on the scale of the threshold (`rarity.shades_of`); on its own, where that is not kept with it."""
    cells = np.asarray(one.arrays["map"], np.float64)
    lowest, highest, threshold = float(cells.min()), float(cells.max()), one.meta.get("threshold")
    if threshold is not None:
        lowest, highest = shades_of(float(one.meta["usual"]), float(threshold), highest)
    steps = np.rint(np.clip((cells - lowest) / max(highest - lowest, 1e-12), 0, 1) * 255).astype(np.uint8)
    return models.Levels(
        wide=cells.shape[1], high=cells.shape[0], lowest=lowest, highest=highest, threshold=threshold,
        levels=base64.b64encode(steps.tobytes()).decode(),
    )  # fmt: skip


def window(site: Site, id_: str, one: Evidence) -> models.Window:
    """The hours before an alarm, with what normals read."""
    found, meta = one.arrays, one.meta
    with queries.reading(site.store) as db:
        line = find(db, id_).line
    return models.Window(
        readings=models.Readings(
            times=[iso(time) for time in found["times"].tolist()], sensors=meta["sensors"], units=meta["units"],
            values=[[number(value) for value in column] for column in np.asarray(found["values"], np.float64).T.tolist()],
            shares=list(meta["shares"]),
        ),
        window_rows=meta["window_rows"], bands=bands(site, line, meta["sensors"]),
    )  # fmt: skip


def bands(site: Site, line: str, sensors: Iterable[str]) -> list[tuple[float, float] | None]:
    """(lowest, highest) that normals read of each sensor, None where the running detector does not tell."""
    detector = site.bundle(line)
    known = {} if detector is None else {channel.name: channel for channel in detector.manifest.input.sensors}
    found: list[tuple[float, float] | None] = []
    for name in sensors:
        channel = known.get(name)
        limits = (getattr(channel, "normal_low", None), getattr(channel, "normal_high", None)) if channel is not None else (None, None)
        found.append((float(limits[0]), float(limits[1])) if limits[0] is not None and limits[1] is not None else None)
    return found


def normal_picture(site: Site, line: str) -> bytes | None:
    """A normal record of the running detector's examples as JPEG, to look at beside a picture; None where there is none.

    The examples are real records that the detector scored as it was written; the first is the one with the lowest score of them.
    """
    detector = site.bundle(line)
    if detector is None or detector.manifest.input.name != "image":
        return None
    found: bytes | None = site.remembered(f"normal {detector.hash}", 3600.0, lambda: _normal(detector))
    return found


def _normal(detector: Any) -> bytes | None:
    best: tuple[float, Any] | None = None
    for name in sorted(each for each in detector.members if each.startswith("examples/")):
        with np.load(io.BytesIO(detector.members[name]), allow_pickle=False) as file:
            pixels, score = file["raw"], float(np.ravel(file["score"])[0])
        if best is None or score < best[0]:
            best = score, pixels
    if best is None:
        return None
    pixels = best[1][0] if best[1].ndim == 4 else best[1]
    shown = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    image = Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown[:, :, :3])
    image.thumbnail((1024, 1024))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def event_words(body: str) -> tuple[str, str, str, str]:
    """(id, time, type, line) of a CloudEvent as text."""
    said = json.loads(body)
    return str(said["id"]), str(said["time"]), str(said["type"]).removeprefix("anomaly."), str(said["source"]).removeprefix("/anomaly/")
