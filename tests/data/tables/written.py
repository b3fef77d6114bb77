"""One small table of known readings, written in the ways that plants write theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

ROWS = 400
START = pd.Timestamp("2026-01-05 00:00", tz="UTC")


@dataclass
class Way:
    """How to write a table; the defaults give a plain CSV."""

    stamp: Callable[[pd.Timestamp], str] = lambda t: f"{t:%Y-%m-%d %H:%M:%S}"
    number: Callable[[float], str] = lambda v: f"{v:.3f}"
    delimiter: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] = ("time", "flow", "heat", "level")
    before: str = ""  # lines before the header
    under: str = ""  # lines under it
    end: str = ""  # at the end of each line
    newline: str = "\n"
    period_s: float = 3600.0
    start: pd.Timestamp = START
    zone: str = ""
    rows: int = ROWS
    spec: dict[str, object] = field(default_factory=dict)  # what the spec must say


def readings(rows: int = ROWS) -> np.ndarray:
    """(rows, 3) with three decimals: around 1000, from -60 to 60, and from 0 to 0.9."""
    rng = np.random.default_rng(5)
    return np.column_stack([rng.normal(1100, 150, rows), rng.normal(0, 20, rows), rng.random(rows) * 0.9]).round(3)


def times(way: Way) -> pd.DatetimeIndex:
    return pd.date_range(way.start, periods=way.rows, freq=pd.Timedelta(seconds=way.period_s))


def write(path: Path, way: Way, cells: Callable[[int, int, str], str] = lambda row, column, text: text) -> np.ndarray:
    """Write the table; returns its readings. `cells` changes single cells: (row, column, text) -> text."""
    values = readings(way.rows)
    lines = []
    for row, (moment, line) in enumerate(zip(times(way), values, strict=True)):
        local = moment.tz_convert(ZoneInfo(way.zone)) if way.zone else moment
        numbers = [cells(row, column, way.number(value)) for column, value in enumerate(line)]
        lines.append(way.delimiter.join([way.stamp(local), *numbers]) + way.end)
    text = way.before + way.delimiter.join(way.header) + way.end + "\n" + way.under + "\n".join(lines) + "\n"
    path.write_bytes(text.replace("\n", way.newline).encode(way.encoding))
    return values


def german(value: float) -> str:
    return f"{value:.3f}".replace(".", ",")


def grouped(value: float, thousands: str, decimal: str) -> str:
    return f"{value:,.3f}".replace(",", "T").replace(".", decimal).replace("T", thousands)
