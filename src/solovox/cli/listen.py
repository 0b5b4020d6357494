"""`solovox listen`: a MUSHRA listening test, from folders of stems to means and intervals."""

from __future__ import annotations

from pathlib import Path

import click

from solovox.errors import DataError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="Data set with the true stems  [default: FOLDER/reference].",
)
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    help="Folder of the study and its results  [default: FOLDER/listening].",
)
@click.option(
    "--stem", default="vocals", show_default=True, type=click.Choice(["vocals", "accompaniment"])
)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 60))
@click.option("--songs", default=8, show_default=True, type=click.IntRange(1))
@click.option("--title", default="Listening test", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets phones in.")
@click.option("--port", default=8000, show_default=True)
@click.option("--make-only", is_flag=True, help="Make the study and do not serve it.")
@click.option("--analyse", is_flag=True, help="Print what listeners said, and plot it.")
def listen(
    folder: Path,
    reference: Path | None,
    study: Path | None,
    stem: str,
    seconds: float,
    songs: int,
    title: str,
    host: str,
    port: int,
    make_only: bool,
    analyse: bool,
) -> None:
    """Serve a listening test of the systems in FOLDER, one folder a system.

    FOLDER has SYSTEM/SONG/vocals.wav, as solovox evaluate --keep-stems and other separators write
    them. A study is made once; the same command later serves it again.

    \b
    solovox listen stems --reference songs
    solovox listen stems --analyse
    """
    place = study or folder / "listening"
    if analyse:
        _analyse(place)
        return
    from solovox.evaluation.listening.server import ListeningServer
    from solovox.evaluation.listening.study import find_folders, load_study, make_study

    if not (place / "study.json").exists():
        truth = reference or folder / "reference"
        if not truth.is_dir():
            raise DataError(f"{truth}: no such folder; name the true stems with --reference")
        made = make_study(
            find_folders(folder, (truth, place)), truth, place,
            stem=stem, seconds=seconds, most=songs, title=title,
        )  # fmt: skip
    else:
        made = load_study(place)
    click.echo(f"{place}: {len(made.pages)} songs, {', '.join(made.systems)}")
    if make_only:
        return
    with ListeningServer(place, host, port) as server:
        click.echo(f"Serving {server.url} (a new listener: {server.url}?new). Ctrl+C stops it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("Stopped.")


def _analyse(place: Path) -> None:
    from solovox.evaluation.listening.analysis import analyse, analysis_report, plot

    found = analyse(place)
    text = analysis_report(found)
    (place / "analysis.md").write_text(text, "utf-8")
    plot(found, place / "analysis.png")
    click.echo(text)
    click.echo(f"Written: {place / 'analysis.md'}, {place / 'analysis.png'}")
