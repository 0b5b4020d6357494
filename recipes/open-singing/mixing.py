"""Small signal tools: equaliser, compressor, reverb, delay, pan, and the final balance of a pair.

All take and give float32 [channels, samples] at 44.1 kHz unless said otherwise; randomness comes
in as a numpy Generator. Linear operations wherever a vocal and its mixture must stay a pair: the
mixture is always the plain sum, and both are scaled by the same single gain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from scipy import signal

RATE = 44100
Audio = NDArray[np.float32]
Rng = np.random.Generator


def db(level: float) -> float:
    """Returns the factor that changes a signal by `level` dB."""
    return float(10.0 ** (level / 20.0))


def read(path: Path, start: float = 0.0, seconds: float | None = None) -> Audio:
    """Returns a stretch of a file as [2, samples] at 44.1 kHz (mono is doubled)."""
    with sf.SoundFile(str(path)) as f:
        rate = f.samplerate
        f.seek(min(int(start * rate), f.frames))
        x = f.read(-1 if seconds is None else int(seconds * rate), dtype="float32", always_2d=True)
    if rate != RATE:
        x = soxr.resample(x, rate, RATE)
    x = x[:, :2] if x.shape[1] > 1 else np.repeat(x, 2, axis=1)
    return np.ascontiguousarray(x.T, dtype=np.float32)


def biquad(kind: str, frequency: float, gain: float = 0.0, q: float = 0.7) -> NDArray[np.float64]:
    """Returns one second-order section [1, 6] of the audio equaliser cookbook.

    Args:
        kind: "peak", "low" (shelf), "high" (shelf), "highpass" or "lowpass".
        frequency: corner or centre in Hz.
        gain: in dB, for peak and shelves.
        q: quality factor.
    """
    w = 2 * np.pi * min(frequency, 0.48 * RATE) / RATE
    a, c, s = 10 ** (gain / 40), np.cos(w), np.sin(w) / (2 * q)
    r = 2 * np.sqrt(a) * s
    b0, b1, b2, a0, a1, a2 = {
        "peak": (1 + s * a, -2 * c, 1 - s * a, 1 + s / a, -2 * c, 1 - s / a),
        "low": (
            a * (a + 1 - (a - 1) * c + r),
            2 * a * (a - 1 - (a + 1) * c),
            a * (a + 1 - (a - 1) * c - r),
            a + 1 + (a - 1) * c + r,
            -2 * (a - 1 + (a + 1) * c),
            a + 1 + (a - 1) * c - r,
        ),
        "high": (
            a * (a + 1 + (a - 1) * c + r),
            -2 * a * (a - 1 + (a + 1) * c),
            a * (a + 1 + (a - 1) * c - r),
            a + 1 - (a - 1) * c + r,
            2 * (a - 1 - (a + 1) * c),
            a + 1 - (a - 1) * c - r,
        ),
        "highpass": ((1 + c) / 2, -(1 + c), (1 + c) / 2, 1 + s, -2 * c, 1 - s),
        "lowpass": ((1 - c) / 2, 1 - c, (1 - c) / 2, 1 + s, -2 * c, 1 - s),
    }[kind]
    return np.array([[b0, b1, b2, a0, a1, a2]]) / a0


def equalise(x: Audio, sections: list[NDArray[np.float64]]) -> Audio:
    """Returns x through the given second-order sections."""
    return signal.sosfilt(np.concatenate(sections), x, axis=-1).astype(np.float32)


def voice_tone(rng: Rng) -> list[NDArray[np.float64]]:
    """Returns a random equaliser as an engineer might set it for a lead vocal."""
    return [
        biquad("highpass", rng.uniform(70, 160)),
        biquad("low", rng.uniform(150, 300), rng.uniform(-5, 2)),
        biquad("peak", rng.uniform(300, 900), rng.uniform(-4, 2), 1.0),
        biquad("peak", rng.uniform(2000, 5000), rng.uniform(-1, 5), 0.9),
        biquad("high", rng.uniform(7000, 11000), rng.uniform(-1, 6)),
    ]


def compress(x: Audio, threshold: float, ratio: float, release: float = 0.12) -> Audio:
    """Returns x with peaks above `threshold` (dB, of 5 ms RMS) reduced by `ratio`.

    The gain is common to both channels, so the stereo picture stands still. Attack is the 5 ms of
    the level meter; release is in seconds.
    """
    hop = 220
    n = -(-x.shape[1] // hop)
    padded = np.zeros((x.shape[0], n * hop), np.float32)
    padded[:, : x.shape[1]] = x
    power = (padded.reshape(x.shape[0], n, hop) ** 2).mean(axis=(0, 2))
    over = np.maximum(10 * np.log10(power + 1e-10) - threshold, 0) * (1 - 1 / ratio)
    decay = np.exp(-hop / RATE / release)
    # Peak-hold with exponential release, vectorised: max_k<=n of over[k] * decay^(n-k).
    held = over.copy()
    shift, factor = 1, decay
    while shift < n and factor > 1e-3:
        held[shift:] = np.maximum(held[shift:], held[:-shift] * factor)
        shift, factor = shift * 2, factor * factor
    gain = 10 ** (-np.interp(np.arange(x.shape[1]), np.arange(n) * hop + hop / 2, held) / 20)
    return x * gain.astype(np.float32)


def room(rng: Rng, seconds: float, brightness: float) -> Audio:
    """Returns a synthetic stereo impulse response [2, samples] of a room or plate.

    Noise with an exponential decay, the highs dying sooner; a few early reflections; energy 1.

    Args:
        rng: source of noise.
        seconds: time to fall by 60 dB at 1 kHz.
        brightness: decay of the highs relative to the middle, 0.2 (dark) to 0.9.
    """
    n = int(min(seconds * 1.1 + 0.05, 4.0) * RATE)
    t = np.arange(n) / RATE
    noise = rng.standard_normal((2, n))
    low = signal.sosfilt(biquad("lowpass", 3500, q=0.6), noise, axis=-1)
    high = noise - low
    body = low * 10 ** (-3 * t / seconds) + high * 10 ** (-3 * t / (seconds * brightness))
    before = int(rng.uniform(0.004, 0.035) * RATE)
    body = np.concatenate([np.zeros((2, before)), body], axis=1)[:, :n]
    body *= np.minimum(np.arange(n) / max(before, 1), 1) ** 2
    for _ in range(int(rng.integers(2, 7))):
        body[rng.integers(2), int(rng.uniform(0.005, 0.06) * RATE) % n] += rng.uniform(3, 9)
    body = signal.sosfilt(biquad("highpass", rng.uniform(120, 350)), body, axis=-1)
    return (body / np.sqrt((body**2).sum() / 2)).astype(np.float32)


def reverberate(x: Audio, rng: Rng, seconds: float, wet: float) -> Audio:
    """Returns x plus its reverb, `wet` dB below it, same length."""
    h = room(rng, seconds, rng.uniform(0.25, 0.8))
    tail = signal.oaconvolve(x, h, mode="full", axes=-1)[:, : x.shape[1]]
    loud = np.sqrt((x**2).mean() + 1e-12) / np.sqrt((tail**2).mean() + 1e-12)
    return (x + db(wet) * loud * tail).astype(np.float32)


def echo(x: Audio, rng: Rng, seconds: float, wet: float) -> Audio:
    """Returns x plus a darker echo every `seconds`, alternating sides, the first `wet` dB down."""
    y = x.copy()
    tap = equalise(x, [biquad("lowpass", rng.uniform(2000, 6000)), biquad("highpass", 250)])
    swap = rng.random() < 0.6
    step, gain, feedback = int(seconds * RATE), db(wet), rng.uniform(0.2, 0.5)
    for k in range(1, 5):
        if k * step >= x.shape[1]:
            break
        source = tap[::-1] if swap and k % 2 else tap
        side = np.array([[1.0], [0.5]]) if k % 2 else np.array([[0.5], [1.0]])
        y[:, k * step :] += (gain * side * source[:, : x.shape[1] - k * step]).astype(np.float32)
        gain *= feedback
    return y


def pan(mono: NDArray[np.float32], position: float) -> Audio:
    """Returns mono placed at `position` (-1 left, 0 centre, 1 right), equal power."""
    angle = (position + 1) * np.pi / 4
    gains = np.array([[np.cos(angle)], [np.sin(angle)]]) * np.sqrt(2)
    return (gains * mono).astype(np.float32)


def shift_samples(x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Returns x delayed by n samples (earlier if negative), same length."""
    y = np.zeros_like(x)
    if n >= 0:
        y[..., n:] = x[..., : x.shape[-1] - n]
    else:
        y[..., :n] = x[..., -n:]
    return y


