"""Who is signed in. Kept in memory: a restart signs everybody out."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from anomaly.page.auth.roles import Person

Way = Literal["token", "oidc"]
COOKIE = "anomaly_session"
OIDC_COOKIE, OIDC_PATH, OIDC_LASTS_S = "anomaly_oidc", "/api/v1/oidc", 600  # between going to the issuer and coming back
MOST = 10_000  # sessions; the one that was used longest ago goes


@dataclass
class Session:
    """One sign-in. `csrf` goes with each action, in a header that another site's page cannot set.

    sha256: of the token that it was made from, "" without one
    """

    person: Person
    csrf: str
    began: float
    seen: float
    by: Way = "token"
    sha256: str = ""


class Sessions:
    """By an id of 256 random bits. `clock` gives seconds that only grow."""

    def __init__(self, longest_s: float, idle_s: float, clock: Callable[[], float]) -> None:
        self._longest_s, self._idle_s, self._clock = longest_s, idle_s, clock
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def change(self, longest_s: float, idle_s: float, stays: Callable[[Session], bool]) -> None:
        """Other times from now on, and only those sessions that stay."""
        with self._lock:
            self._longest_s, self._idle_s = longest_s, idle_s
            self._known = {id_: session for id_, session in self._known.items() if stays(session)}

    def begin(self, person: Person, by: Way = "token", sha256: str = "") -> tuple[str, Session]:
        """Sign someone in; returns the id for the cookie."""
        id_, now = secrets.token_urlsafe(32), self._clock()
        session = Session(person, secrets.token_urlsafe(32), now, now, by, sha256)
        with self._lock:
            if len(self._known) >= MOST:
                del self._known[min(self._known, key=lambda each: self._known[each].seen)]
            self._known[id_] = session
        return id_, session

    def find(self, id_: str | None, *, touch: bool = True) -> Session | None:
        """The session of an id, None where there is none or it is over. `touch`: the person does something now."""
        if id_ is None:
            return None
        now = self._clock()
        with self._lock:
            session = self._known.get(id_)
            if session is None:
                return None
            if now - session.began > self._longest_s or now - session.seen > self._idle_s:
                del self._known[id_]
                return None
            if touch:
                session.seen = now
            return session

    def end(self, id_: str | None) -> None:
        """Sign out."""
        with self._lock:
            self._known.pop(id_ or "", None)
