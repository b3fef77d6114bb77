"""File names as text that every store, report, log and terminal takes: one rule for all of them.

A file name is bytes. One that is not UTF-8 reaches Python with lone surrogates in it (PEP 383): it opens, but cannot be printed or stored.
"""

from __future__ import annotations

import re
from pathlib import Path

_UNDECODED = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LOOKS_ESCAPED = re.compile(r"\\(?=[xu][0-9a-f]{2})")


def printable(text: str) -> str:
    r"""Text in which each byte of a file name that is not UTF-8 is written as \xHH. Other text stays as it is.

    >>> print(printable("pr\udcfcf.png: not a picture"))
    pr\xfcf.png: not a picture
    """
    return _UNDECODED.sub(lambda found: _escape(ord(found[0])), text)


def record_name(path: Path | str) -> str:
    r"""A path as one line of text that names a record. Two paths never have the same.

    Bytes that are not UTF-8 and control characters are written as \xHH; a backslash that would look like the beginning of that, as \x5c.

    >>> print(record_name("shift 2/pr\udcfcf.png"))
    shift 2/pr\xfcf.png
    """
    text = path.as_posix() if isinstance(path, Path) else path
    text = _LOOKS_ESCAPED.sub(lambda _: r"\x5c", text)
    return printable(_CONTROL.sub(lambda found: _escape(ord(found[0])), text))


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: the byte, plus 0xdc00
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
