"""Time of separating 12 s of stereo, beside other separators: one run, alternating.

    make bench                                          # all of it, some ten minutes
    python benchmarks/side_by_side.py --only ", fast" --only spleeter  # rows whose names have these
    python benchmarks/side_by_side.py --part papers     # one part of the table
    python benchmarks/side_by_side.py --part none --minutes 1 --minutes 60
    python benchmarks/side_by_side.py --part none --start-up

Each row is a process of its own, so that peak memory is its own; the rows of a part take turns, and
the best of its rounds counts. CPU seconds (of all threads) are the steadier column on a machine
that does other work. A row whose work is many times the same, as T = 50, is a sum: what is called
n times is timed once a round, printed below the row as "once", and counted n times. Peers come from
the extra `bench`, with random weights but for Spleeter's, which changes nothing about their time.
Open-Unmix asks for torchaudio, which goes with no torch of today; its network needs none, so
`make bench` installs it by `pip install --no-deps openunmix`.

What pads its input does more than the seconds ask for: 12 s are one chunk of 13.65 s for the small
models, three segments of 7.8 s for HTDemucs and two of 11.9 s for Spleeter. `--seconds 240` is a
whole song.

MSDM (Mariani et al. 2023, arXiv 2302.02257) has the size of its published configuration, 405 M
parameters. It separates 11.9 s of *mono* at 22 kHz, so a call is of left and right as a batch of
two; the row in mono is of one. Its sampler calls the network once a step and resampling round: 150
times in the paper's count, 300 times as its evaluation is configured (150 steps, `num_resamples:
2`). Its authors run it in fp32; the row in bf16 is ours.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

RATE = 44_100
SECONDS = 12.0  # of stereo that all rows separate; `--seconds` changes it
STEPS = 50

Part = tuple[str, int, Callable[[], Any]]
"""A part of a row: its name, how often the row does it, and what it is."""
Parts = list[Part]


def noise() -> np.ndarray:
    """Stereo noise of the length that all rows separate."""
    samples = np.random.default_rng(0).standard_normal((2, round(SECONDS * RATE)))
    return (0.1 * samples).astype("float32")


def bundled(name: str, quality: str, backend: str = "torch") -> Parts:
    from solovox import Separator

    separator = Separator(name, device="cpu", quality=quality, backend=backend)
    audio = noise()
    return [("", 1, lambda: separator.separate(audio, RATE))]


def paper(name: str, backend: str = "torch", *, plain: bool = False) -> Parts:
    """The paper's model with fresh weights: a conditioner and `STEPS` passes a chunk.

    Plain is eager fp32, conditions projected at every step, in the layout that torch begins with.
    """
    import torch

    from solovox.backends import BACKENDS
    from solovox.chunking import ChunkPlan
    from solovox.networks import conditioner as conditioning
    from solovox.networks import generator as generating
    from solovox.networks import unet
    from solovox.precision import autocast, resolve
    from solovox.presets import build_model

    precision = "fp32" if plain else resolve(torch.device("cpu"))
    model = BACKENDS[backend](build_model(name).eval(), precision)
    chunk = model.config.chunk
    chunks = ChunkPlan.of(chunk, model.config.overlap).count(round(SECONDS * RATE))
    mixture, x = 0.1 * torch.randn(1, 2, chunk), torch.randn(1, 2, chunk)
    if plain:
        for module in (conditioning, generating, unet):
            module.to_image = lambda x: x.unsqueeze(2)

    heard: list[Any] = []  # the latest features

    @torch.inference_mode()
    def condition() -> None:
        with autocast(x.device, precision):
            features = model.condition(mixture)
            heard[:] = [features if plain else model.prepare(features)]

    @torch.inference_mode()
    def step() -> None:
        with autocast(x.device, precision):
            model.velocity(x, torch.tensor([0.5]), *heard)

    return [("conditioner", chunks, condition), ("generator", chunks * STEPS, step)]


def msdm(precision: str, channels: int = 2) -> Parts:
    import torch
    from audio_diffusion_pytorch import AudioDiffusionModel

    model = AudioDiffusionModel(
        in_channels=4, channels=256, patch_factor=16, patch_blocks=1, resnet_groups=8,
        kernel_multiplier_downsample=2, kernel_sizes_init=[1, 3, 7],
        multipliers=[1, 2, 4, 4, 4, 4, 4], factors=[4, 4, 4, 2, 2, 2], num_blocks=[2] * 6,
        attentions=[False] * 3 + [True] * 3, attention_heads=8, attention_features=128,
        attention_multiplier=2, use_nearest_upsample=False, use_skip_scale=True,
        use_attention_bottleneck=True, diffusion_sigma_distribution=None,
        diffusion_sigma_data=0.2, diffusion_dynamic_threshold=0.0,
    ).eval()  # fmt: skip
    x = torch.randn(channels, 4, 262_144)
    rounds = math.ceil(SECONDS / 12)

    @torch.inference_mode()
    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            model.diffusion.denoise_fn(x, sigma=0.5)

    return [("call", 150 * rounds, step)]


def htdemucs() -> Parts:
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    model = HTDemucs(
        ["drums", "bass", "other", "vocals"], bottom_channels=512, segment=7.8, t_layers=5
    ).eval()
    audio = torch.from_numpy(noise())[None]
    return [("", 1, lambda: apply_model(model, audio, shifts=0, overlap=0.25, split=True))]


def open_unmix() -> Parts:
    import torch

    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # only its files need it
    from openunmix.model import OpenUnmix, Separator

    target = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=1024, max_bin=1487)
    model = Separator({"vocals": target}, niter=1, residual=True).eval()
    audio = torch.from_numpy(noise())[None]
    run = torch.inference_mode()(lambda: model(audio))
    return [("", 1, run)]


def spleeter() -> Parts:
    from solovox.evaluation.peers import spleeter as load

    separate, audio = load(), noise()
    return [("", 1, lambda: separate(audio, RATE))]


def products(kind: str) -> Parts:
    """Twenty matrix products of 17 GFLOP."""
    import torch

    a = torch.randn(2048, 2048).to(getattr(torch, kind))
    run = torch.inference_mode()(lambda: [a @ a for _ in range(20)])
    return [("", 1, run)]


def convolutions() -> Parts:
    """All convolutions of a pass of DIFF_DMX's generator, in bf16."""
    import torch
    from torch import nn

    from solovox.presets import build_model

    generator = build_model("diff-dmx").eval().generator
    calls: list[tuple[nn.Module, torch.Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append((module, inputs[0].detach().bfloat16()))

    parts = paper_parts(generator)
    hooks = [
        module.register_forward_pre_hook(keep)
        for module in generator.unet.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    parts()
    for hook in hooks:
        hook.remove()

    @torch.inference_mode()
    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for module, x in calls:
                module(x)

    return [("", 1, run)]


def paper_parts(generator: Any) -> Callable[[], Any]:
    """A pass of the generator on noise, conditions and all."""
    import torch

    from solovox.networks.features import Features

    config, length = generator.config, 132_352
    embeddings = []
    for width, factor in zip(config.condition_widths, config.factors, strict=True):
        length //= factor
        embeddings.append(torch.randn(1, width, length))
    features, x = Features(tuple(embeddings)), torch.randn(1, 2, 132_300)
    return torch.inference_mode()(lambda: generator(x, torch.tensor([0.5]), features))


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        part: of the table; rows of a part take turns.
        build: makes what is timed.
        same_work: the row that says how many operations it takes, where torch cannot count them.
    """

    part: str
    build: Callable[[], Parts]
    same_work: str = ""


ROUNDS = {"rates": 3, "songs": 2, "papers": 2}
"""The table's parts, and the rounds of each."""

BF16, FP32 = "matrix products, bf16", "matrix products, fp32"
ROWS: dict[str, Row] = {
    **{
        f"{name}, {quality}": Row("songs", partial(bundled, name, quality))
        for name in ("diff-dmx-small", "ldm-dmx-small")
        for quality in ("fast", "balanced", "best")
    },
    "diff-dmx-small, best, openvino": Row(
        "songs", lambda: bundled("diff-dmx-small", "best", "openvino"), "diff-dmx-small, best"
    ),
    "HTDemucs": Row("songs", htdemucs),
    "Open-Unmix, size L": Row("songs", open_unmix),
    "Spleeter": Row("songs", spleeter),
    "DIFF_DMX, T = 50": Row("papers", lambda: paper("diff-dmx")),
    "DIFF_DMX, T = 50, openvino": Row(
        "papers", lambda: paper("diff-dmx", "openvino"), "DIFF_DMX, T = 50"
    ),
    "DIFF_DMX, T = 50, plain fp32": Row("papers", lambda: paper("diff-dmx", plain=True)),
    "DIFF_DMX_PLAIN, T = 50": Row("papers", lambda: paper("diff-dmx-plain")),
    "DIFF_DMX_PLAIN, T = 50, openvino": Row(
        "papers", lambda: paper("diff-dmx-plain", "openvino"), "DIFF_DMX_PLAIN, T = 50"
    ),
    "MSDM x 150": Row("papers", lambda: msdm("fp32")),
    "MSDM x 150, bf16": Row("papers", lambda: msdm("bf16"), "MSDM x 150"),
    "MSDM x 150, mono": Row("papers", lambda: msdm("fp32", 1)),
    "DIFF_DMX's convolutions, bf16": Row("rates", convolutions),
    BF16: Row("rates", lambda: products("bfloat16")),
    FP32: Row("rates", lambda: products("float32")),
}


def serve(name: str, threads: int, seconds: float, pipe: Any) -> None:
    """In a process of its own: make the row's parts, and time them whenever asked."""
    global SECONDS
    SECONDS = seconds
    import torch
    from flops import counter

    from solovox.allocation import keep_memory

    keep_memory()
    torch.set_num_threads(threads)
    try:
        parts = ROWS[name].build()
    except ImportError as error:
        pipe.send(f"needs {error.name}; `make bench` installs it")
        return
    work = []
    for part, count, run in parts:  # also to warm up, and to compile what is compiled
        counted = counter()
        with nullcontext() if ROWS[name].same_work else counted:
            run()
        work.append((part, count, counted.get_total_flops()))
    pipe.send(work)
    while pipe.recv():
        times = []
        for _, _, run in parts:
            start = time.process_time(), time.perf_counter()
            run()
            times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
        pipe.send((times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


@contextmanager
def worker(name: str, threads: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(name, threads, SECONDS, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        here.send(False)
    except (EOFError, OSError):
        raise SystemExit(f"{name}: the process has ended; see above") from None
    finally:
        process.join(10)
        process.terminate()


@dataclass
class Found:
    """What was measured of a row: its parts (name, how often, operations), the least CPU and wall
    seconds of each, and the most memory in MiB."""

    work: list[tuple[str, int, int]]
    times: Any = np.inf
    peak: float = 0.0

    def add(self, times: list[tuple[float, float]], peak: float) -> None:
        """Keep what is best."""
        self.times = np.minimum(self.times, times)
        self.peak = max(self.peak, peak)

    def lines(self, name: str, counted: Found | None = None) -> Iterator[tuple[str, Any, int]]:
        """(heading, [CPU seconds, seconds], operations) of the row and of what it repeats; the
        operations are those of the row `counted`, and 0 where nobody counted them."""
        counts = np.array([count for _, count, _ in self.work])
        flops = [flops for _, _, flops in (counted or self).work]
        yield name, counts @ self.times, int(counts @ flops)
        for (part, _, _), times, work in zip(self.work, self.times, flops, strict=True):
            if part:
                yield f"  {part}, once", times, work


def take_turns(names: list[str], rounds: int | None, threads: int) -> None:
    """Measure some rows, and print the table, part by part as it is measured."""
    print(f"{SECONDS:g} s of stereo, {threads} threads\n")
    print_line("", "CPU s", "seconds", "GFLOP", "GFLOP/CPU s", "of bf16", "peak MiB")
    found: dict[str, Found] = {}
    for part, usual in ROUNDS.items():
        group = [name for name in names if ROWS[name].part == part]
        missing = {}
        with ExitStack() as stack:
            pipes = {name: stack.enter_context(worker(name, threads)) for name in group}
            for name in group:
                work = pipes[name].recv()
                if isinstance(work, str):
                    missing[name] = work
                else:
                    found[name] = Found(work)
            for _ in range(rounds or usual):
                for name in group:
                    if name not in missing:
                        pipes[name].send(True)
                        found[name].add(*pipes[name].recv())
        rate = next(found[BF16].lines(BF16)) if BF16 in found else None
        for name in group:
            if name in missing:
                print_line(name, missing[name])
                continue
            counted = found.get(ROWS[name].same_work or name)
            for heading, (cpu, wall), flops in found[name].lines(name, counted):
                speed = flops / cpu
                print_line(
                    heading,
                    f"{cpu:.2f}",
                    f"{wall:.2f}",
                    f"{flops / 1e9:.0f}" if flops else "",
                    f"{speed / 1e9:.0f}" if flops else "",
                    f"{100 * speed * rate[1][0] / rate[2]:.0f} %" if flops and rate else "",
                    f"{found[name].peak:.0f}" if heading == name else "",
                )


def print_line(heading: str, *cells: str) -> None:
    """Print a line of the table, right away."""
    print(f"{heading:34}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def grow(minutes: tuple[float, ...], threads: int, quality: str) -> None:
    """Print CPU seconds a minute of audio, file to file, for songs of some lengths."""
    import torch

    from solovox import Separator
    from solovox.audio import AudioWriter

    torch.set_num_threads(threads)
    separator = Separator("diff-dmx-small", device="cpu", quality=quality)
    print(f"\ndiff-dmx-small, {quality}, {threads} threads\n")
    print_line("minutes of a song", "CPU s", "CPU s/min", "seconds/min")
    block = noise()[:, : 10 * RATE]
    with tempfile.TemporaryDirectory() as folder:
        for length in (min(minutes) / 4, *minutes):  # the first warms up
            song = Path(folder) / "song.wav"
            with AudioWriter(song, RATE, 2, "pcm16") as writer:
                for _ in range(round(6 * length) or 1):
                    writer.write(block)
            start = time.process_time(), time.perf_counter()
            separator.separate_file(song, folder, subtype="pcm16")
            cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
            print_line(f"{length:g}", f"{cpu:.2f}", f"{cpu / length:.2f}", f"{wall / length:.2f}")


def start_up() -> None:
    """Print the time that commands take from nothing."""
    from solovox.audio import write_audio

    print()
    print_line("start-up, best of 3", "CPU s", "seconds")
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        write_audio(song, noise()[:, :RATE], RATE)
        command = [sys.executable, "-c", "from solovox.cli import main; main()"]
        for words in (["--version"], ["separate", str(song), "-o", folder, "-q"]):
            best = (np.inf, np.inf)
            for _ in range(3):
                before, start = os.times(), time.perf_counter()
                subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
                wall, after = time.perf_counter() - start, os.times()
                cpu = after[2] + after[3] - before[2] - before[3]
                best = (min(best[0], wall), min(best[1], cpu))
            print_line(f"solovox {words[0]}", *(f"{value:.2f}" for value in best[::-1]))


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice([*ROUNDS, "none"]))
@click.option("--only", multiple=True, help="Rows whose names have this.")
@click.option("--rounds", type=int, help="The best of so many counts.")
@click.option("--threads", default=2, show_default=True)
@click.option("--minutes", type=float, multiple=True, help="Time songs of these lengths.")
@click.option("--quality", default="fast", show_default=True, help="For --minutes.")
@click.option("--seconds", default=12.0, show_default=True, help="Of stereo, for the rows.")
@click.option("--start-up", "starts", is_flag=True, help="Time the start of commands.")
def main(
    parts: tuple[str, ...],
    only: tuple[str, ...],
    rounds: int | None,
    threads: int,
    minutes: tuple[float, ...],
    quality: str,
    starts: bool,
    seconds: float,
) -> None:
    """Print one table of time, work and memory; without options, also the growth with length and
    the time to start."""
    global SECONDS
    SECONDS = seconds
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads are not to count as work
    everything = not (parts or only or minutes or starts)
    names = [
        name
        for name, row in ROWS.items()
        if (not parts or row.part in parts) and (not only or any(words in name for words in only))
    ]
    if (parts or only or everything) and names:
        take_turns(names, rounds, threads)
    if minutes or everything:
        grow(minutes or (1, 10, 60), threads, quality)
    if starts or everything:
        start_up()


if __name__ == "__main__":
    main()
