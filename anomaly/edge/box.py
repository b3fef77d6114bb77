"""Many lines in one process: a pool of workers serves the line that has waited longest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly.edge.monitor import POLL_S, Monitor
from anomaly.errors import SpecError
from anomaly.parallel import cores
from anomaly.toml_file import read_toml


class LineSpec(BaseModel):
    """One line of a box."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, pattern=r"^[^\n#]+$")
    bundle: str = Field(description="a bundle, or a release folder or URL")
    source: str
    silent_after_s: float | None = Field(None, gt=0)


class BoxSpec(BaseModel):
    """All lines of one machine, their store, and where their alarms go."""

    model_config = ConfigDict(extra="forbid")
    store: Path = Path("anomaly.db")
    alerts: Path | None = None
    workers: int | None = Field(None, ge=1, le=256, description="lines that are served at the same time; a core each when not given")
    line: Annotated[list[LineSpec], Field(min_length=1)]


def read_box(path: Path) -> BoxSpec:
    """Read and validate a box. Raises SpecError naming file and key."""
    raw = read_toml(path, "deploy/box.toml")
    try:
        spec = BoxSpec.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(f"{path}: key `{'.'.join(str(part) for part in first['loc'])}`: {first['msg']}") from error
    names = [line.name for line in spec.line]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"{path}: lines {twice} are there twice; every line needs a name of its own")
    return spec


@dataclass
class Served:
    """A line, and how many turns it had that brought records."""

    monitor: Monitor
    turns: int = 0
    busy: bool = False


class Box:
    """Runs lines on a pool of threads. Two workers never serve one line, and none is served again before all others had their turn."""

    def __init__(self, monitors: Sequence[Monitor], workers: int | None = None) -> None:
        self.lines = [Served(monitor) for monitor in monitors]
        self.workers = min(len(self.lines), workers or cores())
        self._waiting = deque(self.lines)
        self._lock = threading.Lock()
        self._idle = 0  # turns in a row that brought nothing
        self.errors: list[BaseException] = []

    def run(self, stop: threading.Event, once: bool = False) -> None:
        """Serve until `stop` is set; with `once`, until no line has anything more. Raises the first error that a line could not handle."""
        threads = [threading.Thread(target=self._work, args=(stop, once), name=f"worker {i}") for i in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
        if self.errors:
            raise self.errors[0]

    def _work(self, stop: threading.Event, once: bool) -> None:
        while not stop.is_set():
            with self._lock:
                served = self._waiting.popleft() if self._waiting else None
                left = len(self._waiting)
            if served is None:
                if once and not any(line.busy for line in self.lines):
                    return
                stop.wait(POLL_S)
                continue
            served.busy = True
            try:
                poll = served.monitor.turn(stop, once)
            except BaseException as error:  # raised by `run`, which ends the process: a restart resumes
                self.errors.append(error)
                stop.set()
                return
            finally:
                served.busy = False
            worked = bool(poll.records or poll.rejected)
            served.turns += worked
            with self._lock:
                self._idle = 0 if worked else self._idle + 1
                rest = self._idle > left
                if worked or not once or poll.waiting:
                    self._waiting.append(served)
            if rest:
                time.sleep(POLL_S / 5)
