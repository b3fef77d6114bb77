"""One connection to the store's file: turns of writers, errors, and what happens when the file is lost while it is in use."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from anomaly.alarms.store.schema import check, prepare, read_rescued, write_rescued
from anomaly.errors import StoreError

BUSY_S = 30.0  # another process may keep the file this long
_PAGE_COUNT, _USER_VERSION = slice(28, 32), slice(60, 64)  # in the first 100 bytes of the file (SQLite's file format, 1.3)


class _File:
    """The store's file, open for a look at its first bytes as long as this process has a connection to it.

    It is opened once and never closed before: on POSIX, closing any descriptor of a file gives up all locks that the process has on it,
    those of SQLite too. Another process would then take itself for the last one, and remove a write-ahead log that is still in use
    (sqlite.org/howtocorrupt.html, 2.2).
    """

    _open: ClassVar[WeakValueDictionary[tuple[int, int], _File]] = WeakValueDictionary()
    _turn = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb", buffering=0)

    @classmethod
    def of(cls, path: Path) -> _File | None:
        """That of a path, None where there is none."""
        try:
            with cls._turn:
                stat = path.stat()
                key = stat.st_dev, stat.st_ino
                file = cls._open.get(key)
                if file is None:
                    file = cls._open[key] = cls(path)
                return file
        except OSError:
            return None

    def header(self) -> bytes:
        """Its first 100 bytes."""
        try:
            return os.pread(self._stream.fileno(), 100, 0)
        except OSError:
            return b""


class _Database(sqlite3.Connection):
    """A connection that keeps the file open as long as it lives: one that nobody closes lives until garbage is collected."""

    file: _File | None = None


def connect_to_read(path: Path, wait_s: float = BUSY_S) -> _Database:
    """A connection that changes nothing. Raises StoreError for what is no store of this version, or cannot be read.

    A copy that lies where nobody may write is read as it is, when all of it is in the one file.
    """
    try:
        if not path.is_file():
            raise StoreError(f"{path}: no such store; is the monitor stopped, and its store moved?")
        try:
            return _to_read(path, wait_s)
        except sqlite3.Error as error:  # SQLite keeps an index of the write-ahead log beside it, also to read
            if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                raise
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoreError(
                f"{path}: its newest rows are in {log.name} beside it, and nobody may write there, which reading them needs; "
                "copy both files to a folder of your own, and open the copy"
            )
        return _to_read(path, wait_s, "&immutable=1")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); is it an event store, and may you read it?") from error


def _to_read(path: Path, wait_s: float, how: str = "") -> _Database:
    uri = f"{path.absolute().as_uri()}?mode=ro{how}"
    db = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False, factory=_Database)
    try:
        check(db, path)
    except BaseException:
        db.close()
        raise
    return db


class Connection:
    """One connection, for one thread at a time. Writers of one process take turns by a lock, others by SQLite's own.

    Every method of a store raises StoreError, and only that, when the file cannot be read or written.
    """

    _turn = threading.RLock()

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, read_only: bool = False) -> None:
        """Open or create. Raises StoreError when the file is not a store, is from a newer version, or cannot be written.

        `read_only`: nothing is changed or created, and a store of an older version is refused, too.
        """
        self.path = path
        self.clock = clock
        self.read_only = read_only
        self._lines: dict[str, int] = {}
        self._bundles: dict[str, int] = {}
        self._damage = ""  # what SQLite last said of a damaged file
        self._short = 0  # looks in a row that found the file shorter than its header says
        self._open()

    def _open(self) -> None:
        self._db = connect_to_read(self.path) if self.read_only else self._connect()
        self._db.file = _File.of(self.path)
        self._identity = self._look()
        self._forget()

    def _connect(self) -> _Database:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._turn:
                db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=_Database)
                try:
                    prepare(db, self.path)
                except BaseException:
                    db.close()
                    raise
                return db
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: cannot be used as the event store ({error}); check the path, rights and free space") from error

    def _forget(self) -> None:
        """What is remembered of the file's contents holds no longer."""
        self._lines.clear()
        self._bundles.clear()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
        self._db.file = None

    # --- reading and writing ---

    def _read(self, query: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._errors("cannot be read"):
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self, what: str = "not stored", full: bool = True) -> Iterator[sqlite3.Connection]:
        """All that is done inside is committed, or none. With `full` it has reached the disk when this ends."""
        if self.read_only:
            raise StoreError(f"{self.path}: {what}: the store is open to be read alone, as nobody may write to the file or its folder")
        with self._errors(what), self._turn:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._forget()  # an id that was given in it may be given again
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Any error of SQLite is a StoreError that says what was not done. A damaged file is remembered for `refresh`."""
        try:
            yield
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                self._damage = str(error)
            raise StoreError(f"{self.path}: {what} ({error}); free space or check the disk") from error

    def data_version(self) -> int:
        """A number that changes whenever another connection (an operator's command, say) has changed the store."""
        return int(self._read("PRAGMA data_version")[0][0])

    def _line(self, name: str) -> int:
        """The id of a line, which is given one at first. Inside a transaction."""
        if name not in self._lines:
            self._db.execute("INSERT OR IGNORE INTO lines (name) VALUES (?)", (name,))
            self._lines[name] = self._db.execute("SELECT id FROM lines WHERE name = ?", (name,)).fetchone()[0]
        return self._lines[name]

    def _bundle(self, bundle_hash: str) -> int:
        """The id of a bundle, as `_line`."""
        if bundle_hash not in self._bundles:
            self._db.execute("INSERT OR IGNORE INTO bundles (hash) VALUES (?)", (bundle_hash,))
            self._bundles[bundle_hash] = self._db.execute("SELECT id FROM bundles WHERE hash = ?", (bundle_hash,)).fetchone()[0]
        return self._bundles[bundle_hash]

    # --- a file that is lost ---

    def refresh(self) -> str:
        """Words when the file was deleted, replaced or damaged since it was opened, "" when all is well. Cheap: to be called often.

        The store is open again then. What was left of a damaged file lies beside it, and a new store was begun, with what could still be
        read of undelivered events, alarms and the audit log. A store that somebody put in its place is used as it is. Raises StoreError
        when no store can be opened there.
        """
        lost = self._lost()
        if not lost:
            return ""
        with self._turn:
            rescued = read_rescued(self._db)
            kept = self._put_aside() if self._look()[:2] == self._identity[:2] else ""
            self._db.close()  # SQLite leaves the files of another store alone: it sees that its own has moved
            self._damage, self._short = "", 0
            try:
                self._open()
            except StoreError:
                kept = self._put_aside()
                self._open()
            with self._transaction("not taken over from the store before") as db:
                write_rescued(db, rescued)
        return f"{self.path}: {lost}; the store goes on with what is known of the lines" + (f"; what was left is in {kept}" if kept else "")

    def _look(self) -> tuple[int, int, int]:
        """(device, inode, number of the store) of the file that is there now, zeros for none."""
        try:
            stat = os.stat(self.path)  # noqa: PTH116 - every turn
        except OSError:
            return 0, 0, 0
        return stat.st_dev, stat.st_ino, int.from_bytes(self._header()[_USER_VERSION], "big")

    def _header(self) -> bytes:
        """The begin of the file that was opened, as it is now."""
        return b"" if self._db.file is None else self._db.file.header()

    def _lost(self) -> str:
        """What has happened to the file since it was opened, "" for nothing."""
        if self._damage:
            return f"the file is damaged ({self._damage})"
        found = self._look()
        if found == (0, 0, 0):
            return "the file was deleted"
        if found[:2] != self._identity[:2]:
            return "the file was replaced by another"
        header = self._header()
        if not header.startswith(b"SQLite format 3\0"):
            return "the file was truncated or overwritten"
        if found[2] != self._identity[2]:
            return "the file was overwritten by another store"
        return self._shorter(header)

    def _shorter(self, header: bytes) -> str:
        """Whether the end of the file is missing. Right after a crash, and while pages are moved, it is written a little later."""
        pages = int.from_bytes(header[_PAGE_COUNT], "big")
        size = 1 << 16 if header[16:18] == b"\0\1" else int.from_bytes(header[16:18], "big")
        if self.path.stat().st_size >= pages * size:
            self._short = 0
            return ""
        self._short += 1
        if self._short < 3:
            try:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.Error as error:
                return f"the file is damaged ({error})"
            return ""
        return "the end of the file is missing"

    def _put_aside(self) -> str:
        """Rename what lies where the store should be; returns the new name, "" where nothing was there."""
        aside = self.path.with_name(f"{self.path.name}.lost-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(self.clock()))}")
        try:
            if aside.exists() or not self.path.exists():
                return ""
            for end in ("-wal", "-shm", ""):
                part = self.path.with_name(self.path.name + end)
                if part.exists():
                    part.rename(aside.with_name(aside.name + end))
        except OSError as error:
            raise StoreError(f"{self.path}: is lost and cannot be put aside ({error.strerror}); make room for a new store") from error
        return str(aside)
