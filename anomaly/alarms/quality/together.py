"""Sensors that fail together are one alarm with the list of them: a dead input card is one fault, not twelve.

A condition of a sensor lives by itself (`quality`). Here the conditions of the same kind that began within a few rows of each other become
one alarm. What is told depends on the rows alone, not on how many of them come at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from anomaly.alarms.events import Event, EventKind, alarm_id, iso, make_event
from anomaly.alarms.life import CALM, State, Transition
from anomaly.alarms.sensors import BEYOND, FROZEN, MISSING, Finding

KINDS = (MISSING, FROZEN, BEYOND)
TOGETHER = "together:"  # what is kept of an alarm of several sensors, by the condition of the first of them
# Conditions belong together that began within this share of their on-delay: ten rows. For a sensor that stands still it is the longest run
# of equal readings in the normals, for which it may have stood still already when the fault came.
NEAR = 1 / 3
MOST_NAMED = 5  # sensors in a reason; an event's `sensors` has them all


class Turn(NamedTuple):
    """A sensor's condition that began to be an alarm, or is over, at a row."""

    row: int
    finding: Finding
    change: Transition

    @property
    def reason(self) -> str:
        """Why, in words."""
        return self.finding.reason(self.change.began, self.row)


@dataclass
class _Alarm:
    """An open alarm. first: the condition that opened it. wrong: condition -> when it began, of those that are on; right: those over."""

    id: str
    first: str
    began: float
    wrong: dict[str, float] = field(default_factory=dict)
    right: set[str] = field(default_factory=set)

    @property
    def conditions(self) -> list[str]:
        return [*self.wrong, *self.right]


