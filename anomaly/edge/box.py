"""Many lines in one process: a pool of workers serves the line that has waited longest."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly.alarms.evidence import EVIDENCE_BYTES
from anomaly.alarms.health.line import LineHealth
from anomaly.alarms.store import LIMIT_BYTES
from anomaly.edge.line import Line
from anomaly.edge.monitor import POLL_S, Monitor, open_monitor
from anomaly.edge.release import Loaded, Release, short_name
from anomaly.errors import SpecError, in_words
from anomaly.parallel import cores
from anomaly.toml_file import read_toml, unknown_key

GB, MB = 1e9, 1e6


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
    store_gb: float = Field(LIMIT_BYTES / GB, gt=0, description="what the store may take at most, in GB; the oldest scores go first")
    evidence_mb: float = Field(EVIDENCE_BYTES / MB, ge=0, description="of it for pictures and readings of alarms, in MB; 0 keeps none")
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
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = LineSpec.model_fields if len(first["loc"]) > 1 else BoxSpec.model_fields
            raise SpecError(f"{path}: {unknown_key(key, known)}") from error
        raise SpecError(f"{path}: key `{key}`: {first['msg']}") from error
    names = [line.name for line in spec.line]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"{path}: lines {twice} are there twice; every line needs a name of its own")
    return spec


def open_lines(
    spec: BoxSpec,
    open_: Callable[[str, Path], tuple[Loaded, Release | None]],
    sinks: Sequence[str],
    wake: Callable[[], None],
    health: Mapping[str, LineHealth],
    once: bool = False,
) -> list[Line]:
    """The lines of a box, opened where that can be done now; the others are tried again, with back-off.

    `open_`: opens a bundle or release, with a folder of its own to keep bundles in. Lines with the same bundle share it. Those that follow
    a release each have their own: they swap between their own records. Raises SpecError, naming the line, for a source that can never do.
    """
    shared: dict[str, tuple[Loaded, Release | None]] = {}

    def opener(line: LineSpec) -> Callable[[], Monitor]:
        own: dict[str, tuple[Loaded, Release | None]] = {}

        def open_line() -> Monitor:
            found = shared.get(line.bundle) or own.get(line.bundle)
            if found is None:
                found = open_(line.bundle, spec.store.with_name(f"{spec.store.name}.bundles") / short_name(line.name))
                (own if found[1] is not None else shared)[line.bundle] = found
            shown = health[line.name]
            return open_monitor(
                found[0], line.source, spec.store, sinks, wake, found[1], line.name, line.silent_after_s, shown, not once,
                int(spec.store_gb * GB), int(spec.evidence_mb * MB),
            )  # fmt: skip

        return open_line

    return [Line(line.name, opener(line), spec.store, sinks, wake, once, health=health[line.name]) for line in spec.line]


@dataclass
class Served:
    """A line, and how many turns it had that brought records."""

    line: Line
    turns: int = 0
    busy: bool = False


class Box:
    """Runs lines on a pool of threads. Two workers never serve one line, and none is served again before all others had their turn.

    A line that raises (with `once`, or at the end) is served no more; the others go on.
    """

    def __init__(self, lines: Sequence[Line], workers: int | None = None) -> None:
        self.lines = [Served(line) for line in lines]
        self.workers = min(len(self.lines), workers or cores())
        self._waiting = deque(self.lines)
        self._lock = threading.Lock()
        self._idle = 0  # turns in a row that brought nothing
        self.errors: list[BaseException] = []

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; lines that are run once, until they have nothing more. Raises the first error of a line at the end."""
        threads = [threading.Thread(target=self._work, args=(stop,), name=f"worker {i}") for i in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
        if self.errors:
            raise self.errors[0]

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                served = self._waiting.popleft() if self._waiting else None
                left = len(self._waiting)
                if served is not None:
                    served.busy = True
            if served is None:
                if not any(line.busy for line in self.lines):
                    return
                stop.wait(POLL_S)
                continue
            self._serve(served, stop, left)

    def _serve(self, served: Served, stop: threading.Event, left: int) -> None:
        """One turn of a line, which then waits for its next, unless it is done."""
        more = worked = False
        try:
            poll = served.line.turn(stop)
            worked = bool(poll.records or poll.rejected)
            more = worked or not served.line.once or poll.waiting
        except BaseException as error:  # raised by `run`, at the end
            served.line.log.error("ended: %s", in_words(error))
            self.errors.append(error)
        served.turns += worked
        with self._lock:
            self._idle = 0 if worked else self._idle + 1
            rest = self._idle > left
            if more:
                self._waiting.append(served)
            served.busy = False
        if rest:
            time.sleep(POLL_S / 5)
