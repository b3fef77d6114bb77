"""How many connections may be open, and for how long one may say nothing.

The page runs in the process that watches the line. Connections that are opened and left alone would take the files that a process may have
open, and the line could not open its own any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST, MOST_OF_ONE = 1000, 50
SAYS_S = 10.0  # for a whole request


def most_connections() -> int:
    """Half of the files that this process may have open, and 1000 at most."""
    if os.name == "nt":
        return MOST
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)


def connection_class(most: int, most_of_one: int, shared: Callable[[str], bool], says_s: float = SAYS_S) -> type[H11Protocol]:
    """A connection of uvicorn with bounds: so many in all, so many of one address, so many seconds for a request.

    `shared`: whether many people come from this address, as from a proxy, so that only the bound on all holds.
    """

    class Bounded(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
            super().connection_made(transport)
            host = self.client[0] if self.client else ""
            if len(self.connections) > most or (not shared(host) and self._open_from(host) > most_of_one):
                transport.abort()
                return
            self._wait_for_more()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_more()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _open_from(self, host: str) -> int:
            return sum(isinstance(each, Bounded) and each.client is not None and each.client[0] == host for each in self.connections)

        def _wait_for_more(self) -> None:
            """While the other side is still to say something, it has `says_s` for it, however it cuts that into pieces."""
            if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
                self._stop_waiting()
            elif self._timer is None and not self.transport.is_closing():
                self._timer = self.loop.call_later(says_s, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Bounded
