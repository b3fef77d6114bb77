"""One monitor a line and store: a lock that ends with its process, however that ends."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from anomaly.alarms.events import iso
from anomaly.alarms.store.connection import Connection
from anomaly.alarms.store.schema import digest
from anomaly.errors import LineTakenError, StoreError
from anomaly.names import one_line

if TYPE_CHECKING:
    from filelock import FileLock

_held: WeakValueDictionary[Path, FileLock] = WeakValueDictionary()  # by this process, which never shuts itself out
_turn = threading.Lock()


class Claims(Connection):
    """Lines that this connection's process alone may monitor. `close` gives them up."""

    def claim(self, line: str) -> None:
        """Hold a line until this connection is closed or its process ends. Raises LineTakenError that names who holds it now."""
        from filelock import FileLock, Timeout

        file = self.path.resolve()  # the store itself, however a link to it is named
        folder = file.with_name(f"{file.name}.locks")
        path = folder / f"{digest(line) & (1 << 64) - 1:016x}.lock"
        with _turn:
            lock = _held.get(path)
            if lock is None:
                lock = FileLock(path, thread_local=False)
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    lock.acquire(timeout=0)
                except Timeout as error:
                    raise LineTakenError(
                        f"{self.path}: line '{one_line(line)}' is monitored by {self._holder(line)}; "
                        "stop that one, or give this one another --line or --store"
                    ) from error
                except (OSError, NotImplementedError) as error:
                    raise StoreError(f"{path}: line '{one_line(line)}': no lock ({error}); put the store on a local disk") from error
                _held[path] = lock
            self._claims.append(lock)
        with self._transaction("holder not stored", full=False) as db:
            who = f"process {os.getpid()} on {socket.gethostname()} since {iso(self.clock())}"
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"held {line}", who))

    def _open(self) -> None:
        self._claims: list[FileLock] = getattr(self, "_claims", [])  # they outlive a file that is lost
        super()._open()

    def close(self) -> None:
        """Close the connection, and give up its lines."""
        self._claims.clear()
        super().close()

    def _holder(self, line: str) -> str:
        rows = self._read("SELECT value FROM meta WHERE key = ?", (f"held {line}",))
        return str(rows[0][0]) if rows else "another process"
