"""`solovox ablate`: the paper's sampling table, on any model and data set."""

from __future__ import annotations

from pathlib import Path

import click

from solovox.cli.evaluate import bands, names, numbers


@click.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of songs.")
@click.option(
    "-o",
    "--out",
    default=Path("runs/ablation"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for results; cells that are there already are not computed again.",
)
@click.option("--steps", default="20,50,100", show_default=True, callback=numbers)
@click.option("--eta", default="0,0.2,0.4,0.8", show_default=True, callback=numbers)
@click.option(
    "--cutoff",
    default="0,600,2000,5000",
    show_default=True,
    callback=bands,
    help="Hz, or names of bands; 0 is none.",
)
@click.option("--start", callback=numbers, help="Where sampling starts  [default: the model's].")
@click.option("--sampler", callback=names, help="Names of samplers  [default: the model's].")
@click.option("--spacing", callback=names, help="Names of spacings  [default: the model's].")
@click.option("--takes", callback=numbers, help="Takes to average  [default: the model's].")
@click.option(
    "--runs", type=click.IntRange(1), help="Runs a song  [default: 5 if eta > 0, else 1]."
)
@click.option("--seed", default=0, show_default=True, help="Of the first run.")
@click.option("--songs", default="*", help="Pattern of the names of songs, such as 'cc0-*'.")
@click.option("--excerpt", type=click.FloatRange(1), help="Seconds from the middle of each song.")
@click.option(
    "-j", "--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes."
)
@click.option("-d", "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.pass_context
def ablate(
    context: click.Context,
    model: str,
    data: Path,
    out: Path,
    steps: tuple[float, ...],
    eta: tuple[float, ...],
    cutoff: tuple[float | str, ...],
    start: tuple[float, ...],
    sampler: tuple[str, ...],
    spacing: tuple[str, ...],
    takes: tuple[float, ...],
    runs: int | None,
    seed: int,
    songs: str,
    excerpt: float | None,
    jobs: int,
    device: str,
) -> None:
    """Evaluate MODEL over a grid of steps, refinement noise and its cutoff.

    Writes OUT/ablation.md, laid out as Table 2 of the paper. 0 among the steps adds the
    conditioner's own estimate.

    \b
    solovox ablate diff-dmx-small --data songs --steps 0,2,5,20 --eta 0,0.4 --cutoff 0,5000
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    from solovox.allocation import keep_memory
    from solovox.checkpoint import load_model
    from solovox.evaluation.ablation import Grid, ablation_report, model_cells
    from solovox.evaluation.ablation import ablate as run
    from solovox.evaluation.benchmark import Options, Progress

    keep_memory()
    whole = [tuple(round(number) for number in values) for values in (steps, takes)]
    grid = Grid(whole[0], eta, cutoff, start, sampler, spacing, whole[1])
    if any(cutoff) and not load_model(model).codec.has_frequencies:
        click.echo(f"Note: {model} has no frequencies to filter; --cutoff is left out", err=True)
        grid = grid.unfiltered()
    options = Options(runs, seed, excerpt)
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(cell: str) -> Progress:
            bar.reset(task, description=cell, total=None)
            return lambda done, total, song: bar.update(task, completed=done, total=total)

        results = run(model_cells(model, device), grid, data, out, options, jobs, progress, songs)
    click.echo(ablation_report(results))
    if any(result.failures for result in results.values()):
        context.exit(1)
