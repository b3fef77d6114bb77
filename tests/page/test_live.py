"""What viewers are told as it happens."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import Any

from anomaly.alarms.events import make_event
from anomaly.alarms.store import Store
from anomaly.page.live import MOST_WAITING, Feed
from anomaly.page.site import Site


def test_a_rush_of_alarms_reaches_a_viewer_whole(site: Site) -> None:
    """More alarms at once than a viewer may have messages waiting: none is let go for it."""
    rush = 4 * MOST_WAITING

    def opened(name: str) -> dict[str, Any]:
        return make_event("opened", "press", name, time.time(), {"class": "process", "condition": name, "reason": "x"})

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
