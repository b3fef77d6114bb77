#!/usr/bin/env python3
"""Back-up and restore of what a machine keeps: stores, release folders, settings. Needs Python alone; the monitor may go on meanwhile.

    python3 backup.py make anomaly-0726.tar /var/lib/anomaly /etc/anomaly /srv/release
    python3 backup.py check anomaly-0726.tar
    python3 backup.py restore anomaly-0726.tar             # to where it came from; --root FOLDER puts it below a folder, to look at it

SQLite files are copied as of one moment, with what is in their journal. A back-up appears whole or not at all, and holds the SHA-256 of
each file. `restore` looks at all of it before it touches anything. It replaces files that are there only with --replace (the old ones stay
beside as NAME.before-restore), and never a store that is in use.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

INDEX = "index.json"
SQLITE = b"SQLite format 3\0"
JOURNALS = ("-wal", "-shm", "-journal")
CHUNK = 1 << 20


class BackupError(Exception):
    """What went wrong, and what to do."""


def make(to: Path, what: list[Path]) -> dict[str, Any]:
    """Write a back-up of files and folders. Returns its index: path -> SHA-256, size, mode. Raises BackupError."""
    missing = [str(path) for path in what if not path.exists()]
    if missing:
        raise BackupError(f"{', '.join(missing)}: not there; nothing was written")
    part = to.with_name(to.name + ".part")
    index: dict[str, Any] = {}
    try:
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted({file for start in what for file in _files(start.absolute(), {to.absolute(), part.absolute()})}):
                with contextlib.suppress(FileNotFoundError), _content(path) as content:
                    index[path.as_posix()] = _add(tar, path, content)
            raw = json.dumps({"version": 1, "files": index}, indent=1).encode()
            told = tarfile.TarInfo(INDEX)
            told.size = len(raw)
            tar.addfile(told, io.BytesIO(raw))
        with part.open("rb") as done:
            os.fsync(done.fileno())
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    return index


def _files(start: Path, own: set[Path]) -> Iterator[Path]:
    """The files to copy: no journals of SQLite, no halves of files, not the back-up itself."""
    found = [start] if start.is_file() else (Path(folder) / name for folder, _, names in os.walk(start) for name in names)
    for path in found:
        journal = any(path.name.endswith(end) and path.with_name(path.name.removesuffix(end)).exists() for end in JOURNALS)
        if not journal and path not in own and not path.name.endswith(".part") and path.is_file():
            yield path


@contextlib.contextmanager
def _content(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes; those of a SQLite file as of one moment, also while it is written."""
    with path.open("rb") as raw:
        if raw.read(len(SQLITE)) != SQLITE:
            raw.seek(0)
            yield raw
            return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        try:
            _snapshot(path, copy)
        except sqlite3.DatabaseError as error:
            raise BackupError(f"{path}: cannot be read ({error}); where it is damaged, the last good back-up is the one to keep") from error
        with copy.open("rb") as done:
            yield done


def _snapshot(path: Path, copy: Path) -> None:
    """Copy a SQLite file that others may write. Raises sqlite3.DatabaseError for a damaged one."""
    with (
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=60)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        if (found := target.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)


def _add(tar: tarfile.TarFile, path: Path, content: IO[bytes]) -> dict[str, Any]:
    stat = path.stat()
    told = tarfile.TarInfo("files" + path.as_posix())
    told.size = os.fstat(content.fileno()).st_size  # what is added meanwhile is left for the next back-up
    told.mode, told.mtime, told.uid, told.gid = stat.st_mode & 0o7777, stat.st_mtime, stat.st_uid, stat.st_gid
    hashed = _Hashed(content)
    try:
        tar.addfile(told, hashed)  # type: ignore[arg-type]
    except OSError as error:
        raise BackupError(f"{path}: became shorter while it was read; try again") from error
    return {"sha256": hashed.digest.hexdigest(), "size": told.size, "mode": told.mode, "uid": told.uid, "gid": told.gid}


