"""Folders of any file system that fsspec knows: a local one, s3://…, memory://….

On a local disk a file is written in a scratch folder, flushed and renamed, so that it is there
whole or not at all. Object stores promise that of themselves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from solovox.errors import SolovoxError

BLOCK = 1 << 20  # bytes copied at once
READERS = 16  # small files read at once
MARK = "catalogue.json"
SCRATCH = ".scratch"


def this_process() -> str:
    """A name for this process that no other on any host has at the same time."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Folder:
    """A folder; names in it are relative, with "/" between parts.

    Args:
        url: a local folder, or the address of another file system's.
        owner: a name for this user of the folder; what is unfinished lies below it.

    Raises:
        SolovoxError: if nothing here opens such an address.
    """

    def __init__(self, url: str, owner: str | None = None) -> None:
        self.url, self.owner = url, owner or this_process()
        try:
            self.fs, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SolovoxError(f"{url}: cannot be opened: {error}") from error
        self.local = isinstance(self.fs, LocalFileSystem)
        self.root: str = os.path.realpath(root) if self.local else root.rstrip("/")

    @property
    def scratch(self) -> Path:
        """The local folder for what is not finished; on the same disk if this folder is local."""
        return scratch_parent(self) / self.owner

    def path(self, name: str) -> str:
        """A file's name as the file system takes it."""
        return f"{self.root}/{name}"

    def exists(self) -> bool:
        """Whether there is such a folder."""
        return bool(self.fs.isdir(self.root))

    def is_same(self, other: Folder) -> bool:
        """Whether the other is this very folder."""
        return type(self.fs) is type(other.fs) and self.root == other.root

    def walk(self, leave_out: Folder | None = None) -> Iterator[tuple[str, int]]:
        """(name, bytes) of all files, hidden ones and those of other catalogues left out.

        Links to folders are not followed: they may go in circles.

        Raises:
            SolovoxError: if a folder cannot be listed, for its songs would be lost.
        """
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            if (
                leave_out is not None
                and type(self.fs) is type(leave_out.fs)
                and folder == leave_out.root
            ):
                continue
            try:
                infos = self.fs.ls(folder, detail=True)
            except OSError as error:
                reason = error.strerror or error
                raise SolovoxError(
                    f"{folder}: cannot be listed ({reason}); let it be read, or move it"
                ) from error
            parts = [(info["name"].rstrip("/"), info) for info in infos]
            if any(name == f"{folder}/{MARK}" for name, _ in parts):
                continue
            for name, info in parts:
                if name == folder or name.rsplit("/", 1)[-1].startswith("."):
                    continue
                link = info.get("islink")
                if info["type"] == "directory":
                    waiting += [] if link else [name]
                elif not (link and Path(name).is_dir()):
                    yield name[len(self.root) + 1 :], info.get("size") or 0

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, in order; none if it is not there."""
        path = self.path(folder)
        self.fs.invalidate_cache(path)
        try:
            found = self.fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{name.rsplit('/', 1)[-1]}" for name in found)

    def read(self, name: str) -> bytes | None:
        """A small file's bytes; None if it is not there."""
        try:
            data: bytes = self.fs.cat_file(self.path(name))
        except FileNotFoundError:
            return None
        return data

    def read_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """Small files' bytes, several at a time."""
        with ThreadPoolExecutor(READERS) as pool:
            yield from pool.map(self.read, names)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file, in place of what is there."""
        if self.local:
            self._name(self._part(data), name)
        else:
            self.fs.pipe_file(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one; whether that was so."""
        try:
            if not self.local:
                self.fs.pipe_file(self.path(name), data, mode="create")
                return True
            part, target = self._part(data), Path(self.path(name))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(part, target)  # appears with its content; fails if there is one
            finally:
                part.unlink()
        except FileExistsError:
            return False
        return True

    def upload(self, file: Path, name: str, beat: Callable[[], None] = lambda: None) -> None:
        """Put a finished local file in place; one in `scratch` is moved where that can be."""
        if self.local:
            self._name(file, name)
        else:
            self.fs.put_file(str(file), self.path(name), callback=_Beat(beat))
            file.unlink()

    def fetch(self, name: str, target: Path, beat: Callable[[], None]) -> tuple[Path, str]:
        """(local file, SHA-256 of its bytes): the file itself where it is local, else a copy."""
        if self.local:
            return Path(self.path(name)), sha256(Path(self.path(name)), beat)
        digest = hashlib.sha256()
        with self.fs.open(self.path(name), "rb") as source, target.open("wb") as copy:
            while block := source.read(BLOCK):
                digest.update(block)
                copy.write(block)
                beat()
        return target, digest.hexdigest()

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a file; None if it is not there."""
        digest = hashlib.sha256()
        try:
            with self.fs.open(self.path(name), "rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def _part(self, data: bytes) -> Path:
        self.scratch.mkdir(parents=True, exist_ok=True)
        part = self.scratch / uuid.uuid4().hex
        try:
            part.write_bytes(data)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return part

    def _name(self, part: Path, name: str) -> None:
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)


def scratch_parent(folder: Folder) -> Path:
    """Where the scratch folders of all users of a folder are."""
    if folder.local:
        return Path(folder.root) / SCRATCH
    address = hashlib.sha256(folder.root.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"solovox-{address}"


def clear_scratch(folder: Folder, process: str) -> None:
    """Take away what a process that is gone, and its workers, left unfinished."""
    parent = scratch_parent(folder)
    for left in [parent / process, *parent.glob(f"{process}.*")]:
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        parent.rmdir()  # if nobody else needs it


def sha256(path: Path, beat: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 of a local file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            beat()
    return digest.hexdigest()


class _Beat(Callback):  # type: ignore[misc]  # fsspec has no types
    """Tells that an upload goes on."""

    def __init__(self, beat: Callable[[], None]) -> None:
        super().__init__()
        self._beat = beat

    def relative_update(self, inc: Any = 1) -> None:
        self._beat()
