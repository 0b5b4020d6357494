"""Time of separating 12 s of stereo, beside other separators: one run, alternating.

    make bench BENCH=benchmarks/side_by_side.py
    python benchmarks/side_by_side.py --only small --only spleeter    # rows whose names have these
    python benchmarks/side_by_side.py --minutes 1 --minutes 60        # how time grows with length

Each row is a process of its own, so that peak memory is its own; the rows take turns, and the best
of some rounds counts. CPU seconds (of all threads) are the steadier column on a machine that does
other work. Rows marked "parts" are sums of parts: what is called n times is timed once and counted
n times. Peers come from the extra `bench`, with random weights but for Spleeter's, which changes
nothing about their time. Open-Unmix asks for torchaudio, which goes with no torch of today; its
network needs none: `pip install --no-deps openunmix`.

MSDM (Mariani et al. 2023, arXiv 2302.02257) has the size of its published configuration, 405 M
parameters. It separates 11.9 s of *mono* at 22 kHz. Its sampler calls the network once a step and
resampling round: 150 times in the paper's count, 300 times as its evaluation is configured
(150 steps, `num_resamples: 2`). Its own precision, fp32, is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

RATE, SECONDS = 44_100, 12
STEPS = 50

Parts = list[tuple[int, Callable[[], Any]]]
"""What a row's time is the sum of: (how often, what)."""


def noise() -> np.ndarray:
    """Stereo noise of the length that all rows separate."""
    return (0.1 * np.random.default_rng(0).standard_normal((2, SECONDS * RATE))).astype("float32")


def bundled(quality: str, backend: str = "torch") -> Parts:
    from solovox import Separator

    separator = Separator("diff-dmx-small", device="cpu", quality=quality, backend=backend)
    audio = noise()
    return [(1, lambda: separator.separate(audio, RATE))]


def paper(name: str, *, plain: bool = False, steps: int = STEPS, conditioner: bool = True) -> Parts:
    """The paper's model with fresh weights: a conditioner and `steps` passes a chunk.

    Plain is eager fp32, conditions projected at every step, in the layout that torch begins with.
    """
    import torch

    from solovox.chunking import ChunkPlan
    from solovox.networks import conditioner as conditioning
    from solovox.networks import generator as generating
    from solovox.networks import unet
    from solovox.precision import autocast
    from solovox.presets import build_model

    model = build_model(name).eval()
    chunk = model.config.chunk
    chunks = ChunkPlan.of(chunk, model.config.overlap).count(SECONDS * RATE)
    mixture, x = 0.1 * torch.randn(1, 2, chunk), torch.randn(1, 2, chunk)
    precision = "fp32" if plain else "auto"
    if plain:
        for module in (conditioning, generating, unet):
            module.to_image = lambda x: x.unsqueeze(2)

    @torch.inference_mode()
    def condition() -> Any:
        with autocast(x.device, precision):
            features = model.condition(mixture)
            return features if plain else model.prepare(features)

    features = condition()

    @torch.inference_mode()
    def step() -> None:
        with autocast(x.device, precision):
            model.velocity(x, torch.tensor([0.5]), features)

    return [*([(chunks, condition)] if conditioner else []), (chunks * steps, step)]


def msdm(calls: int) -> Parts:
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
    x = torch.randn(1, 4, 262_144)

    @torch.inference_mode()
    def step() -> None:
        model.diffusion.denoise_fn(x, sigma=0.5)

    return [(calls, step)]


def htdemucs() -> Parts:
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    model = HTDemucs(
        ["drums", "bass", "other", "vocals"], bottom_channels=512, segment=7.8, t_layers=5
    ).eval()
    audio = torch.from_numpy(noise())[None]
    return [(1, lambda: apply_model(model, audio, shifts=0, overlap=0.25, split=True))]


def open_unmix() -> Parts:
    import torch

    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # only its files need it
    from openunmix.model import OpenUnmix, Separator

    target = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=1024, max_bin=1487)
    model = Separator({"vocals": target}, niter=1, residual=True).eval()
    audio = torch.from_numpy(noise())[None]
    run = torch.inference_mode()(lambda: model(audio))
    return [(1, run)]


def spleeter() -> Parts:
    from solovox.evaluation.peers import spleeter as load

    separate, audio = load(), noise()
    return [(1, lambda: separate(audio, RATE))]


def products(kind: str) -> Parts:
    """A thousand GFLOP of matrix products."""
    import torch

    a = torch.randn(2048, 2048).to(getattr(torch, kind))
    return [(58, torch.inference_mode()(lambda: a @ a))]


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

    return [(1, run)]


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


