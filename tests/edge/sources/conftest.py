"""Schemas, and records gathered from a source that runs in a thread."""

from __future__ import annotations

from anomaly.data.records import Record
from anomaly.edge.sources.base import Source
from anomaly.schema import Channel, InputSchema
from tests.edge.conftest import until

SCHEMA = InputSchema(
    name="window", dtype="float32", channels=2, window=3, period_s=1.0, max_gap_s=10,
    sensors=[Channel(name="a"), Channel(name="b", high=50)],
)  # fmt: skip


IMAGE = InputSchema(name="image", dtype="uint8", channels=3)


def gather(source: Source, count: int, seconds: float = 20.0) -> list[Record]:
    found: list[Record] = []

    def enough() -> bool:
        found.extend(source.poll(100).records)
        return len(found) >= count

    until(enough, seconds)
    return found
