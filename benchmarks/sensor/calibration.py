"""False alarms that come for those asked for, on fresh data of the process that was learnt.

    python -m benchmarks.sensor.calibration [--seeds 20] [--fresh 10000] [--only NAME] [--spec SPEC.toml] [--json FILE]

Each process (benchmarks/protocols/processes.py) is learnt from its first rows, and goes on. A figure is the share of the fresh windows
that are flagged, over the share asked for: 1 is what was asked. Means over seeds with half their 95 % interval (Student's t). A rate of
which the record's independent scores do not hold one is in brackets: there the record is too short to say.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from anomaly import __version__
from anomaly.atomic import write_text
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import read_table
from anomaly.data.tables.windows import score_table
from anomaly.pipeline.sensor.line import SensorLine
from anomaly.pipeline.steps import Steps
from anomaly.spec import Pretrain, SensorSpec, read_spec
from benchmarks.protocols.processes import PROCESSES, Process

ASKED = (0.01, 0.002)


def one(spec: SensorSpec, process: Process, seed: int, fresh: int) -> dict[str, float]:
    """Share flagged of the fresh windows at each rate asked for, and how many independent scores were learnt from."""
    values = process.make(np.random.default_rng([seed, process.learnt]), process.learnt + fresh).astype(np.float32)
    frame = pd.DataFrame(values, columns=[f"s{i}" for i in range(values.shape[1])])
    frame.insert(0, "time", pd.date_range("2026-01-05", periods=len(frame), freq=f"{process.row_s}s"))
    with tempfile.TemporaryDirectory() as scratch:
        train, whole = Path(scratch) / "train.csv", Path(scratch) / "whole.csv"
        frame.head(process.learnt).to_csv(train, index=False)
        frame.to_csv(whole, index=False)
        steps = Steps(SensorLine(spec, train), Path(scratch) / "work")
        schema, independent = steps.line.input_schema(), float(steps.fitted.effective)
        window = schema.window or 1
        scored = score_table(steps.detector().run, read_table(whole, table_schema(schema)), window, process.learnt + window - 1)
    p = scored["p_value"].to_numpy()
    return {"independent": independent, **{str(asked): float((p <= asked).mean()) for asked in ASKED}}


def figures(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of one process over its seeds: mean share flagged over the share asked for, and half its 95 % interval."""
    found = {"seeds": len(runs), "independent": float(np.mean([run["independent"] for run in runs]))}
    for asked in ASKED:
        ratio = np.array([run[str(asked)] for run in runs]) / asked
        half = float(student.ppf(0.975, len(ratio) - 1) * ratio.std(ddof=1) / len(ratio) ** 0.5) if len(ratio) > 1 else 0.0
        found |= {f"ratio_{asked}": float(ratio.mean()), f"half_ci95_{asked}": half}
    return found


def line_of(name: str, found: dict[str, float]) -> str:
    """A row of the table."""
    cells = [f"{found[f'ratio_{asked}']:.2f} ± {found[f'half_ci95_{asked}']:.2f}" for asked in ASKED]
    shown = [cell if asked * found["independent"] >= 1 else f"({cell})" for asked, cell in zip(ASKED, cells, strict=True)]
    return f"| {name} | {found['independent']:.0f} | " + " | ".join(shown) + " |"


def main() -> None:
    """Run, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=10_000, help="rows after those learnt from")
    parser.add_argument("--only", help="processes whose name holds this")
    parser.add_argument("--spec", type=Path, help="a sensor spec; the default without the encoder when not given")
    parser.add_argument("--json", type=Path, help="where the figures go")
    given = parser.parse_args()
    spec: Any = read_spec(given.spec) if given.spec else SensorSpec(kind="sensor", pretrain=Pretrain(method="none"))
    every: dict[str, Any] = {}
    print(f"| process | independent scores | {' | '.join(f'came for {asked:.1%} asked' for asked in ASKED)} |\n|---|---|---|---|")
    for name, process in PROCESSES.items():
        if given.only and given.only not in name:
            continue
        every[name] = figures([one(spec, process, seed, given.fresh) for seed in range(given.seeds)])
        print(line_of(name, every[name]), flush=True)
    if given.json:
        write_text(given.json, json.dumps({"version": __version__, "by_process": every}, indent=1) + "\n")


if __name__ == "__main__":
    main()
