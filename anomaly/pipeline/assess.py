"""A bundle against labelled data, and a bundle over new files: the graph in ONNX Runtime, as the edge will run it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle
from anomaly.data.files import PICTURES, TABLES, find_files
from anomaly.data.pictures.layouts import GOOD_NAMES, find_pictures, has_test
from anomaly.data.pictures.reading import Color, Picture, read_image
from anomaly.data.tables.files import find_tables, label_of, table_schema, window_of
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, RecordError
from anomaly.evaluation.figures import Evaluation, evaluate_pictures, evaluate_tables, score_table
from anomaly.evaluation.ranges import nab_probation
from anomaly.evaluation.report import page
from anomaly.evaluation.report.series import plot_events, plot_series

Layout = Literal["mvtec", "folder", "table", "skab", "nab"]
SKAB_TRAINING_ROWS = 400


def bundle_color(bundle: Bundle) -> tuple[Color, bool]:
    """(gray or rgb, 16 bit?) of the pictures a camera bundle takes."""
    return ("gray" if bundle.manifest.input.channels == 1 else "rgb"), bundle.manifest.input.dtype == "uint16"


def evaluate_bundle(bundle: Bundle, session: Session, data: Path, layout: Layout | None = None) -> Evaluation:
    """Figures of a bundle on labelled data. Raises DataError when layout and bundle, or layout and data, do not fit.

    Layouts: mvtec (the test part of an MVTec AD, MVTec AD 2, BTAD or VisA folder or of a manifest),
    folder (subfolders by kind, `good` the normals; flat = all good), table (labelled
    CSV or Parquet), skab (rows after the first 400), nab (rows after the first 15 %, at most 750, windows.json beside the CSV).
    """
    layout = layout or _guess_layout(bundle, data)
    if (layout in ("mvtec", "folder")) != (bundle.manifest.kind == "camera"):
        raise DataError(f"--layout {layout} does not fit a {bundle.manifest.kind} bundle")
    p, score = bundle.manifest.threshold.p_value, bundle.manifest.threshold.score
    if bundle.manifest.kind == "camera":
        color, deep = bundle_color(bundle)
        pictures = _labelled_pictures(data, layout)
        found = evaluate_pictures(session.run, pictures, color, deep, p, score)
        found.figures["speed"] = _speed(session, pictures, color, deep)
        return found
    tables, label, first = _labelled_tables(bundle, data, layout)
    return evaluate_tables(session.run, tables, label, *window_of(bundle.manifest.input), p, score, first)


def _speed(session: Session, pictures: Sequence[Picture], color: Color, deep: bool, count: int = 30) -> dict[str, float | str]:
    """Median milliseconds a picture on this machine, to decode and to decide, over up to `count` of them."""
    decode, decide = [], []
    for picture in pictures[:: max(1, len(pictures) // count)][:count]:
        started = time.perf_counter()
        try:
            raw = read_image(picture.path, color, deep=deep)[None]
        except RecordError:
            continue  # counted where the figures are made
        read = time.perf_counter()
        session.run(raw)
        decode.append(read - started)
        decide.append(time.perf_counter() - read)
    where = f"{session.provider}, {session.variant}"
    return {"decode_ms": 1000 * float(np.median(decode)), "decide_ms": 1000 * float(np.median(decide)), "on": where}


def _guess_layout(bundle: Bundle, data: Path) -> Layout:
    if bundle.manifest.kind == "camera":
        return "mvtec" if has_test(data) else "folder"
    return "nab" if data.is_dir() and (data / "windows.json").is_file() else "table"


def _labelled_pictures(data: Path, layout: Layout) -> Sequence[Picture]:
    if layout == "mvtec":
        found = find_pictures(data).test
        if not found:
            raise DataError(f"{data}: no test pictures; MVTec AD layout has test/good and test/KIND, a manifest rows with split = test")
        return found
    if not data.is_dir():
        raise DataError(f"{data}: no such folder")
    paths = find_files(data, PICTURES, deep=True)
    if not paths:
        raise DataError(f"{data}: no pictures in it")
    return [Picture(p.relative_to(data).as_posix(), p, _kind_of(data, p)) for p in paths]


def _kind_of(data: Path, path: Path) -> str | None:
    folders = path.relative_to(data).parts[:-1]
    return None if not folders or folders[-1].lower() in GOOD_NAMES else folders[-1]


def _labelled_tables(bundle: Bundle, data: Path, layout: Layout) -> tuple[list[SensorTable], str, int]:
    schema = table_schema(bundle.manifest.input)
    if layout == "nab":
        tables = [read_table(path, schema) for path in _tables_under(data)]
        for table in tables:
            table.labels["anomaly"] = _nab_labels(table)
        return tables, "anomaly", min(nab_probation(len(t.times)) for t in tables)
    if layout == "skab":
        return [read_table(path, schema) for path in _tables_under(data)], "anomaly", SKAB_TRAINING_ROWS
    train, test = find_tables(data)
    tables = [read_table(path, schema) for path in (test or train)]
    label = label_of(tables[0])
    if label is None:
        raise DataError(f"{tables[0].path}: no label column ({', '.join(bundle.manifest.input.labels)}); add one with 0 and 1")
    return tables, label, 0


def _tables_under(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    found = find_files(data, TABLES, deep=True)
    if not found:
        raise DataError(f"{data}: no table in it")
    return found


def nab_windows(table: SensorTable) -> list[tuple[float, float]]:
    """A NAB series' label windows (first, last), seconds since 1970 UTC, from windows.json beside it, which must be there."""
    path = table.path.parent / "windows.json"
    if not path.is_file():
        raise DataError(f"{path}: not there; NAB's label windows are expected beside the CSV")
    windows = json.loads(path.read_text(encoding="utf-8"))
    spans = windows if isinstance(windows, list) else next((v for k, v in windows.items() if Path(k).name == table.path.name), None)
    if spans is None:
        raise DataError(f"{path}: has no windows for {table.path.name}")
    return [(pd.Timestamp(start, tz="UTC").timestamp(), pd.Timestamp(stop, tz="UTC").timestamp()) for start, stop in spans]


