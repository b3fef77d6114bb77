"""What goes into a detector and what its alarm is set to: described once, for both sides. Needs pydantic and NumPy alone."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from anomaly.names import one_line

TIME_DIRECTIVES = "YymdbaHIMSpz"  # strptime's
TIME_FORMATS = ("ISO8601", "s", "ms", "us", "ns")
LONGEST_S = 10 * 366 * 86_400.0  # a time between two things that is longer is a mistake of writing
DAY_S, WEEK_S = 86_400, 604_800
LONGEST_DELAY_S = 31 * 86_400.0  # of an alarm
KIND = r"^[a-z][a-z0-9_-]{0,30}$"  # of a detector, or of what goes into one: another kind may be registered

LONGEST_NAME = 63  # letters of a detector's name


class Part(BaseModel):
    """Part of a spec or of a manifest: unknown keys are errors, and nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pattern(Part):
    """What a sensor does by the clock: `knots` in engineering units, evenly over the period, straight lines between them; their mean is 0.

    The first knot is at midnight, of a week at Monday's. `zone`: IANA name of the clock's zone, "" is UTC. `share`: how much of the
    sensor's variance the pattern explains of periods that it was not learnt from.
    """

    period_s: Literal[86_400, 604_800]
    zone: str = ""
    knots: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(min_length=2, max_length=1000)
    share: float = Field(0.0, le=1, allow_inf_nan=False)

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return check_zone(value)

    @property
    def word(self) -> str:
        """ "daily" or "weekly"."""
        return "daily" if self.period_s == DAY_S else "weekly"


class Channel(Part):
    """One sensor: the column's name, its unit, and the limits beyond which a reading counts as missing.

    `offset` is taken off every reading in double precision before it becomes float32, so that a large level does not hide a small change.
    `hold_s`: for so many seconds a reading stands for the empty cells after it, for a sensor that reports less often than there are rows.
    `still_rows`: the longest run of equal readings in the normals. `normal_low`, `normal_high`: the range of the normals. `gaps`: the share
    of the normals' rows without a reading. By these the edge tells a sensor that fails; None where they are not known. `pattern` is taken
    off what is scored; limits and the range of the normals are of readings as they came.
    """

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    offset: float = Field(0.0, allow_inf_nan=False)
    hold_s: float = Field(0.0, ge=0, le=LONGEST_S, allow_inf_nan=False)
    still_rows: int | None = Field(None, ge=1)
    normal_low: float | None = None
    normal_high: float | None = None
    gaps: float | None = Field(None, ge=0, le=1)
    pattern: Pattern | None = None

    @model_validator(mode="after")
    def _limits_in_order(self) -> Channel:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"sensor {self.name!r}: low {self.low} is not below high {self.high}; swap or correct them")
        return self


