"""Bands that never played: pop, rock and electronic songs written by rule, rendered as stems.

A song has a key, a progression, a tempo and a form (verse, chorus, ...). Every part is a list of
notes; acoustic and electric instruments are rendered by FluidSynth with the FluidR3 General MIDI
SoundFont, electronic ones by the small synthesiser below (band-limited saws, drum machine). Each
stem is mixed as in a studio: equaliser, drive, side-chain, room, and a bus compressor at the end.

No choir or voice program is ever used: what is sung must come from a voice.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
    read,
    reverberate,
)
from numpy.typing import NDArray

SOUNDFONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/soundfonts/FluidR3_GM.sf2"),
)
SOUNDFONT_PACKAGE = "fluid-soundfont-gm"
SOUNDFONT_LICENCE = "MIT"
VOICE_PROGRAMS = frozenset({52, 53, 54, 85, 91})  # counted from 0: choirs, voices

Note = tuple[float, float, int, int]  # at (beats), length (beats), MIDI pitch, velocity


@dataclass(frozen=True)
class Style:
    """What a kind of music may do.

    Attributes:
        tempo: lowest and highest, beats a minute.
        synths: chance that a part is electronic.
        drums: names of the drum patterns.
        programs: General MIDI programs of chords, bass and lead.
        drive: chance that chords are played by a distorted guitar.
        pump: depth of the side-chain in dB, 0 for none.
        swing: delay of every second sixteenth, in beats.
    """

    tempo: tuple[float, float]
    synths: float
    drums: tuple[str, ...]
    chords: tuple[int, ...]
    bass: tuple[int, ...]
    lead: tuple[int, ...]
    drive: float = 0.0
    pump: float = 0.0
    swing: float = 0.0


STYLES: dict[str, Style] = {
    "pop": Style(
        (88, 128), 0.45, ("four", "back", "pop"), (0, 1, 4, 5, 24, 25, 27, 48, 50),
        (33, 34, 38, 39), (80, 81, 11, 73, 56, 26), 0.1, 3.0,
    ),
    "rock": Style(
        (100, 160), 0.05, ("rock", "back", "half"), (27, 29, 30, 28, 16, 18),
        (33, 34), (29, 30, 27, 16), 0.8,
    ),
    "electronic": Style(
        (110, 140), 0.9, ("four", "house", "break"), (88, 89, 90, 50, 51, 81, 4),
        (38, 39, 87), (80, 81, 84, 87, 98), 0.0, 7.0,
    ),
    "hiphop": Style(
        (70, 100), 0.55, ("hop", "trap"), (4, 0, 5, 46, 11, 48, 26),
        (38, 39, 35, 33), (11, 75, 73, 80, 65), 0.0, 2.0, 0.06,
    ),
    "ballad": Style(
        (62, 92), 0.15, ("half", "back", "none"), (0, 1, 24, 25, 48, 49, 4),
        (32, 33, 35), (68, 71, 73, 40, 65, 26), 0.05,
    ),
    "funk": Style(
        (92, 118), 0.2, ("funk", "break", "house"), (27, 28, 7, 16, 4, 61, 62),
        (36, 37, 33), (65, 66, 56, 61, 80), 0.1, 0.0, 0.04,
    ),
    "synthwave": Style(
        (80, 118), 0.85, ("four", "back", "half"), (50, 51, 90, 89, 62, 63),
        (38, 39), (81, 80, 84, 86), 0.1, 5.0,
    ),
}  # fmt: skip

# Sixteen steps a bar: kick, snare, closed hat, open hat; digits are strength.
DRUMS: dict[str, tuple[str, str, str, str]] = {
    "four": ("9...9...9...9...", "....9.......9...", "..7...7...7...7.", "................"),
    "house": ("9...9...9...9...", "....8.......8..3", "5.5.5.5.5.5.5.5.", "..7...7...7...7."),
    "back": ("9.......9.......", "....9.......9...", "7.5.7.5.7.5.7.5.", "................"),
    "pop": ("9.....7.9.......", "....9.......9...", "7575757575757575", "..............6."),
    "rock": ("9.....9.9.8.....", "....9.......9...", "8.6.8.6.8.6.8.6.", "..............7."),
    "half": ("9.........7.....", "........9.......", "7...6...7...6...", "................"),
    "hop": ("9..5..7...9.....", "....9.......9..3", "7.6.7.6.7.6.7.64", "................"),
    "trap": ("9.....5...8.....", "........9.......", "7.7.7.777.7.7557", "................"),
    "funk": ("9..7..9...7..5..", "....9..4.4..9..4", "7575757575757575", "......6........."),
    "break": ("9.7.......79....", "....9..5.5..9...", "7.6.7.6.7.6.7.6.", "..............6."),
    "none": ("................", "................", "................", "................"),
}

MAJOR_CHORDS = (  # degrees of the scale, one a bar
    (0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (3, 0, 4, 5), (0, 3, 5, 4), (1, 4, 0, 5),
    (0, 2, 3, 4), (0, 3, 0, 4), (5, 4, 3, 4), (3, 4, 2, 5),
)  # fmt: skip
MINOR_CHORDS = (
    (0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 4), (0, 2, 6, 3), (5, 6, 0, 0),
    (0, 3, 6, 2), (0, 0, 5, 6),
)  # fmt: skip
STEPS = {False: (0, 2, 4, 5, 7, 9, 11), True: (0, 2, 3, 5, 7, 8, 10)}


@dataclass(frozen=True)
class Section:
    """Some bars of a song and the parts that play there."""

    name: str
    bars: int
    chords: tuple[tuple[int, ...], ...]  # pitch classes of each bar's chord, root first


@dataclass(frozen=True)
class Score:
    """A written song."""

    style: str
    root: int
    minor: bool
    tempo: float
    sections: tuple[Section, ...]

    @property
    def bars(self) -> list[tuple[str, tuple[int, ...]]]:
        """(section name, chord) of every bar."""
        return [(s.name, s.chords[k % len(s.chords)]) for s in self.sections for k in range(s.bars)]


def write_score(rng: Rng, seconds: float) -> Score:
    """Returns a song of at least `seconds`: style, key, tempo, form, chords."""
    name = str(rng.choice(list(STYLES), p=[0.25, 0.18, 0.2, 0.11, 0.08, 0.08, 0.1]))
    style = STYLES[name]
    minor = bool(rng.random() < 0.5)
    root = int(rng.integers(12))
    tempo = float(rng.uniform(*style.tempo))
    pool = MINOR_CHORDS if minor else MAJOR_CHORDS
    themes = {
        s: tuple(_chord(root, minor, d, rng) for d in pool[int(rng.integers(len(pool)))])
        for s in ("verse", "chorus", "bridge")
    }
    themes["intro"] = themes["verse"]
    form = ["verse", "chorus", "verse", "chorus", "bridge", "chorus"] * 4
    sections = [Section("intro", 4, themes["intro"])] if rng.random() < 0.6 else []
    total = sum(s.bars for s in sections)
    for part in form:
        if total * 240 / tempo > seconds:
            break
        bars = 8 if part != "bridge" else 4
        sections.append(Section(part, bars, themes[part]))
        total += bars
    return Score(name, root, minor, tempo, tuple(sections))


def _chord(root: int, minor: bool, degree: int, rng: Rng) -> tuple[int, ...]:
    steps = STEPS[minor]
    tones = [0, 2, 4] + ([6] if rng.random() < 0.2 else [])
    return tuple((root + steps[(degree + t) % 7]) % 12 for t in tones)


# ---------------------------------------------------------------- parts


def drum_part(score: Score, rng: Rng) -> list[Note]:
    """Returns General MIDI drum notes, with fills at the ends of phrases."""
    style = STYLES[score.style]
    base = str(rng.choice(style.drums))
    chorus = str(rng.choice([d for d in style.drums if d != "none"]))
    snare = int(rng.choice([38, 40, 39] if style.synths > 0.4 else [38, 40]))
    ride = bool(rng.random() < 0.3)
    notes: list[Note] = []
    for bar, (section, _) in enumerate(score.bars):
        pattern = DRUMS[chorus if section == "chorus" else base]
        if section == "intro" and rng.random() < 0.5:
            pattern = ("." * 16, "." * 16, pattern[2], "." * 16)
        fill = bar % 8 == 7 or (bar % 4 == 3 and rng.random() < 0.3)
        for row, pitch in zip(
            pattern, (36, snare, 51 if ride and section == "chorus" else 42, 46), strict=True
        ):
            for step, mark in enumerate(row):
                if mark != "." and not (fill and step >= 12 and pitch != 36):
                    strength = int(mark) * 12 + int(rng.integers(-8, 9))
                    notes.append(_hit(bar, step, pitch, strength, style, rng))
        if fill and pattern[0].strip("."):
            for step in range(12, 16):
                if rng.random() < 0.8:
                    pitch = int(rng.choice([38, 45, 47, 50, 43]))
                    notes.append(_hit(bar, step, pitch, 85 + 6 * (step - 12), style, rng))
        if bar % 8 == 0 and section != "intro" and rng.random() < 0.7:
            notes.append(_hit(bar, 0, 49, 95, style, rng))
        if section == "chorus" and rng.random() < 0.4:
            notes += [_hit(bar, s, 54, 60, style, rng) for s in range(0, 16, 2)]
    return notes


def _hit(bar: int, step: int, pitch: int, strength: int, style: Style, rng: Rng) -> Note:
    late = style.swing if step % 2 else 0.0
    at = 4 * bar + step / 4 + late + float(rng.normal(0, 0.006))
    return (max(at, 0.0), 0.2, pitch, int(np.clip(strength, 20, 127)))


BASS_RHYTHMS = (
    ((0, 3.5),),
    ((0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9)),
    tuple((k / 2, 0.42) for k in range(8)),
    tuple((k / 4, 0.2) for k in range(16)),
    ((0, 0.7), (0.75, 0.2), (1.5, 0.4), (2, 0.7), (2.75, 0.2), (3.5, 0.4)),
    tuple((k + 0.5, 0.4) for k in range(4)),
    ((0, 1.4), (1.5, 0.9), (2.5, 1.4)),
    ((0, 0.4), (0.5, 0.2), (1.25, 0.2), (1.75, 0.4), (2.5, 0.4), (3.25, 0.6)),
)


def bass_part(score: Score, rng: Rng) -> list[Note]:
    """Returns a bass line: roots, with fifths and octaves."""
    rhythms = {s: BASS_RHYTHMS[int(rng.integers(len(BASS_RHYTHMS)))] for s in ("low", "high")}
    leap = float(rng.uniform(0, 0.35))
    notes: list[Note] = []
    for bar, (section, chord) in enumerate(score.bars):
        low = 28 + (chord[0] - 28) % 12
        for at, length in rhythms["high" if section == "chorus" else "low"]:
            pitch = low + (int(rng.choice([12, 7, 12])) if rng.random() < leap and at else 0)
            notes.append((4 * bar + at, length, pitch, int(rng.integers(85, 115))))
    return notes


STRUMS = (
    ((0, 3.9),),
    ((0, 1.9), (2, 1.9)),
    ((0, 0.9), (1, 0.9), (2, 0.9), (3, 0.9)),
    tuple((k / 2, 0.45) for k in range(8)),
    ((0, 1.4), (1.5, 1.4), (3, 0.9)),
    ((0.5, 0.3), (1.5, 0.3), (2.5, 0.3), (3.5, 0.3)),
    ((0, 0.6), (0.75, 0.6), (1.5, 0.9), (2.5, 0.4), (3, 0.9)),
    ((0, 0.2), (0.75, 0.2), (1.5, 0.2), (2.25, 0.2), (3, 0.2), (3.5, 0.2)),
)


def chord_part(score: Score, rng: Rng, low: int, power: bool = False) -> list[Note]:
    """Returns chords in close position above `low`; power chords are root, fifth, octave."""
    rhythm = STRUMS[int(rng.integers(len(STRUMS)))]
    rhythm2 = STRUMS[int(rng.integers(len(STRUMS)))]
    strum = float(rng.uniform(0, 0.03))
    notes: list[Note] = []
    for bar, (section, chord) in enumerate(score.bars):
        root = low + (chord[0] - low) % 12
        tones = (
            [root, root + 7, root + 12] if power else sorted(low + (c - low) % 12 for c in chord)
        )
        for at, length in rhythm2 if section == "chorus" else rhythm:
            v = int(rng.integers(65, 100))
            notes += [(4 * bar + at + k * strum, length, p, v) for k, p in enumerate(tones)]
    return notes


def arpeggio_part(score: Score, rng: Rng, low: int) -> list[Note]:
    """Returns broken chords in eighths or sixteenths."""
    step = float(rng.choice([0.25, 0.5, 0.25, 1 / 3]))
    span = int(rng.integers(3, 7))
    shape = rng.permutation(span) if rng.random() < 0.4 else np.arange(span)
    if rng.random() < 0.5:
        shape = np.concatenate([shape, shape[::-1][1:-1]])
    notes: list[Note] = []
    k = 0
    for bar, (_, chord) in enumerate(score.bars):
        ladder = sorted(low + (c - low) % 12 + 12 * o for c in chord for o in range(3))
        for at in np.arange(0, 4 - 1e-6, step):
            pitch = ladder[int(shape[k % len(shape)]) % len(ladder)]
            notes.append((4 * bar + float(at), step * 0.9, pitch, int(rng.integers(60, 95))))
            k += 1
    return notes


def lead_part(score: Score, rng: Rng, low: int) -> list[Note]:
    """Returns an instrumental melody in the scale, in phrases with rests."""
    ladder = [p for p in range(low, low + 20) if (p - score.root) % 12 in STEPS[score.minor]]
    notes: list[Note] = []
    at, degree, end = 0.0, len(ladder) // 2, 4.0 * len(score.bars)
    while at < end - 4:
        stop = at + float(rng.choice([3, 4, 7, 8]))
        while at < min(stop, end):
            length = float(rng.choice([0.25, 0.5, 0.5, 1, 1.5, 2]))
            degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(ladder) - 1))
            notes.append((at, length * 0.95, ladder[degree], int(rng.integers(75, 110))))
            at += length
        at = np.ceil(at) + float(rng.choice([1, 2, 4, 8]))
    return notes


# ---------------------------------------------------------------- rendering by FluidSynth


def midi_file(notes: list[Note], tempo: float, program: int, drums: bool) -> bytes:
    """Returns a Standard MIDI File (format 0, 480 ticks a beat) of one part."""
    channel = 9 if drums else 0
    events = [(0, bytes([0xC0 | channel, program]))]
    for at, length, pitch, velocity in notes:
        pitch = int(np.clip(pitch, 0, 127))
        events.append((round(at * 480), bytes([0x90 | channel, pitch, velocity])))
        events.append((round((at + length) * 480), bytes([0x80 | channel, pitch, 0])))
    events.sort(key=lambda e: (e[0], e[1][0] & 0xF0))
    track = b"\x00\xff\x51\x03" + struct.pack(">I", round(6e7 / tempo))[1:]
    now = 0
    for tick, message in events:
        track += _variable(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | (value & 0x7F))
    return bytes(reversed(out))


def soundfont(work: Path) -> Path:
    """Returns the SoundFont's path: installed, or unpacked below the work folder.

    Raises:
        SystemExit: there is none.
    """
    unpacked = work / "packages" / SOUNDFONT_PACKAGE / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    for path in (*SOUNDFONTS, unpacked):
        if path.is_file():
            return path
    raise SystemExit(f"no FluidR3_GM.sf2: apt-get install fluidsynth {SOUNDFONT_PACKAGE}")


def render_midi(
    notes: list[Note], tempo: float, program: int, drums: bool, font: Path, samples: int
) -> Audio:
    """Returns a part played by FluidSynth without effects, [2, samples]."""
    if not drums and program in VOICE_PROGRAMS:
        raise ValueError(f"program {program} is a voice")
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "part.mid", Path(folder) / "part.wav"
        midi.write_bytes(midi_file(notes, tempo, program, drums))
        command = ["fluidsynth", "-ni", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(RATE)]
        command += ["-T", "wav", "-O", "float", "-F", str(wav), str(font), str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wav.is_file():
            raise RuntimeError(f"fluidsynth failed: {done.stderr.strip()[-200:]}")
        x = read(wav)
    return np.pad(x, ((0, 0), (0, max(0, samples - x.shape[1]))))[:, :samples]


# ---------------------------------------------------------------- a small synthesiser


def _saw(frequency: float, samples: int, phase: float) -> NDArray[np.float64]:
    """Returns a band-limited sawtooth (the step smoothed by a two-sample polynomial)."""
    dt = frequency / RATE
    p = (np.arange(samples) * dt + phase) % 1.0
    y = 2 * p - 1
    near = p < dt
    t = p[near] / dt
    y[near] -= 2 * t - t * t - 1
    near = p > 1 - dt
    t = (p[near] - 1) / dt
    y[near] -= t * t + 2 * t + 1
    return y


def _square(frequency: float, samples: int, phase: float) -> NDArray[np.float64]:
    return 0.6 * (_saw(frequency, samples, phase) - _saw(frequency, samples, phase + 0.5))


@dataclass(frozen=True)
class Patch:
    """A synthesiser sound."""

    square: bool
    unison: int
    detune: float  # cents
    attack: float  # seconds
    decay: float  # seconds to fall by 8.7 dB while held
    release: float  # seconds
    cutoff: float  # Hz, where the filter rests
    sweep: float  # octaves above it, at the start of a note
    sub: float  # level of a sine an octave below


def patch(kind: str, rng: Rng) -> Patch:
    """Returns a random sound of a kind: "pad", "pluck", "bass" or "lead"."""
    u = rng.uniform
    square = bool(rng.random() < 0.35)
    return {
        "pad": Patch(False, 3, u(8, 22), u(0.05, 0.6), 20, u(0.3, 0.8), u(600, 5000), 0, 0),
        "pluck": Patch(square, 2, u(2, 14), 0.003, u(0.1, 0.5), 0.1, u(500, 3000), u(1, 3.5), 0),
        "bass": Patch(square, 1, 0, 0.004, u(0.3, 3), 0.05, u(180, 900), u(0.3, 2.5), u(0, 1)),
        "lead": Patch(square, 2, u(3, 16), 0.01, u(1, 9), 0.12, u(1500, 7000), u(0, 1), 0),
    }[kind]


def render_synth(notes: list[Note], tempo: float, sound: Patch, samples: int, rng: Rng) -> Audio:
    """Returns a part played by the synthesiser, [2, samples]: bright attack over a darker body."""
    bright, dark = np.zeros((2, samples)), np.zeros((2, samples))
    wave = _square if sound.square else _saw
    memory: dict[tuple[int, float], NDArray[np.float64]] = {}
    for at, length, pitch, velocity in notes:
        a = int(at * 60 / tempo * RATE)
        n = int((length * 60 / tempo + sound.release) * RATE)
        if a >= samples or n < 64:
            continue
        key = (pitch, round(length, 3))
        if key not in memory:
            f = 440 * 2 ** ((pitch - 69) / 12)
            spread = np.linspace(-1, 1, sound.unison) if sound.unison > 1 else np.zeros(1)
            tones = [wave(f * 2 ** (sound.detune * s / 1200), n, rng.random()) for s in spread]
            left = sum(g * t for g, t in zip(np.linspace(1, 0.5, len(tones)), tones, strict=True))
            right = sum(g * t for g, t in zip(np.linspace(0.5, 1, len(tones)), tones, strict=True))
            body = np.stack([left, right]) / np.sqrt(len(tones))
            body += sound.sub * np.sin(2 * np.pi * f / 2 * np.arange(n) / RATE)
            memory[key] = body
        t = np.arange(n) / RATE
        shape = np.minimum(t / sound.attack, 1) * np.exp(-t / sound.decay)
        shape *= np.clip((n / RATE - t) / sound.release, 0, 1)
        y = memory[key][:, :n] * shape * (velocity / 127)
        n = min(n, samples - a)
        flash = np.exp(-t[:n] / 0.12)
        bright[:, a : a + n] += y[:, :n] * flash
        dark[:, a : a + n] += y[:, :n] * (1 - flash)
    low = [biquad("lowpass", sound.cutoff, q=0.9), biquad("lowpass", sound.cutoff * 1.3)]
    high = [biquad("lowpass", min(sound.cutoff * 2**sound.sweep, 18000), q=0.9)]
    return equalise(dark.astype(np.float32), low) + equalise(bright.astype(np.float32), high)


def render_machine(notes: list[Note], tempo: float, samples: int, rng: Rng) -> Audio:
    """Returns drum notes played by a drum machine made of sines and noise, [2, samples]."""
    out = np.zeros((2, samples), np.float32)
    sounds = {p: _machine(p, rng) for p in sorted({n[2] for n in notes})}
    for at, _, pitch, velocity in notes:
        a = int(at * 60 / tempo * RATE)
        if a < samples:
            x = sounds[pitch][:, : samples - a]
            out[:, a : a + x.shape[1]] += x * np.float32((velocity / 110) ** 1.5)
    return out


def _machine(pitch: int, rng: Rng) -> Audio:
    u = rng.uniform
    t = np.arange(int(0.6 * RATE)) / RATE
    noise = rng.standard_normal((2, len(t)))
    if pitch == 36:
        sweep = u(42, 60) + u(80, 260) * np.exp(-t / u(0.01, 0.04))
        x = np.tanh(u(1, 3) * np.sin(2 * np.pi * np.cumsum(sweep) / RATE)) * np.exp(
            -t / u(0.1, 0.3)
        )
        x = x + 0.3 * np.exp(-t / 0.002) * noise[0]
        return pan(x.astype(np.float32), 0.0)
    tonal = {38: 190.0, 40: 230.0, 43: 90.0, 45: 120.0, 47: 150.0, 50: 190.0}
    if pitch in tonal:
        fall = tonal[pitch] * u(0.8, 1.2) * (1 + 0.5 * np.exp(-t / 0.02))
        body = np.sin(2 * np.pi * np.cumsum(fall) / RATE) * np.exp(-t / u(0.06, 0.15))
        hiss = equalise(noise.astype(np.float32), [biquad("highpass", u(900, 2500))])
        amount = u(0.3, 0.6) if pitch in (38, 40) else 0.05
        return (0.6 * body + amount * hiss * np.exp(-t / u(0.05, 0.16))).astype(np.float32)
    if pitch == 39:  # clap: three bursts and a tail
        shape = sum(np.exp(-np.clip(t - d, 0, 9) / 0.006) * (t >= d) for d in (0, 0.011, 0.022))
        shape = shape + np.exp(-np.clip(t - 0.03, 0, 9) / u(0.06, 0.15)) * (t >= 0.03)
        band = [biquad("highpass", 700), biquad("peak", u(1000, 1800), 9, 1.5)]
        return 0.25 * equalise((noise * shape).astype(np.float32), band)
    length = {42: u(0.02, 0.06), 46: u(0.15, 0.3), 49: u(0.3, 0.5), 51: u(0.1, 0.25)}
    hiss = equalise(noise.astype(np.float32), [biquad("highpass", u(5000, 9000))] * 2)
    return (u(0.1, 0.35) * hiss * np.exp(-t / length.get(pitch, 0.05))).astype(np.float32)


# ---------------------------------------------------------------- the mix


def _level(x: Audio, wanted: float) -> Audio:
    power = float((x**2).mean())
    return x * np.float32(db(wanted) / np.sqrt(power + 1e-9)) if power > 1e-9 else x


def _duck(x: Audio, drums: list[Note], tempo: float, depth: float) -> Audio:
    """Returns x lowered by `depth` dB at every kick, recovering within a beat."""
    gain = np.zeros(x.shape[1])
    beat = 60 / tempo
    shape = -depth * np.clip(1 - np.arange(int(0.7 * beat * RATE)) / (0.7 * beat * RATE), 0, 1)
    for at, _, pitch, _ in drums:
        if pitch == 36:
            a = int(at * beat * RATE)
            n = min(len(shape), len(gain) - a)
            if n > 0:
                gain[a : a + n] = np.minimum(gain[a : a + n], shape[:n])
    return (x * 10 ** (gain / 20)).astype(np.float32)


def _muted(notes: list[Note], score: Score, sections: set[str]) -> list[Note]:
    names = [s for s, _ in score.bars]
    return [n for n in notes if names[min(int(n[0] / 4), len(names) - 1)] in sections]


ALL = {"intro", "verse", "chorus", "bridge"}


def play(score: Score, rng: Rng, seconds: float, font: Path) -> tuple[Audio, list[str]]:
    """Returns the band's stereo recording and the names of its instruments."""
    style = STYLES[score.style]
    samples = int(seconds * RATE)
    drums = drum_part(score, rng)
    mix = np.zeros((2, samples), np.float32)
    names: list[str] = []

    def add(name: str, x: Audio, level: float, send: float) -> None:
        nonlocal mix
        if not x.any():
            return
        tone = [
            biquad("peak", rng.uniform(200, 800), rng.uniform(-3, 2), 0.8),
            biquad("peak", rng.uniform(1500, 5000), rng.uniform(-3, 3), 0.8),
            biquad("high", rng.uniform(6000, 10000), rng.uniform(-4, 4)),
        ]
        x = _level(equalise(x, tone), level + rng.uniform(-3, 3))
        if rng.random() < send:
            x = reverberate(x, rng, rng.uniform(0.4, 2.5), rng.uniform(-18, -7))
        mix = mix + x
        names.append(name)

    def sound(notes: list[Note], kind: str, programs: tuple[int, ...]) -> tuple[str, Audio]:
        if rng.random() < style.synths:
            own = patch(kind, rng)
            return f"synth {kind}", render_synth(notes, score.tempo, own, samples, rng)
        program = int(rng.choice(programs))
        x = render_midi(notes, score.tempo, program, False, font, samples)
        return f"program {program}", x

    if drums:
        machine = rng.random() < style.synths
        if machine:
            x = render_machine(drums, score.tempo, samples, rng)
        else:
            kit = int(rng.choice([0, 8, 16, 24, 25] if style.synths > 0.3 else [0, 0, 8, 16, 32]))
            x = render_midi(drums, score.tempo, kit, True, font, samples)
        if rng.random() < 0.6:
            x = compress(_level(x, -16), -22, rng.uniform(2, 5), 0.08)
        add("drum machine" if machine else "drum kit", x, -18, 0.4)

    name, x = sound(bass_part(score, rng), "bass", style.bass)
    x = _duck(x, drums, score.tempo, style.pump * rng.uniform(0, 1))
    add(f"bass: {name}", compress(_level(x, -16), -20, 4), -19, 0.05)

    if rng.random() < style.drive:
        notes = chord_part(score, rng, int(rng.integers(40, 47)), power=rng.random() < 0.7)
        for side in (-0.8, 0.8):  # two takes, left and right
            moved = [(max(t + rng.normal(0, 0.01), 0), n, p, v) for t, n, p, v in notes]
            take = render_midi(
                moved, score.tempo, int(rng.choice([27, 29, 30])), False, font, samples
            )
            hot = np.tanh(_level(take, -10) * db(rng.uniform(6, 22))).mean(axis=0)
            cabinet = [biquad("lowpass", rng.uniform(3800, 6000)), biquad("highpass", 90)]
            x = pan(equalise(hot[None].astype(np.float32), cabinet * 2)[0], side)
            add("driven guitar", x, -23, 0.2)
    for _ in range(int(rng.integers(1, 3))):
        where = ALL if rng.random() < 0.6 else {"chorus", "bridge"}
        notes = _muted(chord_part(score, rng, int(rng.integers(50, 60))), score, where)
        name, x = sound(notes, "pad" if rng.random() < 0.6 else "pluck", style.chords)
        x = _duck(x, drums, score.tempo, style.pump * rng.uniform(0.3, 1.2))
        add(f"chords: {name}", x, -22, 0.5)
    if rng.random() < 0.6:
        where = {"verse", "chorus"} if rng.random() < 0.5 else {"chorus", "intro"}
        notes = _muted(arpeggio_part(score, rng, int(rng.integers(54, 68))), score, where)
        name, x = sound(notes, "pluck", style.chords)
        if rng.random() < 0.5:
            x = echo(x, rng, 60 / score.tempo * float(rng.choice([0.5, 0.75])), -8)
        add(f"arpeggio: {name}", x, -25, 0.5)
    if rng.random() < 0.55:
        where = {"bridge", "intro", "chorus"} if rng.random() < 0.6 else ALL
        notes = _muted(lead_part(score, rng, int(rng.integers(60, 72))), score, where)
        name, x = sound(notes, "lead", style.lead)
        add(f"lead: {name}", x, -24, 0.6)
    mix = _level(mix, -14)
    mix = compress(mix, rng.uniform(-20, -10), rng.uniform(1.5, 3.5), 0.2)
    if rng.random() < 0.7:  # a mastering limiter's soft top
        drive = db(rng.uniform(0, 6))
        mix = (np.tanh(mix * drive) / drive).astype(np.float32)
    return equalise(mix, [biquad("highpass", 20)]), names  # a limiter makes an offset
