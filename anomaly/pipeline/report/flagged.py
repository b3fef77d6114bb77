"""What a detector flags, as files for people: pictures with their heat-maps, stretches of readings as plots, and a list of both as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomaly.alarms.store import Store
from anomaly.alarms.wording import explain_map, record_words
from anomaly.atomic import replacing
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.bundle.manifest import Manifest
from anomaly.data.clock import moment
from anomaly.data.files import PICTURES, TABLES
from anomaly.data.pictures.reading import format_of, read_picture
from anomaly.data.spreadsheet import write_csv
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.data.tables.windows import joined, score_table
from anomaly.edge.runtime.files import check_kind, files_in
from anomaly.edge.runtime.session import Session
from anomaly.errors import BundleError, DataError, RecordError
from anomaly.evaluation.report.drawing import png_of, styled
from anomaly.evaluation.report.pictures import captioned, overlaid
from anomaly.evaluation.report.series import AROUND, stretch_figure, stretch_of
from anomaly.names import record_name
from anomaly.pipeline.camera.pictures import to_8_bit
from anomaly.progress import Progress, counted
from anomaly.rarity import p_words, shades_of

LIST = "flagged.csv"
TOLD = 5  # of the worst on the terminal
SENSORS = 3  # in the plot of a stretch

Maps = NDArray[np.float32]


@dataclass
class Flagged:
    """What was written: how many records were judged and flagged, how many files drawn; what could not be read, and what is to be known."""

    judged: int = 0
    flagged: int = 0
    drawn: int = 0
    places: int = 0  # rows of the list: pictures, or stretches of readings
    rejected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    worst: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """Keep a line on one of the worst few."""
        if len(self.worst) < TOLD:
            self.worst.append(text)


@dataclass(frozen=True)
class Wanted:
    """Which records to take, where a store says so: by name with the p-value that the line gave, and their times in s."""

    names: Mapping[str, float]
    times: NDArray[np.float64]


def is_store(path: Path) -> bool:
    """Whether a file is a store (SQLite)."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(16) == b"SQLite format 3\0"


def wanted_of(store: Path, line: str | None, bundle: Bundle) -> Wanted:
    """What a line's detector flagged, as the store keeps it. Raises DataError for a line that is not there, or several to choose from."""
    db = Store(store)
    lines = db.lines()
    if line is None and len(lines) != 1:
        raise DataError(f"{store}: holds the lines {', '.join(lines) or '(none)'}; name one with --line")
    if line is not None and line not in lines:
        raise DataError(f"{store}: has no line {line!r}; it holds {', '.join(lines) or 'none'}")
    found = [one for one in db.scores(line or lines[0]) if one.p_value <= bundle.manifest.threshold.p_value]
    names: dict[str, float] = {}
    for one in found:
        name = record_words(one.record)
        names[name] = min(one.p_value, names.get(name, 1.0))
    return Wanted(names, np.array([one.time for one in found], dtype=np.float64))


def bundle_of(store: Path, line: str | None) -> Bundle:
    """The bundle that scored what is in a store, looked for beside it. Raises BundleError when it is not there."""
    db = Store(store)
    hashes = {found for name in ([line] if line else db.lines()) for found in db.scored_by(name)}
    folders = (store.parent, store.with_name(store.name + ".bundles"), Path())
    unread: list[str] = []
    for path in sorted({path for folder in folders if folder.is_dir() for path in folder.glob("*.anomaly") if path.is_file()}):
        try:
            bundle = read_bundle(path)
        except BundleError as error:  # one that is damaged, or not for here, does not hide the right one
            unread.append(str(error))
            continue
        if bundle.hash in hashes:
            return bundle
    known = ", ".join(sorted(found[:12] for found in hashes)) or "none"
    raise BundleError(f"{store}: the bundle that scored it ({known}) is not beside it; name it with --bundle FILE", *unread[:5])


def write_flagged(
    bundle: Bundle, session: Session, path: Path, out: Path, most: int, progress: Progress, wanted: Wanted | None = None
) -> Flagged:
    """Draw what is flagged in files and folders under `path` into the folder `out`, worst first and `most` at most; flagged.csv lists all.

    Only what is `wanted`, where that is given. Raises DataError when there is nothing to read, or the kind of input cannot be drawn.
    """
    ways: dict[str, Callable[..., Flagged]] = {"image": _pictures, "window": _tables}
    way = ways.get(bundle.manifest.input.name)
    if way is None:
        raise DataError(f"{bundle.path}: what a {bundle.manifest.kind} detector flags cannot be drawn")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; name the pictures or tables that were judged")
    return way(bundle, session, path, out, most, progress, wanted)


