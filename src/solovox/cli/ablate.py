"""`solovox ablate`: the paper's sampling table, on any model and data set."""

from __future__ import annotations

from pathlib import Path

import click

from solovox.cli.evaluate import numbers


@click.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of songs.")
@click.option(
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
    callback=numbers,
    help="Hz; 0 is none.",
)
@click.option("--start", callback=numbers, help="Where sampling starts  [default: the model's].")
@click.option("--sampler", help="Names of samplers, with commas  [default: the model's].")
@click.option(
    "--runs", type=click.IntRange(1), help="Runs a song  [default: 5 if eta > 0, else 1]."
)
@click.option("--seed", default=0, show_default=True, help="Of the first run.")
@click.option("--excerpt", type=click.FloatRange(1), help="Seconds from the middle of each song.")
@click.option("--jobs", "-j", default=1, show_default=True, type=click.IntRange(1))
@click.option("--device", default="auto", show_default=True)
@click.pass_context
def ablate(
    context: click.Context,
    model: str,
    data: Path,
    out: Path,
    steps: tuple[float, ...],
    eta: tuple[float, ...],
    cutoff: tuple[float, ...],
    start: tuple[float, ...],
    sampler: str | None,
    runs: int | None,
    seed: int,
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

    from solovox.evaluation.ablation import Grid, ablation_report, model_cells
    from solovox.evaluation.ablation import ablate as run
    from solovox.evaluation.benchmark import Options, Progress

    names = tuple(name.strip() for name in sampler.split(",")) if sampler else ()
    grid = Grid(tuple(round(number) for number in steps), eta, cutoff, start, names)
    options = Options(runs, seed, excerpt)
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(cell: str) -> Progress:
            bar.reset(task, description=cell, total=None)
            return lambda done, total, song: bar.update(task, completed=done, total=total)

        results = run(model_cells(model, device), grid, data, out, options, jobs, progress)
    click.echo(ablation_report(results))
    if any(result.failures for result in results.values()):
        context.exit(1)
