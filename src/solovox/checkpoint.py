"""Models on disk: a folder with `config.json`, `model.safetensors` and a model card, never pickle.

A model is named by a bundled model's name, a local folder, or a Hugging Face hub id (`owner/name`,
with `@revision` if wanted), in that order. The configuration holds the SHA-256 of the weights,
which is checked before they are used.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from solovox.errors import ModelError
from solovox.model import SeparationModel
from solovox.presets import build_model, config_from_json, config_to_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
BUNDLED = Path(__file__).parent / "weights"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CONFIG_LIMIT = 1 << 20  # bytes; no honest configuration comes near


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
    weights = folder / f"{WEIGHTS}.part"
    save_file({name: value.contiguous() for name, value in tensors.items()}, weights)
    weights.chmod(0o644)  # they are written for their owner's eyes only
    config = {**config_to_json(model.config), "sha256": _sha256(weights)}
    weights.replace(folder / WEIGHTS)
    for name, text in ((CONFIG, json.dumps(config, indent=2) + "\n"), (CARD, card)):
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / name)
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
        model = build_model(config)
        tensors = load_file(weights)
        model.load_state_dict({k: v.to(torch.float32) for k, v in tensors.items()})
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{weights} does not fit its {CONFIG}: {reason}") from error
    return model.eval()


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
    return _fetch(text, revision)


def weights_digest(name: str | Path) -> str | None:
    """The SHA-256 of a model's weights, as its configuration states it.

    Raises:
        ModelError: if there is no such model.
    """
    digest = _read_config(find_model(name)).get("sha256")
    return None if digest is None else str(digest)


def _fetch(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, pinned = repository.partition("@")
    try:
        return Path(
            snapshot_download(
                repository, revision=pinned or revision, allow_patterns=[CONFIG, WEIGHTS, CARD]
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"cannot fetch '{repository}' from the hub: {reason}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ModelError(f"{path} is too large to be a model's configuration")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not a model folder: it has no {CONFIG}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a model's configuration")
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