def _begin(out: Path, done: Flagged, path: Path) -> None:
    """Make the folder, and remove what an earlier run has drawn there: the files that its list names, and no others.

    Raises DataError, before any of it, when nothing could be judged.
    """
    if done.rejected and not done.judged:
        raise DataError(f"{path}: nothing in it could be judged:", *done.rejected[:5])
    out.mkdir(parents=True, exist_ok=True)
    listed = out / LIST
    if not listed.is_file():
        return
    frame = pd.read_csv(listed, dtype=str, keep_default_na=False)
    for name in frame[frame.columns[-1]] if len(frame.columns) else ():
        if name and Path(name).name == name and name.endswith(".png"):
            (out / name).unlink(missing_ok=True)


# --- pictures ---


@dataclass(frozen=True)
class _Picture:
    path: Path
    score: float
    p_value: float
    heat: Maps


def _pictures(bundle: Bundle, session: Session, path: Path, out: Path, most: int, progress: Progress, wanted: Wanted | None) -> Flagged:
    form, threshold = format_of(bundle.manifest.input), bundle.manifest.threshold
    done, found, scores = Flagged(), [], []
    files = _wanted_files(path, wanted, done) if wanted is not None else files_in([path], PICTURES)
    for file in counted(files, progress, "pictures scored"):
        try:
            check_kind(file, PICTURES)
            pixels = read_picture(file, form).pixels
        except (RecordError, DataError) as error:
            done.rejected.append(str(error))
            continue
        score, p_value, heat = session.run(pixels[None])
        done.judged += 1
        scores.append(float(score[0]))
        if wanted is not None or p_value[0] <= threshold.p_value:
            found.append(_Picture(file, float(score[0]), float(p_value[0]), heat[0]))
    _begin(out, done, path)
    found.sort(key=lambda one: (-one.score, str(one.path)))
    done.flagged = done.places = len(found)
    usual = bundle.manifest.usual_score
    if usual is None:  # of an older version: of what is given, the half that is least unusual counts as usual
        usual = float(np.median(scores)) if scores else 0.0
    shades = shades_of(usual, threshold.score, max(scores, default=1.0))
    rows = []
    for rank, one in enumerate(found, 1):
        name = f"{rank:04}-{_plain(one.path.stem)}.png" if rank <= most else ""
        if name:
            picture = to_8_bit(read_picture(one.path, form).pixels, form.deep)
            with replacing(out / name) as part:
                captioned(overlaid(picture, one.heat, shades), _caption(rank, one, bundle.manifest), shades, threshold.score).save(
                    part, "PNG"
                )
            done.drawn += 1
        done.tell(f"{record_name(str(one.path))}  score {one.score:.4g}, {p_words(one.p_value, bundle.manifest.least_p)}  {name}")
        where = explain_map(one.heat)["where"]
        place = [f"{where[axis]:.3f}" for axis in ("x", "y")]
        rows.append([rank, record_name(str(one.path)), f"{one.score:.6g}", *_p_cells(one.p_value, bundle.manifest.least_p), *place, name])
    _write(out, ["rank", "record", "score", "p_value", "p_is_below", "where_x", "where_y", "picture"], rows)
    return done


def _caption(rank: int, one: _Picture, manifest: Manifest) -> tuple[str, str]:
    """What stands under a picture."""
    threshold = manifest.threshold.score
    at = "" if threshold is None else f" (flagged from {threshold:.4g} on)"
    words = f"score {one.score:.4g}{at}, {p_words(one.p_value, manifest.least_p)}"
    return f"{rank}. {record_name(f'{one.path.parent.name}/{one.path.name}')}", words


def _p_cells(p_value: float, least: float) -> tuple[str, str]:
    """A p-value for the list, no smaller than the normals can tell, and whether it is below that.

    >>> _p_cells(0.00412, 0.0005), _p_cells(8e-8, 0.0025)
    (('0.00412', 'False'), ('0.0025', 'True'))
    """
    return f"{max(p_value, least):.6g}", str(p_value < least)


def _wanted_files(folder: Path, wanted: Wanted, done: Flagged) -> list[Path]:
    """The files of the records that a store holds as flagged; those that are gone are told."""
    files = files_in([folder], PICTURES)
    every = {record_name(path.relative_to(folder) if folder.is_dir() else path.name): path for path in files}
    gone = [name for name in wanted.names if name not in every]
    done.rejected += [f"{name}: flagged, and not in {folder} any more" for name in gone]
    return [every[name] for name in wanted.names if name in every]


