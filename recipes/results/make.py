"""Writes docs/results.md and docs/studies/sampling.md from nothing but the songs.

    python recipes/results/make.py all --open data                  # both pages, as they are
    python recipes/results/make.py results --open data --excerpt 8
    python recipes/results/make.py sampling --open data --excerpt 2.9 --most 4

`data` is the open set that recipes/open-singing makes. Everything is resumable: scores lie in
runs/results and are computed once for the same songs, weights and settings. A model that is not
there yet is left out, and said. Songs are named by group, so the pages hold no paths of a machine.
What `results` scores lies in .cache/scored: the true stems, rounded to 16 bits.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from solovox.audio import write_audio
from solovox.checkpoint import list_models, load_model
from solovox.cli.demo import fetch_song
from solovox.data.index import find_songs, read_pair
from solovox.errors import ModelError
from solovox.evaluation.ablation import (
    PAPER,
    Grid,
    ablation_report,
    compared_with_plain,
    label,
    refinement_effects,
)
from solovox.evaluation.benchmark import STEMS, Options, Result, evaluate
from solovox.evaluation.comparison import comparison_report
from solovox.evaluation.metrics import as_16_bit
from solovox.evaluation.report import (
    plot_distribution,
    plot_spectrograms,
    song_table,
    summary_table,
    table,
    weights_line,
    weights_of,
)
from solovox.evaluation.systems import (
    ModelSystem,
    OracleSystem,
    PeerSystem,
    Sampling,
    System,
    slug,
)

MODELS = ("diff-dmx-small", "ldm-dmx-small")
SPLEETER = PeerSystem("spleeter")
SUMMARY = "(the verdicts)"  # their place on the page
REAL = 30.0  # seconds of the one long real song


@dataclass(frozen=True)
class Group:
    """Songs that are scored together.

    Attributes:
        title: heading.
        about: what they are, in a sentence.
        folder: where they are.
        only: pattern of their names.
        excerpt: seconds from the middle of each; None is all.
    """

    title: str
    about: str
    folder: Path
    only: str = "*"
    excerpt: float | None = None


def groups(open_singing: Path, cache: Path, excerpt: float | None) -> list[Group]:
    found = [
        Group(
            "Falcon 69",
            "Six seconds of a real pop song by The Easton Ellises (CC BY-NC-SA 3.0); no part of it "
            "was trained on. The mixture is the sum of its four stems, which come from AAC: "
            "unrounded they hold nothing at the top, and LSD would compare nothing with nothing.",
            fetch_song(cache / "demo-song"),
        ),
        Group(
            "Open split",
            "The held-out test split of the open training set: speech is actors speaking over "
            "music, psola is sung by moving the pitch of real speech, world by the WORLD vocoder. "
            "Their voices and packages of music were not trained on. None of it is a real song.",
            open_singing / "test",
            excerpt=excerpt,
        ),
    ]
    if list((open_singing / "valid").glob("cc0-Francium")):
        found.append(
            Group(
                "Francium",
                "A real song by Software-Entwicklungskit (CC0), the validation song: it was not "
                "trained on, but settings were chosen by it.",
                open_singing / "valid",
                "cc0-Francium",
                REAL,
            )
        )
    return [in_16_bits(group, cache / "scored" / slug(group.title)) for group in found]


def in_16_bits(group: Group, place: Path) -> Group:
    """Return the group with a folder of what is scored of its songs, rounded to 16 bits.

    As floats, so that no sum of stems is clipped; the studies' clips are written likewise.
    """
    shutil.rmtree(place, ignore_errors=True)
    for song in find_songs(group.folder):
        if song.paired and fnmatchcase(song.name, group.only):
            rate, frames = song.sample_rate, song.frames
            if group.excerpt is not None:
                frames = min(frames, round(group.excerpt * rate))
            folder = place / song.name.removesuffix(".stem.mp4")
            folder.mkdir(parents=True)
            pair = read_pair(song, (song.frames - frames) // 2, frames)
            for name, stem in zip(STEMS, pair, strict=True):
                write_audio(folder / f"{name}.wav", as_16_bit(stem), rate, "float")
    return replace(group, folder=place, only="*")


def scored(result: Result) -> str:
    """Return in a sentence of how many songs how many seconds are scored."""
    lengths = sorted(round(song.seconds, 1) for song in result.songs)
    each = " to ".join(f"{length:g}" for length in dict.fromkeys((lengths[0], lengths[-1])))
    middle = "the middle " if result.options.excerpt is not None else ""
    if len(lengths) == 1:
        return f"1 song; scored are {middle}{each} s of it."
    return (
        f"{len(lengths)} songs; scored are {middle}{each} s of each, "
        f"{sum(song.seconds for song in result.songs):.0f} s in all."
    )


def shown(system: System, group: Group, out: Path, runs: int | None, jobs: int) -> Result:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{group.title}: {system.name}", total=None)
        return evaluate(
            system, group.folder, out, Options(runs, excerpt=group.excerpt), jobs,
            lambda done, total, song: bar.update(task, completed=done, total=total),
            only=group.only,
        )  # fmt: skip


def there(models: str | None) -> tuple[list[str], list[str]]:
    """Return the models that can be loaded, and lines about the others."""
    wanted = models.split(",") if models else [*MODELS, *(info.name for info in list_models())]
    found, missing = [], []
    for name in dict.fromkeys(wanted):
        try:
            load_model(name)
            found.append(name)
        except ModelError as error:
            click.echo(f"Left out: {error}", err=True)
            missing.append(f"`{Path(name).name}` is not there yet: this page is without it.")
    if not found:
        raise click.ClickException(f"none of these models is there: {', '.join(wanted)}")
    return found, missing


@click.group()
def main() -> None:
    """Write the pages of results."""


def common(command):  # type: ignore[no-untyped-def]
    folder = click.Path(path_type=Path)
    for option in (
        click.option("--open", "open_singing", default=Path("data"), type=folder, help="Open set."),
        click.option("--cache", default=Path(".cache"), type=folder, help="For songs."),
        click.option("-o", "--out", default=Path("runs/results"), type=folder, help="For scores."),
        click.option("--docs", default=Path("docs"), type=folder, help="For pages and pictures."),
        click.option(
            "--models", help=f"Names or folders, with commas  [default: {', '.join(MODELS)}]."
        ),
        click.option("-j", "--jobs", default=1, help="Processes."),
    ):
        command = option(command)
    return command


excerpted = click.option("--excerpt", type=float, help="Seconds from the middle of each song.")


@main.command()
@common
@excerpted
def results(
    open_singing: Path,
    cache: Path,
    out: Path,
    docs: Path,
    models: str | None,
    excerpt: float | None,
    jobs: int,
) -> None:
    """docs/results.md: models, Spleeter and oracles on real songs and on the open split."""
    names, missing = there(models)
    ours: list[System] = [ModelSystem(name) for name in names]
    systems = [*ours, SPLEETER, *(OracleSystem(name) for name in ("irm", "mixture", "silence"))]
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Results",
        "`python recipes/results/make.py results --open data"
        f"{f' --excerpt {excerpt:g}' if excerpt else ''}` writes this page; `data` is [the open "
        "set](../recipes/open-singing/README.md). "
        "[Evaluation](evaluation.md) defines the metrics. Medians over songs (one column has the "
        "mean), 95 % bootstrap intervals over songs in brackets, ± is the standard deviation over "
        "runs; `s / s` is seconds of work a second of audio on a machine that did other things "
        "too, so lines cannot be compared by it. True stems are rounded to 16 bits. Spleeter was "
        "trained on 25,000 songs and has nothing above 11 kHz; IRM knows the true stems; silence "
        "shows what doing nothing gives.",
        weights_line(weights_of(names)),
        *missing,
    ]
    for group in groups(open_singing, cache, excerpt):
        place = out / slug(group.title)
        found = [shown(system, group, place, None, jobs) for system in systems]
        parts += [
            f"## {group.title}",
            " ".join((group.about, *map(scored, found[:1] if found[0].songs else ()))),
            "Vocals:",
            summary_table(found, "vocals"),
            "Accompaniment:",
            summary_table(found, "accompaniment"),
            failed(found),
        ]
        if len(found[0].songs) > 1:
            picture = f"results-{slug(group.title).lower()}.png"
            plot_distribution(found, images / picture)
            parts += [f"![distribution](images/{picture})", song_table(found, "vocals")]
            for own in found[: len(ours)]:
                comparison = comparison_report(found[len(ours)], own)
                parts.append(re.sub(r"^# ", "### ", comparison))
        for own in found[: len(ours)]:
            name = slug(own.name)
            picture = f"results-{slug(group.title).lower()}-spectrograms-{name}.png"
            if plot_spectrograms(own, place / name / "songs", out / picture):
                small = small_copy(out / picture, images)
                parts += [f"{own.name}:", f"![spectrograms](images/{small})"]
    write(docs / "results.md", parts)
    for path in images.glob("results-*"):  # of a page before
        if not any(path.name in part for part in parts):
            path.unlink()


GRIDS: dict[str, list[Grid]] = {
    "From the estimate": [
        Grid((0, 2, 5), (0.0, 0.4), (5000.0, 2000.0, 0.0)),
        Grid((2,), (0.0,), (0.0,), takes=(4,)),
        Grid((1,), (0.0,), (0.0,), (0.1,), takes=(1, 4)),  # `balanced` and `best` of both models
    ],
    "From noise, as in the paper": [
        Grid((10, 20, 50, 100), (0.0, 0.4), (5000.0,), (1.0,)),
        Grid((10, 20), (0.4,), (0.0, 2000.0), (1.0,)),
        *(Grid((steps,), (eta,), (cutoff,), (1.0,)) for steps, eta, cutoff in PAPER),
    ],
    "Samplers and spacings": [
        Grid((5, 10), (0.0,), (0.0,), (1.0,), ("ddim", "dpmpp-2m")),
        Grid((5,), (0.0,), (0.0,), (1.0,), ("heun",)),
        Grid((5, 10), (0.0,), (0.0,), (1.0,), spacing=("cosine", "log-snr")),
        # The spacing that its second order is meant for; with eta = 1, its stochastic kind.
        Grid((5, 10), (0.0,), (0.0,), (1.0,), ("dpmpp-2m",), ("log-snr",)),
        Grid((10,), (1.0,), (0.0,), (1.0,), ("dpmpp-2m",), ("log-snr",)),
    ],
}
"""What the study crosses, by the question; of the paper's, every cell of its Table 2."""

