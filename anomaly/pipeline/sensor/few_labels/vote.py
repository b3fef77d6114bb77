"""A few labelled faults of a machine as a vote beside the normal-only scorer, and whether it helps on faults that it has not seen.

In this order, in `fit_vote`: windows are cut from the labelled tables (`windows.cut`). Each becomes the row of evidence that the scorer
sees, the machine's own normals by a scorer that has not seen them. A vote is learnt, and judged by leaving faults and normals
out. It counts only above the share that it gives to nearly all normals it has not seen. So the threshold stays where it is, and a fault of
a kind that was never labelled is found as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomaly.calibration.budget import score_threshold
from anomaly.calibration.conformal import fit_calibrator
from anomaly.calibration.dependence import independent_scores
from anomaly.data.tables.files import find_tables
from anomaly.data.tables.labels.stretches import read_labelled
from anomaly.errors import SpecError, WeightsError
from anomaly.features.encoder import SensorExtractor
from anomaly.pipeline.few_labels import Labelled, choose_vote
from anomaly.pipeline.sensor.few_labels.windows import BLOCK, MOST_NORMAL, FaultWindows, cut, thinned
from anomaly.pipeline.sensor.held_out import held_out_scores
from anomaly.pipeline.sensor.tables import NormalReadings, Normals
from anomaly.scorers.boosted import Rows, Vote, add_vote, evidence_of, vote_tensors, with_vote
from anomaly.spec import SensorSpec

MOST_FOLDS = 10
FULL_VOTE = 15.0  # standard deviations of held-out normal scores by which a unanimous vote raises a score
RARE = (0.01, 0.005, 0.002, 0.0)  # of held-out normals, at most, have a share of the vote that counts: the first that leaves the threshold
HIGHEST_FLOOR = 0.95  # share of the vote: where normals reach more, it tells nothing
LEAST_GAIN = 0.001  # ROC-AUC; the whole interval must lie above it
MOST_RAISED = 1.05  # times the threshold without the vote that it may have with it
FEWEST = 2  # stretches, at least: one is learnt from while another is judged

Ints = NDArray[np.int64]


class Voting:
    """The vote of an extractor file, none where it has no such tensors, put beside scorers and added to held-out scores."""

    def __init__(self, vote: Mapping[str, Tensor], held_out: Rows, where: str) -> None:
        """`held_out` (n,) are the scores of the normal windows it was fitted with. Raises WeightsError for another number of them."""
        self.vote, self.spread = vote, float(held_out.std())
        if vote and len(vote["held_out"]) != len(held_out):
            raise WeightsError(
                f"{where}: its vote of labelled faults was learnt with {len(vote['held_out'])} normal windows, here are {len(held_out)}; "
                "give the data it was made with, or make it again"
            )

    def beside(self, scorer: nn.Module) -> nn.Module:
        """The scorer with the vote."""
        return with_vote(scorer, self.vote, self.spread) if self.vote else scorer

    def raised(self, scores: Rows) -> Rows:
        """The held-out scores (n,) with each window's share of a vote that was fitted without it."""
        if not self.vote:
            return scores
        step, floor = float(self.vote["full"]) * self.spread, float(self.vote["floor"])
        return add_vote(scores, self.vote["held_out"].double().numpy(), step, floor)


@dataclass(frozen=True)
class Judged:
    """A vote with what it was judged on: the labelled rows, the machine's own normal windows first, their normal-only scores (n,), and
    their share (n,) of the vote by one fitted without them. From which share on it counts, what was found, and whether it is kept.
    """

    vote: Vote
    own: Labelled
    alone: Rows
    share: Rows
    floor: float
    report: dict[str, Any]
    kept: bool


