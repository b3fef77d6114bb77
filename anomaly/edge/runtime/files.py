"""A bundle over new files and folders: the graph in ONNX Runtime, and the same readers as beside the line. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pandas as pd

from anomaly.bundle.archive import Bundle
from anomaly.data.files import PICTURES, TABLES, find_files, walk_files
from anomaly.data.tables.windows import Run
from anomaly.edge.kinds import EdgeKind, kind_of
from anomaly.edge.runtime.session import Session
from anomaly.errors import DataError, RecordError
from anomaly.progress import Progress, counted, silent
from anomaly.schema import InputSchema

BUNDLE = ".anomaly"
_ONE = ((PICTURES, "a picture"), (TABLES, "a table"))
_MANY = ((PICTURES, "pictures"), (TABLES, "tables"))


def score_paths(
    bundle: Bundle, session: Session, paths: Sequence[Path], progress: Progress = silent, *, details: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Score files and folders; returns (one row a record, what could not be read). Raises DataError when nothing could.

    Columns: record, score, p_value, flagged, and what the kind of input has beside them. With `details` also what the score is made of: the
    `map` of a picture, `share:SENSOR` for each sensor. The frame's `attrs["notes"]` say what was found wrong in files that were read.
    """
    kind, schema = kind_of(session.input_name), bundle.manifest.input
    score_file = file_scorer(bundle, kind)
    frames: list[pd.DataFrame] = []
    rejected: list[str] = []
    for path in counted(files_in(paths, kind.suffixes), progress, "files scored"):
        try:
            check_kind(path, kind.suffixes)
            frame = score_file(session.run, schema, path)
        except (RecordError, DataError) as error:
            rejected.append(str(error))
            continue
        frames.append(frame if details else without_details(frame))
    if not frames:
        raise DataError("nothing could be scored:", *rejected[:5])
    return joined(bundle, frames), rejected


def file_scorer(bundle: Bundle, kind: EdgeKind) -> Callable[[Run, InputSchema, Path], pd.DataFrame]:
    """What scores a file of this kind of input. Raises DataError for a kind whose records are in no files."""
    if kind.score_file is None:
        raise DataError(
            f"{bundle.path}: files cannot be scored by a {bundle.manifest.kind} detector; `anomaly monitor` takes {kind.accepts}"
        )
    return kind.score_file


def joined(bundle: Bundle, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The scores of several files in one frame, with whether each record is flagged."""
    notes = [note for frame in frames for note in frame.attrs.get("notes", ())]
    bare = [frame.copy(deep=False) for frame in frames]
    for frame in bare:
        frame.attrs = {}  # pandas compares them by value where frames are joined
    whole = pd.concat(bare, ignore_index=True)
    whole.attrs = {"notes": notes}
    whole["flagged"] = whole["p_value"] <= bundle.manifest.threshold.p_value
    return whole


def without_details(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores without what each is made of."""
    return scored.drop(columns=[name for name in scored if name == "map" or str(name).startswith("share:")])


def check_kind(path: Path, suffixes: Collection[str]) -> None:
    """Raise DataError for a file that by its name holds what a detector of another kind takes.

    `suffixes` are those of the detector's own kind. A file whose name says nothing is left to the reader.

    >>> check_kind(Path("part.jpg"), TABLES)
    Traceback (most recent call last):
    ...
    anomaly.errors.DataError: part.jpg: this is a picture, and the detector is for tables of readings
    """
    suffix = path.suffix.lower()
    if suffix == BUNDLE:
        raise DataError(f"{path}: this is a bundle, not data; the bundle is named first, then what it is to judge")
    other = next((words for own, words in _ONE if suffix in own and own != suffixes), None)
    if other is not None:
        raise DataError(f"{path}: this is {other}, and the detector is for {_words(suffixes)}")


def _words(suffixes: Collection[str]) -> str:
    return "pictures" if suffixes == PICTURES else "tables of readings"


def files_in(paths: Sequence[Path], suffixes: Collection[str]) -> list[Path]:
    """The files given, and those in the folders given, in order. Raises DataError when there are none, and says what else is there."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += find_files(path, suffixes, deep=True)
        else:
            found.append(path)
    if not found:
        where = ", ".join(map(str, paths))
        others = [words for own, words in _MANY if own != suffixes and any(next(walk_files(path, own), None) for path in paths)]
        if others:
            raise DataError(f"{where}: holds {' and '.join(others)}, and the detector is for {_words(suffixes)}")
        raise DataError(f"{where}: no file to score ({', '.join(sorted(suffixes))})")
    return found
