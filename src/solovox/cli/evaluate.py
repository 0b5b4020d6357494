"""`solovox evaluate`: scores of models, estimates, oracles and peers on a data set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from solovox.errors import SolovoxError

if TYPE_CHECKING:
    from solovox.evaluation.benchmark import Options, Result
    from solovox.evaluation.systems import System


def numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...]:
    """Return the numbers of a list such as 1,2,5, as a click callback."""
    try:
        return tuple(float(word) for word in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list such as 1,2,5") from None


def bands(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float | str, ...]:
    """Return a list such as 0,5000,spread of numbers and of names of bands, as a click callback."""
    found: list[float | str] = []
    for word in value.split(",") if value else ():
        number = re.fullmatch(r"\d+(\.\d*)?", word.strip())
        found += [float(word)] if number else names(context, parameter, word)
    return tuple(found)


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Return the names of a list such as ddim,heun, as a click callback."""
    found = tuple(word.strip() for word in value.split(",")) if value else ()
    if not all(re.fullmatch(r"[A-Za-z][\w+-]*", word) for word in found):
        raise click.BadParameter(f"{value!r} is not a list of names such as ddim,heun")
    return found


@click.command()
@click.argument("systems", nargs=-1)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of songs.")
@click.option(
    "-o",
    "--out",
    default=Path("runs/evaluation"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for results; what is there already is not computed again.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    help="Command that separates {input} to {output}; 'NAME: COMMAND' names it.",
)
@click.option(
    "-j", "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes."
)
@click.option(
    "--runs", type=click.IntRange(1), help="Runs a song  [default: 5 if eta > 0, else 1]."
)
@click.option("--seed", default=0, show_default=True, help="Of the first run.")
@click.option("--songs", default="*", help="Pattern of the names of songs, such as 'cc0-*'.")
@click.option("--excerpt", type=click.FloatRange(1), help="Seconds from the middle of each song.")
@click.option("--bss", is_flag=True, help="BSS-Eval v4 as well (about a minute a song and run).")
@click.option("--speech", is_flag=True, help="PESQ and STOI as well.")
@click.option("--steps", type=click.IntRange(0), help="Of a model's sampler.")
@click.option("--start", type=click.FloatRange(0, 1), help="Where sampling starts: 1 is noise.")
@click.option("--eta", type=click.FloatRange(0, 1), help="Share of refinement noise.")
@click.option("--cutoff", callback=bands, help="That noise is above this, in Hz, or in this band.")
@click.option("--sampler", help="Name of a sampler.")
@click.option("--spacing", help="Where steps lie: uniform, cosine, log-snr.")
@click.option("--takes", type=click.IntRange(1), help="Sample so often; the vocals are the mean.")
@click.option("--quality", help="The model's named settings: fast, balanced, best.")
@click.option("--stems", help="Rule that makes stems of the generated vocals.")
@click.option("-d", "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--curve", callback=numbers, help="Numbers of steps for the steps-quality curve.")
@click.option("--title", default="Evaluation", show_default=True, help="Heading of the report.")
@click.option(
    "--keep-stems",
    type=click.Path(path_type=Path),
    help="Folder for the stems of the first run: DIR/SYSTEM/SONG/vocals.wav.",
)
@click.option("--skip-bad", is_flag=True, help="Leave songs out that cannot be evaluated.")
@click.option("--no-plots", is_flag=True, help="Write tables only.")
@click.pass_context
def evaluate(
    context: click.Context,
    systems: tuple[str, ...],
    data: Path,
    out: Path,
    peers: tuple[str, ...],
    jobs: int,
    runs: int | None,
    seed: int,
    songs: str,
    excerpt: float | None,
    bss: bool,
    speech: bool,
    steps: int | None,
    start: float | None,
    eta: float | None,
    cutoff: tuple[float | str, ...],
    sampler: str | None,
    spacing: str | None,
    takes: int | None,
    quality: str | None,
    stems: str | None,
    device: str,
    curve: tuple[float, ...],
    title: str,
    keep_stems: Path | None,
    skip_bad: bool,
    no_plots: bool,
) -> None:
    """Score SYSTEMS on the songs in a folder, and write a report.

    A system is a model (name, folder or hub id), a folder of estimates (SONG/vocals.wav),
    oracle:NAME (mixture, silence, irm, wiener) or peer:NAME (spleeter, repet, hpss).

    \b
    solovox evaluate diff-dmx-small oracle:irm oracle:mixture --data musdb18hq/test
    solovox evaluate --peer 'demucs -n htdemucs {input} -o {output}' --data songs
    solovox evaluate --peer 'four: demucs -n hdemucs_mmi {input} -o {output}' --data songs
    """
    from solovox.allocation import keep_memory
    from solovox.evaluation.benchmark import Options, check_place
    from solovox.evaluation.report import summary_table, write_report
    from solovox.evaluation.systems import ModelSystem, Sampling, find_peer, find_system, slug

    keep_memory()
    if len(cutoff) > 1:
        raise SolovoxError("one --cutoff at a time; solovox ablate takes several")
    band = cutoff[0] if cutoff else None
    sampling = Sampling(steps, start, eta, band, sampler, stems, spacing, takes, quality)
    found = [find_system(text, sampling, device) for text in systems]
    found += [find_peer(text) for text in peers]
    if not found:
        raise SolovoxError("name something to evaluate: a model, a folder, oracle:irm or --peer")
    if len({slug(system.name) for system in found}) < len(found):
        raise SolovoxError(
            "two systems have the same name; evaluate them to different --out, or give a command a "
            "name: --peer 'NAME: COMMAND'"
        )
    for system in found:  # before any work
        check_place(system, out)
    options = Options(runs, seed, excerpt, bss, speech)
    results = [
        run_shown(system, data, out, options, jobs, skip_bad, songs, keep_stems) for system in found
    ]
    curves: list[list[Result]] = [
        [
            run_shown(
                replace(system, sampling=replace(
                    sampling, steps=round(number), takes=takes if number else 1
                )),
                data, out / "curve", options, jobs, skip_bad, songs,
            )
            for number in curve
        ]
        for system in found
        if isinstance(system, ModelSystem)
    ]  # fmt: skip
    report = write_report(results, out, title, [c for c in curves if c], plots=not no_plots)
    click.echo(summary_table(results, "vocals"))
    click.echo(f"Report: {report}")
    failed = [f"{r.name}: {song}: {why}" for r in results for song, why in r.failures.items()]
    for line in failed:
        click.echo(f"Failed: {line}", err=True)
    if failed:
        context.exit(1)


def run_shown(
    system: System,
    data: Path,
    out: Path,
    options: Options,
    jobs: int,
    skip_bad: bool,
    only: str,
    stems: Path | None = None,
) -> Result:
    """Return a system's results; a bar on stderr shows the songs done."""
    from rich.console import Console
    from rich.progress import Progress

    from solovox.evaluation.benchmark import evaluate as run

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(system.name, total=None)

        def show(done: int, total: int, song: str) -> None:
            bar.update(task, completed=done, total=total)

        return run(system, data, out, options, jobs, show, skip_bad, only, stems)
