"""Work side by side: the same work on many records, on all cores at once; and runs of one line, which take turns."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from anomaly.names import one_line, slug
from anomaly.progress import Progress

if TYPE_CHECKING:
    from filelock import FileLock

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 3  # items a core that are begun before the first result is asked for
TURN_S = 0.5  # between two looks at whether the other run has ended
_held: WeakValueDictionary[Path, FileLock] = WeakValueDictionary()  # by this process, which never waits for itself
_turn = threading.Lock()


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """The results of `work` on each item, in their order; as many items at a time as this process has cores.

    For work that waits in NumPy, PyTorch or ONNX Runtime, each call of which should itself use one thread: two pictures on two cores are
    done sooner than one picture on both, twice. After an error, or when the results are no longer asked for, no further item is begun.

    >>> list(on_all_cores(lambda x: x * x, [1, 2, 3]))
    [1, 4, 9]
    """
    waiting: deque[Future[R]] = deque()
    left = iter(items)
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for item in islice(left, AHEAD * cores()):
                waiting.append(pool.submit(work, item))
            while waiting:
                result = waiting.popleft().result()
                for item in islice(left, 1):
                    waiting.append(pool.submit(work, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_run(work: Path, line: str, progress: Progress) -> Iterator[None]:
    """Work on a line that no other process does at the same time in the same work folder; waits until the other has ended, and says so.

    The hold ends with the process, however that ends. Within one process it may be taken again. On a disk that has no locks the block
    runs at once, and that is said.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = work.resolve() / f".{slug(line)}.lock"
    lock, holder = _own(path), path.with_suffix(".holder")
    try:
        if not _taken(lock):
            progress(f"waits: {_read(holder)} works on line {one_line(line)!r} in {work}")
            while not _taken(lock):
                time.sleep(TURN_S)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now().astimezone():%Y-%m-%d %H:%M}\n")
    except (OSError, NotImplementedError) as error:
        progress(f"{work}: has no locks ({error}), so see to it that a line is fitted by one run at a time")
    try:
        yield
    finally:
        with _turn:
            lock.release()  # of one that is not held this does nothing


def _own(path: Path) -> FileLock:
    """This process's one lock of a path."""
    from filelock import FileLock

    with _turn:
        lock = _held.get(path)
        if lock is None:
            _held[path] = lock = FileLock(path, thread_local=False)
        return lock


def _taken(lock: FileLock) -> bool:
    from filelock import Timeout

    with _turn:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        return True


def _read(holder: Path) -> str:
    """Who holds a line, as it said itself; it may not have got to that yet."""
    try:
        return one_line(holder.read_text(encoding="utf-8").strip()[:200]) or "another run"
    except (OSError, ValueError):
        return "another run"
