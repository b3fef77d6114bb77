"""Whether labels of 20 alarms make the next fit better: precision and recall at the threshold, and ROC-AUC, on data that neither has seen.

    python -m benchmarks.alarms.labels plant [--json FILE]
    python -m benchmarks.alarms.labels pictures magnetic_tile --json FILE      # a folder in the layout of MVTec AD

The road is the one of a plant: a fit on normals, a monitor with a store, `alarms label` for the first 20 alarms by what is true of their
records, `alarms labels --out`, a second fit with --faults. Of pictures the nuisances join the good parts of the second fit. Each alarm of
pictures is of one part or of parts in a row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomaly.alarms.book import Alarm
from anomaly.alarms.labels import export_labels
from anomaly.alarms.store import Store
from anomaly.atomic import write_text
from anomaly.bundle.archive import read_bundle, write_bundle
from anomaly.data.samples.synthetic import plant
from anomaly.edge.runtime.batching import score
from anomaly.edge.runtime.session import open_session
from anomaly.edge.sources.uri import open_source
from anomaly.evaluation.metrics import auroc
from anomaly.schema import AlarmSettings

LABELLED = 20
NORMALS, GOOD, BAD = 80, 64, 60  # pictures: to fit on, and that the monitor sees; the rest of the test part is judged
WATCHED, JUDGED = 5, 4  # tables of the plant
ROWS = 4000


def anomaly(*words: object) -> None:
    """A command, which must succeed."""
    done = subprocess.run([sys.executable, "-m", "anomaly.cli", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"anomaly {' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")


def judged(bundle: Path, source: Path, truth: dict[str, bool]) -> dict[str, float]:
    """Figures of a bundle on a folder of pictures or tables; `truth` by record, without what follows an @."""
    opened = read_bundle(bundle)
    session = open_session(opened, "cpu")
    reader = open_source(str(source), opened.manifest.input, lambda _: False, {})
    flagged, scores, faulty = list[bool](), list[float](), list[bool]()
    while True:
        poll = reader.poll(512)
        answers = score(session, poll.records)
        flagged += (answers.p_value <= opened.manifest.threshold.p_value).tolist()
        scores += answers.score.tolist()
        faulty += [truth[record.id.partition("@")[0]] for record in poll.records]
        if not (poll.records or poll.waiting):
            break
    hit, is_bad = np.array(flagged), np.array(faulty)
    return {
        "records": len(hit), "faulty": int(is_bad.sum()), "flagged": int(hit.sum()),
        "precision": round(float(is_bad[hit].mean()), 4) if hit.any() else float("nan"), "recall": round(float(hit[is_bad].mean()), 4),
        "false_alarm_rate": round(float(hit[~is_bad].mean()), 4), "auroc": round(float(auroc(is_bad, np.array(scores)) or 0.0), 4),
    }  # fmt: skip


def label(store: Store, alarms: Iterable[Alarm], real: Iterable[bool]) -> dict[str, int]:
    """The first 20 alarms labelled by what is true."""
    counts = {"real": 0, "nuisance": 0}
    for alarm, is_real in zip(list(alarms)[:LABELLED], real, strict=False):
        verdict = store.label(alarm.id, "real" if is_real else "nuisance", "truth").verdict
        counts[verdict] += 1
    return counts


def tables(folder: Path, seeds: range) -> dict[str, bool]:
    """Tables with faults, without labels; which rows are faulty, by record."""
    truth = dict[str, bool]()
    folder.mkdir()
    for seed in seeds:
        frame = plant(ROWS, np.random.default_rng(seed), faults=True, start=f"2026-02-{seed - 99:02d}T00:00:00Z")
        truth |= {f"{seed}.csv:{row + 2}": bool(bad) for row, bad in enumerate(frame["anomaly"])}
        path = folder / f"{seed}.csv"
        frame.drop(columns=["anomaly", "fault_kind"]).to_csv(path, index=False)
        os.utime(path, (time.time() - 1000 + seed, time.time() - 1000 + seed))
    return truth


def on_plant(work: Path) -> dict[str, Any]:
    """The sample plant: 6,000 normal rows, five tables that are watched, four that are judged."""
    data = work / "data"
    data.mkdir()
    shutil.copy("data_samples/plant/train.csv", data / "train.csv")
    (work / "spec.toml").write_text('kind = "sensor"\nname = "plant"\n[input]\nwindow = 30\n[budget]\nfalse_alarm_rate = 0.01\n')
    anomaly("fit", work / "spec.toml", "--data", data, "--work", work / "w1", "--out", work / "before.anomaly")
    truth, unseen = tables(work / "watched", range(100, 100 + WATCHED)), tables(work / "judged", range(110, 110 + JUDGED))
    anomaly("monitor", work / "before.anomaly", "--source", work / "watched", "--once", "--exit-zero", "--store", work / "s.db")
    store = Store(work / "s.db")
    alarms = [alarm for alarm in store.alarms(live=False) if alarm.condition == "process" and alarm.closed is not None]
    began = {seed: pd.Timestamp(f"2026-02-{seed - 99:02d}T00:00:00Z").timestamp() for seed in range(100, 100 + WATCHED)}
    times = {seed: begin + 5.0 * np.arange(ROWS) for seed, begin in began.items()}
    real = [_overlaps(alarm, times, truth) for alarm in alarms]
    counts = label(store, alarms, real)
    export_labels(store, work / "labels")
    faults = work / "labels" / "plant" / "faults"
    last = max(alarm.closed or 0.0 for alarm in alarms[:LABELLED])
    for seed, moments in times.items():
        rows = int((moments <= last).sum())  # up to the last alarm that was looked at
        if rows:
            pd.read_csv(work / "watched" / f"{seed}.csv", dtype=str).head(rows).to_csv(faults / f"{seed}.csv", index=False)
    anomaly("fit", work / "spec.toml", "--data", data, "--faults", faults, "--work", work / "w2", "--out", work / "after.anomaly")
    said = {"alarms": len(alarms), **counts}
    return said | {name: judged(work / f"{name}.anomaly", work / "judged", unseen) for name in ("before", "after")} | _vote(work)


def _overlaps(alarm: Alarm, times: dict[int, Any], truth: dict[str, bool]) -> bool:
    """Whether more than half of an alarm's rows are faulty."""
    inside = [
        truth[f"{seed}.csv:{row + 2}"]
        for seed, moments in times.items()
        for row in np.flatnonzero((np.asarray(moments) >= alarm.opened) & (np.asarray(moments) <= (alarm.closed or 0.0)))
    ]
    return bool(inside) and sum(inside) > len(inside) / 2


