"""Singing made from real speech: a melody, its pitch as a voice moves, two ways to render it.

Speech is cut into syllables, every syllable gets a note: consonants keep their speed, the vowel is
swept back and forth for as long as the note lasts. The result is a `Line`: for every 5 ms, which
moment of which recording sounds, at what pitch and how loud. A line is rendered either by the WORLD
vocoder (new excitation, true spectral envelope) or by pitch-synchronous overlap-add (the recorded
periods themselves, moved): their faults differ, so neither becomes the mark of a voice.

Pitch follows its notes through a damped second-order system, with delayed vibrato and drift (the
model of Saitou, Unoki and Akagi, 2005).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
import soxr
from mixing import RATE, Audio, Rng, biquad, db, equalise
from numpy.typing import NDArray
from scipy import ndimage, signal
from voices import Bank, Mono

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyworld asks an old way for its own version
    import pyworld

STEP = 0.005  # seconds a frame
HOP = RATE * STEP  # samples a frame
Floats = NDArray[np.float64]

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
}


@dataclass(frozen=True)
class Setting:
    """What the singer has to fit: key, tempo, length, and the chords where they are known.

    Attributes:
        root: pitch class of the key, 0 = C.
        minor: whether the key is minor.
        tempo: beats a minute.
        seconds: length of the song.
        start: time of the first downbeat in seconds.
        chords: pitch classes of every bar's chord, where they are known.
    """

    root: int
    minor: bool
    tempo: float
    seconds: float
    start: float = 0.0
    chords: tuple[tuple[int, ...], ...] = ()


def find_key(x: Audio) -> tuple[int, bool]:
    """Returns (root, minor) of the key whose Krumhansl profile fits the chroma of x best."""
    mono = soxr.resample(x.mean(axis=0), RATE, 11025)
    f, _, s = signal.stft(mono, 11025, nperseg=4096, noverlap=0)
    use = (f > 60) & (f < 2000)
    weight = np.sqrt(np.abs(s[use])).sum(axis=1)
    chroma = np.bincount(
        np.round(12 * np.log2(f[use] / 440) + 69).astype(int) % 12, weight, minlength=12
    )
    major = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
    minor = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]
    fits = [
        np.corrcoef(np.roll(profile, root), chroma)[0, 1]
        for profile in (major, minor)
        for root in range(12)
    ]
    best = int(np.argmax(np.nan_to_num(fits)))
    return best % 12, best >= 12


def transposition(of: int, to: int) -> int:
    """Returns the least change (semitones) from one root to another, or to its fifth or fourth."""
    steps = [(to + interval - of + 6) % 12 - 6 for interval in (0, 7, 5)]
    return min(steps, key=abs)


# ---------------------------------------------------------------- syllables


@dataclass
class Clip:
    """One recording: pitch (Hz a frame, 0 unvoiced), power (dB a frame), its syllables."""

    x: Mono
    f0: Floats
    power: Floats
    syllables: list[tuple[int, int, int, int]]  # frames: start, vowel start, vowel end, end
    world: tuple[Floats, Floats] | None = None  # spectral envelope and aperiodicity, when asked
    marks: NDArray[np.int64] | None = None  # pitch marks in samples of the 4x rate, when asked
    fine: Mono | None = None  # x at the 4x rate


def analyse(x: Mono) -> Clip:
    """Returns pitch, power and syllables of a recording."""
    wide = x.astype(np.float64)
    f0, t = pyworld.dio(wide, RATE, f0_floor=70, f0_ceil=600, frame_period=STEP * 1000)
    f0 = pyworld.stonemask(wide, f0, t, RATE)
    low = equalise(x, [biquad("lowpass", 3500), biquad("highpass", 120)]).astype(np.float64)
    level = 10 * np.log10(ndimage.uniform_filter1d(low**2, int(4 * HOP)) + 1e-9)
    power = level[np.minimum((np.arange(len(f0)) * HOP).astype(int), len(level) - 1)]
    return Clip(x, f0, power, _syllables(f0, power))


def _syllables(f0: Floats, power: Floats) -> list[tuple[int, int, int, int]]:
    """Returns (start, vowel start, vowel end, end) of each syllable: peaks of voiced power."""
    smooth = ndimage.gaussian_filter1d(power, 4)
    voiced = ndimage.binary_opening(f0 > 0, np.ones(5))
    heights = np.where(voiced, smooth, smooth.min() - 30)
    peaks, _ = signal.find_peaks(
        np.pad(heights, 1, constant_values=heights.min()), distance=22, prominence=3
    )
    peaks = [p - 1 for p in peaks if voiced[p - 1] and smooth[p - 1] > smooth.max() - 15]
    found = []
    for k, p in enumerate(peaks):
        start = 0 if k == 0 else _valley(smooth, peaks[k - 1], p)
        end = len(f0) if k == len(peaks) - 1 else _valley(smooth, p, peaks[k + 1])
        inside = voiced & (smooth > smooth[p] - 7)
        a = b = p
        while a > start and inside[a - 1]:
            a -= 1
        while b < end - 1 and inside[b + 1]:
            b += 1
        if b - a >= 10:
            found.append((max(start, a - 50), a, b, min(end, b + 44)))
    return found


def _valley(power: Floats, a: int, b: int) -> int:
    return a + int(np.argmin(power[a:b]))


def rehearse(bank: Bank, rng: Rng, syllables: int) -> list[Clip]:
    """Returns analysed clips of a voice that hold at least so many syllables, if it has them."""
    clips: list[Clip] = []
    count = 0
    order = rng.permutation(len(bank))[:250]
    for index in order:
        x = bank.clip(int(index))
        if len(x) > 8 * RATE:
            x = x[: 8 * RATE]
        clip = analyse(x)
        if clip.syllables:
            clips.append(clip)
            count += len(clip.syllables)
        if count >= syllables:
            break
    return clips


# ---------------------------------------------------------------- melody


@dataclass
class Note:
    """A note in seconds and MIDI pitch, and the syllable sung on it."""

    at: float
    length: float
    pitch: float
    clip: int = 0
    syllable: int = 0
    last: bool = False


RHYTHMS = (  # of one bar, in beats; negative = rest
    (1, 1, 1, 1),
    (0.5, 0.5, 1, 0.5, 0.5, 1),
    (1.5, 0.5, 1, 1),
    (0.5, 0.5, 0.5, 0.5, 2),
    (0.75, 0.75, 0.5, 1, 1),
    (-0.5, 0.5, 0.5, 0.5, 1, 1),
    (2, 2),
    (3, 1),
    (0.5, 1, 0.5, 0.5, 1, 0.5),
    (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1),
    (-1, 0.5, 0.5, 1.5, 0.5),
    (1, 0.5, 0.5, 2),
    (0.25, 0.25, 0.5, 0.5, 0.5, 1, 1),
)


def compose(setting: Setting, middle: float, rng: Rng) -> list[Note]:
    """Returns a melody: phrases of one to two bars with rests, motifs that come back.

    Args:
        setting: key, tempo, length.
        middle: MIDI pitch about which the voice sings.
        rng: all choices.
    """
    kind = ("minor" if setting.minor else "major") + (" pentatonic" if rng.random() < 0.4 else "")
    steps = [
        p
        for p in range(int(middle) - 8, int(middle) + 10)
        if (p - setting.root) % 12 in SCALES[kind]
    ]
    home = [k for k, p in enumerate(steps) if (p - setting.root) % 12 in (0, 4, 7, 3)]
    beat = 60 / setting.tempo
    tempo_feel = 2.0 if beat < 0.42 else 1.0  # sing at half time over a fast beat
    beat *= tempo_feel
    notes: list[Note] = []
    motifs: list[list[tuple[float, float, int]]] = []
    at = setting.start + 4 * beat * int(rng.integers(0, 3))
    degree = int(rng.choice(home))
    while at < setting.seconds - 2 * beat:
        if motifs and rng.random() < 0.45:
            motif = motifs[int(rng.integers(len(motifs)))]
        else:
            motif = _motif(rng)
            motifs.append(motif)
        moves = rng.random() < 0.35  # the same motif on another step
        degree = int(rng.choice(home)) if moves or rng.random() < 0.3 else degree
        phrase = []
        for onset, length, step in motif:
            degree += step
            if degree < 0 or degree >= len(steps):
                degree -= 2 * step
            degree = int(np.clip(degree, 0, len(steps) - 1))
            phrase.append(Note(at + onset * beat, length * beat, float(steps[degree])))
        if rng.random() < 0.7:
            degree = min(home, key=lambda h, d=degree: abs(h - d))
            phrase[-1].pitch = float(steps[degree])
        phrase[-1].last = True
        for note, (onset, _, _) in zip(phrase, motif, strict=True):
            if setting.chords and onset % 1 == 0 and rng.random() < 0.75:
                bar = int((note.at - setting.start) * setting.tempo / 240 + 1e-6)
                chord = setting.chords[min(bar, len(setting.chords) - 1)]
                near = [
                    p for p in range(int(note.pitch) - 5, int(note.pitch) + 6) if p % 12 in chord
                ]
                note.pitch = float(min(near, key=lambda p, n=note: abs(p - n.pitch)))
        notes += [n for n in phrase if n.at + n.length < setting.seconds]
        bars = int(np.ceil((motif[-1][0] + motif[-1][1]) / 4 - 1e-6))
        at += 4 * beat * (bars + (0 if rng.random() < 0.55 else int(rng.integers(1, 3))))
    if notes:
        notes[-1].last = True
    return notes


def _motif(rng: Rng) -> list[tuple[float, float, int]]:
    """Returns (onset in beats, length in beats, step in the scale) of a phrase."""
    notes: list[tuple[float, float, int]] = []
    bars = 1 + int(rng.random() < 0.6)
    for bar in range(bars):
        at = 4.0 * bar
        for length in RHYTHMS[int(rng.integers(len(RHYTHMS)))]:
            if length > 0:
                step = int(rng.choice([-3, -2, -1, -1, 0, 0, 1, 1, 2, 3]))
                notes.append((at, float(length), step))
            at += abs(length)
    while notes and bars == 2 and notes[-1][0] > 5.5 and rng.random() < 0.5:
        notes.pop()  # breathe before the next bar
    onset, length, step = notes[-1]
    notes[-1] = (onset, min(length, 2.5), step)
    return notes


def assign(notes: list[Note], clips: list[Clip], rng: Rng) -> None:
    """Gives every note a syllable: words in their order, a new word where a phrase begins."""
    clip, syllable = int(rng.integers(len(clips))), 0
    fresh = True
    for note in notes:
        if fresh or syllable >= len(clips[clip].syllables):
            clip, syllable = int(rng.integers(len(clips))), 0
        note.clip, note.syllable = clip, syllable
        syllable, fresh = syllable + 1, note.last


# ---------------------------------------------------------------- a line


@dataclass
class Line:
    """What sounds every 5 ms: recording (-1: none), place in it (frames), pitch (Hz), gain."""

    clip: NDArray[np.int64]
    place: Floats
    pitch: Floats
    gain: Floats
    breaths: list[tuple[float, float]] = field(default_factory=list)  # seconds: at, length


@dataclass(frozen=True)
class Manner:
    """How a singer moves: response of pitch, vibrato, drift, attack."""

    omega: float  # natural frequency of the pitch response, rad/s
    zeta: float  # its damping
    rate: float  # vibrato, Hz
    depth: float  # vibrato, cents
    delay: float  # seconds before vibrato
    drift: float  # cents
    scoop: float  # chance to come from below
    legato: float  # part of the note that sounds


def manner(rng: Rng) -> Manner:
    """Returns a random singer's manner."""
    return Manner(
        omega=rng.uniform(28, 55),
        zeta=rng.uniform(0.7, 1.0),
        rate=rng.uniform(5.0, 6.3),
        depth=rng.uniform(25, 60) if rng.random() < 0.7 else rng.uniform(0, 15),
        delay=rng.uniform(0.15, 0.45),
        drift=rng.uniform(6, 18),
        scoop=rng.uniform(0, 0.4),
        legato=rng.uniform(0.75, 1.0),
    )


