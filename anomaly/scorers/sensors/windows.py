"""What all scorers of sensors share: features by sensor, and the damping of a score while a machine recovers from a fault."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ENOUGH = 0.5  # a sensor counts in a window when at least this share of its rows has a reading
WHOLE = 0.9  # a position counts as context when at least this share of its rows has readings
RECOVERED = 0.5  # a score below this share of the largest in its context is damped


def by_sensor(features: list[Tensor], sensors: int) -> tuple[Tensor, Tensor]:
    """[level, spread, ..., known], each (N, C * k, 1) -> features (N, C, F), and which sensors count (N, C) as 1 and 0."""
    values = torch.cat([m.reshape(-1, sensors, m.shape[1] // sensors) for m in features[:-1]], dim=2)
    return values, (features[-1].reshape(-1, sensors) >= ENOUGH).to(values.dtype)


class RecoveryDamping(nn.Module):
    """A scorer whose score is damped after a peak in the window's context, so that a fault that has been put right is over.

    A machine seldom comes back exactly to where it was: after a large excursion a small one stays for a while. A score below half of the
    largest in its context is multiplied by its ratio to that half. It is never raised, so no normal window is flagged that the scorer
    by itself would not flag.
    """

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, P)], P positions of the window -> score (N,), contribution (N, C), both at the last position."""
        positions = features[0].shape[2]
        if positions == 1:
            score, share = self.scorer(features)
            return score, share
        scores = self.scorer(_by_position(features))[0].reshape(-1, positions)
        _, share = self.scorer([m[:, :, -1:] for m in features])  # apart, so that the graph shares out no other position's score
        return _damped(scores[:, -1], _context_scores(scores, features[-1]).amax(dim=1), share)


class RecoveryDampingStream(nn.Module):
    """`RecoveryDamping` at every row of a stretch: scores that neighbouring windows have in common are computed once.

    The answer is that of `RecoveryDamping` on windows with `context` rows before each position, since the scores of the positions before
    the first are handed in.
    """

    def __init__(self, scorer: nn.Module, context: int, step: int) -> None:
        """`step`: rows between the positions of a window's context that are looked at."""
        super().__init__()
        self.scorer = scorer
        self.context = context
        self.step = step

    def forward(self, features: list[Tensor], before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[(1, C * k, P)], a position for every row, and `before` (context,) -> score (P,), contribution (P, C), undamped score (P,).

        An undamped score is that of a position by itself, 0 where it lacks readings; `before` are those of the rows before.
        """
        scores, shares = self.scorer(_by_position(features))
        undamped = _context_scores(scores.unsqueeze(0), features[-1])[0]
        looked_at = self.context // self.step
        seen = torch.cat([before, undamped])[self.context - looked_at * self.step :]
        return *_damped(scores, _running_max(seen.unsqueeze(0), looked_at + 1, self.step)[0], shares), undamped


def _running_max(values: Tensor, count: int, step: int) -> Tensor:
    """(N, P) -> maximum of `count` values a step apart, (N, P - (count - 1) * step), in a number of slices logarithmic in `count`."""
    width = 1
    while width < count:
        more = min(width, count - width)
        values = torch.maximum(values[:, : -more * step], values[:, more * step :])
        width += more
    return values


def _by_position(features: list[Tensor]) -> list[Tensor]:
    """[(N, K, P)] -> [(N * P, K, 1)]: every position a window of its own."""
    return [m.transpose(1, 2).reshape(-1, m.shape[1], 1) for m in features]


def _context_scores(scores: Tensor, known: Tensor) -> Tensor:
    """Scores (N, P) of positions that are whole, 0 for others; `known` (N, C, P) is the share of rows with a reading."""
    return torch.where(known.amax(dim=1) >= WHOLE, scores, torch.zeros_like(scores))


def _damped(score: Tensor, highest: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N,) and contributions (N, C), lowered where a score is below half of the highest (N,) in its context."""
    factor = (score / (RECOVERED * highest).clamp(min=1e-12)).clamp(max=1.0)
    return score * factor, share * factor.unsqueeze(1)
