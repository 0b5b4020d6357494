"""`solovox data`: look into a data set, and cut it into shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from solovox.data.check import Report, SongReport


@click.group()
def data() -> None:
    """Check data sets for training, and pack them."""


@data.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--songs", is_flag=True, help="Show every song, not only the sums.")
@click.pass_context
def check_command(context: click.Context, folder: Path, songs: bool) -> None:
    """Report hours, silence, loudness and faults of the songs in FOLDER.

    Exits with 1 where there are faults.
    """
    from solovox.data.check import check

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading songs", total=None)
        report = check(folder, lambda done, total: bar.update(task, completed=done, total=total))
    console = Console()
    console.print(table_of(report, str(folder), songs))
    for fault in report.faults:
        console.print(f"[red]fault[/red] {fault}", highlight=False, soft_wrap=True)
    if report.faults:
        console.print(f"{len(report.faults)} faults in {folder}")
        context.exit(1)
    console.print("No faults.")


@data.command("shard")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--piece-seconds", default=30.0, show_default=True, help="About how long a piece is.")
@click.option("--pieces", default=64, show_default=True, help="Pieces in an archive.")
@click.option("--format", "suffix", type=click.Choice(["flac", "wav"]), default="flac")
def shard_command(folder: Path, out: Path, piece_seconds: float, pieces: int, suffix: str) -> None:
    """Pack the songs in FOLDER into WebDataset archives in OUT.

    Started again after a stop, it goes on with the archives that are missing.
    """
    from solovox.data.shards import ShardConfig, write_shards

    config = ShardConfig(piece_seconds, pieces, suffix)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Writing archives", total=None)
        count = write_shards(
            folder, out, config, lambda done, total: bar.update(task, completed=done, total=total)
        )
    size = sum(path.stat().st_size for path in out.glob("shard-*.tar"))
    Console().print(f"{count} archives, {size / 1e6:.1f} MB, in {out}")


def table_of(report: Report, title: str, every_song: bool) -> Table:
    """A table with one row a folder of songs (or a song), and their sum."""
    table = Table(title=f"{title}, {report.sample_rate} Hz")
    table.add_column("song" if every_song else "folder", overflow="fold")
    for head in ("songs", "hours", "no voice %", "vocals dB", "mixture dB", "peak dB", "faults"):
        table.add_column(head, justify="right")
    groups: dict[str, list[SongReport]] = defaultdict(list)
    for song in report.songs:
        groups[song.name if every_song else song.name.rpartition("/")[0] or "."].append(song)
    if len(groups) > 1:
        for name, songs in groups.items():
            table.add_row(name, *_cells(songs))
        table.add_section()
    table.add_row("all", *_cells(report.songs, len(report.unusable)))
    return table


def _cells(songs: Iterable[SongReport], unusable: int = 0) -> list[str]:
    """Sums and means of some songs, weighted by their length."""
    songs = list(songs)
    seconds = sum(song.seconds for song in songs)
    sung = [song for song in songs if song.vocals]
    silent = sum(song.silence * song.seconds for song in sung)
    peak = max((song.peak_db for song in songs), default=float("nan"))
    return [
        str(len(songs)),
        f"{seconds / 3600:.2f}",
        f"{100 * silent / max(1e-9, sum(song.seconds for song in sung)):.0f}" if sung else "-",
        _mean([(song.vocals_db, song.seconds) for song in songs]),
        _mean([(song.mixture_db, song.seconds) for song in songs]),
        f"{peak:.1f}",
        str(sum(len(song.faults) for song in songs) + unusable),
    ]


def _mean(levels: list[tuple[float | None, float]]) -> str:
    """Mean of levels in dB, by length; songs without a level are left out."""
    known = [(level, seconds) for level, seconds in levels if level is not None]
    if not known:
        return "-"
    return f"{sum(level * s for level, s in known) / sum(s for _, s in known):.1f}"
