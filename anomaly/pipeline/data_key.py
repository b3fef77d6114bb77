"""Which data a detector was made of: hashed once, and handed from step to step for as long as no file changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anomaly.data.files import find_files
from anomaly.data.records import fingerprint
from anomaly.errors import DataError
from anomaly.spec import Transfer


@dataclass(frozen=True)
class DataKey:
    """Which data it is: SHA-256 of what a detector is fitted to, and of the labelled data it is judged by ("" when there is none).

    `stamp` stands for the files' names, sizes and times of change when they were hashed. A key that is handed on holds only while the stamp
    is the same, so a change of the data is seen however many steps share one key.
    """

    train: str
    test: str
    stamp: str


def stamp_of(files: Iterable[Path]) -> str:
    """A short text that changes when a file is added, removed, or written to. Reads no file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "readings.csv"
    ...     _ = path.write_text("1")
    ...     before = stamp_of([path])
    ...     _ = path.write_text("12")
    ...     stamp_of([path]) == before
    False
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def transfer_files(transfer: Transfer) -> list[Path]:
    """Every file of what the spec's [transfer] names. Raises DataError for a path that is not there."""
    return [file for path in _named(transfer) for file in _files_under(path)]


def with_transfer(own: str, transfer: Transfer) -> str:
    """A data set's fingerprint, with that of whatever the spec's [transfer] names. Raises DataError for a path that is not there."""
    named = _named(transfer)
    if not named:
        return own
    digests = [fingerprint(_files_under(path), path) for path in named]
    return hashlib.sha256(" ".join([own, *digests]).encode()).hexdigest()


def _named(transfer: Transfer) -> list[Path]:
    return [path for path in (transfer.source, transfer.normals, transfer.faults, transfer.source_faults) if path is not None]


def _files_under(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; it is named under [transfer]")
    return find_files(path, deep=True) if path.is_dir() else [path]
