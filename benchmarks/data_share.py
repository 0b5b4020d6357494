"""CPU time that a training chunk costs, by stage, and its share of a training step.

    python benchmarks/data_share.py --step-seconds 2.4 --batch-size 8
    python benchmarks/data_share.py --data DIR --step-seconds 2.4 --batch-size 8

Without a data set, four minutes of noise stand in for one (16-bit wav). One thread. Exits with 1
where the share is above the limit.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table

from solovox.data import augment, chunks
from solovox.data.chunks import BROAD, NONE, PAPER, ChunkConfig, TrainingChunks

SETTINGS = {"broad": BROAD, "paper": PAPER, "none": NONE}
# Functions that are timed, by the stage they belong to. None of them calls another of them.
STAGES = {
    "read": ((chunks, "read_stem"), (chunks, "read_accompaniment")),
    "pitch shift, resampling": ((augment, "resample_by"),),
    "tone, low-pass": (
        (augment, "frequencies"),
        (augment, "eq_curve"),
        (augment, "low_pass_curve"),
        (augment, "apply_curve"),
    ),
    "compression": ((augment, "compress"),),
    "width, mono, flip, polarity, gain": tuple(
        (augment, name) for name in ("width", "mono", "channel_flip", "polarity", "gain")
    ),
}


class Stopwatch:
    """CPU seconds spent inside the functions it has wrapped."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        return timed


def make_songs(root: Path) -> None:
    """Four songs of a minute: noise, sung in two thirds of the time."""
    rng = np.random.default_rng(0)
    for name in "ABCD":
        vocals = (0.05 * rng.standard_normal((60 * 44100, 2))).astype(np.float32)
        vocals[-20 * 44100 :] = 0.0
        mixture = vocals + (0.05 * rng.standard_normal(vocals.shape)).astype(np.float32)
        (root / name).mkdir()
        soundfile.write(root / name / "vocals.wav", vocals, 44100)
        soundfile.write(root / name / "mixture.wav", mixture, 44100)


def measure(songs: TrainingChunks, count: int) -> tuple[dict[str, float], float]:
    """(CPU ms a chunk by stage, ms of wall time a chunk)."""
    watches = {stage: Stopwatch() for stage in STAGES}
    for index in range(5):
        songs[count + index]
    with ExitStack() as stack:
        for stage, functions in STAGES.items():
            for module, name in functions:
                wrapped = watches[stage].wrap(getattr(module, name))
                stack.enter_context(patch.object(module, name, wrapped))
        wall, cpu = time.perf_counter(), time.process_time()
        for index in range(count):
            songs[index]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    by_stage = {stage: 1e3 * watch.seconds / count for stage, watch in watches.items()}
    by_stage["the rest"] = 1e3 * cpu / count - sum(by_stage.values())
    return by_stage, 1e3 * wall / count


@click.command(help=__doc__.splitlines()[0])
@click.option("--data", type=click.Path(path_type=Path), help="Folder of songs; default: noise.")
@click.option("--samples", default=131072, show_default=True, help="Length of a chunk.")
@click.option("--chunks", "count", default=200, show_default=True, help="Chunks to time.")
@click.option("--augment", "setting", type=click.Choice(list(SETTINGS)), default="broad")
@click.option("--step-seconds", default=0.3, show_default=True, help="Time of a training step.")
@click.option("--batch-size", default=1, show_default=True, help="Chunks in a training step.")
@click.option("--limit", default=0.10, show_default=True, help="Largest share allowed.")
def main(
    data: Path | None,
    samples: int,
    count: int,
    setting: str,
    step_seconds: float,
    batch_size: int,
    limit: float,
) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            make_songs(Path(folder))
        config = ChunkConfig(samples, augment=SETTINGS[setting])
        songs = TrainingChunks(data or folder, config)
        by_stage, wall = measure(songs, count)
    total = sum(by_stage.values())
    share = total * batch_size / (1e3 * step_seconds)
    table = Table("stage", title=f"{count} chunks of {samples} samples, augmentation {setting}")
    table.add_column("CPU ms a chunk", justify="right")
    table.add_column("share of a step", justify="right")
    for stage, spent in {**by_stage, "total": total}.items():
        part = spent * batch_size / (1e3 * step_seconds)
        table.add_row(stage, f"{spent:.2f}", f"{100 * part:.2f} %")
    console = Console()
    console.print(table)
    console.print(
        f"A step of {step_seconds} s, {batch_size} chunk(s): {100 * share:.1f} % of it is data "
        f"(limit {100 * limit:.0f} %; {wall:.1f} ms of wall time a chunk)."
    )
    sys.exit(share > limit)


if __name__ == "__main__":
    main()
