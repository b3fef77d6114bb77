"""A connection to an MQTT broker that sinks keep between two events."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import AfterValidator, Field

from anomaly.alarms.sinks.base import SinkSettings, read_secret
from anomaly.buses.backoff import backoff_s
from anomaly.buses.mqtt import Broker, MqttLink
from anomaly.errors import SinkError, SpecError

LOOK_S = 0.5  # between two looks at a connection that nobody uses
MOST_STEPS = 50  # in one look
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
Made = TypeVar("Made")


def checked_broker(url: str) -> str:
    """A broker's URL. Raises ValueError saying what is wrong with it, without the URL."""
    Broker.from_uri(url)
    if url.partition("://")[2].partition("/")[2] or "?" in url:
        raise ValueError("only the broker stands in the URL: mqtt://[USER@]HOST[:PORT]; the topic has keys of its own")
    return url


class BrokerSettings(SinkSettings):
    """The keys of every sink that speaks MQTT."""

    url: str = Field(description="mqtt://[USER@]HOST[:PORT], mqtts:// for TLS")
    password_env: str | None = Field(None, description="environment variable that holds the user's password")
    ca: Path | None = Field(None, description="PEM file of the authority that signed the broker's certificate")

    def broker(self, where: Path) -> Broker:
        """The broker that is meant. Raises SpecError."""
        return Broker.from_uri(self.url, "" if self.password_env is None else read_secret(where, self.password_env), self.ca)

    def made(self, where: Path, make: Callable[[], Made]) -> Made:
        """What `make` gives, with what it lacks said as SpecError: a package, or a file of certificates."""
        try:
            return make()
        except ImportError as error:
            raise SpecError(f"sink {self.name!r} needs {error.name}; run: pip install 'anomaly-pipeline[mqtt]'") from error
        except OSError as error:  # also ssl.SSLError
            raise SpecError(f"{where}: sink {self.name!r}, key `ca`: {self.ca}: {error}") from error


class KeptLink:
    """Opened at its first use. A thread answers the broker between two uses and, with `stay`, opens the connection again when it is lost.

    Whoever uses the connection drives it, so nothing depends on that thread. One that has ended is begun anew at the next use.
    """

    def __init__(
        self, name: str, make: Callable[[], MqttLink], begin: Callable[[MqttLink, float], None], timeout_s: float, stay: bool
    ) -> None:
        """`make`: a new connection. `begin(link, timeout_s)`: what is to be said once it is open."""
        self._name, self._make, self._begin, self._timeout_s, self._stay = name, make, begin, timeout_s, stay
        self._link: MqttLink | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        make()  # a package or certificate that is missing is seen now

    @contextmanager
    def use(self) -> Iterator[tuple[MqttLink, Callable[[], float]]]:
        """The open connection, and the seconds that are left of the time limit. Raises SinkError when it cannot be opened or is lost."""
        deadline = time.monotonic() + self._timeout_s
        if not self._lock.acquire(timeout=self._timeout_s):
            raise SinkError(f"{self._name}: the connection is still being opened")
        try:
            self._watch()
            yield self._opened(deadline), lambda: max(deadline - time.monotonic(), 0.05)
        except ConnectionError as error:
            self._drop()
            raise SinkError(f"{self._name}: {error}") from error
        except BaseException:
            self._drop()
            raise
        finally:
            self._lock.release()

    def begin(self) -> None:
        """Have the thread open the connection, without waiting for it."""
        self._watch()

    def close(self, farewell: Callable[[MqttLink], None] | None = None) -> None:
        """End the connection, with a last word where there is one."""
        self._stop.set()
        if self._lock.acquire(timeout=self._timeout_s):
            try:
                if self._link is not None and farewell is not None:
                    with contextlib.suppress(ConnectionError):
                        farewell(self._link)
                self._drop()
            finally:
                self._lock.release()

    def _opened(self, deadline: float) -> MqttLink:
        if self._link is None:
            link = self._make()
            try:
                link.open(max(deadline - time.monotonic(), 0.05))
                self._begin(link, max(deadline - time.monotonic(), 0.05))
            except BaseException:
                link.close()
                raise
            self._link = link
        return self._link

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _watch(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep, name=f"link {self._name}", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        failures, again_at = 0, 0.0
        while not self._stop.wait(LOOK_S):
            if not self._lock.acquire(blocking=False):
                continue  # in use
            try:
                if self._link is not None:
                    for _ in range(MOST_STEPS):
                        self._link.step(0.0)
                    failures = 0
                elif self._stay and not self._stop.is_set() and time.monotonic() >= again_at:
                    self._opened(time.monotonic() + self._timeout_s)
            except Exception:  # the next use says what is wrong; here it is only tried again
                self._drop()
                failures += 1
                again_at = time.monotonic() + backoff_s(failures, random.random(), FIRST_RETRY_S, LONGEST_RETRY_S)  # noqa: S311 - jitter
            finally:
                self._lock.release()


BrokerUrl = AfterValidator(checked_broker)
