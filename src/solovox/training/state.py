"""A run's state on disk: everything that a resumed run needs, as safetensors, never pickle.

A checkpoint is one file: the weights, their running mean, AdamW's moments, and the step as
metadata. Data, times and noise are functions of the seed and the step, so no state of a random
generator is kept. The file is written beside and renamed: a killed run leaves the last one whole.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from solovox.errors import ModelError, reason
from solovox.files import explained, write_tensors, written_whole


def save_state(
    path: Path, step: int, model: nn.Module, mean: nn.Module, optimizer: Optimizer
) -> None:
    """Write a run's state after `step` steps.

    Raises:
        SolovoxError: if it cannot be written; the one before is left as it was.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in mean.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    with explained(path), written_whole(path, alone=True) as part:
        write_tensors(part, tensors, {"step": str(step)})


def load_state(path: Path, model: nn.Module, mean: nn.Module, optimizer: Optimizer) -> int:
    """Put a saved state into a model, its running mean and its optimiser; the number of steps done.

    Raises:
        ModelError: if the file cannot be read or belongs to another model.
    """
    step, tensors = _read(path)
    _fill(path, model, _under("model.", tensors))
    _fill(path, mean, _under("ema.", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, moment = name.split(".", 1)
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def load_mean(path: Path, model: nn.Module) -> int:
    """Put the running mean of a saved state into a model; the number of steps done.

    Raises:
        ModelError: if the file cannot be read or belongs to another model.
    """
    step, tensors = _read(path, "ema.")
    _fill(path, model, _under("ema.", tensors))
    return step


def _read(path: Path, prefix: str = "") -> tuple[int, dict[str, Tensor]]:
    """The step, and the tensors whose names begin with `prefix`."""
    try:
        with safe_open(path, framework="pt") as file:
            step = int((file.metadata() or {})["step"])
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return step, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is not a checkpoint that can be read: {reason(error)}") from error


def _fill(path: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path} is a checkpoint of another model than {path.parent}") from error


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
