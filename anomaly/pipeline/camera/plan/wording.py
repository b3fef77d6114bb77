"""A plan in words, for the console and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plan_words(report: Mapping[str, Any]) -> list[str]:
    """What was chosen and why, a line of text each, from the report of a plan.

    >>> tried = {"size": [256, 256], "found": {"2": 0.1, "4": 0.7}, "mean": 0.4, "pools": [["main", 0.02]], "adds": []}
    >>> report = {"size": [256, 256], "pictures": [300, 300], "milliseconds": 3.8, "false_alarms": 0.05, "tried": [tried]}
    >>> for line in plan_words({**report, "smallest_mark_found": 4.0}): print(line)
    pictures of 300 x 300 pixels are looked at with 256 x 256, about 4 ms each
    on trial, made-up marks are found by half or more from 4 pixels on, at one good part in 20 flagged
    """
    high, wide = report["pictures"]
    tall, broad = report["size"]
    taken = next(one for one in report["tried"] if one["size"] == report["size"])
    lines = [f"pictures of {high} x {wide} pixels are looked at with {tall} x {broad}, about {report['milliseconds']:.0f} ms each"]
    smallest, rate = report["smallest_mark_found"], f"one good part in {1 / report['false_alarms']:.0f} flagged"
    if smallest is None:
        lines.append(f"on trial, made-up marks of no size ({', '.join(taken['found'])} pixels) are found by half or more, at {rate}")
    else:
        lines.append(f"on trial, made-up marks are found by half or more from {smallest:g} pixels on, at {rate}")
    for view, share, gain in taken["adds"]:
        what = "the worst place" if share == 0 else f"the worst {100 * share:g} % of places"
        where = "" if view == "main" else f" of {view}"
        lines.append(f"{what}{where} is looked at too: {100 * gain:.0f} in 100 marks more are found")
    larger = [one for one in report["tried"] if one["size"] != report["size"] and one["size"][0] * one["size"][1] > tall * broad]
    if larger:
        best = max(larger, key=lambda one: float(one["mean"]))
        gain = 100 * (best["mean"] - taken["mean"])
        lines.append(f"{best['size'][0]} x {best['size'][1]} would find {gain:+.0f} in 100 marks, which does not pay")
    return lines
