"""A table that lists pictures: `image`, `split`, `label` and, if there are masks, `mask`."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Hashable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pandas as pd

from anomaly.data.pictures.labels import kind_of_label
from anomaly.data.pictures.reading import Picture, PictureSet
from anomaly.errors import DataError
from anomaly.names import record_name


def read_manifest(path: Path, root: Path, only: str | None = None, *, test_only: bool = False) -> PictureSet:
    """The pictures that a table (CSV or Parquet) lists, by names below `root`; rows of one `object` where `only` is given.

    With `test_only` training rows are not asked for, and without a column `split` every row is for testing. Raises DataError naming the
    row for a label that says nothing, a split that is neither train nor test, or a name that leads out of `root`.
    """
    if not path.is_file():
        raise DataError(f"{path}: not there; VisA's own split_csv/1cls.csv says which pictures are for training")
    rows = _read_rows(path)
    columns = {name for row in rows for name in row} | ({"split"} if test_only else set())
    missing = [name for name in ("image", "split", "label") if name not in columns]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; a manifest has image, split, label and, if there are masks, mask")
    parts: dict[str, list[Picture]] = {"train": [], "test": []}
    for number, row in enumerate(rows, start=2):
        if only is not None and row.get("object", only) != only:
            continue
        try:
            parts[_split_of(row.get("split", "test"))].append(_row_picture(root, row))
        except DataError as error:
            raise DataError(f"{path}: row {number}: {error}") from error
    faulty = [p.id for p in parts["train"] if p.defect is not None]
    if faulty and not test_only:
        raise DataError(f"{path}: {len(faulty)} training rows are labelled as defects ({faulty[0]}); training takes good parts alone")
    if not parts["train"] and not test_only:
        raise DataError(f"{path}: no row with split = train{f' and object = {only}' if only else ''}")
    return PictureSet(root, tuple(parts["train"]), tuple(parts["test"]))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """All rows with their cells as text, "" where there is nothing, by column names in lower case."""
    try:
        if path.suffix.lower() == ".csv":
            # A byte that is not UTF-8 stays one, as it does in file names: names in cp1252 are then found by either reading.
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                header = file.readline()
                file.seek(0)
                rows: list[dict[Hashable, Any]] = list(csv.DictReader(file, delimiter=max(",;\t|", key=header.count)))
        else:
            table = pd.read_parquet(path)
            rows = table.astype(object).where(table.notna(), "").to_dict("records")
    except (ValueError, OSError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: not a table that can be read: {error}") from error
    return [{str(name).strip().lower(): "" if cell is None else str(cell) for name, cell in row.items()} for row in rows]


def _split_of(split: str) -> str:
    if split.strip().lower() not in ("train", "test"):
        raise DataError(f"split is {split!r}; write train or test")
    return split.strip().lower()


def _row_picture(root: Path, row: dict[str, str]) -> Picture:
    mask = row.get("mask", "").strip()
    if not row["image"].strip():
        raise DataError("image is blank; write the picture's file name")
    return Picture(record_name(row["image"]), _below(root, row["image"]), kind_of_label(row["label"]), _below(root, mask) if mask else None)


def _below(root: Path, name: str) -> Path:
    """The file that a name means: as it is written, or as another system writes it. Where none is there, the first of these."""
    for spelling in _spellings(name):
        path = root / spelling
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{name} leads out of {root}; name pictures and masks below the manifest's folder")
        if path.is_file():
            return path
    return root / name


def _spellings(name: str) -> Iterator[str]:
    """A name, and what it is called where it came from: Windows' separators, cp1252 for bytes that are not UTF-8, macOS' accents."""
    yield name
    raw = name.encode(errors="surrogateescape")
    slashed = PureWindowsPath(name).as_posix() if "\\" in name else name
    for one in dict.fromkeys((slashed, raw.decode("cp1252", "replace") if "�" not in name and not _is_utf8(raw) else slashed)):
        yield one
        yield unicodedata.normalize("NFC", one)
        yield unicodedata.normalize("NFD", one)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
