"""Generative separation of the singing voice.

    from solovox import Separator, read_audio

    audio, sample_rate = read_audio("song.mp3")
    stems = Separator().separate(audio, sample_rate)

Public names are imported when first used, so that `import solovox` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solovox.audio import read_audio, write_audio
    from solovox.checkpoint import list_models, load_model
    from solovox.presets import build_model
    from solovox.separator import Separator

    __version__: str

_HOMES = {
    "Separator": "solovox.separator",
    "build_model": "solovox.presets",
    "list_models": "solovox.checkpoint",
    "load_model": "solovox.checkpoint",
    "read_audio": "solovox.audio",
    "write_audio": "solovox.audio",
}

__all__ = [
    "Separator",
    "__version__",
    "build_model",
    "list_models",
    "load_model",
    "read_audio",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("solovox")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'solovox' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
