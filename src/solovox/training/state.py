"""A run's state on disk: everything that a resumed run needs, as safetensors, never pickle.

A checkpoint is one file: the weights, their running mean, AdamW's moments, and the step as metadata. Data, times and noise are functions of
the seed and the step, so no state of a random generator is kept. The file is written beside and renamed: a killed run leaves the last one whole.
"""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from solovox.errors import ModelError


def save_state(
    path: Path, step: int, model: nn.Module, mean: nn.Module, optimizer: Optimizer
) -> None:
    """Write a run's state after `step` steps."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in mean.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    part = path.with_name(f"{path.name}.part")
    save_file(tensors, part, metadata={"step": str(step)})
    os.replace(part, path)


def load_state(path: Path, model: nn.Module, mean: nn.Module, optimizer: Optimizer) -> int:
    """Put a saved state into a model, its running mean and its optimiser; the number of steps done.

    Raises:
        ModelError: if the file cannot be read or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
        model.load_state_dict(_under("model.", tensors))
        mean.load_state_dict(_under("ema.", tensors))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is not a checkpoint of this model: {reason}") from error
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, moment = name.split(".", 1)
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
