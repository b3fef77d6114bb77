"""A few labelled faults: AdaBoost on frozen features, and TrAdaBoost over another line's labelled records and the target's own.

What comes back votes on a record's features and is combined with the normal-only scorer so that it can only raise a score: faults
of a kind never labelled are caught exactly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

ROUNDS = 50
RAISE = 6.0  # deviations of held-out normal scores by which a full vote raises a score


@dataclass(frozen=True)
class Stump:
    """A tree of one split: `value[0]` is the label (0 or 1) where x[feature] <= threshold, `value[1]` elsewhere."""

    feature: int
    threshold: float
    value: tuple[int, int]

    def __call__(self, x: Rows) -> Labels:
        """Rows (n, D) -> labels (n,)."""
        return np.where(x[:, self.feature] <= self.threshold, self.value[0], self.value[1]).astype(np.int64)


@dataclass(frozen=True)
class Vote:
    """Stumps with their say; a record is called faulty from half of all say on."""

    stumps: tuple[Stump, ...]
    say: tuple[float, ...]

    def share(self, x: Rows) -> Rows:
        """Rows (n, D) -> share of the say (n,) that calls each faulty, in 0..1."""
        if not self.stumps:
            return np.zeros(len(x))
        votes = np.stack([stump(x) for stump in self.stumps], axis=1)
        return np.asarray(votes @ np.asarray(self.say) / sum(self.say), dtype=np.float64)


def odds(error: float) -> float:
    """A stump's beta from its error on the target, held in 0.0001..0.49: of no error it would be nothing, of half it says nothing."""
    held = min(max(error, 1e-4), 0.49)
    return held / (1 - held)


def fit_stump(x: Rows, y: Labels, weights: Rows, seed: int = 0) -> Stump:
    """The split that best tells y apart under the weights, by scikit-learn's tree."""
    tree = DecisionTreeClassifier(max_depth=1, random_state=seed).fit(x, y, sample_weight=weights).tree_
    if tree.node_count == 1:
        alone = int(tree.value[0, 0].argmax())
        return Stump(0, 0.0, (alone, alone))
    low, high = (int(tree.value[child, 0].argmax()) for child in (1, 2))
    return Stump(int(tree.feature[0]), float(tree.threshold[0]), (low, high))


def fit_adaboost(x: Rows, y: Labels, rounds: int = ROUNDS) -> Vote:
    """Discrete AdaBoost (Freund and Schapire 1997) on rows (n, D) with labels (n,) of 0 and 1, both kinds of equal weight at the start."""
    return fit_tradaboost(np.empty((0, x.shape[1])), np.empty(0, np.int64), x, y, rounds)


def fit_tradaboost(source: Rows, source_y: Labels, target: Rows, target_y: Labels, rounds: int = ROUNDS, *, balanced: bool = True) -> Vote:
    """TrAdaBoost (Dai et al. 2007, "Boosting for transfer learning") over source and target records, labels 0 and 1.

    Source records that the stumps get wrong lose weight, target records that they get wrong gain it; the second half of the
    rounds votes. Without source records it is AdaBoost and all rounds vote. `balanced` starts normals and faults of a side at equal
    weight, as few faults need; the paper starts every record at the same.
    """
    x, y = np.concatenate([source, target]), np.concatenate([source_y, target_y])
    ours = np.arange(len(y)) >= len(source)
    weights = np.ones(len(y)) / len(y)
    if balanced:
        for side in (ours, ~ours):
            for label in (0, 1):
                which = side & (y == label)
                weights[which] = side.sum() / (2 * len(y) * max(1, which.sum()))
    fade = 1.0 / (1.0 + np.sqrt(2.0 * np.log(max(len(source), 1)) / rounds)) if len(source) else 1.0
    stumps: list[Stump] = []
    say: list[float] = []
    for _ in range(rounds):
        weights = weights / weights.sum()
        stump = fit_stump(x, y, weights)
        wrong = stump(x) != y
        error = float(weights[ours & wrong].sum() / weights[ours].sum())
        if error >= 0.5 and not len(source):
            break
        beta = odds(error)
        stumps.append(stump)
        say.append(float(np.log(1 / beta)))
        if error == 0 and not len(source):
            break  # nothing left to learn; a round more would be the same stump
        weights = weights * np.where(ours, np.where(wrong, 1 / beta, 1.0), np.where(wrong, fade, 1.0))
    half = len(stumps) // 2 if len(source) else 0
    return Vote(tuple(stumps[half:]), tuple(say[half:]))


