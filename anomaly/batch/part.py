"""One part of a plan, scored and left as one Parquet file. A part that is there is whole: it is written beside and renamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from anomaly.atomic import replacing
from anomaly.batch.plan import REJECTED, SCORES, Plan, Segment, read_plan, write_rejected
from anomaly.batch.survey import read_part
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.windows import window_ends
from anomaly.edge.kinds import kind_of
from anomaly.edge.runtime.files import file_scorer, without_details
from anomaly.edge.runtime.session import Provider, Session, open_session
from anomaly.edge.scoring.tables import score_readings
from anomaly.edge.sources.base import EARLIEST, LATEST
from anomaly.errors import DataError, RecordError
from anomaly.names import record_name

RECORDS, FLAGGED, ASIDE, OF = b"anomaly.records", b"anomaly.flagged", b"anomaly.rejected", b"anomaly.plan"
BUNDLE = b"anomaly.bundle"


@dataclass(frozen=True)
class Counts:
    """What a part holds."""

    records: int = 0
    flagged: int = 0
    rejected: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.records + other.records, self.flagged + other.flagged, self.rejected + other.rejected)


def part_path(out: Path, number: int) -> Path:
    """Where a part lies."""
    return out / SCORES / f"part-{number:05}.parquet"


def counts_of(out: Path, plan: Plan, number: int) -> Counts | None:
    """What a part holds that is done, None where it is not, or belongs to another plan."""
    try:
        told = pyarrow.parquet.read_metadata(part_path(out, number)).metadata or {}
        return Counts(*(int(told[key]) for key in (RECORDS, FLAGGED, ASIDE))) if told.get(OF) == plan.id.encode() else None
    except (OSError, ValueError, KeyError):
        return None


@lru_cache(maxsize=1)
def opened(bundle: Path, out: Path, digest: str, provider: Provider) -> tuple[Plan, Bundle, Session]:
    """What is needed for any part, read once in a process. Raises DataError where the bundle is not the plan's any more."""
    held, plan = read_bundle(bundle), read_plan(out)
    if plan.id != digest or held.hash != plan.asked.bundle:
        raise DataError(f"{out}: bundle or plan was changed while parts were scored; run the command again")
    session = open_session(held, provider, threads=1)
    if arithmetic_of(session) != plan.asked.arithmetic:
        raise DataError(f"{out}: begun in other arithmetic ({plan.asked.arithmetic}) than this machine's ({arithmetic_of(session)})")
    return plan, held, session


def arithmetic_of(session: Session) -> str:
    """What decides how scores are rounded."""
    return f"{session.variant} on {session.provider}"


def score_part(bundle: Path, out: Path, digest: str, provider: Provider, number: int) -> Counts:
    """Score one part of the plan with this digest and write it. Raises DataError for a file that has changed since the plan was made."""
    plan, held, session = opened(bundle, out, digest, provider)
    rejected: list[tuple[str, str]] = []
    tables = kind_of(session.input_name).by_sensor
    segments = plan.parts[number]
    frames = _rows(plan, held, session, out, segments) if tables else _pictures(plan, held, session, out, segments, rejected)
    schema = _schema(held, plan.asked.shares)
    made = [_table(frame, held, schema) for frame in frames]
    table = pa.concat_tables([schema.empty_table(), *made])
    counts = Counts(len(table), int(np.asarray(table["flagged"]).sum()), len(rejected))
    told = {OF: plan.id, BUNDLE: held.hash, RECORDS: str(counts.records), FLAGGED: str(counts.flagged), ASIDE: str(counts.rejected)}
    if rejected:
        write_rejected(out / REJECTED / part_path(out, number).name, rejected)
    with replacing(part_path(out, number)) as beside:
        pyarrow.parquet.write_table(table.replace_schema_metadata(told), beside)
    return counts


def _pictures(
    plan: Plan, held: Bundle, session: Session, out: Path, segments: list[Segment], rejected: list[tuple[str, str]]
) -> Iterator[pd.DataFrame]:
    score_file = file_scorer(held, kind_of(session.input_name))
    for number, _, _ in segments:
        file = plan.files[number]
        try:
            with file.local(out) as path:
                frame = without_details(score_file(session.run, held.manifest.input, path))
        except RecordError as error:
            rejected.append((record_name(file.path), str(error)))
            continue
        yield frame.assign(record=record_name(file.path))


def _rows(plan: Plan, held: Bundle, session: Session, out: Path, segments: list[Segment]) -> Iterator[pd.DataFrame]:
    schema = held.manifest.input
    window = schema.window or 1
    for number, begin, end in segments:
        file = plan.files[number]
        with file.local(out, long=True) as path:
            table, first = read_part(path, table_schema(schema), plan.surveyed(out, number), begin, end, window)
        if (window_ends(table.times, table.usable, window, table.max_gap_s) >= first).any():
            yield score_readings(session.run, schema, table, first, record_name(file.path))


def _schema(held: Bundle, shares: bool) -> pa.Schema:
    """The columns of every part."""
    fields = [("record", pa.string()), ("score", pa.float64()), ("p_value", pa.float64()), ("flagged", pa.bool_())]
    if not kind_of(held.manifest.input.name).by_sensor:
        return pa.schema([*fields, ("note", pa.string())])
    more = [(f"share:{sensor.name}", pa.float32()) for sensor in held.manifest.input.sensors] if shares else []
    return pa.schema([fields[0], ("time", pa.timestamp("us", "UTC")), *fields[1:], ("top_sensor", pa.string()), *more])


def _table(frame: pd.DataFrame, held: Bundle, schema: pa.Schema) -> pa.Table:
    """Scores as Arrow has them; a time beyond the years 1 to 9999 is null, a picture without a note likewise."""
    frame = frame.assign(flagged=frame["p_value"] <= held.manifest.threshold.p_value)
    columns = {}
    for field in schema:
        if field.name == "time":
            times = frame["time"].to_numpy()
            known = (times >= EARLIEST) & (times <= LATEST)
            whole = np.round(np.where(known, times, 0.0) * 1e6).astype(np.int64)
            columns["time"] = pa.array(whole, mask=~known).cast(field.type)
        elif field.name in frame:
            columns[field.name] = pa.array(frame[field.name], field.type, from_pandas=True)
        else:
            columns[field.name] = pa.nulls(len(frame), field.type)
    return pa.table(columns, schema)