def fit_vote(readings: NormalReadings, normals: Normals, extractor: SensorExtractor) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A vote of the machine's labelled faults and what was found of it. No tensors when it does not clearly help.

    The tensors are those of `vote_tensors`, with `held_out` (n,), each normal window's share of the vote by one fitted without its block.
    Raises DataError when what [transfer] faults or source_faults names cannot be read, SpecError for the latter without [transfer] normals.
    """
    spec, asked = readings.spec, readings.spec.transfer
    assert asked.faults is not None
    tests = find_tables(readings.root)[1]
    faults = cut(read_labelled(asked.faults, spec.input, readings.tables, [*readings.paths, *tests]), readings.tables, readings.window)
    if len(faults.names) < FEWEST:
        why = f"{faults.names[0]}: a single labelled fault cannot be learnt from and judged by at once; label another one"
        return {}, {"faults": len(faults.names), "vote": "none", "why": why + _left_out(faults)}
    judged = judge_vote(spec, normals, extractor, faults, source_labels(readings, extractor) if asked.source_faults is not None else None)
    if not judged.kept:
        return {}, judged.report | {"vote": "none"}
    tensors = vote_tensors(judged.vote, judged.own.x[judged.own.fitted_on], normals.windows.shape[2], judged.floor, FULL_VOTE)
    return tensors | {"held_out": torch.from_numpy(judged.share[: len(normals.windows)].copy())}, judged.report


def judge_vote(spec: SensorSpec, normals: Normals, extractor: SensorExtractor, faults: FaultWindows, source: Labelled | None) -> Judged:
    """Learn a vote of two labelled faults or more, and judge it on faults and blocks of normals that it has not seen."""
    own, alone, folds = _labelled(spec, normals, extractor, faults)
    vote, share, report = choose_vote(own, source, folds, spec.seed)
    count, normal = len(normals.windows), own.y == 0
    floor, both = _floor(spec, alone, share, normal, count)
    compared = own.gain(both, alone, spec.seed)
    before, after = (_found(spec, faults, scores, count) for scores in (alone, both))
    low, high = compared.low, compared.high
    report |= {
        "faults": len(faults.names),
        "over_normal_only": {"auroc": compared.auroc - compared.gain, "gain": compared.gain, "gain_ci95": [low, high]},
        "found": {"alone": before.mean, "with_vote": after.mean},
        "by_fault": {name: {"alone": a, "with_vote": b} for name, a, b in zip(faults.names, before.shares, after.shares, strict=True)},
        "threshold": {"alone": before.threshold, "with_vote": after.threshold},
        "why": f"ROC-AUC {compared.gain:+.4f} ({low:+.4f} to {high:+.4f}) over the normal-only score on faults held out, "
        f"{before.mean:.0%} of each found without it and {after.mean:.0%} with it" + _left_out(faults),
    }
    kept = low > LEAST_GAIN and after.mean >= before.mean and bool(vote.stumps)
    return Judged(vote, own, alone, share, floor, report, kept)


def _floor(spec: SensorSpec, alone: Rows, share: Rows, normal: NDArray[np.bool_], count: int) -> tuple[float, Rows]:
    """From which share on a vote counts, and all scores (n,) with it: so that few of the `normal` rows (n,) reach it, and none of the
    machine's own, the first `count`, move the threshold. Where normals get as many votes as faults, no score is raised.
    """
    step, limit = FULL_VOTE * float(alone[:count].std()), MOST_RAISED * _threshold(spec, alone[:count])
    sides = [part for part in (share[:count], share[count:][normal[count:]]) if len(part)]
    for rare in RARE:
        floor = max(0.5, *(float(np.quantile(part, 1 - rare)) for part in sides))
        if floor > HIGHEST_FLOOR:
            break
        both = add_vote(alone, share, step, floor)
        if _threshold(spec, both[:count]) <= limit:
            return floor, both
    return HIGHEST_FLOOR, alone


def _threshold(spec: SensorSpec, normal: Rows) -> float:
    """The score from which on there are as many false alarms as are asked for, by held-out normal scores (n,)."""
    return score_threshold(fit_calibrator(normal, independent_scores([normal]), in_time=True), spec.budget.false_alarm_rate)


def _left_out(faults: FaultWindows) -> str:
    """Which labelled faults could not be used, "" for none."""
    return f"; left out, for no window lies in them by half: {', '.join(faults.left_out)}" if faults.left_out else ""


@dataclass(frozen=True)
class _Found:
    """The threshold for the false alarms asked for, and which share of each labelled fault's windows is above it."""

    threshold: float
    shares: list[float]

    @property
    def mean(self) -> float:
        """Over the faults, each counted once."""
        return float(np.mean(self.shares))


