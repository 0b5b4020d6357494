"""Objective metrics of a separated stem: pure functions of (reference, estimate), numpy only.

Audio is [channels, samples] (a vector counts as one channel), any float scale where ±1 is full
scale. Both signals must have the same shape. Energies are summed in float64. A metric that a pair
of signals does not define (a silent reference, mostly) is NaN: it is for the caller to name the
song and leave it out, and `solovox.evaluation.benchmark` does.

| function                | unit     | better | source                                       |
|-------------------------|----------|--------|----------------------------------------------|
| `usdr`                  | dB       | high   | Sound Demixing Challenge 2021 and 2023       |
| `si_sdr`                | dB       | high   | Le Roux et al. 2019, arXiv 1811.02508        |
| `multi_resolution_stft` | none     | low    | Yamamoto et al. 2020, arXiv 1910.11480       |
| `lsd`                   | log10    | low    | Gray & Markel 1976, as in Wang & Wang 2021   |
| `mel_mae`, `mel_mae_db` | none, dB | low    | no standard; the docstring defines it        |
| `bleedless`, `fullness` | 0 to 100 | high   | as Music-Source-Separation-Training has them |

Spectra are computed in blocks of frames, so that memory does not grow with the song.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solovox.errors import DataError
from solovox.evaluation.spectra import Padding, Real, Spectrum, hann, spectra

Samples = NDArray[np.floating]

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
"""FFT size, hop and window, in samples, of the three spectra of `multi_resolution_stft`."""


def usdr(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Return the utterance signal-to-distortion ratio in dB: one ratio for the whole song.

    10 log10((sum s² + 1e-7) / (sum (s - ŝ)² + 1e-7)), sums over every sample of every channel. It
    is finite for any finite audio, but says nothing about a silent reference.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.

    Raises:
        DataError: the shapes differ, or a value is not finite.

    Source: Mitsufuji et al. 2022, Music Demixing Challenge 2021; Fabbro et al. 2024, the 2023
    challenge.
    """
    s, e = _pair(reference, estimate)
    return 10 * math.log10((_energy(s) + 1e-7) / (_energy(s, e) + 1e-7))


