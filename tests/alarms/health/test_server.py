"""Health and metrics over HTTP: what each address answers, and what must not hold it up."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from anomaly.alarms.health.address import Address, read_address
from anomaly.alarms.health.board import Board, SinkHealth
from anomaly.alarms.health.server import MOST_AT_A_TIME, serving
from anomaly.alarms.store import Store
from anomaly.errors import SpecError
from tests.integration.servers import program


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(tmp_path: Path, clock: Clock) -> Board:
    Store(tmp_path / "s.db").close()
    board = Board(tmp_path / "s.db", clock=clock)
    board.add(["press-3", 'a "b"\\\nc\udcff'])
    return board


@pytest.fixture
def http(board: Board) -> Iterator[httpx.Client]:
    with (
        serving(board, Address("127.0.0.1", 0)) as address,
        httpx.Client(base_url=f"http://{address}", timeout=5.0, trust_env=False) as client,
    ):
        yield client


def make_ready(board: Board) -> None:
    for line in board.lines.values():
        line.source, line.bundle, line.bundle_hash = "", "press-1", "ab" * 32
        line.alive()


def test_ready_is_told_with_what_is_missing(board: Board, http: httpx.Client) -> None:
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert "line press-3: bundle: not loaded yet" in answer.json()["missing"]
    assert "line press-3: source: not opened yet" in answer.json()["missing"]
    make_ready(board)
    assert (http.get("/readyz").status_code, http.get("/readyz").json()["status"]) == (200, "ok")
    board.lines["press-3"].source = "camera away"
    assert http.get("/readyz").json()["missing"] == ["line press-3: source: camera away"]
    board.lines["press-3"].source = ""
    board.store.unlink()
    assert http.get("/readyz").json()["missing"] == [f"store: {board.store} is not there"]
    assert http.get("/healthz").status_code == 200  # a restart would mend none of this


def test_a_loop_that_hangs_is_unhealthy_and_one_that_has_not_begun_is_not(board: Board, http: httpx.Client, clock: Clock) -> None:
    clock.now += 1e6  # a bundle is still compiled for the GPU
    assert http.get("/healthz").status_code == 200
    make_ready(board)
    clock.now += board.stuck_s
    assert http.get("/healthz").status_code == 200
    board.lines["press-3"].alive()
    clock.now += 1
    answer = http.get("/healthz")
    assert (answer.status_code, answer.json()["stuck"]) == (503, ['a "b"\\\nc\udcff'])


def test_other_paths_heads_and_methods(http: httpx.Client) -> None:
    assert http.get("/").status_code == 404
    assert http.get("/metrics?x=1").status_code == 200
    head = http.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 100
    assert http.post("/healthz").status_code == 501


def test_a_port_in_use_is_said(board: Board) -> None:
    with (
        serving(board, Address("127.0.0.1", 0)) as taken,
        pytest.raises(SpecError, match=rf"--listen {taken}: .*in use"),
        serving(board, taken),
    ):
        pass
    with serving(board, taken):  # and free again at once
        pass


@pytest.mark.parametrize("text", ["", ":", "x", "1:2:3", "::1:9464", "host:65536", "host:-1", "host:٣", "[::1]"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        read_address(text)


def test_those_who_connect_and_say_nothing_hold_nothing_up(board: Board) -> None:
    with serving(board, Address("127.0.0.1", 0)) as address:
        silent = [socket.create_connection(address) for _ in range(MOST_AT_A_TIME - 1)]
        assert httpx.get(f"http://{address}/healthz", timeout=5.0, trust_env=False).status_code == 200
        for one in silent:
            one.close()


def parsed(text: str) -> dict[str, float]:
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))}


def test_metrics_say_what_the_board_says(board: Board, http: httpx.Client, clock: Clock) -> None:
    make_ready(board)
    line = board.lines["press-3"]
    line.count({"scored": 7, "flagged": 2, "rejected": 1, "dropped": 3, "opened": 1, "closed": 0})
    line.took(4, 0.02, 1.5)
    line.drift = 0.25
    board.sinks = lambda: [SinkHealth("phone", "failing", 12.0), SinkHealth("file")]
    with sqlite3.connect(board.store) as db:
        db.execute("INSERT INTO events (seq, id, kind, line, alarm, time, body) VALUES (1, 'e', 'opened', 'l', 'a', 0, '{}')")
        db.executemany(
            "INSERT INTO outbox (seq, sink, state) VALUES (1, ?, ?)", [("phone", "waiting"), ("old", "dead"), ("file", "delivered")]
        )
    clock.now += 5
    found = parsed(http.get("/metrics").text)
    assert found['anomaly_records_scored_total{line="press-3"}'] == 7
    assert found['anomaly_records_rejected_total{line="press-3"}'] == 1
    assert found['anomaly_records_scored_total{line="a \\"b\\"\\\\\\\\x0ac\\\\xff"}'] == 0
    assert found['anomaly_record_seconds_bucket{le="0.01",line="press-3"}'] == 0
    assert found['anomaly_record_seconds_bucket{le="0.025",line="press-3"}'] == 4
    assert found['anomaly_source_lag_seconds{line="press-3"}'] == 1.5
    assert found['anomaly_last_record_age_seconds{line="press-3"}'] == 5
    assert found['anomaly_drift{line="press-3"}'] == 0.25
    assert found['anomaly_sink_waiting{sink="phone"}'] == 1
    assert found['anomaly_sink_dead_letters{sink="old"}'] == 1
    assert (found['anomaly_sink_up{sink="phone"}'], found['anomaly_sink_up{sink="file"}']) == (0, 1)
    assert found["anomaly_store_up"] == 1
    assert found["anomaly_store_bytes"] > 0
    assert not [key for key in found if "file" in key and "last_success" in key]  # nothing was taken yet


def test_promtool_takes_the_metrics(board: Board, http: httpx.Client) -> None:
    make_ready(board)
    text = http.get("/metrics").content
    checked = subprocess.run([program("promtool", "prometheus"), "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_a_store_that_is_no_store_is_told_and_the_rest_still_answers(board: Board, http: httpx.Client) -> None:
    for suffix in ("-wal", "-shm"):
        board.store.with_name(board.store.name + suffix).unlink(missing_ok=True)
    board.store.write_bytes(b"not a database" * 100)
    found = parsed(http.get("/metrics").text)
    assert found["anomaly_store_up"] == 0
    assert 'anomaly_line_ready{line="press-3"}' in found
