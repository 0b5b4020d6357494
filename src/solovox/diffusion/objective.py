"""The v-objective: what the generator learns, apart from the network that learns it.

With x_t = alpha·x0 + sigma·eps, the velocity v = alpha·eps - sigma·x0 is x_t turned by a quarter:
the pair (x_t, v) is the pair (x0, eps) rotated by the angle πt/2. Hence both can be had back from
x_t and v, and every t weighs alike in the loss. Source: Diff-DMX (arXiv 2511.21342), Eq. 1-3, 5, 6;
Salimans & Ho 2022. t is broadcast: a scalar or [batch].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from solovox.diffusion.noise import item_generator
from solovox.diffusion.schedule import alpha, sigma

Velocity = Callable[[Tensor, Tensor], Tensor]
"""velocity(x_t [batch, …], t scalar or [batch]) → the prediction of v, same shape as x_t."""


def _rotate(first: Tensor, second: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha·first + sigma·second, alpha·second - sigma·first), t broadcast over all but the
    batch."""
    t = t.reshape(t.shape + (1,) * (first.dim() - t.dim())) if t.dim() else t
    a, s = alpha(t).to(first.dtype), sigma(t).to(first.dtype)
    return a * first + s * second, a * second - s * first


def diffuse(x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, v) of a clean signal x0 and noise eps at time t (Eq. 1 and 2)."""
    return _rotate(x0, eps, t)


def undiffuse(x_t: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x0, eps) as a velocity v at x_t implies them (Eq. 5 and 6): the inverse of `diffuse`."""
    return _rotate(x_t, v, -t)


def velocity_loss(velocity: Velocity, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """The mean square error of the predicted velocity (Eq. 3).

    Args:
        velocity: the v-predictor.
        x0: clean signals, [batch, channels, frames].
        eps: white noise, same shape.
        t: times, [batch].
    """
    x_t, v = diffuse(x0, eps, t)
    return (velocity(x_t, t) - v).square().mean()


def draw_times_and_noise(
    seed: int, indices: list[int], batch: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """(t [items], eps [items, *shape]) for training items, each from a stream of its own.

    They depend on the seed and the item's index alone: not on the number of processes, nor on where
    a run was stopped. The times
    are stratified: of each `batch` consecutive items, one falls into each of `batch` equal parts of
        [0, 1].
    """
    times, noise = [], []
    for index in indices:
        generator = item_generator(seed, index)
        times.append((index % batch + torch.rand((), generator=generator)) / batch)
        noise.append(torch.randn(shape, generator=generator))
    return torch.stack(times), torch.stack(noise)
