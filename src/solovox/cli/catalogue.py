"""`solovox catalogue`: a folder of many songs, many workers, runs that go on where others ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from solovox.cli.separate import Cutoff
from solovox.errors import SolovoxError, one_line

if TYPE_CHECKING:
    from solovox.catalogue.driver import Report

SETTING = "Fixed by the first run."


class _Signals:
    """Notes Ctrl-C, SIGTERM and SIGHUP for whoever asks."""

    number = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Notes them in the body, instead of ending it."""

        def note(number: int, frame: object) -> None:
            self.number = number

        names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not everywhere
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option(
    "--shards",
    type=click.IntRange(1),
    metavar="N",
    help=f"Parts to divide the songs into; 1 if not said. {SETTING}",
)
@click.option(
    "--shard",
    "wanted",
    type=int,
    multiple=True,
    envvar="SLURM_ARRAY_TASK_ID",
    show_envvar=True,
    help="Work on this shard, 0 to N - 1; on all if not said.",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    help="Where workers run: local (processes here), ray, or inline (in this process).",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1),
    help="How many; one per GPU or per THREADS cores if not said.",
)
@click.option(
    "--tries",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How often a song is begun.",
)
@click.option(
    "--limit",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="A worker in which nothing goes on for so long is replaced.",
)
@click.option("--again", is_flag=True, help="Try songs that were set aside once more.")
@click.option(
    "--check", is_flag=True, help="Compare the stems that are there with their hashes first."
)
@click.option("-d", "--device", default="auto", show_default=True, help="cpu, cuda, mps.")
@click.option(
    "-n",
    "--name",
    "--model",
    "model",
    metavar="MODEL",
    help=f"As for `solovox separate`. {SETTING}",
)
@click.option(
    "--threads", type=click.IntRange(1), help=f"CPU threads of a worker; 1 if not said. {SETTING}"
)
@click.option(
    "--write",
    type=click.Choice(["both", "vocals", "accompaniment"]),
    help=f"The stems to write. {SETTING}",
)
@click.option(
    "--format",
    "extension",
    type=click.Choice(["wav", "flac", "mp3", "ogg"]),
    help=f"Of the stems. {SETTING}",
)
@click.option(
    "--subtype", type=click.Choice(["float", "pcm24", "pcm16"]), help=f"Of their samples. {SETTING}"
)
@click.option("--gain", type=float, metavar="DB", help=f"Of all stems. {SETTING}")
@click.option("--steps", type=int, help=SETTING)
@click.option("--start", type=float, help=SETTING)
@click.option("--eta", type=float, help=SETTING)
@click.option("--cutoff", type=Cutoff(), help=SETTING)
@click.option("--sampler", help=SETTING)
@click.option("--spacing", help=SETTING)
@click.option("--takes", type=click.IntRange(min=1), help=SETTING)
@click.option("--seed", type=int, help=SETTING)
@click.option("--stems", type=click.Choice(["exact", "wiener", "generated"]), help=SETTING)
@click.option("--precision", help=SETTING)
@click.pass_context
def catalogue(
    context: click.Context,
    /,
    source: str,
    target: str,
    wanted: tuple[int, ...],
    engine: str,
    workers: int | None,
    tries: int,
    limit: float,
    again: bool,
    check: bool,
    device: str,
    model: str | None,
    **settings: Any,
) -> None:
    """Separate all songs of a folder, unattended.

    INPUT and OUTPUT are folders, or addresses such as s3://bucket/songs. Run it again to go on
    after whatever stopped it. Runs on the same OUTPUT, on any number of machines, share the work.

    The exit status is 0 if all songs are done, 1 if some are set aside or the run could not go on.
    """
    from solovox.allocation import keep_memory
    from solovox.catalogue.driver import Limits
    from solovox.catalogue.run import separate_catalogue
    from solovox.catalogue.settings import Settings

    if engine == "inline":  # other workers do so in their own processes
        keep_memory()
    console, signals = Console(stderr=True), _Signals()
    begin = time.monotonic()
    with signals.caught(), _bar(console) as bar:
        task = bar.add_task("songs", total=None)
        told = 0

        def show(report: Report) -> None:
            nonlocal told
            for record in report.aside[told:]:
                _tell(console, f"{record['path']}: {record['status']}: {record['error']}")
            told = len(report.aside)
            finished = report.before + report.done + len(report.aside)
            bar.update(task, completed=finished, total=report.songs)

        report = separate_catalogue(
            source,
            target,
            model=model,
            device=device,
            settings=Settings(**settings),
            engine=engine,
            workers=workers,
            shards=wanted or None,
            limits=Limits(tries, limit, again, check),
            stop=lambda: bool(signals.number),
            tell=show,
        )
    for note in report.notes:
        _tell(console, note, "Note")
    click.echo(summary(report, time.monotonic() - begin))
    if signals.number:
        context.exit(128 + signals.number)
    if report.stopped:
        raise SolovoxError(f"{report.stopped}; run the same again to go on")
    context.exit(1 if report.aside else 0)


def summary(report: Report, seconds: float) -> str:
    """One line on what a run did."""
    left = report.songs - report.before - report.done - len(report.aside)
    parts = [
        f"{report.songs} songs: {report.before} were done, {report.done} done now",
        f"{len(report.aside)} set aside",
        *([f"{left} left"] if left else []),
        f"{report.seconds / 3600:.2f} h of sound in {seconds / 3600:.2f} h",
    ]
    return ", ".join(parts)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _tell(console: Console, message: str, kind: str = "Error") -> None:
    line = f"{kind}: {one_line(message)}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
