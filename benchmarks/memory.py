"""Peak memory of separating a long file against a short one, disk to disk.

    python benchmarks/memory.py                      # the default model, 1 and 60 minutes
    python benchmarks/memory.py --streaming-only     # without networks: a minute instead of an hour

Each file is separated in a process of its own, from 48 kHz so that both resamplers work. Exits with
status 1 if the longest file takes more than 1.3 times the memory of the shortest.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from solovox.audio import AudioWriter

RATE = 48_000
LIMIT = 1.3
MEBI = 1 << 20


def write_song(path: Path, minutes: float) -> None:
    """Chords that change every second, with some noise, written block by block."""
    generator = np.random.default_rng(0)
    time_in_block = np.arange(RATE) / RATE
    chords = []
    for _ in range(32):
        hertz = 220 * 2 ** (generator.integers(0, 24, (2, 3, 1)) / 12)
        chord = np.sin(2 * np.pi * hertz * time_in_block).mean(axis=1)
        noise = generator.standard_normal((2, RATE))
        chords.append((0.3 * chord + 0.02 * noise).astype(np.float32))
    with AudioWriter(path, RATE, 2, "pcm16") as writer:
        for _ in range(round(60 * minutes)):  # each second another, and as loud as no other
            chord = chords[generator.integers(len(chords))]
            writer.write(chord * np.float32(generator.uniform(0.5, 1)))


def without_networks(chunk: int):
    """A model that takes half of its input for vocals at once: all that is left is streaming."""
    from torch import nn

    from solovox.codecs.waveform import Waveform, WaveformConfig
    from solovox.model import SeparationModel
    from solovox.networks.features import Features
    from solovox.presets import ModelConfig, SamplingConfig

    class Half(nn.Module):
        def forward(self, mixture):
            return Features((), (0.5 * mixture,))

    codec, sampling = WaveformConfig(), SamplingConfig(steps=0)
    config = ModelConfig("no-networks", codec, None, None, False, chunk, 0.2, sampling)
    return SeparationModel(config, Waveform(codec), Half(), nn.Identity())


def separate(model: str | None, song: Path, out: Path, results) -> None:
    """Separate a file and report seconds and the process's peak memory in bytes."""
    import torch

    from solovox import Separator

    torch.set_num_threads(1)
    separator = Separator(without_networks(131_072) if model is None else model)
    start = time.perf_counter()
    separator.separate_file(song, out, subtype="pcm16")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    results.put((time.perf_counter() - start, peak))


@click.command()
@click.option("-n", "--name", "model", default="diff-dmx-small", show_default=True)
@click.option("--streaming-only", is_flag=True, help="Leave the networks out.")
@click.option("--minutes", type=float, multiple=True, default=(1, 60), show_default=True)
def main(model: str, streaming_only: bool, minutes: tuple[float, ...]) -> None:
    """Print peak memory and time for files of some lengths."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process's peak
    table = Table(title="without networks" if streaming_only else model)
    for heading in ("minutes", "file MiB", "seconds", "peak MiB", "over the shortest"):
        table.add_column(heading, justify="right")
    peaks: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        for length in sorted(minutes):
            song = Path(folder) / "song.wav"
            write_song(song, length)
            results = context.SimpleQueue()
            name = None if streaming_only else model
            process = context.Process(target=separate, args=(name, song, Path(folder), results))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)
            seconds, peak = results.get()
            peaks.append(peak)
            size = f"{song.stat().st_size / MEBI:.0f}"
            ratio = f"{peak / peaks[0]:.2f}"
            table.add_row(f"{length:g}", size, f"{seconds:.1f}", f"{peak / MEBI:.0f}", ratio)
    Console().print(table)
    if peaks[-1] > LIMIT * peaks[0]:
        raise SystemExit(f"the longest takes more than {LIMIT} times the memory of the shortest")


if __name__ == "__main__":
    main()
