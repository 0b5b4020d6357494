"""Augmentations: small pure functions audio -> audio, their randomness passed in as a generator.

Audio is float32 [2, samples]; no function changes its argument. Those of the papers are polarity,
channel flip, pitch shift and stem remix; the others make one recording stand for many: level,
tone, stereo width, mono, a dull recording, a compressor. A function that takes `probability`
draws from the generator whether or not it acts, so that the draws after it do not depend on the
outcome of this one.

Filters are curves over frequency, multiplied in the spectrum. Several of them cost one transform
and its inverse.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import soxr
import torch

Audio = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float32]
Rng = np.random.Generator

RESAMPLE_QUALITY = "HQ"  # 20 bits of precision; "MQ" has 16 and costs nearly the same
ENVELOPE_BLOCK = 512  # samples a value of a compressor's envelope: 12 ms at 44.1 kHz
SMOOTHING = np.array([0.1, 0.2, 0.4, 0.2, 0.1], np.float32)  # over blocks of the envelope


def db_to_gain(decibels: float) -> float:
    """The factor that changes a level by `decibels`."""
    return float(10.0 ** (decibels / 20.0))


def uniform(rng: Rng, low: float, high: float) -> float:
    """A number drawn evenly from [low, high]."""
    return float(rng.uniform(low, high))


def polarity(audio: Audio, rng: Rng, probability: float = 0.5) -> Audio:
    """The audio, its sign turned with the given probability."""
    return -audio if rng.random() < probability else audio


def channel_flip(audio: Audio, rng: Rng, probability: float = 0.5) -> Audio:
    """The audio, left and right exchanged with the given probability."""
    return np.ascontiguousarray(audio[::-1]) if rng.random() < probability else audio


def gain(audio: Audio, rng: Rng, low_db: float, high_db: float) -> Audio:
    """The audio at a level changed by an evenly drawn number of dB."""
    return audio * np.float32(db_to_gain(uniform(rng, low_db, high_db)))


def pitch_ratio(rng: Rng, semitones: float, probability: float = 0.5) -> float:
    """A frequency ratio within +-`semitones`, or 1 where the shift is not drawn."""
    drawn, shift = rng.random() < probability, uniform(rng, -semitones, semitones)
    return 2.0 ** (shift / 12.0) if drawn else 1.0


def samples_to_read(samples: int, ratio: float) -> int:
    """How many input samples `resample_by` needs for `samples` of output."""
    return samples if ratio == 1.0 else math.ceil(samples * ratio) + 1


def resample_by(audio: Audio, ratio: float, samples: int) -> Audio:
    """The audio played `ratio` times as fast, cut to [2, samples].

    Pitch, tempo and formants move together, as when a tape runs faster: cheap, and another voice
    as well. With ratio = rate_in / rate_out it is a change of sample rate.

    Args:
        audio: float32 [2, at least samples_to_read(samples, ratio)].
        ratio: > 1 is higher and shorter.
        samples: length of the result.
    """
    if ratio == 1.0:
        return audio[:, :samples]
    # soxr knows rates, not ratios: any pair of that quotient does.
    out = soxr.resample(audio.T, 1e4 * ratio, 1e4, quality=RESAMPLE_QUALITY).T
    if out.shape[1] < samples:
        out = np.pad(out, ((0, 0), (0, samples - out.shape[1])))
    return np.ascontiguousarray(out[:, :samples], np.float32)


def width(audio: Audio, rng: Rng, low_db: float, high_db: float, probability: float = 0.5) -> Audio:
    """The audio with its side (left - right) louder or quieter; its middle is kept."""
    drawn, factor = rng.random() < probability, db_to_gain(uniform(rng, low_db, high_db))
    if not drawn:
        return audio
    middle, side = 0.5 * (audio[0] + audio[1]), np.float32(0.5 * factor) * (audio[0] - audio[1])
    return np.stack((middle + side, middle - side))


def mono(audio: Audio, rng: Rng, probability: float = 0.1) -> Audio:
    """The audio, both channels replaced by their mean with the given probability."""
    if rng.random() >= probability:
        return audio
    middle = 0.5 * (audio[0] + audio[1])
    return np.stack((middle, middle))


def frequencies(samples: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Frequencies in Hz [bins] of the spectrum that `apply_curve` makes of a chunk of `samples`."""
    return np.fft.rfftfreq(_fft_size(samples), 1.0 / sample_rate).astype(np.float32)