# --- readings ---


@dataclass(frozen=True)
class _Stretch:
    table: SensorTable
    scored: pd.DataFrame
    first: int  # row of the table
    last: int
    worst: float
    score: float
    flagged: int


def _tables(bundle: Bundle, session: Session, path: Path, out: Path, most: int, progress: Progress, wanted: Wanted | None) -> Flagged:
    threshold, window = bundle.manifest.threshold.p_value, bundle.manifest.input.window or 1
    done, found = Flagged(), []
    for file in counted(files_in([path], TABLES), progress, "tables scored"):
        try:
            check_kind(file, TABLES)
            table = read_table(file, table_schema(bundle.manifest.input))
            scored = score_table(session.run, table, window)
        except (RecordError, DataError) as error:
            done.rejected.append(str(error))
            continue
        done.notes += table.report.notes
        done.judged += len(scored)
        taken = [one for one in _stretches(table, scored, threshold, window) if wanted is None or _is_in(one, wanted)]
        done.flagged += sum(one.flagged for one in taken)
        found += taken
    _begin(out, done, path)
    found.sort(key=lambda one: (one.worst, -one.score))
    done.places = len(found)
    rows = []
    for rank, one in enumerate(found, 1):
        name = f"{rank:04}-{_plain(one.table.path.stem)}-row-{one.table.lines[one.first]}.png" if rank <= most else ""
        top = _draw(one, bundle.manifest, out / name if name else None)
        done.drawn += bool(name)
        zone = one.table.dialect.zone
        ends = [moment(float(one.table.times[row]), zone) for row in (one.first, one.last)]
        done.tell(f"{ends[0]} to {ends[1]}  {p_words(one.worst, bundle.manifest.least_p)}  {top}  {name}")
        lines = [str(one.table.lines[row]) for row in (one.first, one.last)]
        rows.append(
            [
                rank,
                record_name(str(one.table.path)),
                *ends,
                *lines,
                f"{one.score:.6g}",
                *_p_cells(one.worst, bundle.manifest.least_p),
                top,
                name,
            ]
        )
    _write(out, ["rank", "table", "from", "to", "from_line", "to_line", "score", "p_value", "p_is_below", "sensors", "plot"], rows)
    return done


def _stretches(table: SensorTable, scored: pd.DataFrame, threshold: float, window: int) -> list[_Stretch]:
    """Stretches of flagged rows (`windows.joined`)."""
    hit = scored.loc[scored["p_value"] <= threshold]
    rows = hit["row"].to_numpy()
    stretches = []
    for part in joined(hit["time"].to_numpy(), window * table.period_s):
        own = hit.iloc[part]
        worst, score = float(own["p_value"].min()), float(own["score"].max())
        stretches.append(_Stretch(table, scored, int(rows[part[0]]), int(rows[part[-1]]), worst, score, len(part)))
    return stretches


def _is_in(one: _Stretch, wanted: Wanted) -> bool:
    first, last = one.table.times[one.first], one.table.times[one.last]
    return bool(((wanted.times >= first - 1e-3) & (wanted.times <= last + 1e-3)).any())


def _draw(one: _Stretch, manifest: Manifest, path: Path | None) -> str:
    """Draw a stretch, with as much before and after it; returns the sensors that contribute most to its most unusual record, with shares.

    They are those that an alarm's events and `Detector.explain` tell of this record.
    """
    whole = stretch_of(one.table, one.scored, manifest.least_p)
    worst = one.first + int(np.nanargmin(whole.p_values[one.first : one.last + 1]))
    top, shares = whole.top(SENSORS, worst, worst + 1), whole.shares[worst]
    if path is not None:
        around = max(AROUND, one.last + 1 - one.first)
        ends = float(whole.times[one.first]), float(whole.times[one.last])
        title = f"{record_name(one.table.path.name)}: {moment(ends[0], whole.zone)} to {moment(ends[1], whole.zone)}"
        part = whole.cut(one.first - around, one.last + 1 + around)
        with styled():
            at = float(whole.times[worst])
            figure, _ = stretch_figure(part, manifest.threshold.p_value, top, title, (at, at))
            with replacing(path) as written:
                written.write_bytes(png_of(figure))
    return ", ".join(f"{whole.names[i]} {shares[i]:.0%}" for i in top)


def _plain(name: str) -> str:
    """A name of a file that any system takes."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:60] or "record"


def _write(out: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    write_csv(pd.DataFrame(rows, columns=list(columns)), out / LIST)
