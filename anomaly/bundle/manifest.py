"""What a bundle says of itself: manifest.json, typed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly.errors import BundleError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SensorColumn(_Part):
    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


class InputSchema(_Part):
    """What the graph takes. Pictures: channels and bit depth. Windows: rows, sensors, period and how to read a table.

    A window is `context` rows, NaN where there are none, followed by `window` rows that must be there.
    """

    name: Literal["image", "window"]
    dtype: Literal["uint8", "uint16", "float32"]
    channels: int = Field(ge=1, le=100_000)
    window: int | None = Field(None, ge=1, le=1_000_000)
    context: int = Field(0, ge=0, le=1_000_000)
    period_s: float | None = None
    max_gap_s: float | None = None
    time: str | None = None
    sensors: list[SensorColumn] = []
    labels: list[str] = []
    mode_column: str | None = None
    modes: list[str] = []


class Threshold(_Part):
    """A record is flagged when its p-value is at or below `p_value` (in score units: at or above `score`)."""

    p_value: float = Field(gt=0, lt=1)
    score: float | None = None
    budget: dict[str, float]


class AlarmSettings(_Part):
    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    deadband: float = 1.0


class Member(_Part):
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Part):
    """Everything a reader may need to know before running the detector. No wall-clock time: same input, same bytes."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]{0,31}$")
    kind: Literal["camera", "sensor"]
    input: InputSchema
    calibration: dict[str, Any]
    threshold: Threshold
    alarm: AlarmSettings
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    parity: dict[str, Any]
    members: dict[str, Member] = {}

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes that are hashed and signed."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Parse and validate manifest bytes. Raises BundleError naming the bundle and the key."""
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest.json"
        raise BundleError(f"{where}: manifest.json, {key}: {first['msg']}; the bundle is damaged or from another version") from error
