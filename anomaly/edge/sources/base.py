"""Where records come from at the edge: what a source is, and which one a URI names.

A source is polled and never blocks. Each poll gives what is new, what could not be read, and the position that a restart
resumes from; the monitor stores all three in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from anomaly.data.records import Record, Rejected
from anomaly.errors import DataError
from anomaly.schema import InputSchema

FILES = ("folder", "csv", "tables")
STREAMS = ("rtsp", "rtsps", "http", "https", "camera", "gst")  # of pictures
BUSES = ("mqtt", "mqtts", "kafka", "kafkas", "opc.tcp")  # of readings


@dataclass
class Poll:
    """What one poll gave. `position` is what to resume from once all of it is stored; `waiting` tells that more is on its way.

    `trouble` says what is wrong with the source at the moment, "" when nothing is; `dropped` counts records that a full queue let go.
    """

    records: list[Record[NDArray[Any]]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    position: dict[str, Any] = field(default_factory=dict)
    waiting: bool = False
    trouble: str = ""
    dropped: int = 0


class Source(Protocol):
    """A place that records come from."""

    def poll(self, limit: int) -> Poll:
        """Up to `limit` new records. Never raises for one bad record, nor while what it reads is away."""
        ...

    def close(self) -> None:
        """Let go of files, connections and threads."""
        ...


def open_source(uri: str, schema: InputSchema, known: Callable[[str], bool], position: dict[str, Any]) -> Source:
    """A source by URI. Pictures: `folder:PATH`, `rtsp://…`, `http(s)://…`, `camera:NUMBER`, `gst:PIPELINE`. Readings: `csv:PATH`,
    `tables:FOLDER`, `mqtt(s)://HOST/TOPIC`, `kafka(s)://HOST/TOPIC`, `opc.tcp://HOST:PORT/?under=NODE`. A plain path is a folder or a CSV,
    told by what is there.

    Raises DataError when it does not fit the bundle, or a file is not there.
    """
    kind, _, rest = uri.partition(":")
    if kind not in (*FILES, *STREAMS, *BUSES):
        kind, rest = _kind_of(Path(uri), schema), uri
    pictures = kind == "folder" or kind in STREAMS
    if pictures != (schema.name == "image"):
        asked = (
            "pictures: give a folder or a camera" if schema.name == "image" else "sensor rows: give a CSV, tables, mqtt, kafka or opc.tcp"
        )
        raise DataError(f"--source {uri}: this bundle takes {asked}")
    if kind == "folder":
        from anomaly.edge.sources.picture_folder import FolderSource

        return FolderSource(Path(rest), schema, known)
    if kind == "csv":
        from anomaly.edge.sources.csv_file import CsvSource

        return CsvSource(Path(rest), schema, position)
    if kind == "tables":
        from anomaly.edge.sources.table_folder import TableFolder

        return TableFolder(Path(rest), schema, position)
    return _live(kind, uri, schema, position)


def _live(kind: str, uri: str, schema: InputSchema, position: dict[str, Any]) -> Source:
    if kind in STREAMS:
        from anomaly.edge.sources.live.camera import CameraFeed

        return CameraFeed(uri, schema)
    if kind == "opc.tcp":
        from anomaly.edge.sources.live.opcua import OpcUaFeed

        return OpcUaFeed(uri, schema)
    if kind in ("kafka", "kafkas"):
        from anomaly.edge.sources.live.kafka import KafkaFeed

        return KafkaFeed(uri, schema, position)
    from anomaly.edge.sources.live.mqtt import MqttFeed

    return MqttFeed(uri, schema)


def _kind_of(path: Path, schema: InputSchema) -> str:
    if path.is_dir():
        return "folder" if schema.name == "image" else "tables"
    return "csv"
