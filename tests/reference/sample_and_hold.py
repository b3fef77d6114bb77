"""Sample and hold, the slow way: for every instant and sensor, look through all messages that came before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def sample_and_hold(
    messages: Sequence[tuple[float, Mapping[str, float]]],
    limits: Mapping[str, tuple[float, float]],
    period_s: float,
    max_age_s: float,
) -> list[tuple[float, list[float]]]:
    """Messages (time, readings) in order of arrival -> rows (time, one reading for each sensor of `limits`, NaN where missing)."""
    rows = []
    for count in range(1, len(messages)):
        latest, now = max(time for time, _ in messages[:count]), messages[count][0]
        passed = [k * period_s for k in range(math.floor(latest / period_s), math.floor(now / period_s) + 1) if k * period_s > latest]
        if not passed or now - passed[0] > max_age_s:
            continue  # no instant has passed, or the silence was so long that no rows are made up for it
        for instant in passed:
            held = [_reading(messages[:count], sensor, instant, limits[sensor], max_age_s) for sensor in limits]
            if any(reading is not None for reading in held):
                rows.append((instant, [math.nan if reading is None else reading for reading in held]))
    return rows


def _reading(
    before: Sequence[tuple[float, Mapping[str, float]]], sensor: str, instant: float, limits: tuple[float, float], max_age_s: float
) -> float | None:
    """The last reading of a sensor: NaN where it is beyond its limits, None where there is none or it is too old."""
    own = [(time, readings[sensor]) for time, readings in before if sensor in readings]
    if not own or instant - max(time for time, _ in own) > max_age_s:
        return None
    value = own[-1][1]
    return value if math.isfinite(value) and limits[0] <= value <= limits[1] else math.nan
