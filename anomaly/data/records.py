"""A record: what every source yields and every scorer reads, on the training side and at the edge alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomaly.atomic import sha256_file
from anomaly.names import masked, one_line

Payload = TypeVar("Payload")


class Cut(NamedTuple):
    """Where a window was cut from: rows (n, C) of one stretch, of which the window's own end before row `end`; the `times` (n,) of them."""

    rows: NDArray[np.float32]
    end: int
    times: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Record(Generic[Payload]):
    """One reading: `id` is stable over restarts, `time` is seconds since 1970 UTC. `cut` says where a window was cut from."""

    id: str
    time: float
    payload: Payload
    cut: Cut | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read: counted, kept aside with its reason, never a reason to stop.

    The reason is kept as one line without passwords, since it goes into the store and to every sink.
    """

    id: str
    time: float
    reason: str
    path: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(masked(self.reason)))


def fingerprint(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the relative names and contents of files, in name order: the identity of a data set."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        digest.update(f"{name}\0{sha256_file(path)}\n".encode(errors="surrogateescape"))  # a name need not be UTF-8
    return digest.hexdigest()


def content_number(path: Path) -> int:
    """A file's content as a number below 2^48, which a float64 holds exactly: the begin of its SHA-256. Its name does not count."""
    return int(sha256_file(path)[:12], 16)
