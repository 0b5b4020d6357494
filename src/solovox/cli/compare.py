"""`solovox compare`: is B better than A, on the songs that both were evaluated on?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--stem", default="vocals", show_default=True, type=click.Choice(["vocals", "accompaniment"])
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Markdown file to write as well."
)
def compare(a: Path, b: Path, stem: str, out: Path | None) -> None:
    """Compare the results A and B of solovox evaluate, song by song.

    A and B are folders with a results.json in them. Each metric gets the median difference with its
    95 % bootstrap interval, the Wilcoxon signed-rank test, and effect sizes.
    """
    from solovox.evaluation.benchmark import load
    from solovox.evaluation.comparison import comparison_report

    text = comparison_report(load(a), load(b), stem)
    click.echo(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", "utf-8")
