"""What two detectors flag of the same data: its normal records, made-up faults on these, and its labelled faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle
from anomaly.data.pictures.defects import inject as inject_defect
from anomaly.data.pictures.layouts import find_labelled, find_pictures, has_test
from anomaly.data.pictures.reading import PictureFormat, format_of, read_picture
from anomaly.data.tables.faults import inject as inject_fault
from anomaly.data.tables.files import find_tables, label_of, table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import window_ends, windows_at
from anomaly.edge.runtime.session import Session, open_session
from anomaly.errors import DataError, RecordError
from anomaly.evaluation.metrics import runs
from anomaly.operations.confirmed import unconfirmed
from anomaly.pipeline.report.learnt_from import learnt_pictures, learnt_tables

MOST = 300  # normal records that are judged, spread evenly; as many made-up faults
Pair = tuple[Bundle, Bundle]
Bools = NDArray[np.bool_]


def _none() -> Bools:
    return np.empty((0, 2), bool)


@dataclass
class Flags:
    """Flagged by the champion, by the challenger (n, 2): of normal records, of made-up faults, of labelled faults."""

    normal: Bools = field(default_factory=_none)
    made_up: Bools = field(default_factory=_none)
    labelled: Bools = field(default_factory=_none)
    notes: list[str] = field(default_factory=list)
    learnt: bool = False  # whether the challenger learnt from this data: then it flags fewer of its normals than of new ones

    def named(self) -> dict[str, Bools]:
        """By what they are called."""
        return {"normal records": self.normal, "made-up faults": self.made_up, "labelled faults": self.labelled}


def judge_data(bundles: Pair, data: Path, store: Path | None, line: str | None, seed: int) -> Flags:
    """Both bundles, which take the same input, on a line's data. What lies in unreviewed alarms of the `store` is no normal record.

    Raises DataError when there is no normal record.
    """
    sessions = [open_session(bundle, "cpu") for bundle in bundles]
    return (_pictures if bundles[0].manifest.input.name == "image" else _readings)(bundles, sessions, data, store, line, seed)


def _flagged(bundle: Bundle, session: Session, raw: NDArray[Any]) -> Bools:
    """(n,) of raw records (n, ...)."""
    return np.asarray(session.run(raw)[1] <= bundle.manifest.threshold.p_value)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Places of `most` of `count` things at most, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.empty(0, np.int64)


# --- pictures ---


def _pictures(bundles: Pair, sessions: Sequence[Session], data: Path, store: Path | None, line: str | None, seed: int) -> Flags:
    form, found = format_of(bundles[0].manifest.input), Flags()
    aside = set(unconfirmed(store, line, bundles[0].manifest.input).pictures) if store is not None else set()
    labelled = find_labelled(data) if has_test(data) else ()
    good = [picture.path for picture in labelled if picture.defect is None] or [picture.path for picture in find_pictures(data).train]
    good = [path for path in good if path.name not in aside]
    normal, made_up = [], []
    for number, at in enumerate(_spread(len(good), MOST)):
        raw = _raw(good[at], form, found)
        if raw is None:
            continue
        normal.append(_both(bundles, sessions, raw))
        if raw.dtype == np.uint8:
            made_up.append(_both(bundles, sessions, inject_defect(raw, np.random.default_rng([seed, number]))[0]))
    faulty = [_raw(picture.path, form, found) for picture in labelled if picture.defect is not None]
    found.learnt = learnt_pictures(bundles[1], good) is not None
    if not normal:
        raise DataError(f"{data}: no good part to compare on", *found.notes[:3])
    if not made_up:
        found.notes.append("Pictures of more than 8 bits are compared without made-up faults.")
    found.normal, found.made_up = _stacked(normal), _stacked(made_up)
    found.labelled = _stacked([_both(bundles, sessions, raw) for raw in faulty if raw is not None])
    return found


def _raw(path: Path, form: PictureFormat, found: Flags) -> NDArray[Any] | None:
    try:
        return read_picture(path, form)[0]
    except RecordError as error:
        found.notes.append(f"Left out: {error}.")
        return None


def _both(bundles: Pair, sessions: Sequence[Session], raw: NDArray[Any]) -> list[bool]:
    return [bool(_flagged(bundle, session, raw[None])[0]) for bundle, session in zip(bundles, sessions, strict=True)]


def _stacked(rows: list[list[bool]]) -> Bools:
    return np.array(rows, bool).reshape(-1, 2)


# --- readings ---


def _readings(bundles: Pair, sessions: Sequence[Session], data: Path, store: Path | None, line: str | None, seed: int) -> Flags:
    train, test = find_tables(data)
    rows = bundles[0].manifest.input.window or 1
    spans = unconfirmed(store, line, bundles[0].manifest.input).stretches if store is not None else ()
    found, columns = Flags(), []
    for bundle, session in zip(bundles, sessions, strict=True):  # each takes off its own offsets and patterns
        tables = [read_table(path, table_schema(bundle.manifest.input)) for path in (test or train)]
        columns.append(_readings_of(bundle, session, tables, rows, spans, seed))
        found.learnt = learnt_tables(bundle, tables) is not None  # the last one is the challenger
    found.normal, found.made_up, found.labelled = (np.column_stack(pair) for pair in zip(*columns, strict=True))
    if not len(found.normal):
        raise DataError(f"{data}: no window of {rows} normal rows without a gap to compare on")
    return found


def _readings_of(
    bundle: Bundle, session: Session, tables: Sequence[SensorTable], rows: int, spans: Sequence[tuple[float, float]], seed: int
) -> list[Bools]:
    """Flags of normal windows, of the same with made-up faults, and of labelled stretches (found when any window in them is flagged)."""
    windows, labelled = [], []
    for table in tables:
        label = label_of(table)
        faulty = np.zeros(len(table.times), bool) if label is None else np.asarray(table.labels[label] > 0)
        labelled += [_any_flagged(bundle, session, table, begin, end, rows) for begin, end in runs(faulty)]
        sound = table.usable & ~faulty
        for begin_s, end_s in spans:
            sound &= (table.times < begin_s) | (table.times > end_s)
        ends = window_ends(table.times, sound, rows, table.max_gap_s)[rows - 1 :: rows]  # that share no row
        windows.append(windows_at(table.values, ends, rows))
    normal = np.concatenate(windows)
    normal = normal[_spread(len(normal), MOST)]
    if not len(normal):
        return [np.empty(0, bool)] * 2 + [np.array(labelled, bool)]
    scale = np.nan_to_num(np.nanstd(normal, axis=(0, 1)), nan=0.0).astype(np.float32)
    faults = np.stack([inject_fault(window, np.random.default_rng([seed, number]), scale)[0] for number, window in enumerate(normal)])
    return [_flagged(bundle, session, normal), _flagged(bundle, session, faults), np.array(labelled, bool)]


def _any_flagged(bundle: Bundle, session: Session, table: SensorTable, begin: int, end: int, rows: int) -> bool:
    ends = window_ends(table.times, table.usable, rows, table.max_gap_s)
    ends = ends[(ends >= begin) & (ends < end)]
    return bool(len(ends)) and bool(_flagged(bundle, session, windows_at(table.values, ends[:4096], rows)).any())
