"""Quality against time of a model's settings: where `--quality` comes from.

    python benchmarks/quality.py SONGS                       # the bundled model, songs' middle 12 s
    python benchmarks/quality.py SONGS -n FOLDER --seconds 60

SONGS holds a folder a song, each with `vocals` and `accompaniment` as audio files; none of them may
have been trained on. A row is a setting: passes of the generator a chunk, uSDR and LSD of the
vocals (mean over songs; a higher uSDR and a lower LSD are better), CPU seconds a minute of audio on
one thread, and where the machine computes in bf16, how far its vocals are from those in fp32 (at
least 40 dB) and what it changes of the uSDR (at most 0.05 dB): a model beyond that has "precision":
"fp32" in its configuration.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from solovox import Separator, read_audio
from solovox.allocation import keep_memory
from solovox.errors import SolovoxError
from solovox.evaluation.metrics import as_16_bit, is_silent, lsd, usdr
from solovox.presets import QUALITIES

NOISE = {"start": 1.0, "eta": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"quality {name}": {"quality": name} for name in QUALITIES},
    "the estimate alone": {"steps": 0},
    **{
        f"from the estimate, start {start:g}, {steps} steps": {"start": start, "steps": steps}
        for start, steps in ((0.1, 1), (0.3, 1), (0.3, 2), (0.3, 5), (0.5, 2), (0.5, 5))
    },
    "the same, 0.5, dpmpp-2m, 5 steps": {"start": 0.5, "steps": 5, "sampler": "dpmpp-2m"},
    "mean of 2 takes, start 0.3, 2 steps": {"start": 0.3, "steps": 2, "takes": 2},
    "mean of 4 takes, start 0.3, 1 step": {"start": 0.3, "steps": 1, "takes": 4},
    "mean of 4 takes, start 0.3, 2 steps": {"start": 0.3, "steps": 2, "takes": 4},
    "from noise, 5 steps": {"steps": 5, **NOISE},
    "from noise, 20 steps": {"steps": 20, **NOISE},
    "from noise, 50 steps": {"steps": 50, **NOISE},
}


def excerpt(folder: Path, seconds: float) -> tuple[np.ndarray, np.ndarray, int]:
    """(vocals, mixture, rate) of the middle of a song, as a file of 16 bits would hold it."""
    stems = []
    for name in ("vocals", "accompaniment"):
        (path,) = folder.glob(f"{name}.*")
        audio, rate = read_audio(path)
        start = max(0, round(audio.shape[1] / 2 - seconds * rate / 2))
        stems.append(as_16_bit(audio[:, start : start + round(seconds * rate)]))
    return stems[0], stems[0] + stems[1], rate


def decibels(signal: np.ndarray, error: np.ndarray) -> float:
    """Power of a signal over that of an error, in dB."""
    power, lost = (np.square(x, dtype=np.float64).sum() for x in (signal, error))
    return float(10 * np.log10((power + 1e-7) / (lost + 1e-7)))


@click.command()
@click.argument("songs", type=click.Path(exists=True, path_type=Path))
@click.option("-n", "--name", "model", default="diff-dmx-small", show_default=True)
@click.option("--seconds", default=12.0, show_default=True, help="From the middle of each song.")
@click.option("--only", multiple=True, help="Rows whose names have this.")
@click.option("--precision/--no-precision", default=True, help="Compare bf16 with fp32.")
def main(songs: Path, model: str, seconds: float, only: tuple[str, ...], precision: bool) -> None:
    """Print a table of settings."""
    keep_memory()
    torch.set_num_threads(1)
    folders = [folder for folder in sorted(songs.iterdir()) if folder.is_dir()]
    excerpts = [excerpt(folder, seconds) for folder in folders]
    for folder, (vocals, _, rate) in zip(folders, excerpts, strict=True):
        if is_silent(vocals):
            raise click.ClickException(f"{folder.name}: nobody sings in its middle; leave it out")
        if math.isnan(lsd(vocals, vocals, rate)):
            raise click.ClickException(
                f"{folder.name}: its vocals are too quiet for an LSD (-60 dB); leave it out"
            )
    table = Table(title=f"{model}, {len(excerpts)} songs of {seconds:g} s")
    for heading in (
        "setting",
        "passes",
        "uSDR dB",
        "LSD",
        "CPU s / min",
        "bf16, dB apart",
        "its uSDR",
    ):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    for name, settings in SETTINGS.items():
        if only and not any(part in name for part in only):
            continue
        try:
            separator = Separator(model, device="cpu", **settings)
        except SolovoxError as error:
            table.add_row(name, str(error))
            continue
        scores, distances, apart, change, cpu = [], [], [], [], 0.0
        for vocals, mixture, rate in excerpts:
            start = time.process_time()
            found = separator.separate(mixture, rate)["vocals"]
            cpu += time.process_time() - start
            scores.append(usdr(vocals, found))
            distances.append(lsd(vocals, found, rate))
            if precision and separator.sampling.steps < 3:
                exact = Separator(separator.model, device="cpu", precision="fp32", **settings)
                exactly = exact.separate(mixture, rate)["vocals"]
                apart.append(decibels(exactly, exactly - found))
                change.append(scores[-1] - usdr(vocals, exactly))
        minutes = sum(vocals.shape[1] / rate for vocals, _, rate in excerpts) / 60
        passes = separator.sampling.steps * separator.sampling.takes
        cells = (np.mean(scores), np.mean(distances), cpu / minutes)
        table.add_row(
            name, str(passes), *(f"{cell:.2f}" for cell in cells),
            *((f"{min(apart):.1f}", f"{max(change, key=abs):+.3f}") if apart else ()),
        )  # fmt: skip
        print(name, [f"{cell:.3f}" for cell in cells], flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
