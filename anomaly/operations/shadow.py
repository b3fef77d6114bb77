"""What champion and challenger said of the same records of a line, from the store of its monitor."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomaly.bundle.archive import Bundle
from anomaly.errors import StoreError
from anomaly.operations.confirmed import line_of, unconfirmed

MOST = 200_000  # of the newest records


def read_shadow(store: Path, line: str | None, champion: Bundle, challenger: Bundle) -> NDArray[np.bool_]:
    """Flagged by each (n, 2), in order of time, of records outside of alarms that nobody called false. Raises StoreError and DataError."""
    spans = unconfirmed(store, line, champion.manifest.input).stretches
    query = (
        "SELECT s.time, s.p_value, c.p_value FROM shadow c JOIN scores s ON s.line = c.line AND s.record = c.record "
        "WHERE c.line = ?1 AND c.bundle = (SELECT id FROM bundles WHERE hash = ?2) AND s.bundle = (SELECT id FROM bundles WHERE hash = ?3) "
        "ORDER BY c.seq DESC LIMIT ?4"
    )
    try:
        with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
            number, _ = line_of(db, store, line)
            db.execute("PRAGMA automatic_index = ON")
            rows = db.execute(query, (number, challenger.hash, champion.hash, MOST)).fetchall()[::-1]
    except sqlite3.Error as error:
        raise StoreError(f"{store}: cannot be read ({error}); is it a store of this version?") from error
    found = np.array(rows, np.float64).reshape(-1, 3)
    calm = np.ones(len(found), bool)
    for begin, end in spans:
        calm &= (found[:, 0] < begin) | (found[:, 0] > end)
    limits = [one.manifest.threshold.p_value for one in (champion, challenger)]
    return np.asarray(found[calm, 1:] <= limits)
