"""AdaBoost and TrAdaBoost of decision stumps on frozen features, for a few labelled faults.

AdaBoost (Freund and Schapire 1997) learns from the line's own labels, TrAdaBoost (Dai et al. 2007) from those of another line as well.
The ensemble's vote is combined with the normal-only scorer so that it can only raise a score: faults of a kind never labelled are caught
exactly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

ROUNDS = 50
FULL_VOTE = 6.0  # standard deviations of held-out normal scores by which a unanimous vote raises a score
RAMP = 0.01  # standard deviations of a feature over which a stump goes from one answer to the other
VOTE_TENSORS = ("feature", "threshold", "width", "value", "say", "owner", "floor")  # names in extractor files


@dataclass(frozen=True)
class Stump:
    """A decision stump: label (0 or 1) `value[0]` where x[feature] <= threshold, `value[1]` elsewhere."""

    feature: int
    threshold: float
    value: tuple[int, int]

    def __call__(self, x: Rows) -> Labels:
        """Rows (n, D) -> labels (n,)."""
        return np.where(x[:, self.feature] <= self.threshold, self.value[0], self.value[1]).astype(np.int64)


@dataclass(frozen=True)
class Vote:
    """A weighted ensemble of stumps; a record is called faulty when half of all weight or more calls it so."""

    stumps: tuple[Stump, ...]
    weights: tuple[float, ...]  # log(1 / beta) of each stump

    def share(self, x: Rows) -> Rows:
        """Rows (n, D) -> share of the weight (n,) that calls each faulty, in 0..1."""
        if not self.stumps:
            return np.zeros(len(x))
        votes = np.stack([stump(x) for stump in self.stumps], axis=1)
        return np.asarray(votes @ np.asarray(self.weights) / sum(self.weights), dtype=np.float64)


def beta_of(error: float) -> float:
    """AdaBoost's beta = error / (1 - error) of a stump's weighted error on the target, which is clipped to 0.0001..0.49.

    Without an error beta would be 0 and the weight infinite; at an error of one half the weight would be 0.
    """
    clipped = min(max(error, 1e-4), 0.49)
    return clipped / (1 - clipped)


class Splits:
    """Every place at which a stump can split rows (n, D) with labels (n,) of 0 and 1, sorted once for all rounds of a boosting.

    The stump of least weighted Gini impurity is what scikit-learn's tree of depth 1 gives, in a tenth of its time.
    """

    def __init__(self, x: Rows, y: Labels) -> None:
        values = x.astype(np.float32)  # as the graph sees them: what is equal there cannot be told apart
        self.order = np.argsort(values, axis=0, kind="stable")  # (n, D)
        self.values = np.take_along_axis(values, self.order, axis=0)
        self.apart = self.values[1:] > self.values[:-1] + np.float32(1e-7)  # (n - 1, D)
        self.y = y

    def best(self, weights: Rows) -> Stump:
        """The stump of least impurity with weights (n,), above 0; one that always says the same where no row differs from another."""
        faulty = weights * self.y
        low, low_faulty = (np.cumsum(part[self.order], axis=0)[:-1] for part in (weights, faulty))
        whole, whole_faulty = float(weights.sum()), float(faulty.sum())
        high, high_faulty = np.maximum(whole - low, 1e-300), whole_faulty - low_faulty
        low = np.maximum(low, 1e-300)
        pure = (low_faulty**2 + (low - low_faulty) ** 2) / low + (high_faulty**2 + (high - high_faulty) ** 2) / high
        pure = np.where(self.apart, pure, -np.inf)
        if not pure.size or not np.isfinite(pure.max()) or min(whole_faulty, whole - whole_faulty) <= 0:
            alone = int(whole_faulty > whole / 2)
            return Stump(0, 0.0, (alone, alone))
        row, feature = divmod(int(pure.argmax()), pure.shape[1])
        below, above = self.values[row : row + 2, feature]
        threshold = float(below / 2 + above / 2)
        sides = (low, low_faulty), (high, high_faulty)
        first, second = (int(part_faulty[row, feature] > part[row, feature] / 2) for part, part_faulty in sides)
        return Stump(feature, threshold if threshold < above else float(below), (first, second))


def fit_adaboost(x: Rows, y: Labels, rounds: int = ROUNDS) -> Vote:
    """Discrete AdaBoost (Freund and Schapire 1997, doi:10.1006/jcss.1997.1504) of stumps on rows (n, D) with labels (n,) of 0 and 1.

    Both labels start at equal total weight, as few faults need.

    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> vote = fit_adaboost(x, np.array([0, 0, 1, 1]))
    >>> vote.share(x)
    array([0., 0., 1., 1.])
    """
    return fit_tradaboost(np.empty((0, x.shape[1])), np.empty(0, np.int64), x, y, rounds)


def fit_tradaboost(source: Rows, source_y: Labels, target: Rows, target_y: Labels, rounds: int = ROUNDS, *, balanced: bool = True) -> Vote:
    """TrAdaBoost (Dai et al. 2007, "Boosting for transfer learning") on source and target rows (n, D), (m, D) with labels 0 and 1.

    Source rows that a stump gets wrong lose weight, target rows that it gets wrong gain it. The second half of the rounds votes. Without
    source rows it is AdaBoost, and all rounds vote. `balanced` starts normals and faults of each side at equal total weight, as few
    faults need; the paper starts every row at the same.

    >>> rng = np.random.default_rng(0)
    >>> source, target = rng.normal(size=(200, 2)), rng.normal(size=(10, 2))  # many labels on another line, few on this one
    >>> vote = fit_tradaboost(source, (source[:, 0] > 0).astype(int), target, (target[:, 0] > 0).astype(int))
    >>> vote.share(np.array([[-2.0, 0.0], [2.0, 0.0]])).round()
    array([0., 1.])
    """
    x, y = np.concatenate([source, target]), np.concatenate([source_y, target_y])
    own = np.arange(len(y)) >= len(source)  # rows of the target
    weights = np.ones(len(y)) / len(y)
    if balanced:
        for side in (own, ~own):
            for label in (0, 1):
                which = side & (y == label)
                weights[which] = side.sum() / (2 * len(y) * max(1, which.sum()))
    fade = 1.0 / (1.0 + np.sqrt(2.0 * np.log(max(len(source), 1)) / rounds)) if len(source) else 1.0
    stumps: list[Stump] = []
    votes: list[float] = []
    splits = Splits(x, y)
    for _ in range(rounds):
        weights = weights / weights.sum()
        stump = splits.best(weights)
        wrong = stump(x) != y
        error = float(weights[own & wrong].sum() / weights[own].sum())
        if error >= 0.5 and not len(source):
            break
        beta = beta_of(error)
        stumps.append(stump)
        votes.append(float(np.log(1 / beta)))
        if error == 0 and not len(source):
            break  # nothing left to learn; a round more would be the same stump
        weights = weights * np.where(own, np.where(wrong, 1 / beta, 1.0), np.where(wrong, fade, 1.0))
    half = len(stumps) // 2 if len(source) else 0
    return Vote(tuple(stumps[half:]), tuple(votes[half:]))


@runtime_checkable
class Witness(Protocol):
    """A scorer that tells what it sees of a record, for a vote to judge by."""

    def evidence(self, features: list[Tensor]) -> Tensor:
        """Feature maps -> rows (N, D). With C sensors, column j is of sensor j % C."""
        ...


class Boosted(nn.Module):
    """A normal-only scorer plus an AdaBoost vote that can raise its score, never lower it.

    score = the scorer's + `step` * max(0, share - floor) / (1 - floor), where `share` of the weight calls the record faulty: `step` for a
    unanimous vote, nothing up to the `floor`, which is one half or more.
    The vote sees the scorer's `evidence`, and of a scorer without one the mean and the largest value of every channel of every stage.
    A picture's map stays the scorer's. What the vote adds for sensors is shared out among those whose features called fault.

    Over `width` around its threshold a stump goes from one answer to the other in a straight line: on another machine, where a feature
    differs in its last digit, no score jumps.
    """

    feature: Tensor
    threshold: Tensor
    width: Tensor
    value: Tensor
    say: Tensor
    owner: Tensor
    floor: Tensor
    step: Tensor

    def __init__(
        self,
        scorer: nn.Module,
        feature: Tensor,
        threshold: Tensor,
        width: Tensor,
        value: Tensor,
        say: Tensor,
        owner: Tensor,
        floor: Tensor,
        step: Tensor,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.register_buffer("feature", feature)  # (B,) int64
        self.register_buffer("threshold", threshold)  # (B,)
        self.register_buffer("width", width)  # (B,), above 0
        self.register_buffer("value", value)  # (B, 2)
        self.register_buffer("say", say)  # (B,): weight of each stump, sums to one
        self.register_buffer("owner", owner)  # (B, C): 1 for the sensor that a stump looks at; C is 0 for pictures
        self.register_buffer("floor", floor)  # (), below 1
        self.register_buffer("step", step)  # ()

    def evidence(self, features: list[Tensor]) -> Tensor:
        """What the scorer and the vote see: rows (N, D)."""
        return evidence_of(self.scorer, features)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map a stage, or the maps of a window -> score (N,), and map (N, h, w) or contribution (N, C)."""
        score, detail = self.scorer(features)
        x = self.evidence(features)[:, self.feature]  # (N, B)
        beyond = ((x - self.threshold) / self.width + 0.5).clamp(0.0, 1.0)
        votes = (self.value[:, 0] + beyond * (self.value[:, 1] - self.value[:, 0])) * self.say
        share = votes.sum(dim=1)
        raised = self.step * ((share - self.floor) / (1.0 - self.floor)).clamp(min=0.0)
        if self.owner.shape[1]:
            detail = detail + (raised / share.clamp(min=0.5)).unsqueeze(1) * (votes @ self.owner)
        return score + raised, detail


