"""Oracles: separators that know the true stems, and bound what a system can reach or must beat.

| name      | what it does                                        | what it says           |
|-----------|-----------------------------------------------------|------------------------|
| `mixture` | the mixture itself is each estimate                 | the floor to beat      |
| `silence` | zeros                                               | 0 dB of uSDR           |
| `irm`     | |V| / (|V| + |A|) on the mixture's spectrum         | the best soft mask     |
| `wiener`  | multichannel Wiener filter of the true variances    | the best linear filter |

An oracle is made for one song from its true stems, and is then called as any separator:
`separate(mixture [2, N], sample_rate) -> {"vocals", "accompaniment"}`.

Both filters use Hann windows of 2048 samples at half overlap. Published oracles on MUSDB18 put all
four stems in the denominator; here the accompaniment is one stem, as for the systems compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from solovox.evaluation.spectra import Spectrum, hann, inverse, spectra

Audio = NDArray[np.float32]
Stems = dict[str, Audio]
Separate = Callable[[Audio, int], Stems]
Oracle = Callable[[Audio, Audio], Separate]

_FFT, _HOP = 2048, 1024
_TINY = 1e-12


def mixture(vocals: Audio, accompaniment: Audio) -> Separate:
    """Return a separator that hands out the mixture as both stems."""

    def separate(audio: Audio, sample_rate: int) -> Stems:
        return {"vocals": audio, "accompaniment": audio}

    return separate


def silence(vocals: Audio, accompaniment: Audio) -> Separate:
    """Return a separator that hands out silence as both stems."""

    def separate(audio: Audio, sample_rate: int) -> Stems:
        return {"vocals": np.zeros_like(audio), "accompaniment": np.zeros_like(audio)}

    return separate


def irm(vocals: Audio, accompaniment: Audio) -> Separate:
    """Return the ideal ratio mask of a song: each channel and bin by the magnitudes' share.

    Args:
        vocals: true stem, [channels, samples].
        accompaniment: true stem, same shape.

    Source: "IRM1" of the SiSEC 2018 oracles (Stöter, Liutkus, Ito 2018).
    """

    def masked() -> Iterator[Spectrum]:
        for v, a, x in _blocks(vocals, accompaniment, vocals + accompaniment):
            magnitude = np.abs(v)
            yield x * (magnitude / (magnitude + np.abs(a) + _TINY))

    return _filter(masked)


def wiener(vocals: Audio, accompaniment: Audio) -> Separate:
    """Return the multichannel Wiener filter of a song, from its true stems.

    A stem's bin has the variance v(t, f) = mean over channels of |S|² and the spatial covariance
    R(f) = sum_t S Sᴴ / sum_t v. The vocals are v R (v R + v' R')⁻¹ x.

    Args:
        vocals: true stem, [channels, samples].
        accompaniment: true stem, same shape.

    Source: "MWF" of the SiSEC 2018 oracles; Duong, Vincent, Gribonval 2010, eq. 7.
    """

    def filtered() -> Iterator[Spectrum]:
        covariances = _spatial_covariances(vocals, accompaniment)
        for v, a, x in _blocks(vocals, accompaniment, vocals + accompaniment):
            # [channels, frames, bins] -> scaled covariances [frames, bins, channels, channels]
            wanted, other = (
                (np.abs(s) ** 2).mean(axis=0)[..., None, None] * r
                for s, r in zip((v, a), covariances, strict=True)
            )
            total = wanted + other + _TINY * np.eye(len(x))
            solved = np.linalg.solve(total, np.moveaxis(x, 0, -1)[..., None])
            yield np.moveaxis((wanted @ solved)[..., 0], -1, 0)

    return _filter(filtered)


ORACLES: Mapping[str, Oracle] = {
    "mixture": mixture,
    "silence": silence,
    "irm": irm,
    "wiener": wiener,
}
"""The oracles by the names that `solovox evaluate oracle:NAME` takes."""


def _blocks(*signals: Audio) -> Iterator[tuple[Spectrum, ...]]:
    return spectra(signals, _FFT, _HOP, hann(_FFT, _FFT), pad="constant")


def _filter(vocals_spectrum: Callable[[], Iterator[Spectrum]]) -> Separate:
    def separate(audio: Audio, sample_rate: int) -> Stems:
        samples = audio.shape[1]
        vocals = inverse(vocals_spectrum(), _FFT, _HOP, hann(_FFT, _FFT), samples)
        return {"vocals": vocals, "accompaniment": audio - vocals}

    return separate


def _spatial_covariances(*stems: Audio) -> list[Spectrum]:
    """Return R(f) of each stem, [bins, channels, channels]."""
    outer: list[Spectrum | float] = [0.0] * len(stems)
    variance: list[NDArray[np.floating] | float] = [0.0] * len(stems)
    for block in _blocks(*stems):
        for index, s in enumerate(block):
            outer[index] = outer[index] + np.einsum("itf,jtf->fij", s, s.conj())
            variance[index] = variance[index] + (np.abs(s) ** 2).mean(axis=0).sum(axis=0)
    return [
        np.asarray(o, dtype=np.complex128) / (np.asarray(v)[:, None, None] + _TINY)
        for o, v in zip(outer, variance, strict=True)
    ]
