"""History of a camera: folders of pictures through a bundle, each with a time, for `anomaly alarms simulate`.

A picture file seldom says when its part came: a copied file has the time of the copy. So the time between pictures is asked for, and files'
times are taken only where they look like times of recording. Bad parts lie sorted by kind, which is no order in time. So those of a
kind come one after another at the pace of the good ones, as a run of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.replay import History, Run
from anomaly.bundle.archive import Bundle
from anomaly.data.files import PICTURES, by_number, find_files, find_folders
from anomaly.data.pictures.labels import is_good
from anomaly.data.pictures.layouts import find_faults, find_labelled, has_test
from anomaly.data.pictures.reading import Picture, PictureFormat, format_of, read_picture
from anomaly.data.records import Record
from anomaly.edge.runtime.batching import score
from anomaly.edge.runtime.session import Session
from anomaly.edge.sources.base import EARLIEST, LATEST
from anomaly.errors import DataError, RecordError
from anomaly.names import one_line, record_name
from anomaly.progress import Progress, counted, silent

BATCH = 8  # pictures in memory
FEWEST = 10  # pictures whose times are looked at
RECORDED_S = 1.0  # the usual time between pictures from which they are no files copied in a row
SAME = 0.1  # share of pictures, at most, with the time of another: archives and copies give many files one time

Timed = list[tuple[Picture, float]]


def picture_history(
    bundle: Bundle, session: Session, data: Sequence[Path], faults: Sequence[Path], period_s: float | None, progress: Progress = silent
) -> History:
    """The scored pictures of folders or manifests: a run for the good parts of each of `data`, and one for each kind of bad parts.

    `data` with a test part (test/good, test/KIND), or with a folder of good parts among folders by kind, is taken by its labels; all
    pictures of any other folder are good parts. `period_s`: time from one picture to the next, in order of name; None takes the files'
    times. Raises DataError when there are no good parts, none can be read, or the files' times do not look like times of recording.
    """
    labelled = [_labelled(path) for path in data]
    good = [[picture for picture in pictures if picture.defect is None] for pictures in labelled]
    if not any(good):
        raise DataError(f"{', '.join(map(str, data))}: no pictures of good parts; --data names a folder of them, or one with test/good")
    kinds: dict[tuple[int, str], list[Picture]] = {}
    for number, pictures in enumerate([*labelled, *(_faults(path) for path in faults)]):
        for picture in pictures:
            if picture.defect is not None:
                kinds.setdefault((number, picture.defect), []).append(picture)
    timed, pace, clock = _clocked(good, period_s)
    bad = [_paced(pictures, pace) for pictures in kinds.values()]
    rejected: list[str] = []
    everything = counted([one for run in (*timed, *bad) for one in run], progress, "pictures")
    form = format_of(bundle.manifest.input)
    runs = [
        _scored(session, form, everything, len(run), faulty, rejected) for group, faulty in ((timed, False), (bad, True)) for run in group
    ]
    if not any(len(run.times) for run in runs[: len(timed)]):
        raise DataError("none of the pictures of good parts could be read:", *rejected[:5])
    count = sum(map(len, bad))
    told = ", ".join(f"{one_line(kind)} {len(pictures)}" for (_, kind), pictures in kinds.items())
    clock += f"; {sum(map(len, timed))} good parts, " + (
        f"{count} bad ones, each kind in a row at that pace: {told}" if bad else "no bad ones"
    )
    return History(tuple(run for run in runs if len(run.times)), clock, tuple(rejected))


def _labelled(path: Path) -> tuple[Picture, ...]:
    """The pictures of one `--data`, good and bad."""
    if has_test(path):
        return find_labelled(path, layout="mvtec")
    if any(is_good(folder.name) for folder in find_folders(path)):
        return find_labelled(path, layout="folder")
    return tuple(Picture(record_name(file.relative_to(path)), file) for file in find_files(path, PICTURES, deep=True))


def _faults(path: Path) -> list[Picture]:
    """The bad parts of one `--faults`."""
    if not has_test(path):
        return find_faults(path)
    found = [picture for picture in find_labelled(path, layout="mvtec") if picture.defect is not None]
    if not found:
        raise DataError(f"{path}: no pictures of faults in its test part")
    return found


# --- when pictures came ---


def _clocked(runs: Sequence[Sequence[Picture]], period_s: float | None) -> tuple[list[Timed], float, str]:
    """Runs with times, the usual time between pictures, and in words where the times come from. Raises DataError."""
    if period_s is not None:
        return [_paced(run, period_s) for run in runs], period_s, f"a picture every {period_s:g} s (--period-s), in order of name"
    timed = [sorted(((picture, _changed(picture.path)) for picture in run), key=lambda one: (one[1], by_number(one[0].id))) for run in runs]
    gaps = np.concatenate([np.diff([when for _, when in run]) for run in timed])
    why = _no_recording(sum(map(len, runs)), gaps)
    if why:
        where = runs[0][0].path.parent if runs[0] else "--data"
        raise DataError(
            f"{where}: the files' times do not look like times of recording: {why}. "
            "Say how many seconds lie between pictures: --period-s 1 for one a second, in order of name"
        )
    pace = float(np.median(gaps))
    first, last = (
        datetime.fromtimestamp(end, UTC) for end in (min(run[0][1] for run in timed if run), max(run[-1][1] for run in timed if run))
    )
    return timed, pace, f"the files' times, a picture every {pace:.3g} s (median), {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _no_recording(count: int, gaps: NDArray[np.float64]) -> str:
    """Why times with these gaps between them are not those of recording, "" when they may be."""
    if count < FEWEST or not len(gaps):
        return f"{count} pictures are too few to tell"
    same = int((gaps <= 0).sum())
    if same > SAME * len(gaps):
        return f"{same} of {count} have the time of another"
    if np.median(gaps) < RECORDED_S:
        return f"they are {np.median(gaps):.2g} s apart (median), as files are that were copied"
    return ""


def _paced(pictures: Sequence[Picture], period_s: float) -> Timed:
    return [(picture, number * period_s) for number, picture in enumerate(sorted(pictures, key=lambda one: by_number(one.id)))]


def _changed(path: Path) -> float:
    """When a file was last changed; 0 for one that is gone, which is set aside when it is read."""
    try:
        return min(max(path.stat().st_mtime, EARLIEST), LATEST)
    except OSError:
        return 0.0


# --- scores ---


def _scored(
    session: Session, form: PictureFormat, ahead: Iterator[tuple[Picture, float]], count: int, faulty: bool, rejected: list[str]
) -> Run:
    """The run of the next `count` pictures; those that cannot be read are left out and told in `rejected`."""
    times: list[float] = []
    parts = [np.empty((2, 0), np.float32)]
    batch: list[Record[NDArray[np.uint8]]] = []
    for number in range(count):
        picture, when = next(ahead)
        try:
            batch.append(Record(picture.id, when, read_picture(picture.path, form).pixels))
        except RecordError as error:
            rejected.append(str(error))
        if batch and (len(batch) == BATCH or number == count - 1):
            answers = score(session, batch)
            parts.append(np.stack([answers.p_value, answers.score]))
            times += [record.time for record in batch]
            batch = []
    p, scores = np.concatenate(parts, axis=1)
    return Run(np.array(times, np.float64), p, scores, None, np.full(len(times), faulty))
