"""Events in a file, one JSON text a line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from anomaly.alarms.sinks.base import Sink, SinkSettings
from anomaly.errors import SinkError


class JsonLinesSettings(SinkSettings):
    kind: Literal["jsonl"]
    path: Path

    def open(self, where: Path) -> Sink:
        return JsonLines(self.name, self.path)


class JsonLines:
    """One event a line, appended and synced to the disk. A line cut short by a crash is ended before the next one."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def send(self, body: str, event_id: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as stream:
                stream.seek(0, os.SEEK_END)
                torn = False
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    torn = stream.read(1) != b"\n"
                stream.write((b"\n" if torn else b"") + body.encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise SinkError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """Nothing is held open between two events."""
