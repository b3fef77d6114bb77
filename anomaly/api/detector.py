"""A detector in Python: score records, explain one, save. Needs the base install, no PyTorch: the bundle's graph runs in ONNX Runtime."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from anomaly.api.given import FIRST_LINE, Given, Where, is_path, pictures_of, read_frame, taken
from anomaly.atomic import copy_file
from anomaly.bundle.archive import Bundle, read_bundle
from anomaly.bundle.manifest import Manifest, Threshold
from anomaly.data.clock import rate_words
from anomaly.data.pictures.reading import Decoded, decode_pixels, format_of, read_picture
from anomaly.data.tables.files import table_schema
from anomaly.data.tables.reader import SensorTable, read_table
from anomaly.edge.kinds import EdgeKind, kind_of
from anomaly.edge.runtime.files import files_in, joined, score_paths
from anomaly.edge.runtime.session import Provider, Session, open_session
from anomaly.edge.scoring.pictures import score_pixels
from anomaly.edge.scoring.tables import score_readings
from anomaly.errors import BundleError, DataError, RecordError
from anomaly.names import record_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = ("time", "score", "p_value", "flagged", "top_sensor")  # columns of a frame of scores, those of them that are there


def load(path: Where, *, provider: Provider = "auto") -> Detector:
    """Open a bundle (`.anomaly`), as `anomaly fit` or `Detector.save` wrote it.

    `provider`: where the graph runs, "auto" takes TensorRT, CUDA, then the CPU. Raises BundleError for a file that is damaged, altered, or
    not signed where a key is set; ProviderError for a provider that was named and cannot be used.
    """
    bundle = read_bundle(Path(path))
    return Detector(bundle, open_session(bundle, provider))


class Detector:
    """A fitted detector: what `anomaly.fit` and `anomaly.load` give."""

    def __init__(self, bundle: Bundle, session: Session, kept: object = None, notes: Sequence[str] = ()) -> None:
        """A verified bundle with a session on its graph. `kept`: what must live as long as the bundle's file is needed.

        `notes`: what `anomaly.fit` found in the data; none of one that was loaded.
        """
        self._bundle, self._session, self._kept, self.notes = bundle, session, kept, list(notes)
        self._given: Given | None = None

    # --- what it is ---

    @property
    def manifest(self) -> Manifest:
        """All that the bundle says of itself: input, threshold, alarm settings, provenance, metrics."""
        return self._bundle.manifest

    @property
    def threshold(self) -> Threshold:
        """A record is flagged when its p-value is at or below `threshold.p_value`, which is where its score reaches `threshold.score`."""
        return self.manifest.threshold

    @property
    def budget(self) -> dict[str, float]:
        """The false alarms that were asked for, such as {"false_alarm_rate": 0.01}."""
        return dict(self.threshold.budget)

    @property
    def sensors(self) -> list[str]:
        """The sensors it looks at, in order; none for pictures."""
        return [sensor.name for sensor in self.manifest.input.sensors]

    @property
    def hash(self) -> str:
        """The bundle's hash, which is the same for the same data, spec and version."""
        return self._bundle.hash

    # --- what it does ---

    def score(self, given: Given) -> pd.DataFrame:
        """Score records: one row a record.

        `given` for pictures: a file, a folder or several; or arrays, (H, W), (H, W, C), (N, H, W) or (N, H, W, C), uint8 or uint16,
        pictures of Pillow, or a list of single ones. For readings: a table (CSV, Excel, Parquet), a folder or several, or a DataFrame, a
        row a moment, with an index of times or a column of them, and a column for each sensor.

        The frame's index names the records: file names, FILE:LINE for rows of a table, the DataFrame's own index, the number of an array.
        Columns: `time` (UTC; of a picture file when it was last changed), `score`, `p_value` (one normal record in 1 / p_value would look
        as odd, where the normals can tell so much: `manifest.least_p`), `flagged`; then for pictures `map`, an array (h, w); for readings
        `top_sensor` and `share:SENSOR`, each sensor's share of the score, together 1.

        A row of readings is judged with the rows before it, a window: the first rows, and those after a gap, end no whole window and have
        no score. Of a DataFrame every row is there, in its order, so that `frame[scores["flagged"]]` and `frame.join(scores)` just work:
        a row without a score has NaN there and is not flagged. Of files such rows are left out.

        `frame.attrs["notes"]` say what was found wrong in what was read, `frame.attrs["rejected"]` what could not be read at all, which
        is also a warning. Raises DataError when nothing can be scored.
        """
        given = taken(given)
        if isinstance(given, pd.DataFrame):
            found = self._score_frame(given)
        elif _are_paths(given):
            found = self._score_files(_paths(given))
        elif self.sensors and len(given):  # type: ignore[arg-type]
            raise DataError(f"{self.manifest.name}: a detector of readings; give a table, or a DataFrame with columns {self.sensors[:8]}")
        else:
            found = self._score_arrays(pictures_of(given))  # type: ignore[arg-type]
        self._given = given  # what was scored last: an error above leaves what was before
        return found

    def explain(self, record: Any, given: Given | None = None) -> Figure:
        """A figure of why a record scores as it does.

        `record` is a label of the index that `score` gave, or a row of that; or a picture: a file or an array. It is looked for in what was
        scored last, or in `given`. For a picture: its heat-map over it. For readings: the sensors with the largest shares around the
        window, clock times on the axis (of the line's zone, UTC where none is known). Raises DataError where there is no such record,
        ImportError without Matplotlib.
        """
        from anomaly.api import figures

        given = self._given if given is None else taken(given)
        if isinstance(record, pd.DataFrame):
            raise DataError("a DataFrame was given: explain takes one record, by its label or its row, such as scores.iloc[0]")
        if isinstance(record, pd.Series):  # a row of what `score` gave
            record = record.get("record", record.name)
        record = taken(record) if isinstance(record, Image.Image) else record
        if self.sensors:
            return figures.explain_window(self._bundle.manifest, self._session, *self._window(record, given))
        return figures.explain_picture(self._bundle.manifest, self._session, *self._picture(record, given))

    def save(self, path: Where) -> Path:
        """Write the bundle to a file, whole or not at all: what `anomaly monitor` runs beside the line. Returns the path."""
        target = Path(path)
        if not self._bundle.path.is_file() or read_bundle(self._bundle.path).hash != self.hash:
            raise BundleError(f"{self._bundle.path}: the bundle this detector came from is gone or is another one now")
        if not (target.exists() and target.samefile(self._bundle.path)):
            copy_file(self._bundle.path, target)
        return target

    # --- what it looks like ---

    def __repr__(self) -> str:
        takes = f"{len(self.sensors)} sensors" if self.sensors else "pictures"
        return f"Detector({self.manifest.name!r} {self.manifest.version}, {takes}, {self._flags()}, {self.hash[:12]})"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        manifest, threshold = self.manifest, self.threshold
        seen = ", ".join(self.sensors[:8]) + (f" and {len(self.sensors) - 8} more" if len(self.sensors) > 8 else "")
        rows = {
            "detector": f"{manifest.name}, version {manifest.version}",
            "looks at": f"{len(self.sensors)} sensors: {seen}" if self.sensors else "pictures",
            "learnt from": f"{manifest.provenance.get('fit', {}).get('normals', '?')} normal {'windows' if self.sensors else 'pictures'}",
            "flags": self._flags() + ("" if threshold.score is None else f", score {threshold.score:.4g} or more"),
            "hash": self.hash[:12],
        }
        cells = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table>{cells}</table>"

    def _flags(self) -> str:
        per_day, p = self.budget.get("false_alarms_per_day"), self.threshold.p_value
        return rate_words(per_day) if per_day is not None else f"1 in {1 / p:,.0f} normal records"

    # --- how it scores ---

    def _score_files(self, paths: list[Path]) -> pd.DataFrame:
        _check_there(paths)
        frame, rejected = score_paths(self._bundle, self._session, paths, details=True)
        if "time" not in frame:
            changed = {record_name(str(path)): _changed(path) for path in files_in(paths, self._kind.suffixes)}
            frame["time"] = frame["record"].map(changed)
        return _finished(frame, frame["record"], frame.attrs["notes"], rejected)

    def _score_frame(self, given: pd.DataFrame) -> pd.DataFrame:
        schema = self.manifest.input
        if not self.sensors:
            raise DataError(f"{self.manifest.name}: a detector of pictures; a DataFrame holds readings. Give files or arrays of pictures")
        table = read_frame(given, table_schema(schema))
        scored = score_readings(self._session.run, schema, table)
        places = [int(name.rpartition(":")[2]) - FIRST_LINE for name in scored["record"]]
        left = len(given) - len(scored)
        without = [f"{left} of {len(given)} rows end no window of {schema.window} rows and have no score"] if left else []
        whole = joined(self._bundle, [scored]).set_index(pd.Index(places)).reindex(range(len(given)))
        whole["flagged"] = np.isin(np.arange(len(given)), places) & whole["flagged"].eq(True)
        whole["time"] = pd.Series(table.times, index=table.lines - FIRST_LINE).reindex(whole.index)
        return _finished(whole, given.index, [*table.report.notes, *without], [])

    def _score_arrays(self, pictures: list[NDArray[Any]]) -> pd.DataFrame:
        frames, numbers, rejected = [], [], []
        for number, pixels in enumerate(pictures):
            try:
                frames.append(score_pixels(self._session.run, self.manifest.input, f"picture {number}", pixels))
            except RecordError as error:
                rejected.append(str(error))
                continue
            numbers.append(number)
        if not frames:
            raise DataError("nothing could be scored:", *rejected[:5])
        return _finished(joined(self._bundle, frames), pd.Index(numbers), [], rejected)

    @property
    def _kind(self) -> EdgeKind:
        return kind_of(self._session.input_name)

    # --- records found again ---

    def _picture(self, record: Any, given: Given | None) -> tuple[str, Decoded]:
        """The name of a record, and its picture."""
        form = format_of(self.manifest.input)
        if isinstance(record, np.ndarray):
            return "the picture", decode_pixels(record, form, "the picture")
        if is_path(record):  # as it was given, or as `score` names it
            files = {record_name(str(path)): path for path in files_in(_paths(given), self._kind.suffixes)} if _are_paths(given) else {}
            return str(record), read_picture(files.get(str(record), Path(record)), form)
        if given is not None and not _are_paths(given) and not isinstance(given, pd.DataFrame):
            pictures = pictures_of(given)  # type: ignore[arg-type]
            if isinstance(record, (int, np.integer)) and 0 <= record < len(pictures):
                return f"picture {record}", decode_pixels(pictures[int(record)], form, f"picture {record}")
        raise DataError(f"{record!r}: no such picture; give a label of what `score` returned, a file or an array")

    def _window(self, record: Any, given: Given | None) -> tuple[str, SensorTable, int]:
        """The name of a record, the table that holds it, and its row there."""
        schema = table_schema(self.manifest.input)
        if isinstance(given, pd.DataFrame):
            table = read_frame(given, schema)
            rows = np.flatnonzero(given.index[table.lines - FIRST_LINE] == record)
            if len(rows):
                return str(record), table, int(rows[-1])
        elif _are_paths(given):
            file, _, line = str(record).rpartition(":")
            named = [path for path in files_in(_paths(given), self._kind.suffixes) if record_name(path.name) == file]
            if len(named) > 1 and line.isdecimal():
                which = ", ".join(map(str, named))
                raise DataError(
                    f"{record!r}: {len(named)} files are called so ({which}); name the one that is meant: explain(record, FILE)"
                )
            for path in named if line.isdecimal() else []:
                table = read_table(path, schema)
                rows = np.flatnonzero(table.lines == int(line))
                if len(rows):
                    return str(record), table, int(rows[-1])
        raise DataError(
            f"{record!r}: no such record in what was scored last; give a label of the index that `score` returned, and its data"
        )


