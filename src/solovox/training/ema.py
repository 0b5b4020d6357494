"""The running mean of a model's weights, which samples better than the last weights do."""

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class EMA(Generic[Module]):
    """An exponential moving average of a module's parameters, in a copy of the module.

    Over the first steps the horizon grows with their number, so that the random start is soon
    forgotten.

    Args:
        module: the module to follow.
        decay: share of the mean that is kept at each step, in the long run.
    """

    def __init__(self, module: Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: Module, parts: Mapping[str, int]) -> None:
        """Move the mean towards the module's weights.

        Args:
            module: the module after a step.
            parts: the parts that were trained, by name, each with the number of its steps before.
        """
        for part, steps in parts.items():
            decay = min(self.decay, (1 + steps) / (10 + steps))
            means: list[Tensor] = [*self.module.get_submodule(part).parameters()]
            weights: list[Tensor] = [*module.get_submodule(part).parameters()]
            torch._foreach_lerp_(means, weights, 1 - decay)
