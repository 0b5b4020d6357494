"""The training loop, one for every model, on Lightning Fabric: any device, any number of processes.

    step s:  chunks s·B … s·B + B - 1 ─► losses ─► backward ─► clip ─► AdamW ─► running mean

Everything random is a function of (seed, chunk index), so a run that is killed and resumed gives the same weights, bit for bit, as one
that was not, and several processes the same as one.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from solovox.data.chunks import ChunkConfig, TrainingChunks
from solovox.diffusion.objective import draw_times_and_noise
from solovox.errors import ModelError
from solovox.model import SeparationModel
from solovox.presets import ModelConfig, build_model, config_to_json
from solovox.training.config import Stage, TrainingConfig, stage_at
from solovox.training.ema import EMA
from solovox.training.losses import SeparationLoss
from solovox.training.state import load_state, save_state
from solovox.training.validation import Score, validate


class Trainer:
    """A training run in a folder.

        out/run.json          the settings
        out/last.safetensors  the newest state
        out/best.safetensors  the state with the best validation uSDR
        out/log.jsonl         losses and scores by step
        out/events.*          the same for TensorBoard, with audio and spectrograms

    Args:
        model: what to train.
        config: how to train it.
        data: folder with `train` and, for validation, `valid`.
        out: the run's folder.
        fabric: the engine; one process on the best device by default.
        workers: processes that prepare data.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        data: Path,
        out: Path,
        fabric: Fabric | None = None,
        workers: int = 1,
    ) -> None:
        self.config = config
        self.data = data
        self.out = out
        self.workers = workers
        self.fabric = fabric or Fabric(devices=1)
        self.fabric.launch()
        torch.manual_seed(config.seed)
        self.model = build_model(model)
        self.ema = EMA(self.model, config.ema)
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.model, config.weight_decay), lr=config.learning_rate
        )
        self.step = 0
        self.best = -math.inf
        self._writer: SummaryWriter | None = None
        chunks = ChunkConfig(
            samples=model.chunk,
            sample_rate=self.model.codec.sample_rate,
            silence_keep=config.silence_keep,
            remix=config.remix,
            augment=config.augment,
        )
        self.chunks = TrainingChunks(data / "train", chunks, seed=config.seed)

    def resume(self) -> None:
        """Go on from the newest state in the run's folder, if there is one."""
        last = self.out / "last.safetensors"
        if last.exists():
            self.step = load_state(last, self.model, self.ema.module, self.optimizer)
            self.best = max((s["usdr"] for s in self._log() if "usdr" in s), default=-math.inf)

    def run(self) -> None:
        """Train up to `max_steps`.

        Raises:
            ModelError: if a loss is not finite; the batch is saved in the run's folder.
        """
        config = self.config
        self._prepare_folder()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not self.fabric.is_global_zero) as progress:
            task = progress.add_task("training", total=config.max_steps, completed=self.step)
            while self.step < config.max_steps:
                stage = stage_at(config.stages, self.step)
                for losses in self._run_stage(stage):
                    text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                    progress.update(task, completed=self.step, description=text)
        self._save("last")

    def _run_stage(self, stage: Stage) -> Iterator[dict[str, float]]:
        """Steps up to the end of a stage, yielding the mean losses from time to time."""
        config, fabric = self.config, self.fabric
        end = min(stage.until or config.max_steps, config.max_steps)
        for part in ("codec", "conditioner", "generator"):
            getattr(self.model, part).requires_grad_(part not in stage.frozen)
        loss_module, optimizer = fabric.setup(
            SeparationLoss(self.model, config.loss, config.precision, stage.frozen),
            self.optimizer,
        )
        self.ema.module.to(fabric.device)
        means: dict[str, float] = {}
        since = monotonic()
        for indices, mixture, vocals in self._batches(end):
            self._set_learning_rate()
            losses = self._backward(loss_module, indices, mixture, vocals)
            norm = fabric.clip_gradients(loss_module, optimizer, max_norm=config.clip)
            if not math.isfinite(sum(losses.values()) + float(norm or 0.0)):
                self._stop_at_nan(indices, mixture, vocals)
            optimizer.step()
            optimizer.zero_grad()
            self.ema.update(self.model, self.step)
            self.step += 1
            for name, value in losses.items():
                means[name] = means.get(name, value) * 0.98 + value * 0.02
            if self.step % 50 == 0:
                self._record({**means, "seconds": (monotonic() - since) / 50})
                since = monotonic()
                yield means
            if self.step % config.save_every == 0:
                self._save("last")
            if self.step % config.validate_every == 0:
                self._validate()
                since = monotonic()

    def _batches(self, end: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(indices, mixture, vocals) of this process's share of each step's chunks."""
        size, world, rank = self.config.batch_size, self.fabric.world_size, self.fabric.global_rank
        if size % (world * self.config.accumulate):
            raise ModelError(
                f"batch size {size} does not divide into {world} processes × {self.config.accumulate} parts"
            )
        share = size // world
        steps = [
            list(range(step * size + rank * share, step * size + (rank + 1) * share))
            for step in range(self.step, end)
        ]
        loader = DataLoader(
            self.chunks,
            batch_sampler=steps,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
        )
        for indices, (mixture, vocals) in zip(steps, loader, strict=True):
            device = self.fabric.device
            yield indices, mixture.to(device), vocals.to(device)

    def _backward(
        self, loss_module: Any, indices: list[int], mixture: Tensor, vocals: Tensor
    ) -> dict[str, float]:
        """Gradients of one step, part by part; the mean losses."""
        config, fabric = self.config, self.fabric
        shape = (self.model.codec.channels, self.model.codec.frames(mixture.shape[-1]))
        size = len(indices) // config.accumulate
        totals: dict[str, float] = {}
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            t, eps = draw_times_and_noise(config.seed, indices[part], config.batch_size, shape)
            waiting = start + size < len(indices)
            with fabric.no_backward_sync(loss_module, enabled=waiting):
                losses = loss_module(
                    mixture[part], vocals[part], t.to(fabric.device), eps.to(fabric.device)
                )
                fabric.backward(torch.stack(list(losses.values())).sum() / config.accumulate)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.item() / config.accumulate
        return totals

    def _set_learning_rate(self) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / config.max_steps)))
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * cosine

    def _validate(self) -> None:
        """Score the mean weights on the validation songs; keep them if they are the best so far."""
        if self.fabric.is_global_zero and (self.data / "valid").is_dir():
            stage = stage_at(self.config.stages, self.step - 1)
            score = validate(
                self.ema.module, self.data / "valid", estimate_only="generator" in stage.frozen
            )
            self._record(asdict(score))
            self._show(score)
            if score.usdr > self.best:
                self.best = score.usdr
                self._save("best")
        self.fabric.barrier()

    def _show(self, score: Score) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _save(self, name: str) -> None:
        if self.fabric.is_global_zero:
            path = self.out / f"{name}.safetensors"
            save_state(path, self.step, self.model, self.ema.module, self.optimizer)

    def _record(self, values: dict[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, **values}) + "\n")
        if self._writer is None:
            self._writer = SummaryWriter(str(self.out))
        for name, value in values.items():
            self._writer.add_scalar(name, value, self.step)

    def _log(self) -> list[dict[str, Any]]:
        path = self.out / "log.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["step"] <= self.step]

    def _prepare_folder(self) -> None:
        if not self.fabric.is_global_zero:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        settings = {
            "model": config_to_json(self.model.config),
            "training": asdict(self.config),
            "data": str(self.data),
        }
        part = self.out / "run.json.part"
        part.write_text(json.dumps(settings, indent=2))
        os.replace(part, self.out / "run.json")

    def _stop_at_nan(self, indices: list[int], mixture: Tensor, vocals: Tensor) -> None:
        from safetensors.torch import save_file

        path = self.out / f"nan-step{self.step}.safetensors"
        save_file(
            {"mixture": mixture.cpu(), "vocals": vocals.cpu(), "indices": torch.tensor(indices)}, path
        )
        raise ModelError(
            f"the loss is not finite at step {self.step}; the batch is in {path}; "
            "lower the learning rate, or resume from the last checkpoint"
        )


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices, kernels) and without (biases, gains)."""
    trained = list(model.parameters())
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
