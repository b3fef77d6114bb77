"""The encoding of a text table: as it is told, or as its bytes show for sure."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from anomaly.errors import DataError

_WESTERN = ("cp1252", "iso8859-1", "iso8859-15", "cp850", "cp437")  # in which UTF-8 can be read too, as nonsense
_OTHERS = ("utf-8", "cp1252", "cp850", "utf-16-le", "utf-16-be")  # that plants export in, the likelier first
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def find_encoding(raw: bytes) -> str:
    """The encoding of a text: by its byte order mark, by zeros between the letters, UTF-8 where it is valid, else cp1252.

    Plain ASCII is "ascii": it fits any of them.

    >>> find_encoding("Temperatur °C".encode("cp1252")), find_encoding("a,b".encode("utf-16"))
    ('cp1252', 'utf-16')
    """
    sure = _sure(raw)
    if sure or raw.isascii():
        return sure or "ascii"
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def encoding_of(head: bytes, told: str, fits: Callable[[bytes], bool]) -> tuple[str, str]:
    """(encoding, what shows it) of a file by its first bytes, where its dialect says `told`; ("", "") where that holds or nothing shows.

    `fits`: whether a text, in UTF-8, has the columns that are needed. It decides where the bytes alone do not.

    >>> encoding_of("Zeit;°C".encode("utf-8-sig"), "cp1252", lambda text: True)
    ('utf-8', 'its byte order mark')
    >>> encoding_of("Zeit;°C".encode("cp850"), "utf-8", lambda text: text == "Zeit;°C".encode())
    ('cp850', 'the names of its columns')
    """
    name, sure = codecs.lookup(told).name.removesuffix("-sig"), _sure(head)
    if sure and sure != name:
        return sure, "its byte order mark" if any(head.startswith(mark) for mark, _ in _MARKS) else "the zeros between its letters"
    if sure or head.isascii():
        return "", ""
    if name in _WESTERN and _is_utf8(head):
        return "utf-8", "its letters"
    as_told = _text(head, name)
    if as_told is not None and fits(as_told):
        return "", ""
    for other in _OTHERS:
        text = _text(head, other) if codecs.lookup(other).name != name else None
        if text is not None and fits(text):
            return other, "the names of its columns"
    return "", ""


def decoded(raw: bytes, encoding: str, where: str = "") -> bytes:
    """Bytes in an encoding -> UTF-8 with line feeds, without a byte order mark. Raises DataError naming the spec's key.

    Bytes that are plainly UTF-8 are read so where a western encoding is told: in that they would be nonsense.
    """
    if encoding in ("utf-8", "utf-8-sig", "ascii") or (codecs.lookup(encoding).name in _WESTERN and _is_utf8(raw)):
        text = raw.removeprefix(codecs.BOM_UTF8)
        try:
            _ = text.isascii() or str(text, "utf-8")
        except UnicodeDecodeError as error:
            raise _not_decoded(where, encoding, error) from error
    else:
        try:
            text = raw.decode(encoding).removeprefix("\ufeff").encode()
        except (UnicodeDecodeError, UnicodeError) as error:
            raise _not_decoded(where, encoding, error) from error
    return text if b"\n" in text else text.replace(b"\r", b"\n")


def _sure(raw: bytes) -> str:
    """What a byte order mark, or zeros between the letters, say; "" where neither is there."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), "")
    head = raw[:2000]
    if marked or not head:
        return marked
    if head[1::2].count(0) > len(head) / 4:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > len(head) / 4 else ""


def _text(head: bytes, encoding: str) -> bytes | None:
    """The first bytes of a file as UTF-8 with line feeds, None where they are not in that encoding. A letter cut at the end is left out."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff").encode()
    except UnicodeError:
        return None
    return text if b"\n" in text else text.replace(b"\r", b"\n")


def _is_utf8(raw: bytes) -> bool:
    """Whether bytes are UTF-8 with other letters than ASCII's. A letter that is cut at the end does not count.

    >>> _is_utf8("°C".encode()), _is_utf8("°C".encode("cp1252")), _is_utf8(b"C"), _is_utf8("C°".encode()[:-1])
    (True, False, False, False)
    """
    if raw.startswith(codecs.BOM_UTF8):
        return True
    if raw.isascii():
        return False
    text = _text(raw, "utf-8")
    return text is not None and not text.isascii()


def _not_decoded(where: str, encoding: str, error: Exception) -> DataError:
    fit = ", ".join(f'"{name}"' for name in ("utf-8", "cp1252", "utf-16", "cp850") if name != encoding)
    return DataError(
        f"{where}: not readable as {encoding} ({error}); is it a table of text? Export it as the file that was learnt from, or name its "
        f"encoding in the spec before fitting: [input] encoding = one of {fit} …"
    )