class Boosted(nn.Module):
    """A normal-only scorer whose score a vote can raise, never lower.

    score = scorer's + `step` x what the vote's share exceeds one half by, doubled: up to `step` for a full vote. The map or the
    contributions stay the scorer's. The vote sees the mean and the largest value of every channel of every stage.
    """

    feature: Tensor
    threshold: Tensor
    value: Tensor
    say: Tensor
    step: Tensor

    def __init__(self, scorer: nn.Module, feature: Tensor, threshold: Tensor, value: Tensor, say: Tensor, step: Tensor) -> None:
        super().__init__()
        self.scorer = scorer
        self.register_buffer("feature", feature)  # (B,) int64
        self.register_buffer("threshold", threshold)  # (B,)
        self.register_buffer("value", value)  # (B, 2)
        self.register_buffer("say", say)  # (B,), sums to one
        self.register_buffer("step", step)  # ()

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One map (N, C_s, h_s, w_s) a stage -> score (N,), map (N, h, w)."""
        score, detail = self.scorer(features)
        x = pooled(features)[:, self.feature]  # (N, B)
        share = torch.where(x <= self.threshold, self.value[:, 0], self.value[:, 1]) @ self.say
        return score + self.step * (2.0 * share - 1.0).clamp(min=0.0), detail


def pooled(features: list[Tensor]) -> Tensor:
    """Maps (N, C_s, h_s, w_s) -> rows (N, 2 * sum of C_s): mean and largest value of each channel."""
    flat = [maps.flatten(2) for maps in features]
    return torch.cat([part for maps in flat for part in (maps.mean(dim=2), maps.amax(dim=2))], dim=1)


def with_vote(scorer: nn.Module, vote: Mapping[str, Tensor], normal_spread: float) -> Boosted:
    """The scorer with a vote as `vote_tensors` gives it; a full vote raises a score by six deviations of held-out normal scores."""
    feature, threshold, value, say = (vote[name] for name in PARTS)
    return Boosted(scorer, feature, threshold, value, say, torch.tensor(RAISE * normal_spread, dtype=torch.float32))


PARTS = ("feature", "threshold", "value", "say")


def vote_tensors(vote: Vote) -> dict[str, Tensor]:
    """A vote of at least one stump as tensors: feature (B,), threshold (B,), value (B, 2), say (B,) summing to one."""
    return {
        "feature": torch.tensor([s.feature for s in vote.stumps], dtype=torch.int64),
        "threshold": torch.tensor([s.threshold for s in vote.stumps], dtype=torch.float32),
        "value": torch.tensor([s.value for s in vote.stumps], dtype=torch.float32),
        "say": torch.tensor(vote.say, dtype=torch.float32) / sum(vote.say),
    }


def raised(scores: Rows, shares: Rows, step: float) -> Rows:
    """Scores (n,) as `Boosted` raises them by shares (n,) of the say."""
    return scores + step * np.maximum(2.0 * shares - 1.0, 0.0)


def held_out_shares(fit: Callable[[NDArray[np.int64]], Vote], x: Rows, y: Labels, folds: int, rng: np.random.Generator) -> Rows:
    """Each row's share by a vote fitted without it: `fit(rows kept)` is called once a fold; folds hold both labels in proportion."""
    order = np.concatenate([rng.permutation(np.flatnonzero(y == label)) for label in (1, 0)])
    shares = np.empty(len(x))
    for fold in range(folds):
        held = order[fold::folds]
        shares[held] = fit(np.setdiff1d(order, held)).share(x[held])
    return shares
