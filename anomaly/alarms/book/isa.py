"""An alarm's state and priority by the standard of alarm management (ISA-18.2 / IEC 62682), and what may hold alarms back.

Pure data and functions. `book` moves alarms through these states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from anomaly.alarms.events import AlarmKind, Event
from anomaly.alarms.routing import PRIORITIES, Priority
from anomaly.names import one_line

State = Literal[
    "normal", "unacknowledged", "acknowledged", "returned unacknowledged", "latched unacknowledged",
    "shelved", "suppressed by design", "out of service",
]  # fmt: skip
HoldKind = Literal["shelved", "out of service", "suppressed"]
WHOLE_LINE = "*"  # the condition of a hold that covers all conditions of a line
PROCESS = "process"  # the condition of an alarm of the scores
# A line in one of these conditions is not watched: nothing else would tell of a fault meanwhile.
NOT_WATCHED = frozenset({"source", "silent", "frozen", "rubbish", "store"})
STANDS_STILL = frozenset({PROCESS, "silent", "frozen", "sensor_frozen"})  # conditions that a stopped machine brings by itself
# Flagged normals have p-values that are uniform below the threshold. A fifth of them therefore lies below a fifth of it, a twentieth
# below a twentieth: false alarms are low, medium and high at 80 : 15 : 5, the distribution that EEMUA 191 and ISA-18.2 recommend.
MEDIUM_P, HIGH_P = 1 / 5, 1 / 20


@dataclass(frozen=True, slots=True)
class Hold:
    """Someone, or the machine's mode, holds back the alarms of one condition of a line, or of all of them (`WHOLE_LINE`).

    `since` and `until` are seconds since 1970; `until` is None for a hold that does not end by itself.
    """

    kind: HoldKind
    condition: str
    since: float
    until: float | None
    who: str
    why: str = ""

    @property
    def key(self) -> tuple[HoldKind, str]:
        """A condition is held at most once in each way."""
        return self.kind, self.condition

    def covers(self, condition: str) -> bool:
        """Whether alarms of a condition are held back by it. A suppressed line holds back what a stopped machine brings by itself.

        >>> stopped = Hold("suppressed", WHOLE_LINE, 0.0, None, "mode column")
        >>> stopped.covers("process"), stopped.covers("sensor_frozen:flow"), stopped.covers("source")
        (True, True, False)
        """
        if self.kind == "suppressed" and self.condition == WHOLE_LINE:
            return condition.partition(":")[0] in STANDS_STILL
        return self.condition in {WHOLE_LINE, condition}


BEGINS: dict[HoldKind, AlarmKind] = {"shelved": "shelved", "out of service": "out_of_service", "suppressed": "suppressed"}
ENDS: dict[HoldKind, AlarmKind] = {"shelved": "unshelved", "out of service": "in_service", "suppressed": "unsuppressed"}
STATE_OF_HOLD: dict[HoldKind, State] = {  # the first of those that hold an alarm is its state
    "out of service": "out of service", "suppressed": "suppressed by design", "shelved": "shelved",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm of one condition of a line, from its opening on. Times are seconds since 1970.

    state: that of ISA-18.2
    opened: when it opened, at the reading that fulfilled the on-delay
    closed: when the condition was over, None while it is on
    told: what sinks were told last, "" while they know nothing of it
    since: when people were told of it, from which its reminder and its escalation count
    reminded: when people were last told that it is still there
    data: what its events say
    """

    id: str
    line: str
    alarm_class: str
    condition: str
    priority: Priority
    state: State
    opened: float
    since: float
    reminded: float
    closed: float | None = None
    acknowledged: float | None = None
    acknowledged_by: str = ""
    told: Literal["", "opened", "closed"] = ""
    latched: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def zone(self) -> str:
        """The zone in which people at the line read the clock, "" where none is known."""
        return str(self.data.get("zone", ""))

    @property
    def began(self) -> float:
        """When its first flagged record was: before it opened, where it had to last a while."""
        first = self.data.get("began")
        return self.opened if not first else min(self.opened, datetime.fromisoformat(str(first)).timestamp())

    @property
    def conditions(self) -> tuple[str, ...]:
        """All that it is of: of sensors that failed together, the condition of each."""
        kind, _, sensor = self.condition.partition(":")
        others = [one_line(f"{kind}:{name}") for name in self.data.get("sensors", ())] if sensor else []
        return tuple(dict.fromkeys([self.condition, *others]))

    @property
    def waits_for_people(self) -> bool:
        """A latched alarm whose condition is over: it closes when someone acknowledges it."""
        return self.latched and self.closed is not None and self.acknowledged is None and self.told == "opened"

    @property
    def over(self) -> bool:
        """Whether sinks should know it as closed."""
        return self.closed is not None and not self.waits_for_people

    @property
    def live(self) -> bool:
        """Whether anything can still happen to it."""
        return self.state != "normal"


def state_of(alarm: Alarm, holds: Mapping[HoldKind, Hold]) -> State:
    """The state of an alarm, given what holds its condition back."""
    if alarm.closed is None or alarm.told == "opened":  # else there is nothing left to hold back
        for kind, state in STATE_OF_HOLD.items():
            if kind in holds:
                return state
    if alarm.closed is None:
        return "unacknowledged" if alarm.acknowledged is None else "acknowledged"
    if alarm.waits_for_people:
        return "latched unacknowledged"
    if alarm.acknowledged is None and alarm.told:
        return "returned unacknowledged"
    return "normal"


def condition_of(event: Event) -> str:
    """The condition that an event is of: `process`, `silent`, `sensor:flow`.

    Each sensor has conditions of its own. An alarm of several has that of the first of them.
    """
    data = event.data
    name = str(data.get("condition") or data.get("class") or PROCESS)
    return one_line(f"{name}:{data['sensor']}" if data.get("sensor") and ":" not in name else name)


def priority_by_p(p_value: float, threshold: float) -> int:
    """Level of a process alarm by its lowest p-value, 0 (low) to 2 (high): critical takes time, too.

    >>> [PRIORITIES[priority_by_p(p, 0.01)] for p in (0.01, 0.002, 0.0005)]
    ['low', 'medium', 'high']
    """
    share = p_value / threshold
    return 2 if share <= HIGH_P else 1 if share <= MEDIUM_P else 0


def first_priority(alarm_class: str, condition: str, data: Mapping[str, Any]) -> int:
    """Level of an alarm as it opens, 0 (low) to 3 (critical).

    A line that is not watched is medium, as is a sink that gets nothing. A single sensor, readings out of range, a slower provider are low.
    """
    if data.get("priority") in PRIORITIES:
        return PRIORITIES.index(data["priority"])
    if alarm_class == PROCESS:
        p_value, threshold = data.get("p_value"), data.get("threshold_p")
        return 1 if p_value is None or not threshold else priority_by_p(p_value, threshold)
    return int(alarm_class == "delivery" or condition.partition(":")[0] in NOT_WATCHED)


def raised(level: int, unacknowledged_s: float, step_s: float) -> int:
    """The level of an alarm that nobody has acknowledged for so long: one higher after `step_s`, two after eight times that.

    >>> [PRIORITIES[raised(0, hours * 3600, 3600)] for hours in (0.5, 1, 8, 1000)]
    ['low', 'medium', 'high', 'high']
    """
    steps = 0 if not step_s or unacknowledged_s < step_s else 1 if unacknowledged_s < 8 * step_s else 2
    return min(level + steps, len(PRIORITIES) - 1)
