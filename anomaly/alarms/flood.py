"""Too many alarms at once, alarms that are a nuisance, and records set aside by the hundred: told as one, each still recorded.

A flood begins above 10 alarms in 10 minutes on a line and is over below 5 in 10 minutes (ISA-18.2, IEC 62682, EEMUA 191). By the same
standards an alarm chatters that opens 3 times or more in a minute, and is stale when it is open for more than 24 hours. Pure: events and a
time in, events out. State is JSON, so that a restart goes on where the last commit left it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.alarms.routing import PRIORITIES

FLOOD_ABOVE, FLOOD_OVER_BELOW, FLOOD_WINDOW_S = 10, 5, 600.0
TELL_AGAIN_S = 3600.0  # a flood that goes on is told again after so long
CHATTERS_AT, CHATTER_WINDOW_S = 3, 60.0
STALE_AFTER_S = 86_400.0
SUMMARY_AFTER_S = (600.0, 3600.0, 21_600.0, 86_400.0)  # of rejections of one cause: first soon, then more seldom
MOST_NAMED = 20  # alarms listed in a summary
MOST_KEPT = 1000  # open alarms and conditions remembered
MOST_CAUSES = 50  # of rejections told apart
_MAY_BE_HELD = ("opened", "closed", "reminded", "escalated")
_HELD_OTHERWISE = ("shelved", "out_of_service", "suppressed")


@dataclass
class Sifted:
    """All events of a turn in order, ids of those that no sink gets (`quiet`), and `notes` for the log on alarms that are a nuisance."""

    events: list[Event] = field(default_factory=list)
    quiet: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def sent(self) -> list[Event]:
        """The events that sinks get."""
        return [event for event in self.events if event.id not in self.quiet]

    def hold(self, event: Event) -> None:
        """Record an event, and send it to no sink."""
        self.events.append(event)
        self.quiet.add(event.id)


@dataclass
class _Open:
    """An open alarm: what it is about, since when, whether it was told to be stale; `held`: its data, where its opening was not sent."""

    condition: str
    since: float
    seen: float  # by the clock, when it opened: an old record read today is not stale at once
    stale: bool = False
    held: dict[str, Any] | None = None


@dataclass
class _Flood:
    """What is known of a line: times of the last openings, the open alarms, and the flood that is on (`began` is None without one)."""

    recent: list[float] = field(default_factory=list)
    lately: dict[str, list[float]] = field(default_factory=dict)  # condition -> its openings in the last minute
    open: dict[str, _Open] = field(default_factory=dict)
    began: float | None = None
    told: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)  # condition -> openings in this flood


class FloodControl:
    """Flood control of one line. Alarms of priority `critical` are sent in a flood, too; nothing else that opens in it is before its end.

    Then one event sums it up, and each alarm that is still open is sent as `alarm.reminded`, so that no receiver lacks an open alarm.
    """

    def __init__(self, line: str, kept: str = "") -> None:
        """`kept`: what `self.kept` said at the last commit, "" for a new line."""
        self._line = line
        self._state = _restore(kept)

    @property
    def kept(self) -> str:
        """The state as JSON, for the store."""
        return json.dumps(asdict(self._state), sort_keys=True)

    @property
    def on(self) -> bool:
        """Whether a flood is on."""
        return self._state.began is not None

    def due(self, now: float) -> bool:
        """Whether a turn without events would change anything."""
        state = self._state
        if any(not one.stale and now - one.seen > STALE_AFTER_S for one in state.open.values()):
            return True
        return self.on and (_within(state.recent, now) < FLOOD_OVER_BELOW or now - state.told >= TELL_AGAIN_S)

    def sift(self, events: Sequence[Event], now: float, quiet: Collection[str] = ()) -> Sifted:
        """Take in the events of one turn, in order; `now` in seconds since 1970. Call it without events, too: a flood ends by the clock.

        `quiet`: ids of events that are held back for another reason (shelved, say). They count for nothing here.
        """
        sifted = Sifted()
        for event in events:
            self._end_if_over(event.time, sifted)
            if event.id in quiet:
                sifted.hold(event)
                self._forget(event)
            else:
                self._take(event, now, sifted)
        self._end_if_over(now, sifted)
        self._tell_again(now, sifted)
        self._note_stale(now, sifted)
        return sifted

    # --- one event ---

    def _take(self, event: Event, now: float, sifted: Sifted) -> None:
        if event.kind == "opened":
            self._opened(event, now, sifted)
        elif event.kind in _MAY_BE_HELD:
            self._goes_on(event, sifted)
        else:
            self._forget(event)
            sifted.events.append(event)

    def _forget(self, event: Event) -> None:
        """An alarm that is over, or that people or the machine's mode hold back, is no longer this flood's to send."""
        if event.kind == "closed":
            self._state.open.pop(event.alarm, None)
        elif event.alarm in self._state.open and event.kind in _HELD_OTHERWISE:
            self._state.open[event.alarm].held = None

    def _opened(self, event: Event, now: float, sifted: Sifted) -> None:
        state, condition = self._state, topic_of(event.data)
        state.recent = [*state.recent, event.time][-FLOOD_ABOVE - 1 :]
        _keep_newest(state.open)
        state.open[event.alarm] = _Open(condition, event.time, now)
        event = self._chattering(event, condition, sifted)
        begins = not self.on and _within(state.recent, event.time) > FLOOD_ABOVE
        if begins:
            state.began, state.told, state.counts = event.time, event.time, {}
        if not self.on:
            sifted.events.append(event)
            return
        _keep_newest(state.counts)
        state.counts[condition] = state.counts.get(condition, 0) + 1
        if event.data.get("priority") == "critical":
            sifted.events.append(event)
        else:
            state.open[event.alarm].held = event.data
            sifted.hold(event)
        if begins:
            sifted.events.append(self._told("began", event.time))

    def _goes_on(self, event: Event, sifted: Sifted) -> None:
        known = self._state.open.get(event.alarm)
        if event.kind == "closed":
            self._state.open.pop(event.alarm, None)
        if known is None or known.held is None:
            sifted.events.append(event)
        elif event.data.get("priority") == "critical" and event.kind != "closed":
            known.held = None
            sifted.events.append(event)
        else:
            sifted.hold(event)

    def _chattering(self, event: Event, condition: str, sifted: Sifted) -> Event:
        """The opening with `chattering`, how often its condition opened in the last minute, where that is too often."""
        lately = self._state.lately
        for name in [name for name, times in lately.items() if abs(event.time - times[-1]) > CHATTER_WINDOW_S]:
            del lately[name]
        times = [*(t for t in lately.get(condition, []) if abs(event.time - t) <= CHATTER_WINDOW_S), event.time]
        lately[condition] = times[-MOST_NAMED:]
        if len(times) < CHATTERS_AT:
            return event
        if len(times) == CHATTERS_AT:
            sifted.notes.append(
                f"{condition}: chatters, {len(times)} alarms in {CHATTER_WINDOW_S:g} s; longer delays in [alarm] would make one of them"
            )
        return make_event(event.kind, event.line, event.alarm, event.time, event.data | {"chattering": len(times)})

    # --- the flood ---

    def _end_if_over(self, time: float, sifted: Sifted) -> None:
        state = self._state
        if state.began is None or _within(state.recent, time) >= FLOOD_OVER_BELOW:
            return
        time = max(time, state.began)
        sifted.events.append(self._told("over", time))
        for alarm, one in state.open.items():
            if one.held is not None:
                sifted.events.append(make_event("reminded", self._line, alarm, time, one.held | {"held_by": "flood"}))
                one.held = None
        state.began, state.counts = None, {}

    def _tell_again(self, now: float, sifted: Sifted) -> None:
        if self.on and now - self._state.told >= TELL_AGAIN_S:
            self._state.told = now
            sifted.events.append(self._told("goes on", now))

    def _told(self, stage: str, time: float) -> Event:
        """The summary alarm: one id from the beginning to the end of a flood."""
        state = self._state
        assert state.began is not None
        total, held = sum(state.counts.values()), {alarm: one.held for alarm, one in state.open.items() if one.held is not None}
        conditions = sorted(state.counts.items(), key=lambda item: -item[1])
        often = ", ".join(f"{name} ({count})" for name, count in conditions[:MOST_NAMED])
        reason = {
            "began": f"more than {FLOOD_ABOVE} alarms in {FLOOD_WINDOW_S / 60:g} min; single ones are recorded, and told when it is over",
            "goes on": f"{total} alarms since {iso(state.began)}: {often}",
            "over": f"{total} alarms from {iso(state.began)} to {iso(time)}, {len(held)} of them still open: {often}",
        }[stage]
        data: dict[str, Any] = {
            "class": "process" if any(one.get("class") == "process" for one in held.values()) else "data quality",
            "condition": "flood",
            "flood": stage,
            "reason": reason,
            "began": iso(state.began),
            "priority": max((str(one.get("priority", "low")) for one in held.values()), key=_rank, default="low"),
            "count": total,
            "conditions": dict(conditions[:MOST_NAMED]),
            "alarms": [_brief(alarm, one) for alarm, one in list(held.items())[:MOST_NAMED]],
        }
        if stage == "began":  # those that led to it were sent, and belong to the picture
            data["alarms"] = [{"alarm": alarm, "condition": one.condition} for alarm, one in state.open.items()][-MOST_NAMED:]
        return make_event("flood", self._line, alarm_id(self._line, "flood", state.began, "flood"), time, data)

    def _note_stale(self, now: float, sifted: Sifted) -> None:
        for one in self._state.open.values():
            if not one.stale and now - one.seen > STALE_AFTER_S:
                one.stale = True
                sifted.notes.append(
                    f"{one.condition}: stale, its alarm is open since {iso(one.since)}; repair it, shelve it, or change its limit"
                )


def topic_of(data: dict[str, Any]) -> str:
    """What an alarm is about, in words of its event's data: the same for each occurrence.

    >>> topic_of({"class": "data quality", "condition": "sensor", "sensor": "flow"})
    'data quality: sensor flow'
    """
    parts = [str(data[key]) for key in ("condition", "sensor") if data.get(key)]
    return ": ".join([str(data.get("class", "alarm")), *([" ".join(parts)] if parts else [])])


def nuisance(opened: Sequence[float], is_open: bool, now: float) -> str:
    """What makes a condition a nuisance by the times of its openings, ascending: "chattering", "stale", or "" for neither.

    >>> nuisance([0.0, 20.0, 40.0], False, now=50.0), nuisance([0.0], True, now=100_000.0), nuisance([0.0], True, now=10.0)
    ('chattering', 'stale', '')
    """
    last = opened[-CHATTERS_AT:]
    if len(last) == CHATTERS_AT and last[-1] - last[0] <= CHATTER_WINDOW_S and now - last[-1] <= STALE_AFTER_S:
        return "chattering"
    return "stale" if is_open and len(opened) and now - opened[-1] > STALE_AFTER_S else ""


def _within(times: Sequence[float], now: float) -> int:
    """How many lie in the window before `now`; a time far ahead of it, by a clock that was set back, does not."""
    return sum(-FLOOD_WINDOW_S <= now - time < FLOOD_WINDOW_S for time in times)


def _rank(priority: str) -> int:
    return PRIORITIES.index(priority) if priority in PRIORITIES else 0


def _brief(alarm: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"alarm": alarm} | {key: data[key] for key in ("class", "condition", "sensor", "reason", "began", "priority") if key in data}


def _keep_newest(known: dict[str, Any]) -> None:
    while len(known) >= MOST_KEPT:
        del known[next(iter(known))]


def _restore(kept: str) -> _Flood:
    if not kept:
        return _Flood()
    state = _Flood(**json.loads(kept))
    state.open = {alarm: _Open(**one) for alarm, one in state.open.items()}  # type: ignore[arg-type]
    return state


# --- records that were set aside ---


@dataclass
class _Cause:
    """Rejections of one cause since it was last told."""

    told: float
    level: int = 0
    count: int = 0
    first: str = ""
    last: str = ""
    since: float = 0.0
    reason: str = ""


class Rejections:
    """Events on records of one line that were set aside. The first of a cause is told at once; those after it are counted and told as one.

    The store has each of them, with its own reason. A cause that has not come again for as long as its summary waits is new the next time.
    """

    def __init__(self, line: str, kept: str = "") -> None:
        """`kept`: what `self.kept` said at the last commit, "" for a new line."""
        self._line = line
        self._causes = {cause: _Cause(**one) for cause, one in json.loads(kept or "{}").items()}

    @property
    def kept(self) -> str:
        """The state as JSON, for the store."""
        return json.dumps({cause: asdict(one) for cause, one in self._causes.items()}, sort_keys=True)

    def due(self, now: float, last: bool = False) -> bool:
        """Whether `take` without records would tell or forget something."""
        return any(now - one.told >= SUMMARY_AFTER_S[one.level] or (last and one.count > 0) for one in self._causes.values())

    def take(self, rejected: Sequence[tuple[str, float, str]], now: float, last: bool = False) -> list[Event]:
        """Records set aside in this turn, (record, time, reason) each -> events to send. `last`: the line ends, what is counted is told."""
        events = []
        for record, time, reason in rejected:
            cause = cause_of(record, reason)
            if cause not in self._causes and len(self._causes) >= MOST_CAUSES:
                cause = ""  # the rest are told together
            one = self._causes.get(cause)
            if one is None:
                self._causes[cause] = _Cause(now)
                events.append(make_event("rejected", self._line, record, time, {"record": record, "reason": reason}))
                continue
            if not one.count:
                one.first, one.since = record, time
            one.count, one.last, one.reason = one.count + 1, record, reason
        for cause, one in list(self._causes.items()):
            one.told = min(one.told, now)  # a clock that was set back
            if now - one.told >= SUMMARY_AFTER_S[one.level] or (last and one.count):
                events += self._summary(cause, one, now)
        return events

    def _summary(self, cause: str, one: _Cause, now: float) -> list[Event]:
        if not one.count:
            del self._causes[cause]
            return []
        more = "1 more record was" if one.count == 1 else f"{one.count} more records were"
        like = "for the same reason" if cause else "for various reasons"
        data = {
            "record": one.last,
            "reason": f"{more} set aside {like}, from {one.first} to {one.last}; the last: {one.reason}",
            "count": one.count,
            "first": one.first,
            "last": one.last,
            "since": iso(one.since),
        }
        self._causes[cause] = _Cause(now, min(one.level + 1, len(SUMMARY_AFTER_S) - 1))
        return [make_event("rejected", self._line, alarm_id(self._line, "rejected", now, cause), now, data)]


def cause_of(record: str, reason: str) -> str:
    """What a reason says beyond the one record: words without its name, its row, quoted texts, numbers and times.

    >>> cause_of("a.csv:17", "a.csv:17: its time is not after the row before; the row: 2026-01-01,3.5")
    'its time is not after the row before'
    >>> cause_of("b/7.png", "/in/b/7.png: 'x7' is no picture") == cause_of("b/8.png", "/in/b/8.png: 'x8' is no picture")
    True
    """
    text = reason.partition("\n")[0].partition("; the row:")[0]
    name = re.escape(record.rpartition("/")[2].partition("@")[0])
    text = re.sub(rf"\S*{name}\S*" if name else "$^", "", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "…", text)
    return re.sub(r"\S*\d\S*", "#", text).strip(" :;")[:200]
