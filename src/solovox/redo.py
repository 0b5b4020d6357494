"""A region of a separated song taken from another separation, and the rest left as it is.

    old   |========================>>>|............|<<<===============|
    new                            <<<|============|>>>
                               start - F        end   end + F

From `start` to `end` the new samples are taken as they are; over F samples before and after, old
and new are crossfaded by raised cosines; elsewhere the old samples stay, bit for bit. The weights
sum to one, so stems that sum to the mixture still do.

A separator's chunks are always the same chunks, and a chunk's noise depends on the seed and the
chunk's index alone. So what is generated for a region alone is what a separation of the whole song
would have there, and a song with regions generated again can be made once more from its settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Stems = dict[str, FloatArray]

FADE = 0.03  # seconds


@dataclass(frozen=True)
class Region:
    """Samples [start, end) of a song, with `fade` samples of crossfade outside of either end."""

    start: int
    end: int
    fade: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end or self.fade < 0:
            raise ValueError(f"no region: {self.start} to {self.end}, fade {self.fade}")

    @classmethod
    def of(cls, start: float, end: float, sample_rate: int) -> Region:
        """The region from `start` to `end` in seconds; at least a sample."""
        first = max(0, round(start * sample_rate))
        return cls(first, max(first + 1, round(end * sample_rate)), round(FADE * sample_rate))

    @property
    def first(self) -> int:
        """The first sample that may change."""
        return max(0, self.start - self.fade)

    @property
    def last(self) -> int:
        """One past the last sample that may change."""
        return self.end + self.fade

    def weights(self, first: int, last: int) -> FloatArray:
        """The new separation's weights at samples [first, last)."""
        k = np.arange(first, last) + 0.5
        outside = np.maximum(self.start - k, k - self.end) / max(1, self.fade)
        weights: FloatArray = (0.5 + 0.5 * np.cos(math.pi * np.clip(outside, 0, 1))).astype("f4")
        return weights


def splice(old: Iterable[Stems], new: Iterable[Stems], region: Region) -> Iterator[Stems]:
    """Yield the blocks of `old`, with the samples of `new` in the region.

    Args:
        old: blocks of stems, each [channels, any length].
        new: blocks of the same stems from the song's start on; what lies outside of the region and
            its crossfades may be anything. No more of it is taken than is needed.
        region: where.
    """
    fresh = _From(new)
    position = 0
    for part in old:
        samples = _length(part)
        first = max(region.first, position)
        last = min(region.last, position + samples)
        if first < last:
            here = slice(first - position, last - position)
            weights = region.weights(first, last)
            taken = fresh.take(first, last)
            part = {name: stem.copy() for name, stem in part.items()}
            for name, stem in part.items():
                before, after = stem[:, here], taken[name]
                mixed = before + weights * (after - before)
                stem[:, here] = np.where(weights == 1, after, mixed)  # exact where it is all new
        yield part
        position += samples


class _From:
    """Any samples of a stream of blocks, asked for in order."""

    def __init__(self, blocks: Iterable[Stems]) -> None:
        self._blocks = iter(blocks)
        self._held: Stems | None = None
        self._position = 0  # of the first sample held

    def take(self, first: int, last: int) -> Stems:
        while self._held is None or self._position + _length(self._held) < last:
            block = next(self._blocks)
            if self._held is None:
                self._held = block
            else:
                self._drop(first)
                self._held = {
                    name: np.concatenate((stem, block[name]), axis=1)
                    for name, stem in self._held.items()
                }
        self._drop(first)
        return {name: stem[:, : last - first] for name, stem in self._held.items()}

    def _drop(self, first: int) -> None:
        assert self._held is not None
        count = min(max(0, first - self._position), _length(self._held))
        self._held = {name: stem[:, count:] for name, stem in self._held.items()}
        self._position += count


def _length(stems: Stems) -> int:
    return int(next(iter(stems.values())).shape[1])
