"""How long the first bundle takes: the whole command `anomaly fit`, from shell to bundle, in an empty work folder.

    python -m benchmarks.fit.first_bundle [--data MVTEC_FOLDER] [--code OTHER_CHECKOUT] [--case camera:60 sensor:6000 sensor:6000:ar:32]
                                          [--out F.json] [--cold]

A case is camera:PICTURES[:SIZE] (evenly from the folder's train/good) or sensor:ROWS[:NATURE[:SENSORS]] (made here: `swing`, `noise`,
`ar` or `strokes`, of 8 sensors when none are named). `--code` names a second checkout, the code before: each case is run by it first, on
the same machine, right before. `--cold` also empties the cache of extractor graphs before each run. Prints for each run the wall and
processor seconds, the peak memory, the bundle's bytes, and the seconds of each step, told from when its file appeared in the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from anomaly.atomic import write_text
from anomaly.cache import CACHE
from anomaly.data.files import PICTURES, find_files
from anomaly.parallel import cores

HERE = Path(__file__).parents[2]
CASES = ("camera:24", "camera:60", "camera:245", "camera:509", "sensor:500", "sensor:6000", "sensor:1000000")


def pictures(source: Path, count: int, out: Path) -> Path:
    """A folder of good parts: links to `count` pictures, evenly spread over the source's."""
    found = find_files(source / "train" / "good", PICTURES)
    target = out / "train" / "good"
    target.mkdir(parents=True)
    for index in range(count):
        path = found[index * len(found) // count]
        (target / path.name).symlink_to(path.resolve())
    return out


def readings(rows: int, nature: str, sensors: int) -> pd.DataFrame:
    """A table of `rows` seconds of sensors: white `noise`, `ar` (a load of first order, 0.95, that all share), `strokes` of a press (40
    rows, each a little unlike the others), or a slow `swing` that all share, each with its own noise."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows + 9, sensors))
    if nature == "swing":
        values = np.stack([np.convolve(column, np.ones(10) / 10, "valid") for column in values.T], axis=1)
        values += np.outer(np.sin(np.arange(rows) / 90), 1 + np.arange(sensors) / 4)
    elif nature == "ar":
        values = 0.3 * values[:rows] + lfilter([1.0], [1.0, -0.95], rng.normal(size=(rows, 1)), axis=0) * (1 + np.arange(sensors) / sensors)
    elif nature == "strokes":
        stroke, phase = np.divmod(np.arange(rows), 40)
        size = 1 + 0.1 * rng.normal(size=(stroke[-1] + 1, sensors))[stroke]
        peaks = np.exp(-np.square(phase[:, None] - np.linspace(10, 30, sensors)) / 32)
        values = size * peaks + 0.02 * values[:rows]
    frame = pd.DataFrame((values[:rows] + 10 * np.arange(sensors)).round(4), columns=[f"s{sensor}" for sensor in range(sensors)])
    frame.insert(0, "time", pd.date_range("2026-01-01", periods=rows, freq="1s"))
    return frame


def prepared(case: str, data: Path, folder: Path) -> list[str]:
    """The data and the spec of a case, as arguments of `anomaly fit`."""
    kind, count, *size = case.split(":")
    spec, budget = folder / "spec.toml", "\n[budget]\nfalse_alarm_rate = 0.01\n"
    if kind == "camera":
        asked = f"\n[input]\nsize = [{size[0]}]\n" if size else ""
        spec.write_text(f'kind = "camera"\nname = "case"\n{asked}{budget}', encoding="utf-8")
        return [str(spec), "--data", str(pictures(data, int(count), folder / "data"))]
    spec.write_text(f'kind = "sensor"\nname = "case"\n{budget}', encoding="utf-8")
    nature, sensors = (size + ["swing", "8"][len(size) :])[:2]
    readings(int(count), nature, int(sensors)).to_csv(folder / "data.csv", index=False)
    return [str(spec), "--data", str(folder / "data.csv")]


def run(code: Path, arguments: list[str], folder: Path, *, cold: bool) -> dict[str, Any]:
    """One fit by the code of a checkout; what it took."""
    work, out = folder / "work", folder / "out.anomaly"
    environment = os.environ | {"PYTHONPATH": str(code)} | ({CACHE: str(folder / "cache")} if cold else {})
    command = [sys.executable, "-m", "anomaly.cli.main", "fit", *arguments, "--out", str(out), "--work", str(work)]
    began, wall = time.time(), time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - wall
    said = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        "wall_s": round(seconds, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": used.ru_maxrss // 1024,
        "bundle_bytes": out.stat().st_size if out.exists() else 0,
        "steps_s": _steps(work, began, seconds),
        "error": "" if os.waitstatus_to_exitcode(status) == 0 else " ".join(said[-3:])[:400],
    }


def _steps(work: Path, began: float, seconds: float) -> dict[str, float]:
    """Seconds from one step's file to the next; the first includes the start of Python, `after` is what follows the last."""
    found, before = {}, began
    for path in sorted(work.iterdir(), key=lambda path: path.stat().st_mtime) if work.exists() else []:
        at = path.stat().st_mtime
        found[path.name.split("-")[0]] = round(at - before, 1)
        before = at
    return found | {"after": round(began + seconds - before, 1)}


def main() -> None:
    """Run the cases one after the other, print each run, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="pictures in MVTec AD layout, for cases of a camera")
    parser.add_argument("--code", type=Path, help="another checkout, run first in each case")
    parser.add_argument("--case", nargs="+", default=CASES)
    parser.add_argument("--cold", action="store_true", help="with an empty cache of extractor graphs")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = []
    for case in asked.case:
        for name, code in (("before", asked.code), ("now", HERE)):
            if code is None:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                took = run(code.resolve(), prepared(case, asked.data, folder), folder, cold=asked.cold)
            found.append({"case": case, "code": name, **took})
            print(json.dumps(found[-1]), flush=True)
    if asked.out is not None:
        write_text(asked.out, json.dumps({"cores": cores(), "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
