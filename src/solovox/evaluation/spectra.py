"""Short-time spectra of long audio in blocks, and their inverse: numpy only, constant memory.

Frame k is centred on sample k * hop; the signal is padded by half a window on both sides:

    |<- fft/2 pad ->|x0 x1 x2 ...
    |<----- frame 0 ----->|
          |<----- frame 1 ----->|         (hop samples later)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Spectrum = NDArray[np.complexfloating]
Padding = Literal["reflect", "constant"]

BLOCK_VALUES = 1 << 17
"""Values of one signal's frames held at once: few enough to stay in a processor's cache."""


@lru_cache(maxsize=16)
def hann(length: int, fft: int) -> Real:
    """Return a periodic Hann window of `length`, centred in zeros to `fft` samples."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = (fft - length) // 2
    return np.pad(window, (left, fft - length - left))


def spectra(
    signals: tuple[NDArray[np.floating], ...],
    fft: int,
    hop: int,
    window: Real,
    pad: Padding = "reflect",
    dtype: type[np.float32] | type[np.float64] = np.float64,
) -> Iterator[tuple[Spectrum, ...]]:
    """Yield blocks of the signals' short-time spectra, each [channels, frames, fft // 2 + 1].

    Args:
        signals: any number of [channels, samples] of one shape.
        fft: FFT size in samples, even.
        hop: samples from one frame to the next.
        window: [fft].
        pad: what stands before and after the signal: its mirror image or zeros.
        dtype: precision of the transform (numpy 1 always takes float64).
    """
    half = fft // 2
    # A vector of one sample cannot be mirrored; numpy repeats it instead.
    padded = [np.pad(x, ((0, 0), (half, half)), mode=pad) for x in signals]
    window = window.astype(dtype)
    frames = [np.lib.stride_tricks.sliding_window_view(x, fft, axis=1)[:, ::hop] for x in padded]
    channels, count, _ = frames[0].shape
    block = max(1, BLOCK_VALUES // (channels * fft))
    for start in range(0, count, block):
        part = slice(start, start + block)
        yield tuple(
            np.fft.rfft((f[:, part] * window).astype(dtype, copy=False), axis=2) for f in frames
        )


def inverse(
    blocks: Iterable[Spectrum], fft: int, hop: int, window: Real, samples: int
) -> NDArray[np.float32]:
    """Return the audio [channels, samples] of the blocks that `spectra` yielded.

    Overlap-add with the same window again, divided by the sum of squared windows: the least-squares
    inverse, exact for an unchanged spectrum.

    Args:
        blocks: [channels, frames, fft // 2 + 1], in order.
        fft: FFT size in samples.
        hop: samples from one frame to the next.
        window: [fft].
        samples: length wanted.
    """
    total: Real | None = None
    weight = np.zeros(samples + 2 * fft)
    frame = 0
    for block in blocks:
        if total is None:
            total = np.zeros((block.shape[0], weight.size))
        pieces = np.fft.irfft(block, fft, axis=2) * window
        for piece in range(block.shape[1]):
            place = slice(frame * hop, frame * hop + fft)
            total[:, place] += pieces[:, piece]
            weight[place] += window**2
            frame += 1
    if total is None:
        raise ValueError("no spectrum to invert")
    inside = slice(fft // 2, fft // 2 + samples)
    return (total[:, inside] / np.maximum(weight[inside], 1e-12)).astype(np.float32)
