"""`solovox separate`: songs in, stems out, one after the other."""

from __future__ import annotations

import logging
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from solovox.errors import SolovoxError, one_line, printable, reason
from solovox.suffixes import SUFFIXES

if TYPE_CHECKING:
    from solovox.separator import Separator

STEMS = ("vocals", "accompaniment")
RULES = ("exact", "wiener", "generated")
QUALITY_SETS = ("steps", "start", "eta", "cutoff", "sampler", "spacing", "takes")
BANDS = ("mixture", "spread")  # of refinement noise
FILES = ("out", "filename")  # options about files, of which a pipe has none
HABITS = {  # of demucs' options, each with a value: what there is in place of them
    "--segment": "chunks are as long as the model wants them",
    "--overlap": "chunks overlap as the model wants them to",
    "--shifts": "--takes N averages so many samples, --quality best several",
    "--clip-mode": "nothing is rescaled; float wav does not clip, for others there is --gain",
    "--mp3-bitrate": "mp3 has 320 kbit/s",
    "--mp3-preset": "mp3 has 320 kbit/s",
}
ALIKE = ("stems", "precision", "backend", "batch_size")  # given once, for regions to redo as well


@dataclass(frozen=True)
class Song:
    """An input file and the name of its output, which may have folders."""

    path: Path
    track: str


