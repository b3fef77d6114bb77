"""What viewers are told as it happens."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from typing import Any

import pytest

from anomaly.alarms.events import make_event
from anomaly.alarms.health.board import Board
from anomaly.alarms.store import Store
from anomaly.page import live
from anomaly.page.live import MOST_WAITING, Feed
from anomaly.page.site import Site


def opened(name: str) -> dict[str, Any]:
    return make_event("opened", "press", name, time.time(), {"class": "process", "condition": name, "reason": "x"})


def test_a_rush_of_alarms_reaches_a_viewer_whole(site: Site) -> None:
    """More alarms at once than a viewer may have messages waiting: none is let go for it."""
    rush = 4 * MOST_WAITING

    async def told() -> int:
        feed, count = Feed(site), 0
        with closing(Store(site.store)) as store:

            async def begin() -> None:
                """Until the feed has looked once: what was there before is not told."""
                for number in range(1000):
                    store.add_events([opened(f"first{number}")], [])
                    await asyncio.sleep(0.2)

            beginning, begun = asyncio.create_task(begin()), False
            async for body in feed.watch():
                if b"first" in body and not begun:
                    begun = beginning.cancel()
                    store.add_events([opened(f"rush{number}") for number in range(rush)], [])
                    await asyncio.sleep(1.0)  # the viewer reads nothing meanwhile
                count += body.count(b'"condition":"rush')
                if count >= rush:
                    break
            feed.close()
        return count

    assert asyncio.run(asyncio.wait_for(told(), 60)) == rush


def test_viewers_are_told_between_two_turns_of_a_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_S", 600.0)
    board = Board(site.store)
    board.add(["press"])
    feed = Feed(Site(site.store, board))
    waiting = threading.Thread(target=feed._wait_for_turn)
    waiting.start()
    while waiting.is_alive():
        board.lines["press"].alive()  # the line ends a turn
        waiting.join(0.01)
    board.add(["oven"])
    feed._wait_for_turn()  # of many lines none is waited for


def test_viewers_are_told_though_a_line_hangs(site: Site) -> None:
    board = Board(site.store)
    board.add(["press"])  # which never ends a turn
    feed = Feed(Site(site.store, board))

    async def told() -> None:
        with closing(Store(site.store)) as store:
            async for body in feed.watch():  # the lines first, and a word each few seconds
                if b"event: alarm" in body:
                    break
                store.add_events([opened(str(time.monotonic_ns()))], [])
        feed.close()

    asyncio.run(asyncio.wait_for(told(), 60))
