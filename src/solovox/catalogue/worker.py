"""A worker: loads the model once, then does one song after the other.

    song ── fetch, hash ── separate into the scratch folder ── read back ── put in place ── record

Everything it says is a message, a dict with a "kind":

    ready   the settings and the model, as they were understood
    beat    something goes on
    done    the record of a song, which is in place
    failed  the error, and whether the song is "unreadable", or it "failed" for a reason that may
            pass, or the disk is "full"
    broken  no song can be done: the model or a setting is wrong

As a process of its own (`python -m solovox.catalogue.worker`) it takes the job, then songs, as
lines of JSON from standard input, and ends when that ends: it does not outlive its driver.
"""

from __future__ import annotations

import errno
import json
import math
import os
import queue
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from solovox.allocation import keep_memory
from solovox.catalogue.records import DONE, FAILED, Record, write_record
from solovox.catalogue.settings import Job, Settings, check_identity, identify
from solovox.catalogue.songs import Song, shard_of
from solovox.catalogue.storage import Folder, sha256
from solovox.errors import AudioError, SolovoxError, printable, reason

Message = dict[str, Any]
BEAT = 0.5  # s between beats
UNREADABLE, FULL = "unreadable", "full"
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Worker:
    """A separator with a place to read songs from and one to put stems in.

    Args:
        job: what to do.
        owner: a name for the worker; what it has not finished lies below it.

    Raises:
        SolovoxError: if the model cannot be loaded, is another than it was, or a setting is wrong.
    """

    def __init__(self, job: Job, owner: str) -> None:
        import torch

        from solovox import Separator, __version__
        from solovox.checkpoint import CONFIG, find_model
        from solovox.presets import SamplingConfig

        self.source, self.target = Folder(job.source), Folder(job.target, owner)
        self._clear()
        settings = job.settings
        torch.set_num_threads(settings.threads or 1)
        sampling = [field.name for field in fields(SamplingConfig)]
        names = ("seed", "stems", "precision", *sampling)
        chosen = {name: getattr(settings, name) for name in names}
        self._separator = Separator(job.model, job.device, **chosen)
        self._identity = identify((find_model(job.model) / CONFIG).read_bytes())
        check_identity(job.target, job.identity, self._identity)
        self._settings = _resolved(settings, self._separator)
        self._version = __version__

    def ready(self) -> Message:
        """The message that it can begin."""
        return {
            "kind": "ready",
            "process": os.getpid(),
            "settings": asdict(self._settings),
            "identity": self._identity,
        }

    def do(self, song: Song, tries: int, beat: Callable[[], None]) -> Message:
        """Do a song; the message says how it went.

        Args:
            song: of the source.
            tries: how often it was begun, this time included.
            beat: called while something goes on.
        """
        start = time.monotonic()
        try:
            record = self._separate(song, beat)
            record["run"] = {
                "tries": tries,
                "seconds": round(time.monotonic() - start, 3),
                "host": socket.gethostname(),
                "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "solovox": self._version,
            }
            write_record(self.target, record["shard"], song.key, record)
        except Exception as error:  # of any kind: the other songs are to be done
            return {"kind": "failed", "status": _judge(error), "error": self._line(song, error)}
        finally:
            self._clear()
        return {"kind": "done", "record": record}

    def _separate(self, song: Song, beat: Callable[[], None]) -> Record:
        settings, scratch = self._settings, self.target.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        file, digest = self.source.fetch(song.path, scratch / "song", beat)
        paths = self._separator.separate_file(
            file,
            scratch,
            track="stems",
            filename="{stem}.{ext}",
            extension=settings.extension or "wav",
            subtype=settings.subtype,
            stems=settings.written,
            gain=settings.gain or 0.0,
            progress=lambda share: beat(),
        )
        stems: dict[str, Any] = {}
        for stem, path in paths.items():
            sound = _read_back(path, beat)
            stems[stem] = {
                "path": song.stem(stem, settings.extension or "wav"),
                "sha256": sha256(path, beat),
                "bytes": path.stat().st_size,
                "peak_db": sound.pop("peak_db"),
                "rms_db": sound.pop("rms_db"),
            }
        for stem, path in paths.items():
            self.target.upload(path, stems[stem]["path"], beat)
        return {
            "path": song.path,
            "shard": shard_of(song.path, settings.shards or 1),
            "status": DONE,
            "error": None,
            "sha256": digest,
            "bytes": song.bytes,
            **sound,
            "model": self._identity["name"],
            "model_sha256": self._identity["sha256"],
            "settings": {k: v for k, v in asdict(settings).items() if k != "shards"},
            "seed": settings.seed,
            "device": self._separator.device.type,
            "stems": stems,
        }

    def _line(self, song: Song, error: Exception) -> str:
        """The error as one line that is the same wherever the song was worked on."""
        text = reason(error)
        song_here, scratch = str(self.target.scratch / "song"), f"{self.target.scratch}/"
        for place in map(printable, (self.source.path(song.path), song_here)):
            text = text.replace(f"{place}: ", "").replace(place, song.path)
        text = text.replace(printable(scratch), "")
        return text if isinstance(error, SolovoxError) else f"{type(error).__name__}: {text}"

    def _clear(self) -> None:
        shutil.rmtree(self.target.scratch, ignore_errors=True)


