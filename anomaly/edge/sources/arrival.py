"""Whether a file that another program writes is whole: what can be seen of that from outside.

Nobody says when a copy is done. A copy over a network may pause. One that reserves the file's space first has its full size from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anomaly.data.pictures.reading import zero_tail

SETTLE_S = 1.0  # a file that did not change for this long, as seen from here, is whole
OLD_S = 10.0  # a file that was not changed for this long before the first look is whole
TAIL_S = 10.0  # the same as SETTLE_S for a file that ends in zeros, as one does whose space is reserved first
RETRIES_S = (1.0, 2.0)  # seconds after which a file that could not be decoded is tried again
RECENT_S = 60.0  # a file that was not changed for longer is not tried again: nobody is writing it

Stamp = tuple[int, int]  # size in bytes, time of change in nanoseconds


def stamp_of(path: Path) -> Stamp | None:
    """A file's size and time of change, None when it is gone. Of a link that leads nowhere, those of the link itself."""
    try:
        stat = path.stat()
    except OSError:
        try:
            stat = path.lstat()
        except OSError:
            return None
    return stat.st_size, stat.st_mtime_ns


@dataclass
class Watched:
    """A file that was found and is not whole yet, as far as is known: since when it has not changed."""

    stamp: Stamp
    since: float
    tail: float | None = None  # its zero tail, once that has been looked at
    failures: int = 0  # tries to decode it, since it last changed
    not_before: float = 0.0


@dataclass
class Arrivals:
    """The files of one folder that are on their way. Times are seconds of one clock, that of the caller.

    A line whose pictures end in zeros (black at that edge) would wait ten seconds for each: once such pictures have turned out to be whole,
    tails as long as theirs are taken for the picture's own.
    """

    _files: dict[Path, Watched] = field(default_factory=dict)
    _own_tail: float = 0.0
    _first: bool = True

    def whole(self, found: Mapping[Path, Stamp], now: float) -> list[Path]:
        """Those of the files found by a look at the folder that are whole. Files that are not among them any more are forgotten."""
        self._files = {path: watched for path, watched in self._files.items() if path in found}
        ready = [path for path, stamp in found.items() if self._is_whole(path, stamp, now)]
        self._first = False
        return ready

    def changed(self, path: Path) -> bool:
        """Whether a file is no longer as it was when it was called whole. One that was taken away meanwhile has not changed."""
        now = stamp_of(path)
        return now is not None and now != self._files[path].stamp

    def failed(self, path: Path, now: float) -> bool:
        """A file that was called whole could not be decoded: True when it is to be tried again, False when it was tried often enough."""
        watched = self._files[path]
        if watched.failures >= len(RETRIES_S) or now - watched.stamp[1] / 1e9 > RECENT_S or not path.exists():
            return False
        watched.not_before = now + RETRIES_S[watched.failures]
        watched.failures += 1
        return True

    def _is_whole(self, path: Path, stamp: Stamp, now: float) -> bool:
        watched = self._files.get(path)
        if watched is None or watched.stamp != stamp or now < watched.since:  # new, changed, or the clock was set back
            changed_at = stamp[1] / 1e9
            trusted = self._first and now - changed_at >= OLD_S
            self._files[path] = watched = Watched(stamp, changed_at if trusted else now)
        if now - watched.since < SETTLE_S or now < watched.not_before:
            return False
        if watched.tail is None:
            watched.tail = zero_tail(path) if path.is_file() else 0.0  # a pipe would never answer
        if watched.tail > self._own_tail:
            if now - watched.since < TAIL_S:
                return False
            self._own_tail = watched.tail
        return True