RUNS = {Sampling(10, 1.0, 0.4, 5000.0): 5}
"""Settings that are run more than once even where `--runs 1` saves time: how far runs are apart."""


@main.command()
@common
@excerpted
@click.option("--runs", type=int, help="Runs of a setting  [default: 5 if eta > 0, else 1].")
@click.option("--most", type=int, help="Songs of the open split, evenly spread  [default: all].")
@click.option("--minutes", type=float, help="Begin no setting after so long; the page names them.")
def sampling(
    open_singing: Path,
    cache: Path,
    out: Path,
    docs: Path,
    models: str | None,
    excerpt: float | None,
    jobs: int,
    runs: int | None,
    most: int | None,
    minutes: float | None,
) -> None:
    """docs/studies/sampling.md: the paper's grid of steps and refinement noise, and samplers."""
    names, missing = there(models)
    filters = {name for name in names if load_model(name).codec.has_frequencies}
    given = {"excerpt": excerpt, "most": most, "runs": runs, "minutes": minutes}
    asked = "".join(f" --{name} {value:g}" for name, value in given.items() if value is not None)
    parts = [
        "# Sampling: steps, refinement noise, samplers",
        f"`python recipes/results/make.py sampling --open data{asked}` writes this page; `data` is "
        "[the open set](../../recipes/open-singing/README.md). The question is the paper's: how "
        "many steps T, how much refinement noise η, and does its high-pass fc help?",
        weights_line(weights_of(names)),
        runs_line(runs) if filters else "",
        *(
            f"{Path(name).name} samples in latents, which have no frequencies to filter."
            for name in names
            if name not in filters
        ),
        SUMMARY,
        "## The paper's Table 2",
        "Diff-DMX-RT-extra on MUSDB18-HQ (arXiv 2511.21342), uSDR in dB:",
        paper_table(),
    ]
    verdicts: list[str] = []
    split = some_songs(open_singing / "test", most, out / "sampling" / "songs")
    ends = time.monotonic() + 60 * minutes if minutes else math.inf
    work = [
        (title, model, cell)
        for title, grids in GRIDS.items()
        for model in names
        for cell in dict.fromkeys(
            cell
            for grid in grids
            for cell in (grid if model in filters else grid.unfiltered()).cells()
        )
    ]
    found: dict[tuple[str, str], dict[Sampling, Result]] = {}
    skipped: dict[tuple[str, str], list[str]] = {}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        # The short ones first: what there is no time for is then the fewest.
        for title, model, cell in bar.track(sorted(work, key=lambda item: passes(item[2]))):
            key, place = (title, model), out / "sampling" / slug(f"{Path(model).name} {title}")
            if time.monotonic() < ends:
                times = runs and max(runs, RUNS.get(cell, 1))
                options = Options(times, excerpt=excerpt)
                result = evaluate(ModelSystem(model, cell), split, place, options, jobs)
                found.setdefault(key, {})[cell] = result
            else:
                skipped.setdefault(key, []).append(label(cell))
    compared = {key: compared_with_plain(results) for key, results in found.items()}
    for title in GRIDS:
        for model in names:
            name, key = f"{Path(model).name}: {title}", (title, model)
            if key in found:
                text = ablation_report(found[key], "the open split", compared[key])
                text = re.sub(r"\A# .*", f"# {name}", text)
                parts.append(re.sub(r"^#", "##", text, flags=re.M).strip())
                if said := refinement_effects(found[key], compared[key]).counts():
                    verdicts.append(f"- {name}: {said}")
            if key in skipped:
                parts.append(f"{name}: no time was left for {'; '.join(skipped[key])}.")
    place_of_summary = parts.index(SUMMARY)
    parts[place_of_summary:place_of_summary] = missing
    answers, cautions = [], []
    for model in names:
        keys = [(title, model) for title in GRIDS if (title, model) in found]
        cells, pairs = (
            {cell: value for key in keys for cell, value in part[key].items()}
            for part in (found, compared)
        )
        effects = refinement_effects(cells, pairs)
        if said := effects.answer():
            answers.append(f"{Path(model).name}: {said}")
            cautions.append(effects.caution())
    place_of_summary = parts.index(SUMMARY)
    parts[place_of_summary : place_of_summary + 1] = [
        "## Does filtered noise help here?",
        *answers,
        "\n".join(verdicts),
        *dict.fromkeys(cautions),
    ]
    write(docs / "studies" / "sampling.md", parts)


