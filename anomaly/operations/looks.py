"""One look at a line from outside: by what its box answers over HTTP, or by its store's file, read only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from anomaly.errors import UnreachableError, in_words
from anomaly.names import masked, one_line

ANSWERS_S = 5.0  # seconds in which a box answers
MOST_BYTES = 8 << 20  # of its metrics: thousands of lines


@dataclass
class Look:
    """A line as it stands. None: not known from there.

    opened, scored, flagged: counts since `counted_from`, a mark that changes where counting began anew
    silent_s: seconds since its loop went on; record_s: since a record came
    wrong: what is not there for it to work, in words; quality: open alarms of data quality
    drift: 1 while there is drift, evidence for it below; drift_words: what has moved
    """

    line: str
    opened: int = 0
    scored: int = 0
    flagged: int = 0
    silent_s: float | None = None
    record_s: float | None = None
    wrong: list[str] = field(default_factory=list)
    quality: int = 0
    drift: float | None = None
    drift_words: str = ""
    bundle: str = ""


def ask_box(client: httpx.Client, url: str) -> list[Look]:
    """The lines of a box by its `/readyz` and `/metrics`. Raises UnreachableError when it does not answer, or with something else."""
    where = url.rstrip("/")
    try:
        ready = json.loads(_get(client, f"{where}/readyz"))
        common = [str(one) for one in ready["missing"] if str(one).startswith("store: ")]  # it holds up every line
        looks = {name: Look(name, wrong=[str(one) for one in told["missing"]] + common) for name, told in ready["lines"].items()}
        _add_metrics(looks, _get(client, f"{where}/metrics").decode())
    except httpx.HTTPError as error:
        raise UnreachableError(masked(f"{where} does not answer ({one_line(str(error)) or type(error).__name__})")) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreachableError(masked(f"{where} answers, but not as a monitor does ({one_line(in_words(error))})")) from error
    return list(looks.values())


def _get(client: httpx.Client, address: str) -> bytes:
    """A body, also of a 503, by which a monitor says that it is not ready."""
    with client.stream("GET", address, timeout=ANSWERS_S) as answer:
        if answer.status_code not in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE):
            answer.raise_for_status()
            raise ValueError(f"status {answer.status_code}")
        parts, size = [], 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
            parts.append(part)
        return b"".join(parts)


_COUNTS = {"anomaly_records_scored_total": "scored", "anomaly_records_flagged_total": "flagged", "anomaly_alarms_opened_total": "opened"}
_GAUGES = {"anomaly_last_turn_age_seconds": "silent_s", "anomaly_last_record_age_seconds": "record_s", "anomaly_drift": "drift"}


def _add_metrics(looks: dict[str, Look], text: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            look = looks.get(sample.labels.get("line", ""))
            if look is None:
                continue
            if sample.name in _COUNTS:
                setattr(look, _COUNTS[sample.name], int(sample.value))
            elif sample.name in _GAUGES:
                setattr(look, _GAUGES[sample.name], float(sample.value))
            elif sample.name == "anomaly_line_info":
                look.bundle = sample.labels.get("bundle_hash", "")
            elif sample.name == "anomaly_open_alarms" and sample.labels.get("class") != "process":
                look.quality += int(sample.value)


def read_store(path: Path, now: float) -> list[Look]:
    """The lines of a store's file. Raises UnreachableError when it is not there or cannot be read.

    A store does not say whether its monitor lives: only when the last record came.
    """
    if not path.is_file():
        raise UnreachableError(f"{path} is not there")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=ANSWERS_S)) as db:
            return [_stored(db, int(number), str(name), now) for number, name in db.execute("SELECT id, name FROM lines ORDER BY name")]
    except sqlite3.Error as error:
        raise UnreachableError(f"{path} cannot be read as a store ({error})") from error


def _stored(db: sqlite3.Connection, number: int, name: str, now: float) -> Look:
    look = Look(name)
    (newest, row), *_ = db.execute("SELECT time, bundle FROM scores WHERE line = ? ORDER BY seq DESC LIMIT 1", (number,)).fetchall() or [
        (None, None)
    ]
    look.record_s = None if newest is None else max(0.0, now - float(newest))
    look.bundle = next((str(found) for (found,) in db.execute("SELECT hash FROM bundles WHERE id = ?", (row,))), "")
    look.opened = int(db.execute("SELECT count(*) FROM alarms WHERE line = ? AND class = 'process'", (number,)).fetchone()[0])
    look.quality = int(
        db.execute("SELECT count(*) FROM alarms WHERE line = ? AND class <> 'process' AND closed IS NULL", (number,)).fetchone()[0]
    )
    drifted = "SELECT body FROM events WHERE line = ? AND kind = 'drifted' ORDER BY seq DESC LIMIT 1"
    look.drift, look.drift_words = _drift(db.execute(drifted, (name,)))
    return look


def _drift(rows: Iterable[tuple[str]]) -> tuple[float | None, str]:
    for (body,) in rows:
        data = json.loads(body)["data"]
        return (1.0, str(data.get("reason", ""))) if data.get("drift") == "began" else (0.0, "")
    return None, ""
