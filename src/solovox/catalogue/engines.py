"""Where workers run: each engine has slots, and a worker in each.

The driver starts a worker in a slot, gives it songs one by one, and waits for messages (see
`worker`). The engine adds one kind, "died", when a worker is gone. Whatever goes wrong in a worker,
the driver learns it by a message or by silence, and the engine can take the worker away.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from solovox.catalogue.settings import Job
from solovox.catalogue.songs import Song
from solovox.catalogue.storage import Folder, clear_scratch
from solovox.catalogue.worker import Beat, Message, Worker
from solovox.errors import SolovoxError


class Event(NamedTuple):
    """A message from a slot."""

    slot: int
    message: Message


class Engine(Protocol):
    """What the driver needs of an engine."""

    def start(self, slot: int, job: Job) -> None:
        """Start a worker; "ready" or "broken" follows, or "died"."""

    def give(self, slot: int, song: Song, tries: int) -> None:
        """Give a song to a worker that is ready."""

    def wait(self, seconds: float) -> list[Event]:
        """What workers say, as soon as one says something, at the latest after some seconds."""

    def kill(self, slot: int) -> None:
        """Take a worker away, whatever it does; nothing more comes from it."""

    def close(self) -> None:
        """Take all workers away."""


class LocalEngine:
    """Each worker is a process on this machine.

    Args:
        owner: a name for the driver.
        command: what to start in place of `python -m solovox.catalogue.worker`.
    """

    def __init__(self, owner: str, command: Sequence[str] | None = None) -> None:
        self._owner = owner
        self._command = command or [sys.executable, "-m", "solovox.catalogue.worker"]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.ready: dict[int, int] = {}
        """Slot → process number of a worker that has loaded."""
        self._targets: dict[int, Folder] = {}
        self._read: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._gpus: list[str] | None = None

    def start(self, slot: int, job: Job) -> None:
        """Start a process; on a machine with GPUs it sees one of them."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.settings.threads or 1)}
        if self._gpus is None:
            self._gpus = find_gpus(job.device)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is the driver's to act on
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._processes[slot], self._read[slot] = process, b""
        self._targets[slot] = Folder(job.target, f"{self._owner}.{slot}")
        self._selector.register(process.stdout, selectors.EVENT_READ, slot)
        self._send(slot, {"job": job.to_json(), "owner": self._targets[slot].owner})

    def give(self, slot: int, song: Song, tries: int) -> None:
        """Send a song."""
        self._send(slot, {"song": asdict(song), "tries": tries})

    def wait(self, seconds: float) -> list[Event]:
        """Messages, as soon as there are any."""
        events = []
        for key, _ in self._selector.select(seconds):
            slot = key.data
            data = os.read(key.fd, 1 << 16)
            *lines, self._read[slot] = (self._read[slot] + data).split(b"\n")
            for message in map(json.loads, lines):
                if message["kind"] == "ready":
                    self.ready[slot] = message["process"]
                events.append(Event(slot, message))
            if not data:
                self.kill(slot)
                events.append(Event(slot, {"kind": "died"}))
        return events

    def kill(self, slot: int) -> None:
        """Kill a process and clear what it left."""
        self.ready.pop(slot, None)
        process = self._processes.pop(slot, None)
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        self._selector.unregister(process.stdout)
        process.kill()
        process.wait()
        process.stdout.close()
        with suppress(OSError):  # what was not sent
            process.stdin.close()
        target = self._targets.pop(slot)
        clear_scratch(target, target.owner)

    def close(self) -> None:
        """Kill all processes."""
        for slot in list(self._processes):
            self.kill(slot)
        self._selector.close()

    def _send(self, slot: int, message: dict[str, Any]) -> None:
        stdin = self._processes[slot].stdin
        assert stdin is not None
        with suppress(BrokenPipeError):  # it is dead, and will be said to be
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()


class InlineEngine:
    """One worker, in this very process: for small catalogues, and for memory://.

    A song that takes the process down takes the driver down; one that hangs does so forever.

    Args:
        owner: a name for the driver.
        beat: called while a song is worked on; what it raises stops the work.
    """

    def __init__(self, owner: str, beat: Callable[[], None] = lambda: None) -> None:
        self._owner = owner
        self._beat = Beat(beat)
        self._workers: dict[int, Worker] = {}
        self._events: list[Event] = []
        self._tasks: list[tuple[int, Song, int]] = []

    def start(self, slot: int, job: Job) -> None:
        """Load the model."""
        try:
            self._workers[slot] = worker = Worker(job, f"{self._owner}.{slot}")
        except SolovoxError as error:
            self._events.append(Event(slot, {"kind": "broken", "error": str(error)}))
        else:
            self._events.append(Event(slot, worker.ready()))

    def give(self, slot: int, song: Song, tries: int) -> None:
        """Keep a song until `wait`."""
        self._tasks.append((slot, song, tries))

    def wait(self, seconds: float) -> list[Event]:
        """Do the songs that were given."""
        tasks, self._tasks = self._tasks, []
        for slot, song, tries in tasks:
            message = self._workers[slot].do(song, tries, self._beat)
            self._events.append(Event(slot, message))
        events, self._events = self._events, []
        if not events:
            time.sleep(seconds)
        return events

    def kill(self, slot: int) -> None:
        """Forget a worker."""
        self._workers.pop(slot, None)

    def close(self) -> None:
        """Forget all workers."""
        self._workers.clear()


def find_gpus(device: str) -> list[str]:
    """The GPUs of this machine for a choice of device, as CUDA_VISIBLE_DEVICES names them."""
    if not device.startswith(("auto", "cuda")):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def count_workers(job: Job) -> int:
    """How many workers this machine has room for: one a GPU, or one per `threads` cores."""
    if gpus := find_gpus(job.device):
        return len(gpus)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // (job.settings.threads or 1))
