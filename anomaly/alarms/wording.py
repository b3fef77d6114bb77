"""What the monitor says of a record: why it alarms, as data for the event and as a line for a person."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, iso
from anomaly.bundle.archive import Bundle


def reason(detail: NDArray[np.float32], bundle: Bundle) -> dict[str, Any]:
    """Where on the picture, as shares of its width and height; or which sensors, with their share of the score."""
    if detail.ndim == 2:
        y, x = np.unravel_index(int(detail.argmax()), detail.shape)
        return {"where": {"x": (float(x) + 0.5) / detail.shape[1], "y": (float(y) + 0.5) / detail.shape[0]}}
    shares = detail / max(float(detail.sum()), 1e-12)
    names = [s.name for s in bundle.manifest.input.sensors]
    return {"top": [{"sensor": names[i], "share": round(float(shares[i]), 4)} for i in np.argsort(-shares)[:3]]}


def told(event: Event) -> str:
    """One line on an event."""
    data, when = event.data, iso(event.time)
    if event.kind == "rejected":
        return f"{when}  set aside  {data['reason'].splitlines()[0]}"
    if event.kind in ("swapped", "refused", "rolled_back"):
        verb = {"swapped": "bundle now", "refused": "bundle refused", "rolled_back": "bundle taken back"}[event.kind]
        return f"{when}  {verb}  {data['bundle_hash'][:12]}  {data['reason'].splitlines()[0]}".rstrip()
    verb = "ALARM     " if event.kind == "opened" else "alarm over"
    if data["class"] == "data quality":
        return f"{when}  {verb}  data quality: {data['reason']}"
    why = ", ".join(f"{t['sensor']} {t['share']:.0%}" for t in data.get("top", []))
    if "where" in data:
        why = f"at {data['where']['x']:.0%} across, {data['where']['y']:.0%} down"
    return f"{when}  {verb}  {data['record']}  p {data['p_value']:.2g}  {why}".rstrip()
