"""The log of what runs beside the line: every line names the line it is about, and nothing from outside forges one."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from anomaly.alarms.events import make_event
from anomaly.alarms.health.log import LineLog
from anomaly.cli.terminal import log as logs
from anomaly.cli.terminal.log import LogFormat, LogLevel, start_log
from tests.edge.tiny import tiny_bundle

OPENED = make_event(
    "opened",
    "press-3",
    "a",
    10.0,
    {"class": "process", "record": "r:7", "p_value": 0.001, "began": "x", "top": [{"sensor": "b", "share": 1.0}]},
)


class Told:
    """What the log wrote to stdout and stderr."""

    def __init__(self) -> None:
        self.streams = io.StringIO(), io.StringIO()

    @property
    def out(self) -> list[str]:
        return self.streams[0].getvalue().splitlines()

    @property
    def err(self) -> list[str]:
        return self.streams[1].getvalue().splitlines()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    found = Told()
    for name, stream in zip(("out", "err"), found.streams, strict=True):
        monkeypatch.setattr(logs, name, Console(file=stream, highlight=False, soft_wrap=True, markup=False, emoji=False))
    root, ours, hook = logging.getLogger(), logging.getLogger("anomaly"), threading.excepthook
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield found
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    threading.excepthook = hook


def test_text_names_time_level_and_line_and_events_go_to_stdout(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.info, "box", {})
    LineLog("press-3").event(OPENED)
    LineLog("press-3").debug("not told")
    logging.getLogger("anomaly.alarms.delivery").error("the lane %s ended", "phone")
    assert told.out[0].startswith("1970-01-01T00:00:10Z WARNING press-3: ALARM")
    assert "1970" not in told.out[0][20:]  # the time once, not twice
    assert told.err[0].split(" ", 1)[1] == "ERROR   box: the lane phone ended"
    assert len(told.out) == len(told.err) == 1


def test_json_is_one_object_a_line_with_the_whole_event(told: Told) -> None:
    start_log(LogFormat.json, LogLevel.debug, "box", {})
    LineLog("press-3").event(OPENED)
    LineLog("press-3").debug("a turn")
    first, second = json.loads(told.out[0]), json.loads(told.err[0])
    assert (first["line"], first["level"], first["event"]) == ("press-3", "warning", json.loads(OPENED.to_json()))
    assert (second["line"], second["level"], second["message"]) == ("press-3", "debug", "a turn")


@pytest.mark.parametrize("form", list(LogFormat))
def test_no_text_from_outside_forges_a_line(told: Told, form: LogFormat) -> None:
    start_log(form, LogLevel.info, "box", {})
    LineLog("press\n3").warning("%s: not a picture", "a.png\n1970-01-01T00:00:10Z INFO press-3: everything is fine\x1b[2J\u202e")
    assert len(told.err) == 1
    assert "\x1b" not in told.err[0]
    assert "\u202e" not in told.err[0]


@pytest.mark.parametrize("form", list(LogFormat))
def test_passwords_are_not_told(told: Told, form: LogFormat) -> None:
    start_log(form, LogLevel.info, "box", {})
    LineLog("l").warning("%s is away", "rtsp://admin:S3cretPass@cam/1")
    try:
        raise ValueError("rtsp://admin:S3cretPass@cam/1")
    except ValueError:
        LineLog("l").exception("it failed")
    assert "S3cretPass" not in "".join(told.err)
    assert "cam/1" in told.err[0]


def test_every_line_of_a_traceback_names_the_line(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.info, "box", {})
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        LineLog("press-3").exception("it failed")
    assert len(told.err) > 4
    assert all(" ERROR   press-3: " in line for line in told.err)


def test_the_journal_gets_its_own_priorities(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.info, "box", {"JOURNAL_STREAM": "8:1"})
    LineLog("press-3").error("disk full")
    LineLog("press-3").event(OPENED)
    assert told.err == ["<3>press-3: disk full"]
    assert told.out[0].startswith("<4>1970-01-01T00:00:10Z  press-3: ALARM")


def test_a_thread_that_ends_by_an_error_is_logged(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.info, "box", {})

    def work() -> None:
        raise RuntimeError("out of luck")

    thread = threading.Thread(target=work, name="lane phone")
    thread.start()
    thread.join()
    assert "thread lane phone ended by an error" in told.err[0]
    assert told.err[-1].endswith("RuntimeError: out of luck")


def test_libraries_are_heard_from_warnings_on(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.debug, "box", {})
    logging.getLogger("httpx").info("HTTP Request: POST https://user:pw@host")
    logging.getLogger("paho").warning("lost")
    assert [line.partition(": ")[2] for line in told.err] == ["lost"]


def test_a_second_start_changes_the_name_and_doubles_nothing(told: Told) -> None:
    start_log(LogFormat.text, LogLevel.info, "monitor", {})
    start_log(LogFormat.text, LogLevel.info, "press-3", {})
    logging.getLogger("anomaly").info("once")
    assert [line.partition("INFO ")[2].strip() for line in told.err] == ["press-3: once"]


def test_a_pipe_that_nobody_reads_ends_nothing(tmp_path: Path) -> None:
    """`anomaly monitor … | head -1`: the line is watched on, and the end is a clean one."""
    tiny_bundle(tmp_path / "tiny.anomaly")
    (tmp_path / "feed.csv").write_text("time,a,b\n" + "".join(f"{i},{9.0 if i % 9 == 5 else 0.1},{i / 1000}\n" for i in range(200)))
    arguments = ["tiny.anomaly", "--source", "feed.csv", "--once", "--exit-zero", "--provider", "cpu"]
    command = [sys.executable, "-m", "anomaly.cli", "monitor", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert any("199 scored" in line for line in told.splitlines()[-2:]), told


def test_an_error_is_the_last_line_of_the_log_in_its_format(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anomaly.cli", "monitor", "gone.anomaly", "--source", "x", "--log-format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["level"] == "error"
    assert json.loads(done.stderr.splitlines()[-1])["message"] == "gone.anomaly: no such bundle"


def test_the_monitor_logs_json_only(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "tiny.anomaly")
    (tmp_path / "feed.csv").write_text("time,a,b\n" + "".join(f"{i},{9.0 if i == 5 else 0.1},{i / 1000}\n" for i in range(20)))
    arguments = [
        "tiny.anomaly",
        "--source",
        "feed.csv",
        "--once",
        "--exit-zero",
        "--line",
        "press-3",
        "--log-format",
        "json",
        "--provider",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "anomaly.cli", "monitor", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["line"] for line in (done.stdout + done.stderr).splitlines()} == {"press-3"}
    assert "anomaly.alarm.opened" in {json.loads(line)["event"]["type"] for line in done.stdout.splitlines()}
