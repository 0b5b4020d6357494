"""A run's folder, and the settings in it.

RUN/run.json          the settings, with which a resumed run goes on
RUN/last.safetensors  the newest state
RUN/best.safetensors  the state with the best validation uSDR
RUN/lock              held by the process that trains
RUN/log.jsonl         losses and scores by step
RUN/events.*          the same for TensorBoard, with audio and spectrograms
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from solovox.data.shards import is_address
from solovox.errors import ModelError, SolovoxError, reason
from solovox.files import explained, written_whole
from solovox.presets import PRESETS, ModelConfig, config_from_json, config_to_json
from solovox.settings import parse_settings
from solovox.training.config import TrainingConfig, recipe, training_from_json

SETTINGS = "run.json"
LAST = "last.safetensors"
BEST = "best.safetensors"
LOCK = "lock"


@dataclass(frozen=True)
class Run:
    """What is trained, how, and on what.

    Attributes:
        model: the model's configuration.
        training: how to train it.
        data: folder (or address, for shards) of the data set; it trains on what lies in `train`.
        valid: folder of songs to validate on; None is `valid` in the data set's folder.
        init: model folder, or what else `load_model` takes, to start from; None starts afresh.
        teachers: models, named likewise, whose mean estimate the conditioner learns
            (`SeparationLoss`).
    """

    model: ModelConfig
    training: TrainingConfig
    data: str
    valid: str | None = None
    init: str | None = None
    teachers: tuple[str, ...] = ()

    @property
    def train_songs(self) -> str:
        """The folder or address to train on."""
        return f"{self.data}/train" if is_address(self.data) else str(Path(self.data) / "train")

    @property
    def valid_songs(self) -> Path | None:
        """The folder to validate on, if there is one.

        Raises:
            SolovoxError: if one was asked for that is not there.
        """
        if self.valid is not None:
            if not Path(self.valid).is_dir():
                raise SolovoxError(f"{self.valid}: no such folder to validate on")
            return Path(self.valid)
        folder = Path(self.data) / "valid"
        return folder if not is_address(self.data) and folder.is_dir() else None


def read_run(folder: Path) -> Run:
    """The settings of the run in a folder.

    Raises:
        ModelError: if there is no run, or its settings cannot be read or have unknown keys.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise ModelError(f"{folder} holds no run: it has no {SETTINGS}")
    values = _read_json(path)
    values["model"], values["training"] = _configs(path, values)
    return parse_settings(Run, values, f"run {path}")


def write_run(folder: Path, run: Run) -> None:
    """Write a run's settings into its folder, which is made if missing.

    Raises:
        SolovoxError: if that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SolovoxError(f"{folder}: cannot be made ({error.strerror})") from error
    values = {**asdict(run), "model": config_to_json(run.model)}
    with explained(folder / SETTINGS), written_whole(folder / SETTINGS, alone=True) as part:
        part.write_text(json.dumps(values, indent=2) + "\n")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A run's folder for this process alone; a process that dies lets go of it.

    Raises:
        SolovoxError: if another process trains there.
    """
    from filelock import FileLock, Timeout

    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise SolovoxError(
            f"{folder}: another process trains there; stop it first, or choose another folder"
        ) from None
    except OSError as error:
        raise SolovoxError(f"{folder}: cannot be written to ({error.strerror})") from error
    with lock:
        try:
            yield
        finally:
            if new and list(folder.iterdir()) == [folder / LOCK]:  # nothing came of it
                (folder / LOCK).unlink()
                folder.rmdir()


def read_preset(name: str) -> tuple[ModelConfig, TrainingConfig]:
    """A preset's model and recipe; or those of a JSON file in the form of run.json.

    Args:
        name: a name of PRESETS, or a file.

    Raises:
        ModelError: if there is no such preset or file, or it cannot be used.
    """
    if name in PRESETS:
        return PRESETS[name], recipe(name)
    if not Path(name).is_file():
        raise ModelError(
            f"no preset '{name}'; there are: {', '.join(PRESETS)}; or give a JSON file"
        )
    return _configs(Path(name), _read_json(Path(name)))


def _configs(path: Path, values: dict[str, Any]) -> tuple[ModelConfig, TrainingConfig]:
    try:
        return config_from_json(values["model"]), training_from_json(values.get("training", {}))
    except (ModelError, KeyError, TypeError) as error:
        why = error if isinstance(error, ModelError) else "it describes no model"
        raise ModelError(f"{path}: {why}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is not a run's settings")
    return values
