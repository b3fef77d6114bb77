"""A folder that pictures are dropped into."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from anomaly.data.files import PICTURES, walk_files
from anomaly.data.pictures.reading import Decoded, PictureFormat, format_of, read_picture
from anomaly.data.records import Record, Rejected
from anomaly.edge.sources.arrival import Arrivals, Stamp, stamp_of
from anomaly.edge.sources.base import EARLIEST, LATEST, Poll, check_plain, is_folder
from anomaly.errors import RecordError, SourceError, in_words
from anomaly.names import record_name
from anomaly.parallel import cores
from anomaly.schema import InputSchema


@cache
def _decoders() -> ThreadPoolExecutor:
    """Threads that decode pictures, shared by all folders of this process."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="decode")


class Found(NamedTuple):
    """A picture file as a look at the folder found it: its record's id, where it is, and when it was last changed."""

    record: str
    path: Path
    when: float


class PictureFolder:
    """A folder that pictures are dropped into, also in subfolders. Oldest first; a file still being written waits (`Arrivals`).

    With a backlog as many pictures again as were asked for are decoded while those are scored.
    A record's id is its name and time of change, so a picture written again under its old name is a new record. A picture that changed
    while it was decoded is read again; one that cannot be decoded is tried again before it is set aside.
    """

    def __init__(self, folder: Path, schema: InputSchema, known: Callable[[str], bool], clock: Callable[[], float] = time.time) -> None:
        """Raises SourceError when the folder is not there. `known(id)` tells records handled before a restart."""
        if not is_folder(folder):
            raise SourceError(f"{folder}: no such folder to watch; create it or correct --source")
        self._folder = folder
        self._format = format_of(schema)
        self._known = known
        self._clock = clock
        self._handled: set[str] = set()
        self._arrivals = Arrivals()
        self._ready: deque[Found] = deque()  # found by the last look at the folder and whole, oldest first
        self._ahead: deque[tuple[Found, Future[Any]]] = deque()  # of them, those being decoded
        self._refused = ""  # which subfolder cannot be read

    def close(self) -> None:
        """Decode no further."""
        for _, picture in self._ahead:
            picture.cancel()

    def poll(self, limit: int) -> Poll:
        """Up to `limit` pictures, decoded."""
        found = Poll()
        if not is_folder(self._folder):
            found.trouble = f"{record_name(self._folder)}: the folder is gone (a share that is not mounted?)"
            return found
        if not self._ready and not self._ahead:  # a look at a folder of thousands takes longer than scoring a picture
            self._look(found)
        found.trouble = self._refused
        self._decode(limit)
        for one, picture in (self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))):
            self._take(one, picture, found)
        self._decode(limit)
        found.waiting = found.waiting or bool(self._ready or self._ahead)
        return found

    def _take(self, one: Found, picture: Future[Any], found: Poll) -> None:
        """A decoded picture becomes a record, or is left to be read again, or is set aside."""
        error: Exception | None = None
        try:
            pixels, note = picture.result()
        except Exception as failure:  # RecordError, or what a decoder raises that nobody thought of: one picture never stops the others
            error = failure
        if self._arrivals.changed(one.path) or (error is not None and self._arrivals.failed(one.path, self._clock())):
            found.waiting = True
            return
        self._handled.add(one.record)
        if error is not None:
            found.rejected.append(
                Rejected(
                    one.record, one.when, str(error) if isinstance(error, RecordError) else f"{one.record}: {in_words(error)}", one.path
                )
            )
            return
        found.records.append(Record(one.record, one.when, pixels))
        found.beyond = note or found.beyond

    def _decode(self, count: int) -> None:
        """Start decoding until `count` pictures are decoded or being decoded, or no more are there."""
        while self._ready and len(self._ahead) < count:
            one = self._ready.popleft()
            if self._known(one.record):
                self._handled.add(one.record)
            else:
                self._ahead.append((one, _decoders().submit(_read, one.path, self._format)))

    def _look(self, found: Poll) -> None:
        """Look at the folder: what is new and whole is ready, what is not whole yet waits, and what is gone is forgotten."""
        stamps: dict[Path, Stamp] = {}
        names: dict[Path, Found] = {}
        present = set()
        unread: list[OSError] = []
        for path in walk_files(self._folder, PICTURES, unread.append):
            stamp = stamp_of(path)
            if stamp is None:
                continue  # gone between listing and looking
            when = min(max(stamp[1] / 1e9, EARLIEST), LATEST)
            one = Found(f"{record_name(path.relative_to(self._folder))}@{stamp[1] // 1_000_000}", path, when)
            present.add(one.record)
            if one.record not in self._handled:
                stamps[path], names[path] = stamp, one
        refused = [error for error in unread if not isinstance(error, FileNotFoundError)]  # one taken away meanwhile is no trouble
        self._refused = f"{record_name(str(refused[0].filename))}: the folder cannot be read ({refused[0].strerror})" if refused else ""
        whole = self._arrivals.whole(stamps, self._clock())
        found.waiting = len(whole) < len(stamps)
        self._handled &= present
        self._ready.extend(sorted((names[path] for path in whole), key=lambda one: (one.when, one.record)))


def _read(path: Path, form: PictureFormat) -> Decoded:
    """`read_picture` of a plain file: a pipe would never answer. Raises RecordError."""
    try:
        check_plain(path.stat())
    except OSError as error:
        raise RecordError(f"{record_name(path)}: cannot be read ({error.strerror})") from error
    return read_picture(path, form)
