"""What of a sink's waiting events is sent now, in which order, and what is left out or summed up: pure functions of rows and clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from anomaly.alarms.delivery.fact import Fact, read_fact
from anomaly.alarms.delivery.summary import Why, summary_event
from anomaly.alarms.routing import PRIORITIES, Routing
from anomaly.alarms.store import Waiting

MOST_REJECTED = 3  # records that could not be read, told one by one to a sink that wants the newest state only
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One call of a sink: `facts` are delivered when it has been taken."""

    facts: tuple[Fact, ...]
    body: str
    id: str

    @property
    def rows(self) -> list[Waiting]:
        return [fact.row for fact in self.facts]

    @property
    def due_at(self) -> float:
        return max(row.next_at for row in self.rows)


@dataclass
class Plan:
    """`send`: in this order. `leave_out`: rows by why they are not sent at all. `again_at`: when to look again if nothing new comes."""

    send: list[Message] = field(default_factory=list)
    leave_out: dict[str, list[Waiting]] = field(default_factory=dict)
    again_at: float = math.inf


def make_plan(rows: Sequence[Waiting], routing: Routing, now: float, sent: Sequence[float] = (), held: set[int] | None = None) -> Plan:
    """Every row is sent, left out, or waits.

    rows: all that wait for one sink, oldest first
    now: seconds since 1970
    sent: when messages went out in the last minute, oldest first
    held: numbers of rows that quiet hours hold back; rows are added here, and summed up after
    """
    held = set() if held is None else held
    plan = Plan()
    wanted: list[Fact] = []
    for row in rows:
        fact = read_fact(row)
        if routing.wants(fact.kind, fact.line, fact.class_, fact.priority):
            wanted.append(fact)
        else:
            plan.leave_out.setdefault("filtered", []).append(row)
    beats = [fact for fact in wanted if fact.kind == "line.heartbeat"]  # neither quiet hours nor a full minute may look like death
    wanted = [fact for fact in wanted if fact.kind != "line.heartbeat"]
    messages = _after_quiet(wanted, routing, now, held, plan)
    ready = [each for each in messages if each.due_at <= now]
    plan.again_at = min([plan.again_at, *(each.due_at for each in messages if each.due_at > now)])
    plan.send = [*_all(beats, now, plan), *_within_rate(ready, routing, now, sent, plan)]
    return plan


def _after_quiet(wanted: list[Fact], routing: Routing, now: float, held: set[int], plan: Plan) -> list[Message]:
    """What the hour lets through. After quiet hours, what they held back is one message."""
    if routing.is_quiet(now):
        through = [fact for fact in wanted if fact.priority == "critical"]
        held.update(fact.row.seq for fact in wanted if fact.priority != "critical")
        if len(through) < len(wanted):
            plan.again_at = routing.quiet_ends(now)
        return _in_order(through, routing, now, plan)
    late = [fact for fact in wanted if fact.row.seq in held]
    held.intersection_update(fact.row.seq for fact in late)
    if len(late) < 2:
        return _in_order(wanted, routing, now, plan)
    rest = [fact for fact in wanted if fact.row.seq not in held]
    return [_sum_up(late, routing.name, "quiet"), *_in_order(rest, routing, now, plan)]


def _in_order(facts: list[Fact], routing: Routing, now: float, plan: Plan) -> list[Message]:
    return _newest(facts, routing, plan) if routing.newest_only else _all(facts, now, plan)


def _all(facts: Iterable[Fact], now: float, plan: Plan) -> list[Message]:
    """Each event, oldest first; of an alarm nothing before what came earlier."""
    waiting: set[str] = set()
    messages = []
    for fact in facts:
        if fact.row.next_at > now:
            plan.again_at = min(plan.again_at, fact.row.next_at)
            waiting.add(fact.row.alarm)
        if fact.row.alarm not in waiting:
            messages.append(_one(fact))
    return messages


def _newest(facts: Iterable[Fact], routing: Routing, plan: Plan) -> list[Message]:
    """The newest state of each alarm, newest first. What opened and closed meanwhile is one message, the last."""
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.key, []).append(fact)
    over = [group for group in groups.values() if group[0].kind == "alarm.opened" and group[-1].kind == "alarm.closed"]
    rejected = [group for group in groups.values() if group[-1].kind == "record.rejected"]
    stale = [*(over if len(over) > 1 else ()), *(rejected if len(rejected) > MOST_REJECTED else ())]
    summed = {id(group) for group in stale}
    messages = []
    for group in sorted(groups.values(), key=lambda group: -group[-1].row.seq):
        if id(group) in summed:
            continue
        if len(group) > 1:
            plan.leave_out.setdefault("superseded", []).extend(fact.row for fact in group[:-1])
        messages.append(_one(group[-1]))
    if stale:
        messages.append(_sum_up(sorted((fact for group in stale for fact in group), key=lambda fact: fact.row.seq), routing.name, "away"))
    return messages


def _within_rate(ready: list[Message], routing: Routing, now: float, sent: Sequence[float], plan: Plan) -> list[Message]:
    """At most so many messages a minute, the most urgent first; when there are more, the last one sums up the rest."""
    if routing.max_per_minute is None:
        return ready
    lately = [at for at in sent if now - MINUTE_S < at <= now]
    room = routing.max_per_minute - len(lately)
    if len(ready) <= room:
        return ready
    if room <= 0:
        plan.again_at = min(plan.again_at, lately[0] + MINUTE_S)
        return []
    urgency: dict[str, int] = {}
    for message in ready:
        for fact in message.facts:
            urgency[fact.key] = max(urgency.get(fact.key, 0), PRIORITIES.index(fact.priority))
    ready = sorted(ready, key=lambda message: -max(urgency[fact.key] for fact in message.facts))  # stable: an alarm's own order stays
    rest = sorted((fact for message in ready[room - 1 :] for fact in message.facts), key=lambda fact: fact.row.seq)
    return [*ready[: room - 1], _sum_up(rest, routing.name, "many")]


def _one(fact: Fact) -> Message:
    return Message((fact,), fact.row.body, fact.row.id)


def _sum_up(facts: Sequence[Fact], sink: str, why: Why) -> Message:
    event = summary_event(sink, why, facts)
    return Message(tuple(facts), event.to_json(), event.id)
