"""`solovox export`: a run's weights as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Of the best validation, or the newest.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the weights on disk; the last two take half the space.",
)
@click.option("--name", help="The model's name, if not that of the folder OUT.")
@click.option("--licence", help="The model's licence, for the card.")
@click.option("--card-notes", type=click.File(encoding="utf-8"), help="Markdown for the card.")
def export(
    run: Path,
    out: Path,
    weights: str,
    dtype: str,
    name: str | None,
    licence: str | None,
    card_notes: TextIO | None,
) -> None:
    """Make a model folder OUT of the training run in the folder RUN.

    It holds the running mean of the weights (safetensors), the configuration, and a model card with
    data, licences, scores and limits. `solovox separate -n OUT song.mp3` uses it.
    """
    from solovox.training.export import export_run

    notes = card_notes.read() if card_notes else ""
    click.echo(export_run(run, out, weights, dtype, name, licence, notes))
