"""What is looked at in each sensor by itself: no reading, a reading that stands still, readings far beyond the normals.

Pure functions from rows to findings; `quality` makes alarms of them. None of them suppresses a process alarm: a fault may look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import iso
from anomaly.alarms.life import Settings
from anomaly.schema import Channel, InputSchema

LEAST_ROWS, BACK_ROWS = 30, 3  # wrong for so many rows is an alarm; right for so many again and it is over
# A sensor that reads now and then is never without a reading for LEAST_ROWS: it lacks close to half of OFTEN_ROWS, in several places.
OFTEN_ROWS, OFTEN, OFTEN_RUNS = 60, 0.4, 4
USUAL_GAPS = 0.2  # a sensor that lacks more of its readings in the normals is left to its scores
STILL_FACTOR = 3  # times the longest run of equal readings in the normals
BEYOND_SPANS = 1.5  # widths of the normal range by which readings lie outside it
MISSING, FROZEN, BEYOND = "sensor:", "sensor_frozen:", "sensor_range:"  # conditions of one sensor, followed by its name


@dataclass(frozen=True)
class Finding:
    """One condition over rows (n,): where it is `wrong`, and where the rows tell at all (`known`).

    A row that does not tell ends no alarm, and is no part of the run of rows that opens one.

    starts: rows at which it may begin, None for all
    reason: (time of the first wrong row, number of the row at which the alarm opens or closes) -> words
    """

    condition: str
    sensor: str
    wrong: NDArray[np.bool_]
    known: NDArray[np.bool_]
    settings: Settings
    reason: Callable[[float, int], str]
    starts: NDArray[np.bool_] | None = None


def find_in_sensors(
    rows: NDArray[np.float32],
    before: NDArray[np.float32],
    schema: InputSchema,
    words: Mapping[str, str],
    *,
    alone: bool = False,
    missed: NDArray[np.bool_] | None = None,
) -> list[Finding]:
    """Findings of all sensors in rows (n, C), each with the row `before` it (n, C), NaN where there was none.

    `missed`: where the rows up to these had no reading (m, C), as `last_missed` gives them.

    `words`: what stood in a sensor's cells in place of a reading. A check whose limits the schema does not know is left out.
    `alone`: rows in which every sensor stands still are no standstill of each, for the whole source is told to be frozen.
    """
    period_s, found = schema.period_s or 0.0, []
    moves = ~(rows == before).all(axis=1) if alone and rows.shape[1] > 1 else np.ones(len(rows), bool)
    if missed is None or missed.shape[1] != rows.shape[1]:
        missed = np.zeros((0, rows.shape[1]), bool)
    for index, channel in enumerate(schema.sensors):
        column, last = rows[:, index], before[:, index]
        often = _often(np.append(missed[:, index], np.isnan(column)), len(column))
        found.append(_missing(channel, column, often, period_s, words.get(channel.name, "")))
        if channel.still_rows is not None:
            found.append(_frozen(channel, column, last, moves, period_s))
        if channel.normal_low is not None and channel.normal_high is not None:
            found.append(_beyond(channel, column, last, period_s, channel.normal_low, channel.normal_high))
    return found


def _settings(rows: int, back: int, period_s: float) -> Settings:
    """Opens at the `rows`-th wrong row in a row, closes at the `back`-th right one."""
    return Settings(threshold=0.5, on_delay_s=(rows - 1.5) * period_s, off_delay_s=max(0.0, back - 1.5) * period_s)


def last_missed(missed: NDArray[np.bool_] | None, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the last rows had no reading (m, C), after further rows (n, C). `missed`: the same before them, None at first."""
    now = np.isnan(rows)
    return now[-OFTEN_ROWS:] if missed is None or missed.shape[1] != now.shape[1] else np.concatenate([missed, now])[-OFTEN_ROWS:]


def _often(missing: NDArray[np.bool_], rows: int) -> NDArray[np.int64]:
    """How many of the OFTEN_ROWS up to each of the last `rows` of (n,) had no reading; 0 where those are few, or are few stretches."""
    begins = missing & ~np.append(False, missing[:-1])
    counts, runs = (np.append(np.zeros(OFTEN_ROWS, np.int64), np.cumsum(each)) for each in (missing, begins))
    lately, stretches = counts[OFTEN_ROWS:] - counts[:-OFTEN_ROWS], runs[OFTEN_ROWS:] - runs[:-OFTEN_ROWS]
    return np.where((lately >= OFTEN * OFTEN_ROWS) & (stretches >= OFTEN_RUNS), lately, 0)[len(missing) - rows :]


def _missing(channel: Channel, column: NDArray[np.float32], often: NDArray[np.int64], period_s: float, word: str) -> Finding:
    """Rows without a reading, and those before which readings came and went (`often`), unless the normals are like that, too."""
    said, missing = f" ({word!r})" if word else "", np.isnan(column)
    usual = channel.gaps is not None and channel.gaps > USUAL_GAPS

    def reason(began: float, at: int) -> str:
        if often[at] and not usual:
            return f"sensor {channel.name!r} gives no reading in {often[at]} of {OFTEN_ROWS} rows, since {iso(began)} or before{said}"
        return f"sensor {channel.name!r} gives no reading since {iso(began)}{said}"

    wrong = missing if usual else missing | (often > 0)
    return Finding(
        MISSING + channel.name, channel.name, wrong, np.ones(len(column), bool), _settings(LEAST_ROWS, BACK_ROWS, period_s), reason
    )


def _frozen(channel: Channel, column: NDArray[np.float32], last: NDArray[np.float32], moves: NDArray[np.bool_], period_s: float) -> Finding:
    """The first reading that differs ends it: many sensors repeat a reading now and then while they are well."""
    rows = max(LEAST_ROWS, STILL_FACTOR * (channel.still_rows or 0))

    def reason(began: float, at: int) -> str:
        return (
            f"sensor {channel.name!r} stands still at {_reading(channel, last[at])} since {iso(began - period_s)}, "
            f"for {rows} rows and more; {channel.still_rows} at most in the normals"
        )

    known = np.isfinite(column) & np.isfinite(last) & moves
    return Finding(FROZEN + channel.name, channel.name, column == last, known, _settings(rows - 1, 1, period_s), reason)


def _beyond(channel: Channel, column: NDArray[np.float32], last: NDArray[np.float32], period_s: float, low: float, high: float) -> Finding:
    """It begins with a jump, or with the first reading after none: a machine that warms up leaves its range slowly."""
    readings, wide = column.astype(np.float64) + channel.offset, BEYOND_SPANS * (high - low)
    with np.errstate(invalid="ignore"):
        wrong = (readings < low - wide) | (readings > high + wide)
        jumped = ~(np.abs(column.astype(np.float64) - last) <= wide)  # also where there was no reading before

    def reason(began: float, at: int) -> str:
        return (
            f"sensor {channel.name!r} jumped far out of its normal range, {low:.6g} to {high:.6g}, and stays there since {iso(began)}, now "
            f"{_reading(channel, column[at])}: another unit, a sensor that fails, or a fault of the machine"
        )

    settings = _settings(LEAST_ROWS, BACK_ROWS, period_s)
    return Finding(BEYOND + channel.name, channel.name, wrong, np.isfinite(column), settings, reason, jumped)


def _reading(channel: Channel, value: np.float32) -> str:
    return f"{float(value) + channel.offset:.{14 if channel.offset else 6}g}"
