"""How long a table of readings takes to be read, against pandas on the same file in one run: processor seconds, the least of three.

    python -m benchmarks.sensor.table_speed [--rows 1000000] [--json FILE]

`pandas` is told separator, decimal mark and time format. `read` is told the dialect, as every reader of a bundle is; `find and read` finds
it first, as a fit does. Both give times in UTC; ours also takes out bad rows and counts what is wrong.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly.atomic import write_text
from anomaly.data.tables.dialect.find import find_dialect
from anomaly.data.tables.reader import TableSchema, read_table

SENSORS = 8
WAYS: dict[str, dict[str, Any]] = {
    "ISO 8601, decimal point": {"sep": ",", "decimal": ".", "date_format": "%Y-%m-%d %H:%M:%S"},
    "day first, decimal comma": {"sep": ";", "decimal": ",", "date_format": "%d.%m.%Y %H:%M:%S"},
}


def least(run: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of the quickest of several runs."""
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def measure(rows: int, folder: Path) -> list[dict[str, Any]]:
    """A row a way of writing: seconds of pandas and of ours, and their ratio."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(100, 20, size=(rows, SENSORS)).round(4), columns=[f"s{i}" for i in range(SENSORS)])
    frame.insert(0, "time", pd.date_range("2026-01-13", periods=rows, freq="s"))
    found = []
    for name, way in WAYS.items():
        path = folder / "t.csv"
        frame.to_csv(path, index=False, **way)
        dialect = find_dialect([path])
        theirs = least(lambda path=path, way=way: pd.read_csv(path, parse_dates=["time"], **way))  # type: ignore[misc]
        ours = least(lambda path=path, dialect=dialect: read_table(path, TableSchema(dialect=dialect)))  # type: ignore[misc]
        both = least(lambda path=path: read_table(path, TableSchema()))  # type: ignore[misc]
        assert len(read_table(path, TableSchema(dialect=dialect)).times) == rows
        found.append({"way": name, "rows": rows, "pandas_s": theirs, "read_s": ours, "find_and_read_s": both, "ratio": ours / theirs})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.rows, Path(folder))
    for row in found:
        print(
            f"{row['way']:26} pandas {row['pandas_s']:.2f} s, read {row['read_s']:.2f} s (x {row['ratio']:.2f}), "
            f"find and read {row['find_and_read_s']:.2f} s"
        )
    if asked.json is not None:
        write_text(asked.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
