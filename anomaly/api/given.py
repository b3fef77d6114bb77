"""What a caller may give in place of files: a DataFrame of readings, pictures as arrays. All of it goes through the readers of files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomaly.data.pictures.reading import PictureFormat, decode_pixels, gray_16_bit, refused_mode
from anomaly.data.tables.dialect.formats import could_be_time
from anomaly.data.tables.reader import SensorTable, TableSchema, read_table
from anomaly.errors import DataError, UnclearError

Where: TypeAlias = str | os.PathLike[str]
Given: TypeAlias = Where | pd.DataFrame | NDArray[Any] | Sequence[Where] | Sequence[NDArray[Any]]
FRAME = "frame.parquet"
CAN_BE = "give a path or several, a DataFrame of readings, or pictures as NumPy arrays or Pillow's"
CHANNELS, FEWEST_WIDE = (1, 3, 4), 8  # of a picture; and pixels of its width from which on an array's last side is no channels
FIRST_LINE = 2  # of a Parquet file, as the reader counts


def is_path(given: object) -> bool:
    """Whether something names a file or folder."""
    return isinstance(given, (str, os.PathLike))


def taken(given: Any) -> Given:
    """What was given, in one of the forms that are taken: pictures of Pillow as arrays, whatever can be gone through as a list.

    Raises DataError for anything else, with what can be given.

    >>> taken(Path(name) for name in ("a.png", "b.png"))
    [PosixPath('a.png'), PosixPath('b.png')]
    """
    if isinstance(given, (pd.Series, np.ndarray)) and given.dtype.kind in "OUT" and len(given) and all(map(is_path, np.ravel(given))):
        return list(np.ravel(given))  # paths, as a column of a list of files holds them
    if is_path(given) or isinstance(given, (pd.DataFrame, np.ndarray)):
        return given  # type: ignore[no-any-return]
    if isinstance(given, Image.Image):
        return _pixels(given)
    if given is None or isinstance(given, (bytes, Mapping, pd.Series)) or not isinstance(given, Iterable):
        raise DataError(f"{'nothing' if given is None else f'a {type(given).__name__}'} was given; {CAN_BE}")
    found = [_pixels(one) if isinstance(one, Image.Image) else one for one in given]
    wrong = [type(one).__name__ for one in found if not (is_path(one) or isinstance(one, np.ndarray))]
    if wrong or len({is_path(one) for one in found}) > 1:
        raise DataError(f"{f'a {wrong[0]} in a list' if wrong else 'files and arrays together'}: {CAN_BE}")
    return sorted(found, key=str) if isinstance(given, (set, frozenset)) else found  # a set has no order of its own


def _pixels(image: Image.Image) -> NDArray[Any]:
    """A picture of Pillow as the reader of files would have it, upright."""
    why = refused_mode(image.mode)
    if why:
        way = "scale it to whole numbers of 8 or 16 bits" if image.mode == "F" else "give it as RGB or gray, such as image.convert('RGB')"
        raise DataError(f"a picture of Pillow in mode {image.mode}: {why}; {way}")
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "I":  # whole numbers of 32 bits, into which Pillow puts a picture of 8 bits as 0 to 255, of 16 as 0 to 65535
        values = np.asarray(upright)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise DataError(f"a picture of Pillow in mode I with values from {low} to {high}: 0 to 255, or to 65535, are taken")
        if high <= 255:
            return values.astype(np.uint8)
    plain = upright if upright.mode.startswith("I") or upright.mode in ("L", "RGB", "RGBA") else upright.convert(_plain_mode(upright.mode))
    return gray_16_bit(plain) if plain.mode.startswith("I") else np.asarray(plain)


def _plain_mode(mode: str) -> str:
    return "L" if mode in ("1", "LA", "La") else "RGB"


# --- readings ---


def write_frame(frame: pd.DataFrame, path: Path, time: str = "time") -> str | None:
    """Write a DataFrame as the Parquet file that the reader of tables takes.

    An index of times (by its type, or by its name) becomes the first column, called as the index is, or `time`. Returns its name, None
    where the index is none. Raises DataError for a frame that is no table of readings.
    """
    if not len(frame):
        raise DataError("the DataFrame has no rows; give the readings, a row a moment and a column a sensor")
    if frame.columns.nlevels > 1:
        raise DataError("the DataFrame has columns of several levels; join their names first: frame.columns = frame.columns.map('_'.join)")
    plain = frame.set_axis([str(name) for name in frame.columns], axis=1)
    twice = sorted(set(plain.columns[plain.columns.duplicated()]))
    if twice:
        raise DataError(f"columns of the DataFrame occur twice: {twice}; rename them")
    index = frame.index.to_timestamp() if isinstance(frame.index, pd.PeriodIndex) else frame.index
    name = None
    if isinstance(index, pd.DatetimeIndex) or (index.name is not None and (index.name == time or could_be_time(str(index.name)))):
        name = str(index.name or time)
        if name in plain.columns:
            raise DataError(f"the DataFrame's index of times and a column are both called {name!r}; rename one of them")
        plain.insert(0, name, index)
    unreal = [column for column in plain if plain[column].dtype.kind == "c"]
    if unreal:
        raise DataError(f"columns {unreal} of the DataFrame hold complex numbers; give what they mean apart: .abs() and np.angle, or .real")
    for column in [column for column in plain if plain[column].dtype == object]:
        plain[column] = _texts(plain[column])
    try:
        plain.to_parquet(path, index=False)
    except (ValueError, TypeError) as error:  # pyarrow's errors are of these
        raise DataError(f"the DataFrame cannot be taken as a table: {str(error).splitlines()[0]}") from error
    return name


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column of Python objects as it is where all are of one type, else as text."""
    kinds = {type(value) for value in column[column.notna()]}
    return column if len(kinds) <= 1 else column.map(str, na_action="ignore")


