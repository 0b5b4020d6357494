"""Real voices: a bank of cleaned clips for each speaker, and spoken performances made of them.

The bank of a voice is one int16 file of all its clips, mono at 44.1 kHz, with the limits of every
clip: quick to open from many processes (memory-mapped), and made once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from mixing import (
    RATE,
    Audio,
    Rng,
    biquad,
    compress,
    db,
    echo,
    equalise,
    pan,
    reverberate,
    shift_samples,
    voice_tone,
)
from numpy.typing import NDArray
from scipy import signal
from sources import VoiceSource, files_of

Mono = NDArray[np.float32]


@dataclass(frozen=True)
class Bank:
    """The clips of one voice: int16 samples end to end, and where each clip starts and stops."""

    samples: NDArray[np.int16]
    limits: NDArray[np.int64]  # [clips, 2]

    def __len__(self) -> int:
        return len(self.limits)

    def clip(self, index: int) -> Mono:
        """Returns one clip, float32 mono, about -20 dB RMS while speaking."""
        a, b = self.limits[index]
        return np.asarray(self.samples[a:b], np.float32) / 32768

    @property
    def seconds(self) -> float:
        return float((self.limits[:, 1] - self.limits[:, 0]).sum()) / RATE


def _levels(x: Mono, hop: int = 441) -> NDArray[np.float64]:
    n = len(x) // hop
    return 10 * np.log10((x[: n * hop].reshape(n, hop).astype(np.float64) ** 2).mean(1) + 1e-10)


def _air(x: Mono, cutoff: float) -> Mono:
    """Returns x with its top band copied above `cutoff`, where an old recording has nothing.

    The octave below the cutoff is moved up by a sine carrier and tilted down: breath and
    consonants then reach as high as in a modern recording, so that no model learns that voices
    stop at 10 kHz.
    """
    half = cutoff / 2
    top = signal.sosfilt(signal.butter(6, [half, 0.95 * cutoff], "band", fs=RATE, output="sos"), x)
    moved = top * np.cos(2 * np.pi * half * np.arange(len(x)) / RATE) * 2
    moved = signal.sosfilt(signal.butter(8, 0.95 * cutoff, "high", fs=RATE, output="sos"), moved)
    return (x + 0.35 * moved).astype(np.float32)


def clean(x: NDArray[np.float32], rate: int, top: float = 0.0) -> Mono | None:
    """Returns one recorded clip made ready for use, or None where it is too short or too noisy.

    Resampled to 44.1 kHz, rumble and offset removed, silence trimmed, background lowered between
    words, level set; clips at half the rate, and those a coder cut off at `top` Hz, get their
    missing octaves.
    """
    mono = x.mean(axis=1) if x.ndim > 1 else x
    if rate < 16000 or len(mono) < 0.15 * rate:
        return None
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE)
    cutoff = top or 0.47 * rate
    while cutoff < 15000:  # each turn adds half an octave
        mono = _air(mono, cutoff)
        cutoff *= 1.45
    mono = equalise(mono, [biquad("highpass", 75)] * 2)
    level = _levels(mono)
    if level.size < 12:
        return None
    voiced = equalise(mono, [biquad("lowpass", 4000)] * 2)
    if (voiced**2).mean() < 0.15 * (mono**2).mean():  # a lone hiss: a letter, or a bad microphone
        return None
    loud, quiet = np.percentile(level, 95), np.percentile(level, 8)
    on = np.flatnonzero(level > loud - 35)
    if loud < -55 or on.size < 10 or (loud - quiet < 18 and loud - level.min() < 25):
        return None
    # Downward expander: what lies near the background falls by up to 15 dB.
    knee = max(quiet + 8, loud - 42)
    drop = np.clip((knee - level) * 1.2, 0, 15)
    drop = np.minimum(drop, np.minimum(np.roll(drop, 3), np.roll(drop, -2)))
    gain = 10 ** (-np.interp(np.arange(len(mono)), np.arange(level.size) * 441 + 220, drop) / 20)
    a, b = max(on[0] * 441 - 1300, 0), min(on[-1] * 441 + 3500, len(mono))
    y = (mono * gain)[a:b]
    active = _levels(y)
    rms = 10 * np.log10((10 ** (active[active > active.max() - 25] / 10)).mean())
    y = y * db(-20 - rms)
    fade = min(220, len(y) // 4)
    y[:fade] *= np.linspace(0, 1, fade)
    y[-fade:] *= np.linspace(1, 0, fade)
    top = np.abs(y).max()
    return (y * min(1.0, 0.98 / top)).astype(np.float32)


def phrases(y: Mono, rest: float = 0.3, longest: float = 12.0) -> list[Mono]:
    """Returns the phrases of a cleaned recording: what lies between rests of `rest` seconds.

    A phrase is 0.5 s or more; one above `longest` seconds is cut there.
    """
    level = _levels(y)
    hold = round(rest * 100)
    on = np.convolve(level > level.max() - 32, np.ones(hold), "same") > 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    most, fade = int(longest * RATE), np.linspace(0, 1, 220, dtype=np.float32)
    found = []
    for a, b in edges.reshape(-1, 2) * 441:
        for start in range(int(a), int(b), most):
            x = y[start : min(start + most, int(b))].copy()
            if len(x) >= 0.5 * RATE:
                x[:220] *= fade
                x[-220:] *= fade[::-1]
                found.append(x)
    return found


def make_bank(voice: VoiceSource, work: Path) -> Path:
    """Returns the voice's bank file, made from its clips if it is not there yet."""
    path = work / "voices" / f"{voice.name}.npy"
    index = path.with_suffix(".json")
    if path.is_file() and index.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    parts, limits, at = [], [], 0
    for file in files_of(voice, work):
        try:
            rate = sf.info(str(file)).samplerate
            frames = int(voice.excerpt * rate) or -1
            x, _ = sf.read(str(file), frames, dtype="float32")
        except sf.LibsndfileError:  # text and pictures lie beside the clips
            continue
        whole = clean(x, rate, voice.top)
        if whole is None:
            continue
        for y in phrases(whole) if voice.excerpt else [whole]:
            parts.append(np.round(y * 32767).astype(np.int16))
            limits.append((at, at + len(y)))
            at += len(y)
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, samples)
    temporary.replace(path)
    temporary = path.with_suffix(".part.json")
    temporary.write_text(json.dumps(limits))
    temporary.replace(index)
    return path


