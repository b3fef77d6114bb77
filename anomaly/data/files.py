"""Which files of a folder are data: one rule for training, scoring and the edge."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
TABLES = frozenset({".csv", ".tsv", ".parquet", ".pq", ".xlsx", ".xlsm"})
_LEFTOVERS = frozenset({  # in lower case: what operating systems and file servers leave in folders that people share
    "__macosx", "@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "$recycle.bin",
    "system volume information", "found.000", "lost.dir", "lost+found", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini",
})  # fmt: skip


def is_data_name(name: str) -> bool:
    """Whether a file or folder of this name may hold data: names that begin with a dot, owner files of office
    programs (~$…) and leftovers of operating systems and file servers never do.

    >>> [is_data_name(name) for name in ("001.png", "._001.png", ".ipynb_checkpoints", "@eaDir", "Thumbs.db", "~$list.csv")]
    [True, False, False, False, False, False]
    """
    return not name.startswith((".", "~$")) and name.lower() not in _LEFTOVERS


def walk_files(folder: Path, suffixes: Collection[str] | None = None, failed: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Data files of a folder and its subfolders, in no order. `suffixes` are in lower case; None takes all files.

    `failed` is called for a folder that cannot be read.
    """
    for root, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if is_data_name(name)]
        for name in names:
            path = Path(root) / name
            if is_data_name(name) and (suffixes is None or path.suffix.lower() in suffixes):
                yield path


def find_files(folder: Path, suffixes: Collection[str] | None = None, *, deep: bool = False) -> list[Path]:
    """Data files of a folder (with `deep` of its subfolders too) in name order; none when there is no such folder."""
    if deep:
        return sorted(path for path in walk_files(folder, suffixes) if path.is_file())
    here = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in here if is_data_name(p.name) and (suffixes is None or p.suffix.lower() in suffixes) and p.is_file())


def by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts names as people count: numbers in them by their value.

    >>> sorted(["10.png", "9.png", "cam 2/1.png", "a.png"], key=by_number)
    ['9.png', '10.png', 'a.png', 'cam 2/1.png']
    """
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def looks_like(path: Path) -> str:
    """What a path holds by its names: "pictures" or "readings", "" where that does not show. A list of pictures is pictures.

    Reads no more than the first line of a file, and nothing slow is imported.
    """
    if path.is_dir():
        pictures = any(True for _ in walk_files(path, PICTURES))
        readings = any(file.stat().st_size > 0 for file in walk_files(path, TABLES))
        return "" if pictures == readings else "pictures" if pictures else "readings"
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return "pictures"
    if suffix not in (".csv", ".tsv") or not path.is_file():
        return "readings" if suffix in (".xlsx", ".xlsm") else ""
    with path.open("rb") as stream:
        head = stream.readline(65_536).lower().replace(b"\x00", b"")
    return "" if b"image" in head else "readings"


def find_folders(folder: Path) -> list[Path]:
    """Subfolders that may hold data, in name order; none when there is no such folder."""
    here = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in here if is_data_name(path.name) and path.is_dir())
