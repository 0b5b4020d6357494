"""Samplers: pure functions from a velocity and a start to a clean signal.

    sampler(velocity, x, times, …) → x0

`x` is x_t at times[0]; `times` falls to 0, where x_0 is the result. A sampler knows nothing of
networks, conditions or audio.

| name       | order | passes a step | noise | source                                         |
|------------|-------|---------------|-------|------------------------------------------------|
| `ddim`     | 1     | 1             | yes   | Diff-DMX (arXiv 2511.21342), Eq. 5-10; Song    |
|            |       |               |       | et al. 2021, whose indices Eq. 8 and 9 need    |
| `heun`     | 2     | 2, the last 1 | no    | Karras et al. 2022, here in the rotating frame |
| `dpmpp-2m` | 2     | 1             | yes   | DPM-Solver++, Lu et al. 2022                   |

With noise, the order is that of the law of what is drawn (weak order): `dpmpp-2m` with eta = 1 is
the stochastic second-order solver SDE-DPM-Solver++(2M). Its order asks for steps that are alike in
λ, the spacing "log-snr".
"""

import math
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from solovox.diffusion.noise import Noise
from solovox.diffusion.objective import Velocity, diffuse, undiffuse
from solovox.diffusion.schedule import alpha, log_snr, sigma


class Sampler(Protocol):
    """What every sampler is called with; see `ddim`."""

    def __call__(
        self,
        velocity: Velocity,
        x: Tensor,
        times: Tensor,
        *,
        eta: float = 0.0,
        refinement: Noise | None = None,
    ) -> Tensor:
        """The clean signal at the end of the walk from times[0] to 0."""


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
    noise = _fresh(eta, refinement)
    for t, s in pairwise(times):
        x0, eps = undiffuse(x, velocity(x, t.to(x.dtype)), t)
        delta = refinement_scale(t, s, eta)
        direction = (sigma(s).square() - delta.square()).sqrt()  # the variance is kept, Eq. 9
        x = float(alpha(s)) * x0 + float(direction) * eps
        if noise is not None and delta > 0:
            x = x + float(delta) * noise()
    return x


def heun(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    eta: float = 0.0,
    refinement: Noise | None = None,
) -> Tensor:
    """The clean signal at the end of Heun's walk from times[0] to 0; arguments as in `ddim`.

    A step goes as DDIM does, which is exact where x0 and eps stay the same, and turns (x_t, v) by
    the step's angle. Where the velocity found there differs from the turned one, half of that
    difference is made good. It is deterministic: eta must be 0.
    """
    if eta:
        raise ValueError("heun has no refinement noise; use eta = 0, ddim or dpmpp-2m")
    for t, s in pairwise(times):
        x0, eps = undiffuse(x, velocity(x, t.to(x.dtype)), t)
        x, turned = diffuse(x0, eps, s)
        if s > 0:
            angle = float(t - s) * math.pi / 2
            x = x - angle / 2 * (velocity(x, s.to(x.dtype)) - turned)
    return x


def dpmpp_2m(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    eta: float = 0.0,
    refinement: Noise | None = None,
) -> Tensor:
    """The clean signal at the end of DPM-Solver++(2M)'s walk; arguments as in `ddim`.

    It integrates exactly in λ = log(alpha/sigma), with x̂0 extrapolated along λ from the last two
    steps. With eta = 1 it is the SDE solver of the same name.
    """
    noise = _fresh(eta, refinement)
    previous, h_previous = None, 0.0
    for t, s in pairwise(times):
        x0, _ = undiffuse(x, velocity(x, t.to(x.dtype)), t)
        if s == 0:
            return x0
        h = float(log_snr(s) - log_snr(t))
        ahead = x0 if previous is None else x0 + (x0 - previous) * (h / (2 * h_previous))
        keep = float(sigma(s) / sigma(t)) * math.exp(-eta * h)
        x = keep * x - float(alpha(s)) * math.expm1(-(1 + eta) * h) * ahead
        if noise is not None:
            x = x + float(sigma(s)) * math.sqrt(-math.expm1(-2 * eta * h)) * noise()
        previous, h_previous = x0, h
    return x


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "heun": heun, "dpmpp-2m": dpmpp_2m}


def _fresh(eta: float, refinement: Noise | None) -> Noise | None:
    """The source of refinement noise, or None where there is to be none."""
    if eta and refinement is None:
        raise ValueError("eta > 0 needs a source of refinement noise")
    return refinement if eta else None


def warm_start(estimate: Tensor, noise: Tensor, start: float) -> Tensor:
    """x_t at t = `start` as if the estimate were the clean signal (stochastic regeneration,
    Lemercier et al. 2023)."""
    return diffuse(estimate, noise, torch.tensor(start, dtype=torch.float64))[0]
