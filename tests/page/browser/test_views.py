"""Every view for everybody: no violation that axe finds, in both themes and languages; the same words in each; thousands of alarms."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from tests.page.browser.conftest import Watched, show, wait_for

STATIC = Path("anomaly/page/static")
VIEWS = ("", "alarms", "line/press%201", "drift", "delivery", "shadow", "audit", "wall", "alarm")
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}


@pytest.mark.parametrize(("theme", "language", "wide"), [("light", "en-GB", 1280), ("dark", "ja-JP", 390)])
def test_axe_finds_nothing(browser: Browser, watched: Watched, theme: str, language: str, wide: int) -> None:
    watched.feed(*[7.0] * 6)
    (alarm,) = wait_for(watched.alarms)
    context = browser.new_context(viewport={"width": wide, "height": 900}, color_scheme=theme, locale=language)  # type: ignore[arg-type]
    page = context.new_page()
    show(page, watched.url, "line/press%201")
    page.locator("details summary").last.click()
    page.locator("details form button").click()  # a table with a button in each row
    expect(page.locator("td form button")).to_have_count(1)
    for view in VIEWS:
        show(page, watched.url, f"alarm/{alarm.id}" if view == "alarm" else view)
        page.wait_for_load_state("networkidle") if view == "" else page.wait_for_timeout(300)
        found = Axe().run(page, options=RULES)
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{view} is wider than the screen"
    context.close()


def test_alarms_of_a_line_that_nobody_monitors_are_found_and_lead_to_no_missing_view(page: Page, watched: Watched) -> None:
    with closing(Store(watched.store)) as store:
        data = {"class": "delivery", "condition": "sink bus", "reason": "refused"}
        store.add_events([make_event("opened", "delivery", "d1", time.time(), data)], [])
    watched.feed(*[7.0] * 6)
    (alarm,) = wait_for(lambda: [each for each in watched.alarms() if each.line == watched.name])
    show(page, watched.url, "alarms")
    page.locator("select[name=line]").select_option("delivery")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("td a[data-row]").click()
    page.wait_for_selector("h1:has-text('delivery')")
    page.wait_for_selector("details.deed")  # what can be done is there
    assert page.locator("select[name=verdict]").count() == 0  # a sink is neither real nor a nuisance
    expect(page.locator("a[href^='#/line/delivery']")).to_have_count(0)
    show(page, watched.url, f"alarm/{alarm.id}")
    expect(page.locator("a[href='#/line/press%201']").first).to_have_text("press 1")


def test_every_language_has_every_word() -> None:
    words = {
        path.stem: dict(re.findall(r'"((?:[^"\\]|\\.)+)":\s*"((?:[^"\\]|\\.)*)"', path.read_text()))
        for path in (STATIC / "i18n").glob("*.js")
    }
    assert set(words) == {"en", "ja"}
    assert set(words["en"]) == set(words["ja"])
    for key, text in words["en"].items():
        if key.startswith("said."):  # in English the line's own words are shown; the values are those of its cause
            continue
        assert set(re.findall(r"\{\w+\}", words["ja"][key])) <= set(re.findall(r"\{\w+\}", text)), key
    asked = {key for path in (STATIC / "js").rglob("*.js") for key in re.findall(r'\bt\("([^"]+)"', path.read_text())}
    assert asked - set(words["en"]) == set()


def test_nothing_comes_from_elsewhere() -> None:
    """No address of another host in what the page loads, but namespaces and where a rule is from."""
    own = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".html") and "vendor" not in path.parts]
    found = {address for path in own for address in re.findall(r"https?://[^\s\"')]+", path.read_text())}
    assert found <= {"http://www.w3.org/2000/svg"}


def test_five_thousand_alarms(page: Page, watched: Watched) -> None:
    now = time.time()
    kept = json.dumps({"since": now, "reminded": now, "told": "closed", "latched": False, "says": {"reason": "no reading"}})
    with closing(sqlite3.connect(watched.store)) as db, db:
        db.executemany(
            "INSERT INTO alarms SELECT ?, id, 'data quality', ?, 'low', 'normal', ?, ?, NULL, '', ? FROM lines WHERE name = 'press 1'",
            [(f"{number:08d}", f"sensor:s{number}", now - 60 * number, now - 60 * number + 30, kept) for number in range(5000)],
        )
    took: dict[str, float] = {}

    def timed(what: str, do: str, until: str) -> None:
        """Milliseconds from an action in the page to what it shows."""
        script = f"""async () => {{ const begin = performance.now(); {do};
            while (!({until})) await new Promise((go) => setTimeout(go, 2));
            return performance.now() - begin; }}"""
        took[what] = page.evaluate(script)

    show(page, watched.url)
    timed("open the list", "location.hash = '#/alarms?live=all'", "document.querySelectorAll('table.alarms tbody tr').length === 100")
    expect(page.get_by_text("1 to 100 of 5000")).to_be_visible()
    timed(
        "next page",
        "document.querySelector('[data-key=next]').click()",
        "document.querySelector('#main nav').textContent.includes('101 to 200')",
    )
    search = "const box = document.querySelector('input[type=search]'); box.value = 's4711'; box.dispatchEvent(new Event('input'))"
    timed("search", search, "document.querySelectorAll('table.alarms tbody tr').length === 1")
    timed("open one", "document.querySelector('[data-row]').click()", "document.querySelector('.deeds h2')")
    print("; ".join(f"{what} {ms:.0f} ms" for what, ms in took.items()))
    expect(page.locator("h1")).to_contain_text("s4711")
