"""The Sparkplug B payload (Eclipse Sparkplug 3.0, section 6.4), read and written by Google's protobuf library.

The message is described here by its field numbers, since the packages that ship it are tied to releases of paho-mqtt or protobuf that are
no longer maintained. Fields that are not described (properties, metadata) are skipped, as protobuf does with all it does not know.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from anomaly.errors import RecordError

INT32, INT64, BOOLEAN, STRING = 3, 4, 11, 12  # datatypes that we write
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # by datatype: Int8, Int16, Int32, Int64
_WORDS = {12: "a text", 14: "a text", 15: "a UUID", 16: "a DataSet", 17: "bytes", 18: "a file", 19: "a Template"}
_NUMBERS = ("int_value", "long_value", "float_value", "double_value", "boolean_value")
_FIELD = {INT32: "int_value", INT64: "long_value", BOOLEAN: "boolean_value", STRING: "string_value"}  # where a datatype's value stands
# (name, number, type); the types are numbered as in FieldDescriptorProto
_UINT64, _UINT32, _BOOL, _STRING, _BYTES, _FLOAT, _DOUBLE, _MESSAGE = 4, 13, 8, 9, 12, 2, 1, 11
_METRIC = (
    ("name", 1, _BYTES), ("alias", 2, _UINT64), ("timestamp", 3, _UINT64), ("datatype", 4, _UINT32), ("is_historical", 5, _BOOL),
    ("is_null", 7, _BOOL),
)  # fmt: skip
_VALUE = (  # one of them; a text is read as bytes, so that one that is not UTF-8 spoils no message
    ("int_value", 10, _UINT32), ("long_value", 11, _UINT64), ("float_value", 12, _FLOAT), ("double_value", 13, _DOUBLE),
    ("boolean_value", 14, _BOOL), ("string_value", 15, _BYTES), ("bytes_value", 16, _BYTES), ("dataset_value", 17, _BYTES),
    ("template_value", 18, _BYTES),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, named by its name or by the alias that its birth gave it.

    time: seconds since 1970, None when it has none of its own
    datatype: Sparkplug's number, 0 when it is not told: a data message may leave it out, the birth has it
    field: which field holds the value, "" for none
    """

    name: str = ""
    alias: int | None = None
    time: float | None = None
    datatype: int = 0
    field: str = ""
    value: Any = None
    null: bool = False
    historical: bool = False

    def number(self, datatype: int = 0) -> float:
        """The value as a number, NaN for null. `datatype`: the birth's, where the metric has none of its own.

        Raises RecordError saying what is there instead.

        >>> Metric(field="int_value", value=249).number(datatype=1)  # Int8: two's complement
        -7.0
        """
        if self.null:
            return float("nan")
        datatype = self.datatype or datatype
        if self.field not in _NUMBERS or datatype in _WORDS:
            raise RecordError(f"holds {_WORDS.get(datatype, 'no number') if self.field else 'no value'}")
        if self.field not in ("int_value", "long_value"):
            return float(self.value)
        if not datatype and self.value >> (31 if self.field == "int_value" else 63):
            raise RecordError("may be negative or not: no birth has told its datatype")
        bits = _SIGNED_BITS.get(datatype, 0)  # some devices fill up short integers to 32 bits
        value = self.value & ((1 << bits) - 1) if bits else self.value
        return float(value - (1 << bits) if bits and value >> (bits - 1) else value)


@dataclass(frozen=True, slots=True)
class Payload:
    """A message: its time (seconds since 1970), metrics, and sequence number."""

    time: float | None
    metrics: tuple[Metric, ...]
    seq: int | None = None


def decode(raw: bytes) -> Payload:
    """A payload from its bytes. Raises RecordError when they are not one, ImportError without protobuf."""
    from google.protobuf.message import DecodeError

    message = _payload_class()()
    try:
        message.ParseFromString(raw)
    except (DecodeError, ValueError) as error:
        raise RecordError("not a Sparkplug B payload, or one cut short") from error
    return Payload(_seconds(message), tuple(_metric(each) for each in message.metrics), message.seq if message.HasField("seq") else None)


def encode(payload: Payload) -> bytes:
    """The bytes of a payload whose metrics are Int32, Int64, Boolean or String. Raises ImportError without protobuf."""
    message = _payload_class()()
    if payload.time is not None:
        message.timestamp = round(payload.time * 1000)
    if payload.seq is not None:
        message.seq = payload.seq
    for metric in payload.metrics:
        one = message.metrics.add(name=metric.name.encode(errors="replace"), datatype=metric.datatype)
        if metric.time is not None:
            one.timestamp = round(metric.time * 1000)
        if metric.null or metric.value is None:
            one.is_null = True
            continue
        field = _FIELD[metric.datatype]
        bits = _SIGNED_BITS.get(metric.datatype)
        value = metric.value.encode(errors="replace") if metric.datatype == STRING else metric.value
        setattr(one, field, value % (1 << bits) if bits else value)
    return bytes(message.SerializeToString())


def told(name: str, datatype: int, value: int | bool | str | None, time: float | None = None) -> Metric:
    """A metric to be written: None is null."""
    return Metric(name, None, time, datatype, _FIELD[datatype], value, value is None)


def _metric(message: Any) -> Metric:
    field = message.WhichOneof("value") or ""
    return Metric(
        message.name.decode(errors="replace"),
        message.alias if message.HasField("alias") else None,
        _seconds(message),
        message.datatype,
        field,
        getattr(message, field) if field else None,
        message.is_null,
        message.is_historical,
    )


def _seconds(message: Any) -> float | None:
    return message.timestamp / 1000.0 if message.HasField("timestamp") else None


@functools.cache
def _payload_class() -> Any:
    """The message's class, made from its description: that fits every release of protobuf, which generated code does not."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="anomaly/sparkplug_b.proto", package="anomaly.sparkplug", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    _add(metric, _METRIC)
    _add(metric, _VALUE, oneof_index=0)
    _add(payload, (("timestamp", 1, _UINT64), ("seq", 3, _UINT64)))
    payload.field.add(name="metrics", number=2, type=_MESSAGE, type_name=".anomaly.sparkplug.Payload.Metric", label=3)  # repeated
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("anomaly.sparkplug.Payload"))


def _add(message: Any, fields: Iterable[tuple[str, int, Any]], **more: int) -> None:
    for name, number, kind in fields:
        message.field.add(name=name, number=number, type=kind, label=1, **more)  # optional
