"""Writes docs/results.md, or docs/studies/sampling.md, from nothing but the songs.

    python recipes/results/make.py results --open datasets/open-singing
    python recipes/results/make.py sampling --open datasets/open-singing

Everything is resumable: scores lie in runs/results and are computed once. Songs are named by group,
so the pages hold no paths of a machine.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from solovox.checkpoint import list_models
from solovox.cli.demo import fetch_song
from solovox.evaluation.ablation import PAPER, Grid, ablate, ablation_report, model_cells
from solovox.evaluation.benchmark import Options, Result, evaluate
from solovox.evaluation.comparison import comparison_report
from solovox.evaluation.report import (
    plot_distribution,
    plot_spectrograms,
    song_table,
    summary_table,
    table,
)
from solovox.evaluation.systems import ModelSystem, OracleSystem, PeerSystem, System, slug

SPLEETER = PeerSystem("spleeter")


@dataclass(frozen=True)
class Group:
    """Songs that are scored together."""

    title: str
    about: str
    folder: Path
    only: str = "*"


def groups(open_singing: Path, cache: Path) -> list[Group]:
    found = [
        Group(
            "Falcon 69",
            "Six seconds of a real pop song by The Easton Ellises (CC BY-NC-SA 3.0); no part of it "
            "was trained on. The mixture is the sum of its four stems.",
            fetch_song(cache / "demo-song"),
        ),
        Group(
            "Francium",
            "A real song by Software-Entwicklungskit (CC0), the validation song: it was not "
            "trained on, but settings were chosen by it.",
            open_singing / "valid",
            "cc0-*",
        ),
    ]
    for kind, about in (
        ("speech", "actors speaking over game music"),
        ("psola", "sung by moving the pitch of real speech"),
        ("world", "sung by the WORLD vocoder"),
    ):
        if list((open_singing / "test").glob(f"{kind}-*")):
            found.append(
                Group(
                    f"Open split, {kind}",
                    f"Held-out mixes, {about}; their voices and packages were not trained on.",
                    open_singing / "test",
                    f"{kind}-*",
                )
            )
    return found


def shown(system: System, group: Group, out: Path, options: Options, jobs: int) -> Result:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{group.title}: {system.name}", total=None)
        return evaluate(
            system, group.folder, out, options, jobs,
            lambda done, total, song: bar.update(task, completed=done, total=total),
            only=group.only,
        )  # fmt: skip


@click.group()
def main() -> None:
    """Write the pages of results."""


def common(command):  # type: ignore[no-untyped-def]
    folder = click.Path(path_type=Path)
    for option in (
        click.option("--open", "open_singing", required=True, type=folder, help="The open set."),
        click.option("--cache", default=Path(".cache"), type=folder, help="For the demo's song."),
        click.option("--out", default=Path("runs/results"), type=folder, help="For scores."),
        click.option("--docs", default=Path("docs"), type=folder, help="For pages and pictures."),
        click.option(
            "--models", help="Names or folders, with commas  [default: the bundled ones]."
        ),
        click.option("--excerpt", type=float, help="Seconds from the middle of each song."),
        click.option("--jobs", default=1, help="Processes."),
    ):
        command = option(command)
    return command


@main.command()
@common
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
    ours: list[System] = [ModelSystem(name) for name in names(models)]
    systems = [*ours, SPLEETER, OracleSystem("irm"), OracleSystem("mixture")]
    options = Options(excerpt=excerpt)
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Results",
        "`python recipes/results/make.py results --open datasets/open-singing` writes this page. "
        "[Evaluation](evaluation.md) defines the metrics. Medians over songs, 95 % bootstrap "
        "intervals over songs in brackets, ± is the standard deviation over runs; `s / s` is "
        "seconds of work a second of audio on the machine that made this page. Spleeter was "
        "trained on 25,000 songs and writes nothing above 11 kHz; IRM knows the true stems.",
    ]
    for group in groups(open_singing, cache):
        place = out / slug(group.title)
        found = [shown(system, group, place, options, jobs) for system in systems]
        minutes = sum(song.seconds for song in found[0].songs) / 60
        count = f"{len(found[0].songs)} song{'s' * (len(found[0].songs) > 1)}"
        parts += [
            f"## {group.title}",
            f"{group.about} {count}, {minutes:.1f} minutes.",
            "Vocals:",
            summary_table(found, "vocals"),
            "Accompaniment:",
            summary_table(found, "accompaniment"),
        ]
        if len(found[0].songs) > 1:
            picture = f"results-{slug(group.title).lower()}.png"
            plot_distribution(found, images / picture)
            parts += [f"![distribution](images/{picture})", song_table(found, "vocals")]
            comparison = comparison_report(found[len(ours)], found[0])
            parts.append(re.sub(r"^# ", "### ", comparison))
        picture = f"results-{slug(group.title).lower()}-spectrograms.png"
        if plot_spectrograms(found[0], place / slug(found[0].name) / "songs", images / picture):
            parts += [f"{found[0].name}:", f"![spectrograms](images/{picture})"]
    write(docs / "results.md", parts)


@main.command()
@common
@click.option("--runs", type=int, help="Runs of a setting  [default: 5 if eta > 0, else 1].")
def sampling(
    open_singing: Path,
    cache: Path,
    out: Path,
    docs: Path,
    models: str | None,
    excerpt: float | None,
    jobs: int,
    runs: int | None,
) -> None:
    """docs/studies/sampling.md: the paper's grid of steps and refinement noise, and samplers."""
    grids = {
        "From the estimate": Grid((0, 1, 2, 5, 10), (0.0, 0.4), (0.0, 2000.0, 5000.0)),
        "From noise, as in the paper": Grid(
            (10, 20, 50, 100), (0.0, 0.2, 0.4, 0.8), (0.0, 600.0, 2000.0, 5000.0), (1.0,)
        ),
        "Samplers": Grid((5, 10, 20), (0.0,), (0.0,), (1.0,), ("ddim", "heun", "dpmpp-2m")),
    }
    parts = [
        "# Sampling: steps, refinement noise, samplers",
        "`python recipes/results/make.py sampling --open datasets/open-singing` writes this page. "
        "The question is the paper's: how many steps T, how much refinement noise η, and does its "
        "high-pass fc help?",
        "The paper's Table 2, Diff-DMX-RT-extra on MUSDB18-HQ, uSDR in dB:",
        paper_table(),
    ]
    options = Options(runs=runs, excerpt=excerpt)
    for group in groups(open_singing, cache)[:2]:
        for model in names(models):
            for title, grid in grids.items():
                place = out / "sampling" / slug(f"{group.title} {Path(model).name} {title}")
                with Progress(console=Console(stderr=True), transient=True) as bar:
                    task = bar.add_task(f"{group.title}: {model}", total=len(grid.cells()))

                    def cell(name: str, bar=bar, task=task):  # type: ignore[no-untyped-def]
                        bar.update(task, advance=1, description=name)
                        return lambda done, total, song: None

                    found = ablate(
                        model_cells(model), grid, group.folder, place, options, jobs, cell,
                        only=group.only,
                    )  # fmt: skip
                text = ablation_report(found, group.title)
                head = f"# {Path(model).name} on {group.title}: {title}"
                text = re.sub(r"\A# .*", head, text)
                parts.append(re.sub(r"^#", "##", text, flags=re.M).strip())
    write(docs / "studies" / "sampling.md", parts)


def names(models: str | None) -> list[str]:
    return models.split(",") if models else [model.name for model in list_models()]


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
