"""How commands show that they are at work: one bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from anomaly.cli.terminal.console import err, manner
from anomaly.progress import Course, Part, Progress

REFRESHED_HZ = 5  # the bar
LINE_EVERY_S = 3.0  # of the same phase, at most
SILENT_S = 4.5  # at most, between two lines
WIDE = 70  # columns from which a terminal has room for the bar itself
BAR = 20  # columns of it


@contextmanager
def progress(title: str, goes_on: bool = False) -> Iterator[Progress]:
    """Shows on stderr how far the command has got. What it yields fills the whole bar.

    An interrupt (Ctrl-C) leaves the terminal clean and ends the command with exit code 130. `goes_on` says that the same command, given
    again, goes on from where it was stopped.
    """
    course = Course()
    on_terminal = err.is_terminal and not err.is_dumb_terminal and sys.stderr.isatty()
    shown: AbstractContextManager[object] = Bar(title, course, err) if on_terminal else Lines(title, course, _print_line)
    try:
        with nullcontext() if manner.quiet else shown:
            yield Part(course)
    except KeyboardInterrupt as interrupt:
        then = "; run the same command again to go on from where it stopped" if goes_on else ""
        err.print(f"{title}: interrupted{then}", always=True)
        raise typer.Exit(130) from interrupt


def _print_line(text: str) -> None:
    err.print(text)


def described(title: str, course: Course) -> str:
    """What is done now, led by the step where that is not the whole command, in printable characters only: file names may hold others."""
    words = course.words()
    if course.step and course.step != title and not words.startswith(course.step):
        words = f"{course.step}: {words}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(12.3), duration(200), duration(7500)
    ('12 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float) -> str:
    """Seconds as a clock shows them, where room is short.

    >>> clock(12.3), clock(200), clock(7500)
    ('0:12', '3:20', '2:05:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class Lines:
    """Progress as plain lines: each new phase is told, the same one again every few seconds, and none is silent for longer.

    `write` takes a line. What is counted ("64 of 509") is one phase as long as the words before a comma or colon stay the same; what is not
    counted is told each time. A thread repeats the phase while nothing is heard from it.
    """

    def __init__(self, title: str, course: Course, write: Callable[[str], None]) -> None:
        self.title, self.course, self.write = title, course, write
        self._phase, self._told = "", -LINE_EVERY_S
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="progress", daemon=True)
        course.changed = self.changed

    def changed(self) -> None:
        """The course has moved: a line, unless the same phase had one just now."""
        words = self.course.text
        phase = f"{self.course.step}/{words if self.course.total is None else re.split('[,:;]', words)[0]}"
        with self._lock:
            if phase != self._phase or self.course.clock() - self._told >= LINE_EVERY_S:
                self._phase = phase
                self._line()

    def repeat(self) -> None:
        """A line, where none was written for long."""
        with self._lock:
            if self._phase and self.course.clock() - self._told >= SILENT_S:
                self._line()

    def _line(self) -> None:
        self._told, elapsed, left = self.course.clock(), self.course.elapsed(), self.course.left()
        times = ([duration(elapsed)] if elapsed >= 1 else []) + ([f"about {duration(left)} left"] if left is not None else [])
        self.write(f"{self.title}: {described(self.title, self.course)}" + (f" ({', '.join(times)})" if times else ""))

    def _repeat(self) -> None:
        while not self._stop.wait(0.25):
            self.repeat()

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


class Bar(RichProgress):
    """Progress as one line at the foot of a terminal, gone when done.

    A thread of its own draws it, a few times a second, from what the course says by then: to tell progress costs the work nothing.
    """

    def __init__(self, title: str, course: Course, console: Console) -> None:
        self.title, self.course = title, course
        columns: list[ProgressColumn] = [_Written(lambda: title)]
        if console.width >= WIDE:
            columns.append(BarColumn(BAR))
        columns += [_Written(self._times), _Written(lambda: described(title, course), Column(no_wrap=True, overflow="ellipsis", ratio=1))]
        # a stream that does not go to the terminal must not be led there
        super().__init__(
            *columns, console=console, refresh_per_second=REFRESHED_HZ, transient=True, redirect_stdout=sys.stdout.isatty(), expand=True
        )
        self.add_task(title, total=None)

    def _times(self) -> str:
        left = self.course.left()
        done = f"{self.course.share:3.0%} " if self.course.share else ""
        return f"{done}{clock(self.course.elapsed())}" + (f", {clock(left)} left" if left is not None else "") + " "

    def get_renderables(self) -> Iterable[RenderableType]:
        """The line as it is to be drawn now."""
        for task in self.tasks:
            task.total, task.completed = (1.0, self.course.share) if self.course.share else (None, 0.0)
        yield from super().get_renderables()


class _Written(ProgressColumn):
    """A column of literal text, asked for each time that it is drawn."""

    def __init__(self, text: Callable[[], str], column: Column | None = None) -> None:
        super().__init__(column or Column(no_wrap=True))
        self.text = text

    def render(self, task: Task) -> Text:
        """The text; names of files in it mean nothing to the terminal."""
        return Text(self.text(), no_wrap=True, overflow="ellipsis")
