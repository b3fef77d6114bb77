"""What all live sources share."""

from __future__ import annotations

import numpy as np

from anomaly.data.records import Record
from anomaly.edge.sources.live.feed import Feed
from anomaly.errors import SourceError
from tests.edge.conftest import until


def test_a_full_queue_lets_the_oldest_go_and_says_how_many() -> None:
    class Burst(Feed):
        def run(self) -> None:
            self.connected()
            for i in range(100):
                self.put(Record(str(i), float(i), np.zeros(1)))
            self.stopping.wait()
            raise SourceError("gone")

    feed = Burst("burst", 10)
    until(lambda: len(feed._queue) == 10 and feed._dropped == 90)
    poll = feed.poll(100)
    assert [r.id for r in poll.records] == [str(i) for i in range(90, 100)]
    assert poll.dropped == 90
    feed.close()
