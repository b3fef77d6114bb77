"""A condition that comes again before its alarm is done with is the same alarm to people: what is said of it counts all of its trips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EARLIER = "earlier"  # the key under which an alarm's data keep what its earlier trips came to
_OF_THE_WORST = ("p_value", "score", "worst")


def come_again(known: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm's data as its condition comes again. `known`: what they were; `said`: what the event of the new trip says."""
    before = known.get(EARLIER, {})
    earlier = {"trips": before.get("trips", 0) + 1, "flagged": known.get("flagged", 0)}
    earlier |= {key: known[key] for key in _OF_THE_WORST if key in known}
    return with_more({**known, EARLIER: earlier}, said)


def with_more(known: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm's data with what is said of its present trip: flagged records are of all trips, and the worst record is the worst of all.

    >>> first = {"p_value": 0.001, "score": 9.0, "flagged": 5, "sensors": ["flow"]}
    >>> again = come_again(first, {"p_value": 0.009, "score": 4.0, "flagged": 1, "sensors": ["heat"]})
    >>> again["p_value"], again["score"], again["flagged"], again["sensors"]
    (0.001, 9.0, 6, ['flow', 'heat'])
    >>> with_more(again, {"p_value": 0.0002, "score": 11.0, "flagged": 2})["p_value"]
    0.0002
    """
    data = {**known, **said}
    earlier = known.get(EARLIER)
    if earlier is None or "p_value" not in said:
        return data
    if "flagged" in said:
        data["flagged"] = earlier["flagged"] + said["flagged"]
    if earlier.get("p_value", 1.0) <= said["p_value"]:
        data |= {key: earlier[key] for key in _OF_THE_WORST if key in earlier}
    for key in ("sensors", "units"):
        if key in known and key in said:
            both = {**dict.fromkeys(known[key]), **dict.fromkeys(said[key])}
            data[key] = list(both) if key == "sensors" else {**known[key], **said[key]}
    return data
