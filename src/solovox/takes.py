"""How stems were made, as a file that makes them again: JSON, read strictly.

    {"solovox": "0.1.0",                     who wrote it; told, not checked
     "settings": {"model": …, "seed": …},    of the whole song
     "redone": [{"start": 12.5, "end": 14.0, "settings": {…}}],
     "threads": 2, "device": "cpu"}          last bits depend on these

Regions are in seconds, and are generated again one after the other (`redo`). Nothing is left to a
default that another version or machine may have differently: all settings are there as numbers, and
the weights are known by their SHA-256, and so is the model's configuration (how long chunks are,
how they overlap, …). Files of older versions, which lack the latter, are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import solovox
from solovox.checkpoint import config_digest, weights_digest
from solovox.errors import ModelError, SolovoxError
from solovox.precision import resolve
from solovox.separator import Separator
from solovox.settings import parse_settings

_LIMIT = 1 << 22  # bytes of a file; thousands of regions


@dataclass(frozen=True)
class Settings:
    """What `Separator` is called with; see there.

    Attributes:
        weights: SHA-256 of the model's weights; None takes any.
        config: SHA-256 of its configuration (`checkpoint.config_digest`); None takes any.
    """

    model: str
    steps: int
    start: float
    eta: float
    cutoff: float | str
    sampler: str
    seed: int
    stems: str
    precision: str
    spacing: str = "uniform"
    takes: int = 1
    backend: str = "torch"
    weights: str | None = None
    config: str | None = None

    @classmethod
    def of(cls, separator: Separator, model: str) -> Settings:
        """A separator's settings, with the model by the name that it is found by."""
        sampling = separator.sampling
        return cls(
            model=model,
            steps=sampling.steps,
            start=sampling.start,
            eta=sampling.eta,
            cutoff=sampling.cutoff,
            sampler=sampling.sampler,
            seed=separator.seed,
            stems=separator.stems,
            precision=resolve(separator.device, separator.precision),
            spacing=sampling.spacing,
            takes=sampling.takes,
            backend=separator.backend,
            weights=weights_digest(model),
            config=config_digest(model),
        )

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `Separator`.

        Raises:
            ModelError: if the model has other weights now, or another configuration.
        """
        arguments = asdict(self)
        for name, digest_of in (("weights", weights_digest), ("config", config_digest)):
            expected = arguments.pop(name)
            if expected is not None and digest_of(self.model) != expected:
                raise ModelError(
                    f"model '{self.model}' has other {name} than what the settings were made with; "
                    f"get that version of it, or remove '{name}' from the settings"
                )
        return arguments


@dataclass(frozen=True)
class Redo:
    """Seconds `start` to `end` of a song, generated again with settings of their own."""

    start: float
    end: float
    settings: Settings


@dataclass(frozen=True)
class Take:
    """A separation of a song.

    Attributes:
        settings: of the whole song.
        redone: regions generated again after that, in this order.
        threads: the number of CPU threads; None does not care.
        device: a name that `Separator` takes.
    """

    settings: Settings
    redone: tuple[Redo, ...] = ()
    threads: int | None = None
    device: str = "auto"

    @classmethod
    def of(cls, separator: Separator, model: str) -> Take:
        """What a separator makes now, on this machine."""
        device = separator.device
        return cls(
            Settings.of(separator, model),
            threads=torch.get_num_threads() if device.type == "cpu" else None,
            device=str(device),
        )

    def with_model(self, model: str) -> Take:
        """The take with another model, of any weights, instead of the song's."""

        def moved(settings: Settings) -> Settings:
            same = settings.model == self.settings.model
            return replace(settings, model=model, weights=None, config=None) if same else settings

        redone = tuple(replace(redo, settings=moved(redo.settings)) for redo in self.redone)
        return replace(self, settings=moved(self.settings), redone=redone)


def take_to_json(take: Take) -> dict[str, Any]:
    """A take as JSON values."""
    return {"solovox": solovox.__version__, **asdict(take)}


def take_from_json(values: object) -> Take:
    """The take that JSON values describe.

    Raises:
        SolovoxError: if a key is unknown or missing, or a value is of another kind than it must be.
    """
    plain = dict(_mapping(values, "settings file"))
    plain.pop("solovox", None)
    plain["settings"] = _settings(plain.get("settings"))
    redone = plain.get("redone", [])
    if not isinstance(redone, list | tuple):
        raise SolovoxError("'redone' must be a list")
    plain["redone"] = tuple(_redo(item) for item in redone)
    take = parse_settings(Take, plain, "settings file")
    if take.threads is not None and take.threads < 1:
        raise SolovoxError(f"threads must be 1 or more, not {take.threads}")
    return take


def read_take(path: str | Path) -> Take:
    """The take that a settings file describes.

    Raises:
        SolovoxError: if it cannot be read or is none; the message names the file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LIMIT:
            raise SolovoxError("is too large to be a settings file")
        return take_from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SolovoxError(f"{path}: cannot be read as settings: {reason}") from error
    except SolovoxError as error:
        raise SolovoxError(f"{path}: {error}") from error


def _redo(values: object) -> Redo:
    plain = dict(_mapping(values, "redone region"))
    plain["settings"] = _settings(plain.get("settings"))
    redo = parse_settings(Redo, plain, "redone region")
    if not 0 <= redo.start < redo.end:
        raise SolovoxError(f"a region must go from 0 s or later to later, not {values}")
    return redo


def _settings(values: object) -> Settings:
    return parse_settings(Settings, _mapping(values, "settings"), "separation")


def _mapping(values: object, what: str) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise SolovoxError(f"the {what} must be an object with named values")
    return values