def _are_paths(given: Given | None) -> bool:
    return is_path(given) or (isinstance(given, (list, tuple)) and len(given) > 0 and all(map(is_path, given)))


def _paths(given: Any) -> list[Path]:
    return [Path(path) for path in ([given] if is_path(given) else given)]


def _check_there(paths: Sequence[Path]) -> None:
    gone = [path for path in paths if not path.exists()]
    if gone:
        raise DataError(f"{gone[0]}: no such file or folder")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return np.nan


def _finished(frame: pd.DataFrame, labels: Any, notes: Sequence[str], rejected: Sequence[str]) -> pd.DataFrame:
    """Scores as a caller gets them. What could not be read is a warning too."""
    times = frame["time"] if "time" in frame else np.full(len(frame), np.nan)
    found = frame.assign(time=pd.to_datetime(times, unit="s", utc=True)).drop(columns="record")
    first = [name for name in FIRST if name in found]
    found = found[[*first, *(name for name in found if name not in FIRST)]].set_index(pd.Index(labels, name="record"))
    found.attrs = {"notes": list(notes), "rejected": list(rejected)}
    if rejected:
        text = f"{len(rejected)} could not be read and have no score (all in attrs['rejected']): {rejected[0]}"
        warnings.warn(text, UserWarning, stacklevel=4)
    return found
