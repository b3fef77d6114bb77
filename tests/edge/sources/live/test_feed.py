"""What all live sources share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anomaly.data.records import Record
from anomaly.edge.sources.live.feed import Feed
from anomaly.edge.sources.live.row_feed import RowFeed
from anomaly.errors import SourceError
from tests.edge.conftest import until
from tests.edge.sources.conftest import SCHEMA


def test_a_full_queue_lets_the_oldest_go_and_says_how_many() -> None:
    class Burst(Feed):
        def run(self) -> None:
            self.connected()
            for i in range(100):
                self.put(Record(str(i), float(i), np.zeros(1)))
            self.stopping.wait()
            raise SourceError("gone")

    feed = Burst("burst", 10)
    until(lambda: len(feed._queue) == 10 and feed._dropped == 90)
    poll = feed.poll(100)
    assert [r.id for r in poll.records] == [str(i) for i in range(90, 100)]
    assert poll.dropped == 90
    feed.close()


class Quiet(Feed):
    """Connects and stays, but for what `fault` makes of it."""

    fault: BaseException | None = None

    def run(self) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.connected()
        self.put(Record(str(self.connects), 0.0, np.zeros(1)))
        self.stopping.wait()


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "fault", [SystemExit(1), KeyboardInterrupt(), MuteError(), MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")]
)
def test_a_thread_that_dies_or_fails_is_seen_and_goes_on(fault: BaseException) -> None:
    class Failing(Quiet):
        pass

    Failing.fault = fault
    feed = Failing("f", 10)
    found = []
    until(lambda: found.extend(feed.poll(10).records) or found)
    assert feed.poll(10).trouble == ""
    feed.close()


def test_while_it_is_not_known_whether_something_comes_the_poll_says_so() -> None:
    feed = Quiet("f", 10)
    assert feed.poll(0).waiting
    until(lambda: not feed.poll(10).waiting)
    feed.close()

    class Away(Feed):
        def run(self) -> None:
            raise SourceError("refused")

    away = Away("a", 10)
    until(lambda: not away.poll(10).waiting)
    assert away.poll(10).trouble == "a: refused"
    away.close()


class Rows(RowFeed):
    def run(self) -> None:
        self.connected()
        self.stopping.wait()


@pytest.mark.parametrize(
    "hostile",
    [b'{"time": NaN, "a": 1}', b'{"time": 1e300, "a": 1}', b'{"time": -1e300, "a": 1}', b'{"time": Infinity, "a": 1}', b"1" * 400,
     b'{"a": ' + b"9" * 400 + b"}", b"[" * 100_000, b"\xff\xfe", b"", b"null", b'{"time": 99999999999, "a": 1}'],
)  # fmt: skip
def test_no_message_stops_a_feed_and_the_rows_after_it_are_read(hostile: bytes) -> None:
    feed = Rows("r", SCHEMA)
    for i in range(5):
        feed.message("topic", "a", json.dumps({"time": 1000 + i, "a": 1, "b": 2}).encode(), 1000.0)
    feed.message("topic", "a", hostile, 1005.0)
    for i in range(6, 40):
        feed.message("topic", "a", json.dumps({"time": 1000 + i, "a": 1, "b": 2}).encode(), 1000.0)
    found = feed.poll(1000)
    feed.close()
    assert sum(record.time >= 1008 for record in found.records) >= 29
    assert all(-62_135_596_800 <= item.time <= 253_402_300_799 for item in [*found.records, *found.rejected])


@pytest.mark.parametrize("by", ["rows", "readings"])
def test_a_clock_set_back_by_an_hour_costs_a_live_feed_a_few_rows(by: str) -> None:
    feed = Rows("r", SCHEMA)
    for start in (10_000, 6_400):
        for i in range(100):
            if by == "rows":
                feed.whole_row(start + i, {"a": 1, "b": 2})
            else:
                feed.reading(start + i + 0.5, {"a": 1, "b": 2})
    found = feed.poll(1000)
    feed.close()
    assert len([record for record in found.records if record.time < 9_000]) >= 80
    assert len(found.rejected) <= 12
