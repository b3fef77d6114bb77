"""Text from outside (names of files, lines and sensors, addresses, messages of devices) as what stores, logs and terminals take.

A name can hold what is no letter. A newline would make one line of a log two, and the second could say anything. A terminal obeys escape
sequences (ANSI, OSC). A bidirectional override shows letters in another order than they stand. A file name that is not UTF-8 reaches
Python with lone surrogates in it (PEP 383): it opens, but cannot be printed or stored.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from urllib.parse import quote, unquote, unquote_plus

# The categories Cc, Cf, Cs, Zl and Zp of Unicode, but for the two joiners (U+200C, U+200D), which Persian and Indic words and emoji need.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f]"
)
_LOOKS_ESCAPED = re.compile(r"\\(?=[xuU][0-9a-f]{2})")
_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa", "ł": "l", "đ": "d"})
HIDDEN = "***"
_KEY = "(?:password|passwd|passphrase|pwd|token|secret)"
_CLOSES = r"(?=[\s,;:.)\]}'\"]|$)"  # after a quote
_LETTER = rf"""[^&\s'"]|['"](?!{_CLOSES})"""  # of a value in a query; a quote that closes is the text's
_LEFT = r"(?!\*\*\*(?:[^\w*]|$))"  # what is hidden already
_LOGIN = r"((?:[^\s/?#]*|(?!\d{1,5}(?:[^\w@:]|$))(?:(?!://)[^\n@])*(?:@[^\s/?#@]*)*)(?=@))"
# What stands before a secret, and the secret. Some is hidden that is none, rather than that one is shown.
_SECRETS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # user:password@ of a database, which has no other @; after one a port would stand
        r"((?:\+\w{1,30}|postgres\w{0,9}|mysql|mariadb|mssql|oracle|db2|sqlite|snowflake|clickhouse|trino|hana)://[^\s/?#:\[\]]*:)"
        r"""((?:(?!://)[^\s'"])*(?=@))""",
        # of any address, whose user may hold an @. A password may hold a slash, a blank or an @, though it should not. A port is none.
        rf"(://[^\s/?#:@\[\]]*:){_LOGIN}",
        rf"(://[^\s/?#:@\[\]]*@[^\s/?#:\[\]]*:)(?!//){_LOGIN}",
        # NAME=VALUE: percent-encoded in a query, between semicolons (ODBC, JDBC), in a query, or for itself (libpq)
        rf"({_KEY}%3D)([^&\s'\"]+)",
        rf"((?:;\s*|odbc_connect=){_KEY}\s?=\s?){_LEFT}({{(?:[^}}\n]|}}}})*}}|[^;\n]+)",
        rf"([?&](?:[a-z_-]*{_KEY}|pass|api_?key|sig|signature)=)((?:{_LETTER})+)",
        rf"""({_KEY}\s?=\s?){_LEFT}('(?:[^'\n]|'(?!{_CLOSES}))*'|"(?:[^"\n]|"(?!{_CLOSES}))*"|{{(?:[^}}\n]|}}}})*}}|(?:&|{_LETTER})+)""",
    )
]
_SHORTEST = 4  # letters of a piece of a secret that is looked for by itself


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


def seen_json(text: str) -> str:
    r"""JSON in which what cannot be seen is written as \uHHHH. Who reads it gets the same values.

    >>> print(seen_json('["gpj.\u202eexe"]'))
    ["gpj.\u202eexe"]
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)


def masked(text: str, address: str = "") -> str:
    """Text without the passwords of the addresses in it, and without the secrets in their queries and in connection strings.

    `address` is one that the text speaks of: its secrets are hidden wherever they stand, decoded or in pieces too, as in the words of a
    driver that took it apart.

    >>> masked("rtsp://admin:S3cret@10.0.0.7:554/1 is away; so is https://plant/hook?line=3&token=abc")
    'rtsp://admin:***@10.0.0.7:554/1 is away; so is https://plant/hook?line=3&token=***'
    """
    if "://" in text or "=" in text or "%3" in text:
        for pattern in _SECRETS:
            text = pattern.sub(rf"\1{HIDDEN}", text)
    for secret in sorted(_secrets_of(address), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets_of(address: str) -> set[str]:
    """The secrets of an address as they stand, decoded and encoded, and their pieces."""
    whole = {found[2] for pattern in _SECRETS for found in pattern.finditer(address)}
    whole |= {decoded for secret in whole for decoded in (unquote(secret), unquote_plus(secret))}
    whole |= {field.strip("{}'\"") for secret in whole for field in re.findall(r"^(?:{(?:[^}]|}})*}|[^;]*)", secret)}
    whole |= {quote(secret.encode(errors="surrogatepass"), safe="") for secret in whole}
    pieces = {piece for secret in whole for piece in re.split(r"[@:/?#&;\s{}'\"]+", secret) if len(piece) >= _SHORTEST}
    return pieces | {secret for secret in whole if len(secret) >= _SHORTEST}


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
