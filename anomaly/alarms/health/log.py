"""A log that names the line it is about."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from anomaly.alarms.events import Event
from anomaly.alarms.wording import describe_event

WARNED_OF = ("opened", "reminded", "escalated", "flood", "rejected", "refused", "rolled_back", "drifted")
BY_THE_WAY = ("heartbeat",)  # for those who look for them only


class LineLog(logging.LoggerAdapter[logging.Logger]):
    """A logger of the standard library whose records carry `line`, and `event` where they tell of one."""

    def __init__(self, line: str, name: str = "anomaly.line") -> None:
        super().__init__(logging.getLogger(name), {"line": line})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the line to what the call itself gives."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs

    def event(self, event: Event) -> None:
        """Tell of an event: a warning where someone may have to act, else by the way."""
        level = logging.WARNING if event.kind in WARNED_OF else logging.DEBUG if event.kind in BY_THE_WAY else logging.INFO
        self.log(level, "%s", describe_event(event), extra={"event": event})
