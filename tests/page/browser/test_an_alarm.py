"""A fault, from the reading to the person and back: shown at once, acknowledged by a click, known to store, bus and audit log."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import BrowserContext, Page, expect

from anomaly.alarms.store import Store
from tests.integration.servers import free_port, listening, program, serving
from tests.page.browser.conftest import Watched, show, wait_for


def test_a_fault_is_shown_acknowledged_and_told(page: Page, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "broker.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    (tmp_path / "alerts.toml").write_text(
        f'[[sink]]\nname = "bus"\nkind = "mqtt"\nurl = "mqtt://127.0.0.1:{port}"\ntopic = "plant/{{line}}"\n'
    )
    told: list[dict[str, object]] = []
    with serving([program("mosquitto"), "-c", tmp_path / "broker.conf"], lambda: listening(port), tmp_path / "broker.log"):
        client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, message: told.append(json.loads(message.payload))
        client.connect("127.0.0.1", port)
        client.subscribe("plant/#", qos=1)
        client.loop_start()
        watched = Watched(tmp_path / "line", "--alerts", tmp_path / "alerts.toml")
        watched.start()
        try:
            _see_and_acknowledge(page, watched)
            wait_for(lambda: any(str(event["type"]).endswith(".acknowledged") for event in told))
        finally:
            watched.stop()
            client.loop_stop()
    by = next(event for event in told if str(event["type"]).endswith(".acknowledged"))["data"]
    assert isinstance(by, dict)
    assert (by["why"], by["state"]) == ("on my way", "acknowledged")


def _see_and_acknowledge(page: Page, watched: Watched) -> None:
    show(page, watched.url)
    expect(page.locator(".mark-ok")).to_have_count(1)
    watched.feed(*[7.0] * 6)
    began = time.monotonic()
    expect(page.locator(".card-alarm .mark-alarm")).to_have_count(1)
    print(f"shown {time.monotonic() - began:.2f} s after it was written")
    page.get_by_role("link", name="press 1", exact=True).first.click()
    page.wait_for_selector("h1:has-text('press 1')")
    page.locator("td a[data-row]").first.click()
    page.locator("input[name=why]").first.fill("on my way")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".isa").first).to_have_text("acknowledged")
    (alarm,) = watched.alarms()
    assert alarm.state == "acknowledged"
    with closing(Store(watched.store)) as store:
        (deed,) = store.actions()
        assert (deed.action, deed.why, deed.alarm, store.broken_action()) == ("acknowledged", "on my way", alarm.id, "")


def test_what_people_say_of_an_alarm_is_kept(page: Page, watched: Watched) -> None:
    watched.feed(*[7.0] * 6, *[0.2] * 30)
    (alarm,) = wait_for(lambda: [each for each in watched.alarms() if each.closed is not None])
    show(page, watched.url, f"alarm/{alarm.id}")
    expect(page.locator("figcaption").first).to_contain_text("a (bar)")
    page.get_by_text("Comment", exact=True).first.click()
    page.locator("textarea[name=why]").fill("<b>valve</b> & pump")
    page.get_by_role("button", name="Comment").click()
    expect(page.get_by_role("cell", name="<b>valve</b> & pump")).to_be_visible()
    page.locator("input[name=kind]").fill("sticking")
    page.get_by_text("Mark when it lasted").click()
    page.get_by_role("button", name="Add a stretch of time").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("real, said")).to_be_visible()
    with closing(Store(watched.store)) as store:
        label = store.label_of(alarm.id)
    assert label is not None
    assert (label.verdict, label.kind, len(label.stretches)) == ("real", "sticking", 1)


def test_a_line_that_is_shelved_is_told_and_given_back(page: Page, watched: Watched) -> None:
    show(page, watched.url, "line/press%201")
    page.get_by_text("Hold back all alarms of this line").click()
    page.locator("details input[name=why]").fill("maintenance")
    page.get_by_role("button", name="Hold back").click()
    expect(page.get_by_role("cell", name="maintenance")).to_be_visible()
    with closing(Store(watched.store)) as store:
        assert [(line, hold.kind, hold.why) for line, hold in store.holds()] == [("press 1", "shelved", "maintenance")]
    page.get_by_role("button", name="End it").click()
    expect(page.get_by_text("Nothing is held back")).to_be_visible()


def test_names_from_outside_are_text(context: BrowserContext, page: Page, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    watched = Watched(tmp_path / "line", name=name)
    watched.start()
    try:
        watched.feed(*[7.0] * 6)
        page.on("dialog", lambda _dialog: (_ for _ in ()).throw(AssertionError("a script from outside ran")))
        for view in ("", "alarms", "line/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "audit", "drift", "wall"):
            show(page, watched.url, view)
            wait_for(lambda: page.locator("#main").inner_text())
            assert page.locator("#main img[src=x]").count() == 0
        assert name in page.locator("#main").inner_text()
    finally:
        watched.stop()
