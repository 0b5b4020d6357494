"""Settings are frozen dataclasses; from JSON they are read by one rule."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from solovox.errors import ModelError

Settings = TypeVar("Settings")


def parse_settings(cls: type[Settings], values: Mapping[str, Any], what: str) -> Settings:
    """Settings of a dataclass from JSON values; lists become tuples.

    Args:
        cls: the dataclass.
        values: its fields' values, or some of them.
        what: what the settings are of, for the message.

    Raises:
        ModelError: if a key is unknown, or one is missing.
    """
    unknown = sorted(set(values) - {f.name for f in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ModelError(f"unknown setting of the {what}: {', '.join(unknown)}")
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise ModelError(f"the {what}'s settings do not fit: {error}") from error
