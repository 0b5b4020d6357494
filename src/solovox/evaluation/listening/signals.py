"""What a listening test does to audio: equal loudness, the low-pass anchor, the excerpt.

Loudness is that of ITU-R BS.1770-4 (K-weighted, gated), the anchor is the one of ITU-R BS.1534-3:
the reference through a low-pass of 3.5 kHz.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

ANCHOR_CUTOFF = 3500.0


def loudness(audio: Audio, sample_rate: int) -> float:
    """Return the integrated loudness in LUFS; minus infinity where all is under the gate.

    Args:
        audio: [channels, samples], one or two channels; at least 0.4 s.
        sample_rate: in Hz.

    Source: ITU-R BS.1770-4, annex 1.
    """
    weighted = _k_weighted(audio.astype(np.float64), sample_rate)
    block, hop = round(0.4 * sample_rate), round(0.1 * sample_rate)
    if weighted.shape[1] < block:
        weighted = np.pad(weighted, ((0, 0), (0, block - weighted.shape[1])))
    total = np.concatenate([[0.0], np.cumsum((weighted**2).sum(axis=0))])
    power = (total[block:] - total[:-block])[::hop] / block
    loud = power[_lufs(power) > -70]
    if not loud.size:
        return -math.inf
    loud = loud[_lufs(loud) > float(_lufs(loud.mean())) - 10]
    return float(_lufs(loud.mean()))


def low_pass(audio: Audio, sample_rate: int, cutoff: float = ANCHOR_CUTOFF) -> Audio:
    """Return the audio with nothing above the cutoff; no delay, same length.

    A windowed sinc: within 0.1 dB up to the cutoff, 25 dB down 500 Hz above it and 50 dB down
    1000 Hz above it, as BS.1534-3 (attachment 8 to annex 1) asks of an anchor.

    Args:
        audio: [channels, samples].
        sample_rate: in Hz.
        cutoff: in Hz.
    """
    width = 400.0  # Hz, from the end of the pass band to the start of the stop band
    attenuation = 60.0  # dB
    taps = 2 * math.ceil((attenuation - 7.95) / (14.36 * width / sample_rate) / 2) + 1
    time = (np.arange(taps) - taps // 2) / sample_rate
    middle = cutoff + width / 2
    kernel = 2 * middle / sample_rate * np.sinc(2 * middle * time)
    kernel *= np.kaiser(taps, 0.1102 * (attenuation - 8.7))
    kernel /= kernel.sum()
    size = audio.shape[1] + taps - 1
    spectrum = np.fft.rfft(audio, size) * np.fft.rfft(kernel, size)
    filtered = np.fft.irfft(spectrum, size)[:, taps // 2 : taps // 2 + audio.shape[1]]
    return filtered.astype(np.float32)


def loudest(audio: Audio, samples: int) -> int:
    """Return the first sample of the stretch of `samples` that has the most energy.

    Args:
        audio: [channels, samples].
        samples: length of the stretch.
    """
    if samples >= audio.shape[1]:
        return 0
    total = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64).sum(axis=0))])
    return int(np.argmax(total[samples:] - total[:-samples]))


def match_loudness(
    stimuli: dict[str, Audio], sample_rate: int, target: float = -23.0, ceiling: float = -1.0
) -> dict[str, Audio]:
    """Return the stimuli at one loudness: the target, or less where one of them would clip.

    Args:
        stimuli: [channels, samples] by name. A silent one stays as it is.
        sample_rate: in Hz.
        target: in LUFS.
        ceiling: highest peak in dB of full scale.
    """
    found = {name: loudness(audio, sample_rate) for name, audio in stimuli.items()}
    gains = {name: 10 ** ((target - level) / 20) for name, level in found.items()}
    heard = [name for name, level in found.items() if math.isfinite(level)]
    peak = max((gains[name] * float(np.abs(stimuli[name]).max()) for name in heard), default=0.0)
    # One common step down, so that all of them stay equally loud.
    down = min(1.0, 10 ** (ceiling / 20) / peak) if peak else 1.0
    return {
        name: (audio * (gains[name] * down if name in heard else 1.0)).astype(np.float32)
        for name, audio in stimuli.items()
    }


def fade(audio: Audio, sample_rate: int, seconds: float = 0.01) -> Audio:
    """Return the audio with raised-cosine fades at both ends: a loop then has no click.

    Args:
        audio: [channels, samples].
        sample_rate: in Hz.
        seconds: length of each fade.
    """
    size = min(round(seconds * sample_rate), audio.shape[1] // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(size) + 0.5) / size) if size else np.ones(0)
    faded = audio.astype(np.float32).copy()
    faded[:, :size] *= ramp
    faded[:, faded.shape[1] - size :] *= ramp[::-1]
    return faded


def _lufs(power: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(power, 1e-20)), dtype=np.float64)


def _k_weighted(audio: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Apply the shelf and the high-pass of BS.1770, by their frequency response.

    The standard gives coefficients for 48 kHz; the analogue prototypes behind them hold for any
    rate (Brecht De Man 2014).
    """
    size = audio.shape[1] + round(0.5 * sample_rate)  # room for the filters to ring out
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))  # one sample's delay
    response = np.ones(len(z), np.complex128)
    for kind, f0, q, gain in (
        ("shelf", 1681.974450955533, 0.7071752369554196, 3.999843853973347),
        ("pass", 38.13547087602444, 0.5003270373238773, 0.0),
    ):
        k = math.tan(math.pi * f0 / sample_rate)
        high = 10 ** (gain / 20)
        band = high**0.4996667741545416
        a0 = 1 + k / q + k * k
        below = (2 * (k * k - 1) / a0) * z + ((1 - k / q + k * k) / a0) * z**2
        above = {
            "shelf": (
                (high + band * k / q + k * k)
                + 2 * (k * k - high) * z
                + (high - band * k / q + k * k) * z**2
            )
            / a0,
            "pass": 1 - 2 * z + z**2,
        }[kind]
        response *= above / (1 + below)
    return np.fft.irfft(np.fft.rfft(audio, size) * response, size)[:, : audio.shape[1]]
