"""The views that a network's stages can give, and which of them and of their pools a detector is to have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anomaly.scorers.pictures.views import TOP_SHARE, Pool
from anomaly.spec import Bank, PoolSpec

SHARES = (TOP_SHARE, 0.002, 0.0)  # of the worst places, for marks of falling size
ADDS = 0.06  # share of made-up marks, mean over their sizes, that a further pool must find more
WIDEST = 256  # channels of a stage from which covariances of each place are too large
PLACE_PATCHES = 48  # that are kept for a place
BY_PLACE = " by place"  # the end of the name of a view whose patches are compared with those of their place


def offered_banks(stages: Sequence[str], widths: Sequence[int]) -> dict[str, tuple[Bank, ...]]:
    """Banks by view: "main" looks at the two deepest stages together; each stage before them gives a view, and one by place.

    `widths` are the stages' channels.

    >>> {view: len(banks) for view, banks in offered_banks(["blocks.2", "blocks.4", "blocks.5"], [40, 112, 192]).items()}
    {'main': 5, 'blocks.2': 2, 'blocks.2 by place': 2}
    """
    deep = list(zip(stages, widths, strict=True))[-2:]
    first, last = deep[0], deep[-1]
    main = [Bank(stage=first[0], metric="unit", size=8000), Bank(stage=first[0], metric="raw", size=4000)]
    if len(deep) > 1:
        main.append(Bank(stage=last[0], metric="unit", size=4000))
    main += [Bank(stage=first[0], metric="raw", model="gaussian")] if first[1] <= WIDEST else []
    main += [Bank(stage=last[0], metric="unit", model="gaussian")] if len(deep) > 1 and last[1] <= WIDEST else []
    offered = {"main": tuple(main)}
    for stage in stages[:-2]:
        place = f"{stage}{BY_PLACE}"
        offered[stage] = (Bank(stage=stage, metric="unit", size=4000, view=stage), Bank(stage=stage, metric="raw", size=4000, view=stage))
        offered[place] = tuple(
            Bank(stage=stage, metric=metric, size=PLACE_PATCHES, model="place", view=place) for metric in ("unit", "raw")
        )
    return offered


def choose_pools(
    offered: Sequence[Pool], found: Callable[[Sequence[Pool]], Mapping[float, float]]
) -> tuple[list[Pool], list[tuple[Pool, float]]]:
    """The pools to take, the first of those offered always, and each one taken after it with what it adds.

    `found(pools)` is the share of made-up marks of each size that these pools find together. Greedy forward selection.
    """
    taken: list[Pool] = [offered[0]]
    adds: list[tuple[Pool, float]] = []
    best = mean_told(found(taken))
    while True:
        left = [pool for pool in offered if pool not in taken]
        gains = [mean_told(found([*taken, pool])) - best for pool in left]
        if not gains or max(gains) < ADDS:
            return taken, adds
        at = gains.index(max(gains))
        taken.append(left[at])
        adds.append((left[at], gains[at]))
        best += gains[at]


def mean_told(found: Mapping[float, float]) -> float:
    """The mean over the sizes of marks."""
    return sum(found.values()) / max(1, len(found))


def pools_offered(views: Sequence[str]) -> list[Pool]:
    """Every pool of every view, that of the worst 2 % of the first view before all others."""
    return [Pool(view, share) for view in views for share in SHARES]


def as_spec(pools: Sequence[Pool]) -> tuple[PoolSpec, ...]:
    """Pools as a spec writes them."""
    return tuple(PoolSpec(view=pool.view, share=pool.share) for pool in pools)
