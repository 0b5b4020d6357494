"""Samplers: pure functions from a velocity and a start to a clean signal.

    sampler(velocity, x, times, …) → x0

`x` is x_t at times[0]; `times` falls to 0, where x_0 is the result. A sampler knows nothing of
networks, conditions or audio. Source: Diff-DMX (arXiv 2511.21342), Eq. 5-10 with the indices of Eq.
8 and 9 in DDIM's order (Song et al. 2021).
"""

from itertools import pairwise

import torch
from torch import Tensor

from solovox.diffusion.noise import Noise
from solovox.diffusion.objective import Velocity, undiffuse
from solovox.diffusion.schedule import alpha, sigma


def refinement_scale(t: Tensor, s: Tensor, eta: float) -> Tensor:
    """delta, the standard deviation of the fresh noise in a step from t to s < t (Eq. 8)."""
    ratio = (alpha(t) / alpha(s)).square()
    return eta * sigma(s) / sigma(t) * (1 - ratio).clamp(min=0).sqrt()


def ddim(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    eta: float = 0.0,
    refinement: Noise | None = None,
) -> Tensor:
    """The clean signal at the end of DDIM's walk from times[0] to 0 (Eq. 5-7, 10).

    Args:
        velocity: the v-predictor.
        x: x_t at times[0], [batch, channels, frames].
        times: falling times, [steps + 1], the last one 0.
        eta: share of refinement noise; 0 is deterministic, 1 is ancestral sampling.
        refinement: source of unit-variance noise; needed where eta > 0.
    """
    if eta and refinement is None:
        raise ValueError("eta > 0 needs a source of refinement noise")
    for t, s in pairwise(times):
        x0, eps = undiffuse(x, velocity(x, t.to(x.dtype)), t)
        delta = refinement_scale(t, s, eta)
        direction = (
            sigma(s).square() - delta.square()
        ).sqrt()  # keeps the variance of the noise, Eq. 9
        x = alpha(s).to(x.dtype) * x0 + direction.to(x.dtype) * eps
        if refinement is not None and delta > 0:
            x = x + delta.to(x.dtype) * refinement()
    return x


def warm_start(estimate: Tensor, noise: Tensor, start: float) -> Tensor:
    """x_t at t = `start` as if the estimate were the clean signal (stochastic regeneration,
    Lemercier et al. 2023)."""
    t = torch.tensor(start, dtype=torch.float64)
    return alpha(t).to(noise.dtype) * estimate + sigma(t).to(noise.dtype) * noise
