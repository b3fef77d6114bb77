"""What a week of one line came to. Figures by ISA-18.2 / IEC 62682: rate, floods, chattering, stale alarms, time to acknowledge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

from anomaly.alarms.book import Alarm, Label
from anomaly.alarms.flood import CHATTER_WINDOW_S, CHATTERS_AT, FLOOD_ABOVE, FLOOD_WINDOW_S, STALE_AFTER_S
from anomaly.alarms.store import THRESHOLD, Store
from anomaly.schema import DAY_S, WEEK_S

MOST_FREQUENT = 10  # conditions that the report names
LONGEST_GAP_S = 3600.0  # between two records, beyond which a line counts as not watched


@dataclass(frozen=True)
class Week:
    """A line from `begin` to `end` (seconds since 1970).

    opened: alarms of the scores that opened, `other` those of data quality and delivery; by `days` of the calendar (UTC) both together:
    7, or 8 where the week begins within one
    records, flagged: as far as single scores are kept; `threshold`: the p-value at which a record is flagged, None where nothing says it
    expected: how many records flagged by chance the threshold allows among as many
    still_on: alarms on at the end; stale: on for more than a day; chattering: bursts of 3 openings of a condition in a minute
    flood_share: share of 10-minute intervals with more than 10 alarms; peak: the most in one of them
    acknowledge_s: median time to acknowledge of those that are `acknowledged`, None where that is not known; `unacknowledged`: the others
    real, nuisance: labels of alarms that opened in the week
    frequent: (condition, how often), the most frequent first
    drifts: when and how drift was told; `watched`: share of the time with records or without a gap of an hour, None where no record is kept
    kept: times of the first and the last record that is kept of the line at all, None without one
    """

    line: str
    begin: float
    end: float
    opened: int = 0
    other: int = 0
    days: tuple[int, ...] = ()
    records: int = 0
    flagged: int = 0
    threshold: float | None = None
    rejected: int = 0
    still_on: int = 0
    stale: int = 0
    chattering: int = 0
    flood_share: float = 0.0
    peak: int = 0
    acknowledge_s: float | None = None
    acknowledged: int = 0
    unacknowledged: int = 0
    real: int = 0
    nuisance: int = 0
    frequent: tuple[tuple[str, int], ...] = ()
    priorities: dict[str, int] = field(default_factory=dict)
    drifts: tuple[tuple[float, str], ...] = ()
    watched: float | None = None
    kept: tuple[float, float] | None = None

    @property
    def expected(self) -> float | None:
        return None if self.threshold is None else self.threshold * self.records

    @property
    def precision(self) -> float | None:
        """Share of labelled alarms that were real, None without labels."""
        labelled = self.real + self.nuisance
        return self.real / labelled if labelled else None

    @property
    def over_budget(self) -> bool | None:
        """Whether clearly more records were flagged than chance allows at this threshold.

        Clearly: beyond three standard deviations of a count. None where records or threshold are not known.
        """
        if self.expected is None or not self.records:
            return None
        return self.flagged > self.expected + 3 * math.sqrt(self.expected) + 1


def week_of(now: float) -> tuple[float, float]:
    """The seven days up to the last midnight (UTC)."""
    end = now // DAY_S * DAY_S
    return end - WEEK_S, end


def figures_of(store: Store, begin: float, end: float, line: str | None = None) -> list[Week]:
    """Each line of a store, or one; those with the most alarms first."""
    labels = {label.alarm: label for label in store.labels(line)}
    told = [event for event in store.events() if event["type"].rpartition(".")[2] == "drifted"]
    found = [_week(store, name, begin, end, labels, told) for name in ([line] if line is not None else store.lines())]
    return sorted(found, key=lambda week: (-week.opened - week.other, week.line))


def _week(store: Store, line: str, begin: float, end: float, labels: dict[str, Label], told: Iterable[dict[str, Any]]) -> Week:
    alarms = [alarm for alarm in store.alarms(line, live=False) if alarm.opened < end]
    opened = [alarm for alarm in alarms if alarm.opened >= begin]
    times = sorted(alarm.opened for alarm in opened)
    kept = store.scores(line)
    scores = [scored for scored in kept if begin <= scored.time < end]
    threshold = threshold_of(store, line, alarms)
    answered = [
        alarm.acknowledged - alarm.since for alarm in opened if alarm.acknowledged is not None and alarm.acknowledged >= alarm.since
    ]
    first_day = int(begin // DAY_S)
    said = [labels[alarm.id].verdict for alarm in opened if alarm.id in labels]
    burst = _in_intervals(times, begin, end)
    return Week(
        line, begin, end,
        opened=sum(alarm.alarm_class == "process" for alarm in opened), other=sum(alarm.alarm_class != "process" for alarm in opened),
        days=tuple(Counter(int(time // DAY_S) for time in times)[day] for day in range(first_day, math.ceil(end / DAY_S))),
        records=len(scores), flagged=0 if threshold is None else sum(scored.p_value <= threshold for scored in scores), threshold=threshold,
        rejected=sum(begin <= time < end for _, time, _ in store.rejections(line)),
        still_on=sum(_until(alarm, math.inf) >= end for alarm in alarms),
        stale=sum(min(_until(each, end), end) - each.opened > STALE_AFTER_S for each in alarms if _until(each, end) > begin),
        chattering=_chattering(opened), flood_share=sum(count > FLOOD_ABOVE for count in burst) / len(burst), peak=max(burst),
        acknowledge_s=median(answered) if answered else None,
        acknowledged=sum(alarm.acknowledged is not None for alarm in opened),
        unacknowledged=sum(alarm.acknowledged is None for alarm in opened), real=said.count("real"), nuisance=said.count("nuisance"),
        frequent=tuple(Counter(alarm.condition for alarm in opened).most_common(MOST_FREQUENT)),
        priorities=dict(Counter(str(alarm.priority) for alarm in opened)),
        drifts=tuple(_drifts(told, line, begin, end)), watched=_watched([scored.time for scored in scores], begin, end),
        kept=(kept[0].time, kept[-1].time) if kept else None,
    )  # fmt: skip


def _until(alarm: Alarm, otherwise: float) -> float:
    return otherwise if alarm.closed is None else alarm.closed


def threshold_of(store: Store, line: str, alarms: Sequence[Alarm]) -> float | None:
    """The p-value at which a line's records are flagged: its detector's, in older stores that of the newest alarm of the scores."""
    kept = store.kept(line, THRESHOLD)
    if kept:
        return float(kept)
    known = [float(alarm.data["threshold_p"]) for alarm in alarms if alarm.data.get("threshold_p")]
    return known[-1] if known else None


def _in_intervals(times: Sequence[float], begin: float, end: float) -> list[int]:
    """How many alarms opened in each interval of 10 minutes."""
    counts = Counter(int((time - begin) // FLOOD_WINDOW_S) for time in times)
    return [counts[place] for place in range(max(1, math.ceil((end - begin) / FLOOD_WINDOW_S)))]


def _chattering(opened: Sequence[Alarm]) -> int:
    """How many bursts: openings of one condition, three and more, each burst counted once."""
    found = 0
    for condition in {alarm.condition for alarm in opened}:
        times, place = sorted(alarm.opened for alarm in opened if alarm.condition == condition), 0
        while place + CHATTERS_AT <= len(times):
            if times[place + CHATTERS_AT - 1] - times[place] > CHATTER_WINDOW_S:
                place += 1
                continue
            found, place = found + 1, place + CHATTERS_AT
            while place < len(times) and times[place] - times[place - 1] <= CHATTER_WINDOW_S:
                place += 1
    return found


def _drifts(told: Iterable[dict[str, Any]], line: str, begin: float, end: float) -> list[tuple[float, str]]:
    found = []
    for event in told:
        time = datetime.fromisoformat(event["time"]).timestamp()
        if str(event["source"]).removeprefix("/anomaly/") == line and begin <= time < end:
            found.append((time, str(event["data"].get("reason", ""))))
    return found


def _watched(times: Sequence[float], begin: float, end: float) -> float | None:
    """Share of the time that lies in no gap of more than an hour between records."""
    if not times:
        return None
    marks = [begin, *sorted(times), end]
    gaps = sum(b - a for a, b in pairwise(marks) if b - a > LONGEST_GAP_S)
    return 1 - gaps / (end - begin)