@main.command(name="all")
@common
@click.option("--results-excerpt", default=8.0, show_default=True, help="Seconds of each song.")
@click.option("--sampling-excerpt", default=12.0, show_default=True, help="Those of the study.")
@click.option("--runs", default=1, show_default=True, help="Runs of a setting of the study.")
@click.option("--most", default=6, show_default=True, help="Songs of the study.")
@click.option("--minutes", type=float, help="Minutes of the study.")
@click.pass_context
def everything(  # type: ignore[no-untyped-def]
    context, results_excerpt, sampling_excerpt, runs, most, minutes, **shared
):
    """Both pages, as they are."""
    context.invoke(results, excerpt=results_excerpt, **shared)
    study = {"runs": runs, "most": most, "minutes": minutes}
    context.invoke(sampling, excerpt=sampling_excerpt, **study, **shared)


def small_copy(picture: Path, folder: Path) -> str:
    """Return the name of a copy as JPEG, a tenth of the size: pictures stay in the history."""
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").resize((900, 900 * image.height // image.width)).save(
            folder / f"{picture.stem}.jpg", quality=60, optimize=True
        )
    return f"{picture.stem}.jpg"


def passes(cell: Sampling) -> int:
    once = (cell.steps or 0) * (cell.takes or 1) * (1 + (cell.sampler == "heun"))
    return once * RUNS.get(cell, 1)


