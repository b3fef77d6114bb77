"""The kinds of input at the edge, one row each: what differs between pictures and sensor windows once a detector runs.

A row belongs to a name of the input schema, which is also the name of the graph's input. A further kind is one more row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.alarms.life import Settings
from anomaly.alarms.process import Rules
from anomaly.alarms.quality import Repeats, constant_rows, repeated_pictures
from anomaly.alarms.wording import explain_contribution, explain_map
from anomaly.bundle.manifest import Manifest
from anomaly.data.files import PICTURES, TABLES
from anomaly.data.records import Record
from anomaly.data.tables.windows import Run
from anomaly.edge.scoring.pictures import score_picture
from anomaly.edge.scoring.tables import score_table_file
from anomaly.errors import BundleError
from anomaly.schema import AlarmSettings, InputSchema

Records = Sequence[Record[NDArray[Any]]]


@dataclass(frozen=True)
class EdgeKind:
    """What the edge needs to know of a kind of input.

    output: the name of the graph's third output, beside `score` and `p_value`
    records_per_poll: the most records of one poll, which is what a crash repeats
    records_per_run: the most records that go through the graph together
    accepts: which sources fit, in words for an error message
    scheme_of_path: the URI scheme that a path without one stands for
    explain: (third output for one record, input schema) -> what an alarm's event says of the cause
    find_frozen: (repeats so far, records, input schema) -> (repeats, why the source counts as frozen, "" while it does not)
    last_rows: records (n) -> the row (n, C) that each ends with and the row before it; None for a kind without sensors
    score_file: (run, input schema, file) -> one row a record: record, score, p_value, what each is made of, and more that is worth printing
    suffixes: lower-case endings of the files that hold its records
    by_sensor: the third output is what each sensor adds to the score
    """

    output: str
    records_per_poll: int
    records_per_run: int
    accepts: str
    scheme_of_path: Callable[[Path], str]
    explain: Callable[[NDArray[np.float32], InputSchema], dict[str, Any]]
    find_frozen: Callable[[Repeats, Records, InputSchema], tuple[Repeats, str]]
    last_rows: Callable[[Records], tuple[NDArray[np.float32], NDArray[np.float32]]] | None = None
    by_sensor: bool = False
    score_file: Callable[[Run, InputSchema, Path], pd.DataFrame] | None = None
    suffixes: frozenset[str] = frozenset()


def _scheme_of_pictures(path: Path) -> str:
    return "folder" if path.is_dir() else "csv"  # a file is no source of pictures: the error then says what is


def _scheme_of_rows(path: Path) -> str:
    return "tables" if path.is_dir() else "csv"


def _explain_picture(detail: NDArray[np.float32], schema: InputSchema) -> dict[str, Any]:
    return explain_map(detail)


def _explain_window(detail: NDArray[np.float32], schema: InputSchema) -> dict[str, Any]:
    return explain_contribution(detail, [sensor.name for sensor in schema.sensors])


def _frozen_picture(before: Repeats, records: Records, schema: InputSchema) -> tuple[Repeats, str]:
    return repeated_pictures(before, [record.payload for record in records])


def _frozen_window(before: Repeats, records: Records, schema: InputSchema) -> tuple[Repeats, str]:
    return before, constant_rows(records[-1].payload, schema.window or 1)


def _last_rows(records: Records) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows: NDArray[np.float32] = np.stack([record.payload[-1] for record in records])
    none = np.full_like(rows[0], np.nan)
    return rows, np.stack([record.payload[-2] if len(record.payload) > 1 else none for record in records])


KINDS: dict[str, EdgeKind] = {
    "image": EdgeKind(
        output="map",
        records_per_poll=8,  # pictures are large
        records_per_run=8,
        accepts="pictures: give a folder or a camera",
        scheme_of_path=_scheme_of_pictures,
        explain=_explain_picture,
        find_frozen=_frozen_picture,
        score_file=score_picture,
        suffixes=PICTURES,
    ),
    "window": EdgeKind(
        output="contribution",
        records_per_poll=1024,
        records_per_run=64,
        accepts="sensor rows: give a CSV, tables, mqtt, kafka or opc.tcp",
        scheme_of_path=_scheme_of_rows,
        explain=_explain_window,
        find_frozen=_frozen_window,
        last_rows=_last_rows,
        by_sensor=True,
        score_file=score_table_file,
        suffixes=TABLES,
    ),
}


def rules_of(manifest: Manifest, detector: str, settings: AlarmSettings | None = None) -> Rules:
    """By which the scores of a bundle become alarms; `detector` is its hash, `settings` are taken in place of its own."""
    asked, schema = settings or manifest.alarm, manifest.input
    values = {name: getattr(asked, name) for name in AlarmSettings.model_fields}
    return Rules(Settings(threshold=manifest.threshold.p_value, **values), (schema.window or 0) * (schema.period_s or 0.0), detector)


def kind_of(name: str) -> EdgeKind:
    """The row of an input's name. Raises BundleError for a name without one."""
    try:
        return KINDS[name]
    except KeyError:
        raise BundleError(f"the detector takes {name!r}, which this version does not know; it knows {', '.join(KINDS)}") from None
