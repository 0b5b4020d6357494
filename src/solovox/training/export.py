"""A run's result as a model folder: a checkpoint's mean weights, and a card that tells of them.

The card is written from what the run's folder and the data set say of themselves: settings, scores
by song, the sources and licences in the data set's manifest.json.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from solovox.checkpoint import save_model
from solovox.codecs.encodec import EncodecConfig
from solovox.data.index import Song, find_songs, read_pair
from solovox.data.shards import is_address
from solovox.errors import ModelError, SolovoxError
from solovox.evaluation.metrics import is_silent, usdr
from solovox.files import explained
from solovox.model import SeparationModel
from solovox.presets import build_model
from solovox.separator import Separator
from solovox.training.journal import Line, read_log
from solovox.training.run import BEST, LAST, Run, read_run
from solovox.training.state import load_mean

WEIGHTS = {"best": BEST, "last": LAST}

APART = 40.0  # dB that bf16 must at least be from fp32
CHANGE = 0.05  # dB of uSDR that it may change
LONG = 20  # steps from noise in which its errors add up

LIMITS = """\
- It separates the singing voice of songs like those it was trained on. Other languages, styles and
  recordings may fare worse, and choirs, screams and talking are not singing.
- It generates vocals: what it returns may hold sounds that were never sung.
- Scores of a few songs say little. Measure it on your own: `solovox evaluate`."""


def export_run(
    run: Path,
    out: Path,
    weights: str = "best",
    dtype: str = "fp32",
    name: str | None = None,
    licence: str | None = None,
    notes: str = "",
) -> Path:
    """The model folder that a run's mean weights were written to.

    Args:
        run: the run's folder.
        out: the model's folder; its files are replaced.
        weights: "best" by validation, or "last". A run that was never validated has no best.
        dtype: of the weights on disk: "fp32", "bf16" or "fp16".
        name: of the model, and of the folder that its stems go to; None is the name of `out`.
        licence: of the model, for its card.
        notes: Markdown for the card.

    Raises:
        ModelError: if there is no run or no such checkpoint in it.
        SolovoxError: if the folder cannot be written.
    """
    settings = read_run(run)
    path = run / WEIGHTS[weights]
    if not path.is_file():
        other = "take --weights last" if weights == "best" else "train it first"
        raise ModelError(f"{run} has no {path.name}; {other}")
    model = build_model(replace(settings.model, name=name or folder_name(out, settings.model.name)))
    step = load_mean(path, model)
    if settings.training.objective == "separation":
        precision, measured = find_precision(model, held_out(settings))
        model.config = replace(model.config, precision=precision)
        notes = f"{notes}\n\n{measured}"
    card = model_card(settings, model.config.name, step, read_log(run, step), licence, notes)
    with explained(out):
        return save_model(model, out, card, dtype)


def folder_name(out: Path, otherwise: str) -> str:
    """The name of a folder, where a model can have it (`presets.config_from_json`)."""
    name = out.resolve().name
    return name if 0 < len(name) <= 100 and name.isprintable() else otherwise


def held_out(run: Run) -> list[Song]:
    """The songs that a run is validated on; none where they are no longer there."""
    try:
        songs = run.valid_songs
        return [song for song in find_songs(songs) if song.paired] if songs else []
    except SolovoxError:
        return []


def find_precision(model: SeparationModel, songs: Sequence[Song]) -> tuple[str, str]:
    """What a model is to compute in, and a sentence on what bf16 changes, for its card.

    A chunk from the middle of the first song with a voice there is separated in bf16 and in fp32,
    as the model does by itself, in two steps at most, and in `LONG` steps from noise. If in one of
    the two its vocals are nearer than `APART` dB, or their uSDR differs by more than `CHANGE` dB,
    it is "fp32", else, or where there is no such song, what the model says.

    Args:
        model: the model.
        songs: with vocals and accompaniment, held out from training.

    Raises:
        DataError: if a song cannot be read.
    """
    for song in songs:
        frames = min(song.frames, model.config.chunk * song.sample_rate // model.codec.sample_rate)
        vocals, accompaniment = read_pair(song, (song.frames - frames) // 2, frames)
        if not is_silent(vocals):
            break
    else:
        why = "nobody sings in the middle of those held out" if songs else "none was held out"
        return model.config.precision, (
            f"What bf16 changes of its vocals was not measured, for want of a song: {why}."
        )
    few = min(2, model.config.sampling.steps)
    apart, change = [], []
    for start, steps in ((model.config.sampling.start, few), (1.0, LONG)):
        exact, found = (
            Separator(
                model, "cpu", steps=steps, start=start, takes=1, precision=precision
            ).separate(vocals + accompaniment, song.sample_rate)["vocals"]
            for precision in ("fp32", "bf16")
        )
        apart.append(usdr(exact, found))
        change.append(usdr(vocals, found) - usdr(vocals, exact))
    good = min(apart) >= APART and max(map(abs, change)) <= CHANGE
    return model.config.precision if good else "fp32", (
        f"Computed in bf16, the vocals of a chunk of {song.name} are {apart[0]:.1f} dB from those "
        f"in fp32, in {LONG} steps from noise {apart[1]:.1f} dB, and their uSDR changes by "
        f"{change[0]:+.3f} and {change[1]:+.3f} dB"
        + ("." if good else ": the model computes in fp32.")
    )


def model_card(
    run: Run, name: str, step: int, log: list[Line], licence: str | None, notes: str
) -> str:
    """A model card, Markdown.

    Args:
        run: the run's settings.
        name: of the model.
        step: the steps done.
        log: the run's records up to there.
        licence: of the model.
        notes: Markdown to put first.
    """
    head = ["---", "library_name: solovox", "tags: [audio, music-source-separation, diffusion]"]
    head += [f"license: {licence}"] if licence else []
    parts = [
        "\n".join([*head, "---"]),
        f"# {name}",
        "Separates the singing voice from songs: `solovox separate -n FOLDER song.mp3`.",
        notes.strip(),
        "## Scores",
        _scores(log, step),
        "## Training data",
        _data(run.data),
        _foreign_weights(run),
        "## Limits",
        LIMITS,
        "## How it was made",
        _making(run, step),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(log: list[Line], step: int) -> str:
    """A table of the last validation, song by song; the mixture as estimate beside it."""
    lines = [line for line in log if "songs" in line]
    if not lines:
        return "It was not validated."
    line = lines[-1]
    rows = {**line["songs"], "**mean**": line}
    table = [
        f"Of the vocals, whole songs held out from training, after step {line['step']} "
        f"(the weights: step {step}). uSDR in dB, higher is better; multi-resolution STFT "
        "distance, lower is better. In brackets: the mixture itself.",
        "",
        "| song | uSDR | multi-resolution STFT |",
        "|---|---|---|",
    ]
    for song, scores in rows.items():
        cells = [
            f"{_number(scores[metric])} ({_number(scores[f'mixture_{metric}'])})"
            for metric in ("usdr", "multi_resolution_stft")
        ]
        table.append(f"| {song} | {cells[0]} | {cells[1]} |")
    return "\n".join(table)


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _data(data: str) -> str:
    """What the data set's manifest says of its training songs, by source."""
    path = Path(data) / "manifest.json"
    if is_address(data) or not path.is_file():
        return f"`{Path(data).name}`; it has no manifest of its sources."
    songs = [song for song in _songs(path) if song.get("split") == "train"]
    uses: dict[tuple[str, str], set[str]] = defaultdict(set)
    for song in songs:
        for source in song.get("sources", ()):
            key = (str(source.get("package", "?")), str(source.get("licence", "?")))
            uses[key].add(str(song.get("song")))
    hours = sum(float(song.get("seconds", 0)) for song in songs) / 3600
    table = [
        f"`{Path(data).name}`: {len(songs)} songs, {hours:.1f} h, made from",
        "",
        "| source | licence | songs |",
        "|---|---|---|",
    ]
    for (source, licence), names in sorted(uses.items()):
        table.append(f"| {source} | {licence} | {len(names)} |")
    return "\n".join(table)


def _songs(path: Path) -> Iterable[dict[str, Any]]:
    try:
        songs: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["songs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a manifest of songs; mend or remove it") from error
    return songs


def _foreign_weights(run: Run) -> str:
    """What is in the folder that was not trained here, and its licence; nothing for most models."""
    codec = run.model.codec
    if not isinstance(codec, EncodecConfig):
        return ""
    return (
        f"## Weights of others\n\nThe codec's weights are Meta's EnCodec (`{codec.source}`), "
        "CC BY-NC 4.0; the conditioner's encoder began as a copy of them. Who shares this folder "
        "must name Meta, and nobody may use it commercially."
    )


def _making(run: Run, step: int) -> str:
    """The settings that made it."""
    from solovox import __version__

    origin = f" from `{run.init}`" if run.init else ""
    settings = json.dumps(asdict(run.training), indent=2)
    return (
        f"solovox {__version__}, preset `{run.model.name}`{origin}, {step} steps; "
        f"the weights are their running mean.\n\n```json\n{settings}\n```"
    )
