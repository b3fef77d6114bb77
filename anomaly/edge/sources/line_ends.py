"""Where lines end in the bytes of a file that grows, whatever its encoding."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anomaly.data.tables.dialect.encoding import decoded
from anomaly.edge.sources.base import SETTLED_S
from anomaly.errors import DataError


@dataclass(frozen=True)
class Encoded:
    """An encoding, the bytes a character has at least, and the end of a line: a line feed, or in old files a carriage return."""

    name: str
    unit: int
    end: str

    def line_ends(self, raw: bytes) -> NDArray[np.int64]:
        """The byte (n,) after the end of each complete line.

        >>> Encoded("utf-16-le", 2, chr(10)).line_ends("ab\\nc".encode("utf-16-le")).tolist()
        [6]
        """
        kind = np.dtype(f"{'>' if self.name.endswith('be') else '<'}u{self.unit}")
        whole = len(raw) // self.unit * self.unit
        return (np.flatnonzero(np.frombuffer(raw[:whole], kind) == ord(self.end)) + 1) * self.unit

    def decode(self, raw: bytes, where: str, *, lenient: bool = False) -> bytes:
        """As UTF-8 with line feeds. Raises DataError for bytes that do not fit the encoding; `lenient` puts a mark in their place."""
        try:
            text = decoded(raw, self.name, where)
        except DataError:
            if not lenient:
                raise
            text = raw.decode(self.name, errors="replace").encode()
        return text.replace(b"\r", b"\n") if self.end == "\r" else text


@dataclass
class LastLine:
    """Whether a file's last line counts though nothing ends it: in one that is finished, not in one that someone is writing to.

    finished: no more of the file is waited for than it has
    steady: seconds that only go forward
    """

    finished: bool
    steady: Callable[[], float] = time.monotonic
    _seen: tuple[int, float] | None = field(default=None, init=False)  # the file's size, and since when

    def look(self, found: os.stat_result) -> bool | None:
        """Whether it counts; None where that is to be seen: the file changed within the last two seconds."""
        if not self.finished or time.time() - found.st_mtime >= SETTLED_S:
            return self.finished
        now = self.steady()
        if self._seen is None:
            self._seen = found.st_size, now
        size, since = self._seen
        return False if size != found.st_size else True if now - since >= SETTLED_S else None


def encoded_as(encoding: str, head: bytes) -> Encoded:
    """The encoding of a file by its name and first bytes: a byte order mark tells which byte of UTF-16 comes first."""
    name = codecs.lookup(encoding).name
    unit = 2 if name.startswith("utf-16") else 4 if name.startswith("utf-32") else 1
    if unit > 1 and not name.endswith(("le", "be")):
        name += "-be" if head.startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) else "-le"
    feeds = Encoded(name, unit, "\n")
    return feeds if len(feeds.line_ends(head)) or not len(Encoded(name, unit, "\r").line_ends(head)) else Encoded(name, unit, "\r")
