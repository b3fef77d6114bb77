"""Text from outside (names of files, lines and sensors, addresses, messages of devices) as what stores, logs and terminals take.

A name can hold what is no letter. A newline would make one line of a log two, and the second could say anything. A terminal obeys escape
sequences (ANSI, OSC). A bidirectional override shows letters in another order than they stand. A file name that is not UTF-8 reaches
Python with lone surrogates in it (PEP 383): it opens, but cannot be printed or stored.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

# The categories Cc, Cf, Cs, Zl and Zp of Unicode, but for the two joiners (U+200C, U+200D), which Persian and Indic words and emoji need.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_LOOKS_ESCAPED = re.compile(r"\\(?=[xuU][0-9a-f]{2})")
_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa", "ł": "l", "đ": "d"})
HIDDEN = "***"
# user:password@ of an address. A password may hold a slash, a blank or an @, though it should not. A port is no password.
_PASSWORD = re.compile(r"(://[^\s/?#:@\[\]]*):(?:[^\s/?#]*|(?!\d{1,5}(?:[^\w@:]|$))(?:(?!://)[^\n@])*)@")
_SECRET = re.compile(r"([?&](?:[a-z_-]*(?:password|passwd|token|secret)|pass|pwd|api_?key|sig|signature)=)[^&#\s'\"]+", re.IGNORECASE)


def one_line(text: str) -> str:
    r"""Text from outside as one line: what cannot be seen, or moves what is seen, is written as \xHH, \uHHHH or \UHHHHHHHH.

    Those are control characters, newlines, escape sequences, bidirectional overrides, and bytes of a file name that are not UTF-8. All
    other text stays as it is, and so does text that has been through this before.

    >>> print(one_line("a.png: cut short\n12:00 alarm over: \x1b[32mall is well"))
    a.png: cut short\x0a12:00 alarm over: \x1b[32mall is well
    >>> print(one_line("pr\udcfcf.png, gpj.\u202eexe"))
    pr\xfcf.png, gpj.\u202eexe
    """
    return _UNSEEN.sub(lambda found: _escape(ord(found[0])), text)


def masked(text: str) -> str:
    """Text without the passwords of the addresses in it, and without the secrets in their queries.

    >>> masked("rtsp://admin:S3cret@10.0.0.7:554/1 is away; so is https://plant/hook?line=3&token=abc")
    'rtsp://admin:***@10.0.0.7:554/1 is away; so is https://plant/hook?line=3&token=***'
    """
    if "://" not in text:
        return text
    return _SECRET.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}@", text))


def shown(text: str) -> str:
    r"""Text that is ours but has parts from outside, as a terminal or a log may have it: masked, and escaped line by line.

    >>> print(shown("two lines\nof mqtt://me:pw@broker/a\x07"))
    two lines
    of mqtt://me:***@broker/a\x07
    """
    return "\n".join(one_line(line) for line in masked(text).split("\n"))


def record_name(path: Path | str) -> str:
    r"""A path as one line of text that names a record. Two paths never have the same.

    As `one_line`, and a backslash that would look like the beginning of an escape is written as \x5c.

    >>> print(record_name("shift 2/pr\udcfcf.png"))
    shift 2/pr\xfcf.png
    """
    text = path.as_posix() if isinstance(path, Path) else path
    return one_line(_LOOKS_ESCAPED.sub(lambda _: r"\x5c", text))


def slug(name: str) -> str:
    """A name as file names, addresses and topics take it: lower-case ASCII letters, digits, and `.`, `_`, `-` between them, 63 at most.

    One that is written so already stays as it is. Where letters are lost that cannot be written so, a few letters of a hash tell two
    names apart.

    >>> slug("Flansch Linie 3"), slug("Prüfstand Süd"), slug("press-3_left.a")
    ('flansch-linie-3', 'pruefstand-sued', 'press-3_left.a')
    >>> slug("压机 3") == slug("冲床 3")
    False
    """
    plain = unicodedata.normalize("NFKD", name.strip().lower().translate(_SPELT)).casefold()
    kept = re.sub("[\u0300-\u036f]", "", plain)
    lost = any(letter.isalnum() and not letter.isascii() for letter in kept)
    text = re.sub(r"[^a-z0-9._]+", "-", kept).strip("-._")[:63].rstrip("-._")
    if not lost and text:
        return text
    return f"{text[:50] or 'line'}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: the byte, plus 0xdc00
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
