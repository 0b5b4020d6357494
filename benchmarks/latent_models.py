"""What LDM-dmx costs at each size: parameters, arithmetic, memory, and that it learns.

    python benchmarks/latent_models.py [PRESET ...]

Weights are random. A chunk is the preset's, 13.65 s. `once` is what a chunk costs before sampling:
the conditioner, and the codec's encoder where anybody takes the mixture or an estimate; then the
generator's passes and, at the end, the decoder. Forward is one chunk with one pass of the
generator; backward is a training step with both parts, batch 1. Each runs in a process of its own,
for its peak of memory.
"""

import json
import resource
import subprocess
import sys
import time

import click
import torch
from flops import counter
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from solovox.allocation import keep_memory
from solovox.model import SeparationModel
from solovox.presets import PRESETS, build_model
from solovox.training.losses import LossConfig, SeparationLoss

SIZES = ("ldm-dmx-24k", "ldm-dmx-48k", "ldm-dmx-small")


def millions(part: nn.Module) -> float:
    return sum(p.numel() for p in part.parameters()) / 1e6


def chunk_of(model: SeparationModel) -> tuple[Tensor, Tensor]:
    vocals = 0.1 * torch.randn(1, 2, model.config.chunk)
    return vocals + 0.1 * torch.randn_like(vocals), vocals


@torch.no_grad()
def forward(model: SeparationModel) -> dict[str, float]:
    """GFLOP a second of audio of each part."""
    model.eval()
    mixture, _ = chunk_of(model)
    seconds = mixture.shape[-1] / model.codec.sample_rate
    x = torch.randn(1, model.codec.channels, model.codec.frames(mixture.shape[-1]))
    t = torch.tensor([0.5])

    def gflop(count: FlopCounterMode) -> float:
        return count.get_total_flops() / 1e9 / seconds

    with counter() as once:
        features = model.condition(mixture)
    with counter() as step:
        model.velocity(x, t, features)
    with counter() as decode:
        model.codec.decode(x, mixture.shape[-1])
    return {"once": gflop(once), "step": gflop(step), "decode": gflop(decode)}


def backward(model: SeparationModel) -> dict[str, float]:
    """The share of the trained tensors that got a gradient."""
    mixture, vocals = chunk_of(model)
    loss = SeparationLoss(model, LossConfig())
    eps = torch.randn(1, model.codec.channels, model.codec.frames(mixture.shape[-1]))
    sum(loss(mixture, vocals, torch.tensor([0.5]), eps).values()).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    return {"moved": sum(p.grad is not None for p in trained) / len(trained)}


TASKS = {"forward": forward, "backward": backward}


def measure(preset: str, task: str) -> None:
    keep_memory()
    torch.manual_seed(0)
    model = build_model(preset)
    before = time.process_time()
    values = TASKS[task](model)
    values["cpu"] = time.process_time() - before
    values["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values["seconds"] = model.config.chunk / model.codec.sample_rate
    for part in ("codec", "conditioner", "generator"):
        values[part] = millions(model.get_submodule(part))
    print(json.dumps(values))


def result(preset: str, task: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", task, preset]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


@click.command()
@click.argument("presets", metavar="[PRESET]...", nargs=-1, type=click.Choice(list(PRESETS)))
@click.option("--measure", "task", type=click.Choice(list(TASKS)), help="One task, here, as JSON.")
def main(presets: tuple[str, ...], task: str | None) -> None:
    """Measure what presets cost; without any, of LDM-dmx at all sizes."""
    presets = presets or SIZES
    if task:
        for preset in presets:
            measure(preset, task)
        return
    print(
        "| preset | codec, conditioner, generator, M parameters | GFLOP a second of audio: once, "
        "a step, decoding | forward, CPU s | peak MiB | training step, CPU s | peak MiB "
        "| gradients |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for preset in presets:
        f, b = result(preset, "forward"), result(preset, "backward")
        sizes = ", ".join(f"{f[part]:.1f}" for part in ("codec", "conditioner", "generator"))
        flop = ", ".join(f"{f[part]:.2f}" for part in ("once", "step", "decode"))
        print(
            f"| {preset} | {sizes} | {flop} | {f['cpu']:.1f} | {f['mib']:.0f} | {b['cpu']:.1f} "
            f"| {b['mib']:.0f} | {b['moved']:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
