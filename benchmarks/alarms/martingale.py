"""The test for drift: false detections in 1,000 months without drift, and how long drift goes unseen, by real bundles.

    python -m benchmarks.alarms.martingale --plant PLANT.anomaly --camera CAMERA.anomaly [--months 1000] [--real-months 20] [--out FILE]

PLANT is a fit of specs/plant.toml on data_samples/plant/train.csv, CAMERA a camera's on data_samples/camera. Months without drift: (a)
independent scores with the plant's number of blocks; (b) the sample plant itself, its ambient temperature held from walking off; (c) months
put together from stretches of (b)'s blocks, a day long on average, so that their dependence stays (stationary bootstrap, Politis and Romano
1994). Drift begins on the tenth day of a plant's month, or after 200 pictures, one in five minutes. Prints JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomaly.alarms.drift import EXPONENTS, LIMIT, DriftMonitor, Martingale, Reference, read_reference
from anomaly.atomic import write_text
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.data.samples import synthetic
from anomaly.edge.runtime.session import Session, open_session
from anomaly.schema import within_limits

DAY = 17_280  # rows of the plant
CHUNK = 20_000
Array = NDArray[np.float64]


def held_ambient(rows: int, rng: np.random.Generator, step: float) -> Array:
    """A walk that comes back within half a day, in place of one that leaves for good."""
    noise, out, state = rng.normal(0, step, rows), np.empty(rows), 0.0
    for index in range(rows):
        state = 0.9999 * state + noise[index]
        out[index] = state
    return out


def plant_readings(seed: int, days: int) -> Array:
    """Readings (n, 8) of the sample plant without drift."""
    frame = synthetic.plant(DAY * days, np.random.default_rng(seed))
    return frame[list(synthetic.PLANT_SENSORS)].to_numpy(np.float64)


def watch_plant(bundle: Bundle, session: Session, reference: Reference, readings: Array) -> tuple[DriftMonitor, list[Any], list[float]]:
    """Score a record row by row as the edge does: the monitor, its events, and the mean rank of each block."""
    schema = bundle.manifest.input
    values, window = within_limits(readings, schema.sensors), schema.window or 1
    drift, events = DriftMonitor("plant", bundle.hash, reference, schema.sensors), []
    ranks: list[float] = []
    for start in range(0, len(values) - window + 1, CHUNK):
        rows = values[start : start + CHUNK + window - 1]
        answer = session.run_stream(rows)
        counts = answer.p_value > bundle.manifest.threshold.p_value
        followed = np.column_stack([answer.detail, rows[window - 1 :]]).astype(np.float64)
        events += drift.take(5.0 * np.arange(start, start + len(counts)), answer.score, counts, followed)
        kept = (np.searchsorted(reference.scores, answer.score) / len(reference.scores))[counts]
        whole = len(kept) // reference.block * reference.block
        ranks += kept[:whole].reshape(-1, reference.block).mean(axis=1).tolist()
    return drift, events, ranks


def false_detections(
    months: int, blocks: int, reference: list[float] | None, pool: Array | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Months of independent ranks, or of stretches of `pool`; `reference`: the ranks that a line begins with, new ones when None.

    All months go side by side; the first is checked against the class that lines use.
    """
    known = rng.random((months, 26)) if reference is None else np.tile(reference, (months, 1))
    new = rng.random((months, blocks)) if pool is None else np.stack([bootstrap(pool, blocks, rng) for _ in range(months)])
    ranks, begin = np.floor(np.concatenate([known, new], axis=1) * 1000 + 1e-9).astype(np.int16), known.shape[1]
    sums, highest = np.zeros((len(EXPONENTS), months)), np.zeros(months)
    for at in range(begin, begin + blocks):
        p = (1 + (ranks[:, :at] >= ranks[:, at : at + 1]).sum(axis=1)) / (1 + at)
        sums = (sums + 1) * EXPONENTS[:, None] * p ** (EXPONENTS[:, None] - 1)
        highest = np.maximum(highest, sums.mean(axis=0))
    martingale, most = Martingale(np.bincount(ranks[0, :begin], minlength=1001)), 0.0
    for rank in new[0]:
        martingale.take(float(rank), 0.0)
        most = max(most, martingale.evidence)
    assert np.isclose(most, highest[0]), "the months side by side are not what a line computes"
    found = int((highest >= LIMIT).sum())
    return {
        "months": months,
        "blocks_a_month": blocks,
        "false_detections": found,
        "highest_evidence_of_limit": float(highest.max() / LIMIT),
    }


def bootstrap(pool: Array, count: int, rng: np.random.Generator) -> Array:
    """A series of `count` values in stretches of the pool, 74 (a day) long on average."""
    parts, have = [], 0
    while have < count:
        start, length = int(rng.integers(len(pool))), int(rng.geometric(1 / 74))
        parts.append(np.take(pool, np.arange(start, start + length), mode="wrap"))
        have += length
    return np.concatenate(parts)[:count]


