"""What happens to the page when the monitor is away, and when a session ends."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from anomaly.page.auth.settings import new_token
from tests.page.browser.conftest import Watched, show


def test_a_connection_that_is_lost_is_said_and_comes_back(page: Page, watched: Watched) -> None:
    show(page, watched.url)
    expect(page.locator("#banner")).to_be_hidden()
    watched.stop()
    expect(page.locator("#banner")).to_contain_text("Connection lost. Last news")
    watched.start()
    expect(page.locator("#banner")).to_be_hidden()
    watched.feed(*[7.0] * 6)
    expect(page.locator(".card-alarm")).to_have_count(1)  # and news comes again


def test_a_session_that_ends_asks_to_sign_in_and_goes_back_to_where_one_was(page: Page, tmp_path: Path) -> None:
    token, digest = new_token()
    idle_min = 0.05
    (tmp_path / "who.toml").write_text(f'idle_min = {idle_min}\n[[token]]\nname = "ada"\nrole = "operate"\nsha256 = "{digest}"\n')
    watched = Watched(tmp_path / "line", "--page-auth", tmp_path / "who.toml")
    watched.start()
    try:
        show(page, watched.url, "audit")
        _sign_in(page, "wrong")
        expect(page.get_by_text("this token is not known")).to_be_visible()
        _sign_in(page, token)
        expect(page.locator("h1")).to_have_text("Audit log")
        expect(page.locator(".who")).to_have_text("ada (operator)")
        expect(page.locator("#token")).to_be_visible(timeout=60_000)  # nothing was done for three seconds
        _sign_in(page, token)
        expect(page.locator("h1")).to_have_text("Audit log")
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("#token")).to_be_visible()
    finally:
        watched.stop()


def _sign_in(page: Page, token: str) -> None:
    page.locator("input[name=token]").fill(token)
    page.get_by_role("button", name="Sign in").click()
