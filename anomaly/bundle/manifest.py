"""What a bundle says of itself: manifest.json, typed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json

from anomaly.errors import BundleError
from anomaly.rarity import least_p
from anomaly.schema import KIND, AlarmSettings, InputSchema, Name, Part


class Threshold(Part):
    """A record is flagged when its p-value is at or below `p_value` (in score units: at or above `score`)."""

    p_value: float = Field(gt=0, lt=1)
    score: float | None = None
    budget: dict[str, float]


class Member(Part):
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Part):
    """Everything a reader may need to know before running the detector. It holds no time of day, so the same input gives the same bytes."""

    schema_version: Literal[1, 2] = 2
    name: Name
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._]{0,31}$")
    kind: str = Field(pattern=KIND)
    input: InputSchema
    calibration: dict[str, Any]
    threshold: Threshold
    alarm: AlarmSettings
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    parity: dict[str, Any]
    members: dict[str, Member] = Field(default_factory=dict)

    @property
    def least_p(self) -> float:
        """The smallest p-value that the normals can tell, 0 where it is not known how many there were."""
        return least_p(float(self.calibration["independent_scores"])) if "independent_scores" in self.calibration else 0.0

    @property
    def usual_score(self) -> float | None:
        """The median of the scores that it is calibrated by; None in a bundle of an older version."""
        usual = self.calibration.get("usual_score")
        return None if usual is None else float(usual)

    @property
    def scale(self) -> tuple[float, float] | None:
        """(a usual score, that from which on a record is flagged): what heat-maps are drawn by. None where one of them is not known."""
        usual, threshold = self.usual_score, self.threshold.score
        return None if usual is None or threshold is None else (usual, threshold)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes that are hashed and signed."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Parse and validate manifest bytes. Raises BundleError naming the bundle and the key, or that its version is no longer read."""
    try:
        return Manifest.model_validate_json(_of_version_1(raw, where) or raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest.json"
        raise BundleError(f"{where}: manifest.json, {key}: {first['msg']}; the bundle is damaged or from another version") from error


def _of_version_1(raw: bytes, where: str) -> bytes | None:
    """A manifest of version 1 without its key `context`, which told of readings alone; None for any other.

    Raises BundleError for a detector of readings, whose graphs take that context.
    """
    try:
        given = from_json(raw)
    except ValueError:  # pydantic says what is wrong with it
        return None
    if not isinstance(given, dict) or given.get("schema_version") != 1 or not isinstance(given.get("input"), dict):
        return None
    if given["input"].get("name") == "window":
        raise BundleError(f"{where}: made by an older version, whose scores were eased after a fault; fit it again with this version")
    given["input"].pop("context", None)
    return to_json(given)
