"""Records to answers: records run through the graph together where they can, and a further row of readings costs one window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.data.records import Cut, Record
from anomaly.data.tables.pattern.take_off import without_pattern
from anomaly.edge.kinds import kind_of
from anomaly.edge.runtime.session import Answer, Session


class Answers(NamedTuple):
    """What a detector says of records: score (n,), p_value (n,), detail of each: map (h, w) or contribution (C,)."""

    score: NDArray[np.float32]
    p_value: NDArray[np.float32]
    detail: list[NDArray[np.float32]]


def score(session: Session, records: Sequence[Record[NDArray[Any]]]) -> Answers:
    """The answers for every record, the same as if each ran alone. Records of one shape, or rows of one stretch, run together.

    Detectors of readings may bring a second graph for rows that follow each other: what their windows share is computed once.
    """
    parts: list[Answer] = []
    records = _less_patterns(session, records)
    most = kind_of(session.input_name).records_per_run
    start = 0
    while start < len(records):
        first = records[start]
        if session.streams and first.cut is not None:
            count = _along(records, first.cut, start)
            begin = first.cut.end - len(first.payload)
            parts.append(session.run_stream(first.cut.rows[begin : first.cut.end + count - 1]))
        else:
            count = _alike(records, start, most)
            parts.append(session.run(np.stack([r.payload for r in records[start : start + count]])))
        start += count
    empty = np.empty(0, np.float32)
    scores, p_values = (np.concatenate([empty, *(part[i] for part in parts)]) for i in (0, 1))
    return Answers(scores, p_values, [detail for part in parts for detail in part.detail])


def _less_patterns(session: Session, records: Sequence[Record[NDArray[Any]]]) -> Sequence[Record[NDArray[Any]]]:
    """Windows of readings less the patterns of the detector that scores them: two detectors of one line may have learnt different ones."""
    if all(sensor.pattern is None for sensor in session.sensors):
        return records
    found: list[Record[NDArray[Any]]] = []
    rows = before = None
    for record in records:
        cut = record.cut
        assert cut is not None, "a window of readings says where it was cut from"
        if cut.rows is not before:
            before, rows = cut.rows, without_pattern(cut.times, cut.rows, session.sensors)
        assert rows is not None
        window = rows[cut.end - len(record.payload) : cut.end]
        found.append(replace(record, payload=window, cut=cut._replace(rows=rows)))
    return found


def _alike(records: Sequence[Record[NDArray[Any]]], start: int, most: int) -> int:
    """How many records from `start` on, at most `most`, have one shape and may run together."""
    shape = records[start].payload.shape
    stop = start + 1
    while stop < min(len(records), start + most) and records[stop].payload.shape == shape:
        stop += 1
    return stop - start


def _along(records: Sequence[Record[NDArray[Any]]], cut: Cut, start: int) -> int:
    """How many records from `start` on are windows that end at rows of one stretch which follow each other."""
    stop = start + 1
    while stop < len(records):
        other = records[stop].cut
        if other is None or other.rows is not cut.rows or other.end != cut.end + stop - start:
            break
        stop += 1
    return stop - start
