"""What goes into a detector and what its alarm is set to: described once, for both sides. Needs pydantic and NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

KIND = r"^[a-z][a-z0-9_-]{0,30}$"  # of a detector, or of what goes into one: another kind may be registered


class Part(BaseModel):
    """Part of a spec or of a manifest: unknown keys are errors, and nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Channel(Part):
    """One sensor: the column's name, its unit, and the limits beyond which a reading counts as missing."""

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _limits_in_order(self) -> Channel:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"sensor {self.name!r}: low {self.low} is not below high {self.high}; swap or correct them")
        return self


class InputSchema(Part):
    """What the graph takes. Pictures: channels and bit depth. Windows: rows, sensors, period and how to read a table.

    A window is `context` rows, NaN where there are none, followed by `window` rows that must be there.
    """

    name: str = Field(pattern=KIND)
    dtype: Literal["uint8", "uint16", "float32"]
    channels: int = Field(ge=1, le=100_000)
    window: int | None = Field(None, ge=1, le=1_000_000)
    context: int = Field(0, ge=0, le=1_000_000)
    period_s: float | None = None
    max_gap_s: float | None = None
    time: str | None = None
    sensors: tuple[Channel, ...] = ()
    labels: tuple[str, ...] = ()
    mode_column: str | None = None
    modes: tuple[str, ...] = ()


class AlarmSettings(Part):
    """When a run of flagged records becomes an alarm, and when it is over (IEC 62682 / ISA-18.2: on-delay, off-delay, deadband)."""

    on_delay_s: float = Field(0.0, ge=0, description="flagged for this long before the alarm opens")
    off_delay_s: float = Field(0.0, ge=0, description="calm for this long before the alarm closes")
    deadband: float = Field(1.0, ge=1, description="calm means p-value above threshold times this")


def within_limits(values: NDArray[np.float64], channels: Sequence[Channel]) -> NDArray[np.float32]:
    """Readings (..., C) float64 in engineering units -> float32, with infinities and what is beyond a channel's limits made NaN.

    A reading at a limit counts. The input is not changed.

    >>> within_limits(np.array([[1.0, 60.0], [-2.0, 50.0]]), [Channel(name="flow", low=0), Channel(name="temperature", high=50)])
    array([[ 1., nan],
           [nan, 50.]], dtype=float32)
    """
    low = np.array([-np.inf if channel.low is None else channel.low for channel in channels])
    high = np.array([np.inf if channel.high is None else channel.high for channel in channels])
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (values >= low) & (values <= high) & np.isfinite(values)
        return np.where(inside, values, np.nan).astype(np.float32)