def _active(x: Audio, hop: int = 4410, floor: float = -35.0) -> NDArray[np.bool_]:
    n = x.shape[1] // hop
    power = (x[:, : n * hop].reshape(x.shape[0], n, hop) ** 2).mean(axis=(0, 2))
    return power > max(power.max(initial=0.0) * 10 ** (floor / 10), 1e-8)


def activity(x: Audio) -> float:
    """Returns the part of the time (0 to 1) in which x is not silent."""
    a = _active(x)
    return float(a.mean()) if a.size else 0.0


def balance(vocals: Audio, accompaniment: Audio, over: float) -> Audio:
    """Returns the vocals at a level at which they could be heard in a song.

    The vocals, where they sound, are put `over` dB above the accompaniment's energy between 150 Hz
    and 6 kHz at the same moments; the ratio of full-band energies is kept within -11..+6 dB, the
    range of released pop songs.
    """
    hop = 4410
    on = np.repeat(_active(vocals, hop), hop)
    if not on.any():
        return vocals
    voice = float((vocals[:, : on.size][:, on] ** 2).mean())
    band = equalise(accompaniment, [biquad("highpass", 150), biquad("lowpass", 6000)])
    near = float((band[:, : on.size][:, on] ** 2).mean()) + 1e-7
    full = float((accompaniment[:, : on.size][:, on] ** 2).mean()) + 1e-7
    wanted = near * 10 ** (over / 10)
    wanted = float(np.clip(wanted, full * 10**-1.1, full * 10**0.6))
    return vocals * np.float32(np.sqrt(wanted / (voice + 1e-12)))


def pair(vocals: Audio, accompaniment: Audio, peak: float) -> tuple[Audio, Audio]:
    """Returns (vocals, mixture), both scaled by the one gain that puts the loudest peak at `peak`.

    The loudest of vocals, accompaniment and mixture counts, so that no stem clips.
    """
    mixture = vocals + accompaniment
    top = max(float(np.abs(x).max(initial=0.0)) for x in (mixture, vocals, accompaniment))
    gain = np.float32(peak / max(top, 1e-6))
    return vocals * gain, mixture * gain


def write(path: Path, audio: Audio) -> None:
    """Writes audio as 16-bit stereo wav at 44.1 kHz."""
    sf.write(str(path), audio.T, RATE, subtype="PCM_16", format="WAV")
