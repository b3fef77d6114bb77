"""Lines as the page shows them: each at a glance, and one over time."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from anomaly.alarms.book import PROCESS, WHOLE_LINE, Hold
from anomaly.alarms.book import Alarm as StoredAlarm
from anomaly.alarms.events import iso
from anomaly.alarms.health.line import NOT_OPENED, LineHealth
from anomaly.alarms.routing import PRIORITIES
from anomaly.alarms.wording import about, record_words, shares
from anomaly.page import models, queries
from anomaly.page.site import NotThereError, Site

ORDER = ("down", "alarm", "attention", "held", "ok")  # who needs a person first
DAY_S, HOUR_S = 86400.0, 3600.0
MOST_SPANS = 500
MOST_CAUSES = 3  # alarms of its data that a line at a glance names
GLANCE_S = 0.5  # all viewers share one look at the lines, this old at most


def look_at_lines(site: Site) -> models.Lines:
    """All lines, those that need a person first."""
    found: models.Lines = site.remembered("lines", GLANCE_S, lambda: _look(site))
    return found


def _look(site: Site) -> models.Lines:
    with queries.reading(site.store) as db:
        names, waits, glances = queries.line_names(db), queries.waiting_counts(db), queries.glances(db)
        data, holds = queries.of_the_data(db), queries.holds(db)
        if site.board is not None:
            names = list(site.board.lines)
        now = site.clock()
        none = queries.Glance([], None)
        lines = [
            _line(
                site, name, waits.get(name, (0, 0, 0, -1)), glances.get(name, none), now,
                data.get(name, []), [hold for line, hold in holds if line == name],
            )
            for name in names
        ]  # fmt: skip
        lines.sort(key=lambda line: (ORDER.index(line.state), -_rank(line), -line.waiting, line.name))
        return models.Lines(time=iso(now), live=site.board is not None, lines=lines)


def _rank(line: models.Line) -> int:
    return -1 if line.worst_priority is None else PRIORITIES.index(line.worst_priority)


def _line(
    site: Site, name: str, waits: tuple[int, int, int, int], glance: queries.Glance, now: float,
    data: Sequence[StoredAlarm], holds: Sequence[Hold],
) -> models.Line:  # fmt: skip
    waiting, live, process, worst = waits
    health = site.health(name)
    causes = _missing(site, name, health)
    drifting = health is not None and (health.drift or 0) >= 1
    held = (live > 0 and worst < 0) or any(hold.condition == WHOLE_LINE for hold in holds)  # nothing that is on is told to anybody
    state: models.LineState = (
        "down" if causes else "alarm" if process else "attention" if worst >= 0 or drifting else "held" if held else "ok"
    )
    causes += [] if causes else [cause_of(alarm) for alarm in data[:MOST_CAUSES]]
    if drifting:
        causes.append(models.Cause(code="drift", values={}, words="drift: records are no longer like those learnt from"))
    newest = glance.newest
    manifest = None if health is None or health.detector is None else health.detector.manifest
    threshold = None if manifest is None else manifest.threshold.p_value
    return models.Line(
        name=name, state=state, why=[cause.words for cause in causes], causes=causes, held=[held_model(name, hold) for hold in holds],
        waiting=waiting, open=live, worst_priority=PRIORITIES[worst] if worst >= 0 else None,
        records=health.scored if health else None, flagged=health.flagged if health else None,
        flagged_share=health.flagged / health.scored if health and health.scored else None, budget_share=threshold,
        least_p=None if manifest is None else manifest.least_p,
        last_record=None if newest is None else _iso(newest),
        last_record_age_s=_age(health, newest, now), provider=health.provider if health else "", bundle=health.bundle if health else "",
        bundle_hash=health.bundle_hash if health else "", drift=health.drift if health else None, kind=_kind(manifest),
        sparkline=glance.p_values,
    )  # fmt: skip


def _missing(site: Site, name: str, health: LineHealth | None) -> list[models.Cause]:
    """Why a line is not watched, [] when it is, or when nobody here is to watch it."""
    if site.board is None or health is None:
        return []
    found = []
    for words in health.missing():
        what, _, why = words.partition(": ")
        code = "not_opened" if why == NOT_OPENED else what
        found.append(models.Cause(code=f"missing.{code}", values={"why": why}, words=words))
    if name in site.board.stuck() and health.last_turn_age_s:
        seconds = round(health.last_turn_age_s)
        found.append(models.Cause(code="missing.turn", values={"seconds": seconds}, words=f"no turn for {seconds} s"))
    return found


def cause_of_event(kind: str, data: dict[str, Any]) -> models.Cause:
    """What an event of an alarm says of it: how it began, or ended. `data`: of the event."""
    class_, condition = str(data.get("class", PROCESS)), str(data.get("condition", "")).partition(":")[0]
    code = f"event.{class_}.{kind}"
    if kind == "closed" and str(data["reason"]).endswith("stays there"):
        code += " by half"
    elif class_ == "data quality" and kind != "closed":
        code = f"quality.{condition}"
    values: dict[str, str | float] = {"began": str(data.get("began", "")), "reason": str(data["reason"])}
    return models.Cause(code=code, values=values | _of_the_data(data), words=str(data["reason"]))


def _of_the_data(data: dict[str, Any]) -> dict[str, str | float]:
    """Names of the sensors, and the first numbers in the words."""
    names = data.get("joined") or data.get("sensors") or ([data["sensor"]] if data.get("sensor") else [])
    found: dict[str, str | float] = {"sensors": ", ".join(map(str, names))}
    return found | {f"n{place}": float(number) for place, number in enumerate(re.findall(r"\d+", str(data.get("reason", "")))[:2])}


def cause_of(alarm: StoredAlarm) -> models.Cause:
    """What an alarm is about, by its condition: `about` in words, and what is in them as values."""
    data, kind = alarm.data, alarm.condition.partition(":")[0]
    words = about(data)
    values: dict[str, str | float] = {"began": str(data.get("began", "")), "reason": str(data.get("reason", ""))}
    if alarm.alarm_class == PROCESS:
        worst = {**data, **data.get("worst", {})}
        values |= {"flagged": float(data.get("flagged", 1)), "record": record_words(worst.get("record", ""))}
        if worst.get("where"):
            return models.Cause(code="process.picture", values=values | {side: worst["where"][side] for side in "xy"}, words=words)
        if worst.get("top"):
            return models.Cause(code="process.sensors", values=values | {"top": ", ".join(shares(worst["top"]))}, words=words)
        return models.Cause(code="process", values=values, words=words)
    values |= _of_the_data(data)
    return models.Cause(code="delivery" if alarm.alarm_class == "delivery" else f"quality.{kind}", values=values, words=words)


def _age(health: LineHealth | None, newest: float | None, now: float) -> float | None:
    if health is not None:
        return round(health.last_record_age_s, 1) if health.last_record is not None else None
    return None if newest is None else round(max(0.0, now - newest), 1)


def _kind(manifest: Any) -> Any:
    if manifest is None:
        return "unknown"
    return "readings" if manifest.input.name == "window" else "pictures"


def _iso(seconds: float) -> str:
    with suppress(ValueError, OverflowError, OSError):
        return iso(seconds)
    return ""


def one_line_at(site: Site, name: str, begin: float | None, end: float | None) -> models.LineDetail:
    """A line over a stretch of time: by default the day up to its newest record. Raises NotThereError."""
    shown = next((line for line in look_at_lines(site).lines if line.name == name), None)
    if shown is None:
        raise NotThereError(f"no line {name!r}")
    with queries.reading(site.store) as db:
        end = end if end is not None else max(queries.newest_time(db, name) or 0.0, 0.0) or site.clock()
        found = queries.series(db, name, end - DAY_S if begin is None else begin, end)
        if begin is None:  # a line that is new is shown from its first record on
            begin = min(float(found.times[0]), end - HOUR_S) if len(found.times) else end - DAY_S
        _, alarms = queries.find_alarms(db, line=name, begin=begin, end=end, order="oldest", limit=MOST_SPANS)
        held = queries.holds(db, name)
        threshold = shown.budget_share if shown.budget_share is not None else _threshold_of(alarms)
        points = [
            models.Point(time=_iso(time), p_value=p, record=record)
            for time, p, record in zip(found.times.tolist(), found.p_values.tolist(), found.records, strict=True)
        ]
        return models.LineDetail(
            line=shown, begin=_iso(begin), end=_iso(end), threshold_p=threshold, points=points,
            alarms=[span(alarm) for alarm in alarms], readings=readings(site.health(name)), held=[held_model(*each) for each in held],
        )  # fmt: skip


def _threshold_of(alarms: list[StoredAlarm]) -> float | None:
    known = [float(alarm.data["threshold_p"]) for alarm in alarms if alarm.data.get("threshold_p")]
    return known[-1] if known else None


def span(alarm: StoredAlarm) -> models.Span:
    """An alarm as a stretch of time."""
    return models.Span(
        id=alarm.id, condition=alarm.condition, priority=alarm.priority, state=alarm.state, begin=_iso(alarm.opened),
        to=None if alarm.closed is None else _iso(alarm.closed),
    )  # fmt: skip


def readings(health: LineHealth | None) -> models.Readings | None:
    """What a running line's sensors have read in the last hours, the sensors that speak most first."""
    found = None if health is None or health.readings is None else health.readings()
    if found is None:
        return None
    times, values, names, units, shares = found
    order = sorted(range(len(names)), key=lambda place: -(shares[place] if shares is not None else 0.0))[: models.MOST_SENSORS]
    columns = [[number(value) for value in values[:, place].tolist()] for place in order]
    return models.Readings(
        times=[_iso(time) for time in times.tolist()], sensors=[names[place] for place in order], units=[units[place] for place in order],
        values=columns, shares=[None if shares is None else round(float(shares[place]), 4) for place in order],
    )  # fmt: skip


def number(value: float) -> float | None:
    """A reading as JSON knows it: what is missing or infinite is null."""
    return value if math.isfinite(value) else None


def held_model(line: str, hold: Hold) -> models.Held:
    """What holds alarms back."""
    return models.Held(
        line=line, kind=hold.kind, condition=hold.condition, since=_iso(hold.since), until=None if hold.until is None else _iso(hold.until),
        who=hold.who, why=hold.why,
    )  # fmt: skip


def names_of(db: sqlite3.Connection, site: Site) -> list[str]:
    """The lines that can be asked for."""
    return list(dict.fromkeys([*(site.board.lines if site.board is not None else ()), *queries.line_names(db)]))
