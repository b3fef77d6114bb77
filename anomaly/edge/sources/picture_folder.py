"""A folder that pictures are dropped into."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from anomaly.data.files import PICTURES, walk_files
from anomaly.data.pictures.reading import Color, read_image
from anomaly.data.records import Record, Rejected
from anomaly.edge.runtime.session import cores
from anomaly.edge.sources.base import Poll
from anomaly.errors import DataError, RecordError
from anomaly.schema import InputSchema

SETTLED_S = 2.0  # a file that was not changed for this long is complete


@cache
def _decoders() -> ThreadPoolExecutor:
    """Threads that decode pictures, shared by all folders of this process."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="decode")


class PictureFolder:
    """A folder that pictures are dropped into, also in subfolders. Oldest first; a file still being written waits.

    With a backlog as many pictures again as were asked for are decoded while those are scored.
    A record's id is its name and time of change, so a picture written again under its old name is a new record.
    """

    def __init__(self, folder: Path, schema: InputSchema, known: Callable[[str], bool], clock: Callable[[], float] = time.time) -> None:
        """Raises DataError when the folder is not there. `known(id)` tells records handled before a restart."""
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder to watch; create it or correct --source")
        self._folder = folder
        self._color: Color = "gray" if schema.channels == 1 else "rgb"
        self._deep = schema.dtype == "uint16"
        self._known = known
        self._clock = clock
        self._handled: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._ready: deque[tuple[str, Path, float]] = deque()  # found by the last look at the folder, oldest first
        self._ahead: deque[tuple[str, Path, float, Future[Any]]] = deque()  # of them, those being decoded

    def close(self) -> None:
        """Decode no further."""
        for _, _, _, picture in self._ahead:
            picture.cancel()

    def poll(self, limit: int) -> Poll:
        """Up to `limit` pictures, decoded."""
        found = Poll()
        if not self._folder.is_dir():
            found.trouble = f"{self._folder}: the folder is gone (a share that is not mounted?)"
            return found
        if not self._ready and not self._ahead:  # a look at a folder of thousands takes longer than scoring a picture
            new, present = self._scan(found)
            self._handled &= present  # forget files that are gone
            self._ready.extend(sorted(new, key=lambda item: (item[2], item[0])))
        self._decode(limit)
        for record, path, when, picture in (self._ahead.popleft() for _ in range(min(limit, len(self._ahead)))):
            try:
                found.records.append(Record(record, when, picture.result()))
            except RecordError as error:
                found.rejected.append(Rejected(record, when, str(error), path))
        self._decode(limit)
        found.waiting = found.waiting or bool(self._ready or self._ahead)
        return found

    def _decode(self, count: int) -> None:
        """Start decoding until `count` pictures are decoded or being decoded, or no more are there."""
        while self._ready and len(self._ahead) < count:
            record, path, when = self._ready.popleft()
            self._handled.add(record)
            if not self._known(record):
                self._ahead.append((record, path, when, _decoders().submit(read_image, path, self._color, deep=self._deep)))

    def _scan(self, found: Poll) -> tuple[list[tuple[str, Path, float]], set[str]]:
        new, present, sizes = [], set(), {}
        for path in walk_files(self._folder, PICTURES):
            try:
                stat = path.stat()
            except OSError:
                continue  # gone between listing and looking
            record = f"{path.relative_to(self._folder).as_posix()}@{stat.st_mtime_ns // 1_000_000}"
            present.add(record)
            if record in self._handled:
                continue
            sizes[record] = stat.st_size
            if self._sizes.get(record) == stat.st_size or self._clock() - stat.st_mtime >= SETTLED_S:
                new.append((record, path, stat.st_mtime))
            else:
                found.waiting = True
        self._sizes = sizes
        return new, present
