"""How often one address may ask: a bucket of tokens for each, filled at a steady rate."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "report", "act", "sign in"]
MOST_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, and so many at once."""

    a_second: float
    at_once: float


# A report or an archive is made of the whole store, in the process that watches the line.
RATES: dict[Kind, Rate] = {"read": Rate(100.0, 400.0), "report": Rate(0.2, 10.0), "act": Rate(5.0, 30.0), "sign in": Rate(5 / 60, 5.0)}


class Limits:
    """`clock` gives seconds that only grow. Memory is bounded: the address that asked longest ago is forgotten."""

    def __init__(self, rates: dict[Kind, Rate] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates, self._clock = rates or RATES, clock
        self._buckets: OrderedDict[tuple[str, Kind], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, address: str, kind: Kind) -> int:
        """0 when it may ask now; else the whole seconds until it may.

        >>> now = [0.0]
        >>> limits = Limits({"read": Rate(1.0, 2.0)}, lambda: now[0])
        >>> limits.wait_s("a", "read"), limits.wait_s("a", "read"), limits.wait_s("a", "read"), limits.wait_s("b", "read")
        (0, 0, 1, 0)
        """
        rate, now, key = self._rates[kind], self._clock(), (address, kind)
        with self._lock:
            left, then = self._buckets.get(key, (rate.at_once, now))
            left = min(rate.at_once, left + (now - then) * rate.a_second)
            granted = left >= 1
            self._buckets[key] = (left - granted, now)
            self._buckets.move_to_end(key)
            while len(self._buckets) > MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0 if granted else math.ceil((1 - left) / rate.a_second)