class Together:
    """The open alarms of a line's sensors.

    A sensor joins an open alarm when its condition began near that of one that is still on, or when it belonged to the alarm before. Else
    it is an alarm of its own. An alarm is over when all of its sensors are right again.
    """

    def __init__(self, line: str, states: Mapping[str, State], alarms: Mapping[str, str | None]) -> None:
        """`states` and `alarms` (condition -> id) are what the store has of the line."""
        self._line = line
        self._open: dict[str, _Alarm] = {}
        self._several = {name for name in states if name.startswith(TOGETHER)}
        known = {alarms[name]: (name.removeprefix(TOGETHER), states[name].opened) for name in self._several}
        for name, state in states.items():
            id_ = alarms.get(name) or (name if state.active else None)
            if id_ is None or not name.startswith(KINDS):
                continue
            first, began = known.get(id_, (name, state.opened))
            alarm = self._open.setdefault(id_, _Alarm(id_, first, began or 0.0))
            if state.active:
                alarm.wrong[name] = state.opened or 0.0
            else:
                alarm.right.add(name)

    @property
    def kept(self) -> dict[str, tuple[State, str | None]]:
        """What the store is to keep of alarms of several sensors, those included that are over by now."""
        kept: dict[str, tuple[State, str | None]] = dict.fromkeys(self._several, (CALM, None))
        for alarm in self._open.values():
            if len(alarm.conditions) > 1:
                kept[TOGETHER + alarm.first] = State(active=True, opened=alarm.began), alarm.id
        return kept

    @property
    def alarms(self) -> dict[str, str]:
        """Condition of a sensor -> id of the open alarm that it belongs to, also when the sensor is right again."""
        return {name: alarm.id for alarm in self._open.values() for name in alarm.conditions}

    def take(self, turns: Sequence[Turn], findings: Sequence[Finding]) -> list[Event]:
        """Take in what changed over some rows; `findings` are all that was looked at in them, in the order of the sensors."""
        order = {finding.condition: number for number, finding in enumerate(findings)}
        near = {finding.condition: NEAR * finding.settings.on_delay_s for finding in findings}
        events: list[Event] = []
        by_row: dict[tuple[int, str], list[Turn]] = {}
        for turn in sorted(turns, key=lambda turn: (turn.row, order[turn.finding.condition])):
            by_row.setdefault((turn.row, _kind(turn.finding.condition)), []).append(turn)
        for at_once in by_row.values():
            opened = [turn for turn in at_once if turn.change.kind == "opened"]
            events += self._on(opened, near, order)
            events += self._off([turn for turn in at_once if turn.change.kind == "closed"], order)
        return events

    def _on(self, turns: Sequence[Turn], near: Mapping[str, float], order: Mapping[str, int]) -> list[Event]:
        """Conditions of one kind that are on from one row: what opens, and what joins."""
        new: dict[str, list[Turn]] = {}
        joined: dict[str, list[Turn]] = {}
        for turn in turns:
            condition, began = turn.finding.condition, turn.change.began
            alarm = self._of(condition, began, near)
            if alarm is None:
                alarm = _Alarm(alarm_id(self._line, condition, began, condition), condition, began)
                self._open[alarm.id] = alarm
                new[alarm.id] = [turn]
            elif alarm.id in new:
                new[alarm.id].append(turn)
            elif condition not in alarm.right:  # people know already of one that is wrong again
                joined.setdefault(alarm.id, []).append(turn)
            alarm.right.discard(condition)
            alarm.wrong[condition] = began
            if len(alarm.conditions) > 1:
                self._several.add(TOGETHER + alarm.first)
        events = [self._event("opened", self._open[id_], of, order, _reason(of)) for id_, of in new.items()]
        for id_, of in joined.items():
            names = [turn.finding.sensor for turn in of]
            events.append(self._event("reminded", self._open[id_], of, order, f"{_listed(names)} too: {of[0].reason}", {"joined": names}))
        return events

    def _off(self, turns: Sequence[Turn], order: Mapping[str, int]) -> list[Event]:
        """Conditions of one kind that are over from one row: what closes."""
        events = []
        alarms = self.alarms
        for turn in turns:
            condition = turn.finding.condition
            alarm = self._open[alarms[condition]] if condition in alarms else None
            if alarm is None:
                continue
            alarm.wrong.pop(condition, None)
            alarm.right.add(condition)
            if not alarm.wrong:
                names = self._sensors(alarm, order)
                reason = turn.reason if len(names) == 1 else f"all {len(names)} sensors are right again: {_listed(names)}"
                events.append(self._event("closed", alarm, [turn], order, reason, {"lasted_s": turn.change.time - alarm.began}))
                del self._open[alarm.id]
        return events

    def _of(self, condition: str, began: float, near: Mapping[str, float]) -> _Alarm | None:
        """The open alarm that a condition belongs to."""
        alarms = sorted((a for a in self._open.values() if _kind(a.first) == _kind(condition)), key=lambda alarm: (alarm.began, alarm.id))
        for alarm in alarms:
            if condition in alarm.right:
                return alarm
        for alarm in alarms:
            if any(abs(began - other) <= max(near[condition], near.get(name, 0.0)) for name, other in alarm.wrong.items()):
                return alarm
        return None

    def _event(
        self,
        kind: EventKind,
        alarm: _Alarm,
        turns: Sequence[Turn],
        order: Mapping[str, int],
        reason: str,
        more: Mapping[str, Any] | None = None,
    ) -> Event:
        data = {
            "class": "data quality",
            "condition": alarm.first.partition(":")[0],
            "reason": reason,
            "began": iso(alarm.began),
            "sensor": alarm.first.partition(":")[2],
            "sensors": self._sensors(alarm, order),
        }
        return make_event(kind, self._line, alarm.id, turns[0].change.time, data | dict(more or {}))

    @staticmethod
    def _sensors(alarm: _Alarm, order: Mapping[str, int]) -> list[str]:
        """Names of all that belong to an alarm, in the order of the source."""
        conditions = sorted(alarm.conditions, key=lambda name: (order.get(name, len(order)), name))
        return [name.partition(":")[2] for name in conditions]


def _kind(condition: str) -> str:
    return condition.partition(":")[0]


def _reason(turns: Sequence[Turn]) -> str:
    """Why an alarm opened, in words."""
    names = [turn.finding.sensor for turn in turns]
    return turns[0].reason if len(names) == 1 else f"{len(names)} sensors at once ({_listed(names)}), the first: {turns[0].reason}"


def _listed(names: Sequence[str]) -> str:
    """Some of the names.

    >>> _listed(list("abcdefg")), _listed(["flow"])
    ('a, b, c, d, e and 2 more', 'flow')
    """
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