def open_bank(path: Path) -> Bank:
    """Returns a bank, its samples mapped from disk."""
    limits = np.array(json.loads(path.with_suffix(".json").read_text()), np.int64).reshape(-1, 2)
    return Bank(np.load(path, mmap_mode="r" if limits.size else None), limits)


def speak(bank: Bank, rng: Rng, seconds: float, active: float, vary: float = 3.0) -> Mono:
    """Returns spoken words and phrases with rests, mono, `active` of the time sounding.

    Clips follow each other into phrases of 1.5 to 7 s; the voice is varied from song to song by a
    change of speed of up to `vary` semitones.
    """
    n = int(seconds * RATE)
    out = np.zeros(n, np.float32)
    speed = 2 ** (rng.uniform(-vary, vary) / 12)
    at = int(rng.uniform(0.0, 4.0) * RATE)
    while at < n:
        phrase = at + int(rng.uniform(1.5, 7.0) * RATE)
        begun = at
        while at < min(phrase, n):
            x = bank.clip(int(rng.integers(len(bank))))
            x = soxr.resample(x, RATE * speed, RATE) if abs(speed - 1) > 0.01 else x
            x = x * np.float32(db(rng.uniform(-3, 2)))
            room_left = min(len(x), n - at)
            out[at : at + room_left] += x[:room_left]
            at += len(x) + int(rng.uniform(-0.03, 0.16) * RATE)
        sounding = (at - begun) / RATE
        rest = sounding * (1 - active) / active
        at += int(rng.uniform(0.5, 1.5) * rest * RATE)
    return out


def produce(
    lead: Mono, doubles: list[Mono], harmonies: list[Mono], rng: Rng, dry: bool = False
) -> Audio:
    """Returns a vocal track [2, samples] as an engineer would make it from dry mono takes.

    Lead near the centre; doubles and harmonies to the sides and quieter; then equaliser,
    compression, echo and reverb.

    Args:
        lead: the main take.
        doubles: takes of the same line.
        harmonies: other lines, or other singers.
        rng: all choices.
        dry: leave out echo and most of the reverb.
    """
    centre = rng.normal(0, 0.06) if rng.random() < 0.85 else rng.uniform(-0.5, 0.5)
    mix = pan(lead, float(np.clip(centre, -1, 1)))
    spread = rng.uniform(0.3, 1.0)
    for k, take in enumerate(doubles):
        side = spread if k % 2 == 0 else -spread
        late = shift_samples(take, int(rng.uniform(0.004, 0.025) * RATE))
        mix += db(rng.uniform(-12, -2)) * pan(late, side)
    for k, take in enumerate(harmonies):
        side = rng.uniform(0.15, 0.9) * (1 if k % 2 else -1)
        mix += db(rng.uniform(-12, -4)) * pan(take, side)
    mix = equalise(mix.astype(np.float32), voice_tone(rng))
    top = np.percentile(np.abs(mix), 99.5) + 1e-6
    mix = mix * np.float32(0.4 / top)
    mix = compress(mix, rng.uniform(-26, -14), rng.uniform(2, 6), rng.uniform(0.06, 0.25))
    if not dry and rng.random() < 0.45:
        mix = echo(mix, rng, rng.uniform(0.18, 0.55), rng.uniform(-24, -10))
    wet = rng.uniform(-30, -18) if dry else rng.uniform(-20, -6)
    return reverberate(mix, rng, float(np.exp(rng.uniform(np.log(0.3), np.log(2.8)))), wet)


def roughen(x: Mono, rng: Rng) -> Mono:
    """Returns a second take of x: a little off in time and pitch, as a double-tracked voice is."""
    n = len(x)
    drift = np.cumsum(rng.standard_normal(n // 4410 + 3))
    drift -= np.linspace(drift[0], drift[-1], drift.size)
    drift = drift / (np.abs(drift).max() + 1e-6) * rng.uniform(0.006, 0.02) * RATE
    knots = np.arange(drift.size) * 4410
    where = np.arange(n) + np.interp(np.arange(n), knots, drift)
    # A band-limited detour: the time warp works at twice the rate, so interpolation stays clean.
    double = soxr.resample(x, RATE, 2 * RATE)
    return np.interp(where * 2, np.arange(len(double)), double).astype(np.float32)