def pitch_curve(notes: list[Note], frames: int, how: Manner, rng: Rng) -> Floats:
    """Returns the pitch (MIDI number) of every frame, as a voice would move through the notes."""
    target = np.zeros(frames)
    vibrato = np.zeros(frames)
    a = 0
    for k, note in enumerate(notes):
        lead = rng.normal(-0.02, 0.015)
        b = int((note.at + lead) / STEP) if k else 0
        b = int(np.clip(b, a, frames))
        target[b:] = note.pitch + rng.normal(0, 0.06)
        if rng.random() < how.scoop:
            dip = int(rng.uniform(0.04, 0.12) / STEP)
            target[b : b + dip] -= rng.uniform(0.5, 2.5)
        n = int(note.length / STEP)
        if note.length > how.delay + 0.25:
            t = np.arange(n) * STEP
            rise = np.clip((t - how.delay) / 0.35, 0, 1)
            rate = how.rate * (1 + 0.04 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * t))
            wave = np.sin(2 * np.pi * np.cumsum(rate) * STEP + rng.uniform(0, 6.3))
            strength = how.depth * rng.uniform(0.7, 1.2) / 100
            at = int(note.at / STEP)
            stop = min(at + n, frames)
            vibrato[at:stop] += (strength * rise * wave)[: stop - at]
        a = b
    # y'' + 2 zeta omega y' + omega^2 y = omega^2 target, by the bilinear transform
    system = signal.bilinear([how.omega**2], [1, 2 * how.zeta * how.omega, how.omega**2], 1 / STEP)
    state = signal.lfilter_zi(*system) * target[0] if frames else None
    smooth, _ = signal.lfilter(*system, target, zi=state)
    wander = ndimage.gaussian_filter1d(rng.standard_normal(frames), 0.12 / STEP)
    wander *= how.drift / 100 / (wander.std() + 1e-9)
    jitter = ndimage.gaussian_filter1d(rng.standard_normal(frames), 1.5) * 0.03
    return smooth + vibrato + wander + jitter


