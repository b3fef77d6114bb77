"""Sparkplug B payloads."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.edge.sources.live.sparkplug import Births, Metric, Payload, decode
from anomaly.errors import RecordError

BIRTH = bytes.fromhex(
    "08fbd095ffbc31121e0a087072657373757265100118f4d395ffbc31200a69000000000000f43f12160a04666c6f77100218f4d395ffbc31200965000000bf12180a05"
    "76616c7665100318f4d395ffbc31200350f9ffffff0f12110a026f6e100418f4d395ffbc31200b700112190a05636f756e74100518f4d395ffbc312008588080808080"
    "2012140a0474657874100618f4d395ffbc31200c7a017812130a04676f6e65100718f4d395ffbc31200a38011800"
)


DATA = bytes.fromhex("08d0df95ffbc31120b10016900000000000004401209100228016500004040")


def test_sparkplug_births_and_data() -> None:
    births = Births()
    with pytest.raises(RecordError, match="alias 1 of g/n is not known yet"):
        list(births.readings("g/n", False, decode(DATA), 0.0))
    ((moment, readings),) = births.readings("g/n", True, decode(BIRTH), 0.0)
    assert moment == 1_700_000_000.5
    assert readings == {"pressure": 1.25, "flow": -0.5, "valve": -7.0, "on": 1.0, "count": float(1 << 40)}
    assert list(births.readings("g/n", False, decode(DATA), 0.0)) == [(1_700_000_002.0, {"pressure": 2.5})]  # the historical one is left
    with pytest.raises(RecordError, match="cut short"):
        decode(BIRTH[:-5])


# --- an encoder of our own, by the protobuf wire format and the Sparkplug B message definition ---


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def whole(number: int, value: int | None) -> bytes:
    return b"" if value is None else varint(number << 3) + varint(value)


def text(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed(number: int, form: str, value: float) -> bytes:
    return varint(number << 3 | (5 if form == "<f" else 1)) + struct.pack(form, value)


def signed(datatype: int, bits: int) -> st.SearchStrategy[tuple[int, bytes, float]]:
    """Integers in two's complement of their own width or of 32 bits: both are met."""
    drawn = st.tuples(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1), st.sampled_from([bits, max(bits, 32)]))
    return drawn.map(lambda pair: (datatype, whole(11 if bits == 64 else 10, pair[0] % (1 << pair[1])), float(pair[0])))


def unsigned(datatype: int, bits: int) -> st.SearchStrategy[tuple[int, bytes, float]]:
    return st.integers(0, (1 << bits) - 1).map(lambda value: (datatype, whole(11 if bits == 64 else 10, value), float(value)))


VALUES: st.SearchStrategy[tuple[int, bytes, float | None]] = st.one_of(
    signed(1, 8), signed(2, 16), signed(3, 32), signed(4, 64), unsigned(5, 8), unsigned(6, 16), unsigned(7, 32), unsigned(8, 64),
    st.floats(width=32, allow_nan=False).map(lambda value: (9, fixed(12, "<f", value), value)),
    st.floats(allow_nan=False).map(lambda value: (10, fixed(13, "<d", value), value)),
    st.booleans().map(lambda value: (11, whole(14, value), float(value))),
    st.text().map(lambda value: (12, text(15, value.encode()), None)),
)  # fmt: skip
MILLISECONDS = st.none() | st.integers(0, 1 << 50)


@st.composite
def metrics(draw: st.DrawFn) -> tuple[bytes, Metric]:
    name, alias, moment = draw(st.text()), draw(st.none() | st.integers(0, 1 << 62)), draw(MILLISECONDS)
    datatype, encoded, value = draw(VALUES)
    null, historical = draw(st.booleans()), draw(st.booleans())
    raw = (text(1, name.encode()) if name else b"") + whole(2, alias) + whole(3, moment) + whole(4, datatype)
    raw += whole(5, historical) + (whole(7, 1) if null else encoded)
    return raw, Metric(name, alias, None if moment is None else moment / 1000, None if null else value, historical)


@given(MILLISECONDS, st.lists(metrics(), max_size=5))
def test_a_valid_message_is_read_as_it_was_written(moment: int | None, drawn: list[tuple[bytes, Metric]]) -> None:
    raw = whole(1, moment) + b"".join(text(2, metric) for metric, _ in drawn) + whole(3, 7) + text(4, b"uuid")
    assert decode(raw) == Payload(None if moment is None else moment / 1000, [metric for _, metric in drawn])


def decoded(raw: bytes) -> None:
    """Whatever comes is a payload, or refused by the one error that the feed sets a message aside for."""
    with contextlib.suppress(RecordError):
        payload = decode(raw)
        assert all(metric.value is None or isinstance(metric.value, float) for metric in payload.metrics)
        list(Births().readings("g/n", True, payload, 0.0))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_payload_or_refused(raw: bytes) -> None:
    decoded(raw)
    decoded(text(2, raw))  # as a metric


@given(st.data())
def test_a_message_with_flipped_bits_is_a_payload_or_refused(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([BIRTH, DATA])))
    for at, bit in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 7)), min_size=1, max_size=6)):
        raw[at] ^= 1 << bit
    decoded(bytes(raw))


@given(st.sampled_from([BIRTH, DATA]), st.integers(0, 300))
def test_a_message_cut_anywhere_is_a_payload_or_refused(raw: bytes, at: int) -> None:
    decoded(raw[:at])