class _Hashed:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def check(of: Path) -> dict[str, Any]:
    """Read a whole back-up against its index, which is returned. Raises BackupError for one that is damaged, cut off or none of ours."""
    found: dict[str, str] = {}
    raw = b""
    try:
        with tarfile.open(of) as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise BackupError(f"{of}: {member.name!r} is no plain file; refused")
                if member.name == INDEX:
                    raw = stream.read()
                    continue
                hashed = _Hashed(stream)
                while hashed.read(CHUNK):
                    pass
                found[member.name] = hashed.digest.hexdigest()
        index: dict[str, Any] = json.loads(raw)["files"]
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{of}: not a whole back-up ({error}); take another one") from error
    for path, told in index.items():
        if not PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise BackupError(f"{of}: {path!r} leads elsewhere; refused")
        if found.pop("files" + path, "") != told["sha256"]:
            raise BackupError(f"{of}: {path} is not what was backed up; take another back-up")
    if found:
        raise BackupError(f"{of}: holds {sorted(found)[0]!r}, which its index does not name; refused")
    return index


def restore(of: Path, root: Path, replace: bool) -> list[Path]:
    """Put all files back, those of one folder by one rename each. Returns where they are. Raises BackupError before anything is touched."""
    index = check(of)
    targets = {path: root / path.lstrip("/") for path in index}
    there = [str(target) for target in targets.values() if target.exists()]
    if there and not replace:
        raise BackupError(
            f"there already: {there[0]}{f' and {len(there) - 1} more' if there[1:] else ''}; stop what uses them, then --replace"
        )
    for target in targets.values():
        _check_unused(target)
    with tarfile.open(of) as tar:
        for path, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile("files" + path)
            assert content is not None
            with target.with_name(target.name + ".part").open("wb") as part:
                shutil.copyfileobj(content, part, CHUNK)
                os.fsync(part.fileno())
            target.with_name(target.name + ".part").chmod(index[path]["mode"])
            if os.geteuid() == 0:
                os.chown(part.name, index[path]["uid"], index[path]["gid"])
    for target in targets.values():
        for old in (
            target,
            *(target.with_name(target.name + end) for end in JOURNALS),
        ):  # a journal of the old file would spoil the new one
            if old.exists():
                old.replace(old.with_name(old.name + ".before-restore"))
        target.with_name(target.name + ".part").replace(target)
    return list(targets.values())


def _check_unused(path: Path) -> None:
    """Raise BackupError for a SQLite file that a program has open."""
    if not path.is_file():
        return
    with path.open("rb") as raw:
        if raw.read(len(SQLITE)) != SQLITE:
            return
    with contextlib.closing(sqlite3.connect(path, timeout=1)) as held:
        try:
            held.execute("PRAGMA locking_mode = EXCLUSIVE")
            held.execute("BEGIN EXCLUSIVE")
            held.rollback()
        except sqlite3.OperationalError as error:
            raise BackupError(f"{path}: in use ({error}); first stop what uses it: systemctl stop 'anomaly-*'") from error
        except sqlite3.DatabaseError:  # damaged: that is why it is replaced
            return


def main() -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    making = kinds.add_parser("make", help="write a back-up")
    making.add_argument("file", type=Path)
    making.add_argument("what", type=Path, nargs="+", help="files and folders")
    kinds.add_parser("check", help="read a back-up through").add_argument("file", type=Path)
    restoring = kinds.add_parser("restore", help="put everything back")
    restoring.add_argument("file", type=Path)
    restoring.add_argument("--root", type=Path, default=Path("/"), help="a folder below which everything is put")
    restoring.add_argument("--replace", action="store_true", help="also where files are there already")
    asked = parser.parse_args()
    try:
        if asked.kind == "make":
            index = make(asked.file, asked.what)
            print(f"{asked.file}: {len(index)} files, {sum(one['size'] for one in index.values()) / 1e6:.1f} MB")
        elif asked.kind == "check":
            print(f"{asked.file}: whole; {len(check(asked.file))} files")
        else:
            print(f"{len(restore(asked.file, asked.root, asked.replace))} files put back from {asked.file}")
    except (BackupError, OSError, sqlite3.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