def on_pictures(root: Path, work: Path) -> dict[str, Any]:
    """A folder in the layout of MVTec AD; faults and good parts are drawn by a fixed seed."""
    rng = np.random.default_rng(7)
    every = sorted((root / "train" / "good").iterdir())
    data, feed = work / "data" / "train" / "good", work / "watched"
    data.mkdir(parents=True)
    feed.mkdir()
    for place in rng.permutation(len(every))[:NORMALS]:
        shutil.copy(every[place], data)
    good = [path for path in sorted((root / "test" / "good").iterdir()) if path.is_file()]
    bad = [path for path in sorted((root / "test").rglob("*")) if path.is_file() and path.parent.name != "good"]
    good, bad = ([paths[i] for i in rng.permutation(len(paths))] for paths in (good, bad))
    truth = _copied(feed, good[:GOOD], bad[:BAD])
    unseen = _copied(work / "judged", good[GOOD:], bad[BAD:])
    (work / "spec.toml").write_text('kind = "camera"\nname = "tile"\n[input]\nsize = 160\n[budget]\nfalse_alarm_rate = 0.05\n')
    anomaly("fit", work / "spec.toml", "--data", work / "data", "--work", work / "w1", "--out", work / "before.anomaly")
    opened = read_bundle(work / "before.anomaly")
    single = opened.manifest.model_copy(update={"alarm": AlarmSettings(), "members": {}})
    write_bundle(work / "single.anomaly", single, opened.members)
    anomaly("monitor", work / "single.anomaly", "--source", feed, "--once", "--exit-zero", "--store", work / "s.db")
    store = Store(work / "s.db")
    alarms = [alarm for alarm in store.alarms(live=False) if alarm.condition == "process"]
    worst = [store.evidence(alarm.id)[-1].record.partition("@")[0] for alarm in alarms]  # what a person looks at
    counts = label(store, alarms, (truth[name] for name in worst))
    export_labels(store, work / "labels")
    for path in (work / "labels" / "tile").glob("good/*.jpg"):
        shutil.copy(path, data)
    faults = work / "labels" / "tile" / "faults"
    anomaly("fit", work / "spec.toml", "--data", work / "data", "--faults", faults, "--work", work / "w2", "--out", work / "after.anomaly")
    said = {"alarms": len(alarms), **counts}
    return said | {name: judged(work / f"{name}.anomaly", work / "judged", unseen) for name in ("before", "after")} | _vote(work)


def _copied(folder: Path, good: list[Path], bad: list[Path]) -> dict[str, bool]:
    """Good and bad parts in turn; which are bad, by record."""
    folder.mkdir(exist_ok=True)
    order = [part for pair in zip(good, bad, strict=False) for part in pair] + good[len(bad) :] + bad[len(good) :]
    truth = {}
    for number, path in enumerate(order):
        name = f"{number:04d}{path.suffix}"
        shutil.copy(path, folder / name)
        os.utime(folder / name, (time.time() - 5000 + number, time.time() - 5000 + number))
        truth[name] = path.parent.name != "good"
    return truth


def _vote(work: Path) -> dict[str, Any]:
    """What the fit itself said of the labels."""
    fit = read_bundle(work / "after.anomaly").manifest.provenance["fit"]
    return {"few_labels": fit["extractor"]["transfer"]["few_labels"]}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alarms.labels", description=__doc__)
    parser.add_argument("what", choices=("plant", "pictures"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = on_plant(work) if asked.what == "plant" else on_pictures(asked.folder, work)
    text = json.dumps(found, indent=1, default=str)
    print(text)
    if asked.json is not None:
        write_text(asked.json, text + "\n")


if __name__ == "__main__":
    main()
