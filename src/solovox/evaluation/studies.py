"""The studies of LDM-dmx's paper (arXiv 2511.20470), on any model and songs.

    identity    what a codec keeps of clean vocals: no separation in its latents can be better
    noise       how a decoder bears noise on the latents, the rest of unfinished sampling
    injection   the mixture at the deeper levels against all levels, trained for equally many steps
    steps       T from 50 down to 1
    context     how much of a song is heard at once
    stems       the kinds of stems, of several models, beside the mixture and other separators

Each study is a function that gives a `Study`, rows of numbers; `save` writes it as study.json,
study.md and study.png. Scores are means over songs; a song in which a score is not defined, as LSD
where nothing is louder than -60 dB, is in no mean of it and named in the notes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solovox.checkpoint import load_model
from solovox.coding import Coder
from solovox.data.index import find_songs, read_pair
from solovox.errors import DataError, ModelError
from solovox.evaluation.bss import bss_eval
from solovox.evaluation.metrics import (
    is_silent,
    lsd,
    mel_mae,
    mel_mae_db,
    multi_resolution_stft,
    usdr,
)
from solovox.evaluation.peers import PEERS
from solovox.evaluation.report import pyplot, table, weights_line, weights_of
from solovox.model import SeparationModel
from solovox.networks.latent_unet import INJECTED
from solovox.presets import build_model
from solovox.separator import STEMS, Separator
from solovox.stems import RULES

log = logging.getLogger("solovox")

Audio = npt.NDArray[np.float32]
Row = dict[str, float | str]
Told = Callable[[str], None]

HEADS: Mapping[str, str] = {
    "usdr": "uSDR, dB",
    "sir": "SIR, dB",
    "lsd": "LSD",
    "mel_mae_db": "Mel-MAE, dB",
    "mel_mae": "Mel-MAE",
    "multi_resolution_stft": "MR-STFT",
}
"""Name of a score → head of its column, in the order of the columns."""


@dataclass(frozen=True)
class Clip:
    """A song, or the part of it that is studied."""

    name: str
    vocals: Audio
    accompaniment: Audio
    sample_rate: int

    @property
    def mixture(self) -> Audio:
        """The sum of both."""
        return self.vocals + self.accompaniment


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        title: what was studied.
        key: the name of what was varied, a field of all rows.
        rows: its values and the scores of each.
        songs: what was scored.
        notes: how, in a sentence or two.
        means: whether scores are means over the songs.
        weights: of the models, from `weights_of`.
        command: the command line that made it.
    """

    title: str
    key: str
    rows: Sequence[Row]
    songs: Sequence[str]
    notes: str = ""
    means: bool = True
    weights: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def markdown(self) -> str:
        """The study as a heading, a table and its notes."""
        names = [name for name in HEADS if any(name in row for row in self.rows)]
        others = [n for n in self.rows[0] if n != self.key and n not in HEADS]
        heads = [self.key, *others, *(HEADS[name] for name in names)]
        cells = [
            [_cell(row.get(n, math.nan)) for n in (self.key, *others, *names)] for row in self.rows
        ]
        songs = f"Songs: {', '.join(self.songs)}{'; means over songs' * self.means}."
        made = f"Made by `{self.command}`." if self.command else ""
        weights = weights_line(self.weights) if self.weights else ""
        parts = (f"# {self.title}", made, weights, songs, self.notes, table(heads, cells))
        return "\n\n".join(part for part in parts if part) + "\n"

    def save(self, folder: Path) -> None:
        """Write study.json, study.md and study.png into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{name: _stored(value) for name, value in row.items()} for row in self.rows]
        values = {**vars(self), "rows": rows, "songs": list(self.songs)}
        (folder / "study.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        (folder / "study.md").write_text(self.markdown(), encoding="utf-8")
        self._draw(folder / "study.png")

    def _draw(self, path: Path) -> None:
        """Each score over what was varied; names as ticks."""
        plt = pyplot()
        names = [name for name in HEADS if any(name in row for row in self.rows)]
        figure, axes = plt.subplots(
            1, len(names), figsize=(2.6 * len(names), 2.6), layout="constrained", squeeze=False
        )
        series = list(dict.fromkeys(str(row.get("series", "")) for row in self.rows))
        for axis, name in zip(axes[0], names, strict=True):
            for label in series:
                rows = [row for row in self.rows if str(row.get("series", "")) == label]
                xs = [row[self.key] for row in rows]
                axis.plot(xs, [row.get(name, math.nan) for row in rows], "o-", label=label)
            axis.set(title=HEADS[name], xlabel=self.key)
            if any(isinstance(row[self.key], str) for row in self.rows):
                axis.tick_params("x", rotation=45)
        if len(series) > 1:
            axes[0][0].legend(fontsize="small")
        figure.savefig(path, dpi=80)
        plt.close(figure)


def read_clips(songs: Path, excerpt: float | None = None) -> list[Clip]:
    """The songs of a folder, or `excerpt` seconds from the middle of each, in which somebody sings.

    Raises:
        DataError: if there is none with vocals and accompaniment.
    """
    clips = []
    for song in find_songs(songs):
        if song.paired:
            frames = song.frames
            if excerpt is not None:
                frames = min(frames, round(excerpt * song.sample_rate))
            start = (song.frames - frames) // 2
            clip = Clip(song.name, *read_pair(song, start, frames), song.sample_rate)
            if is_silent(clip.vocals):
                log.warning("%s is left out: nobody sings there", song.name)
            else:
                clips.append(clip)
    if not clips:
        raise DataError(f"{songs}: no song has vocals and accompaniment; name another folder")
    return clips


def identity(
    models: Sequence[str], clips: Sequence[Clip], untrained: bool = False, told: Told = print
) -> Study:
    """Clean vocals, and mixtures, through each model's codec and back.

    Args:
        models: names, folders or hub ids.
        clips: the songs.
        untrained: whether to add each codec with fresh weights.
        told: called with what is being done.
    """
    coders: dict[str, Coder] = {}
    for name in models:
        model = load_model(name)
        if untrained:
            coders[f"{model.config.name}, untrained"] = Coder(build_model(model.config))
        coders[model.config.name] = Coder(model)
    rows: list[Row] = []
    mean = _Mean(clips)
    for name, coder in coders.items():
        for what in ("vocals", "mixture"):
            told(f"{name}: {what}")
            pairs = [(getattr(clip, what), clip.sample_rate) for clip in clips]
            coded = [(audio, coder.code(audio, rate), rate) for audio, rate in pairs]
            rows.append({"codec": name, "series": what, **mean(_spectral(*one) for one in coded)})
    title, notes = "Identity: encoded and decoded", mean.said(_NO_QUANTISER)
    weights = weights_of(models)
    return Study(title, "codec", rows, _names(clips), notes, weights=weights)


def noise(name: str, clips: Sequence[Clip], levels: Sequence[float], told: Told = print) -> Study:
    """Clean vocals through a model's codec, with Gaussian noise on the scaled latents.

    Args:
        name: of the model.
        clips: the songs.
        levels: standard deviations of the noise.
        told: called with what is being done.
    """
    coder = Coder(load_model(name))
    rows: list[Row] = []
    mean = _Mean(clips)
    for level in levels:
        told(f"noise {level:g}")
        coded = [
            (clip.vocals, coder.code(clip.vocals, clip.sample_rate, level), clip.sample_rate)
            for clip in clips
        ]
        rows.append({"noise": level, **mean(_spectral(*one) for one in coded)})
    title = f"Noise on the latents of {coder.model.config.name}"
    notes, weights = mean.said(_NO_QUANTISER), weights_of([name])
    return Study(title, "noise", rows, _names(clips), notes, weights=weights)


def steps(
    name: str,
    clips: Sequence[Clip],
    counts: Sequence[int],
    starts: Sequence[float],
    told: Told = print,
) -> Study:
    """A model's vocals by the number of sampling steps and the time from which sampling starts.

    Args:
        name: of the model.
        clips: the songs.
        counts: numbers of steps; 0 is the estimate.
        starts: times; 1 is noise, as in the paper.
        told: called with what is being done.
    """
    model = load_model(name)
    rows: list[Row] = []
    mean = _Mean(clips)
    for start in starts:
        for count in counts:
            told(f"{count} steps from {start:g}")
            separator = Separator(model, steps=count, start=start, stems="generated")
            scores = mean(_separated(separator, clips))
            rows.append({"T": float(count), "series": f"start {start:g}", **scores})
    title, notes = f"Steps of {model.config.name}", mean.said(_AS_GENERATED)
    return Study(title, "T", rows, _names(clips), notes, weights=weights_of([name]))


def context(
    name: str, clips: Sequence[Clip], seconds: Sequence[float], told: Told = print
) -> Study:
    """A model's vocals by the length of its chunks, which overlap by the model's share.

    Args:
        name: of the model.
        clips: the songs.
        seconds: lengths.
        told: called with what is being done.
    """
    model = load_model(name)
    rows: list[Row] = []
    mean = _Mean(clips)
    for length in seconds:
        told(f"chunks of {length:g} s")
        samples = round(length * model.codec.sample_rate)
        model.config = replace(model.config, chunk=samples)
        separator = Separator(model, stems="generated")
        rows.append({"seconds": length, **mean(_separated(separator, clips))})
    title = f"Context of {model.config.name}"
    notes, weights = mean.said(_AS_GENERATED), weights_of([name])
    return Study(title, "seconds", rows, _names(clips), notes, weights=weights)


def injection(
    models: Mapping[str, SeparationModel], clips: Sequence[Clip], told: Told = print
) -> Study:
    """Interference in the vocals of models that hear the mixture at other levels.

    Args:
        models: by the name of the levels.
        clips: the songs.
        told: called with what is being done.
    """
    rows: list[Row] = []
    mean = _Mean(clips)
    for name, model in models.items():
        told(f"injection: {name}")
        for start in dict.fromkeys((model.config.sampling.start, 1.0)):
            count = model.config.sampling.steps if start < 1 else 10
            separator = Separator(model, steps=count, start=start, stems="generated")
            scores = mean(_separated(separator, clips, interference=True))
            rows.append({"injection": name, "series": f"start {start:g}, T = {count}", **scores})
    notes = mean.said(_AS_GENERATED)
    return Study("Injection of the mixture", "injection", rows, _names(clips), notes)


def stems(
    models: Sequence[str], clips: Sequence[Clip], peers: Sequence[str] = (), told: Told = print
) -> Study:
    """Both stems of each song by every rule of `stems.RULES`.

    Args:
        models: names, folders or hub ids, with their own settings.
        clips: the songs.
        peers: names of `peers.PEERS`.
        told: called with what is being done.
    """
    systems: dict[str, Callable[[Clip], Mapping[str, Audio]]] = {
        "mixture": lambda clip: dict.fromkeys(STEMS, clip.mixture)
    }
    for peer in peers:
        systems[peer] = partial(_heard, PEERS[peer]())
    for name in models:
        for rule in RULES:
            separator = Separator(name, stems=rule)
            title = f"{separator.model.config.name}, {rule}"
            systems[title] = partial(_heard, separator.separate)
    rows: list[Row] = []
    for name, separate in systems.items():
        told(name)
        for clip in clips:
            found = separate(clip)
            for stem in STEMS:
                scores = _spectral(getattr(clip, stem), found[stem], clip.sample_rate)
                rows.append({"system": name, "series": f"{clip.name}, {stem}", **scores})
    title, weights = "Kinds of stems", weights_of(models)
    return Study(title, "system", rows, _names(clips), means=False, weights=weights)


def _heard(
    separate: Callable[[Audio, int], Mapping[str, Audio]], clip: Clip
) -> Mapping[str, Audio]:
    return separate(clip.mixture, clip.sample_rate)


def with_injection(model: SeparationModel, kind: str) -> SeparationModel:
    """The model with a fresh generator that hears the mixture at the levels of that kind.

    Raises:
        ModelError: if its generator knows no such levels.
    """
    generator = model.config.generator
    if not hasattr(generator, "injection"):
        raise ModelError(f"{model.config.name} has no levels of injection to choose")
    if kind not in INJECTED:
        raise ModelError(f"no injection '{kind}'; there are: {', '.join(INJECTED)}")
    config = replace(model.config, generator=replace(generator, injection=kind))
    fresh = build_model(config)
    fresh.codec.load_state_dict(model.codec.state_dict())
    fresh.conditioner.load_state_dict(model.conditioner.state_dict())
    return fresh


DITHER = 1e-3  # of the references: lossy coding leaves them bands in which SIR is not defined
_NO_QUANTISER = "Continuous latents, no quantiser."
_AS_GENERATED = "Vocals as generated, before any filter of the mixture."


def _separated(
    separator: Separator, clips: Sequence[Clip], interference: bool = False
) -> Iterable[dict[str, float]]:
    for clip in clips:
        vocals = separator.separate(clip.mixture, clip.sample_rate)["vocals"]
        scores = _spectral(clip.vocals, vocals, clip.sample_rate)
        if interference:
            true = {"vocals": clip.vocals, "accompaniment": clip.accompaniment}
            rest = {"vocals": vocals, "accompaniment": clip.mixture - vocals}
            scored = bss_eval(true, rest, clip.sample_rate, window=math.inf, dither=DITHER)
            scores["sir"] = scored["vocals"].medians()["SIR"]
        yield scores


def _spectral(true: Audio, guess: Audio, sample_rate: int) -> dict[str, float]:
    return {
        "usdr": usdr(true, guess),
        "lsd": lsd(true, guess, sample_rate),
        "mel_mae_db": mel_mae_db(true, guess, sample_rate),
        "mel_mae": mel_mae(true, guess, sample_rate),
        "multi_resolution_stft": multi_resolution_stft(true, guess),
    }


class _Mean:
    """The mean of each score over the clips; it notes the clips in which one is not defined."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._names = _names(clips)
        self._without: dict[str, dict[str, None]] = {}  # by score, in the order of the clips

    def __call__(self, scores: Iterable[dict[str, float]]) -> dict[str, float]:
        rows = list(scores)
        means = {}
        for score in rows[0]:
            values = [row[score] for row in rows]
            for name, value in zip(self._names, values, strict=True):
                if math.isnan(value):
                    self._without.setdefault(score, {})[name] = None
            defined = [value for value in values if not math.isnan(value)]
            means[score] = float(np.mean(defined)) if defined else math.nan
        return means

    def said(self, notes: str) -> str:
        """The notes, and which clips are in no mean."""
        lacking = (
            f" {HEADS[score]} is not defined in {', '.join(names)}: in no mean of it."
            for score, names in self._without.items()
        )
        return notes + "".join(lacking)


def _names(clips: Sequence[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def _stored(value: float | str) -> float | str | None:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "–"
    whole = abs(value) >= 100 or float(value).is_integer()
    return f"{value:g}" if whole else f"{value:.3g}"
