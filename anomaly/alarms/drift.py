"""Whether a line's records are still like the normals that its detector learnt from: a conformal test martingale, with a bound.

Scores are averaged over blocks long enough to be independent. Each block gets a conformal p-value among the reference's blocks and all
of the line's before it: while nothing has changed, all orders of blocks are equally likely, whatever their law (Vovk et al. 2005; Vovk
2021, doi:10.1214/20-STS817). Bets against such p-values are multiplied to a martingale; Shiryaev and Roberts' sum over all moments at which
drift may have begun (Roberts 1966) stays a bounded state for good, and finds a drift that begins late.

The bound: the sum R grows by 1 a block on average, and Doob's inequality for it gives P(R >= c within n blocks) <= n / c. A month has at
most 8,766 blocks, one in 5 minutes, and c is a thousand times that: without drift, one false detection in 1,000 months at most. Ties are
counted against drift, and all bets fall with p, so that p-values which are too large make it rarer.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.alarms.events import Event, alarm_id, iso, make_event
from anomaly.schema import Channel

MONTHS_A_FALSE_ONE = 1000
BLOCK_AT_LEAST_S = 300.0  # blocks begin no nearer to each other
BLOCKS_A_MONTH = 365.25 / 12 * 86_400 / BLOCK_AT_LEAST_S
LIMIT = MONTHS_A_FALSE_ONE * BLOCKS_A_MONTH
EXPONENTS = np.array([0.2, 0.4, 0.6, 0.8, 0.9])  # bets e * p**(e - 1): the small ones for strong drift, the large ones for slow drift
BINS = 1000  # mean ranks of blocks are told apart as finely as this
RECENT_BLOCKS, BACK_BLOCKS = 24, 96  # memory of the running means of what is followed, and of p-values while drift is on
BACK_AT = 0.45  # drift is over when that mean of p-values has come back to this (0.5 without drift)
MOST_SENSORS = 3  # named as what has moved
MOVED_SPREADS = 1.0  # of the reference's blocks, from which on a sensor has moved

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What normal records look like, from a bundle's reference.parquet.

    scores: of normal records (n,), ascending
    block: how many records that follow each other are averaged into one independent value
    ranks: mean rank of each of the reference's blocks, in [0, 1]
    names: what else is followed, a sensor's part in the score ("share:NAME") and its reading ("level:NAME"), with mean and spread of blocks
    """

    scores: Array
    block: int
    ranks: Array
    names: tuple[str, ...] = ()
    mean: Array = field(default_factory=lambda: np.empty(0))
    spread: Array = field(default_factory=lambda: np.empty(0))


def read_reference(parquet: bytes, calibration: dict[str, Any]) -> Reference:
    """The reference in a bundle: the bytes of reference.parquet, and the manifest's `calibration`.

    Older bundles do not say how long a block is: then it is four times the records that one independent score is worth.
    """
    import pandas as pd

    frame = pd.read_parquet(io.BytesIO(parquet))
    scores = frame.pop("score").to_numpy(np.float64)
    block = int(calibration.get("block") or np.ceil(4 * len(scores) / max(1.0, float(calibration.get("independent_scores", len(scores))))))
    places = frame.pop("place").to_numpy(np.int64) if "place" in frame else np.arange(len(scores))
    step = max(1, int(np.median(np.diff(places)))) if len(places) > 1 else 1  # a long record is thinned
    names = tuple(str(name) for name in frame if str(name).startswith(("share:", "level:")))
    ascending = np.sort(scores)
    values = np.column_stack([_ranks(scores, ascending), frame[list(names)].to_numpy(np.float64)])
    blocks = _block_means(values, places // block, max(1, block // step))
    mean = np.ma.masked_invalid(values[:, 1:]).mean(axis=0).filled(0.0)  # a sensor without any reading
    spread = np.ma.masked_invalid(blocks[:, 1:]).std(axis=0).filled(0.0)
    return Reference(ascending, block, blocks[:, 0], names, mean, spread)


def _block_means(values: Array, blocks: NDArray[np.int64], whole: int) -> Array:
    """Means (k, D) of values (n, D) over those of each block (n,), of blocks that are at least half whole."""
    numbers, at, counts = np.unique(blocks, return_inverse=True, return_counts=True)
    known, sums = np.zeros((len(numbers), values.shape[1])), np.zeros((len(numbers), values.shape[1]))
    np.add.at(known, at, np.isfinite(values))
    np.add.at(sums, at, np.nan_to_num(values))
    with np.errstate(invalid="ignore"):
        means: Array = (sums / known)[2 * counts >= whole]
    return means


def _ranks(scores: Array, ascending: Array) -> Array:
    """Shares of the reference that lie below each score."""
    return np.searchsorted(ascending, scores) / len(ascending)


@dataclass
class Martingale:
    """The test: mean ranks of blocks in, the Shiryaev-Roberts sum out. `counts` are blocks by rank before the drift that may have begun at
    `since`, `pending` those after it; a p-value is taken among both.
    """

    counts: NDArray[np.int64]
    pending: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS + 1, np.int64))
    sums: Array = field(default_factory=lambda: np.zeros(len(EXPONENTS)))
    rise: float = 1.0  # CUSUM of the mixed bet: the product of bets since `since`, never below 1
    since: float | None = None

    @property
    def evidence(self) -> float:
        """R, the mean of the sums over all bets; drift is told at `LIMIT`."""
        return float(self.sums.mean())

    def p_value(self, rank: float) -> float:
        """Conformal p-value of a block among those before it: (1 + how many rank as high) / (1 + how many there are)."""
        every = self.counts + self.pending
        return float((1 + every[_bin(rank) :].sum()) / (1 + every.sum()))

    def take(self, rank: float, time: float) -> bool:
        """Take one block; returns whether it shows drift."""
        p = self.p_value(rank)
        bets = EXPONENTS * p ** (EXPONENTS - 1)
        self.sums = (self.sums + 1) * bets
        self.rise *= float(bets.mean())
        if self.rise <= 1:
            self.rise, self.since = 1.0, None
            self.counts, self.pending = self.counts + self.pending, np.zeros_like(self.pending)
            self.counts[_bin(rank)] += 1
        else:
            self.since = time if self.since is None else self.since
            self.pending[_bin(rank)] += 1
        return self.evidence >= LIMIT

    def begin_anew(self) -> None:
        """Forget the evidence, and the blocks since the drift began."""
        self.pending, self.sums, self.rise, self.since = np.zeros_like(self.pending), np.zeros(len(EXPONENTS)), 1.0, None