class Dialect(Part):
    """How a table is written: found on the whole of it when a detector is fitted, and used by every reader after that.

    None, and for `time` and `time_format` an empty tuple, means: not known yet, to be found in the file at hand.

    encoding        as Python names it; a byte order mark is left out by itself
    delimiter       between cells
    quote           around cells that hold a delimiter, "" where there is none
    decimal         the decimal mark
    thousands       the mark between groups of three digits, "" where there is none
    skip_rows       lines before the header
    units_rows      lines between the header and the first reading; the first of them holds the units
    time            the time column, or a date column and a time-of-day column
    time_format     the formats of the time, tried in this order: strptime's directives, "ISO8601", or s, ms, us, ns since 1970
    zone            IANA name of the zone of times that name none; "" is UTC
    missing         words that mean "no reading", in lower case, beside those of `MISSING`
    """

    encoding: str | None = None
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    decimal: Literal[".", ","] | None = None
    thousands: str | None = Field(None, max_length=1)
    skip_rows: int | None = Field(None, ge=0, le=10_000)
    units_rows: int | None = Field(None, ge=0, le=10)
    time: tuple[str, ...] = Field((), max_length=2)
    time_format: tuple[str, ...] = ()
    zone: str = ""
    missing: tuple[str, ...] = ()

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            return None if value is None else codecs.lookup(value).name
        except LookupError:
            raise ValueError(f"no encoding {value!r} is known; common ones are utf-8, cp1252, utf-16") from None

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return check_zone(value)

    @model_validator(mode="after")
    def _marks_differ(self) -> Dialect:
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}; correct one of them")
        if self.decimal is not None and self.decimal == self.delimiter and not self.quote:
            raise ValueError(f"decimal and delimiter are both {self.decimal!r}; correct one of them")
        return self

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be found in a file."""
        told = (self.encoding, self.delimiter, self.decimal, self.thousands, self.skip_rows, self.units_rows)
        return None not in told and bool(self.time) and bool(self.time_format)


class InputSchema(Part):
    """What the graph takes. Pictures: channels and bit depth. Windows: rows, sensors, period and how to read a table.

    `significant_bits`: how many bits of a 16-bit file the pictures' values take up, from the lowest; None where that is all of them.
    """

    name: str = Field(pattern=KIND)
    dtype: Literal["uint8", "uint16", "float32"]
    channels: int = Field(ge=1, le=100_000)
    significant_bits: int | None = Field(None, ge=8, le=16)
    window: int | None = Field(None, ge=1, le=1_000_000)
    period_s: float | None = Field(None, gt=0, le=LONGEST_S, allow_inf_nan=False)
    max_gap_s: float | None = Field(None, gt=0, le=LONGEST_S, allow_inf_nan=False)
    time: str | None = None
    sensors: tuple[Channel, ...] = ()
    labels: tuple[str, ...] = ()
    mode_column: str | None = None
    modes: tuple[str, ...] = ()
    dialect: Dialect | None = None

    @property
    def zone(self) -> str:
        """The zone in which people at the line read the clock, "" where none is known."""
        return self.dialect.zone if self.dialect is not None else ""

    def differs_from(self, other: InputSchema) -> list[str]:
        """In what two detectors do not take the same records, in words; [] where they do."""
        same = ("name", "dtype", "channels", "significant_bits", "window", "period_s", "mode_column")
        differ = [name for name in same if getattr(self, name) != getattr(other, name)]
        if [s.name for s in self.sensors] != [s.name for s in other.sensors]:
            differ.append("sensors")
        elif [s.offset for s in self.sensors] != [s.offset for s in other.sensors]:  # the source that runs takes off the one in use
            differ.append("`offset` of sensors")
        return differ

    @model_validator(mode="after")
    def _sensors_of_windows(self) -> InputSchema:
        if self.name != "window":
            return self
        if not self.sensors or len(self.sensors) != self.channels:
            raise ValueError(
                f"{len(self.sensors)} sensors for {self.channels} channels of a window; there must be one for each, and at least one"
            )
        names = [sensor.name for sensor in self.sensors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sensors {twice} are there twice; each needs a name of its own")
        return self


class AlarmSettings(Part):
    """When a run of flagged records becomes an alarm, and when it is over (IEC 62682 / ISA-18.2: on-delay, off-delay, deadband)."""

    on_delay_s: float = Field(
        0.0, ge=0, le=LONGEST_DELAY_S, allow_inf_nan=False, description="flagged for this long before the alarm opens"
    )
    off_delay_s: float = Field(0.0, ge=0, le=LONGEST_DELAY_S, allow_inf_nan=False, description="calm for this long before the alarm closes")
    off_records: int = Field(1, ge=1, le=1_000_000, description="and for so many records in a row")
    deadband: float = Field(1.0, ge=1, le=1e9, allow_inf_nan=False, description="calm means p-value above threshold times this")
    latched: bool = Field(False, description="an alarm whose condition is over stays until someone acknowledges it")
    remind_after_s: float = Field(
        28_800.0,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="an alarm nobody has acknowledged is told again after this long; 0 for never",
    )
    escalate_after_s: float = Field(
        3_600.0,
        ge=0,
        le=LONGEST_S,
        allow_inf_nan=False,
        description="its priority rises after this long, and after 8 times this; 0 for never",
    )
    suppress_in_modes: tuple[str, ...] | None = Field(
        None, description="modes of the mode column in which process alarms are held back; all that are not judged, when not given"
    )


def check_name(name: str) -> str:
    """A detector's name: any text in one line. Raises ValueError for one that is empty, too long, or holds what cannot be seen.

    `anomaly.names.slug` makes of it what file names take.
    """
    if not name.strip() or name != name.strip():
        raise ValueError("a name has at least one letter, and no blanks before or after it")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} letters, this one has {len(name)}")
    if one_line(name) != name:
        raise ValueError("a name is one line, without characters that cannot be seen")
    return name


Name = Annotated[str, AfterValidator(check_name)]


def check_zone(name: str) -> str:
    """The name of a time zone, or "". Raises ValueError for one that is not known."""
    try:
        if name:
            ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"no time zone {name!r} is known; write it as Europe/Berlin") from None
    return name


def check_time_format(form: str) -> None:
    """Raise ValueError for a time format that names a directive which no reader knows.

    >>> check_time_format("%d.%m.%Y %H:%M")
    """
    if form in TIME_FORMATS:
        return
    unknown = sorted(set(re.findall("%(.?)", form)) - set(TIME_DIRECTIVES))
    if unknown or "%" not in form:
        known = ", ".join(f"%{key}" for key in TIME_DIRECTIVES)
        raise ValueError(f"{form!r} is no time format: known are {known}, {', '.join(TIME_FORMATS)}")


def within_limits(values: NDArray[np.float64], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Readings (..., C) float64 in engineering units -> float32 less each channel's offset, with infinities and what is beyond a channel's
    limits made NaN.

    A reading at a limit counts. The input is not changed.

    >>> within_limits(np.array([[1.0, 60.0], [-2.0, 50.0]]), [Channel(name="flow", low=0), Channel(name="temperature", high=50)])
    array([[ 1., nan],
           [nan, 50.]], dtype=float32)
    >>> within_limits(np.array([1e12 + 49]), [Channel(name="counter", offset=1e12)])
    array([49.], dtype=float32)
    """
    if not any(channel.low is not None or channel.high is not None or channel.offset for channel in channels):
        with np.errstate(over="ignore"):
            plain = values.astype(np.float32)
        plain[~np.isfinite(plain)] = np.nan
        return plain
    offset = np.array([channel.offset for channel in channels])
    low = np.array([-np.inf if channel.low is None else channel.low for channel in channels])
    high = np.array([np.inf if channel.high is None else channel.high for channel in channels])
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (values >= low) & (values <= high) & np.isfinite(values)
        return np.where(inside, values - offset, np.nan).astype(np.float32)
