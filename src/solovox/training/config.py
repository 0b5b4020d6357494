"""The settings of a training run, and what they mean at a step.

They are written beside the checkpoints, and a resumed run takes them from there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from solovox.data.chunks import PAPER, AugmentConfig
from solovox.errors import ModelError
from solovox.precision import PRECISIONS
from solovox.presets import PRESETS, ModelConfig
from solovox.settings import parse_settings
from solovox.training.codec_loss import CodecLossConfig
from solovox.training.losses import LossConfig

PARTS = ("conditioner", "generator")
"""The parts of a model that learn to separate; the codec rests meanwhile."""
OBJECTIVES: dict[str, tuple[str, ...]] = {"separation": PARTS, "codec": ("codec",)}
"""What a run is for → the parts that it trains."""


@dataclass(frozen=True)
class Stage:
    """A part of a run, up to a step, in which some parts of the model are not trained.

    Attributes:
        until: the step at which the stage ends; the last one ends with the run (0).
        frozen: the parts not trained, of PARTS. A frozen part's losses are left out.
    """

    until: int = 0
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """How to train a model.

    Attributes:
        max_steps: optimiser steps.
        batch_size: chunks a step, over all processes.
        accumulate: parts into which each process cuts its share of the batch, to save memory.
        learning_rate: after the warm-up; it falls to zero at max_steps along a cosine.
        weight_decay: of AdamW, on matrices and kernels.
        warmup: steps of linear warm-up, at the start of each stage.
        clip: largest norm of the gradient.
        ema: share of the running mean of the weights kept at each step.
        stages: what is trained when.
        objective: a name of OBJECTIVES.
        loss: the losses' weights.
        codec_loss: those of a codec.
        silence_keep: share of the silent vocal chunks that are kept.
        remix: probability that the accompaniment comes from another song.
        band_weight: exponent of the songs' weights when such an accompaniment is drawn.
        augment: the augmentations.
        chunk: samples of a training chunk; 0 is as many as the model separates at once.
        seed: of weights, data, times and noise.
        log_every: steps between lines of the log.
        save_every: steps between checkpoints.
        validate_every: steps between validations.
        precision: of the networks: "auto", "bf16" or "fp32" (`solovox.precision`).

    Raises:
        ModelError: if a setting is out of range.
    """

    max_steps: int = 1_000_000
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    warmup: int = 1000
    clip: float = 1.0
    ema: float = 0.9999
    stages: tuple[Stage, ...] = (Stage(),)
    objective: str = "separation"
    loss: LossConfig = field(default_factory=LossConfig)
    codec_loss: CodecLossConfig = field(default_factory=CodecLossConfig)
    silence_keep: float = 0.05
    remix: float = 0.5
    band_weight: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    chunk: int = 0
    seed: int = 0
    log_every: int = 50
    save_every: int = 1000
    validate_every: int = 5000
    precision: str = "auto"

    def __post_init__(self) -> None:
        counts = ("max_steps", "batch_size", "accumulate")
        for name in (*counts, "log_every", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision must be {' or '.join(PRECISIONS)}, not {self.precision}")
        if self.objective not in OBJECTIVES:
            kinds = " or ".join(OBJECTIVES)
            raise ModelError(f"the objective is {kinds}, not {self.objective}")
        ends = [0, *(stage.until for stage in self.stages[:-1])]
        if not self.stages or any(a >= b for a, b in pairwise(ends)):
            raise ModelError("stages must end one after the other, each with a step but the last")
        for stage in self.stages:
            if not set(stage.frozen) < set(PARTS):
                raise ModelError(
                    f"a stage freezes one of {' or '.join(PARTS)}, not {', '.join(stage.frozen)}"
                )


def training_from_json(values: Mapping[str, Any]) -> TrainingConfig:
    """The settings that JSON values describe; what they lack is as in `TrainingConfig`.

    Raises:
        ModelError: if a key is unknown, or a value out of range.
    """
    if not isinstance(values, Mapping):
        raise ModelError("the training must have named settings")
    plain = dict(values)
    parts = (
        ("loss", LossConfig),
        ("codec_loss", CodecLossConfig),
        ("augment", AugmentConfig),
    )
    for name, cls in parts:
        plain[name] = parse_settings(cls, plain.get(name, {}), f"training's {name}")
    stages = plain.get("stages", [{}])
    plain["stages"] = tuple(parse_settings(Stage, stage, "training's stages") for stage in stages)
    return parse_settings(TrainingConfig, plain, "training")


def parse_stages(text: str) -> tuple[Stage, ...]:
    """The stages that a text such as "conditioner:600000,none" names: FROZEN:UNTIL, in order.

    Raises:
        ModelError: if it is of another form.
    """
    stages = []
    for word in text.split(","):
        frozen, _, until = word.strip().partition(":")
        if frozen not in (*PARTS, "none") or (until and not until.isdecimal()):
            raise ModelError(
                f"no stage '{word}'; write FROZEN:UNTIL, as in conditioner:600000,none"
            )
        stages.append(Stage(int(until or 0), () if frozen == "none" else (frozen,)))
    return tuple(stages)


def shortened(config: TrainingConfig, max_steps: int | None) -> TrainingConfig:
    """A recipe for another number of steps: its stages keep their shares; None changes nothing."""
    if max_steps is None:
        return config
    share = max_steps / config.max_steps
    stages = tuple(
        replace(stage, until=max(1, round(stage.until * share)) if stage.until else 0)
        for stage in config.stages
    )
    return replace(config, max_steps=max_steps, stages=stages)


def stage_at(stages: tuple[Stage, ...], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next((stage for stage in stages if not stage.until or step < stage.until), stages[-1])


def steps_trained(stages: tuple[Stage, ...], part: str, step: int) -> int:
    """How many of the first `step` steps a part is trained in."""
    trained, start = 0, 0
    for stage in stages:
        end = step if stage is stages[-1] or not stage.until else min(stage.until, step)
        trained += max(0, end - start) if part not in stage.frozen else 0
        start = max(start, end)
    return trained


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up in each stage, times a cosine over the run."""
    start = max((s.until for s in config.stages[:-1] if s.until <= step), default=0)
    warm = min(1.0, (step - start + 1) / max(1, config.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.max_steps)))
    return config.learning_rate * warm * cosine