def _bin(rank: float) -> int:
    return int(rank * BINS + 1e-9)


@dataclass
class _Block:
    """The block that is being filled: when it began, how many records are in it, the sum of rank and of all that is followed."""

    start: float = -np.inf
    count: int = 0
    sums: Array = field(default_factory=lambda: np.empty(0))


@dataclass
class _State:
    martingale: Martingale
    blocks: int = 0
    risen: int = 0  # blocks since drift may have begun,
    recent: Array = field(default_factory=lambda: np.empty(0))  # and running means over these of rank and of all that is followed
    drifted: float | None = None  # since when, while drift is on
    back: float = 0.5  # running mean of p-values while drift is on


class DriftMonitor:
    """Drift of one line under one bundle. An event `drifted` when it is found and one when it is over; never an alarm.

    Records of an alarm, and flagged ones, do not count: they are the alarm's business.
    """

    def __init__(self, line: str, bundle_hash: str, reference: Reference, channels: Sequence[Channel] = (), kept: str = "") -> None:
        """`kept`: what `self.kept`, JSON, said at the last commit. That of another bundle is let go: what is normal has changed.

        It changes with whole blocks only: after a restart the block that was being filled begins anew.
        """
        self._line, self._hash, self._reference = line, bundle_hash, reference
        self._channels = {channel.name: channel for channel in channels}
        self._state = _restore(kept, bundle_hash, reference)
        self._block = _Block()
        self.kept = self._to_json()

    def _to_json(self) -> str:
        state = asdict(self._state)
        state["recent"], state["martingale"]["sums"] = self._state.recent.tolist(), self._state.martingale.sums.tolist()
        for name in ("counts", "pending"):
            dense = state["martingale"][name]
            state["martingale"][name] = [[int(at), int(dense[at])] for at in np.flatnonzero(dense)]
        return json.dumps({"bundle": self._hash, **state}, sort_keys=True)

    @property
    def level(self) -> float:
        """For a gauge: 1 while drift is on, else the evidence for it as a share of what is needed (logarithms), 0 at none."""
        if self._state.drifted is not None:
            return 1.0
        return float(np.clip(np.log(max(1.0, self._state.martingale.evidence)) / np.log(LIMIT), 0.0, 1.0))

    @property
    def since(self) -> float | None:
        """When the drift that is on began, None without one."""
        return self._state.drifted

    def take(
        self, times: Sequence[float], scores: NDArray[np.floating[Any]], counts: NDArray[np.bool_], followed: Array | None = None
    ) -> list[Event]:
        """Take in records in order: times (n,), scores (n,), which of them count (n,), and what is followed of each (n, D), as named by
        the reference; NaN where a sensor has no reading. Returns the events of drift that was found, or is over.
        """
        width = len(self._reference.names)
        values = np.full((len(times), 1 + width), np.nan)
        values[:, 0] = _ranks(np.asarray(scores, np.float64), self._reference.scores)
        if followed is not None and followed.shape[1] == width:
            values[:, 1:] = followed
        moments, events = np.asarray(times, np.float64)[counts], []
        values = np.where(np.isnan(values), np.concatenate([[0.5], self._reference.mean]), values)[counts]
        at = 0
        while at < len(moments):
            if not self._block.count:
                at += self._wait(moments[at:])
                if at == len(moments):
                    break
                self._block = _Block(float(moments[at]), 0, np.zeros(1 + width))
            block = self._block
            stop = min(len(moments), at + self._reference.block - block.count)
            block.sums = block.sums + values[at:stop].sum(axis=0)
            block.count, at = block.count + stop - at, stop
            if block.count == self._reference.block:
                events += self._look(block.sums / block.count, block.start, float(moments[at - 1]))
                self._block, self.kept = _Block(block.start), self._to_json()
        return events

    def _wait(self, moments: Array) -> int:
        """How many records lie too near to the start of the block before; one from before it, by a clock that was set back, does not."""
        near = (moments >= self._block.start) & (moments < self._block.start + BLOCK_AT_LEAST_S)
        return int(np.argmin(near)) if not near.all() else len(near)

    def _look(self, means: Array, start: float, end: float) -> list[Event]:
        """One whole block."""
        state, rank = self._state, float(means[0])
        found = state.drifted is None and state.martingale.take(rank, start)
        calm = state.drifted is None and state.martingale.since is None
        state.blocks, state.risen = state.blocks + 1, 1 if calm else state.risen + 1
        before = means if state.risen == 1 else state.recent
        state.recent = before + (means - before) / min(RECENT_BLOCKS, state.risen)
        if found:
            state.drifted, state.back = state.martingale.since or start, 0.0
            event = self._event("began", end)
            state.martingale.begin_anew()
            return [event]
        if state.drifted is None:
            return []
        state.back += (state.martingale.p_value(rank) - state.back) / BACK_BLOCKS
        if state.back < BACK_AT:
            return []
        event = self._event("over", end)
        state.drifted = None
        return [event]

    def _event(self, stage: str, time: float) -> Event:
        state, since = self._state, self._state.drifted
        assert since is not None
        moved = self._moved() if stage == "began" else []
        reason = f"records come back to the normals; drift since {iso(since)} is over"
        if stage == "began":
            reason = f"since {iso(since)} records are stranger than those learnt from: on average they score higher than"
            reason += f" {state.recent[0]:.0%} of the normals, 50 % without drift" + "".join(f"; {one['words']}" for one in moved)
        data = {
            "class": "drift",
            "drift": stage,
            "since": iso(since),
            "began": iso(since),
            "reason": reason,
            "measure": {
                "mean_rank": round(float(state.recent[0]), 4),
                "evidence": float(f"{state.martingale.evidence:.3g}"),
                "limit": round(LIMIT),
                "months_a_false_one": MONTHS_A_FALSE_ONE,
            },
            "sensors": moved,
            "bundle_hash": self._hash,
        }
        return make_event("drifted", self._line, alarm_id(self._line, self._hash, since, "drift"), time, data)

    def _moved(self) -> list[dict[str, Any]]:
        """The sensors that have moved most, in spreads of the reference's blocks, in words and numbers."""
        reference = self._reference
        with np.errstate(invalid="ignore", divide="ignore"):
            moves = (self._state.recent[1:] - reference.mean) / np.where(reference.spread > 0, reference.spread, np.nan)
        by_name = dict(zip(reference.names, np.nan_to_num(moves, posinf=0.0, neginf=0.0).tolist(), strict=True))
        found = []
        for name in dict.fromkeys(name.partition(":")[2] for name in reference.names):
            share, level = by_name.get(f"share:{name}", 0.0), by_name.get(f"level:{name}", 0.0)
            if max(share, abs(level)) >= MOVED_SPREADS:
                found.append({"sensor": name, "share_spreads": round(share, 2), "level_spreads": round(level, 2)})
        found.sort(key=lambda one: -max(one["share_spreads"], abs(one["level_spreads"])))
        return [one | {"words": self._words(one)} for one in found[:MOST_SENSORS]]

    def _words(self, one: dict[str, Any]) -> str:
        """In a few words: "flow reads 28.4 m3/h, normally 31.2 (2.1 spreads lower)"."""
        name, level = str(one["sensor"]), float(one["level_spreads"])
        if abs(level) < MOVED_SPREADS:
            return f"{name} no longer goes with the others as it did ({one['share_spreads']:g} spreads)"
        index, channel = self._reference.names.index(f"level:{name}"), self._channels.get(name)
        offset, unit = (channel.offset, f" {channel.unit}".rstrip()) if channel else (0.0, "")
        now, normal = self._state.recent[1 + index] + offset, self._reference.mean[index] + offset
        less = f" less its {channel.pattern.word} pattern" if channel and channel.pattern else ""
        return f"{name} reads {now:.4g}{unit}{less}, normally {normal:.4g} ({abs(level):g} spreads {'higher' if level > 0 else 'lower'})"


def _restore(kept: str, bundle_hash: str, reference: Reference) -> _State:
    told = json.loads(kept) if kept else {}
    if told.pop("bundle", "") != bundle_hash or len(told["recent"]) not in (0, 1 + len(reference.names)):
        return _State(Martingale(np.bincount([_bin(rank) for rank in reference.ranks], minlength=BINS + 1)))
    martingale = told.pop("martingale")
    for name in ("counts", "pending"):
        dense = np.zeros(BINS + 1, np.int64)
        for at, number in martingale[name]:
            dense[at] = number
        martingale[name] = dense
    martingale["sums"], told["recent"] = np.array(martingale["sums"]), np.array(told["recent"])
    return _State(Martingale(**martingale), **told)
