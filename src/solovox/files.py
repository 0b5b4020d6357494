"""Files that appear whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from solovox.errors import SolovoxError, reason

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def written_whole(path: Path, alone: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to; it takes its place if the body goes well, else it is gone.

    It is on the disk before it has its name, so that power may fail. Of several writers at once,
    the last one's file stays.

    Args:
        path: the file.
        alone: nobody else writes it now. What a killed writer leaves is then written over, and
            large files do not pile up.
    """
    writer = "" if alone else f".{os.getpid()}.{secrets.token_hex(4)}"
    part = path.with_name(f".{path.name}{writer}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name as safetensors, readable by whom other new files are readable by.

    Raises:
        OSError: if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    except SafetensorError as error:  # of the disk, too
        raise OSError(reason(error)) from error
    path.chmod(mode)  # what is left by `save_file` is for the owner alone


@contextmanager
def explained(path: Path, advice: str = "make room or choose another folder") -> Iterator[None]:
    """Tells the user what to do where the system cannot write a file, by a SolovoxError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or reason(error)
        raise SolovoxError(f"{path} cannot be written ({why}); {advice}") from error
