"""`solovox refine`: other separators' vocals, generated again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from solovox.cli.separate import (
    STEMS,
    Stop,
    find_songs,
    messages,
    name_songs,
    separate,
    separate_all,
    tell,
)
from solovox.errors import SolovoxError

# Options that mean the same as for `solovox separate`.
SHARED = {
    *("model", "out", "filename", "stem", "extension", "subtype", "gain", "steps", "start", "eta"),
    *(
        "cutoff",
        "sampler",
        "spacing",
        "takes",
        "quality",
        "uncertainty",
        "seed",
        "stems",
        "device",
        "backend",
        "precision",
        "batch_size",
        "jobs",
        "resume",
        "quiet",
    ),
}


@click.command(params=[option for option in separate.params if option.name in SHARED])
@click.argument("inputs", nargs=-1, required=True, metavar="MIXTURE...")
@click.option(
    "--vocals",
    required=True,
    metavar="FILE",
    help="The vocals to start from; {track} in it stands for the mixture's name.",
)
@click.pass_context
def refine(
    context: click.Context,
    /,
    inputs: tuple[str, ...],
    vocals: str,
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
    **settings: Any,
) -> None:
    """Generate other separators' vocals again, and the accompaniment with them.

    \b
    solovox refine song.mp3 --vocals vocals.wav
    solovox refine album/*.mp3 --vocals 'separated/htdemucs/{track}/vocals.wav'

    The vocals are noised up to --start and generated from there in --steps, by a model that hears
    the mixture: the smaller the start, the closer to what was given. Files go below `refined`, else
    all is as for `solovox separate`.
    """
    console = Console(stderr=True)
    if "-" in inputs:
        raise click.UsageError("'-' is not taken here: both the mixture and the vocals are files")
    if context.get_parameter_source("out") is click.core.ParameterSource.DEFAULT:
        out = Path("refined")
    songs, failures = find_songs(inputs, out)
    for failure in failures:
        tell(console, failure)
    if not songs:
        context.exit(1)
    if len(songs) > 1 and "{track}" not in vocals:
        raise SolovoxError("--vocals must have {track} in it where there are several mixtures")

    with messages(console, quiet), Stop() as stop:
        import torch

        from solovox.allocation import keep_memory
        from solovox.separator import Separator

        keep_memory()
        if jobs:
            torch.set_num_threads(jobs)
        separator = Separator(model=model, **settings)
        stems: Sequence[str] = (stem,) if stem else STEMS
        path_of = partial(separator.path_of, out=out, filename=filename, ext=extension)
        names = {song.path: song.track for song in songs}

        def work(path: Path, **given: Any) -> dict[str, Path]:
            return separator.separate_file(
                path,
                out,
                filename=filename,
                extension=extension,
                subtype=subtype,
                stems=stems,
                gain=gain,
                uncertainty=uncertainty,
                resume=resume,
                vocals=vocals.replace("{track}", names[path]),
                **given,
            )

        named = name_songs(songs, stems, path_of)
        failed = len(failures) + separate_all(named, work, stop, console, quiet)
    if failed:
        context.exit(1)
