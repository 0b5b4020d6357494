"""`solovox studio`: the local page to see and hear what the model did."""

from __future__ import annotations

from pathlib import Path

import click

# Before anything is shown: whether what the studio needs is installed (`cli.LazyGroup` tells).
import fastapi  # noqa: F401
import uvicorn  # noqa: F401


@click.command()
@click.option("--port", default=8377, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets phones in.")
@click.option("--token", help="What others must know  [default: made anew where one is needed].")
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder of songs  [default: the user's data]."
)
@click.option(
    "--keep",
    default=30.0,
    show_default=True,
    metavar="DAYS",
    type=click.FloatRange(min=0),
    help="0 keeps all songs.",
)
@click.option("--max-upload", default=500, show_default=True, metavar="MB", type=int)
@click.option("-n", "--name", "--model", "models", multiple=True, help="More models to offer.")
@click.option("-d", "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--open/--no-open", "show", default=False, help="Open the page in a browser.")
def studio(
    port: int,
    host: str,
    token: str | None,
    work: Path | None,
    keep: float,
    max_upload: int,
    models: tuple[str, ...],
    device: str,
    jobs: int | None,
    show: bool,
) -> None:
    """Serve a page on which songs are separated, heard, and generated again where wanted."""
    from platformdirs import user_data_path

    from solovox.allocation import keep_memory
    from solovox.studio.api import Limits
    from solovox.studio.server import Studio

    keep_memory()
    running = Studio(
        work or user_data_path("solovox") / "studio",
        host=host,
        port=port,
        token=token,
        models=models,
        device=device,
        threads=jobs,
        keep=keep,
        limits=Limits(upload=max_upload << 20),
    )
    click.echo(f"The studio is at {running.url}")
    click.echo(f"Songs are in {running.library.work}. Ctrl+C stops it; nothing is lost.")
    if show:
        click.launch(running.url)
    running.run()
