"""Which source a URI names: a table of schemes.

A row imports its source only when it is opened, so that a plant needs no more client libraries than it uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly.data.files import PICTURES, TABLES, walk_files
from anomaly.edge.kinds import kind_of
from anomaly.edge.sources.base import Source
from anomaly.errors import SpecError
from anomaly.schema import InputSchema


@dataclass(frozen=True)
class Request:
    """What a source is opened for. `path` is the URI without its scheme; `known(id)` tells records handled before a restart.

    `finished`: what is there is all that is waited for.
    """

    uri: str
    path: str
    schema: InputSchema
    known: Callable[[str], bool]
    position: dict[str, Any]
    finished: bool = False


@dataclass(frozen=True)
class Scheme:
    """What a scheme's records are, by the name of the input schema, and how its source is opened."""

    gives: str
    open: Callable[[Request], Source]


def _folder(request: Request) -> Source:
    from anomaly.edge.sources.picture_folder import PictureFolder

    return PictureFolder(Path(request.path), request.schema, request.known)


def _csv(request: Request) -> Source:
    from anomaly.edge.sources.csv_file import CsvSource

    return CsvSource(Path(request.path), request.schema, request.position, finished=request.finished)


def _tables(request: Request) -> Source:
    from anomaly.edge.sources.table_folder import TableFolder

    return TableFolder(Path(request.path), request.schema, request.position)


def _camera(request: Request) -> Source:
    from anomaly.edge.sources.live.camera import CameraFeed

    return CameraFeed(request.uri, request.schema)


def _mqtt(request: Request) -> Source:
    from anomaly.edge.sources.live.mqtt import MqttFeed

    return MqttFeed(request.uri, request.schema)


def _kafka(request: Request) -> Source:
    from anomaly.edge.sources.live.kafka import KafkaFeed

    return KafkaFeed(request.uri, request.schema, request.position)


def _opcua(request: Request) -> Source:
    from anomaly.edge.sources.live.opcua import OpcUaFeed

    return OpcUaFeed(request.uri, request.schema)


SCHEMES: dict[str, Scheme] = {
    "folder": Scheme("image", _folder),
    "rtsp": Scheme("image", _camera),
    "rtsps": Scheme("image", _camera),
    "http": Scheme("image", _camera),
    "https": Scheme("image", _camera),
    "camera": Scheme("image", _camera),
    "gst": Scheme("image", _camera),
    "csv": Scheme("window", _csv),
    "tables": Scheme("window", _tables),
    "mqtt": Scheme("window", _mqtt),
    "mqtts": Scheme("window", _mqtt),
    "kafka": Scheme("window", _kafka),
    "kafkas": Scheme("window", _kafka),
    "opc.tcp": Scheme("window", _opcua),
}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.+-]+:")  # of two letters or more: one is a drive of Windows


def open_source(uri: str, schema: InputSchema, known: Callable[[str], bool], position: dict[str, Any], *, finished: bool = False) -> Source:
    """A source by URI. Pictures: `folder:PATH`, `rtsp://…`, `http(s)://…`, `camera:NUMBER`, `gst:PIPELINE`. Readings: `csv:PATH`,
    `tables:FOLDER`, `mqtt(s)://HOST/TOPIC`, `kafka(s)://HOST/TOPIC`, `opc.tcp://HOST:PORT/?under=NODE`. For a plain path the kind of
    input decides by what lies there.

    `known(id)` tells records handled before a restart; `position` is where the last poll that was stored ended, {} at first.
    `finished`: what is there is all that is waited for, so that the last row of a file counts also where nothing ends its line.

    Raises SpecError when the source can never do for the bundle, DataError when what is there does not fit it, SourceError when nothing is
    there yet.
    """
    row, path = check_source(uri, schema)
    try:
        return row.open(Request(uri, path, schema, known, position, finished))
    except ValueError as error:  # a port that is no number, say
        raise SpecError(f"--source {uri}: {error}") from error


def check_source(uri: str, schema: InputSchema) -> tuple[Scheme, str]:
    """How a source is opened, and its path, by its URI. Raises SpecError when it can never do for a detector that takes such an input."""
    kind = kind_of(schema.name)
    scheme, _, path = uri.partition(":")
    if scheme not in SCHEMES and _SCHEME.match(uri) and not os.path.lexists(uri):
        raise SpecError(f"--source {uri}: no scheme {scheme!r} is known; known are {', '.join(SCHEMES)}, or a plain path")
    if scheme not in SCHEMES:
        scheme, path = kind.scheme_of_path(Path(uri)), uri
    row = SCHEMES[scheme]
    if row.gives != schema.name:
        raise SpecError(f"--source {uri}: this bundle takes {kind.accepts}")
    if not path:
        raise SpecError(f"--source {uri}: nothing is named after the colon; write {scheme}:PATH or {scheme}://HOST")
    if scheme == "tables" and _holds_pictures_alone(Path(path)):
        raise SpecError(f"--source {uri}: a folder of pictures, and this bundle takes {kind.accepts}")
    return row, path


def _holds_pictures_alone(folder: Path) -> bool:
    return any(True for _ in walk_files(folder, PICTURES)) and not any(True for _ in walk_files(folder, TABLES))
