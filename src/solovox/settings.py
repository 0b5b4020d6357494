"""Settings are frozen dataclasses; from JSON they are read by one rule."""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from solovox.errors import ModelError

Settings = TypeVar("Settings")


def parse_settings(cls: type[Settings], values: object, what: str) -> Settings:
    """Settings of a dataclass from JSON values; lists become tuples.

    Args:
        cls: the dataclass.
        values: its fields' values by name, or some of them.
        what: what the settings are of, for the message.

    Raises:
        ModelError: if a key is unknown, one is missing, or a value is not of its field's type.
    """
    if not isinstance(values, Mapping):
        raise ModelError(f"the {what} must have named settings, not be {_short(values)}")
    unknown = sorted(set(values) - {f.name for f in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ModelError(f"unknown setting of the {what}: {_short(', '.join(unknown))}")
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    hints = get_type_hints(cls)
    for name, value in plain.items():
        if not fits(value, hints[name]):
            wanted = getattr(hints[name], "__name__", "")
            kind = KINDS.get(wanted, "of another kind")
            raise ModelError(
                f"the {what}'s settings do not fit: {name} must be {kind}, not {_short(value)}"
            )
    try:
        return cls(**plain)
    except TypeError as error:
        raise ModelError(f"the {what}'s settings do not fit: {error}") from error


KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false"}


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type, as annotations have it; numbers must be finite."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        items = list(value) if isinstance(value, tuple | list) else None
        return items is not None and all(fits(item, arguments[0]) for item in items)
    if hint in (int, float):
        number = isinstance(value, int) or (hint is float and isinstance(value, float))
        return number and not isinstance(value, bool) and abs(value) < math.inf  # type: ignore
    if hint in (bool, str, NoneType):
        return isinstance(value, hint)
    return isinstance(value, origin or hint) if isinstance(origin or hint, type) else True


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return ascii(text[:60])[1:-1] + ("…" if len(text) > 60 else "")