def lay_out(notes: list[Note], clips: list[Clip], seconds: float, how: Manner, rng: Rng) -> Line:
    """Returns the line that sings the notes on the syllables of the clips."""
    frames = int(seconds / STEP)
    line = Line(
        np.full(frames, -1, np.int64),
        np.zeros(frames),
        440 * 2 ** ((pitch_curve(notes, frames, how, rng) - 69) / 12),
        np.zeros(frames),
    )
    begin = True
    for k, note in enumerate(notes):
        clip = clips[note.clip]
        start, a, b, end = clip.syllables[note.syllable]
        at = int((note.at + rng.normal(0, 0.012)) / STEP)
        lead = min(a - start, 24 if not begin else 50)
        length = note.length * (how.legato if note.last else 1.0)
        stop = at + int(length / STEP)
        if k + 1 < len(notes) and not note.last:
            after = notes[k + 1]
            s2, a2, _, _ = clips[after.clip].syllables[after.syllable]
            stop = min(stop, int(after.at / STEP) - min(a2 - s2, 24))
        coda = min(end - b, 40 if note.last else 16)
        vowel = max(stop - at - coda, 8)
        path = np.concatenate(
            [np.arange(a - lead, a), a + _sweep(b - a, vowel, rng), b + np.arange(coda)]
        )
        first = at - lead
        if first < 0 or first + len(path) > frames:
            continue
        here = slice(first, first + len(path))
        loud = np.interp(path, np.arange(len(clip.power)), clip.power)
        flat = ndimage.gaussian_filter1d(-20.0 - loud, 3)
        inside = np.zeros(len(path))
        inside[lead : lead + vowel] = 1
        inside = ndimage.gaussian_filter1d(inside, 4)
        middle = float(np.mean(flat[lead : lead + vowel]))
        level = middle + inside * np.clip(flat - middle, -9, 9)
        level += (
            rng.uniform(-3, 2) + ndimage.gaussian_filter1d(rng.standard_normal(len(path)), 30) * 3
        )
        gain = 10 ** (np.clip(level, -24, 18) / 20)
        edge = min(4, len(path) // 4)
        gain[:edge] *= np.linspace(0, 1, edge)
        fade = min(int(rng.uniform(8, 30)) if note.last else 3, len(path) // 3)
        gain[-fade:] *= np.linspace(1, 0, fade)
        line.clip[here], line.place[here], line.gain[here] = note.clip, path, gain
        voiced = np.interp(path, np.arange(len(clip.f0)), (clip.f0 > 0).astype(float)) > 0.5
        voiced[lead : lead + vowel] = True
        line.pitch[here] *= voiced
        if begin and rng.random() < 0.6:
            breath = rng.uniform(0.2, 0.4)
            line.breaths.append((max(first * STEP - breath - rng.uniform(0.01, 0.1), 0), breath))
        begin = note.last
    line.pitch[line.clip < 0] = 0
    return line


def _sweep(length: int, wanted: int, rng: Rng) -> Floats:
    """Returns `wanted` places in 0..length: played once if it fits, else swept back and forth."""
    if wanted <= length * 1.15:
        return np.linspace(0, length, wanted, endpoint=False)
    a, b = length * rng.uniform(0.25, 0.4), length * rng.uniform(0.65, 0.85)
    head = np.arange(0, b)
    tail = np.arange(b, length)
    rest = wanted - len(head) - len(tail)
    if rest <= 0:
        return np.linspace(0, length, wanted, endpoint=False)
    back = np.empty(rest)
    at, k = b, 0
    while k < rest:  # wander between random points, at a quarter to half of the spoken speed
        goal = (
            rng.uniform(a, 0.5 * (a + b)) if at > 0.5 * (a + b) else rng.uniform(0.5 * (a + b), b)
        )
        n = min(max(int(abs(goal - at) / rng.uniform(0.25, 0.5)), 4), rest - k)
        back[k : k + n] = np.linspace(at, goal, n)
        at, k = goal, k + n
    tail = np.linspace(at, length, max(len(tail), 4))[-len(tail) :] if len(tail) else tail
    return np.concatenate([head, back, tail])


# ---------------------------------------------------------------- rendering


def render_world(line: Line, clips: list[Clip], rng: Rng) -> Mono:
    """Returns the line sung by the WORLD vocoder, with a singer's formant and a little breath."""
    out = np.zeros(int(len(line.clip) * HOP) + RATE, np.float64)
    bins = pyworld.get_cheaptrick_fft_size(RATE) // 2 + 1
    f = np.linspace(0, RATE / 2, bins)
    formant = 10 ** (rng.uniform(2, 6) * np.exp(-(((f - rng.uniform(2700, 3300)) / 700) ** 2)) / 10)
    size = rng.uniform(0.94, 1.07)  # of the vocal tract
    warp = np.clip(np.arange(bins) / size, 0, bins - 1)
    airy = np.clip((f - 3000) / 9000, 0, 1) * rng.uniform(0.1, 0.4) + rng.uniform(0.0, 0.01)
    for a, b in _stretches(line.clip >= 0):
        spectrum, noise = np.full((b - a, bins), 1e-12), np.ones((b - a, bins))
        for c in np.unique(line.clip[a:b][line.clip[a:b] >= 0]):
            clip = clips[c]
            if clip.world is None:
                clip.world = _world(clip)
            here = np.flatnonzero(line.clip[a:b] == c)
            place = np.clip(line.place[a:b][here], 0, len(clip.f0) - 1)
            lower = np.minimum(place.astype(int), len(clip.f0) - 2) if len(clip.f0) > 1 else 0
            part = (place - lower)[:, None]
            sp, ap = clip.world
            spectrum[here] = np.exp(
                (1 - part) * np.log(sp[lower] + 1e-16) + part * np.log(sp[lower + 1] + 1e-16)
            )
            noise[here] = (1 - part) * ap[lower] + part * ap[lower + 1]
        left = warp.astype(int)
        right = np.minimum(left + 1, bins - 1)
        spectrum = spectrum[:, left] * (1 - warp % 1) + spectrum[:, right] * (warp % 1)
        spectrum = spectrum * ((line.gain[a:b] ** 2)[:, None] * formant) + 1e-14
        noise = np.clip(np.maximum(noise, airy), 0, 1)
        noise[line.pitch[a:b] == 0] = 1.0
        y = pyworld.synthesize(
            line.pitch[a:b].copy(),
            np.ascontiguousarray(spectrum),
            np.ascontiguousarray(noise),
            RATE,
            frame_period=STEP * 1000,
        )
        at = int(a * HOP)
        out[at : at + len(y)] += y[: len(out) - at]
    return out[: int(len(line.clip) * HOP)].astype(np.float32)


def _world(clip: Clip) -> tuple[Floats, Floats]:
    x = clip.x.astype(np.float64)
    t = np.arange(len(clip.f0)) * STEP
    return pyworld.cheaptrick(x, clip.f0, t, RATE), pyworld.d4c(x, clip.f0, t, RATE)


def _stretches(on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(int), [0]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


FINE = 4  # pitch marks are placed at this multiple of the rate, to keep high notes steady


def render_overlap(line: Line, clips: list[Clip], rng: Rng) -> Mono:
    """Returns the line sung by the recorded periods themselves, pitch-synchronous overlap-add."""
    out = np.zeros(int(len(line.clip) * HOP * FINE) + RATE, np.float32)
    frame = HOP * FINE
    noise_hop = int(frame)
    for a, b in _stretches(line.clip >= 0):
        t = a * frame
        while t < (b - 1) * frame:
            j = int(t / frame)
            clip = clips[int(line.clip[j])]
            if clip.marks is None:
                _mark(clip)
            assert clip.marks is not None and clip.fine is not None
            at = line.place[j] * frame + (t - j * frame)
            pitch = line.pitch[j]
            if pitch > 0 and len(clip.marks) > 3:
                m = int(np.clip(np.searchsorted(clip.marks, at), 1, len(clip.marks) - 2))
                m -= int(at - clip.marks[m - 1] < clip.marks[m] - at)
                m = max(m, 1)
                centre = int(clip.marks[m])
                period = int(min(clip.marks[m] - clip.marks[m - 1], clip.marks[m + 1] - centre))
                step = RATE * FINE / pitch
                half = int(np.clip(period, 60 * FINE, 700 * FINE))
                gain = line.gain[j] * min(step / half, 1.6)
            else:
                centre, half, step = int(at), noise_hop, float(noise_hop)
                gain = line.gain[j]
            lo, hi = max(centre - half, 0), min(centre + half, len(clip.fine))
            if hi - lo > 8:
                window = np.hanning(2 * half)[lo - centre + half : hi - centre + half]
                p = int(t) + lo - centre
                if p >= 0:
                    out[p : p + hi - lo] += (gain * window * clip.fine[lo:hi]).astype(np.float32)
            t += step
    y = soxr.resample(out, RATE * FINE, RATE)[: int(len(line.clip) * HOP)]
    bump = biquad("peak", rng.uniform(2700, 3300), rng.uniform(1, 5), 1.2)
    return equalise(y, [bump])


def _mark(clip: Clip) -> None:
    """Finds the pitch marks of a clip: one large sample a period, on the side that is larger."""
    clip.fine = soxr.resample(clip.x, RATE, RATE * FINE).astype(np.float32)
    smooth = equalise(clip.x, [biquad("lowpass", 900)])
    smooth = soxr.resample(smooth, RATE, RATE * FINE)
    if (smooth**3).mean() < 0:
        smooth = -smooth
    marks: list[int] = []
    for a, b in _stretches(clip.f0 > 0):
        t, stop = int(a * HOP * FINE), min(int(b * HOP * FINE), len(smooth) - 1)
        first = int(RATE * FINE / clip.f0[a])
        if t + first >= stop:
            continue
        t += int(np.argmax(smooth[t : t + first]))
        while t < stop:
            if not marks or t > marks[-1]:
                marks.append(t)
            pitch = clip.f0[min(int(t / (HOP * FINE)), len(clip.f0) - 1)]
            period = RATE * FINE / pitch if pitch > 0 else first
            lo, hi = int(t + 0.8 * period), int(t + 1.2 * period)
            if hi >= len(smooth):
                break
            t = lo + int(np.argmax(smooth[lo:hi]))
    clip.marks = np.array(marks, np.int64)


def breathe(line: Line, seconds: float, rng: Rng) -> Mono:
    """Returns the breaths before phrases: shaped noise, about 30 dB below the voice."""
    out = np.zeros(int(seconds * RATE), np.float32)
    tone = [
        biquad("highpass", rng.uniform(500, 900)),
        biquad("peak", rng.uniform(1300, 2000), 9, 2.0),
        biquad("peak", rng.uniform(3000, 4500), 7, 2.0),
        biquad("lowpass", rng.uniform(7000, 12000)),
    ]
    for at, length in line.breaths:
        n = int(length * RATE)
        shape = np.sin(np.pi * np.linspace(0, 1, n) ** rng.uniform(0.8, 2.0)) ** 1.5
        breath = equalise((rng.standard_normal(n) * shape).astype(np.float32), tone)
        a = int(at * RATE)
        room = max(min(n, len(out) - a), 0)
        out[a : a + room] += db(rng.uniform(-56, -42)) * breath[:room]
    return out


@dataclass
class Takes:
    """All lines of a sung vocal, dry mono: the lead, takes of the same line, other lines."""

    lead: Mono
    doubles: list[Mono]
    harmonies: list[Mono]


def sing(bank: Bank, setting: Setting, rng: Rng, method: str) -> Takes:
    """Returns a sung song part by one voice, dry: lead, perhaps doubles and harmonies.

    Args:
        bank: the voice.
        setting: key, tempo, length.
        rng: all choices.
        method: "world" or "psola".
    """
    render = {"world": render_world, "psola": render_overlap}[method]
    clips = rehearse(bank, rng, int(setting.seconds * rng.uniform(0.6, 1.2)))
    if not clips:
        return Takes(np.zeros(int(setting.seconds * RATE), np.float32), [], [])
    spoken = np.concatenate([c.f0[c.f0 > 0] for c in clips])
    own = 69 + 12 * np.log2(np.median(spoken) / 440)
    middle = own + rng.uniform(1, 9 if method == "world" else 7)
    notes = compose(setting, middle, rng)
    assign(notes, clips, rng)
    how = manner(rng)

    def take(change: list[Note]) -> Mono:
        line = lay_out(change, clips, setting.seconds, how, rng)
        y = render(line, clips, rng)
        breath = breathe(line, setting.seconds, rng)
        n = min(len(y), len(breath))
        return y[:n] + breath[:n]

    lead = take(notes)
    chorus = [rng.random() < 0.5 for _ in notes]
    doubles = [take(notes) for _ in range(int(rng.choice([0, 0, 0, 1, 2])))]
    harmonies = []
    for interval in ((), (), (2,), (2, -3))[int(rng.integers(4))]:
        other = _harmony(notes, interval, setting)
        harmonies.append(take([n for n, c in zip(other, chorus, strict=True) if c] or other))
    return Takes(lead, doubles, harmonies)


def _harmony(notes: list[Note], interval: int, setting: Setting) -> list[Note]:
    """Returns the notes moved by `interval` steps of the scale."""
    scale = SCALES["minor" if setting.minor else "major"]
    ladder = [p for p in range(20, 110) if (p - setting.root) % 12 in scale]
    moved = []
    for n in notes:
        k = int(np.argmin([abs(p - n.pitch) for p in ladder]))
        pitch = float(ladder[int(np.clip(k + interval, 0, len(ladder) - 1))])
        moved.append(Note(n.at, n.length, pitch, n.clip, n.syllable, n.last))
    return moved