def runs_line(runs: int | None) -> str:
    """Return how often settings were run, where it was said."""
    if runs is None:
        return ""
    more = [f"{label(cell)} is run {count} times" for cell, count in RUNS.items() if count > runs]
    return "; ".join([f"Runs a setting: {runs}", *more]) + "."


def some_songs(split: Path, most: int | None, place: Path) -> Path:
    """Return a folder with links to songs, evenly spread over the names; the split for all."""
    songs = sorted(path for path in split.iterdir() if path.is_dir())
    if most is None or most >= len(songs):
        return split
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for number in range(most):
        song = songs[number * len(songs) // most]
        (place / song.name).symlink_to(song.resolve(), target_is_directory=True)
    return place


def failed(found: list[Result]) -> str:
    return "\n".join(
        f"- {result.name}: {song} failed: {why}"
        for result in found
        for song, why in result.failures.items()
    )


def paper_table() -> str:
    columns = list(dict.fromkeys(sorted((eta, cutoff) for _, eta, cutoff in PAPER)))
    heads = [
        "no noise" if not eta else f"η {eta:g} " + (f"fc {cutoff:g} Hz" if cutoff else "unfiltered")
        for eta, cutoff in columns
    ]
    rows = [
        [str(t), *(f"{PAPER[(t, *c)]:.2f}" if (t, *c) in PAPER else "" for c in columns)]
        for t in sorted({t for t, *_ in PAPER})
    ]
    return table(["T", *heads], rows)


def write(path: Path, parts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".md.part")
    temporary.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")
    shutil.move(temporary, path)
    click.echo(path)


if __name__ == "__main__":
    main()