def si_sdr(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB, all channels together.

    The reference is scaled by the gain that explains most of the estimate; the rest is distortion.
    Values end at ±200 dB, where float64 does too. NaN when the reference or the estimate is silent:
    no gain is then better than another.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.

    Source: Le Roux et al. 2019, arXiv 1811.02508, without removal of the mean.
    """
    s, e = _pair(reference, estimate)
    if not s.any() or not e.any():
        return math.nan
    gain = _product(s, e) / _energy(s)
    kept, lost = gain**2 * _energy(s), _energy(e, s, gain)
    return 10 * math.log10(max(kept, 1e-20 * lost) / max(lost, 1e-20 * kept))


def multi_resolution_stft(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Return the multi-resolution spectral distance (no unit, 0 is perfect).

    For three resolutions, spectral convergence ||S| - |Ŝ||_F / ||S||_F plus the mean of |ln|S| -
    ln|Ŝ||; then the mean of the three. Channels count together, magnitudes are floored at 1e-4. Of
    the metrics tried by Bereuter et al. 2025 (arXiv 2507.11427) it follows listeners best where
    vocals are generated. NaN for a silent reference.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.

    Source: Yamamoto et al. 2020, arXiv 1910.11480, with the resolutions of `RESOLUTIONS`
    (the defaults of auraloss 0.4, a test holds the two equal).
    """
    s, e = _pair(reference, estimate)
    if not s.any():
        return math.nan
    distances = []
    for fft, hop, window in RESOLUTIONS:
        difference = reference_energy = log_difference = 0.0
        count = 0
        for spectrum_s, spectrum_e in spectra(
            (s, e), fft, hop, hann(window, fft), dtype=np.float32
        ):
            # A floor of 1e-8 for powers is 1e-4 for magnitudes; half a log is the log of a root.
            power_s = np.maximum(_power(spectrum_s), 1e-8)
            power_e = np.maximum(_power(spectrum_e), 1e-8)
            difference += float(((np.sqrt(power_s) - np.sqrt(power_e)) ** 2).sum(dtype=np.float64))
            reference_energy += float(power_s.sum(dtype=np.float64))
            log_ratio = np.abs(np.log(power_s / power_e))
            log_difference += 0.5 * float(log_ratio.sum(dtype=np.float64))
            count += power_s.size
        distances.append(math.sqrt(difference / reference_energy) + log_difference / count)
    return float(np.mean(distances))


def lsd(
    reference: ArrayLike, estimate: ArrayLike, sample_rate: int, silence: float = -60.0
) -> float:
    """Return the log-spectral distance (log10 of power, 0 is perfect) of the mono sums.

    Hann window of 2048 samples, 100 frames a second. For each frame the root of the mean over bins
    of (log10(|S|² / (|Ŝ| + 1e-12)² + 1e-12))², then the mean over frames. Frames whose reference is
    silent are left out: the logarithm would make them outweigh all music. NaN when no frame is
    left.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.
        sample_rate: in Hz.
        silence: level in dB below full scale (RMS under the window) under which a frame counts as
            silent.

    Source: Wang & Wang 2021 (Towards robust speech super-resolution), with the silence rule added.
    """
    s, e = _pair(reference, estimate)
    window = hann(2048, 2048)
    # Parseval: the spectrum's mean power is the windowed frame's energy.
    floor = 10 ** (silence / 10) * float((window**2).sum())
    total, count = 0.0, 0
    mono = (s.mean(axis=0, keepdims=True), e.mean(axis=0, keepdims=True))
    for spectrum_s, spectrum_e in spectra(mono, 2048, max(1, sample_rate // 100), window):
        power = _power(spectrum_s)[0]
        heard = (2 * power.sum(axis=1) - power[:, 0] - power[:, -1]) / 2048 > floor
        ratio = power[heard] / (np.abs(spectrum_e[0][heard]) + 1e-12) ** 2
        total += float(np.sqrt((np.log10(ratio + 1e-12) ** 2).mean(axis=1)).sum())
        count += int(heard.sum())
    return total / count if count else math.nan


def as_16_bit(audio: ArrayLike) -> NDArray[np.float32]:
    """Return audio [channels, samples] as a file of 16 bits holds it: rounded, not clipped.

    References that come from lossy files hold nothing at all above the band that was kept, and
    there an `lsd` compares logarithms of nothing: a hiss that nobody hears counts for more than all
    music. Those of the public data sets have 16 bits, so scores on them compare.
    """
    return (np.round(np.asarray(audio) * 32768) / 32768).astype(np.float32)


def mel_mae(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return the mean absolute difference of the linear mel magnitudes (no unit, 0 is perfect).

    Hann window of 2048 samples, hop 512, 80 mel bands of unit area from 0 Hz to half the sample
    rate, channels together. It depends on the level of the recording: compare systems on the same
    data only.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.
        sample_rate: in Hz.
    """
    s, e = _pair(reference, estimate)
    return _mean_of(np.abs(a - b) for a, b in _mel_spectra((s, e), sample_rate, 2048, 512, 80))


def mel_mae_db(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return the mean absolute difference of the mel magnitudes in dB (0 is perfect).

    The spectrum of `mel_mae`; magnitudes are floored at 1e-5 (-100 dB), so that silence is a level
    and not minus infinity.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.
        sample_rate: in Hz.
    """
    s, e = _pair(reference, estimate)
    return _mean_of(
        np.abs(20 * np.log10(np.maximum(a, 1e-5) / np.maximum(b, 1e-5)))
        for a, b in _mel_spectra((s, e), sample_rate, 2048, 512, 80)
    )


def bleedless(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return how free the estimate is of sound that is not in the reference (0 to 100).

    Where the estimate's mel spectrum is the louder one, take the mean excess in dB; the score is
    100 / (1 + excess). 512 mel bands, FFT 4096, hop 1024; levels under 80 dB below the loudest one
    of each signal count as that level, and no level is under -200 dB. NaN for a silent reference.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.
        sample_rate: in Hz.

    Source: the definition (not the code) of ZFTurbo/Music-Source-Separation-Training.
    """
    return _bleed_full(reference, estimate, sample_rate)[0]


def fullness(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return how much of the reference is still in the estimate (0 to 100).

    The counterpart of `bleedless`, from the places where the estimate's mel spectrum is the quieter
    one.

    Args:
        reference: true stem, [channels, samples].
        estimate: separated stem, same shape.
        sample_rate: in Hz.
    """
    return _bleed_full(reference, estimate, sample_rate)[1]


@dataclass(frozen=True)
class Metric:
    """One column of a report: what it is called, its unit and which way is better."""

    name: str
    label: str
    unit: str
    higher_is_better: bool
    compute: Callable[[ArrayLike, ArrayLike, int], float]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("usdr", "uSDR", "dB", True, lambda s, e, _: usdr(s, e)),
        Metric("si_sdr", "SI-SDR", "dB", True, lambda s, e, _: si_sdr(s, e)),
        Metric(
            "multi_resolution_stft",
            "MR-STFT",
            "",
            False,
            lambda s, e, _: multi_resolution_stft(s, e),
        ),
        Metric("lsd", "LSD", "", False, lsd),
        Metric("mel_mae", "Mel-MAE", "", False, mel_mae),
        Metric("mel_mae_db", "Mel-MAE", "dB", False, mel_mae_db),
        Metric("bleedless", "Bleedless", "", True, bleedless),
        Metric("fullness", "Fullness", "", True, fullness),
    )
}
"""The metrics that need numpy alone; every evaluation reports them all."""


def is_silent(audio: ArrayLike, level: float = -80.0) -> bool:
    """Return whether the RMS of `audio`, [channels, samples], is under `level` dB of full scale."""
    x = np.asarray(audio, dtype=np.float64)
    return x.size == 0 or float(np.mean(x**2)) < 10 ** (level / 10)


def mel_edges(sample_rate: int, bands: int) -> Real:
    """Return the frequencies in Hz, [bands + 2], at which mel filters begin, peak and end.

    The scale is Slaney's (Auditory Toolbox, 1998): linear to 1 kHz, then logarithmic, 27 steps for
    each factor of 6.4.

    Args:
        sample_rate: in Hz; the last edge is half of it.
        bands: number of bands.
    """
    per_band = 200 / 3  # Hz for one mel in the linear part
    step = math.log(6.4) / 27
    knee = 1000 / per_band
    nyquist = sample_rate / 2
    top = nyquist / per_band if nyquist < 1000 else knee + math.log(nyquist / 1000) / step
    mels = np.linspace(0, top, bands + 2)
    return np.where(mels < knee, mels * per_band, 1000 * np.exp(step * (mels - knee)))


@lru_cache(maxsize=8)
def mel_filters(sample_rate: int, fft: int, bands: int) -> Real:
    """Return triangular mel filters of unit area, [bands, fft // 2 + 1], 0 Hz to half the rate.

    Args:
        sample_rate: in Hz.
        fft: FFT size in samples.
        bands: number of bands.
    """
    edges = mel_edges(sample_rate, bands)
    bins = np.linspace(0, sample_rate / 2, fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters, dtype=np.float64)


def _pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[Samples, Samples]:
    s, e = (np.atleast_2d(np.asarray(x)) for x in (reference, estimate))
    if s.shape != e.shape or s.ndim != 2 or not s.size:
        raise DataError(
            f"a metric needs two signals [channels, samples] of one shape, "
            f"got {s.shape} and {e.shape}"
        )
    for name, x in (("reference", s), ("estimate", e)):
        if not np.isfinite(x).all():
            raise DataError(f"the {name} holds a value that is not finite (NaN or infinity)")
    return s, e


def _blocks(*signals: Samples) -> Iterator[list[Real]]:
    """Yield stretches of the signals in float64: no whole song is held in that precision."""
    for start in range(0, signals[0].shape[1], 1 << 18):
        yield [x[:, start : start + (1 << 18)].astype(np.float64) for x in signals]


def _product(x: Samples, y: Samples) -> float:
    return sum(float(np.vdot(a, b)) for a, b in _blocks(x, y))


def _energy(x: Samples, minus: Samples | None = None, gain: float = 1.0) -> float:
    """Return the energy of x, or of x - gain * minus."""
    if minus is None:
        return _product(x, x)
    return sum(float(((a - gain * b) ** 2).sum()) for a, b in _blocks(x, minus))


def _power(spectrum: Spectrum) -> NDArray[np.floating]:
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def _mel_spectra(
    signals: tuple[Samples, Samples],
    sample_rate: int,
    fft: int,
    hop: int,
    bands: int,
    pad: Padding = "reflect",
) -> Iterator[tuple[Real, ...]]:
    filters = mel_filters(sample_rate, fft, bands).T
    for block in spectra(signals, fft, hop, hann(fft, fft), pad):
        yield tuple(np.abs(x) @ filters for x in block)


def _mean_of(blocks: Iterator[Real]) -> float:
    total, count = 0.0, 0
    for block in blocks:
        total += float(block.sum())
        count += block.size
    return total / count


def _bleed_full(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> tuple[float, float]:
    s, e = _pair(reference, estimate)
    if not s.any():
        return math.nan, math.nan
    blocks = list(_mel_spectra((s, e), sample_rate, 4096, 1024, 512, pad="constant"))
    levels = []
    for side in (0, 1):
        level = 20 * np.log10(np.maximum(np.concatenate([b[side] for b in blocks], axis=1), 1e-10))
        levels.append(np.maximum(level, level.max() - 80))
    difference = levels[1] - levels[0]
    excess, loss = difference[difference > 0], -difference[difference < 0]
    return _score(excess), _score(loss)


def _score(differences: Real) -> float:
    return 100 / (1 + (float(differences.mean()) if differences.size else 0.0))
