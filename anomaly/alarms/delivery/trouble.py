"""A sink that takes nothing for long is an alarm of class `delivery`, told to all other sinks, and over when it takes something again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from anomaly.alarms.delivery.lane import LaneStatus
from anomaly.alarms.delivery.summary import NO_LINE
from anomaly.alarms.events import Event, EventKind, alarm_id, iso, make_event
from anomaly.alarms.store import Store

FAILING_AFTER_S = 60.0
_KEY = "delivery alarms"  # in the store: the open ones, by sink, so that a restart knows them


class SinkTrouble:
    """Opens and closes the delivery alarms of one process.

    sinks: the names of all sinks
    failing_after_s: seconds without success, from a failed try on, that are an alarm
    clock: seconds since 1970
    """

    def __init__(self, sinks: Sequence[str], failing_after_s: float, clock: Callable[[], float]) -> None:
        self._sinks = list(sinks)
        self._after_s = failing_after_s
        self._clock = clock
        self._open: dict[str, dict[str, Any]] | None = None

    def look(self, store: Store, lanes: Sequence[LaneStatus]) -> list[Event]:
        """Compare with how the lanes stand; stores and returns the events that follow from it."""
        if self._open is None:
            self._open = json.loads(store.setting(_KEY) or "{}")
        events = [event for lane in lanes if (event := self._of(lane, store)) is not None]
        events += [self._close(sink, "it is no longer among the sinks") for sink in set(self._open) - set(self._sinks)]
        for event in events:
            store.add_events([event], [sink for sink in self._sinks if sink != event.data["sink"]])
        store.pass_time(NO_LINE)
        if events:
            store.set(_KEY, json.dumps(self._open))
        return events

    def _of(self, lane: LaneStatus, store: Store) -> Event | None:
        assert self._open is not None
        now, since = self._clock(), lane.failing_since
        if lane.sink in self._open:
            works = since is None and lane.last_success is not None
            return self._close(lane.sink, f"sink {lane.sink} takes events again") if works else None
        if since is None or now - since < self._after_s:
            return None
        counts = store.outbox_counts()
        waiting, dead = counts.get((lane.sink, "waiting"), 0), counts.get((lane.sink, "dead"), 0)
        self._open[lane.sink] = {"alarm": alarm_id(NO_LINE, "", since, lane.sink), "began": since, "reason": lane.error}
        reason = f"sink {lane.sink} has taken nothing for {now - since:.0f} s: {lane.error}; {waiting} events wait, {dead} dead letters"
        return self._event("opened", lane.sink, reason)

    def _close(self, sink: str, reason: str) -> Event:
        assert self._open is not None
        event = self._event("closed", sink, reason)
        del self._open[sink]
        return event

    def _event(self, kind: EventKind, sink: str, reason: str) -> Event:
        assert self._open is not None
        now, kept = self._clock(), self._open[sink]
        data = {
            "class": "delivery",
            "condition": f"sink {sink}",
            "sink": sink,
            "reason": reason,
            "began": iso(kept["began"]),
            "priority": "high",
        }
        if kind == "closed":
            data["lasted_s"] = now - kept["began"]
        return make_event(kind, NO_LINE, kept["alarm"], now, data)
