"""The book of a line's alarms: what becomes of each from its opening to its end (ISA-18.2 / IEC 62682).

Detection says when a condition begins and ends. People acknowledge and hold back. Time reminds, raises priorities and ends shelving.
The book turns all of that into states, and into events for the sinks. It is pure: no clock, no store, no thread. Monitor and operator
commands load it from the store, ask it once, and commit what it changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from anomaly.alarms.book.isa import (
    BEGINS,
    ENDS,
    PROCESS,
    STATE_OF_HOLD,
    WHOLE_LINE,
    Alarm,
    Hold,
    HoldKind,
    condition_of,
    first_priority,
    priority_by_p,
    raised,
    state_of,
)
from anomaly.alarms.book.trips import come_again, with_more
from anomaly.alarms.events import AlarmKind, Event, iso, make_event
from anomaly.alarms.routing import PRIORITIES
from anomaly.schema import AlarmSettings

BY_MODE = "mode column"  # who holds back the alarms of a stopped machine


@dataclass
class Changes:
    """What is to be stored of the book: alarms as they are now, holds that began and ended, and ids of events that no sink gets.

    renamed: id of an alarm by its opening -> id of the alarm that it goes on with
    """

    alarms: dict[str, Alarm] = field(default_factory=dict)
    began: list[Hold] = field(default_factory=list)
    ended: list[Hold] = field(default_factory=list)
    quiet: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.alarms or self.began or self.ended)


class AlarmBook:
    """The alarms of one line, of which a condition has at most one that is on."""

    def __init__(self, line: str, alarms: Iterable[Alarm], holds: Iterable[Hold], settings: AlarmSettings | None = None) -> None:
        """`alarms` and `holds` are what the store has of the line; of the alarms, those in which anything can still happen are enough."""
        self.line = line
        self.settings = settings or AlarmSettings()
        self.alarms = {alarm.id: alarm for alarm in alarms if alarm.live}
        self.holds = {hold.key: hold for hold in holds}
        self.changes = Changes()

    def copy(self) -> AlarmBook:
        """A book to try a turn on: it takes the place of this one when what it changed is stored."""
        return AlarmBook(self.line, self.alarms.values(), self.holds.values(), self.settings)

    # --- the monitor's side ---

    def apply(
        self,
        events: Sequence[Event],
        now: float,
        worst: Mapping[str, float] | None = None,
        suppressed: str | None = None,
        reached: Mapping[str, float] | None = None,
        so_far: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[Event]:
        """Take in one turn of a line; returns its events in order, with states, priorities and what follows from them.

        Events that no sink gets (`changes.quiet`) are among them. `worst`: condition -> the lowest p-value of its open alarm; `reached`:
        the time of the record that has it, where that is of this turn. So an alarm that rises by its records, perhaps of long ago, rises at
        their time. `suppressed`: why the mode of the machine holds alarms back, "" when it does not, None when this turn shows no mode.
        `so_far`: condition -> what has become known of its open alarm without an event.
        """
        out = self._follow_mode(suppressed, now) + self._end_what_is_due(now)
        for event in events:
            if event.kind == "opened":
                out += self._open(event, now)
            elif event.kind == "closed":
                out += self._close(event)
            elif event.kind == "reminded":
                out += self._go_on(event, now)
            else:
                out.append(event)
        for alarm in [one for one in self.alarms.values() if one.closed is None and one.condition in (so_far or {})]:
            self._update(replace(alarm, data=with_more(alarm.data, (so_far or {})[alarm.condition])))
        for alarm in list(self.alarms.values()):
            lowest = (worst or {}).get(alarm.condition)
            at = (reached or {}).get(alarm.condition, now)
            out += self._as_time_goes_by(alarm, now, lowest, max(alarm.opened, at))
        return out

    def due(self, now: float, worst: Mapping[str, float] | None = None, suppressed: str | None = None) -> bool:
        """Whether a turn without events of its own would change anything."""
        if not (self.alarms or self.holds or suppressed):
            return False
        trial = self.copy()
        return bool(trial.apply([], now, worst, suppressed)) or bool(trial.changes)

    def _open(self, event: Event, now: float) -> list[Event]:
        condition = condition_of(event)
        current = self.current(condition)
        if current is not None and (current.closed is None or current.waits_for_people):
            again = replace(current, closed=None, data=come_again(current.data, event.data))
            self.changes.renamed[event.alarm] = again.id
            again = self._update(replace(again, state=state_of(again, self.held(*again.conditions))))
            return [self._quiet(replace(event, alarm=again.id, data=self._said(again)))]  # it is the same alarm to people
        level = first_priority(event.data.get("class", PROCESS), condition, event.data)
        alarm = Alarm(
            event.alarm, self.line, event.data.get("class", PROCESS), condition, PRIORITIES[level], "unacknowledged",
            opened=event.time, since=now, reminded=now, latched=self.settings.latched,
            data={"class": PROCESS, "condition": condition.partition(":")[0], "began": iso(event.time)} | event.data,
        )  # fmt: skip
        if current is not None and current.told == "closed":
            self._update(replace(current, state="normal"))  # the newer one stands for it
        self.alarms[alarm.id] = alarm
        return self._settle(alarm, event.time, event)

    def _close(self, event: Event) -> list[Event]:
        current = self.current(condition_of(event))
        if current is None or current.closed is not None:
            return [event]  # of an alarm from before the book was kept
        told = current.told == "opened" and not self.held(*current.conditions)
        current, risen = self._rise(current, event) if told else (current, [])
        closed = replace(current, closed=event.time, data=with_more(current.data, event.data))
        return [*risen, *self._settle(closed, event.time, event)]

    def _go_on(self, event: Event, now: float) -> list[Event]:
        """More is known of an alarm that is on (a sensor joined it): told with its state, and to no sink while it is held back.

        One that was held back may not be any more, by a sensor that is not: it is told as opened now.
        """
        current = self.current(condition_of(event))
        if current is None or current.closed is not None:
            return [event]  # of an alarm from before the book was kept
        known = current.data.get("sensors", [])
        more = [name for name in event.data.get("joined", []) if name not in known]
        late = self._settle(replace(current, data=current.data | {"sensors": [*known, *more]}), event.time)
        alarm = self.alarms[current.id]
        event = replace(event, alarm=alarm.id, data=event.data | {"priority": alarm.priority, "state": alarm.state})
        if late or self.held(*alarm.conditions):
            return [*late, self._quiet(event)]
        self._update(replace(alarm, reminded=now))
        return [event]

    def _as_time_goes_by(self, alarm: Alarm, now: float, worst: float | None, reached: float) -> list[Event]:
        """Priority and reminder of an alarm that is on and that people were told of. `reached`: when its p-value became the lowest."""
        if alarm.closed is not None or alarm.told != "opened" or self.held(*alarm.conditions):
            return []
        if now < alarm.reminded:  # a clock set back begins the wait anew
            alarm = self._update(replace(alarm, since=min(alarm.since, now), reminded=now))
        level = self._level(alarm, now, worst)
        alarm, events = self._escalate(alarm, level, reached if level == self._level_by_p(alarm, worst) else now, worst)
        after = self.settings.remind_after_s
        if after and alarm.acknowledged is None and now - alarm.reminded >= after:
            alarm = self._update(replace(alarm, reminded=now))
            events.append(self._event("reminded", alarm, now, {"lasted_s": max(0.0, now - alarm.opened)}))
        return events

    def _rise(self, alarm: Alarm, closed: Event) -> tuple[Alarm, list[Event]]:
        """Priority by the lowest p-value of an alarm that is over: one that rose and ended in the same turn, say of a backlog.

        It rises at the time of its worst record, where that is known.
        """
        worst, record = closed.data.get("p_value"), closed.data.get("worst", {})
        reached = datetime.fromisoformat(record["time"]).timestamp() if "time" in record else closed.time
        return self._escalate(alarm, self._level_by_p(alarm, worst), min(max(alarm.opened, reached), closed.time), worst)

    def _escalate(self, alarm: Alarm, level: int, now: float, worst: float | None) -> tuple[Alarm, list[Event]]:
        """Raise an alarm to a level (0 to 3), where it is not there yet. `worst`: its lowest p-value."""
        if level <= PRIORITIES.index(alarm.priority):
            return alarm, []
        was, data = alarm.priority, alarm.data if worst is None else with_more(alarm.data, {"p_value": worst})
        alarm = self._update(replace(alarm, priority=PRIORITIES[level], data=data))
        return alarm, [self._event("escalated", alarm, now, {"was": was})]

    def _level_by_p(self, alarm: Alarm, worst: float | None) -> int:
        level = first_priority(alarm.alarm_class, alarm.condition, alarm.data)
        threshold = alarm.data.get("threshold_p")
        if alarm.alarm_class == PROCESS and worst is not None and threshold:
            level = max(level, priority_by_p(worst, threshold))
        return level

    def _level(self, alarm: Alarm, now: float, worst: float | None) -> int:
        """The level (0 to 3) of an alarm by now. An acknowledged one rises by its p-value alone: someone is at it."""
        level = self._level_by_p(alarm, worst)
        return level if alarm.acknowledged is not None else raised(level, now - alarm.since, self.settings.escalate_after_s)

    # --- holding back ---

    def held(self, *conditions: str) -> dict[HoldKind, Hold]:
        """What holds an alarm of these conditions back: nothing unless all of them are held, for the others are to be told of."""
        covering = [[hold for hold in self.holds.values() if hold.covers(condition)] for condition in conditions]
        return {hold.kind: hold for holds in covering for hold in holds} if all(covering) else {}

    def hold(self, hold: Hold) -> list[Event]:
        """Hold back the alarms of a condition from now (`hold.since`) on. One of the same kind is replaced (another expiry)."""
        return self.hold_all([hold])

    def hold_all(self, holds: Sequence[Hold]) -> list[Event]:
        """The same with several conditions in one deed: they are held alike."""
        for hold in holds:
            self.holds[hold.key] = hold
            self.changes.began.append(hold)
        _, changed = self._settle_all(holds, holds[0].since)
        return self._tell_of_holds(BEGINS[holds[0].kind], holds, changed, holds[0].since, holds[0].who, holds[0].why)

    def release(self, hold: Hold, who: str, why: str, now: float) -> list[Event]:
        """End a hold. What it kept from the sinks and still stands is told now."""
        return self.release_all([hold], who, why, now)

    def release_all(self, holds: Sequence[Hold], who: str, why: str, now: float) -> list[Event]:
        """The same with several holds of one kind in one deed."""
        for hold in holds:
            del self.holds[hold.key]
            self.changes.ended.append(hold)
        later, changed = self._settle_all(holds, now)
        return [*self._tell_of_holds(ENDS[holds[0].kind], holds, changed, now, who, why), *later]

    def _settle_all(self, holds: Sequence[Hold], now: float) -> tuple[list[Event], list[Alarm]]:
        """Give the alarms that holds cover their states; returns what sinks are due, and the alarms known to them that changed."""
        before = [alarm for alarm in self.alarms.values() if any(_touches(hold, alarm) for hold in holds)]
        events = [event for alarm in before for event in self._settle(alarm, now)]
        after = [(alarm, self.changes.alarms[alarm.id]) for alarm in before]
        return events, [new for old, new in after if old.told == "opened" and old.state != new.state]

    def _tell_of_holds(
        self, kind: AlarmKind, holds: Sequence[Hold], alarms: Sequence[Alarm], now: float, who: str, why: str
    ) -> list[Event]:
        """An event for each alarm that the sinks know of. Where there is none, one for the condition, unless the machine's mode did it."""
        until = holds[0].until
        by = {"who": who, "why": why} | ({"until": iso(until)} if until is not None and kind in BEGINS.values() else {})
        events = [self._event(kind, alarm, now, by) for alarm in alarms]
        for hold in holds:
            if hold.who == BY_MODE or any(_touches(hold, alarm) for alarm in alarms):
                continue
            what = "all of the line" if hold.condition == WHOLE_LINE else hold.condition
            alarm_class = PROCESS if hold.condition in {PROCESS, WHOLE_LINE} else "data quality"
            data = {"class": alarm_class, "condition": what, "state": "normal"} | by
            events.append(make_event(kind, self.line, what, now, data))
        return events

    def _follow_mode(self, suppressed: str | None, now: float) -> list[Event]:
        known = self.holds.get(("suppressed", WHOLE_LINE))
        if suppressed and known is None:
            return self.hold(Hold("suppressed", WHOLE_LINE, now, None, BY_MODE, suppressed))
        if suppressed == "" and known is not None and known.who == BY_MODE:
            return self.release(known, BY_MODE, "the machine runs again", now)
        return []

    def _end_what_is_due(self, now: float) -> list[Event]:
        over = [hold for hold in self.holds.values() if hold.until is not None and hold.until <= now]
        of_kinds = [[hold for hold in over if hold.kind == kind] for kind in BEGINS]
        return [event for holds in of_kinds if holds for event in self.release_all(holds, "anomaly", "its time is over", now)]

    # --- people ---

    def acknowledge(self, alarm: Alarm, who: str, why: str, now: float) -> list[Event]:
        """Someone has seen an alarm. A latched one whose condition is over closes by it."""
        alarm = replace(alarm, acknowledged=now, acknowledged_by=who)
        alarm = self._update(replace(alarm, state=state_of(alarm, self.held(*alarm.conditions))))
        told = self._event("acknowledged", alarm, now, {"who": who, "why": why})
        return [told, *(self._settle(alarm, now) if alarm.closed is not None else [])]

    # --- what all of them share ---

    def current(self, condition: str) -> Alarm | None:
        """The alarm of a condition that is on; where none is, one in which anything can still happen."""
        found = [alarm for alarm in self.alarms.values() if alarm.condition == condition]
        return next((alarm for alarm in found if alarm.closed is None), found[-1] if found else None)

    def _settle(self, alarm: Alarm, time: float, event: Event | None = None) -> list[Event]:
        """Give an alarm its state, and tell what sinks do not know of it yet: that it is open, or over. Held back, they get nothing.

        `event` is what detection says right now, None for what has become due later.
        """
        holds = self.held(*alarm.conditions)
        untold = alarm.told != "opened" if alarm.closed is None else alarm.told == "opened" and alarm.over
        if untold and not holds:
            alarm = replace(alarm, told="opened" if alarm.closed is None else "closed")
        was_held = alarm.state in STATE_OF_HOLD.values()
        alarm = replace(alarm, state=state_of(alarm, holds))
        if was_held and not holds:  # people hear of it now: reminders and escalation count from here
            alarm = replace(alarm, since=time, reminded=time)
        now_on = self.current(alarm.condition)
        if alarm.state == "returned unacknowledged" and now_on is not None and now_on.closed is None and now_on.id != alarm.id:
            alarm = replace(alarm, state="normal")  # the newer one stands for it
        self._update(alarm)
        kind: AlarmKind = "opened" if alarm.closed is None else "closed"
        if untold and not holds:
            return [self._event(kind, alarm, time, {}) if event is None else replace(event, alarm=alarm.id, data=self._said(alarm))]
        return [] if event is None else [self._quiet(replace(event, alarm=alarm.id, data=self._said(alarm)))]

    def _update(self, alarm: Alarm) -> Alarm:
        self.changes.alarms[alarm.id] = alarm
        if alarm.live:
            self.alarms[alarm.id] = alarm
        else:
            self.alarms.pop(alarm.id, None)
        return alarm

    def _said(self, alarm: Alarm) -> dict[str, Any]:
        return alarm.data | {"priority": alarm.priority, "state": alarm.state}

    def _event(self, kind: AlarmKind, alarm: Alarm, time: float, more: Mapping[str, Any]) -> Event:
        return make_event(kind, self.line, alarm.id, time, self._said(alarm) | dict(more))

    def _quiet(self, event: Event) -> Event:
        """An event for the store alone. Its id differs from that of the event which tells the same to the sinks later."""
        event = replace(event, id=f"{event.id}-held", data=event.data | {"held_back": True})
        self.changes.quiet.add(event.id)
        return event


def _touches(hold: Hold, alarm: Alarm) -> bool:
    return any(hold.covers(condition) for condition in alarm.conditions)
