"""Files that appear whole or not at all: written beside, then renamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from solovox.errors import SolovoxError, reason

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def written_whole(path: Path, shared: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to; it takes its place if the body goes well, else it is gone.

    Args:
        path: the file.
        shared: others may write it at the same time, and the last one stays. Each has a name of
            its own then; otherwise there is one name, so that many kills leave one file.

    If anything goes wrong, `path` is left as it was.
    """
    writer = f".{os.getpid()}.{threading.get_ident()}" if shared else ""
    part = path.with_name(f".{path.name}{writer}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name as safetensors, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written_whole(path) as part:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, part, metadata)
        except SafetensorError as error:  # of the disk, too
            raise OSError(reason(error)) from error
        part.chmod(0o644)  # it is made for its owner's eyes only


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Tells the user what to do where the system cannot write a file, by a SolovoxError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or reason(error)
        raise SolovoxError(
            f"{path} cannot be written ({why}); make room or choose another folder"
        ) from error
