"""The running mean of a model's weights, which samples better than the last weights do."""

import copy

import torch
from torch import nn


class EMA:
    """An exponential moving average of a module's parameters, in a copy of the module.

    Over the first steps the horizon grows with their number, so that the random start is soon forgotten.

    Args:
        module: the module to follow.
        decay: share of the mean that is kept at each step, in the long run.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the mean towards the module's weights after step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        means = list(self.module.parameters())
        torch._foreach_lerp_(means, list(module.parameters()), 1 - decay)
