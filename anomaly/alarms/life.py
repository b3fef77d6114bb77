"""When flagged records become an alarm and when it is over: on-delay, off-delay, deadband (IEC 62682, ISA-18.2 ch. 9).

A pure state machine: state and one reading in, state and at most one transition out. No clock, no store, no thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from anomaly.schema import AlarmSettings


class Settings(AlarmSettings):
    """Flagged at p <= `threshold`; calm at p > `threshold * deadband`; what lies between keeps things as they are."""

    threshold: float


@dataclass(frozen=True, slots=True)
class State:
    """`active`: an alarm is open. `since`: when the run of flagged (or, while active, calm) readings began, if one is on.

    `opened`: time of the first flagged reading of the open alarm; `worst`: the smallest p-value since then.
    """

    active: bool = False
    since: float | None = None
    opened: float | None = None
    worst: float = 1.0


CALM = State()


@dataclass(frozen=True, slots=True)
class Transition:
    """An alarm opens (at the reading that fulfils the on-delay) or closes. `began` is its first flagged reading's time."""

    kind: Literal["opened", "closed"]
    time: float
    began: float
    worst: float


def step(state: State, time: float, p_value: float, settings: Settings) -> tuple[State, Transition | None]:
    """Take one reading. Time running backwards (a clock set back) restarts a delay and never opens or closes by itself."""
    flagged = p_value <= settings.threshold
    calm = p_value > settings.threshold * settings.deadband
    if state.since is not None and time < state.since:
        state = replace(state, since=time)
    if state.active:
        state = replace(state, worst=min(state.worst, p_value))
        return _while_active(state, time, calm, settings)
    return _while_calm(state, time, p_value, flagged, settings)


def _while_calm(state: State, time: float, p_value: float, flagged: bool, settings: Settings) -> tuple[State, Transition | None]:
    if not flagged:
        return CALM, None
    began = time if state.since is None else state.since
    worst = min(state.worst, p_value)
    if time - began < settings.on_delay_s:
        return State(active=False, since=began, opened=None, worst=worst), None
    opened = State(active=True, since=None, opened=began, worst=worst)
    return opened, Transition("opened", time, began, worst)


def _while_active(state: State, time: float, calm: bool, settings: Settings) -> tuple[State, Transition | None]:
    if not calm:
        return replace(state, since=None), None
    began = time if state.since is None else state.since
    if time - began < settings.off_delay_s:
        return replace(state, since=began), None
    assert state.opened is not None
    return CALM, Transition("closed", time, state.opened, state.worst)
