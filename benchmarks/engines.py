"""What other engines would gain: a pass of DIFF_DMX's networks by each of them, in turns.

    pip install 'solovox[openvino]' onnx onnxscript onnxruntime
    python benchmarks/engines.py

A row is the best of its rounds, in CPU and wall seconds, and how far what comes out is from torch's
in fp32. ONNX Runtime computes in fp32 on a CPU: it has no bf16 there.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from solovox.backends import OpenVinoGenerator, _Flat
from solovox.model import SeparationModel
from solovox.presets import build_model

Run = Callable[[], np.ndarray]


class Conditioner(nn.Module):
    """The conditioner with its embeddings and estimates as results one by one."""

    def __init__(self, model: SeparationModel) -> None:
        super().__init__()
        self.conditioner = model.conditioner

    def forward(self, mixture: Tensor) -> tuple[Tensor, ...]:
        features = self.conditioner(mixture)
        return (*features.embeddings, *features.estimates)


def first(found: Tensor | tuple[Tensor, ...]) -> np.ndarray:
    return (found if isinstance(found, Tensor) else found[-1]).float().numpy()


def by_torch(network: nn.Module, inputs: tuple[Tensor, ...], bf16: bool) -> Run:
    def run() -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return first(network(*inputs))

    return run


def by_onnx_runtime(network: nn.Module, inputs: tuple[Tensor, ...], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(network, inputs, path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return lambda: session.run(None, feed)[-1]


def by_openvino(network: nn.Module, inputs: tuple[Tensor, ...], precision: str, n: int) -> Run:
    compiled = OpenVinoGenerator(network, precision, n)._compile(network, inputs)
    feed = [tensor.numpy() for tensor in inputs]
    return lambda: compiled(feed)[len(compiled.outputs) - 1]


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(threads: int, rounds: int) -> None:
    """Print a table of engines."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build_model("diff-dmx").eval()
    chunk = model.config.chunk
    mixture = 0.1 * torch.randn(1, 2, chunk)
    with torch.no_grad():
        features = model.prepare(model.condition(mixture))
    embeddings = tuple(e.float().contiguous() for e in features.embeddings)
    parts: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "generator": (
            _Flat(model.generator, type(features), []).eval(),
            (torch.randn(1, 2, chunk), torch.tensor([0.5]), *embeddings),
        ),
        "conditioner": (Conditioner(model).eval(), (mixture,)),
    }
    print(f"{'':36}{'CPU s':>8}{'seconds':>9}{'dB from torch, fp32':>21}")
    for part, (network, inputs) in parts.items():
        rows: dict[str, Run] = {
            "torch, fp32": by_torch(network, inputs, False),
            "torch, bf16": by_torch(network, inputs, True),
            "ONNX Runtime, fp32": by_onnx_runtime(network, inputs, threads),
            "OpenVINO, fp32": by_openvino(network, inputs, "fp32", threads),
            "OpenVINO, bf16": by_openvino(network, inputs, "bf16", threads),
        }
        found = {name: run() for name, run in rows.items()}  # warms up
        best = dict.fromkeys(rows, (np.inf, np.inf))
        for _ in range(rounds):
            for name, run in rows.items():
                start = time.process_time(), time.perf_counter()
                run()
                cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
                best[name] = min(best[name][0], cpu), min(best[name][1], wall)
        exact = found["torch, fp32"]
        for name, (cpu, wall) in best.items():
            error = float(np.square(found[name] - exact).sum())
            apart = 10 * np.log10(float(np.square(exact).sum()) / error) if error else np.inf
            print(f"{f'{part}: {name}':36}{cpu:8.2f}{wall:9.2f}{apart:21.1f}", flush=True)


if __name__ == "__main__":
    main()
