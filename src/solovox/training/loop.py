"""The training loop, one for every model, on Lightning Fabric: any device, any number of processes.

    step s:  chunks s·B … s·B + B - 1 ─► losses ─► backward ─► clip ─► AdamW ─► running mean

Everything random is a function of (seed, chunk index), so a run that is killed and resumed gives
the same weights, bit for bit, as one that was not, and several processes the same as one.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from solovox.checkpoint import load_model
from solovox.codecs.base import LatentCodec
from solovox.coding import Coder
from solovox.data.chunks import ChunkConfig
from solovox.data.shards import open_chunks
from solovox.errors import ModelError, SolovoxError
from solovox.files import explained, write_tensors, written_whole
from solovox.model import SeparationModel
from solovox.presets import build_model, load_pretrained
from solovox.separator import Separator
from solovox.training.batches import Batch, Steps, load, memory_told
from solovox.training.codec_loss import CodecLoss
from solovox.training.config import OBJECTIVES, Stage, learning_rate, stage_at, steps_trained
from solovox.training.display import Display
from solovox.training.ema import EMA
from solovox.training.journal import Journal, read_log
from solovox.training.losses import SeparationLoss
from solovox.training.run import BEST, LAST, Run, write_run
from solovox.training.state import load_state, save_state
from solovox.training.stopping import StopSignal
from solovox.training.validation import mean_scores, song_names, validate

FIT_CHUNKS = 16  # on which the latents' statistics are measured


class Trainer:
    """A training run in a folder; `training.run` tells what the folder holds.

    Args:
        run: what to train, how, and on what.
        out: the run's folder; all processes must see it.
        fabric: the engine, launched; one process on the best device by default.
        workers: processes that prepare data, for each process that trains.

    Raises:
        SolovoxError: if the data cannot be used, or the batch does not divide into equal parts.
    """

    def __init__(self, run: Run, out: Path, fabric: Fabric | None = None, workers: int = 1) -> None:
        self.settings, self.config = run, run.training
        self.out = out
        self.fabric = fabric or Fabric(devices=1)
        self.workers = workers
        torch.manual_seed(self.config.seed)
        self.model = _fresh_model(run).to(self.fabric.device)
        self.teachers = [load_model(name).to(self.fabric.device) for name in run.teachers]
        self.steps = self._open_data()
        self._fit_codec()
        self.ema = EMA(self.model, self.config.ema)
        self.parts = OBJECTIVES[self.config.objective]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.model, self.parts, self.config.weight_decay),
            lr=self.config.learning_rate,
        )
        self.valid = run.valid_songs
        if self.valid is not None:
            song_names(self.valid)
        self.step = 0
        self.scores: dict[int, float] = {}  # step → validation uSDR
        self.journal: Journal | None = None
        self._means = _Means()

    def resume(self) -> None:
        """Go on from the newest state in the run's folder, if there is one.

        Raises:
            ModelError: if it cannot be read.
        """
        if (self.out / LAST).exists():
            self.step = load_state(self.out / LAST, self.model, self.ema.module, self.optimizer)
            names = set(song_names(self.valid)) if self.valid is not None else set()
            for line in read_log(self.out, self.step):
                # Scores on other songs are no measure for these.
                if "usdr" in line and line.get("songs", {}).keys() <= names:
                    self.scores[line["step"]] = _comparable(line["usdr"])

    def run(self) -> bool:
        """Train up to `max_steps`; False if a signal stopped it before.

        Raises:
            ModelError: if a loss is not finite; the batch is saved in the run's folder.
            SolovoxError: if data cannot be read, memory is short, or the folder cannot be written.
        """
        config, fabric = self.config, self.fabric
        fabric.barrier()  # all have read what the first is about to write anew
        pin = fabric.device.type == "cuda"
        batches = load(self.steps, self.step, config.max_steps, self.workers, pin)
        display = Display(config.max_steps, self.step, hidden=not fabric.is_global_zero)
        stage: Stage | None = None
        loss_module, stopping = None, False
        with ExitStack() as stack:
            if fabric.is_global_zero:
                write_run(self.out, self.settings)
                self.journal = stack.enter_context(closing(Journal(self.out, self.step)))
            stop = stack.enter_context(StopSignal())
            stack.enter_context(memory_told())
            stack.enter_context(closing(batches))
            stack.enter_context(display)
            self._validate_if_due(display)
            while self.step < config.max_steps and not stopping:
                before, stage = stage, stage_at(config.stages, self.step)
                if stage is not before:
                    loss_module = fabric.setup_module(self._losses(stage))
                stopping = self._train(loss_module, stage, batches, stop)
                display.advance(self.step)
                last = stopping or self.step == config.max_steps
                if last or self.step % config.log_every == 0:
                    self._log(display)
                if last or self.step % config.save_every == 0 or self._validation_is_due():
                    self._save(LAST)
                if not stopping:
                    self._validate_if_due(display)
        fabric.barrier()  # nobody leaves before the state is on disk
        return not stopping

    def _losses(self, stage: Stage) -> nn.Module:
        """What a step of a stage minimises."""
        config = self.config
        if config.objective == "codec":
            return CodecLoss(self.model, config.codec_loss, config.precision)
        return SeparationLoss(
            self.model, config.loss, config.precision, stage.frozen, self.teachers
        )

    def _train(
        self, loss_module: Any, stage: Stage, batches: Iterator[Batch], stop: StopSignal
    ) -> bool:
        """Take one step; True if any process was asked to stop."""
        config, fabric = self.config, self.fabric
        start = perf_counter()
        batch = next(batches)
        waiting = perf_counter() - start
        losses = self._backward(loss_module, batch.to(fabric.device))
        norm = fabric.clip_gradients(
            loss_module, self.optimizer, max_norm=config.clip, error_if_nonfinite=False
        )
        assert norm is not None  # it is where max_norm is given
        numbers = torch.stack([*losses.values(), norm, norm.new_tensor(float(stop.came))])
        *means, stopping = cast(Tensor, fabric.all_reduce(numbers)).tolist()
        if not math.isfinite(sum(means)):
            self._stop_at_nan(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        trained = [part for part in self.parts if part not in stage.frozen]
        steps = {part: steps_trained(config.stages, part, self.step) for part in trained}
        self.ema.update(self.model, steps)
        self.step += 1
        values = dict(zip([*losses, "norm"], means, strict=True))
        self._means.add({**values, "seconds": perf_counter() - start, "waiting": waiting})
        return bool(stopping)

    def _backward(self, loss_module: Any, batch: Batch) -> dict[str, Tensor]:
        """This process's mean losses; their gradients, mean over all processes, are left behind."""
        fabric, count = self.fabric, self.config.accumulate
        totals: dict[str, Tensor] = {}
        for number, part in enumerate(batch.parts(count), start=1):
            with fabric.no_backward_sync(loss_module, enabled=number < count):
                losses = loss_module(*part)
                fabric.backward(torch.stack(list(losses.values())).sum() / count)
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach().float() / count
        return totals

    def _validation_is_due(self) -> bool:
        every, last = self.config.validate_every, self.config.max_steps
        due = self.step > 0 and (self.step % every == 0 or self.step == last)
        return due and self.valid is not None and self.step not in self.scores

    def _validate_if_due(self, display: Display) -> None:
        """Score the mean weights on the validation songs; keep them if they are the best so far."""
        if self.valid is None or not self._validation_is_due():
            return
        fabric = self.fabric
        scores, excerpt = validate(
            self._system(), self.valid, fabric.global_rank, fabric.world_size, self._sum
        )
        means = mean_scores(scores)
        score = _comparable(means["usdr"])
        if score > self._best():
            self._save(BEST)
        self.scores[self.step] = score
        display.tell(self.step, means)
        if self.journal is not None:
            self.journal.record(self.step, means, scores)
            if excerpt is not None:
                self.journal.show(self.step, excerpt)

    def _system(self) -> Separator | Coder:
        """What is scored: separation by the mean weights, or coding with them."""
        device, precision = self.fabric.device, self.config.precision
        if self.config.objective == "codec":
            return Coder(self.ema.module, device, precision)
        steps = 0 if self._scores_estimate(self.step) else None
        return Separator(self.ema.module, str(device), steps=steps, precision=precision)

    def _scores_estimate(self, step: int) -> bool:
        """Whether the one-pass estimate was scored after a step, for no generator was trained."""
        return "generator" in stage_at(self.config.stages, step - 1).frozen

    def _best(self) -> float:
        """The best score so far of the kind that the present stage has."""
        kind = self._scores_estimate(self.step)
        alike = [s for step, s in self.scores.items() if self._scores_estimate(step) == kind]
        return max(alike, default=-math.inf)

    def _sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.fabric.world_size == 1:
            return tensor
        tensor = tensor.to(self.fabric.device)
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum"))

    def _save(self, name: str) -> None:
        if self.fabric.is_global_zero:
            save_state(self.out / name, self.step, self.model, self.ema.module, self.optimizer)

    def _log(self, display: Display) -> None:
        """Record the means since the last record."""
        means = self._means.take()
        display.tell(self.step, means)
        if self.journal is not None:
            rate = learning_rate(self.config, self.step - 1)
            self.journal.record(self.step, {**means, "learning_rate": rate})

    def _stop_at_nan(self, batch: Batch) -> None:
        path = self.out / f"nan-step{self.step}-process{self.fabric.global_rank}.safetensors"
        indices = torch.tensor(self.steps.indices(self.step))
        with explained(path), written_whole(path) as part:
            write_tensors(part, {**batch._asdict(), "indices": indices})
        raise ModelError(
            f"the loss is not finite at step {self.step}; its batch is in {path}; "
            "resume from the last checkpoint with a lower --learning-rate"
        )

    def _fit_codec(self) -> None:
        """Measure the statistics of latents that have none yet, on the first chunks' vocals."""
        codec, config = self.model.codec, self.config
        known = not isinstance(codec, LatentCodec) or bool(codec.fitted)
        if known or config.objective != "separation" or (self.out / LAST).exists():
            return
        pairs = [self.steps.chunks[index] for index in range(FIT_CHUNKS)]
        mixture, vocals = (torch.stack(audio) for audio in zip(*pairs, strict=True))
        audio = (vocals / self.model.level(mixture)).to(self.fabric.device)
        cast(LatentCodec, codec.eval()).fit(audio)

    def _open_data(self) -> Steps:
        """This process's batches."""
        config, codec = self.config, self.model.codec
        samples = config.chunk or self.settings.model.chunk
        chunks = open_chunks(
            self.settings.train_songs,
            ChunkConfig(
                samples=samples,
                sample_rate=codec.sample_rate,
                silence_keep=config.silence_keep,
                remix=config.remix,
                band_weight=config.band_weight,
                augment=config.augment,
            ),
            config.seed,
        )
        shape = (codec.channels, codec.frames(samples))
        world, rank = self.fabric.world_size, self.fabric.global_rank
        if config.batch_size % (world * config.accumulate):
            raise SolovoxError(
                f"a batch of {config.batch_size} does not divide into {world} processes "
                f"x {config.accumulate} parts; choose a multiple of {world * config.accumulate}"
            )
        return Steps(chunks, config.batch_size, shape, rank, world)


class _Means:
    """Means of numbers by name since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float]) -> None:
        if values.keys() != self._sums.keys():  # another stage has other losses
            self._sums, self._count = dict.fromkeys(values, 0.0), 0
        self._sums = {name: self._sums[name] + value for name, value in values.items()}
        self._count += 1

    def take(self) -> dict[str, float]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _fresh_model(run: Run) -> SeparationModel:
    """The model at step 0: with random weights, or with another model's.

    Raises:
        ModelError: if the other model cannot be loaded or does not fit.
    """
    model = build_model(run.model)
    if run.init is None:
        load_pretrained(model)
    else:
        try:
            model.load_state_dict(load_model(run.init).state_dict())
        except RuntimeError as error:
            raise ModelError(f"{run.init} does not fit the preset {run.model.name}") from error
    return model


def _comparable(score: float | None) -> float:
    """A score that can be compared: none at all is worse than any."""
    return -math.inf if score is None or math.isnan(score) else score


def _decay_groups(
    model: SeparationModel, parts: tuple[str, ...], weight_decay: float
) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices, kernels) and without (biases, gains)."""
    trained = [p for part in parts for p in model.get_submodule(part).parameters()]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
