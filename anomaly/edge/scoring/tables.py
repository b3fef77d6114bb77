"""What a detector says of every window of one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import Run, score_table
from anomaly.names import record_name
from anomaly.rarity import shares_of
from anomaly.schema import InputSchema


def score_table_file(run: Run, schema: InputSchema, path: Path) -> pd.DataFrame:
    """One row a window: record, time, score, p_value, `share:SENSOR` for each sensor (together 1), top_sensor.

    `attrs["notes"]` say what was found wrong in the table. Raises DataError when the table cannot be read.
    """
    return score_readings(run, schema, read_table(path, table_schema(schema)))


def score_readings(run: Run, schema: InputSchema, table: SensorTable, first_row: int = 0, name: str = "") -> pd.DataFrame:
    """The same for a table that has been read: windows that end at or after `first_row`, named by the file where no `name` is given."""
    scored = score_table(run, table, schema.window or 1, first_row)
    names = [str(name) for name in scored if str(name).startswith("share:")]
    shares = pd.DataFrame(shares_of(scored[names].to_numpy()).astype(np.float32), columns=names)
    scored = pd.concat([scored.drop(columns=names), shares], axis=1)
    name = name or record_name(table.path.name)
    scored.insert(0, "record", [f"{name}:{line}" for line in table.lines[scored["row"]]])
    scored["top_sensor"] = [str(column).removeprefix("share:") for column in shares.idxmax(axis=1)]
    scored = scored.drop(columns="row")
    scored.attrs["notes"] = table.report.notes
    return scored
