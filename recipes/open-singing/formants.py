"""Another singer from a real one: the formants of a recording moved, pitch and timing kept.

A voice is its source (pitch, breath) through its vocal tract. The tract's resonances are the smooth
envelope E(f) of the short-time spectrum; a tract that is shorter by a factor q has E(f/q). So

    X(f, t) ← X(f, t) · E(f/q, t)/E(f, t)

with E from the cepstrum below the pitch period, smoothed over time: a filter that follows the
voice. Reverb and doubles stay as recorded. Source: Röbel & Rodet 2005 (envelope preservation),
used the other way round.
"""

from __future__ import annotations

import numpy as np
from mixing import RATE, Audio, Rng, biquad, db, equalise
from numpy.typing import NDArray
from scipy import ndimage, signal

TRACTS = (0.80, 0.84, 0.88, 1.12, 1.17, 1.22)  # q of the singers made of each
FFT, HOP = 2048, 512
LIFTER = 48  # samples of the cepstrum kept: 1.1 ms, below the period of the highest notes
LARGEST = 24.0  # dB, of the filter, either way
FLOOR = -90.0  # dB: what is quieter is not filtered


def envelope(magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the smooth envelope in dB [bins, frames] of magnitudes [bins, frames]."""
    level = 20 * np.log10(magnitude + 10 ** (FLOOR / 20))
    cepstrum = np.fft.irfft(level, axis=0)
    cepstrum[LIFTER : FFT - LIFTER + 1] = 0
    smooth = np.fft.rfft(cepstrum, axis=0).real
    return ndimage.uniform_filter1d(smooth, 3, axis=1).astype(np.float32)


def move_formants(x: Audio, ratio: float) -> Audio:
    """Returns a vocal [2, samples] with its formants `ratio` times as high, at its former level."""
    _, _, spectrum = signal.stft(x, RATE, nperseg=FFT, noverlap=FFT - HOP)
    level = envelope(np.abs(spectrum).mean(axis=0).astype(np.float32))
    bins = np.arange(len(level))
    source = np.minimum(bins / ratio, len(level) - 1)
    low = source.astype(int)
    share = (source - low)[:, None].astype(np.float32)
    moved = (1 - share) * level[low] + share * level[np.minimum(low + 1, len(level) - 1)]
    filtered = spectrum * 10 ** (np.clip(moved - level, -LARGEST, LARGEST) / 20)
    _, y = signal.istft(filtered, RATE, nperseg=FFT, noverlap=FFT - HOP)
    y = y[:, : x.shape[1]]
    gain = np.sqrt((x.astype(np.float64) ** 2).mean() / ((y**2).mean() + 1e-12))
    return (y * min(gain, 4.0)).astype(np.float32)


def drive(x: Audio, rng: Rng) -> Audio:
    """Returns a vocal [2, samples] driven into saturation, as a rough voice is; the level stays."""
    top = float(np.percentile(np.abs(x), 99.5)) + 1e-6
    driven = np.tanh(x / top * db(rng.uniform(6, 16))).astype(np.float32)
    driven = equalise(driven, [biquad("highpass", 90)])
    return driven * np.float32(np.sqrt((x**2).mean() / ((driven**2).mean() + 1e-12)))


def another_singer(x: Audio, tract: float, rng: Rng) -> Audio:
    """Returns a vocal [2, samples] as someone else might sing it into another microphone.

    Args:
        x: the vocal.
        tract: how far the formants move, about.
        rng: all choices.
    """
    y = move_formants(x, tract * rng.uniform(0.97, 1.03))
    if rng.random() < 1 / 3:
        y = drive(y, rng)
    tone = (("peak", 1500, 4500, 5), ("low", 150, 300, 4), ("high", 6000, 9000, 4))
    return equalise(
        y,
        [
            biquad(kind, rng.uniform(low, high), rng.uniform(-gain, gain), 0.8)
            for kind, low, high, gain in tone
        ],
    )
