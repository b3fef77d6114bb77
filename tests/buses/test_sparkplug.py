"""Sparkplug B payloads: read as they were written, whatever comes."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.buses.sparkplug import BOOLEAN, INT32, INT64, STRING, Metric, Payload, decode, encode, told
from anomaly.errors import RecordError

BIRTH = bytes.fromhex(
    "08fbd095ffbc31121e0a087072657373757265100118f4d395ffbc31200a69000000000000f43f12160a04666c6f77100218f4d395ffbc31200965000000bf12180a05"
    "76616c7665100318f4d395ffbc31200350f9ffffff0f12110a026f6e100418f4d395ffbc31200b700112190a05636f756e74100518f4d395ffbc312008588080808080"
    "2012140a0474657874100618f4d395ffbc31200c7a017812130a04676f6e65100718f4d395ffbc31200a38011800"
)
DATA = bytes.fromhex("08d0df95ffbc31120b10016900000000000004401209100228016500004040")


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
    st.binary(max_size=20).map(lambda value: (16, text(17, value), None)),
    st.binary(max_size=20).map(lambda value: (19, text(18, value), None)),
    st.just((9, b"", None)),
)  # fmt: skip
MILLISECONDS = st.none() | st.integers(0, 1 << 50)


@st.composite
def metrics(draw: st.DrawFn) -> tuple[bytes, Metric, float | None]:
    name, alias, moment = draw(st.text()), draw(st.none() | st.integers(0, 1 << 62)), draw(MILLISECONDS)
    datatype, encoded, value = draw(VALUES)
    null, historical = draw(st.booleans()), draw(st.booleans())
    raw = (text(1, name.encode()) if name else b"") + whole(2, alias) + whole(3, moment) + whole(4, datatype)
    raw += whole(5, historical) + (whole(7, 1) if null else encoded)
    time = None if moment is None else moment / 1000
    return raw, Metric(name, alias, time, datatype, null=null, historical=historical), math.nan if null else value


@given(MILLISECONDS, st.lists(metrics(), max_size=5))
def test_a_valid_message_is_read_as_it_was_written(moment: int | None, drawn: list[tuple[bytes, Metric, float | None]]) -> None:
    raw = whole(1, moment) + b"".join(text(2, metric) for metric, _, _ in drawn) + whole(3, 7) + text(4, b"uuid")
    payload = decode(raw)
    assert (payload.time, payload.seq) == (None if moment is None else moment / 1000, 7)
    for found, (_, metric, value) in zip(payload.metrics, drawn, strict=True):
        for name in ("name", "alias", "time", "datatype", "null", "historical"):
            assert getattr(found, name) == getattr(metric, name)
        if value is None:
            with pytest.raises(RecordError, match="holds"):
                found.number()
        else:
            assert found.number() == value or math.isnan(value)


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 63), (1 << 63) - 1), st.booleans(), st.text(), st.integers(0, 1 << 40))
def test_what_we_write_is_read_back(small: int, large: int, switch: bool, words: str, milliseconds: int) -> None:
    time = milliseconds / 1000
    written = (told("a", INT32, small), told("b", INT64, large), told("c", BOOLEAN, switch, time), told("d", STRING, words))
    payload = decode(encode(Payload(time, (*written, told("e", BOOLEAN, None)), 255)))
    assert (payload.time, payload.seq) == (time, 255)
    assert [each.number() for each in payload.metrics[:3]] == [small, float(large), switch]
    assert payload.metrics[3].value == words.encode(errors="replace")
    assert payload.metrics[4].null


def decoded(raw: bytes) -> None:
    """Whatever comes is a payload, or refused by the one error that a message is set aside for."""
    with contextlib.suppress(RecordError):
        for metric in decode(raw).metrics:
            with contextlib.suppress(RecordError):
                assert isinstance(metric.number(), float)


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


def test_a_float_of_one_byte_is_no_value() -> None:
    """On 0.8.0 such a message ended the client's thread, and the line was silent for ever."""
    for malformed in (text(12, b"\x00"), text(13, b"\x00")):
        (metric,) = decode(text(2, text(1, b"flow") + whole(4, 9) + malformed)).metrics
        with pytest.raises(RecordError, match="holds no value"):
            metric.number()
    with pytest.raises(RecordError, match="cut short"):
        decode(text(2, text(1, b"flow") + varint(12 << 3 | 5) + b"\x00"))


def test_an_integer_of_unknown_datatype_is_not_guessed() -> None:
    with pytest.raises(RecordError, match="no birth has told its datatype"):
        Metric("a", field="int_value", value=249 + (0xFFFFFF << 8)).number()
    assert Metric("a", field="int_value", value=249 + (0xFFFFFF << 8)).number(datatype=1) == -7.0
    assert Metric("a", field="int_value", value=249).number() == 249.0
