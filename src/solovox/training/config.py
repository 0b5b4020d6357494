"""The settings of a training run. They are written beside its checkpoints, and a resumed run takes them from there."""

from dataclasses import dataclass, field

from solovox.data.chunks import AugmentConfig
from solovox.training.losses import LossConfig


@dataclass(frozen=True)
class Stage:
    """A part of a run, up to a step, in which some parts of the model are not trained.

    Attributes:
        until: the step at which the stage ends; the last stage may go on for ever (0).
        frozen: parts not trained: "conditioner", "generator". A frozen part's losses are left out.
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
        warmup: steps of linear warm-up.
        clip: largest norm of the gradient.
        ema: share of the running mean of the weights kept at each step.
        stages: what is trained when; LDM-dmx's two-stage schedule is (Stage(600_000, ("conditioner",)), Stage()).
        loss: the losses' weights.
        silence_keep: share of the silent vocal chunks that are kept.
        remix: probability that the accompaniment comes from another song.
        augment: the augmentations.
        seed: of weights, data, times and noise.
        save_every: steps between checkpoints.
        validate_every: steps between validations.
        precision: of the networks: "auto", "bf16" or "fp32" (`solovox.precision`).
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
    loss: LossConfig = field(default_factory=LossConfig)
    silence_keep: float = 0.05
    remix: float = 0.5
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    save_every: int = 1000
    validate_every: int = 5000
    precision: str = "auto"


RECIPES: dict[str, TrainingConfig] = {
    "diff-dmx": TrainingConfig(),
    "diff-dmx-small": TrainingConfig(
        max_steps=40_000,
        batch_size=8,
        learning_rate=1e-3,
        warmup=200,
        ema=0.999,
        stages=(Stage(20_000, ("generator",)), Stage()),
        loss=LossConfig(estimate_kind="spectral"),
        silence_keep=0.2,
        remix=0.8,
        save_every=200,
        validate_every=1000,
    ),
}
"""How each preset is trained: the papers' as published (what they leave open is ours), the small ones as they were made."""


def stage_at(stages: tuple[Stage, ...], step: int) -> Stage:
    """The stage that a step belongs to."""
    return next((stage for stage in stages if not stage.until or step < stage.until), stages[-1])
