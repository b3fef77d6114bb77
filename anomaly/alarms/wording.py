"""What is said of an event: the cause as data for the event, and the event in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, iso

MOST_SENSORS = 3  # named as the cause of an alarm


def explain_map(anomaly_map: NDArray[np.float32]) -> dict[str, Any]:
    """Where the map (h, w) is highest, as shares of the picture's width and height.

    >>> explain_map(np.array([[0, 1], [0, 0]], np.float32))
    {'where': {'x': 0.75, 'y': 0.25}}
    """
    y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return {"where": {"x": (float(x) + 0.5) / anomaly_map.shape[1], "y": (float(y) + 0.5) / anomaly_map.shape[0]}}


def explain_contribution(contribution: NDArray[np.float32], sensors: Sequence[str]) -> dict[str, Any]:
    """The sensors that contribute most, each with its share of the sum over all (C,); `sensors` are their names in that order.

    >>> explain_contribution(np.array([1, 3], np.float32), ["flow", "pressure"])
    {'top': [{'sensor': 'pressure', 'share': 0.75}, {'sensor': 'flow', 'share': 0.25}]}
    """
    shares = contribution / max(float(contribution.sum()), 1e-12)
    top = np.argsort(-shares)[:MOST_SENSORS]
    return {"top": [{"sensor": sensors[i], "share": round(float(shares[i]), 4)} for i in top]}


def describe_event(event: Event) -> str:
    """One line on an event, for a log or a terminal."""
    data, when = event.data, iso(event.time)
    if event.kind == "rejected":
        return f"{when}  set aside  {_first_line(data['reason'])}"
    if event.kind in ("swapped", "refused", "rolled_back"):
        verb = {"swapped": "bundle now", "refused": "bundle refused", "rolled_back": "bundle taken back"}[event.kind]
        return f"{when}  {verb}  {data['bundle_hash'][:12]}  {_first_line(data['reason'])}".rstrip()
    verb = "ALARM     " if event.kind == "opened" else "alarm over"
    if data["class"] == "data quality":
        return f"{when}  {verb}  data quality: {data['reason']}"
    return f"{when}  {verb}  {data['record']}  p {data['p_value']:.2g}  {_cause(data)}".rstrip()


def describe_message(body: dict[str, Any]) -> tuple[str, str]:
    """(title, text) of a CloudEvents body, for e-mail, chat and pagers."""
    data = body["data"]
    line = body["source"].removeprefix("/anomaly/")
    verb = {"anomaly.alarm.opened": "alarm", "anomaly.alarm.closed": "alarm over"}.get(body["type"], body["type"])
    lines = [f"Line {line}, since {data.get('began', body['time'])}.", f"Record: {data.get('record', '')}"]
    if "p_value" in data:
        lines.append(f"As unusual as 1 normal record in {1 / max(data['p_value'], 1e-12):,.0f} (p = {data['p_value']:.2g}).")
    if data.get("top"):
        lines.append("Most involved: " + ", ".join(f"{t['sensor']} ({t['share']:.0%})" for t in data["top"]))
    if data.get("where"):
        lines.append(f"Where: {data['where']['x']:.0%} from the left, {data['where']['y']:.0%} from the top.")
    if data.get("cause"):
        lines.append(f"Cause: {data['cause']}")
    return f"{line}: {verb}", "\n".join(lines)


def _cause(data: dict[str, Any]) -> str:
    """The cause in an event's data, in a few words; a kind of input that has its own words for it gives them as `cause`."""
    if "where" in data:
        return f"at {data['where']['x']:.0%} across, {data['where']['y']:.0%} down"
    if "top" in data:
        return ", ".join(f"{t['sensor']} {t['share']:.0%}" for t in data["top"])
    return str(data.get("cause", ""))


def _first_line(reason: str) -> str:
    return reason.splitlines()[0]
