"""Noise that does not depend on batching: every item has a stream of its own, made from the seed
and the item's index."""

from collections.abc import Callable

import torch
from torch import Tensor

Noise = Callable[[], Tensor]
"""A source of noise: each call gives a fresh draw with the sampler's shape."""

_MASK = 2**64 - 1


def item_generator(seed: int, index: int) -> torch.Generator:
    """A generator for item `index` of a run; neighbouring seeds and indices give unrelated streams
    (SplitMix64)."""
    z = (seed * 0xBF58476D1CE4E5B9 + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return torch.Generator().manual_seed(z ^ (z >> 31))


class ChunkNoise:
    """Noise for a batch of chunks, each with a stream of its own.

    The stream depends on the seed and the chunk's index alone, so what a chunk gets is the same in
    any batch.

    Args:
        seed: the run's seed.
        indices: the chunks' indices in the song.
        shape: the shape of one chunk's noise, without the batch.
        device: where the noise is wanted; it is always drawn on the CPU, so that every device gets
            the same.
    """

    def __init__(
        self, seed: int, indices: list[int], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._generators = [item_generator(seed, index) for index in indices]
        self._shape = shape
        self._device = device

    def __call__(self) -> Tensor:
        """The next draw, [batch, *shape]."""
        draws = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        return torch.stack(draws).to(self._device)
