"""A source that never raises: it is opened again and again while it is not there, and what a line could not handle is given once more."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import replace

from anomaly.buses.backoff import backoff_s
from anomaly.data.records import Rejected
from anomaly.edge.sources.base import Poll, Source
from anomaly.errors import SourceError, in_words

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 60.0
TRIES = 3  # of one record by itself, before it is set aside


class SupervisedSource:
    """Wraps a source. While it cannot be opened, or fails in a way it should not, the poll says so as `trouble` and it is tried again.

    Records that the line fails on are given again in halves, until the one that causes it is alone. That one is set aside.
    """

    def __init__(
        self,
        open_: Callable[[], Source],
        *,
        patient: bool = True,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`open_`: opens the source at the position that is stored when it is called. Opened at once.

        Raises DataError when the source can never do. When it is not there yet, it is waited for, or SourceError raised if not `patient`.
        """
        self._open, self._clock, self._jitter = open_, clock, jitter
        self._source: Source | None = None
        self._given: Poll | None = None  # by the last poll, and not known to be handled
        self._left: Poll | None = None  # to be given again
        self._at_once = 0  # records of it
        self._failures = 0
        self._alone = 0  # failures of a single record
        self._not_before = -1e300
        self.trouble = ""
        try:
            self._source = open_()
        except SourceError as error:
            if not patient:
                raise
            self._wait(str(error))

    def poll(self, limit: int) -> Poll:
        """What the source gives; what was given before counts as handled by now, unless `failed` was called."""
        if self._given is not None:
            self._given, self._failures, self._alone = None, 0, 0
        if self._clock() < self._not_before:
            return Poll(waiting=True, trouble=self.trouble)
        if self._left is not None:
            self._given = self._part(self._left)
            return self._given
        try:
            if self._source is None:
                self._source = self._open()
            found = self._source.poll(limit)
        except Exception as error:  # one that it should not raise: opened anew, where the stored position says
            self._close()
            self._wait(in_words(error))
            return Poll(waiting=True, trouble=self.trouble)
        self.trouble, self._given = "", found
        return found

    def failed(self, error: BaseException) -> None:
        """The line could not handle what the last poll gave: it is given again after a while."""
        given, left, why = self._given or Poll(), self._left, in_words(error)
        if left is not None:  # a part of it
            given = replace(left, records=[*given.records, *left.records])
        count = len(self._given.records) if self._given else 0
        self._alone += count == 1
        if self._alone >= TRIES:
            record = given.records[0]
            aside = Rejected(record.id, record.time, f"{record.id}: could not be handled: {why}")
            given = replace(given, records=given.records[1:], rejected=[*given.rejected, aside])
            self._alone = 0
        self._left, self._at_once, self._given = given, max(1, count // 2), None
        self._wait(why)

    def close(self) -> None:
        """Release what the source holds."""
        self._close()

    def _part(self, left: Poll) -> Poll:
        """The next records of what is left, and with the last of them all the rest of it. The position is that after all."""
        now, then = left.records[: self._at_once], left.records[self._at_once :]
        if then:
            self._left = replace(left, records=then)
            return Poll(now, waiting=True)
        self._left = None
        return replace(left, records=now)

    def _wait(self, why: str) -> None:
        self.trouble = why
        self._not_before = self._clock() + backoff_s(self._failures, self._jitter(), FIRST_RETRY_S, LONGEST_RETRY_S)
        self._failures += 1

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            with contextlib.suppress(Exception):  # it is given up anyway
                source.close()
