"""The cosine schedule: how much of the clean signal and how much noise x_t holds at time t.

    x_t = alpha·x0 + sigma·eps,   alpha = cos(πt/2),   sigma = sin(πt/2),   t ∈ [0, 1]

t = 0 is the clean signal, t = 1 is noise alone, and alpha² + sigma² = 1 keeps the variance at one
in between. The log-SNR is λ = log(alpha/sigma). Source: Diff-DMX (arXiv 2511.21342), Eq. 1;
Salimans & Ho 2022.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# The log-SNR is infinite at both ends; a spacing in log-SNR stays this far from them.
_END = 1e-3


def alpha(t: Tensor) -> Tensor:
    """The gain of the clean signal at time t."""
    return torch.cos(t * (math.pi / 2))


def sigma(t: Tensor) -> Tensor:
    """The gain of the noise at time t."""
    return torch.sin(t * (math.pi / 2))


def log_snr(t: Tensor) -> Tensor:
    """λ = log(alpha/sigma), falling from +∞ at t = 0 to -∞ at t = 1."""
    return -torch.log(torch.tan(t * (math.pi / 2)))


def _uniform(u: Tensor, start: float) -> Tensor:
    return start * u


def _cosine(u: Tensor, start: float) -> Tensor:
    return start * 2 * torch.sin(u * (math.pi / 4)).square()  # = start·(1 - cos(πu/2))


def _log_snr(u: Tensor, start: float) -> Tensor:
    ends = log_snr(torch.tensor([start * _END, min(start, 1 - _END)], dtype=u.dtype))
    inner = torch.atan(torch.exp(-torch.lerp(ends[0], ends[1], u))) * (2 / math.pi)
    return torch.where(u <= 0, 0.0, torch.where(u >= 1, start, inner))


SPACINGS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "uniform": _uniform,
    "cosine": _cosine,
    "log-snr": _log_snr,
}


def times(steps: int, start: float = 1.0, spacing: str = "uniform") -> Tensor:
    """The steps + 1 times from `start` down to 0 that a sampler visits, float64.

    Args:
        steps: number of steps T, at least 1.
        start: first time, in (0, 1]; below 1 sampling starts from an estimate instead of from
            noise.
        spacing: "uniform" in t (the papers'), "cosine" (finer near t = 0) or "log-snr" (equal steps
            of λ).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not 0 < start <= 1:
        raise ValueError(f"start must be in (0, 1], not {start}")
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return SPACINGS[spacing](grid, start)
