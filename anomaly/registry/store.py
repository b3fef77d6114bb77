"""Where runs are kept: a SQLite file or a server, looked at first, so that one that is away is told within seconds."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock, Timeout

from anomaly.errors import AnomalyError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SETTING = "ANOMALY_MLFLOW_URI"
AWAY_S = 3.0
LOCKED_S = 60.0
SQLITE = "sqlite:///"
QUIET = {  # nothing leaves the plant, and a server that dies half-way is not asked for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class RegistryError(AnomalyError):
    """The registry is away, or its address cannot be used. What was fitted is published all the same."""


@contextmanager
def opened(address: str) -> Iterator[MlflowClient]:
    """MLflow's client for an address, `sqlite:///FILE` or `http(s)://SERVER`. A SQLite file is held by one writer at a time.

    Raises RegistryError when it is away, is no such address, or MLflow is not installed.
    """
    if address.startswith(SQLITE):
        with _held(database(address)):
            yield _client(address)
    elif address.startswith(("http://", "https://")):
        _ask(address)
        yield _client(address)
    else:
        raise RegistryError(f"{SETTING}={address}: give sqlite:///FILE, with four slashes for a path from the root, or http://SERVER:PORT")


def database(address: str) -> Path:
    """The file of a SQLite address.

    >>> database("sqlite:////data/runs.db"), database("sqlite:///runs.db")
    (PosixPath('/data/runs.db'), PosixPath('runs.db'))
    """
    return Path(address.removeprefix(SQLITE))


def artifact_folder(address: str) -> str | None:
    """Where files of runs are kept: beside a SQLite file, as a URI. None for a server, which knows that itself."""
    if not address.startswith(SQLITE):
        return None
    path = database(address).absolute()
    return path.with_name(f"{path.stem}-files").as_uri()


def _client(address: str) -> MlflowClient:
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ or key.endswith(("TELEMETRY", "TRACK"))})
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise RegistryError(f"{SETTING} is set, but MLflow is not installed: pip install 'anomaly-pipeline[registry]'") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=address, registry_uri=address)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """The SQLite file, there and writable: MLflow itself would try for minutes."""
    lock = FileLock(f"{path}.lock", timeout=LOCKED_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RegistryError(f"{path}: another run has been writing to it for {LOCKED_S:.0f} s") from error
    except OSError as error:
        raise RegistryError(f"{path}: cannot be written ({error})") from error
    try:
        _check_writable(path)
        yield
    finally:
        lock.release()


def _check_writable(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=AWAY_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise RegistryError(f"{path}: cannot be written ({error})") from error


def _ask(address: str) -> None:
    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=AWAY_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryError(f"{address}: does not answer ({type(error).__name__}); is MLflow's server up there?") from error
    if answer.status_code != 200:
        raise RegistryError(f"{address}: answered {answer.status_code} to /health; is it MLflow's server?")