def _found(spec: SensorSpec, faults: FaultWindows, scores: Rows, count: int) -> _Found:
    """What is found of labelled faults by scores (n,), of which the first `count` are of normals to calibrate by."""
    threshold = _threshold(spec, scores[:count])
    flagged = scores[count:] > threshold
    return _Found(threshold, [float(flagged[faults.fault == number].mean()) for number in range(len(faults.names))])


def _labelled(spec: SensorSpec, normals: Normals, extractor: SensorExtractor, faults: FaultWindows) -> tuple[Labelled, Rows, Ints]:
    """The rows a vote is learnt from and judged on, the machine's own normals first; the normal-only score and the fold of each.

    A fold is some faults, the normal windows of their tables that lie nearest to them, and a block of the machine's own normals.
    """
    features, places, rows = normals.features(extractor), normals.places, normals.plan.rows
    held_out = held_out_scores(spec, normals, extractor, features, evidence=True)
    assert held_out.evidence is not None
    x, scores = held_out.evidence, held_out.scores
    maps = normals.features(extractor, faults.windows)
    with torch.inference_mode():
        more_x, more_scores = (found.double().numpy() for found in (evidence_of(held_out.scorer, maps), held_out.scorer(maps)[0]))
    count, parts = len(x), min(MOST_FOLDS, len(faults.names))
    folds, learnt = np.empty(count, np.int64), np.zeros(count, bool)
    held = np.array_split(np.arange(count), int(np.clip(count // (5 * rows), 2, parts)))
    for index, part in enumerate(held):
        folds[part] = index
        first = places[part[0]] + rows * (index > 0)  # what shares a row with another block is not learnt from
        last = places[part[-1]] - rows * (index < len(held) - 1)
        learnt[thinned(part[(places[part] >= first) & (places[part] <= last)], MOST_NORMAL // len(held))] = True
    blocks = places // (BLOCK * rows)
    beside = np.where(faults.fault < 0, faults.block, faults.block.max() + 1 + faults.fault)
    labelled = Labelled(
        np.concatenate([x, more_x]),
        np.concatenate([np.zeros(count, np.int64), (faults.fault >= 0).astype(np.int64)]),
        np.concatenate([learnt, np.ones(len(more_x), bool)]),
        np.concatenate([blocks, blocks.max() + 1 + beside]),
    )
    return labelled, np.concatenate([scores, more_scores]), np.concatenate([folds, faults.nearest % parts])


def source_labels(readings: NormalReadings, extractor: SensorExtractor) -> Labelled:
    """The other machine's normals and labelled faults as its own scorer sees them: deviations in units of its own normal running.

    Raises SpecError where its normals are not given, DataError where its tables cannot be read.
    """
    spec, asked = readings.spec, readings.spec.transfer
    if asked.normals is None or asked.source_faults is None:
        raise SpecError("[transfer] source_faults needs the other machine's normal record: give [transfer] normals (--normals)")
    paths, tests = find_tables(asked.normals)
    other = NormalReadings(spec, asked.normals, paths, readings.of_others(paths))
    other.plan = readings.plan  # the same views of both, whatever the other's record would ask for
    faults = cut(read_labelled(asked.source_faults, spec.input, other.tables, [*paths, *tests]), other.tables, other.window)
    labelled, _, _ = _labelled(spec, other.normals, extractor, faults)
    kept = labelled.fitted_on
    return Labelled(labelled.x[kept], labelled.y[kept])
