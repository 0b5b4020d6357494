"""`solovox train`: train a model, or go on with a run that was stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from solovox.errors import ModelError, SolovoxError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from solovox.presets import ModelConfig
    from solovox.training.config import TrainingConfig
    from solovox.training.run import Run

PACKAGES = ("filelock", "lightning", "matplotlib", "tensorboard")
COUNT = click.IntRange(1)


@click.command()
@click.option("--preset", metavar="NAME|FILE", help="What to train, see `solovox models`; or JSON.")
@click.option("--data", metavar="DIR", help="Songs or shards: DIR/train/SONG/…, DIR/valid/SONG/…")
@click.option("--valid", metavar="DIR", help="Songs to validate on, if not DIR/valid.")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The run's folder, made if new.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in OUT, if there is one.")
@click.option("--init", metavar="MODEL", help="Start from this model's weights (fine-tuning).")
@click.option(
    "--teacher",
    "teachers",
    metavar="MODEL",
    multiple=True,
    help="The estimate learns this model's; several: their mean.",
)
@click.option("--max-steps", type=COUNT, help="Steps in all; a new run's stages shrink with it.")
@click.option("--batch-size", type=COUNT, help="Chunks a step, over all processes.")
@click.option(
    "--accumulate", type=COUNT, help="Parts of a batch, one after the other: less memory."
)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="After the warm-up.")
@click.option("--stages", metavar="TEXT", help="FROZEN:UNTIL, … as in conditioner:600000,none.")
@click.option("--seed", type=int, help="Of weights, data and noise.")
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), help="Of the networks.")
@click.option("--log-every", type=COUNT, help="Steps between lines of the log.")
@click.option("--save-every", type=COUNT, help="Steps between checkpoints.")
@click.option("--validate-every", type=COUNT, help="Steps between validations.")
@click.option("--checkpoint-activations", is_flag=True, help="Less memory, a third more time.")
@click.option("--accelerator", default="auto", show_default=True, help="cpu, cuda or mps.")
@click.option("--devices", default="1", show_default=True, help="How many in a machine, or auto.")
@click.option("--nodes", default=1, show_default=True, type=COUNT, help="How many machines.")
@click.option("--strategy", type=click.Choice(["auto", "ddp"]), default="auto", show_default=True)
@click.option("--workers", type=click.IntRange(0), help="Processes that make data, a device.")
@click.pass_context
def train(
    context: click.Context,
    /,
    preset: str | None,
    data: str | None,
    valid: str | None,
    out: Path,
    resume: bool,
    init: str | None,
    teachers: tuple[str, ...],
    checkpoint_activations: bool,
    accelerator: str,
    devices: str,
    nodes: int,
    strategy: str,
    workers: int | None,
    **changes: Any,
) -> None:
    """Train a model on songs, to a folder that can be resumed and exported.

    \b
    solovox train --preset diff-dmx-small --data DIR --out runs/a
    solovox train --out runs/a --resume

    Settings are the preset's recipe, but for those given; a resumed run keeps its own, but for
    those given. Ctrl-C stops after the step at hand and saves.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SolovoxError(f"training needs {', '.join(missing)}: pip install 'solovox[train]'")

    from solovox.allocation import keep_memory
    from solovox.training.loop import Trainer

    keep_memory()
    engine = launch(accelerator, devices, nodes, strategy)
    try:
        if resume and (out / "run.json").exists():
            run = resumed(out, preset, data, valid, init, teachers, changes)
        else:
            run = new(out, preset, data, valid, init, teachers, checkpoint_activations, changes)
        take(out, context, engine)
        workers = default_workers(engine.world_size // nodes) if workers is None else workers
        trainer = Trainer(run, out, engine, workers)
        trainer.resume()
    except SolovoxError:
        if engine.is_global_zero:  # all processes find the same; one tells
            raise
        context.exit(1)
    try:
        finished = trainer.run()
    except KeyboardInterrupt:
        finished = False
    if not engine.is_global_zero:
        return
    if not finished:
        click.echo(f"Stopped. To go on: solovox train --out {out} --resume", err=True)
        context.exit(130)
    click.echo(f"Done: {trainer.step} steps. To use it: solovox export {out} MODEL_FOLDER")


def take(out: Path, context: click.Context, engine: Fabric) -> None:
    """Hold the run's folder until the command ends; the first process does, for all of them.

    Raises:
        SolovoxError: in every process, if another run holds it.
    """
    from solovox.training.run import held

    refused = ""
    if engine.is_global_zero:
        try:
            context.with_resource(held(out))
        except SolovoxError as error:
            refused = str(error)
    if refused := engine.broadcast(refused):
        raise SolovoxError(refused)


def new(
    out: Path,
    preset: str | None,
    data: str | None,
    valid: str | None,
    init: str | None,
    teachers: tuple[str, ...],
    checkpoint_activations: bool,
    changes: Mapping[str, Any],
) -> Run:
    """The settings of a new run.

    Raises:
        SolovoxError: if the folder holds a run already, or a setting cannot be used.
    """
    from solovox.training.config import Stage, shortened
    from solovox.training.run import Run, read_preset

    if (out / "run.json").exists():
        raise SolovoxError(f"{out} holds a run; add --resume to go on with it, or choose another")
    if data is None or (preset is None and init is None):
        raise SolovoxError("a new run needs --preset (or --init) and --data")
    model, recipe = read_preset(preset) if preset else _of_model(str(init))
    if init is not None:
        recipe = replace(recipe, stages=(Stage(),))
    recipe = replace(shortened(recipe, changes["max_steps"]), **_given(changes))
    if checkpoint_activations:
        model = with_checkpointing(model)
    return Run(
        model,
        recipe,
        _absolute(data),
        valid and _absolute(valid),
        init and _absolute(init),
        tuple(map(_absolute, teachers)),
    )


def resumed(
    out: Path,
    preset: str | None,
    data: str | None,
    valid: str | None,
    init: str | None,
    teachers: tuple[str, ...],
    changes: Mapping[str, Any],
) -> Run:
    """The settings of the run in a folder, but for what is given anew.

    Raises:
        SolovoxError: if it is a run of another model, or a setting cannot be used.
    """
    from solovox.training.run import read_preset, read_run

    run = read_run(out)
    if init is not None:
        raise SolovoxError(f"{out} has begun already; --init is for a new run")
    if preset is not None and read_preset(preset)[0].name != run.model.name:
        raise SolovoxError(f"{out} trains {run.model.name}, not {preset}; leave --preset out")
    return replace(
        run,
        training=replace(run.training, **_given(changes)),
        data=_absolute(data) if data else run.data,
        valid=_absolute(valid) if valid else run.valid,
        teachers=tuple(map(_absolute, teachers)) or run.teachers,
    )


def launch(accelerator: str, devices: str, nodes: int, strategy: str) -> Fabric:
    """The engine, its processes started.

    Raises:
        SolovoxError: if the machine does not have what is asked for.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        engine = Fabric(
            accelerator=accelerator,
            devices=int(devices) if devices.isdecimal() else devices,
            num_nodes=nodes,
            strategy=strategy,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        text = " ".join(str(error).split())
        raise SolovoxError(f"cannot train on {devices} x {accelerator}: {text}") from error
    engine.launch()
    return engine


def with_checkpointing(model: ModelConfig) -> ModelConfig:
    """The configuration with activations computed anew backwards, where its networks can.

    Raises:
        ModelError: if none can.
    """
    parts = {part: getattr(model, part) for part in ("conditioner", "generator")}
    changed = {
        part: replace(config, checkpoint_activations=True)
        for part, config in parts.items()
        if "checkpoint_activations" in {f.name for f in fields(config)}
    }
    if not changed:
        raise ModelError(f"{model.name} does not offer --checkpoint-activations; leave it out")
    return replace(model, **changed)


def default_workers(processes: int) -> int:
    """Processes that make data, for each of the machine's training processes."""
    return max(1, min(8, (os.cpu_count() or 1) // (2 * processes)))


def _of_model(name: str) -> tuple[ModelConfig, TrainingConfig]:
    from solovox.checkpoint import load_model
    from solovox.training.config import recipe_of

    config = load_model(name).config
    return config, recipe_of(config)


def _given(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, stages as such."""
    from solovox.training.config import parse_stages

    given = {name: value for name, value in changes.items() if value is not None}
    if "stages" in given:
        given["stages"] = parse_stages(given["stages"])
    return given


def _absolute(place: str) -> str:
    """A path that holds from any folder; addresses and names are left alone."""
    return str(Path(place).resolve()) if Path(place).exists() else place
