"""Files of an object store (`s3://bucket/folder`, of S3 or MinIO): listed by their addresses, and fetched when their turn comes.

What is fetched lies in OUT/.fetched as long as it is worked on. Where the store is and who asks is told as for any program that uses S3:
by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by the files in ~/.aws.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from anomaly.data.files import is_data_name
from anomaly.errors import AnomalyError, DataError, in_words

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

STORES = {"s3": "s3"}  # scheme of an address -> the extra that reads it
FETCHED = ".fetched"
_last: dict[tuple[str, int, int, Path], Path] = {}  # the copy that `kept` holds, one a process
_turn = threading.Lock()


def is_stored(path: str) -> bool:
    """Whether this is an address in an object store.

    >>> is_stored("s3://history/line 3"), is_stored("C:/history"), is_stored("history")
    (True, False, False)
    """
    return path.partition("://")[0] in STORES and "://" in path


def listed(address: str, suffixes: Collection[str]) -> list[tuple[str, int, int]]:
    """(address, bytes, when it was changed in ns since 1970) of the object, or of the data files under it, in name order.

    Raises DataError where the store is away, or refuses, or holds no such thing.
    """
    scheme, _, where = address.partition("://")
    with _asking(address):
        found: dict[str, Any] = _store(scheme).find(where, detail=True)
    files = [
        (f"{scheme}://{name}", int(info["size"]), _changed(info))
        for name, info in sorted(found.items())
        if info["type"] == "file" and _is_data(name, where, suffixes)
    ]
    if not files:
        raise DataError(f"{address}: no file to score in it ({', '.join(sorted(suffixes))}); correct the address")
    return files


@contextmanager
def fetched(address: str, size: int, changed_ns: int, out: Path) -> Iterator[Path]:
    """A copy of an object on this disk as long as the block runs. Raises DataError where it is another than when it was listed.

    Errors of the block that name the copy name the object.
    """
    copy = _fetch(address, size, changed_ns, out)
    try:
        with _naming(copy, address):
            yield copy
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def kept(address: str, size: int, changed_ns: int, out: Path) -> Iterator[Path]:
    """As `fetched`, but the copy stays until this process asks for another one: the parts of a long table follow each other."""
    key = (address, size, changed_ns, out)
    with _turn:
        if _last.get(key) is None or not _last[key].is_file():
            for old in _last.values():
                old.unlink(missing_ok=True)
            _last.clear()
            _last[key] = _fetch(address, size, changed_ns, out)
        copy = _last[key]
    with _naming(copy, address):
        yield copy


def _fetch(address: str, size: int, changed_ns: int, out: Path) -> Path:
    scheme, _, where = address.partition("://")
    copy = out / FETCHED / f"{uuid4().hex}{PurePosixPath(where).suffix.lower()}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    with _asking(address):
        store = _store(scheme)
        store.get_file(where, str(copy))
        info = store.info(where)
    if (int(info["size"]), _changed(info)) != (size, changed_ns) or copy.stat().st_size != size:
        copy.unlink(missing_ok=True)
        raise DataError(f"{address}: was changed while the run went on; score what does not change any more, into another folder")
    return copy


@contextmanager
def _naming(copy: Path, address: str) -> Iterator[None]:
    """Errors of the block that name the copy name the object."""
    try:
        yield
    except AnomalyError as error:
        error.args = tuple(str(said).replace(str(copy), address) for said in error.args)
        raise


def sweep(out: Path) -> None:
    """Remove what was fetched, by this run or by one that was killed."""
    shutil.rmtree(out / FETCHED, ignore_errors=True)


def store_of(address: str) -> AbstractFileSystem:
    """The store of an address. Raises DataError where what reads it is not installed."""
    return _store(address.partition("://")[0])


@lru_cache
def _store(scheme: str) -> AbstractFileSystem:
    """The store, asked anew each time. Raises DataError where what reads it is not installed."""
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        raise DataError(f"{scheme}://: needs s3fs; run: pip install 'anomaly-pipeline[{STORES[scheme]}]'") from error


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Whatever a store's client raises as a DataError that names the address."""
    try:
        yield
    except AnomalyError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{address}: no such object or folder in the store; correct the address, or AWS_ENDPOINT_URL") from error
    except Exception as error:  # each client has errors of its own, with no common root
        raise DataError(
            f"{address}: the store cannot be read ({in_words(error)}); it is told by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        ) from error


def _changed(info: dict[str, Any]) -> int:
    """When an object was last written, in ns since 1970; 0 where the store does not say."""
    at = info.get("LastModified")
    return round(at.timestamp() * 1e6) * 1000 if isinstance(at, datetime) else 0


def _is_data(name: str, where: str, suffixes: Collection[str]) -> bool:
    """Whether an object is data, by the parts of its name under the folder that was asked for."""
    inner = name.removeprefix(where.strip("/")).strip("/")
    return not inner or (all(map(is_data_name, PurePosixPath(inner).parts)) and PurePosixPath(inner).suffix.lower() in suffixes)
