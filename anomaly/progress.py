"""How work under way says what it is doing and how far it has got.

A function with long work takes a `Progress` and calls it: `progress("features of pictures", 64, 509)`. Whoever shows it, a bar or lines,
stands outside. Where the whole is known, each part of the work gets a share of it: `part(progress, 0.2, 0.5)` is the `Progress` of
what fills the whole from 20 to 50 %. Then the time left can be told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Protocol, TypeVar

T = TypeVar("T")
FEWEST_S = 1.0  # of work, before a time left is told
FEWEST_SHARE = 0.02  # of the whole, likewise


class Progress(Protocol):
    """What is called to say what is done now, and where that can be counted, that `done` of `total` are done."""

    def __call__(self, text: str, done: float | None = None, total: float | None = None) -> None: ...


def silent(text: str, done: float | None = None, total: float | None = None) -> None:
    """A `Progress` that says nothing."""


class Course:
    """How far a whole has got: what is done now, which share of the whole is done, and how long the rest will take.

    Any thread may read and write it. `clock` gives seconds; `changed` is called, in the thread that works, after each word of progress.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, changed: Callable[[], None] = lambda: None) -> None:
        self.clock, self.changed = clock, changed
        self.step, self.text, self.share = "", "", 0.0
        self.done: float | None = None
        self.total: float | None = None
        self._began = self._moved = clock()
        self._worked = self._spent = 0.0  # the share that work was done for, less what was there already, and the seconds it took
        self._lock = threading.Lock()

    def tell(self, text: str, done: float | None, total: float | None, share: float, step: str = "") -> None:
        """Work has got to this share of the whole. A share never falls."""
        with self._lock:
            self.step, self.text, self.done, self.total = step, text, done, total
            self._move(share, worked=True)
        self.changed()

    def jump(self, share: float, worked: bool) -> None:
        """The whole is done up to this share, without a word. What was there already says nothing about the time that the rest takes."""
        with self._lock:
            self._move(share, worked)

    def repace(self, factor: float) -> None:
        """What is left takes `factor` times as long as was thought when it was given its share.

        >>> now = iter([0.0, 10.0, 10.0])
        >>> course = Course(lambda: next(now))
        >>> course.tell("sizes on trial", 1, 2, 0.5)
        >>> course.repace(0.2)
        >>> course.left()
        2.0
        """
        with self._lock:
            self._worked /= factor  # so much of what is left would have taken the time that was spent

    def _move(self, share: float, worked: bool) -> None:
        gained, now = max(0.0, min(1.0, share) - self.share), self.clock()
        self.share += gained
        if gained and worked:
            self._worked += gained
            self._spent += now - self._moved
        if gained or not worked:
            self._moved = now

    def words(self) -> str:
        """What is done now, counted where it can be."""
        return worded(self.text, self.done, self.total)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._began

    def left(self) -> float | None:
        """Seconds that the rest will take, if it goes on as before. None as long as too little is done to tell, or it takes longer.

        >>> now = iter([0.0, 10.0, 12.0])
        >>> course = Course(lambda: next(now))
        >>> course.tell("features", 25, 100, 0.25)
        >>> course.left()  # 10 s for a quarter: 30 s for the rest, 2 of which are gone
        28.0
        """
        with self._lock:
            worked, spent, rest, moved = self._worked, self._spent, 1.0 - self.share, self._moved
        if spent < FEWEST_S or worked < FEWEST_SHARE:
            return None
        left = rest * spent / worked - (self.clock() - moved)
        return left if left > 0 else None


class Part:
    """The `Progress` of a part of a whole: from the share `start` of it to the share `stop`. `step` is the part's name, if it has one."""

    def __init__(self, course: Course, start: float = 0.0, stop: float = 1.0, step: str = "") -> None:
        self.course, self.start, self.stop, self.step = course, start, stop, step

    def __call__(self, text: str, done: float | None = None, total: float | None = None) -> None:
        self.course.tell(text, done, total, self.at(done / total if done is not None and total else 0.0), self.step)

    def at(self, share: float) -> float:
        """The share of the whole, where this share of the part is done."""
        return self.start + (self.stop - self.start) * min(1.0, max(0.0, share))


def part(progress: Progress, start: float, stop: float, step: str = "") -> Progress:
    """The `Progress` of what fills `progress` from the share `start` to the share `stop`; `step` is its name, if it has one of its own.

    A plain function shows no shares: it is handed back as it is.
    """
    if not isinstance(progress, Part):
        return progress
    return Part(progress.course, progress.at(start), progress.at(stop), step or progress.step)


def parts(progress: Progress, expected: Mapping[str, float]) -> dict[str, Progress]:
    """A `Progress` for each of some steps that follow each other, by how long they are expected to take, in any unit.

    >>> course = Course()
    >>> both = parts(Part(course), {"fit": 30, "export": 10})
    >>> both["export"]("graph", 1, 2)
    >>> course.share
    0.875
    """
    whole, start, found = sum(expected.values()), 0.0, {}
    for name, share in expected.items():
        found[name] = part(progress, start / whole, (start + share) / whole, name)
        start += share
    return found


def finished(progress: Progress) -> None:
    """All of it is done."""
    if isinstance(progress, Part):
        progress.course.jump(progress.stop, worked=True)


def skipped(progress: Progress) -> None:
    """All of it was there already, or says nothing about how long the rest takes, as the loading of libraries."""
    if isinstance(progress, Part):
        progress.course.jump(progress.stop, worked=False)


def repaced(progress: Progress, factor: float) -> None:
    """What is left of the whole takes `factor` times as long as was thought when it was given its share."""
    if isinstance(progress, Part):
        progress.course.repace(factor)


def counted(items: Iterable[T], progress: Progress, text: str) -> Iterator[T]:
    """The items, each told to `progress` as it is asked for.

    >>> course = Course()
    >>> for name in counted(["a", "b", "c"], Part(course), "files"):
    ...     print(name, course.words())
    a files, 0 of 3
    b files, 1 of 3
    c files, 2 of 3
    """
    total = len(items) if isinstance(items, Sized) else None
    for done, item in enumerate(items):
        progress(text, done, total)
        yield item


def worded(text: str, done: float | None = None, total: float | None = None) -> str:
    """A word of progress as text.

    >>> worded("features of pictures", 64, 509)
    'features of pictures, 64 of 509'
    """
    return text if done is None or total is None else f"{text}, {done:.0f} of {total:.0f}"
