"""Several takes of one chunk: their mean, and how far they are apart.

A diffusion model draws one of the voices that would explain the mixture. The mean of N independent
draws has 1 + 1/N times the least square error there is, a single one twice (the error of a draw and
that of the mean of all draws add up). That holds of a perfect model, from noise, with enough steps.
Takes that start from one estimate at a small t share its errors: they differ only in how they
refine it, their mean is near that estimate, and more of them soon add nothing.

Takes come one by one and are let go at once, by Welford's recursion:

    d_k = take_k - mean_{k-1}      mean_k = mean_{k-1} + d_k/k      M_k = M_{k-1} + (1 - 1/k)·d_k²

so a chunk holds a mean and a deviation, whatever N is. The recursion is linear in the takes, hence
it holds in any linear transform of them: summed over spectra of sqrt(1 - 1/k)·d_k, M_N / (N - 1) is
the takes' variance in each band. Source: Welford 1962.
"""

from __future__ import annotations

import math

from torch import Tensor


class RunningMean:
    """The mean of what is added, in memory of its own; nothing added is kept or changed."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None
        self.count = 0

    @property
    def value(self) -> Tensor:
        """The mean so far."""
        assert self._mean is not None, "the mean of nothing"
        return self._mean

    def add(self, take: Tensor) -> Tensor:
        """The take's share sqrt(1 - 1/k)·(take - mean before) of the second moment, same shape."""
        self.count += 1
        if self._mean is None:
            self._mean = take.clone()
            return take.new_zeros(()).expand_as(take)
        deviation = take - self._mean
        self._mean.add_(deviation, alpha=1 / self.count)
        return deviation.mul_(math.sqrt(1 - 1 / self.count))


def take_seed(seed: int, take: int, takes: int) -> int:
    """The seed of a take: those of seeds 0, 1, 2, … are all different for any one number of takes.

    The mean of N takes with seed s is the mean of the outputs of the seeds N·s … N·s + N - 1.
    """
    return seed * takes + take