def _resolved(settings: Settings, separator: Any) -> Settings:
    """The settings with nothing left to be decided."""
    import torch

    from solovox.audio import FORMATS
    from solovox.precision import autocast

    with autocast(separator.device, separator.precision):
        bf16 = torch.is_autocast_enabled(separator.device.type)
    subtypes = FORMATS[f".{settings.extension}"]
    subtype = settings.subtype or next(iter(subtypes))
    if subtype not in subtypes:
        raise SolovoxError(
            f"{settings.extension} holds no {subtype}; choose {' or '.join(subtypes)}"
        )
    values = {
        **asdict(settings),
        **vars(separator.sampling),
        "subtype": subtype,
        "stems": separator.stems,
    }
    return Settings(**values | {"precision": "bf16" if bf16 else "fp32"})


def _read_back(path: Path, beat: Callable[[], None]) -> dict[str, Any]:
    """Length and levels of a stem as it was written; an error if it was not written whole."""
    import numpy as np

    from solovox.audio import AudioReader

    peak = power = 0.0
    frames = 0
    with AudioReader(path) as reader:
        for block in reader.blocks(1 << 16):
            peak = max(peak, float(np.abs(block).max()))
            power += float(np.square(block, dtype=np.float64).sum())
            frames += block.shape[1]
            beat()
        rate, channels = reader.sample_rate, reader.channels
    rms = math.sqrt(power / (frames * channels))
    return {
        "seconds": round(frames / rate, 6),
        "sample_rate": rate,
        "channels": channels,
        "peak_db": _decibels(peak),
        "rms_db": _decibels(rms),
    }


def _decibels(level: float) -> float | None:
    return round(20 * math.log10(level), 3) if level else None


def _judge(error: BaseException) -> str:
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in DISK_FULL for cause in causes):
        return FULL
    system = any(isinstance(cause, OSError) for cause in causes)
    return UNREADABLE if isinstance(error, AudioError) and not system else FAILED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class Beat:
    """Passes a beat on, but not too often."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._last = tell, 0.0

    def __call__(self) -> None:
        """Something goes on."""
        if time.monotonic() - self._last >= BEAT:
            self._last = time.monotonic()
            self._tell()


def main() -> None:
    """Talk with a driver: messages go to standard output, what else is printed to the error's."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # they are the driver's to act on
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def tell(message: Message) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    first = json.loads(sys.stdin.readline())
    job, owner = Job.from_json(first["job"]), first["owner"]
    songs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            songs.put(json.loads(line))
        shutil.rmtree(Folder(job.target, owner).scratch, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    keep_memory()
    try:
        worker = Worker(job, owner)
    except SolovoxError as error:
        tell({"kind": "broken", "error": str(error)})
        return
    tell(worker.ready())
    beat = Beat(lambda: tell({"kind": "beat"}))
    while True:
        task = songs.get()
        tell(worker.do(Song(**task["song"]), task["tries"], beat))


if __name__ == "__main__":
    main()
