"""A real browser, and a real monitor with its page: a process of its own that reads a table which grows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from anomaly.alarms.book import Alarm
from anomaly.alarms.store import Store
from tests.edge.tiny import WINDOW, tiny_bundle
from tests.integration.servers import free_port, program

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
WAIT_S = 40.0
BEGIN = 1_790_000_000  # seconds since 1970 of the first row


def wait_for(what: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """What it gives as soon as that is true."""
    deadline = time.monotonic() + wait_s
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {wait_s:g} s")
        time.sleep(0.05)
    return found


class Watched:
    """`anomaly monitor` on a table with sensors a and b; a reading above 4.6 is flagged."""

    def __init__(self, folder: Path, *more: object, name: str = "press 1") -> None:
        self.folder, self.more, self.name, self.port = folder, more, name, free_port()
        self.store, self.table, self.rows = folder / "store.db", folder / "feed.csv", 0
        self.read = 0
        folder.mkdir(exist_ok=True)
        schema = WINDOW.model_copy(update={"sensors": tuple(sensor.model_copy(update={"unit": "bar"}) for sensor in WINDOW.sensors)})
        tiny_bundle(folder / "press1.anomaly", schema)
        self.table.write_text("time,a,b\n")
        self.feed(*[0.2] * 20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def feed(self, *values: float) -> None:
        """Rows, a second apart."""
        with self.table.open("a") as file:
            for value in values:
                file.write(f"{BEGIN + self.rows},{value},0.1\n")
                self.rows += 1

    def start(self) -> None:
        command = [
            sys.executable, "-m", "anomaly.cli", "monitor", self.folder / "press1.anomaly", "--source", self.table, "--store", self.store,
            "--line", self.name, "--listen", f"127.0.0.1:{self.port}", "--silent-after-s", "100000", *self.more,
        ]  # fmt: skip
        with (self.folder / "monitor.log").open("ab") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        wait_for(self._ready)
        self.read = self.rows

    def _ready(self) -> bool:
        """Whether it serves the line, and has read what it had not read before."""
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "monitor.log").read_text()[-3000:])
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(json.load(answer)["lines"][self.name]["records"] >= self.rows - self.read - 1)
        except OSError:
            return False

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def alarms(self) -> list[Alarm]:
        with closing(Store(self.store)) as store:
            return store.alarms(live=False)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A monitor that runs, without sinks."""
    made = Watched(tmp_path / "line")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, for one file: Playwright's event loop runs as long, and nothing else here may start one of its own."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(program("chromium")), args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past, in English, at the size of a desk's screen."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", timezone_id="Europe/Berlin")
    made.set_default_timeout(WAIT_S * 1000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A tab in which no script may fail."""
    made = context.new_page()
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    yield made
    assert not wrong


def show(page: Page, url: str, view: str = "") -> None:
    """A view, once it is there."""
    page.goto(f"{url}/#/{view}")
    page.wait_for_selector("#main h1", state="attached")