def evidence_of(scorer: nn.Module, features: list[Tensor]) -> Tensor:
    """The rows (N, D) by which a vote beside a scorer judges."""
    return scorer.evidence(features) if isinstance(scorer, Witness) else pooled_features(features)


def pooled_features(features: list[Tensor]) -> Tensor:
    """Global average and max pooling: maps (N, C_s, h_s, w_s) -> rows (N, 2 * sum of C_s)."""
    flat = [maps.flatten(2) for maps in features]
    return torch.cat([part for maps in flat for part in (maps.mean(dim=2), maps.amax(dim=2))], dim=1)


def with_vote(scorer: nn.Module, vote: Mapping[str, Tensor], normal_spread: float) -> Boosted:
    """The scorer with a vote as `vote_tensors` gives it; `normal_spread` is the standard deviation of held-out normal scores."""
    return Boosted(scorer, **{name: vote[name] for name in VOTE_TENSORS}, step=(vote["full"] * normal_spread).float())


def vote_tensors(vote: Vote, x: Rows | None = None, sensors: int = 0, floor: float = 0.5, full: float = FULL_VOTE) -> dict[str, Tensor]:
    """A vote of at least one stump as tensors: the arguments of `Boosted` but for the step, which is `full` standard deviations.

    `x` (n, D) are the rows it was fitted on: they say how wide a ramp is. Without them a stump jumps. `sensors`, for sensors.
    """
    feature = np.array([s.feature for s in vote.stumps], np.int64)
    width = np.full(len(feature), 1e-9) if x is None else np.maximum(RAMP * x.std(axis=0)[feature], 1e-9)
    owner = np.eye(sensors)[feature % sensors] if sensors else np.zeros((len(feature), 0))
    return {
        "feature": torch.from_numpy(feature),
        "threshold": torch.tensor([s.threshold for s in vote.stumps], dtype=torch.float32),
        "width": torch.from_numpy(width.astype(np.float32)),
        "value": torch.tensor([s.value for s in vote.stumps], dtype=torch.float32),
        "say": torch.tensor(vote.weights, dtype=torch.float32) / sum(vote.weights),
        "owner": torch.from_numpy(owner.astype(np.float32)),
        "floor": torch.tensor(floor, dtype=torch.float32),
        "full": torch.tensor(full, dtype=torch.float32),
    }