ROWS: dict[str, Callable[[], Parts]] = {
    "diff-dmx-small, fast": lambda: bundled("fast"),
    "diff-dmx-small, balanced": lambda: bundled("balanced"),
    "diff-dmx-small, best": lambda: bundled("best"),
    "diff-dmx-small, best, openvino": lambda: bundled("best", "openvino"),
    "DIFF_DMX, T = 50 (parts)": lambda: paper("diff-dmx"),
    "DIFF_DMX_PLAIN, T = 50 (parts)": lambda: paper("diff-dmx-plain"),
    "MSDM, 150 calls (parts)": lambda: msdm(150),
    "MSDM, 300 calls (parts)": lambda: msdm(300),
    "HTDemucs": htdemucs,
    "Open-Unmix, size L": open_unmix,
    "Spleeter": spleeter,
    "pass of DIFF_DMX": lambda: [(1, paper("diff-dmx", conditioner=False)[0][1])],
    "pass of DIFF_DMX, plain fp32": lambda: [
        (1, paper("diff-dmx", plain=True, conditioner=False)[0][1])
    ],
    "its convolutions, bf16": convolutions,
    "1000 GFLOP of matrix products, bf16": lambda: products("bfloat16"),
    "1000 GFLOP of matrix products, fp32": lambda: products("float32"),
}


def serve(name: str, threads: int, pipe: Any) -> None:
    """In a process of its own: make the row's parts, and time them whenever asked."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from solovox.allocation import keep_memory

    keep_memory()
    torch.set_num_threads(threads)
    try:
        parts = ROWS[name]()
    except ImportError as error:
        pipe.send(f"needs {error.name}: pip install 'solovox[bench]'")
        return
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    flops = 0
    for count, run in parts:
        run()  # to warm up, and to compile what is compiled
        with FlopCounterMode(display=False, custom_mapping={flash: attention_flops}) as counter:
            run()
        flops += count * counter.get_total_flops()
    pipe.send(flops)
    while pipe.recv():
        cpu = wall = 0.0
        for count, run in parts:
            start = time.process_time(), time.perf_counter()
            run()
            cpu += count * (time.process_time() - start[0])
            wall += count * (time.perf_counter() - start[1])
        pipe.send((cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products of queries × keys × width; arguments are shapes."""
    batch, heads, length, width = query
    return int(2 * batch * heads * length * key[2] * (width + value[3]))


@contextmanager
def worker(name: str, threads: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(name, threads, there), daemon=True)
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


def take_turns(names: list[str], rounds: int, threads: int, together: bool) -> None:
    """Print the table of some rows."""
    from contextlib import ExitStack

    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    flops: dict[str, Any] = {}
    groups = [names] if together else [[name] for name in names]
    for group in groups:
        with ExitStack() as stack:
            pipes = {name: stack.enter_context(worker(name, threads)) for name in group}
            for name in group:
                flops[name] = pipes[name].recv()
            for _ in range(rounds):
                for name in group:
                    if isinstance(flops[name], str):
                        continue
                    pipes[name].send(True)
                    found[name].append(pipes[name].recv())
    table = Table(title=f"{SECONDS} s of stereo, {threads} threads, best of {rounds}")
    for heading in ("", "CPU s", "seconds", "GFLOP", "GFLOP / CPU s", "peak MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, results in found.items():
        if not results:
            table.add_row(name, str(flops[name]))
            continue
        cpu, wall, peak = (min(values) for values in zip(*results, strict=True))
        work = flops[name] / 1e9
        table.add_row(
            name, f"{cpu:.2f}", f"{wall:.2f}", f"{work:.0f}", f"{work / cpu:.0f}", f"{peak:.0f}"
        )
    Console(width=120).print(table)


def grow(minutes: tuple[float, ...], threads: int, quality: str) -> None:
    """Print CPU seconds a minute of audio, file to file, for songs of some lengths."""
    import torch

    from solovox import Separator
    from solovox.audio import AudioWriter

    torch.set_num_threads(threads)
    separator = Separator("diff-dmx-small", device="cpu", quality=quality)
    table = Table(title=f"diff-dmx-small, {quality}")
    for heading in ("minutes", "CPU s", "CPU s a minute", "seconds a minute"):
        table.add_column(heading, justify="right")
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
            cells = (length, cpu, cpu / length, wall / length)
            table.add_row(*(f"{cell:.2f}" for cell in cells))
    Console().print(table)


def start_up() -> None:
    """Print the time that commands take from nothing."""
    from solovox.audio import write_audio

    table = Table(title="start-up, best of 3")
    for heading in ("command", "seconds", "CPU s"):
        table.add_column(heading, justify="right")
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
            table.add_row(f"solovox {words[0]}", *(f"{value:.2f}" for value in best))
    Console().print(table)


@click.command()
@click.option("--only", multiple=True, help="Rows whose names have this.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--one-by-one", is_flag=True, help="Row after row: less memory, no taking turns.")
@click.option("--minutes", type=float, multiple=True, help="Time songs of these lengths instead.")
@click.option("--quality", default="fast", show_default=True, help="For --minutes.")
@click.option("--start-up", "starts", is_flag=True, help="Time the start of commands instead.")
def main(
    only: tuple[str, ...],
    rounds: int,
    threads: int,
    one_by_one: bool,
    minutes: tuple[float, ...],
    quality: str,
    starts: bool,
) -> None:
    """Print one table of time, work and memory."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads are not to count as work
    if minutes:
        grow(minutes, threads, quality)
    elif starts:
        start_up()
    else:
        names = [name for name in ROWS if not only or any(part in name for part in only)]
        take_turns(names, rounds, threads, not one_by_one)


if __name__ == "__main__":
    main()
