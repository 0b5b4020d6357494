"""Models on disk: a folder with `config.json`, `model.safetensors` and a model card, never pickle.

A model is named by a bundled model's name, a local folder, or a Hugging Face hub id (`owner/name`,
with `@revision` if wanted; `hub`), in that order. The configuration holds the SHA-256 of the
weights, which is checked before they are used.

Neither file is believed. Before memory is taken for a model, it is built without any, and must have
the very tensors that the header of the weights lists.
"""

import hashlib
import json
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from solovox.errors import ModelError, reason
from solovox.files import write_tensors, written_whole
from solovox.hub import fetch
from solovox.model import SeparationModel
from solovox.presets import ModelConfig, build_model, config_from_json, config_to_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
BUNDLED = Path(__file__).parent / "weights"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CONFIG_LIMIT = 1 << 20  # bytes; no honest configuration comes near
_HEADER_LIMIT = 1 << 24  # bytes of the weights' header
_BUFFER_LIMIT = 1 << 25  # numbers in what is computed, not stored: windows, bases
_FLOATS = {"F32", "F16", "BF16"}


@dataclass(frozen=True)
class ModelInfo:
    """A bundled model, as its folder describes it."""

    name: str
    folder: Path
    config: dict[str, Any]

    @property
    def megabytes(self) -> float:
        """The size of the weights on disk."""
        return (self.folder / WEIGHTS).stat().st_size / 1e6


def list_models() -> list[ModelInfo]:
    """The models that come with the package, by name."""
    folders = sorted(path.parent for path in BUNDLED.glob(f"*/{CONFIG}"))
    return [ModelInfo(folder.name, folder, _read_config(folder)) for folder in folders]


def save_model(
    model: SeparationModel, folder: str | Path, card: str = "", dtype: str = "fp32"
) -> Path:
    """The folder that a model was written to.

    Args:
        model: what to write.
        folder: where; it is made if missing, and each file in it is replaced whole.
        card: the model card, Markdown.
        dtype: of the weights on disk: "fp32", "bf16" or "fp16".
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().cpu().to(DTYPES[dtype] if value.is_floating_point() else value.dtype)
        for name, value in model.state_dict().items()
    }
    with written_whole(folder / CONFIG) as config, written_whole(folder / WEIGHTS) as weights:
        write_tensors(weights, tensors)
        facts = {**config_to_json(model.config), "sha256": _sha256(weights)}
        config.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    with written_whole(folder / CARD) as part:
        part.write_text(card, encoding="utf-8")
    return folder


def load_model(name: str | Path, revision: str | None = None) -> SeparationModel:
    """A model with its weights, in evaluation mode.

    Args:
        name: a bundled model's name, a folder, or a hub id.
        revision: branch, tag or commit of the hub's repository.

    Raises:
        ModelError: if there is no such model, or its files are missing, broken or do not fit.
    """
    folder = find_model(name, revision)
    values = _read_config(folder)
    digest = values.pop("sha256", None)
    config = config_from_json(values)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{folder} has no {WEIGHTS}; fetch the whole model folder again")
    if digest != _sha256(weights):
        raise ModelError(f"{weights} is not the file that {CONFIG} describes; fetch it again")
    try:
        _check_shapes(config, _shapes(weights))
        model = build_model(config)
        tensors = {name: value.to(torch.float32) for name, value in load_file(weights).items()}
        model.load_state_dict(tensors)
    except (SafetensorError, *_MISFITS) as error:
        raise ModelError(f"{weights} does not fit its {CONFIG}: {reason(error)}") from error
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{weights} has NaN or infinite weights, in {name[:80]!r}")
    return model.eval()


# What networks raise for sizes that make no sense.
_MISFITS = (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError,
            AssertionError, MemoryError, UserWarning)  # fmt: skip


def _shapes(weights: Path) -> dict[str, tuple[list[int], str]]:
    """(shape, type) of each tensor, from the file's header."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if length > _HEADER_LIMIT:
        raise ValueError("its header is cut short or absurd")
    with safe_open(weights, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (one.get_shape(), one.get_dtype()) for name, one in slices.items()}


def _check_shapes(config: ModelConfig, shapes: dict[str, tuple[list[int], str]]) -> None:
    """Build a model without memory, and raise a ValueError if it has other tensors than these."""
    with _limited(len(shapes)), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # torch's word for layers of no size
        expected = build_model(config).state_dict()
    for name in sorted(expected.keys() ^ shapes.keys()):
        where = "lacks" if name in expected else "has besides"
        raise ValueError(f"it {where} {name[:80]!r}")
    for name, (shape, kind) in shapes.items():
        value = expected[name]
        if list(value.shape) != shape:
            raise ValueError(f"{name[:80]!r} has shape {shape[:8]}, not {list(value.shape)[:8]}")
        if value.is_floating_point() and kind not in _FLOATS:
            raise ValueError(f"{name[:80]!r} is of type {kind}, not {' or '.join(sorted(_FLOATS))}")


@contextmanager
def _limited(tensors: int) -> Iterator[None]:
    """Within, a model with many more tensors is not built to its end."""
    left, numbers, thread = 4 * tensors + 100, _BUFFER_LIMIT, threading.get_ident()

    def count(module: object, name: str, value: torch.Tensor | None) -> None:
        nonlocal left, numbers
        if threading.get_ident() != thread:
            return
        left -= 1
        if left < 0:
            raise ValueError("it has fewer tensors than that")
        if value is not None and not isinstance(value, torch.nn.Parameter):
            numbers -= value.numel()
            if numbers < 0:
                raise ValueError("its buffers would be absurdly large")

    registry = torch.nn.modules.module
    hooks = [
        registry.register_module_parameter_registration_hook(count),
        registry.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """The local folder of a model, fetched from the hub if need be.

    Raises:
        ModelError: if there is no such model.
    """
    text = str(name)
    if (BUNDLED / text / CONFIG).is_file():
        return BUNDLED / text
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        names = ", ".join(info.name for info in list_models()) or "none"
        raise ModelError(
            f"no model '{text}'; bundled: {names}; or give a model folder or a hub id 'owner/name'"
        )
    return fetch(text, revision, [CONFIG, WEIGHTS, CARD], CONFIG)


def weights_digest(name: str | Path) -> str | None:
    """The SHA-256 of a model's weights, as its configuration states it.

    Raises:
        ModelError: if there is no such model.
    """
    digest = _read_config(find_model(name)).get("sha256")
    return None if digest is None else str(digest)


def config_digest(name: str | Path) -> str:
    """The SHA-256 of what a model's configuration has beside weights and the user's defaults.

    These are the parts and how songs are cut and put together: chunk, overlap and their like.

    Raises:
        ModelError: if there is no such model.
    """
    values = _read_config(find_model(name))
    fixed = {key: value for key, value in values.items() if key not in _DEFAULTS}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


# What is stated elsewhere, can be asked for, or changes no sample.
_DEFAULTS = {"sha256", "name", "sampling", "qualities", "stems", "precision"}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is not a file")
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ModelError(f"{path} is too large to be a model's configuration")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a model's configuration")
    return values


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
