"""`solovox study`: the studies of LDM-dmx's paper as commands, each with a table and a plot."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from solovox.cli.evaluate import numbers

if TYPE_CHECKING:
    from solovox.evaluation.studies import Clip, Study

MODEL = "ldm-dmx-small"
_tell = partial(click.echo, err=True)


@click.group()
def study() -> None:
    """Study a latent model: its codec, its decoder, its steps, its context.

    \b
    solovox study identity --songs DIR
    solovox study steps --songs DIR --excerpt 30 --out docs/studies/steps
    """
    from solovox.allocation import keep_memory

    keep_memory()


def _options(command: Any) -> Any:
    """The options that all studies share."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path), help="[default: runs/study/NAME]"),
        click.option("--excerpt", type=click.FloatRange(1), help="Seconds amid each song."),
        click.option(
            "--songs", required=True, type=click.Path(path_type=Path), help="Folder of songs."
        ),
    ):
        command = option(command)
    return command


def _name(command: Any) -> Any:
    return click.option("-n", "--name", default=MODEL, show_default=True, help="Model.")(command)


@study.command()
@click.option("-n", "--name", "names", multiple=True, default=(MODEL,), help="Models; repeatable.")
@click.option("--untrained", is_flag=True, help="Add each codec with fresh weights.")
@_options
def identity(
    names: tuple[str, ...], untrained: bool, songs: Path, excerpt: float | None, out: Path | None
) -> None:
    """Vocals and mixtures through the codec and back."""
    from solovox.evaluation import studies

    _finish(studies.identity(names, _clips(songs, excerpt), untrained, _tell), out, "identity")


@study.command()
@click.option("--levels", default="0,0.05,0.1,0.2,0.3,0.5,1", show_default=True, callback=numbers)
@_name
@_options
def noise(
    levels: tuple[float, ...], name: str, songs: Path, excerpt: float | None, out: Path | None
) -> None:
    """Vocals through the codec, with Gaussian noise on the latents."""
    from solovox.evaluation import studies

    _finish(studies.noise(name, _clips(songs, excerpt), levels, _tell), out, "noise")


@study.command()
@click.option("--steps", "counts", default="1,2,5,10,20,50", show_default=True, callback=numbers)
@click.option("--start", "starts", default="0.3,1", show_default=True, callback=numbers)
@_name
@_options
def steps(
    counts: tuple[float, ...],
    starts: tuple[float, ...],
    name: str,
    songs: Path,
    excerpt: float | None,
    out: Path | None,
) -> None:
    """Quality over the number of sampling steps."""
    from solovox.evaluation import studies

    whole = [round(count) for count in counts]
    _finish(studies.steps(name, _clips(songs, excerpt), whole, starts, _tell), out, "steps")


@study.command()
@click.option("--seconds", default="1,3,6,13.65", show_default=True, callback=numbers)
@_name
@_options
def context(
    seconds: tuple[float, ...], name: str, songs: Path, excerpt: float | None, out: Path | None
) -> None:
    """Quality over the length of the chunks."""
    from solovox.evaluation import studies

    _finish(studies.context(name, _clips(songs, excerpt), seconds, _tell), out, "context")


@study.command()
@click.option("-n", "--name", "names", multiple=True, default=(MODEL,), help="Models; repeatable.")
@click.option("--peer", "peers", multiple=True, help="Another separator, as spleeter; repeatable.")
@_options
def stems(
    names: tuple[str, ...],
    peers: tuple[str, ...],
    songs: Path,
    excerpt: float | None,
    out: Path | None,
) -> None:
    """The kinds of stems: exact, wiener, generated."""
    from solovox.errors import SolovoxError
    from solovox.evaluation import studies
    from solovox.evaluation.peers import PEERS

    if unknown := set(peers) - set(PEERS):
        raise SolovoxError(f"no peer '{unknown.pop()}'; there are: {', '.join(PEERS)}")
    _finish(studies.stems(names, _clips(songs, excerpt), peers, _tell), out, "stems")


@study.command()
@click.option("--data", required=True, help="Data set to train on: DIR/train.")
@click.option("--max-steps", default=200, show_default=True, type=click.IntRange(1))
@click.option("--kinds", default="deep,all", show_default=True, help="Of deep, all, bottleneck.")
@_name
@_options
def injection(
    data: str,
    max_steps: int,
    kinds: str,
    name: str,
    songs: Path,
    excerpt: float | None,
    out: Path | None,
) -> None:
    """The mixture at the deeper levels or at all: train both equally long, compare SIR.

    The codec and the conditioner are NAME's and rest; each generator is fresh. Trainings that are
    in OUT already go on where they stopped.
    """
    from solovox.checkpoint import load_model, save_model
    from solovox.evaluation import studies
    from solovox.evaluation.report import weights_of
    from solovox.training.config import Stage, recipe_of
    from solovox.training.loop import Trainer
    from solovox.training.run import Run
    from solovox.training.state import load_mean

    place = out or Path("runs/study/injection")
    clips, model, trained = _clips(songs, excerpt), load_model(name), {}
    for kind in kinds.split(","):
        begun = studies.with_injection(model, kind)
        start = save_model(begun, place / kind / "start")
        settings = replace(
            recipe_of(model.config),
            max_steps=max_steps,
            stages=(Stage(max_steps, ("conditioner",)), Stage()),
            validate_every=max_steps,
        )
        run = Run(begun.config, settings, str(data), valid=None, init=str(start))
        trainer = Trainer(run, place / kind / "run")
        trainer.valid = None
        trainer.resume()
        if not trainer.run():
            raise click.ClickException("stopped; the same command goes on")
        load_mean(place / kind / "run" / "last.safetensors", begun)
        trained[kind] = begun.eval()
    found = studies.injection(trained, clips, _tell)
    notes = f"{found.notes} Generators trained for {max_steps} steps each, all else equal."
    _finish(replace(found, notes=notes, weights=weights_of([name])), place, "injection")


def _clips(songs: Path, excerpt: float | None) -> list[Clip]:
    from solovox.evaluation.studies import read_clips

    return read_clips(songs, excerpt)


def _command(words: Sequence[str]) -> str:
    """The command line, for other machines: of an absolute path only the name."""
    parts = (word.rpartition("=") for word in words)
    named = (f"{n}{e}{Path(v).name if Path(v).is_absolute() else v}" for n, e, v in parts)
    return shlex.join(["solovox", *named])


def _finish(found: Study, out: Path | None, name: str) -> None:
    place = out or Path("runs/study") / name
    found = replace(found, command=_command(sys.argv[1:]))
    found.save(place)
    click.echo(found.markdown())
    _tell(f"Written: {place}/study.{{json,md,png}}")
