"""Which made-up marks a detector finds at its threshold, by their size, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HALF = 0.5  # share of the marks of a size from which they count as found


def marks_found(
    scores: Mapping[str, Sequence[float]],
    named: float | None,
    threshold: float | None,
    rate: float,
    larger: str = "",
    lie: str = "anywhere",
) -> dict[str, Any]:
    """By size in pixels the share of marks that score at or above the `threshold`, which flags `rate` of normals.

    `scores` are those of pictures with one mark each, by the marks' size. `smallest` is the size from which on at least half are found,
    None where no size is. `named` is the smallest size that the spec asks for. `words` says it, and `warning` is there where marks of
    the named size are not found; `larger` is the key of [input] that lets a larger input be taken, "" where none is to be had. `lie` says
    where the marks were drawn, see `Judging.marks_lie`.

    >>> found = marks_found({"2": [0.1, 0.2], "4": [0.3, 2.0], "8": [2.0, 3.0]}, None, 1.0, 0.01)
    >>> found["found"], found["smallest"], found["warning"]
    ({'2': 0.0, '4': 0.5, '8': 1.0}, 4.0, None)
    """
    found = {size: sum(score >= threshold for score in some) / len(some) for size, some in scores.items()} if threshold is not None else {}
    sizes = sorted(found, key=float)
    smallest = next((float(size) for at, size in enumerate(sizes) if all(found[other] >= HALF for other in sizes[at:])), None)
    counts = {size: len(scores[size]) for size in sizes}
    result = {"rate": rate, "lie": lie, "found": {size: round(found[size], 3) for size in sizes}, "of": counts, "smallest": smallest}
    return result | {"words": _words(result), "warning": _warning(found, named, larger)}


def _words(result: Mapping[str, Any]) -> str:
    found: Mapping[str, float] = result["found"]
    if not found:
        return ""
    smallest = result["smallest"]
    from_on = "of no size half are found" if smallest is None else f"half or more are found from {smallest:g} pixels on"
    shares = ", ".join(f"{size} px {100 * share:.0f} %" for size, share in found.items())
    return f"made-up marks at a rate of {100 * result['rate']:.2g} %: {from_on} ({shares})"


def _warning(found: Mapping[str, float], named: float | None, larger: str) -> str | None:
    share = found.get(f"{named:g}") if named is not None else None
    if share is None or share >= HALF:
        return None
    helps = "a camera with more pixels a millimetre, or a larger budget, helps"
    if larger == "max_ms":
        helps = f"A larger max_ms lets larger sizes of input be tried; {helps} too"
    elif larger == "size":
        helps = f'A larger [input] size, or "auto", looks at the pictures in more detail; {helps} too'
    else:
        helps = f"No larger size of input would find more; {helps}"
    return (
        f"made-up marks of {named:g} pixels, the smallest_mark that the spec names, are found only {100 * share:.0f} times in 100. {helps}"
    )
