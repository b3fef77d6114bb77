"""What lies in folders that people and file servers share."""

from __future__ import annotations

from pathlib import Path

FOLDERS = (".ipynb_checkpoints", ".thumbs", "@eaDir", "__MACOSX", ".git")


def litter(folder: Path) -> Path:
    """Put files that are no data, but look like it, into a folder and beside it in hidden ones."""
    places = [folder, *(folder / name for name in FOLDERS)]
    for place in places:
        place.mkdir(exist_ok=True)
        for name in ("._left.jpg", ".left.png", ".~lock.left.csv", "Thumbs.db", ".DS_Store"):
            (place / name).write_bytes(b"not data")
    for place in places[1:]:
        for name in ("left.png", "left.csv", "train.csv", "left.parquet"):
            (place / name).write_bytes(b"not data")
    return folder
