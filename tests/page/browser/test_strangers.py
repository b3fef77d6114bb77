"""In a real browser: signing in at another site's server, what another site can do to a page that is open, and many boxes in one list."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from anomaly.alarms.events import make_event
from anomaly.alarms.health.address import Address
from anomaly.alarms.store import Store
from anomaly.page.auth.guard import Auth
from anomaly.page.auth.settings import AuthSettings
from anomaly.page.boxes import Box, Boxes
from anomaly.page.serve import serving_boxes, serving_page
from anomaly.page.site import Site
from tests.integration.servers import free_port
from tests.page.auth.issuer import CLIENT, SECRET, Issuer
from tests.page.browser.conftest import show
from tests.page.conftest import TOKENS, settings

FREE = Address("127.0.0.1", 0)


@contextmanager
def another_site(body: str) -> Iterator[str]:
    """A site of somebody else, on another host name: `localhost`, where ours is `127.0.0.1`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_company_account_signs_in_and_comes_back_to_the_view(page: Page, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT_SECRET", SECRET)
    issuer, port = Issuer(), free_port()
    oidc = {"issuer": issuer.url, "client_id": CLIENT, "client_secret_env": "PLANT_SECRET", "roles": {"shift": "operate"}}
    url = f"http://localhost:{port}"  # another site than the issuer, which is 127.0.0.1
    try:
        with serving_page(site, Address("127.0.0.1", port), Auth(AuthSettings.model_validate({"url": url, "oidc": oidc}))):
            show(page, url, "audit")
            expect(page.locator("#token")).to_have_count(0)
            page.get_by_role("link", name="company account").click()
            expect(page.locator("h1")).to_have_text("Audit log")
            expect(page.locator(".who")).to_have_text("ada (operator)")
            assert page.url == f"{url}/#/audit"
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("link", name="company account")).to_be_visible()
    finally:
        issuer.close()


ATTACK = """<!doctype html><title>-</title><iframe src="{url}/" id="frame"></iframe><form method="post" action="{url}{path}" target="there"
enctype="text/plain"><input name='{{"why":"' value='"}}'></form><iframe name="there"></iframe><script>
const said = [];
const tries = [
  () => fetch("{url}{path}", {{method: "POST", credentials: "include", body: "{{}}"}}),
  () => fetch("{url}{path}", {{method: "POST", mode: "no-cors", credentials: "include", body: "{{}}"}}),
  () => fetch("{url}{path}", {{method: "POST", credentials: "include", headers: {{"X-CSRF-Token": "x"}}, body: "{{}}"}}),
  () => fetch("{url}/api/v1/me", {{credentials: "include"}}).then((answer) => answer.json()).then((me) => {{ window.stolen = me; }}),
  () => new Promise((done, fail) => {{
    const it = new EventSource("{url}/api/v1/live", {{withCredentials: true}});
    it.onopen = done;
    it.onerror = fail;
  }}),
];
document.forms[0].submit();
Promise.allSettled(tries.map((each) => each())).then((all) => {{ document.title = all.map((each) => each.status).join(" "); }});
</script>"""


@pytest.mark.parametrize("signed_in", [False, True])
def test_another_site_can_neither_act_nor_read(page: Page, site: Site, signed_in: bool) -> None:
    with serving_page(site, FREE, Auth(settings()) if signed_in else Auth()) as here:
        show(page, f"http://{here}")
        if signed_in:
            page.locator("input[name=token]").fill(TOKENS["admin"])
            page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".card")).to_have_count(1)
        with another_site(ATTACK.format(url=f"http://{here}", path="/api/v1/alarms/a1/acknowledge")) as evil:
            answers: list[int] = []
            page.on("response", lambda answer: answers.append(answer.status) if answer.url.endswith("/acknowledge") else None)
            page.goto(evil)
            expect(page).to_have_title(" ".join(["rejected"] * 5))
            assert page.evaluate("window.stolen") is None
            expect(page.frame_locator("#frame").locator("body")).to_contain_text("refused to connect")
            expect(page.frame_locator("#frame").locator("#main")).to_have_count(0)
        assert answers
        assert set(answers) == {401 if signed_in else 403}  # they reached us; a cookie of ours they had not
        with closing(Store(site.store)) as store:
            assert store.actions() == []
            assert next(each for each in store.alarms() if each.id == "a1").acknowledged is None


def test_many_boxes_in_one_list(page: Page, site: Site) -> None:
    with serving_page(site, FREE, Auth()) as here:
        asked = Boxes([Box(name="<b>north</b>", url=f"http://{here}"), Box(name="hall 3", url=f"http://127.0.0.1:{free_port()}")])
        with serving_boxes(asked, FREE, Auth()) as list_:
            show(page, f"http://{list_}")
            expect(page.locator(".summary")).to_contain_text("1 of 2 boxes are away. Need a look: 1 of 1")
            expect(page.locator("tbody tr").first).to_contain_text("hall 3")
            expect(page.locator(".card")).to_contain_text("<b>north</b>: press")
            page.locator("tbody tr", has_text="unusual records").get_by_role("link").click()
            page.wait_for_url(f"http://{here}/#/alarm/a1")
            expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()


def test_names_that_turn_what_is_read_around_are_shown_escaped_and_a_broken_address_is_told(page: Page, tmp_path: Path) -> None:
    name = "press \u202e3\u2066"
    with closing(Store(tmp_path / "plant.db")) as store:
        store.add_events([make_event("opened", name, "a1", 60.0, {"class": "process", "condition": "process"})], [])
    with serving_page(Site(tmp_path / "plant.db"), FREE, Auth()) as address:
        show(page, f"http://{address}")
        link = page.get_by_role("link", name=r"press \u202e3\u2066").first
        link.click()
        expect(page.locator("h1")).to_contain_text(r"press \u202e3\u2066")  # the line was found: its name went as it is
        for view in ("", "alarms", "alarm/a1", "audit", "shadow"):
            show(page, f"http://{address}", view)
            page.wait_for_load_state("networkidle") if view == "" else page.wait_for_timeout(200)
            found = page.evaluate(
                "document.title + document.body.innerText + [...document.querySelectorAll('*')].map((e) => e.ariaLabel + e.title)"
            )
            assert not set("\u202e\u2066") & set(found), view
        for view in ("line/%E0%A4%A", "alarm/%"):
            show(page, f"http://{address}", view)
            expect(page.get_by_role("alert").filter(has_text="Not found: there is nothing at this address")).to_be_visible()
