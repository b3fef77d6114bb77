"""What one turn of a line gives to the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anomaly.alarms.book import Changes
from anomaly.alarms.events import Event
from anomaly.alarms.evidence import Evidence
from anomaly.alarms.life import State

THRESHOLD = "threshold"  # what is kept of a line under this name: the p-value at which its detector flags a record
ZONE = "zone"  # and under this one: in which zone people at the line read the clock


@dataclass(frozen=True, slots=True)
class Scored:
    """One scored record as the store keeps it."""

    record: str
    time: float
    score: float
    p_value: float


@dataclass
class Batch:
    """What one turn of a line is to store: all of it is committed, or none.

    `shadow` are the same records as a challenger, `shadow_bundle`, scores them. `quality`: state and open alarm of each data-quality
    condition. `position` is where the source is read on from. `changes` are those of the line's book. `prepare` is called once, when nobody
    else can write any more: what people did up to then is known, and what they do after that comes after this batch. `kept`: what else
    the line is to remember (`Store.kept`), name -> text. `evidence` is what is kept of records of alarms.
    """

    line: str
    bundle: str
    position: dict[str, Any]
    state: State
    alarm: str | None
    scored: Sequence[Scored] = ()
    rejected: Sequence[tuple[str, float, str]] = ()
    events: Sequence[Event] = ()
    sinks: Sequence[str] = ()
    shadow: Sequence[Scored] = ()
    shadow_bundle: str = ""
    quality: Mapping[str, tuple[State, str | None]] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    prepare: Callable[[Batch], None] | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()
