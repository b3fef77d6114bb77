"""A source that is opened again and again, and gives once more what a line could not handle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.data.records import Record, Rejected
from anomaly.edge.sources.base import Poll
from anomaly.edge.sources.supervised import LONGEST_RETRY_S, SupervisedSource
from anomaly.errors import DataError, SourceError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A source of numbered records, at a position that whoever handles them keeps."""

    def __init__(self, count: int = 0) -> None:
        self.count, self.at, self.opened, self.fault = count, 0, 0, None

    def open(self) -> Shelf:
        self.opened += 1
        if isinstance(self.fault, SourceError | DataError):
            raise self.fault
        return self

    def poll(self, limit: int) -> Poll:
        if self.fault is not None:
            raise self.fault
        stop = min(self.at + limit, self.count)
        records = [Record(str(i), float(i), np.zeros(1)) for i in range(self.at, stop)]
        self.at = stop
        return Poll(records, position={"at": stop})

    def close(self) -> None:
        raise RuntimeError("closing fails too")


def supervised(shelf: Shelf, clock: Clock, patient: bool = True) -> SupervisedSource:
    return SupervisedSource(shelf.open, patient=patient, clock=clock, jitter=lambda: 1.0)


def test_a_source_that_is_not_there_yet_is_waited_for_and_said() -> None:
    shelf, clock = Shelf(3), Clock()
    shelf.fault = SourceError("feed.csv: not there")
    with pytest.raises(SourceError):
        supervised(shelf, clock, patient=False)
    source = supervised(shelf, clock)
    assert source.poll(10).trouble == "feed.csv: not there"
    for _ in range(1000):
        clock.now += 1.0
        assert source.poll(10).trouble == "feed.csv: not there"
    assert shelf.opened < 30  # with back-off
    shelf.fault = None
    clock.now += LONGEST_RETRY_S
    found = source.poll(10)
    assert (len(found.records), found.trouble) == (3, "")


def test_a_source_that_can_never_do_is_an_error_at_once() -> None:
    shelf = Shelf()
    shelf.fault = DataError("columns are missing")
    with pytest.raises(DataError):
        supervised(shelf, Clock())


def test_a_poll_that_raises_is_trouble_and_the_source_is_opened_anew() -> None:
    shelf, clock = Shelf(5), Clock()
    source = supervised(shelf, clock)
    shelf.fault = ZeroDivisionError("in a client library\n\x1b[31mred")
    found = source.poll(10)
    assert found.trouble == "ZeroDivisionError: in a client library"
    assert found.records == []
    shelf.fault = None
    assert source.poll(10).trouble  # not yet
    clock.now += 1
    assert len(source.poll(10).records) == 5
    assert shelf.opened == 2


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=3), st.integers(1, 16))
def test_records_that_cannot_be_handled_are_set_aside_and_all_others_are_handled_in_order(count: int, poison: set[int], limit: int) -> None:
    shelf, clock = Shelf(count), Clock()
    source = supervised(shelf, clock)
    handled: list[str] = []
    rejected: list[Rejected] = []
    positions: list[int] = []

    def handle(poll: Poll) -> None:
        if any(int(record.id) in poison for record in poll.records):
            raise ValueError("poison")
        handled.extend(record.id for record in poll.records)
        rejected.extend(poll.rejected)
        if poll.position:
            positions.append(poll.position["at"])

    for _ in range(400):
        clock.now += LONGEST_RETRY_S
        poll = source.poll(limit)
        try:
            handle(poll)
        except ValueError as error:
            source.failed(error)
    wrong = sorted(number for number in poison if number < count)
    assert handled == [str(i) for i in range(count) if i not in wrong]
    assert [record.id for record in rejected] == [str(i) for i in wrong]
    assert all("could not be handled: ValueError: poison" in record.reason for record in rejected)
    assert positions == sorted(positions)
    assert positions[-1] == count


def test_the_position_is_given_with_the_last_part_only() -> None:
    shelf, clock = Shelf(8), Clock()
    source = supervised(shelf, clock)
    source.poll(8)
    source.failed(RuntimeError("the store"))
    parts: list[tuple[Sequence[str], dict]] = []
    for _ in range(3):
        clock.now += 1
        poll = source.poll(8)
        parts.append(([record.id for record in poll.records], poll.position))
    assert parts == [(["0", "1", "2", "3"], {}), (["4", "5", "6", "7"], {"at": 8}), ([], {"at": 8})]


def test_a_failure_that_has_nothing_to_do_with_records_loses_none() -> None:
    shelf, clock = Shelf(2), Clock()
    source = supervised(shelf, clock)
    source.failed(RuntimeError("before the first poll"))
    seen = []
    for _ in range(6):
        clock.now += 60
        seen += [record.id for record in source.poll(8).records]
    assert seen == ["0", "1"]