def _nab_labels(table: SensorTable) -> NDArray[np.float64]:
    labels = np.zeros(len(table.times))
    for low, high in nab_windows(table):
        labels[(table.times >= low) & (table.times <= high)] = 1.0
    return labels


def report_on(bundle: Bundle, evaluation: Evaluation, data: Path, path: Path) -> None:
    """Write the HTML report of an evaluation."""
    threshold = bundle.manifest.threshold.score
    plots: list[page.Plot | None] = [
        page.plot_scores(evaluation, threshold),
        page.plot_curves(evaluation),
        page.plot_calibration(evaluation),
    ]
    if bundle.manifest.kind == "camera":
        color, _ = bundle_color(bundle)
        plots += page.plot_pictures(
            evaluation, lambda record: read_image((data if data.is_dir() else data.parent) / record, color).astype(np.uint8), threshold
        )
    else:
        train, test = find_tables(data)
        tables = [read_table(p, table_schema(bundle.manifest.input)) for p in (test or train)[:4]]
        plots += [plot_series(evaluation, table) for table in tables] + plot_events(evaluation, tables)
    manifest = bundle.manifest.model_dump(mode="json")
    page.write_report(path, manifest, bundle.hash, evaluation, [p for p in plots if p is not None], evaluation.rejected)


def score_paths(
    bundle: Bundle, session: Session, paths: Sequence[Path], on_record: Callable[[], None] = lambda: None
) -> tuple[pd.DataFrame, list[str]]:
    """Score files and folders; returns (one row a record, what could not be read). Raises DataError when nothing could."""
    frames: list[pd.DataFrame] = []
    rejected: list[str] = []
    for path in _expand(bundle, paths):
        try:
            frames.append(_score_picture(bundle, session, path) if bundle.manifest.kind == "camera" else _score_file(bundle, session, path))
        except (RecordError, DataError) as error:
            rejected.append(str(error))
        on_record()
    if not frames:
        raise DataError("nothing could be scored:\n" + "\n".join(rejected[:5]))
    frame = pd.concat(frames, ignore_index=True)
    frame["flagged"] = frame["p_value"] <= bundle.manifest.threshold.p_value
    return frame, rejected


def _expand(bundle: Bundle, paths: Sequence[Path]) -> list[Path]:
    suffixes = PICTURES if bundle.manifest.kind == "camera" else TABLES
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += find_files(path, suffixes, deep=True)
        else:
            found.append(path)
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no file to score ({', '.join(sorted(suffixes))})")
    return found


def _score_picture(bundle: Bundle, session: Session, path: Path) -> pd.DataFrame:
    color, deep = bundle_color(bundle)
    score, p_value, _ = session.run(read_image(path, color, deep=deep)[None])
    return pd.DataFrame({"record": [str(path)], "score": score.astype(float), "p_value": p_value.astype(float)})


def _score_file(bundle: Bundle, session: Session, path: Path) -> pd.DataFrame:
    table = read_table(path, table_schema(bundle.manifest.input))
    scored: pd.DataFrame = score_table(session.run, table, *window_of(bundle.manifest.input))
    shares = scored.filter(like="share:")
    scored.insert(0, "record", [f"{path.name}:{row + 2}" for row in scored["row"]])
    scored["top_sensor"] = [str(name).removeprefix("share:") for name in shares.idxmax(axis=1)]
    return scored.drop(columns=["row", *shares.columns])
