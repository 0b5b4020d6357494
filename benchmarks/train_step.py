"""Seconds and peak memory of a training step, by preset, with and without two ways to save.

Each row is a process of its own: forward, backward, clipping, AdamW and the running mean, on noise,
without data. "kept" tells whether freed memory stays with the process (`solovox.allocation`), which
`solovox train` sees to; "anew" whether activations are computed anew backwards
(--checkpoint-activations). CPU seconds are the steadier figure on a machine that does other work.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --preset diff-dmx-small --batch-size 8
"""

import json
import subprocess
import sys
from itertools import product
from time import perf_counter, process_time

import click
import torch
from rich.console import Console
from rich.table import Table

from solovox.allocation import keep_memory
from solovox.cli.train import with_checkpointing
from solovox.errors import ModelError
from solovox.presets import PRESETS, build_model
from solovox.training.config import PARTS, recipe
from solovox.training.ema import EMA
from solovox.training.losses import SeparationLoss

ROWS = (
    ("diff-dmx", False, False),
    ("diff-dmx", True, False),
    ("diff-dmx", True, True),
    ("diff-dmx-small", True, False),
    ("diff-dmx-small", False, False),
)


def measure(name: str, batch: int, steps: int, kept: bool, anew: bool) -> dict[str, float]:
    """The best seconds and CPU seconds of a few steps, the peak memory in MiB, and parameters."""
    if kept:
        keep_memory()
    torch.manual_seed(0)
    config = with_checkpointing(PRESETS[name]) if anew else PRESETS[name]
    settings = recipe(name)
    model = build_model(config)
    ema = EMA(model, settings.ema)
    loss = SeparationLoss(model, settings.loss, settings.precision)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    chunk = settings.chunk or config.chunk
    audio = 0.1 * torch.randn(2, batch, 2, chunk)
    eps = torch.randn(batch, model.codec.channels, model.codec.frames(chunk))
    seconds, cpu = [], []
    for step in range(steps + 1):
        start = perf_counter(), process_time()
        losses = loss(audio.sum(dim=0), audio[0], torch.rand(batch), eps)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, dict.fromkeys(PARTS, step))
        seconds.append(perf_counter() - start[0])
        cpu.append(process_time() - start[1])
    import resource

    return {
        "millions": sum(p.numel() for p in model.parameters()) / 1e6,
        "seconds": min(seconds[1:]),
        "cpu": min(cpu[1:]),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@click.command(help=__doc__.splitlines()[0])
@click.option("--preset", help="This preset only, with and without each.")
@click.option("--batch-size", default=1, show_default=True)
@click.option("--steps", default=2, show_default=True, help="Timed steps, after one that is not.")
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
@click.option("--one", hidden=True, help="Measure this row and print JSON.")
def main(preset: str | None, batch_size: int, steps: int, threads: int, one: str | None) -> None:
    torch.set_num_threads(threads)
    if one is not None:
        print(json.dumps(measure(*json.loads(one))))
        return
    rows = (
        ROWS if preset is None else [(preset, *pair) for pair in product([True, False], repeat=2)]
    )
    table = Table(title=f"a training step, batch {batch_size}, {threads} threads")
    for heading in ("preset", "parameters", "kept", "anew", "seconds", "CPU seconds", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "preset" else "right")
    for name, kept, anew in rows:
        if anew:
            try:
                with_checkpointing(PRESETS[name])
            except ModelError:
                continue
        row = json.dumps((name, batch_size, steps, kept, anew))
        command = [sys.executable, __file__, "--threads", str(threads), "--one", row]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        table.add_row(
            name,
            f"{found['millions']:.1f} M",
            "yes" if kept else "no",
            "yes" if anew else "no",
            f"{found['seconds']:.2f}",
            f"{found['cpu']:.2f}",
            f"{found['mib']:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
