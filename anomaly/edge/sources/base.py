"""What a source of records is.

A source is polled and never blocks. Each poll gives what is new, what could not be read, and the position that a restart
resumes from. The monitor stores all three in one transaction.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from numpy.typing import NDArray

from anomaly.data.records import Record, Rejected

SETTLED_S = 2.0  # a file that was not changed for this long is complete
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0  # the years 1 to 9999: a record of another time cannot be told of


@dataclass
class Poll:
    """What one poll gave.

    `position` is what to resume from once all of it is stored. `waiting`: more is on its way. `trouble` says what is wrong with the
    source at the moment, "" when nothing is; `beyond`, that values of a picture lie beyond the range that the detector was fitted to.
    `dropped` counts records that a full queue discarded. `unread`: sensors with cells that are neither a number nor a known word for no
    reading, {sensor: (how many, the first of them, its time)}; such a reading counts as missing.
    `notes`: what is to be known of how it is read, told once.
    `mode`: the operating mode of the last row, also where that mode is not judged, None where none is known.
    """

    records: list[Record[NDArray[Any]]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    waiting: bool = False
    trouble: str = ""
    beyond: str = ""
    dropped: int = 0
    unread: dict[str, tuple[int, str, float]] = field(default_factory=dict)
    mode: str | None = None
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """A place that records come from."""

    def poll(self, limit: int) -> Poll:
        """Up to `limit` new records. Never raises for one bad record, nor while what it reads is away."""
        ...

    def close(self) -> None:
        """Release files, connections and threads."""
        ...


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file to read. Raises OSError for anything else, such as a folder, or a pipe that would never answer."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        check_plain(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_plain(found: os.stat_result) -> None:
    """Raise OSError unless what was found is a plain file."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "a folder, not a file" if stat.S_ISDIR(found.st_mode) else "not a plain file")


def is_folder(path: Path) -> bool:
    """Whether a folder is there: False also where the system does not let one look."""
    try:
        return path.is_dir()
    except OSError:
        return False