class Cutoff(click.ParamType[float | str]):
    """A frequency in Hz, or the name of a band that follows the song."""

    name = "HZ|mixture|spread"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """The frequency as a number, a name as it is."""
        if value in BANDS:
            return str(value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {' nor '.join(BANDS)}", param, ctx)


class Stop:
    """Turns Ctrl-C, SIGTERM and SIGHUP into an orderly exit with status 128 + signal.

    A signal unwinds the stack at once, except while a song is separated: an exception raised within
    a decoder's callback into Python would be lost, so there it waits for `check`.
    """

    def __init__(self) -> None:
        self._number = 0
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is not everywhere
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        with suppress(ValueError):  # signals are the main thread's alone
            self._before = {number: signal.signal(number, self._catch) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals wait for `check`, at the latest that at the end."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self.check()

    def check(self) -> None:
        """Exit if a signal has come."""
        if self._number:
            raise SystemExit(128 + self._number)

    def _catch(self, number: int, frame: object) -> None:
        self._number = number
        if not self._waits:
            self.check()


def _habits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Accept the options of HABITS, unlisted; the command finds what they would say in `meta`."""

    def note(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            name = parameter.opts[0]
            notes = context.meta.setdefault(__name__, [])
            notes.append(f"{name} has no effect here: {HABITS[name]}")

    for name in HABITS:
        command = click.option(name, hidden=True, expose_value=False, callback=note)(command)
    return command


def _list_models(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        raise SolovoxError("`solovox models` lists the models")


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE_OR_FOLDER...")
@click.option(
    "-n",
    "--name",
    "--model",
    "model",
    default="diff-dmx-small",
    show_default=True,
    metavar="MODEL",
    help="A name of `solovox models`, a model's folder, or a hub id.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="separated",
    show_default=True,
    help="Folder of all output: OUT/MODEL/song/vocals.wav.",
)
@click.option(
    "--filename",
    default="{track}/{stem}.{ext}",
    show_default=True,
    help="File below OUT/MODEL, with {track}, {trackext}, {stem}, {ext}; below OUT with {model}.",
)
@click.option("--stem", type=click.Choice(STEMS), help="Write this stem only.")
@click.option(
    "--two-stems",
    type=click.Choice(["vocals"]),
    expose_value=False,
    help="Accepted for habit: it is what is done anyway.",
)
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    hidden=True,
    expose_value=False,
    callback=_list_models,
)
@_habits
@click.option("--mp3", "extension", flag_value="mp3", help="Write mp3, 320 kbit/s.")
@click.option("--ogg", "extension", flag_value="ogg", help="Write Ogg Vorbis.")
@click.option("--flac", "extension", flag_value="flac", help="Write flac, 24 bits.")
@click.option(
    "--wav", "extension", flag_value="wav", default="wav", help="Write wav (the default)."
)
@click.option("--int16", "subtype", flag_value="pcm16", help="Write 16 bits; loud stems clip.")
@click.option("--int24", "subtype", flag_value="pcm24", help="Write 24 bits; loud stems clip.")
@click.option("--float32", "subtype", flag_value="float", help="Write floats (the default of wav).")
@click.option("--gain", type=float, default=0.0, metavar="DB", help="Gain of both stems alike.")
@click.option(
    "--quality",
    type=click.Choice(["fast", "balanced", "best"]),
    help="The model's named settings, which the options below overrule.",
)
@click.option(
    "--takes", type=click.IntRange(min=1), help="Sample so often; the vocals are the mean."
)
@click.option(
    "--uncertainty", is_flag=True, help="Write a map of where takes differ, as npz and PNG."
)
@click.option("--steps", type=int, help="Passes of the generator; 0 takes the one-pass estimate.")
@click.option("--start", type=float, help="Sampling starts here: 1 is noise, less the estimate.")
@click.option("--eta", type=float, help="Share of refinement noise, 0 to 1.")
@click.option("--cutoff", type=Cutoff(), help="Refinement noise is above this, or where it says.")
@click.option("--sampler", help="How steps are made: ddim, heun, dpmpp-2m.")
@click.option("--spacing", help="Where steps lie: uniform, cosine, log-snr.")
@click.option(
    "--settings",
    "repeat",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Do what this file of the studio says; options given beside it win.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@click.option("--stems", type=click.Choice(RULES), help="How stems are made of what is generated.")
@click.option("-d", "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option(
    "--backend",
    default="torch",
    show_default=True,
    help="What computes the generator: torch, openvino or compile.",
)
@click.option("--precision", default="auto", show_default=True, help="fp32 or bf16.")
@click.option("--batch-size", type=int, help="Chunks at once on a GPU.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--resume", is_flag=True, help="Go on where an earlier call with --resume stopped.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but what failed.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is used, outside a terminal too.")
@click.pass_context
def separate(
    context: click.Context,
    /,
    inputs: tuple[str, ...],
    model: str,
    out: Path,
    filename: str,
    stem: str | None,
    extension: str,
    subtype: str | None,
    gain: float,
    uncertainty: bool,
    jobs: int | None,
    resume: bool,
    quiet: bool,
    verbose: bool,
    repeat: Path | None,
    **settings: Any,
) -> None:
    """Separate songs into vocals and accompaniment.

    Folders are searched for songs and keep their structure. The files written are named on standard
    output. A song that fails is told and the others go on; the exit status is then 1. Settings that
    are not given are the model's own. Killed with --resume, the same call goes on where it was.

    `-` reads a song from standard input and writes its vocals, or --stem, as wav to standard
    output.
    """
    console = Console(stderr=True)
    piped = "-" in inputs
    if piped and (len(inputs) > 1 or sys.stdout.isatty()):
        raise click.UsageError("'-' goes alone, with standard output redirected: > vocals.wav")
    if piped and uncertainty:
        raise click.UsageError("'-' has no place for an --uncertainty map; give a file")
    if piped and (extension != "wav" or any(_is_given(context, name) for name in FILES)):
        raise click.UsageError("'-' writes one wav to standard output; give a file for the rest")
    if piped and resume:
        raise click.UsageError("a pipe cannot be resumed; save it to a file first")
    songs, failures = ([], []) if piped else find_songs(inputs, out)
    for failure in failures:
        tell(console, failure)
    if not songs and not piped:
        context.exit(1)

    for habit in () if quiet else context.meta.get(__name__, ()):
        tell(console, habit, "Note")
    with messages(console, quiet, verbose), Stop() as stop:
        separator, redone = _load(context, repeat, jobs, model=model, **settings)
        if piped and redone:
            raise SolovoxError(f"{repeat}: has regions to redo; give a file, not a pipe")
        if piped:
            _through_pipe(separator, stem or "vocals", subtype, gain, stop)
            return
        stems = (stem,) if stem else STEMS
        path_of = partial(separator.path_of, out=out, filename=filename, ext=extension)
        named = name_songs(songs, stems, path_of)
        for before, after in zip(songs, named, strict=True):
            if before != after:
                note = f"{after.path}: becomes '{after.track}', for '{before.track}' is taken"
                tell(console, note, "Note")
        work = partial(
            separator.separate_file,
            out=out,
            filename=filename,
            extension=extension,
            subtype=subtype,
            stems=stems,
            gain=gain,
            redone=redone,
            uncertainty=uncertainty,
            resume=resume,
        )
        failed = len(failures) + separate_all(named, work, stop, console, quiet)
    if failed:
        if len(songs) + len(failures) > 1:
            tell(console, f"{failed} of {len(songs) + len(failures)} failed")
        context.exit(1)


def find_songs(inputs: Sequence[str], out: Path) -> tuple[list[Song], list[str]]:
    """The songs that files and folders stand for, and a line for each folder without any.

    A song that is named twice is taken once. Hidden files and those below `out` are passed over.
    """
    songs: dict[Path, Song] = {}
    failures = []
    for name in inputs:
        if not name:  # Path would take it for the folder at hand
            failures.append("'' names no song; give a file or a folder")
            continue
        path = Path(name)
        if not path.is_dir():
            songs.setdefault(path.resolve(), Song(path, path.stem))
            continue
        found = [file for file in sorted(path.rglob("*")) if _is_song(file, path, out)]
        for file in found:
            track = file.relative_to(path).with_suffix("").as_posix()
            songs.setdefault(file.resolve(), Song(file, track))
        if not found and path.resolve().is_relative_to(out.resolve()):
            failures.append(
                f"{path}: lies in the output folder, where songs are passed over; choose another -o"
            )
        elif not found:
            failures.append(f"{path}: no songs in this folder; they end in {' '.join(SUFFIXES)}")
    return list(songs.values()), failures


def name_songs(
    songs: Sequence[Song], stems: Sequence[str], path_of: Callable[..., Path]
) -> list[Song]:
    """The songs with tracks by which all output files differ: later ones of a name get numbers.

    Args:
        songs: with the tracks they would like.
        stems: the stems of each.
        path_of: (song, stem, track=…) → file.

    Raises:
        SolovoxError: if no track can tell two files apart.
    """
    taken: set[str] = set()
    named = []
    for song in songs:
        for number in count(1):
            track = song.track if number == 1 else f"{song.track} ({number})"
            paths = {_same(path_of(song.path, stem, track=track)) for stem in stems}
            if len(paths) < len(stems):
                raise SolovoxError("--filename must have {stem}, or the stems overwrite each other")
            if not paths & taken:
                break
            if number > len(songs):
                raise SolovoxError("--filename must have {track}, or songs overwrite each other")
        taken |= paths
        named.append(Song(song.path, track))
    return named


def _same(path: Path) -> str:
    """What is equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _is_song(file: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return (
        file.suffix.lower() in SUFFIXES
        and not hidden
        and file.is_file()
        and not file.resolve().is_relative_to(out.resolve())
    )


def separate_all(
    songs: Sequence[Song],
    work: Callable[..., dict[str, Path]],
    stop: Stop,
    console: Console,
    quiet: bool,
) -> int:
    """How many songs failed."""
    failed = 0
    with _bar(console, quiet) as bar:
        for number, song in enumerate(songs, 1):
            title = f"[{number}/{len(songs)}] {printable(song.path.name)}"
            task = bar.add_task(escape(title), total=1.0)

            def show(share: float, task: TaskID = task) -> None:
                stop.check()
                bar.update(task, completed=share)

            try:
                with stop.deferred():
                    paths = work(song.path, track=song.track, progress=show)
            except Exception as error:  # of any kind: the other songs are to be done
                failed += 1
                tell(console, _one_line(song.path, error))
            else:
                for path in () if quiet else paths.values():
                    print(click.format_filename(path))  # click.echo would break into the bar
            bar.remove_task(task)
    return failed


Redone = list[tuple[float, float, "Separator"]]


def _load(
    context: click.Context, repeat: Path | None, jobs: int | None, **settings: Any
) -> tuple[Separator, Redone]:
    """The separator, and the regions that are generated again after it, with theirs."""
    import torch

    from solovox.allocation import keep_memory
    from solovox.separator import Separator
    from solovox.takes import read_take

    keep_memory()

    redone: Redone = []
    if repeat:
        take = read_take(repeat)
        jobs = jobs or take.threads
        given = {name for name in settings | {"model": ""} if _is_given(context, name)}
        if "model" in given:
            take = take.with_model(settings["model"])
        told = {**take.settings.arguments(), "device": take.device}
        if "quality" in given:
            told = {name: value for name, value in told.items() if name not in QUALITY_SETS}
        settings |= {name: value for name, value in told.items() if name not in given}
    if jobs:
        torch.set_num_threads(jobs)
    separator = Separator(**settings)
    if repeat:
        models = {settings["model"]: separator.model}
        for redo in take.redone:
            told = {**redo.settings.arguments(), "device": settings["device"]}
            told |= {name: settings[name] for name in ALIKE if name in given}
            model = models.get(told["model"], told["model"])
            again = Separator(**{**told, "model": model})
            models[told["model"]] = again.model
            redone.append((redo.start, redo.end, again))
    return separator, redone


def _is_given(context: click.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source not in (None, ParameterSource.DEFAULT)


def _through_pipe(
    separator: Separator, stem: str, subtype: str | None, gain: float, stop: Stop
) -> None:
    import numpy as np

    from solovox.audio import AudioReader, AudioWriter
    from solovox.separator import BLOCK, check_gain, warn_of_clipping

    check_gain(gain)
    factor = np.float32(10 ** (gain / 20))
    with AudioReader(sys.stdin.buffer) as reader:
        rate, channels = reader.sample_rate, reader.channels
        try:
            with AudioWriter(sys.stdout.buffer, rate, channels, subtype) as writer:
                for part in separator.stream(reader.blocks(BLOCK), rate, name="standard input"):
                    stop.check()
                    writer.write(part[stem] * factor)
            warn_of_clipping("standard input", [writer], gain)
        except BaseException:
            # Whoever reads may be gone: what is still buffered must not fail once more at exit.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def _bar(console: Console, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # else paths would go where the bar goes
    )


def tell(console: Console, message: str, kind: str = "Error") -> None:
    """Print a message of that kind as one line on standard error."""
    line = f"{kind}: {one_line(message)}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _one_line(path: Path, error: Exception) -> str:
    """A failure as one line that names the song."""
    text = reason(error)
    if isinstance(error, SolovoxError):
        return text if printable(str(path)) in text else f"{path}: {text}"
    return f"{path}: unexpected {type(error).__name__}: {text}"


@contextmanager
def messages(console: Console, quiet: bool, verbose: bool = False) -> Iterator[None]:
    """Shows what the package logs; notes where somebody looks on, or if it is to be verbose."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.levelno < logging.WARNING:
                console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
            else:
                tell(console, text, "Warning")

    logger, handler = logging.getLogger("solovox"), Handler()
    before = logger.level
    chatty = (console.is_terminal or verbose) and not quiet
    logger.setLevel(logging.INFO if chatty else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
