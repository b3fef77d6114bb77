"""AdamW by PyTorch's own function: making PyTorch's optimizer object imports its compiler, which takes a second."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


class AdamW:
    """Loshchilov and Hutter 2019 (arXiv:1711.05101), as `torch.optim.AdamW` does it: the same steps, one learning rate.

    Every parameter must have a gradient at each step, or never have one.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float = 1e-2) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.means, self.squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))  # moving ones of the gradients
        self.steps = [torch.zeros(()) for _ in parameters]

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        adamw(
            [self.parameters[i] for i in moved],
            [grad for i in moved if (grad := self.parameters[i].grad) is not None],
            [self.means[i] for i in moved],
            [self.squares[i] for i in moved],
            [],
            [self.steps[i] for i in moved],
            foreach=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
