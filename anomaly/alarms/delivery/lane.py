"""One sink's lane: its own thread, its own view of the outbox, its own back-off. Nothing that a sink does holds up another lane."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anomaly.alarms.delivery.caller import Caller
from anomaly.alarms.delivery.plan import MINUTE_S, Message, make_plan
from anomaly.alarms.sinks.base import Route
from anomaly.alarms.store import Store, Waiting
from anomaly.buses.backoff import backoff_s
from anomaly.errors import SinkError, StoreError

LOOK_S = 1.0  # between two looks for events of other processes
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 300.0  # of one event
FAILURES, FIRST_REST_S, LONGEST_REST_S = 3, 0.5, 60.0  # failed tries in a row from which on the whole lane rests between two tries
MAX_ATTEMPTS = 200  # of one event, while the sink takes others; then a dead letter
SETTLE_EVERY, SETTLE_S = 50, 0.25  # what was taken is written down after so many messages, or seconds
log = logging.getLogger("anomaly.delivery")


@dataclass
class LaneStatus:
    """How a lane stands. `failing_since`: the first failed try, or trouble with the store, since it last took something."""

    sink: str
    taken: int = 0
    last_success: float | None = None
    failing_since: float | None = None
    error: str = ""
    restarts: int = 0


@dataclass
class Lane:
    """Delivers what waits for one sink until told to stop. `attempt` is one look at the outbox; `run` is the thread's loop around it."""

    route: Route
    open_store: Callable[[], Store]
    clock: Callable[[], float] = time.time
    random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.status = LaneStatus(self.route.name)
        self.ended = False
        self._caller = Caller(self.route, self._told)
        self._store: Store | None = None
        self._wake = threading.Event()
        self._closing_at: float | None = None  # on the monotonic clock
        self._sent: deque[float] = deque()
        self._held: set[int] = set()
        self._failures = 0  # in a row
        self._rest_until = 0.0
        self._again_at = 0.0
        self._seen: tuple[int, int] | None = None
        self._taken: list[Waiting] = []
        self._settled_at = 0.0

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    def close(self, within_s: float) -> None:
        """Send what is due, for so many seconds at most, and end."""
        self._closing_at = time.monotonic() + within_s
        self._wake.set()

    def run(self) -> None:
        """Deliver until closed. Whatever goes wrong, in the store or here, is noted and tried again."""
        store: Store | None = None
        troubles, trouble = 0, ""
        while True:
            try:
                store = store or self.open_store()
                store.refresh()
                at = self.attempt(store)
                if troubles and self.status.error == trouble:
                    self.status.failing_since, self.status.error = None, ""
                troubles = 0
                if self._closing_at is not None and (at > self.clock() + self._left_s() or self._failures >= FAILURES):
                    break
                self._wait(at)
            except Exception as error:  # a lane never ends by itself
                troubles, trouble = troubles + 1, str(error) or type(error).__name__
                self._note_failure(trouble)
                log.log(logging.WARNING if isinstance(error, StoreError) else logging.ERROR, "sink %s: %s", self.route.name, error,
                        exc_info=None if isinstance(error, StoreError) else error)  # fmt: skip
                if self._left_s() <= 0:
                    break
                self._seen = None
                self._wake.wait(min(backoff_s(troubles, self.random.random(), 0.25, 5.0), self._left_s()))
                self._wake.clear()
        self._caller.close()
        if store is not None:
            store.close()
        self.ended = True

    def attempt(self, store: Store) -> float:
        """Send what is due now; returns when to look again, which is never later than when something new comes."""
        now, self._store = self.clock(), store
        self._settle(store)
        self._caller.begin()
        if now < self._rest_until:
            return self._rest_until
        seen = store.pressing(self.route.name)
        if seen == self._seen and now < self._again_at:
            return self._again_at
        rows = store.waiting(self.route.name, now, whole=self._needs_all())
        while self._sent and self._sent[0] <= now - MINUTE_S:
            self._sent.popleft()
        plan = make_plan(rows, self.route.routing, now, list(self._sent), self._held)
        for state, left in plan.leave_out.items():
            store.settle(left, state)
        try:
            self._send(store, plan.send)
        finally:
            self._settle(store)
        self._seen, self._again_at = store.pressing(self.route.name), min(plan.again_at, store.next_due(self.route.name, now))
        if plan.send:  # what was not sent of it, and what failed, is looked at again
            self._again_at = 0.0
        return max(self._rest_until, self._again_at)

    def _told(self) -> list[str]:
        return [] if self._store is None else self._store.told_last(self.route.name)

    def _needs_all(self) -> bool:
        routing = self.route.routing
        return routing.newest_only or routing.max_per_minute is not None or routing.quiet is not None

    def _send(self, store: Store, messages: Sequence[Message]) -> None:
        """Try each once. What failed holds up what comes later of the same alarm; too many failures end it."""
        held: set[str] = set()
        for message in messages:
            alarms = {row.alarm for row in message.rows}
            if self._left_s() <= 0 or self._rest_until > self.clock():
                return
            if not held & alarms and not self._try(store, message):
                held |= alarms

    def _try(self, store: Store, message: Message) -> bool:
        """One message. Returns whether it is done with: taken, or refused for good."""
        try:
            self._caller.send(message.body, message.id, self._left_s() if self._closing_at is not None else None)
        except SinkError as error:
            self._settle(store)
            self._failed(store, message, error)
            return error.permanent
        self._taken += message.rows
        self._sent.append(self.clock())
        if len(self._taken) >= SETTLE_EVERY or time.monotonic() - self._settled_at > SETTLE_S or self._failures:
            self._settle(store)
        if self._failures >= FAILURES:
            store.retry_now(self.route.name)  # the sink is back: nothing waits for its own turn any longer
        self._failures, self._rest_until = 0, 0.0
        self.status.taken += len(message.rows)
        self.status.last_success, self.status.failing_since, self.status.error = self.clock(), None, ""
        return True

    def _failed(self, store: Store, message: Message, error: SinkError) -> None:
        now = self.clock()
        self._note_failure(str(error))
        if error.permanent:
            self._failures = 0  # it answers
            self._give_up(store, message, str(error))
            return
        self._failures += 1
        attempts, jitter = max(row.attempts for row in message.rows), self.random.random()
        last = self._failures < FAILURES and attempts + 1 >= MAX_ATTEMPTS
        wait = backoff_s(attempts, jitter, FIRST_RETRY_S, LONGEST_RETRY_S)
        if error.retry_after_s is not None:
            wait = error.retry_after_s
            self._rest_until = now + wait
        elif self._failures >= FAILURES:
            rest = backoff_s(self._failures - FAILURES, jitter, FIRST_REST_S, LONGEST_REST_S)
            self._rest_until, wait = now + rest, 2 * rest  # so that the next try is of another event: this one may be the reason
        if last:
            self._give_up(store, message, str(error))
        else:
            store.failed(message.rows, str(error), now + wait)

    def _give_up(self, store: Store, message: Message, error: str) -> None:
        """What is refused for good is a dead letter; but for a sign of life, which must not come later, when there may be no life."""
        if all(fact.kind == "line.heartbeat" for fact in message.facts):
            store.settle(message.rows, "superseded")
        else:
            store.failed(message.rows, error, None)

    def _settle(self, store: Store) -> None:
        self._settled_at = time.monotonic()
        if self._taken:
            taken, self._taken = self._taken, []
            try:
                store.settle(taken, "delivered")
            except StoreError:
                self._taken = taken + self._taken
                raise

    def _note_failure(self, error: str) -> None:
        self.status.error = error
        if self.status.failing_since is None:
            self.status.failing_since = self.clock()

    def _left_s(self) -> float:
        return math.inf if self._closing_at is None else self._closing_at - time.monotonic()

    def _wait(self, at: float) -> None:
        seconds = min(max(at - self.clock(), 0.0), LOOK_S, max(self._left_s(), 0.0))
        if seconds > 0:
            self._wake.wait(seconds)
        self._wake.clear()


def store_at(path: Path) -> Callable[[], Store]:
    """Opens the store at a path: each lane has a connection of its own."""
    return lambda: Store(path)