RECIPES: dict[str, TrainingConfig] = {
    "diff-dmx": TrainingConfig(augment=PAPER),
    "diff-dmx-small": TrainingConfig(
        max_steps=6_000,
        batch_size=8,
        learning_rate=1e-3,
        warmup=200,
        ema=0.996,
        stages=(Stage(2_700, ("generator",)), Stage()),
        loss=LossConfig(estimate_kind="rms", coefficients=0.5),
        silence_keep=0.2,
        remix=0.8,
        band_weight=0.35,
        augment=AugmentConfig(pitch=0.8, eq=0.6, width=0.3, gain_db=5.0),
        chunk=131_072,
        save_every=200,
        validate_every=500,
    ),
    "encodec-small": TrainingConfig(
        max_steps=4_000,
        batch_size=8,
        learning_rate=3e-4,
        warmup=50,
        ema=0.995,
        objective="codec",
        silence_keep=0.1,
        remix=0.8,
        band_weight=0.35,
        augment=AugmentConfig(pitch=0.5, low_pass=0.0),
        save_every=100,
        validate_every=200,
    ),
    "ldm-dmx-small": TrainingConfig(
        max_steps=1_150,
        batch_size=6,
        learning_rate=1e-3,
        warmup=20,
        ema=0.995,
        stages=(Stage(1_000, ("conditioner",)), Stage()),
        loss=LossConfig(diffusion=0.5, estimate_kind="rms", few_step=1.0, few_step_spectra=0.3),
        silence_keep=0.35,
        remix=0.8,
        band_weight=0.35,
        augment=AugmentConfig(pitch=0.8, eq=0.6, width=0.3, gain_db=5.0),
        chunk=131_072,
        save_every=20,
        validate_every=100,
    ),
    "ldm-dmx": TrainingConfig(augment=PAPER, stages=(Stage(600_000, ("conditioner",)), Stage())),
}
"""How each preset is trained: the papers' as published (what they leave open is ours: the learning
rate, the warm-up's length, the running mean, the share of remixes), the small ones as they were
made."""


def recipe(preset: str) -> TrainingConfig:
    """The recipe of a preset: its own, or that of the family that its name begins with."""
    families = [name for name in RECIPES if f"{preset}-".startswith(f"{name}-")]
    return RECIPES[max(families, key=len)] if families else TrainingConfig()


def recipe_of(model: ModelConfig) -> TrainingConfig:
    """The recipe of a model: of the preset of its name, else of one that has the same parts."""
    alike = (name for name, preset in PRESETS.items() if _parts(preset) == _parts(model))
    return recipe(model.name if model.name in PRESETS else next(alike, model.name))


def _parts(model: ModelConfig) -> tuple[Any, ...]:
    return model.codec, model.conditioner, model.generator
