"""Overlap-add as a stream: blocks in, chunks out; processed chunks in, blocks out.

With chunks of C samples, of which the last V overlap the next chunk, and H = C - V, chunk i covers
[i·H, i·H + C):

    sample     0             H     C        2H    H+C       3H
    chunk 0    |=============|>>>>>|
    chunk 1                  |<<<<<|=========|>>>>>|
    chunk 2                                  |<<<<<|=====|≈≈≈≈≈|   mirrored, then cut

`=` has weight one; in an overlap the older chunk fades out `>` as the newer fades in `<`, and the
two weights sum to one. The first and the last edge are not faded. The sum is written as
old + fade·(new - old): where two chunks agree, it is what they agree on, to the last bit.

The last chunk is filled with what it has, forwards and backwards in turn: networks that have learnt
from full chunks take a long silence for a part of the song and separate the rest of it worse.

No chunk is handed out before it is known whether it is the last, so one chunk and one block are
held at any time, whatever the length. The plan depends on the samples alone, neither on the blocks
they come in nor on how many chunks are processed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChunkPlan:
    """Where chunks lie.

    Attributes:
        chunk: samples a chunk.
        overlap: samples that a chunk shares with the next, at most half a chunk.
    """

    chunk: int
    overlap: int

    def __post_init__(self) -> None:
        if self.chunk < 1 or not 0 <= 2 * self.overlap <= self.chunk:
            raise ValueError(
                f"a chunk of {self.chunk} samples cannot overlap the next by {self.overlap}"
            )

    @classmethod
    def of(cls, chunk: int, share: float) -> ChunkPlan:
        """The plan of chunks of `chunk` samples that share `share` of them with the next."""
        return cls(chunk, min(round(chunk * share), chunk // 2))

    @property
    def hop(self) -> int:
        """Samples from the start of a chunk to the start of the next."""
        return self.chunk - self.overlap

    def count(self, samples: int) -> int:
        """The number of chunks that `samples` samples need."""
        return 0 if samples < 1 else 1 + max(0, -(-(samples - self.chunk) // self.hop))

    def fade(self) -> FloatArray:
        """The weights [overlap] of the newer chunk in an overlap: a raised cosine, symmetric."""
        position = (np.arange(self.overlap) + 0.5) / max(1, self.overlap)
        return (0.5 - 0.5 * np.cos(math.pi * position)).astype(np.float32)


class OverlapAdd:
    """Cuts a stream into chunks and joins processed chunks into a stream of the same length.

    Feed input with `feed`, say `end` when there is no more, and give every chunk that came out back
    to `add`, processed, in order. Processed chunks may have more or fewer rows than the input.

    Args:
        plan: where chunks lie.
    """

    def __init__(self, plan: ChunkPlan) -> None:
        self._plan = plan
        self._fade = plan.fade()
        self._pending: FloatArray | None = None  # input from the start of the next chunk on
        self._tail: FloatArray | None = None  # overlap of the last chunk added, to be faded out
        self._issued = self._added = 0
        self._last_length: int | None = None  # samples of the last chunk that are not mirrored

    def feed(self, block: FloatArray) -> list[tuple[int, FloatArray]]:
        """The (index, chunk [rows, chunk]) that `block` [rows, any length] completes."""
        pending = block if self._pending is None else np.concatenate((self._pending, block), axis=1)
        chunks = []
        while (
            pending.shape[1] > self._plan.chunk
        ):  # strictly: what remains belongs to another chunk
            chunks.append(self._issue(pending[:, : self._plan.chunk]))
            pending = pending[:, self._plan.hop :]
        self._pending = pending.copy()  # neither the caller's block nor a view that keeps it alive
        return chunks

    def end(self) -> list[tuple[int, FloatArray]]:
        """The last (index, chunk), filled by mirroring; none if nothing was fed."""
        if self._pending is None or not self._pending.shape[1]:
            return []
        self._last_length = self._pending.shape[1]
        return [self._issue(mirrored(self._pending, self._plan.chunk))]

    def add(self, chunk: FloatArray) -> FloatArray:
        """The output [rows, n] that the next processed chunk [rows, chunk] makes final."""
        overlap = self._plan.overlap
        out = chunk.copy()
        if self._tail is not None:
            out[:, :overlap] = self._tail + self._fade * (out[:, :overlap] - self._tail)
        self._added += 1
        if self._last_length is not None and self._added == self._issued:
            return out[:, : self._last_length]
        self._tail = out[:, self._plan.hop :]
        return out[:, : self._plan.hop]

    def _issue(self, chunk: FloatArray) -> tuple[int, FloatArray]:
        self._issued += 1
        return self._issued - 1, chunk.copy()


def mirrored(audio: FloatArray, samples: int) -> FloatArray:
    """Audio [rows, n] made `samples` long: itself, backwards, forwards, and so on."""
    length = audio.shape[1]
    place = np.arange(samples) % (2 * length)
    return audio[:, np.minimum(place, 2 * length - 1 - place)]