def plant_delays(bundle: Bundle, session: Session, reference: Reference, seeds: int) -> dict[str, Any]:
    """Hours from the beginning of a drift to its event, median over seeds; None where it was not found in 20 days."""
    names, at = list(synthetic.PLANT_SENSORS), 10 * DAY
    figures: dict[str, Any] = {}
    for kind, sensor in (("gain 3 %", "pressure"), ("offset 0.7 m3/h (2 x noise)", "flow"), ("slow, 0.01 bar a day", "pressure")):
        delays, named = [], 0
        for seed in range(seeds):
            readings = plant_readings(100 + seed, 30)
            column = readings[at:, names.index(sensor)]
            change = 0.03 * column if kind.startswith("gain") else 0.7 if kind.startswith("offset") else np.arange(len(column)) * 0.01 / DAY
            readings[at:, names.index(sensor)] = column + change
            events = [event for event in watch_plant(bundle, session, reference, readings)[1] if event.time >= 5.0 * at]
            if events:
                delays.append((events[0].time - 5.0 * at) / 3600)
                named += sensor in [one["sensor"] for one in events[0].data["sensors"]]
        figures[f"{sensor}: {kind}"] = {
            "found": f"{len(delays)} of {seeds}",
            "delay_h": round(statistics.median(delays), 1) if delays else None,
            "sensor_named": f"{named} of {len(delays)}",
        }
    return figures


def as_stored(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As the sample's files hold a picture: JPEG smooths its grain."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=88)
    return np.asarray(Image.open(stream))


def camera_delays(bundle: Bundle, session: Session, seeds: int) -> dict[str, Any]:
    """Pictures, one in five minutes, from the beginning of a drift to its event."""
    reference, figures = read_reference(bundle.members["reference.parquet"], bundle.manifest.calibration), {}
    mix = "every third part of another batch, its face 40 grey levels lighter"
    for kind in ("none", "light 10 % darker", "light 25 % darker", mix):
        delays, flagged = [], []
        for seed in range(seeds):
            rng, drift, found = np.random.default_rng(200 + seed), DriftMonitor("camera", bundle.hash, reference), None
            for number in range(500):
                picture = synthetic.part_picture(rng)[0].astype(np.float64)
                if number >= 200 and kind.startswith("light"):
                    picture *= 1 - int(kind.split()[1]) / 100
                elif number >= 200 and kind.startswith("every") and number % 3 == 0:
                    picture[picture > 100] += 40
                answer = session.run(as_stored(np.clip(picture, 0, 255).astype(np.uint8))[None])
                counts = answer.p_value > bundle.manifest.threshold.p_value
                flagged += [not counts[0]] if number >= 200 else []
                if drift.take([300.0 * number], answer.score, counts) and found is None:
                    found = number - 200
                    break
            delays += [] if found is None else [found]
        told = {"found": f"{len(delays)} of {seeds}", "delay_pictures": statistics.median(delays) if delays else None}
        figures[kind] = told | {"flagged": round(float(np.mean(flagged)), 3) if flagged else None}
    return figures


def plant_figures(bundle: Bundle, months: int, real_months: int, seeds: int) -> dict[str, Any]:
    """False detections of the three kinds of months, and delays."""
    synthetic._walk = held_ambient
    session, rng = open_session(bundle, "cpu"), np.random.default_rng(0)
    reference = read_reference(bundle.members["reference.parquet"], bundle.manifest.calibration)
    figures: dict[str, Any] = {"block_rows": reference.block, "reference_blocks": len(reference.ranks)}
    pool, found, most = [], 0, 0.0
    for seed in range(real_months):
        drift, events, ranks = watch_plant(bundle, session, reference, plant_readings(seed, 30))
        pool += ranks
        found, most = found + bool(events), max(most, drift.level)
    blocks = 30 * DAY // reference.block
    figures["sample plant"] = {"months": real_months, "false_detections": found, "highest_level_at_end": round(most, 3)}
    figures["independent"] = false_detections(months, blocks, None, None, rng)
    figures["bootstrap of the sample plant"] = false_detections(months, blocks, list(reference.ranks), np.array(pool), rng)
    figures["delays, plant"] = plant_delays(bundle, session, reference, seeds)
    return figures


def main() -> None:
    """Run all of it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plant", type=Path)
    parser.add_argument("--camera", type=Path)
    parser.add_argument("--months", type=int, default=1000)
    parser.add_argument("--real-months", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"limit": round(LIMIT)}
    if arguments.plant is not None:
        figures |= plant_figures(read_bundle(arguments.plant), arguments.months, arguments.real_months, arguments.seeds)
    if arguments.camera is not None:
        camera = read_bundle(arguments.camera)
        figures["delays, camera"] = camera_delays(camera, open_session(camera, "cpu"), arguments.seeds)
    text = json.dumps(figures, indent=1) + "\n"
    print(text)
    if arguments.out is not None:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
