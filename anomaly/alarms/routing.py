"""Which events a sink gets, how many of them, and when: the keys that every `[[sink]]` may have."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from anomaly.alarms.events import TYPES

AlarmClass = Literal["process", "data quality", "delivery"]
Priority = Literal["low", "medium", "high", "critical"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
FOR_PEOPLE = ("alarm.opened", "alarm.closed", "alarm.reminded", "alarm.escalated", "alarm.flood", "delivery.summary",
              "bundle.refused", "bundle.rolled_back")  # fmt: skip
_OF_KIND: dict[str, Priority] = {"bundle.refused": "medium", "bundle.rolled_back": "high"}
_QUIET = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")


class Routing(BaseModel):
    """What one sink is sent. Without any key: everything but heartbeats; to people only what asks for their attention.

    Lines and kinds may hold `*`. That another sink takes nothing belongs to no line, and is told whatever the lines. An event that has no
    priority counts as low, but a bundle that was refused as medium, one that was taken back as high, and an alarm of an older version as
    high.
    """

    model_config = ConfigDict(extra="forbid")
    for_people: ClassVar[bool] = False  # a sink whose messages are read by people as they come

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")
    lines: list[str] = Field([], description="only events of these lines")
    classes: list[AlarmClass] = Field([], description="only alarms of these classes")
    kinds: list[str] = Field([], description="only these kinds of events, such as alarm.opened or alarm.*")
    min_priority: Priority = Field("low", description="only events of this priority or above")
    latest_only: bool | None = Field(None, description="only the newest state of each alarm; what is over already, summed up")
    max_per_minute: int | None = Field(None, ge=1, description="messages a minute; what is beyond is summed up in the last of them")
    quiet: str | None = Field(None, description="hours in which only what is critical is sent: 22:00-06:00; the rest is summed up after")
    zone: str | None = Field(None, description="the time zone of `quiet`, such as Europe/Berlin; the machine's when not given")
    heartbeat_s: float | None = Field(None, ge=1, description="seconds between signs of life, for a receiver that misses them")
    link: str = Field("", pattern=r"^(https?://[!-~]+)?$", description="the page that messages point to")

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: list[str]) -> list[str]:
        for kind in kinds:
            if not any(fnmatchcase(each, kind) for each in TYPES):
                raise ValueError(f"{kind!r} is no kind of event; they are {', '.join(TYPES)}")
        return kinds

    @field_validator("quiet")
    @classmethod
    def _hours(cls, quiet: str | None) -> str | None:
        if quiet is not None and (not _QUIET.match(quiet) or quiet[:5] == quiet[6:]):
            raise ValueError("write two times of the day that differ, such as 22:00-06:00")
        return quiet

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except Exception as error:
                raise ValueError(f"{zone!r} is no time zone that this machine knows; write one such as Europe/Berlin") from error
        return zone

    @property
    def newest_only(self) -> bool:
        """Whether superseded states are left out: as set, else for people only."""
        return self.for_people if self.latest_only is None else self.latest_only

    def wants(self, kind: str, line: str, class_: str, priority: Priority) -> bool:
        """Whether an event is for this sink. `kind` is one of TYPES, `class_` is empty for what is no alarm.

        >>> Routing(name="phone", min_priority="high", lines=["press-*"]).wants("alarm.opened", "press-3", "process", "high")
        True
        """
        if self.lines and not any(fnmatchcase(line, each) for each in self.lines) and class_ != "delivery":
            return False
        if kind == "line.heartbeat" and self.heartbeat_s is not None:
            return True
        if self.classes and class_ not in self.classes:
            return False
        if PRIORITIES.index(priority) < PRIORITIES.index(self.min_priority):
            return False
        kinds = self.kinds or (FOR_PEOPLE if self.for_people else [each for each in TYPES if each != "line.heartbeat"])
        return any(fnmatchcase(kind, each) for each in kinds)

    def is_quiet(self, now: float) -> bool:
        """Whether `now`, seconds since 1970, lies in the quiet hours.

        >>> Routing(name="phone", quiet="22:00-06:00", zone="UTC").is_quiet(23 * 3600.0)
        True
        """
        if self.quiet is None:
            return False
        at = _clock(now, self.zone).strftime("%H:%M")
        begin, end = self.quiet[:5], self.quiet[6:]
        return begin <= at < end if begin < end else at >= begin or at < end

    def quiet_ends(self, now: float) -> float:
        """When the quiet hours that `now` lies in end, to the minute; seconds since 1970."""
        minute = 60.0 * (now // 60.0 + 1)
        return next((at for at in (minute + 60.0 * i for i in range(26 * 60)) if not self.is_quiet(at)), now + 60.0)


def priority_of(kind: str, data: dict[str, object]) -> Priority:
    """An event's priority; one that it does not tell goes by its kind, and an alarm is then never the least.

    >>> priority_of("alarm.opened", {}), priority_of("record.rejected", {})
    ('high', 'low')
    """
    told = next((each for each in PRIORITIES if each == data.get("priority")), None)
    return told or _OF_KIND.get(kind) or ("high" if kind.startswith("alarm.") else "low")


def _clock(now: float, zone: str | None) -> datetime:
    if zone is not None:
        return datetime.fromtimestamp(now, ZoneInfo(zone))
    return datetime.fromtimestamp(now, UTC) + timedelta(seconds=time.localtime(now).tm_gmtoff)
