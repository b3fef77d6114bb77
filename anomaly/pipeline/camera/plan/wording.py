"""A plan in words, for the console and the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anomaly.pipeline.camera.plan.views import BY_PLACE


def plan_words(report: Mapping[str, Any]) -> list[str]:
    """What was chosen and why, a line of text each, from the report of a plan.

    >>> tried = {"size": [256, 256], "found": {"2": 0.1, "4": 0.7}, "mean": 0.4, "pools": [["main", 0.02]], "adds": []}
    >>> report = {"size": [256, 256], "pictures": [300, 300], "milliseconds": 3.8, "false_alarms": 0.05, "tried": [tried]}
    >>> for line in plan_words({**report, "smallest_mark_found": 4.0}): print(line)
    pictures of 300 x 300 pixels are looked at with 256 x 256
    on trial, made-up marks at any place looked at are found by half or more from 4 pixels on, at one good part in 20 flagged
    """
    high, wide = report["pictures"]
    tall, broad = report["size"]
    taken = next(one for one in report["tried"] if one["size"] == report["size"])
    several = report.get("sizes", 1)
    pictures = f"pictures of {several} sizes" if several > 1 else f"pictures of {high} x {wide} pixels"
    lines = [f"{pictures} are looked at with {tall} x {broad}"]
    smallest, rate = report["smallest_mark_found"], f"one good part in {1 / report['false_alarms']:.0f} flagged"
    if smallest is None:
        sizes = ", ".join(sorted(taken["found"], key=float))
        lines.append(f"on trial, made-up marks at any place looked at are found at no size ({sizes} pixels) by half or more, at {rate}")
    else:
        lines.append(f"on trial, made-up marks at any place looked at are found by half or more from {smallest:g} pixels on, at {rate}")
    for view, share, gain in taken["adds"]:
        lines.append(f"{pool_words(view, share)} is looked at too: {100 * gain:.0f} in 100 marks more are found")
    larger = [one for one in report["tried"] if one["size"] != report["size"] and one["size"][0] * one["size"][1] > tall * broad]
    if larger:
        best = max(larger, key=lambda one: float(one["mean"]))
        gain = round(100 * (best["mean"] - taken["mean"]))
        how = (
            f"{gain} in 100 marks more, which does not pay" if gain > 0 else f"{-gain} in 100 marks fewer" if gain < 0 else "no more marks"
        )
        lines.append(f"{best['size'][0]} x {best['size'][1]} would find {how}")
    return lines + (_fault_words(report, taken) if "faults" in report else [])


def pool_words(view: str, share: float) -> str:
    """What a pool looks at.

    >>> pool_words("main", 0.02), pool_words("blocks.2", 0.0)
    ('the worst 2 % of places', 'the worst place, in fine detail (layer 2 of the network)')
    """
    what = "the worst place" if share == 0 else f"the worst {100 * share:g} % of places"
    return what if view == "main" else f"{what}, {view_words(view)}"


def view_words(view: str) -> str:
    """What a view sees: those that are offered (`views.offered_banks`) are named by their layer, others by who wrote the spec.

    >>> view_words("layer1 by place"), view_words("edges")
    ('in fine detail, against the same place of other parts (layer 1 of the network)', 'view edges')
    """
    stage = view.removesuffix(BY_PLACE)
    number = layer_words(stage)
    if number == stage:
        return f"view {view}" if view != "main" else "main"
    against = ", against the same place of other parts" if view.endswith(BY_PLACE) else ""
    return f"in fine detail{against} (layer {number} of the network)"


def layer_words(stage: str) -> str:
    """A layer of a network without what its authors call it: the number, where that is all that it says.

    >>> layer_words("blocks.2"), layer_words("layer3"), layer_words("bank 12")
    ('2', '3', 'bank 12')
    """
    named = re.fullmatch(r"(?:blocks|stages|layers?|features)[._]?(\d+)", stage)
    return named[1] if named else stage


def _fault_words(report: Mapping[str, Any], taken: Mapping[str, Any]) -> list[str]:
    """How labelled faults are ranked, and what was decided by them."""
    faults = report["faults"]
    sizes = [f"{one['size'][0]} x {one['size'][1]}" for one in report["tried"]]
    (first, rank), *others = zip(sizes, [one["faults"]["auroc"] for one in report["tried"]], strict=True)
    ranks = [f"{first} ranks them at {rank:.2f}", *(f"{size} at {rank:.2f}" for size, rank in others)]
    lines = [f"{faults['count']} labelled faults: {', '.join(ranks)} (AUROC)"]
    if not faults["decide"]:
        return [*lines, "so few labelled faults decide nothing of how pictures are looked at; label five or more"]
    if report["size"] != faults["size_without"]:
        high, wide = faults["size_without"]
        lines.append(f"{taken['size'][0]} x {taken['size'][1]} is taken by them; made-up marks alone would take {high} x {wide}")
    for view, share, gain in taken["faults"]["adds"]:
        lines.append(f"{pool_words(view, share)} is looked at too, for labelled faults: AUROC {gain:+.2f}")
    if len(lines) == 1:
        lines.append("no other size or pool ranks them clearly better, so made-up marks decide")
    if faults["smallest"] is not None:
        smallest = min(float(size) for size in taken["found"])
        lines.append(f"the smallest labelled fault measures {faults['smallest']:g} pixels; made-up marks on trial begin at {smallest:g}")
    return lines
