"""Sparkplug B payloads (Eclipse Sparkplug 3.0, section 6.4): the parts of the protobuf message that carry readings.

Decoded here, since the packages that know the format require an MQTT client that is no longer maintained.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from anomaly.errors import RecordError

SIGNED_BITS: dict[int | bytes, int] = {1: 8, 2: 16, 3: 32}  # by datatype: Int8, Int16, Int32
INT64 = 4


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
    """The aliases that each device gave to its metrics at birth: a data message may then name a metric by number alone."""

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
    name, alias, moment = found.get(1, b""), found.get(2), found.get(3)
    if not isinstance(name, bytes):
        raise RecordError("not a Sparkplug B payload")
    return Metric(
        name.decode("utf-8", errors="replace"),
        alias if isinstance(alias, int) else None,
        moment / 1000.0 if isinstance(moment, int) else None,
        None if found.get(7) else _value(found),
        bool(found.get(5)),
    )


def _value(found: dict[int, int | bytes]) -> float | None:
    """The number among a metric's fields, None where it has none. Raises RecordError where a field has the wrong form."""
    datatype, short, long = found.get(4, 0), found.get(10), found.get(11)
    if isinstance(short, int):
        return float(_signed(short, SIGNED_BITS.get(datatype, 0)))
    if isinstance(long, int):
        return float(_signed(long, 64 if datatype == INT64 else 0))
    for number, form in ((12, "<f"), (13, "<d")):
        if number in found:
            value = found[number]
            if isinstance(value, int) or len(value) != struct.calcsize(form):
                raise RecordError("not a Sparkplug B payload")
            return float(struct.unpack(form, value)[0])
    return float(bool(found[14])) if 14 in found else None


def _signed(value: int, bits: int) -> int:
    """An integer in two's complement of `bits`, 0 for an unsigned one. Some devices fill up short ones to 32 bits."""
    if not bits:
        return value
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >= 1 << (bits - 1) else value


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
