"""What a person sees of a command at work: lines where it is piped, one bar on a terminal, and a clean end by Ctrl-C."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from anomaly.cli.terminal.progress import Bar, Lines
from anomaly.progress import Course, Part, parts
from tests.test_progress import Clock


def lines(clock: Clock) -> tuple[Course, Lines, list[str]]:
    course, written = Course(clock), list[str]()
    return course, Lines("fit", course, written.append), written


def test_a_phase_is_told_at_once_and_then_every_few_seconds() -> None:
    clock = Clock()
    course, _, written = lines(clock)
    for done in range(100):
        Part(course)("features of pictures", done, 100)
        clock.now += 0.1
    assert written[0] == "fit: features of pictures, 0 of 100"
    assert written[1] == "fit: features of pictures, 30 of 100 (3 s, about 7 s left)"
    assert len(written) == 4


def test_what_is_not_counted_is_never_left_out() -> None:
    course, _, written = lines(Clock())
    for number in range(5):
        Part(course)(f"picture {number} stands out")
    assert len(written) == 5


def test_epochs_are_one_phase_however_their_figures_change() -> None:
    course, _, written = lines(Clock())
    for epoch in range(8):
        Part(course)("adaptation, steps", 10 * epoch + 5, 80)
        Part(course)(f"adaptation, epoch {epoch}: loss {1 / (epoch + 1):.3f}", 10 * epoch + 10, 80)
    assert written == ["fit: adaptation, steps, 5 of 80"]


def test_a_silent_phase_is_told_again() -> None:
    clock = Clock()
    course, shown, written = lines(clock)
    shown.repeat()
    assert written == []  # nothing is under way yet
    parts(Part(course), {"fit": 1, "graph": 1})["graph"]("tracing")
    for clock.now in (1.0, 4.0, 5.0, 6.0, 10.0):
        shown.repeat()
    assert written == ["fit: graph: tracing", "fit: graph: tracing (5 s)", "fit: graph: tracing (10 s)"]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_bar_is_one_line_and_shows_text_as_it_is(width: int) -> None:
    course = Course()
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = Bar("fit", course, console)
    Part(course)("[red]a[/red] :x: \x1b[2Jb\nc\udce4", 3, 10)
    with console.capture() as captured:
        console.print(bar.get_renderable())
    shown = captured.get().rstrip("\n")
    assert "\n" not in shown.strip()
    assert "\x1b" not in shown
    assert cell_len(shown) <= width
    if width == 200:
        assert "30%" in shown
        assert "[red]a[/red] :x: \ufffd[2Jb\ufffdc\ufffd, 3 of 10" in shown


INTERRUPTED = """
import os, signal, sys
from anomaly.cli.main import app, main
from anomaly.cli.terminal.progress import progress

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background with SIGINT ignored

@app.command()
def work() -> None:
    with progress("work", goes_on=True) as say:
        say("features", 1, 4)
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()

sys.argv[1:] = ["work"]
main()
"""


def test_ctrl_c_on_a_terminal_leaves_it_clean() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(60) == 130
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor is shown again
    assert seen.decode().splitlines()[-1].endswith("work: interrupted; run the same command again to go on from where it stopped")


def test_ctrl_c_in_a_pipe_leaves_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130
    assert done.stderr.splitlines() == [
        "work: features, 1 of 4",
        "work: interrupted; run the same command again to go on from where it stopped",
    ]