def add_vote(scores: Rows, shares: Rows, step: float, floor: float = 0.5) -> Rows:
    """Scores (n,) raised by the vote's shares (n,) as `Boosted` does it, in NumPy.

    >>> add_vote(np.array([1.0, 1.0, 1.0]), np.array([0.2, 0.75, 1.0]), step=4.0)
    array([1., 3., 5.])
    """
    return scores + step * np.maximum(shares - floor, 0.0) / (1.0 - floor)


def held_out_shares(fit: Callable[[NDArray[np.int64]], Vote], x: Rows, folds: NDArray[np.int64], learnt: NDArray[np.bool_]) -> Rows:
    """Cross-validation: each row's share (n,) by a vote fitted without the rows of its fold (n,), a number.

    `fit(rows kept)` is called once a fold, with those of the other folds that are `learnt` (n,) from at all.
    """
    shares = np.empty(len(x))
    for fold in np.unique(folds):
        held = folds == fold
        shares[held] = fit(np.flatnonzero(learnt & ~held)).share(x[held])
    return shares


def stratified_folds(y: Labels, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold (n,) of each row, drawn by chance; every fold holds both labels (n,) in proportion."""
    order = np.concatenate([rng.permutation(np.flatnonzero(y == label)) for label in (1, 0)])
    found = np.empty(len(y), np.int64)
    found[order] = np.arange(len(y)) % folds
    return found
