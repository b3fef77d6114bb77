"""Sparkplug B payloads (Eclipse Sparkplug 3.0, section 6.4): the parts of the protobuf message that carry readings.

Read by hand: the packages that know the format pin the MQTT client to a version no longer kept up.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from anomaly.errors import RecordError


@dataclass(frozen=True)
class Metric:
    """One metric: by name, or by the alias its birth gave it. `value` is None for null, text and other things that are no numbers."""

    name: str
    alias: int | None
    time: float | None
    value: float | None
    historical: bool = False


@dataclass(frozen=True)
class Payload:
    """A message: its time (s since 1970) and metrics."""

    time: float | None
    metrics: list[Metric]


@dataclass
class Births:
    """What births told of aliases, a device: a data message may then name a metric by number alone."""

    _names: dict[tuple[str, int], str] = field(default_factory=dict)

    def readings(self, who: str, birth: bool, payload: Payload, now: float) -> Iterator[tuple[float, dict[str, float]]]:
        """(time, readings) by moment, in order. Raises RecordError for an alias that no birth has named."""
        moments: dict[float, dict[str, float]] = {}
        for metric in payload.metrics:
            if birth and metric.alias is not None:
                self._names[who, metric.alias] = metric.name
            name = metric.name or self._names.get((who, metric.alias or 0), "")
            if not name:
                raise RecordError(f"alias {metric.alias} of {who} is not known yet; ask the device for a rebirth")
            if metric.value is not None and not metric.historical:
                moments.setdefault(metric.time or payload.time or now, {})[name] = metric.value
        yield from sorted(moments.items())


def decode(raw: bytes) -> Payload:
    """A payload from its bytes. Raises RecordError when they are not one."""
    moment, metrics = None, []
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, int):
            moment = value / 1000.0
        elif number == 2 and isinstance(value, bytes):
            metrics.append(_metric(value))
    return Payload(moment, metrics)


def _metric(raw: bytes) -> Metric:
    found = dict(_fields(raw))
    datatype = found.get(4, 0)
    value: float | None = None
    if not found.get(7):
        if isinstance(found.get(10), int):
            value = float(_signed(int(found[10]), {1: 8, 2: 16, 3: 32}.get(int(datatype), 0)))
        elif isinstance(found.get(11), int):
            value = float(_signed(int(found[11]), 64 if datatype == 4 else 0))
        elif 12 in found:
            value = float(struct.unpack("<f", found[12])[0])  # type: ignore[arg-type]
        elif 13 in found:
            value = float(struct.unpack("<d", found[13])[0])  # type: ignore[arg-type]
        elif 14 in found:
            value = float(bool(found[14]))
    name, alias, moment = found.get(1, b""), found.get(2), found.get(3)
    if not isinstance(name, bytes):
        raise RecordError("not a Sparkplug B payload")
    return Metric(
        name.decode("utf-8", errors="replace"),
        alias if isinstance(alias, int) else None,
        moment / 1000.0 if isinstance(moment, int) else None,
        value,
        bool(found.get(5)),
    )


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if bits and value >= 1 << (bits - 1) else value


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) in the protobuf wire format: whole numbers for varints, bytes for everything else."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(raw, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise RecordError(f"not a Sparkplug B payload (wire type {kind})")
        if at + size > len(raw):
            raise RecordError("a Sparkplug B payload cut short")
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(raw) or shift > 63:
            raise RecordError("a Sparkplug B payload cut short")
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if raw[at - 1] < 0x80:
            return value, at
        shift += 7
