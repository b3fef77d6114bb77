"""What lies at a path, as far as a spec is proposed by it: pictures or readings, how many, how large, which columns, how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from anomaly.data.files import PICTURES, TABLES, find_folders, looks_like, walk_files
from anomaly.data.pictures.labels import is_good
from anomaly.data.pictures.layouts import find_pictures
from anomaly.data.pictures.reading import PictureSet
from anomaly.data.pictures.survey import sizes_in_words
from anomaly.data.tables.files import find_tables, label_of, read_normals, table_schema
from anomaly.errors import DataError
from anomaly.names import one_line
from anomaly.spec import SensorInput

if TYPE_CHECKING:
    from anomaly.data.tables.reader import SensorTable

MEASURED = 60  # pictures whose size is read from their headers
NAMED = 12  # sensors that are named in a line
ORIENTATION, TURNED = 274, (5, 6, 7, 8)  # EXIF: the picture lies on its side
SOUND = (".wav", ".mat")  # what `anomaly table` makes a table of
WORDS = {"camera": "pictures", "sensor": "readings"}


@dataclass(frozen=True)
class Look:
    """What was found. `data` is what a fit takes: the path, or the folder of good parts in it.

    `words` tell it, a line each. `sizes` are (high, wide) in pixels of some of the pictures that are learnt from. `tables` are those that
    are learnt from, without a pattern taken off unless they were looked at for a page.
    """

    kind: str
    data: Path
    words: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    tables: tuple[SensorTable, ...] = ()


def kind_of_data(path: Path) -> str:
    """The kind of detector ("camera" or "sensor") that data is for. Raises DataError, with what to do, where neither shows.

    A folder that holds pictures and tables is for a camera: labels and manifests lie beside pictures, pictures not beside readings.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give a folder of pictures, a table, or a folder of tables")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); export it again")
    found = looks_like(path)
    if found == "pictures" and path.suffix.lower() in PICTURES and path.is_file():
        raise DataError(f"{path}: this is one picture; give the folder that holds the pictures of good parts")
    if found:
        return "camera" if found == "pictures" else "sensor"
    if path.is_dir():
        if any(True for _ in walk_files(path, PICTURES)):
            return "camera"
        sounds = sorted(walk_files(path, SOUND))[:1]
        raise DataError(f"{path}: {_table_first(sounds[0])}" if sounds else f"{path}: no picture and no table in it ({_known()})")
    if path.suffix.lower() in SOUND:
        raise DataError(f"{path}: {_table_first(path)}")
    if path.suffix.lower() in (".csv", ".tsv"):
        return "camera"  # a list of pictures
    if path.suffix.lower() in TABLES:
        from anomaly.data.tables.dialect.find import column_names

        return "camera" if "image" in (name.lower() for name in column_names(path)) else "sensor"
    raise DataError(f"{path}: neither a picture nor a table ({_known()}); a database or another source: `anomaly table --help`")


def _known() -> str:
    return f"pictures: {', '.join(sorted(PICTURES))}; tables: {', '.join(sorted(TABLES))}"


def _table_first(path: Path) -> str:
    return f"sound or vibration: make a table of it first: anomaly table {path} --out readings.parquet"


def look(path: Path, *, asked: SensorInput | None = None, pattern: bool = False) -> Look:
    """Look at data. Pictures are counted and some are measured, not decoded; tables are read, with their daily pattern where `pattern`.

    `asked` is what is told of how tables are written. Raises DataError, with what to do, for what no detector can be fitted to.
    """
    if kind_of_data(path) == "camera":
        return _pictures(path)
    return _readings(path, asked or SensorInput(), pattern)


def _pictures(path: Path) -> Look:
    data = path
    try:
        found = find_pictures(path)
    except DataError:
        inside = [folder for folder in find_folders(path) if is_good(folder.name)] if path.is_dir() else []
        if len(inside) != 1:
            raise
        data = inside[0]
        found = find_pictures(data)
    sizes, turned = _sizes(found)
    words = [f"{one_line(str(data))}: pictures, {len(found.train):,} of good parts to learn from{_tested(found)}"]
    if sizes:
        words.append(sizes_in_words(sizes, turned, all_seen=len(sizes) == len(found.train)))
    beside = sum(1 for _ in walk_files(path, TABLES)) if path.is_dir() else 0
    if beside:
        words.append(
            f"tables in the same folder are not read ({beside:,}); to learn from readings give one of them, or a folder of its own"
        )
    return Look("camera", data, (*words, *found.notes), tuple(sizes))


def _tested(found: PictureSet) -> str:
    faulty = sum(picture.defect is not None for picture in found.test)
    return f"; {len(found.test) - faulty:,} good and {faulty:,} faulty ones to test on" if found.test else ""


def _sizes(found: PictureSet) -> tuple[list[tuple[int, int]], list[bool]]:
    """(high, wide) of some pictures, upright, and whether EXIF says that each is turned in its file, by their headers."""
    sizes, lying = [], []
    for at in np.unique(np.linspace(0, len(found.train) - 1, min(MEASURED, len(found.train))).astype(int)):
        try:
            with Image.open(found.train[at].path) as image:
                wide, high = image.size
                orientation = image.getexif().get(ORIENTATION, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # the fit says which pictures cannot be read
        sizes.append((wide, high) if orientation in TURNED else (high, wide))
        lying.append(orientation != 1)
    return sizes, lying


def _readings(path: Path, asked: SensorInput, pattern: bool) -> Look:
    train, test = find_tables(path)
    tables = read_normals(train, table_schema(asked), asked.train_rows, pattern=pattern and asked.pattern == "auto")
    first = tables[0]
    rows, names = sum(len(table.times) for table in tables), [channel.name for channel in first.channels]
    files = f" in {len(tables)} files" if len(tables) > 1 else ""
    beside = f"; {len(test)} table{'s' if len(test) > 1 else ''} to test on" if test else ""
    words = [
        f"{one_line(str(path))}: readings, {rows:,} rows{files}, one every {first.period_s:g} s by the column "
        f"{one_line(' + '.join(first.dialect.time))}{beside}",
        f"{len(names)} sensor{'s' if len(names) > 1 else ''}: {listed(names)}",
    ]
    label = label_of(first)
    if label is not None:
        marked = sum(int((table.labels[label] > 0).sum()) for table in tables if label in table.labels)
        words.append(f"the column {one_line(label)} marks faults: {marked:,} rows, which are not learnt from")
    for table in tables:
        words += [one_line(note) for note in table.report.notes if "is no sensor" in note]
    return Look("sensor", path, tuple(words), tables=tuple(tables))


def listed(names: Sequence[str]) -> str:
    """Names in a line, the first dozen of them.

    >>> listed(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(one_line(name) for name in names[:NAMED]) + more
