"""What is kept of a song under way, so that a killed run goes on where it was.

    OUT/MODEL/.resume/KEY.chunks    what the networks made so far; gone when the stems are there
    OUT/MODEL/.resume/KEY.json      what the finished stems were made of

Only what is dear is kept: the networks' output. A resumed run reads its song from the start, as any
run does, takes stored batches in place of computed ones, and goes on behind the last. Resampling,
overlap-add and encoders do all their work again, so the stems are byte for byte those of a run that
was never stopped, in every format.

    chunks file    magic | stamp [32] | record | record | …
    record         digest of the batch that went in [16] | CRC-32 | batch, rows, samples (uint32)
                   | what came out, float32 [batch, rows, samples]

The stamp stands for model, settings and machine; of another stamp, the file is begun anew. A record
counts if it is whole and its digest is that of the input at hand; at the first that does not, the
file is cut off. So neither a kill within a write nor another song can do harm.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from solovox.errors import AudioError, SolovoxError
from solovox.files import explained, written_whole

FloatArray = npt.NDArray[np.float32]

FOLDER = ".resume"
MAGIC = b"solovox chunks 1\n"
RECORD = struct.Struct("<16sIIII")
ROWS = 4  # most rows of a chunk: two stereo signals
MAKE_ROOM = "make room, then resume"


def digest(facts: Mapping[str, Any]) -> bytes:
    """The SHA-256 of JSON values by name."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits.

    Raises:
        AudioError: if it cannot be read, or is a pipe.
    """
    if path.exists() and not path.is_file():
        raise AudioError(f"{path}: only files can be resumed; save it to one first")
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read ({reason}); check its name") from error
    return total.hexdigest()


@dataclass(frozen=True)
class SongState:
    """The two files of a song.

    Attributes:
        folder: in which they are.
        name: the song's, different from that of all others of the same run.
    """

    folder: Path
    name: str

    @property
    def chunks(self) -> Path:
        """Where the networks' output is kept."""
        return self._file(".chunks")

    @property
    def receipt(self) -> Path:
        """Where it is noted what the finished stems were made of."""
        return self._file(".json")

    def is_finished(self, facts: Mapping[str, Any], files: Iterable[Path]) -> bool:
        """Whether all files are there, whole, and made of the same."""
        try:
            noted = json.loads(self.receipt.read_text("utf-8"))
            sizes = self._sizes(files)
        except (OSError, ValueError):
            return False
        return bool(noted == {"facts": facts, "bytes": sizes})

    def forget(self) -> None:
        """The files are about to be made anew: what was noted of them holds no longer."""
        with suppress(OSError):
            self.receipt.unlink()

    def finish(self, facts: Mapping[str, Any], files: Iterable[Path]) -> None:
        """Note what the files were made of."""
        sizes = self._sizes(files)
        with explained(self.receipt, MAKE_ROOM), written_whole(self.receipt) as part:
            part.write_text(json.dumps({"facts": facts, "bytes": sizes}, indent=1) + "\n", "utf-8")

    def _sizes(self, files: Iterable[Path]) -> dict[str, int]:
        """Bytes by path; a name alone may be that of several stems."""
        return {os.path.relpath(file, self.folder): file.stat().st_size for file in files}

    def _file(self, suffix: str) -> Path:
        key = hashlib.sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self.folder / f"{key}{suffix}"


class ChunkStore:
    """Batches of processed chunks on disk, in their order; a context manager.

    First `take` gives back what is there, batch by batch; from where it gives None, `put` adds.

    Args:
        path: the file, made if missing.
        stamp: 32 bytes that stand for all that the output depends on besides the input.

    Raises:
        SolovoxError: if it cannot be opened, or another process has it open; or, by `put`, if
            it cannot be written.
    """

    def __init__(self, path: Path, stamp: bytes) -> None:
        self.path = path
        self.taken = 0
        self._reading = True
        with explained(path, MAKE_ROOM):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not "a+b": that would write behind what is to be cut off.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666), "r+b")
        self._file: BinaryIO = file
        try:
            _lock(file, path)
            head = MAGIC + stamp
            if file.read(len(head)) != head:
                self._cut(0)
                self._write(head)
        except BaseException:
            file.close()
            raise

    def take(self, batch: FloatArray) -> FloatArray | None:
        """What was made of a batch [batch, channels, samples], or None if that is not known."""
        if not self._reading:
            return None
        start = self._file.tell()
        rows = self._read(batch)
        if rows is None:
            self._reading = False
            self._cut(start)
        else:
            self.taken += len(rows)
        return rows

    def put(self, batch: FloatArray, rows: FloatArray) -> None:
        """Keep what was made of a batch: float32 [batch, rows, samples]."""
        content = np.ascontiguousarray(rows, "<f4").tobytes()
        self._write(RECORD.pack(_digest(batch), zlib.crc32(content), *rows.shape) + content)

    def discard(self) -> None:
        """Remove the file: it is of no more use."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file, and let others open it."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> ChunkStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, batch: FloatArray) -> FloatArray | None:
        head = self._file.read(RECORD.size)
        if len(head) < RECORD.size:
            return None
        known, check, count, rows, samples = RECORD.unpack(head)
        if (count, samples) != (len(batch), batch.shape[2]) or not 0 < rows <= ROWS:
            return None
        content = self._file.read(4 * count * rows * samples)
        if len(content) < 4 * count * rows * samples or zlib.crc32(content) != check:
            return None
        if known != _digest(batch):
            return None
        made = np.frombuffer(content, "<f4").reshape(count, rows, samples)
        return made.astype(np.float32)  # a copy that may be written to

    def _write(self, content: bytes) -> None:
        with explained(self.path, MAKE_ROOM):
            self._file.write(content)
            self._file.flush()  # from here on a kill does no harm

    def _cut(self, size: int) -> None:
        with explained(self.path, MAKE_ROOM):
            self._file.seek(size)
            self._file.truncate()


_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def _digest(batch: FloatArray) -> bytes:
    content = np.ascontiguousarray(batch, "<f4")
    return hashlib.blake2b(
        content.tobytes(), digest_size=16, key=str(batch.shape).encode()
    ).digest()


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes out for as long as the file is open; a killed one lets go by itself."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SolovoxError(
            f"{path}: another process is at work on this song; let it end"
        ) from error
    except OSError:  # a file system without locks
        return