def read_frame(frame: pd.DataFrame, schema: TableSchema) -> SensorTable:
    """A DataFrame as a table, read as its Parquet file would be. Row i of the frame is line i + `FIRST_LINE` of the table."""
    asked = schema.asked
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FRAME
        name = write_frame(frame, path, asked.time[0] if asked.time else "time")
        if name is not None:
            schema = replace(schema, time=None, dialect=asked.model_copy(update={"time": (name,)}))
        with named_frame(path):
            table = read_table(path, schema)
            table.report.notes[:] = [note.replace(str(path), "the DataFrame") for note in table.report.notes]
            return replace(table, path=Path("the DataFrame"))


@contextmanager
def named_frame(path: Path) -> Iterator[None]:
    """Errors that name the file name the DataFrame."""
    try:
        yield
    except UnclearError as error:
        raise DataError(f"the DataFrame: {_said_in_pandas(error)}") from error
    except DataError as error:
        text = "\n".join(map(str, error.args)).replace(str(path), "the DataFrame")
        if "no time column" in text:
            text += (
                ". Give the frame an index of times, or a column; where rows have none, number them: "
                'frame.index = pd.date_range("2026-01-01", periods=len(frame), freq="s")'
            )
        raise DataError(*text.split("\n")) from error


def _said_in_pandas(error: UnclearError) -> str:
    """What may be meant, and the line of pandas that says it."""
    meant = " or ".join(error.choices)
    if any("time_format" in reading for reading in error.choices.values()):
        way = "read the times first: pd.to_datetime(times, dayfirst=True), or with format=..., and give them as the frame's index"
    else:
        way = 'make numbers of the texts first: frame[column] = pd.to_numeric(frame[column].str.replace(",", "."))'
    return f"cells can be read in two ways ({meant}), and every row fits both; {way}"


# --- pictures ---


def pictures_of(given: NDArray[Any] | Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The single pictures, (H, W) or (H, W, C) each, of an array or several.

    (H, W) and (H, W, 1, 3 or 4) are one picture; (N, H, W) and (N, H, W, C) are N. Raises DataError for anything else, and for what may be
    meant in two ways: (3, H, W) may be 3 gray pictures, or one with its channels first.

    >>> [picture.shape for picture in pictures_of(np.zeros((5, 20, 30), np.uint8))][:2]
    [(20, 30), (20, 30)]
    """
    if not isinstance(given, np.ndarray):
        if not len(given):
            raise DataError("nothing was given: an empty list")
        return list(given)
    _check_channels(given)
    if given.ndim == 4 or (given.ndim == 3 and given.shape[2] not in CHANNELS):
        return list(given)
    if given.ndim in (2, 3) and given.dtype.kind == "f":
        raise DataError(
            f"an array {given.shape} of {given.dtype} was given: pictures are uint8 or uint16; readings come as a DataFrame with a name "
            "for each sensor and an index of times, or go into anomaly.SensorDetector"
        )
    return [given]


def _check_channels(given: NDArray[Any]) -> None:
    """Raise DataError for an array with its channels in another place than the last, or with as many as no picture has."""
    first = {3: 0, 4: 1}.get(given.ndim)
    if first is None or given.shape[-1] in CHANNELS:
        return
    if given.shape[first] in CHANNELS:
        axes = "1, 2, 0" if given.ndim == 3 else "0, 2, 3, 1"
        several = f"; {given.shape[0]} gray pictures are given as a list of them" if given.ndim == 3 else ""
        raise DataError(f"an array {given.shape}: channels come last, array.transpose({axes}){several}")
    if given.ndim == 4 or given.shape[-1] < FEWEST_WIDE:
        raise DataError(f"an array {given.shape}: a picture has 1, 3 or 4 channels, and they come last; this has {given.shape[-1]}")


def write_pictures(pictures: Sequence[NDArray[Any]], folder: Path) -> None:
    """Write pictures as PNG files 000000.png, 000001.png, …, without loss. Raises RecordError for an array that is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        color = picture.ndim == 3 and picture.shape[2] > 1
        pixels = decode_pixels(picture, PictureFormat("rgb" if color else "gray", picture.dtype == np.uint16), f"picture {number}").pixels
        Image.fromarray(pixels if color else pixels[:, :, 0]).save(folder / f"{number:06d}.png")
