"""A store as version 0.8.0 wrote it: its tables and its statements, word for word."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from anomaly.alarms.events import make_event

SHADOW = """CREATE TABLE shadow (line TEXT, record TEXT, time REAL NOT NULL, score REAL NOT NULL, p_value REAL NOT NULL,
  bundle TEXT NOT NULL, PRIMARY KEY (line, record, bundle)) WITHOUT ROWID"""
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE lines (line TEXT PRIMARY KEY, position TEXT NOT NULL, state TEXT NOT NULL, alarm TEXT) WITHOUT ROWID;
CREATE TABLE scores (line TEXT, record TEXT, time REAL NOT NULL, score REAL NOT NULL, p_value REAL NOT NULL,
  bundle TEXT NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID;
CREATE TABLE rejected (line TEXT, record TEXT, time REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (line, record)) WITHOUT ROWID;
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, line TEXT NOT NULL,
  alarm TEXT NOT NULL, time REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE outbox (seq INTEGER NOT NULL REFERENCES events, sink TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (seq, sink)) WITHOUT ROWID;
CREATE INDEX outbox_waiting ON outbox (sink, seq) WHERE state = 'waiting';
"""
CALM = {"active": False, "since": None, "opened": None, "worst": 1.0}
ALARM = {"active": True, "since": None, "opened": 2.0, "worst": 1e-6}
GOOD, NEW = "a" * 64, "b" * 64


def write_old_store(path: Path, schema: int = 2, rows: int = 500) -> list[str]:
    """Lines Press (in alarm), press (calm, its source silent) and cam (a folder of pictures); returns the ids of the events in order."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    if schema == 2:
        db.execute(SHADOW)
        db.execute("INSERT INTO shadow VALUES ('Press', 'p.csv:7', 7.0, 2.5, 0.25, ?)", (NEW,))
    db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(schema),))
    db.execute("INSERT INTO meta VALUES ('provider Press', 'cuda')")
    lines = [
        ("Press", json.dumps({"offset": 99}), json.dumps(ALARM), "alarm-of-Press"),
        ("Press\nsilent", "{}", json.dumps(CALM), None),
        ("press", json.dumps({"offset": 7}), json.dumps(CALM), None),
        ("press\nsilent", "{}", json.dumps(ALARM), "silence-of-press"),
        ("cam", "{}", json.dumps(CALM), None),
    ]
    db.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?)", lines)
    for line in ("Press", "press"):
        scored = [(line, f"p.csv:{i}", float(i), i / 7, 1 / (i + 1), GOOD if i % 2 else NEW) for i in range(rows)]
        db.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?)", scored)
    db.executemany("INSERT INTO scores VALUES ('cam', ?, ?, 1.0, 0.5, ?)", [(f"{i}.png@{i}", float(i), GOOD) for i in range(20)])
    db.execute("INSERT INTO rejected VALUES ('cam', 'cut.png@9', 9.0, 'cut short')")
    events = [
        make_event("opened", "Press", "alarm-of-Press", 2.0, {"class": "process"}),
        make_event("opened", "press", "silence-of-press", 3.0, {"class": "data quality"}),
        make_event("rejected", "cam", "cut.png@9", 9.0, {"record": "cut.png@9", "reason": "cut short"}),
    ]
    for number, event in enumerate(events):
        seq = db.execute(
            "INSERT OR IGNORE INTO events (id, kind, line, alarm, time, body) VALUES (?, ?, ?, ?, ?, ?)",
            (event.id, event.kind, event.line, event.alarm, event.time, event.to_json()),
        ).lastrowid
        db.executemany("INSERT INTO outbox (seq, sink) VALUES (?, ?)", ((seq, sink) for sink in ("pager", "file")))
        if number == 0:
            db.execute("UPDATE outbox SET state = 'delivered', attempts = 1 WHERE seq = ? AND sink = 'file'", (seq,))
            db.execute("UPDATE outbox SET state = 'dead', attempts = 200, error = 'no' WHERE seq = ? AND sink = 'pager'", (seq,))
    db.execute("COMMIT")
    db.close()
    return [event.id for event in events]
