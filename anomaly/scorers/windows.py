"""What all scorers of sensors share: features by sensor, and the score of a window from those of its positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ENOUGH = 0.5  # a sensor counts in a window when at least this share of its rows has a reading
WHOLE = 0.9  # a position counts as context when at least this share of its rows has readings
RECOVERED = 0.5  # a score below this share of the largest in the context is one that is coming back


def by_sensor(features: list[Tensor], sensors: int) -> tuple[Tensor, Tensor]:
    """[level, spread, ..., known], each (N, C * k, 1) -> features (N, C, F), and which sensors count (N, C) as 1 and 0."""
    values = torch.cat([m.reshape(-1, sensors, m.shape[1] // sensors) for m in features[:-1]], dim=2)
    return values, (features[-1].reshape(-1, sensors) >= ENOUGH).to(values.dtype)


class Recovering(nn.Module):
    """A scorer looked at along a window's context, so that a fault that has been put right is over.

    A machine seldom comes back exactly to where it was: after a large excursion a small one stays for a while. The score at the window's
    end is held against the largest in its context: below half of it, it is lowered in proportion. It is never raised, so no
    normal window is flagged that the bare scorer would not flag.
    """

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """[(N, C * k, P)] -> score (N,), contribution (N, C), both at the last position."""
        positions = features[0].shape[2]
        if positions == 1:
            score, share = self.scorer(features)
            return score, share
        every = [m.transpose(1, 2).reshape(-1, m.shape[1], 1) for m in features]  # (N * P, K, 1)
        scores = self.scorer(every)[0].reshape(-1, positions)
        _, share = self.scorer([m[:, :, -1:] for m in features])  # apart, so that the graph shares out no other position's score
        whole = features[-1].amax(dim=1) >= WHOLE  # (N, P)
        score = scores[:, -1]
        highest = torch.where(whole, scores, torch.zeros_like(scores)).amax(dim=1)
        factor = (score / (RECOVERED * highest).clamp(min=1e-12)).clamp(max=1.0)
        return score * factor, share * factor.unsqueeze(1)
