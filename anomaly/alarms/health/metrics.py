"""Metrics for Prometheus, made from the board when they are asked for: the loop itself counts whole numbers and nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from anomaly import __version__
from anomaly.alarms.health.board import Board
from anomaly.alarms.health.line import LineHealth
from anomaly.names import one_line

AGAIN_S = 1.0  # asked sooner, the same text is given once more
COUNTERS = {  # attribute of a line's health -> what it counts
    "scored": "Records scored since the start.",
    "flagged": "Records at or below the threshold's p-value.",
    "rejected": "Records set aside, since they could not be read.",
    "dropped": "Records that a full queue of a live source let go.",
    "opened": "Process alarms that opened.",
    "closed": "Process alarms that closed.",
}


class Text(NamedTuple):
    """An answer to a scrape."""

    body: bytes
    kind: str


class Metrics(Collector):
    """Everything on the board, in a registry of its own."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._lock = threading.Lock()
        self._last: tuple[float, Text] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def text(self) -> Text:
        """The metrics as Prometheus reads them. Made once a second at most."""
        with self._lock:
            now = self.board.clock()
            if self._last is None or not 0 <= now - self._last[0] < AGAIN_S:
                self._last = (now, Text(generate_latest(self._registry), CONTENT_TYPE_LATEST))
            return self._last[1]

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are not looked up before there are lines."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families, one after the other."""
        yield InfoMetricFamily("anomaly_build", "The version that runs.", {"version": __version__})
        yield from self._counters()
        yield self._seconds()
        yield from self._lines()
        yield from self._store()
        yield from self._sinks()

    def _counters(self) -> Iterator[Metric]:
        for name, what in COUNTERS.items():
            prefix = "anomaly_alarms" if name in ("opened", "closed") else "anomaly_records"
            family = CounterMetricFamily(f"{prefix}_{name}", what, labels=["line"])
            for line in self._all():
                family.add_metric([one_line(line.line)], getattr(line, name))
            yield family

    def _seconds(self) -> Metric:
        text = "Seconds from polling a record to its score and events being stored."
        family = HistogramMetricFamily("anomaly_record_seconds", text, labels=["line"])
        for line in self._all():
            buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in line.seconds.cumulative()]
            family.add_metric([one_line(line.line)], buckets, line.seconds.total)
        return family

    def _lines(self) -> Iterator[Metric]:
        lines = self._all()
        stuck = set(self.board.stuck())
        yield _gauge("anomaly_line_ready", "1 when bundle, source and store are there.", {x.line: float(not x.missing()) for x in lines})
        yield _gauge("anomaly_line_stuck", "1 when the line's loop hangs.", {x.line: float(x.line in stuck) for x in lines})
        yield _gauge("anomaly_source_up", "1 when the source can be reached.", {x.line: float(not x.source) for x in lines})
        lag = "Age of the newest record when it was handled, in seconds."
        yield _gauge("anomaly_source_lag_seconds", lag, {x.line: x.lag_s for x in lines})
        age = "Seconds since a record came; since the start, before the first."
        yield _gauge("anomaly_last_record_age_seconds", age, {x.line: x.last_record_age_s for x in lines})
        yield _gauge(
            "anomaly_last_turn_age_seconds", "Seconds since the loop last ended a turn.", {x.line: x.last_turn_age_s for x in lines}
        )
        drift = "1 while the line's normal data has drifted; below, the evidence for it as a share of what is needed."
        yield _gauge("anomaly_drift", drift, {x.line: x.drift for x in lines})
        info = InfoMetricFamily("anomaly_line", "Which bundle runs where.", labels=["line"])
        for line in lines:
            info.add_metric(
                [one_line(line.line)],
                {"bundle": line.bundle, "bundle_hash": line.bundle_hash, "provider": line.provider, "variant": line.variant},
            )
        yield info

    def _store(self) -> Iterator[Metric]:
        stored = self.board.stored()
        up = not (stored.trouble or self.board.store_trouble())
        yield GaugeMetricFamily("anomaly_store_up", "1 when the store can be read and written.", float(up))
        yield GaugeMetricFamily("anomaly_store_bytes", "Size of the store.", stored.bytes)
        free = GaugeMetricFamily("anomaly_store_free_bytes", "Room on the store's disk.")
        folder = self.board.store.absolute().parent
        if folder.exists():
            free.add_metric([], shutil.disk_usage(folder).free)
        yield free
        alarms = GaugeMetricFamily("anomaly_open_alarms", "Alarms that are open.", labels=["line", "class", "state", "priority"])
        for labels, count in stored.alarms.items():
            alarms.add_metric([one_line(label) for label in labels], count)
        yield alarms

    def _sinks(self) -> Iterator[Metric]:
        outbox, sinks = self.board.stored().outbox, self.board.sinks()
        names = [sink.sink for sink in sinks]
        names += sorted({sink for sink, _ in outbox} - set(names))  # of an earlier start: what waits for them is still told
        for state, name, text in (
            ("waiting", "anomaly_sink_waiting", "Events that wait for a sink."),
            ("dead", "anomaly_sink_dead_letters", "Events that a sink did not take, and that are not tried again."),
        ):
            yield _gauge(name, text, {sink: float(outbox.get((sink, state), 0)) for sink in names}, "sink")
        yield _gauge("anomaly_sink_up", "1 when the lane to a sink works.", {s.sink: float(s.state == "ok") for s in sinks}, "sink")
        text = "Seconds since a sink last took something."
        yield _gauge("anomaly_sink_last_success_age_seconds", text, {sink.sink: sink.last_success_age_s for sink in sinks}, "sink")

    def _all(self) -> list[LineHealth]:
        return list(self.board.lines.values())


def _gauge(name: str, text: str, values: Mapping[str, float | None], label: str = "line") -> Metric:
    """One value a line or sink; those that have none yet are left out."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([one_line(key)], value)
    return family