def eq_curve(freqs: npt.NDArray[np.float32], rng: Rng, decibels: float, bands: int = 3) -> Curve:
    """A random tone control: a tilt and some broad bells, as a gain [bins].

    Each bell is a Gaussian over log frequency, half an octave to two wide, at 60 Hz to 12 kHz.

    Args:
        freqs: frequencies in Hz [bins].
        rng: generator.
        decibels: largest boost or cut of a bell, and of the tilt over the ten octaves.
        bands: number of bells.
    """
    octaves = np.log2(np.maximum(freqs, 20.0) / np.float32(1000.0))
    curve = np.float32(uniform(rng, -decibels, decibels) / 10.0) * octaves
    for _ in range(bands):
        centre = np.float32(math.log2(uniform(rng, 60.0, 12000.0) / 1000.0))
        spread = np.float32(uniform(rng, 0.5, 2.0))
        curve = curve + np.float32(uniform(rng, -decibels, decibels)) * np.exp(
            -(((octaves - centre) / spread) ** 2)
        )
    out: Curve = np.power(10.0, curve / np.float32(20.0)).astype(np.float32)
    return out


def low_pass_curve(
    freqs: npt.NDArray[np.float32], rng: Rng, low_hz: float, high_hz: float
) -> Curve:
    """A dull recording: a gain [bins] falling from 1 to 0 at a cut-off drawn over log frequency.

    The fall is a raised cosine 10 % of the cut-off wide, so that it rings for a few ms at most.
    """
    cutoff = math.exp(uniform(rng, math.log(low_hz), math.log(high_hz)))
    position = np.clip((freqs - np.float32(cutoff)) / np.float32(0.1 * cutoff) + 0.5, 0.0, 1.0)
    out: Curve = (0.5 + 0.5 * np.cos(np.float32(math.pi) * position)).astype(np.float32)
    return out


def apply_curve(audio: Audio, curve: Curve) -> Audio:
    """The audio [2, samples], its spectrum multiplied by a gain [bins]: a filter without delay."""
    samples = audio.shape[1]
    size = _fft_size(samples)
    spectrum = torch.fft.rfft(torch.from_numpy(audio), size)
    spectrum *= torch.from_numpy(curve)
    out: Audio = torch.fft.irfft(spectrum, size)[:, :samples].contiguous().numpy()
    return out


def compressor_gain(key: Audio, threshold_db: float, ratio: float) -> npt.NDArray[np.float32]:
    """The gain [samples] of a soft compressor that listens to `key` [2, samples].

    gain = (1 + p / p0)^(-(1 - 1/ratio) / 2), where p is the power of blocks of 12 ms, smoothed
    over five of them and joined by straight lines, and p0 the threshold: 1 for quiet music, a
    slope of 1/ratio well above the threshold.
    """
    samples = key.shape[1]
    blocks = max(1, math.ceil(samples / ENVELOPE_BLOCK))
    padded = np.zeros((2, blocks * ENVELOPE_BLOCK), np.float32)
    padded[:, :samples] = key
    squares = padded.reshape(2, blocks, ENVELOPE_BLOCK)
    power = np.einsum("cbs,cbs->b", squares, squares) / np.float32(2 * ENVELOPE_BLOCK)
    smooth = np.convolve(np.pad(power, 2, mode="edge"), SMOOTHING, mode="valid")
    knee = np.float32(10.0 ** (threshold_db / 10.0))
    levels = (1.0 + smooth / knee) ** np.float32(-0.5 * (1.0 - 1.0 / ratio))
    places = (np.arange(blocks) + 0.5) * ENVELOPE_BLOCK
    out: Curve = np.interp(np.arange(samples), places, levels).astype(np.float32)
    return out


def compress(audio: Audio, rng: Rng, probability: float = 0.5) -> Audio:
    """The audio, softly compressed with the given probability and brought back to its level.

    The threshold lies 0 to 12 dB below the chunk's level and the ratio between 1.5 and 4.
    """
    drawn = rng.random() < probability
    below, ratio = uniform(rng, 0.0, 12.0), uniform(rng, 1.5, 4.0)
    before = level_db(audio)
    if not drawn or before < -80.0:
        return audio
    out = audio * compressor_gain(audio, before - below, ratio)
    return out * np.float32(db_to_gain(before - level_db(out)))


def level_db(audio: Audio) -> float:
    """Root mean square level over all samples in dB of full scale; -200 for silence."""
    flat = audio.reshape(-1)
    # Not np.dot: its last bits depend on the number of threads, and with them the chunk's.
    return 10.0 * math.log10(max(float(np.einsum("i,i", flat, flat)) / max(1, flat.size), 1e-20))


def _fft_size(samples: int) -> int:
    """The least 2^a 3^b 5^c >= samples: transforms of other sizes can be ten times slower."""
    best = 1 << max(1, samples - 1).bit_length()
    for fives in (1, 5, 25, 125):
        for threes in (1, 3, 9, 27, 81):
            odd = fives * threes
            best = min(best, odd << max(1, math.ceil(math.log2(max(1.0, samples / odd)))))
    return best
