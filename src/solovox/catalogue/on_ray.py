"""Workers as actors of a Ray cluster: https://docs.ray.io/en/latest/ray-core/actors.html.

The actors may be on any machine of the cluster, so the folders must be reachable from all. Without
a cluster (RAY_ADDRESS), Ray is started on this machine. An actor that is lost is an event like any
other: the driver starts another, wherever there is room then.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import ray

from solovox.allocation import keep_memory
from solovox.catalogue.engines import Event, count_workers
from solovox.catalogue.settings import Job
from solovox.catalogue.songs import Song
from solovox.catalogue.worker import Message, Worker
from solovox.errors import SolovoxError, reason

STARTS = 3  # Ray gives itself 30 s to start here, and a busy machine may take longer
ASK = 1.0  # s between questions to a busy worker whether something goes on


class SongActor:
    """A worker behind Ray's calls: `count` is answered while `do` runs."""

    def __init__(self, job: dict[str, Any], owner: str) -> None:
        self._job, self._owner = job, owner
        self._count = 0
        self._worker: Worker | None = None

    def load(self) -> Message:
        """The message that it is ready, or broken."""
        keep_memory()  # the actor has a process of its own
        try:
            self._worker = Worker(Job.from_json(self._job), self._owner)
        except SolovoxError as error:
            return {"kind": "broken", "error": str(error)}
        return self._worker.ready()

    def do(self, song: Song, tries: int) -> Message:
        """The message how a song went."""
        assert self._worker is not None
        return self._worker.do(song, tries, self._beat)

    def count(self) -> int:
        """A number that grows while something goes on."""
        return self._count

    def _beat(self) -> None:
        self._count += 1


class RayEngine:
    """Each worker is an actor, with `threads` CPUs or one GPU.

    Args:
        owner: a name for the driver.
        job: what the workers are for.
        workers: how many; None takes as many as the cluster, or this machine, has room for.
        actor: the class of the actors.
    """

    def __init__(
        self, owner: str, job: Job, workers: int | None = None, actor: type = SongActor
    ) -> None:
        self._owner = owner
        cpus = job.settings.threads or 1
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(
                None if os.environ.get("RAY_ADDRESS") else (workers or count_workers(job)) * cpus
            )
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if job.device.startswith(("auto", "cuda")) else 0
        self.workers = workers or gpus or max(1, int(resources.get("CPU", 1)) // cpus)
        self._make = ray.remote(actor).options(
            num_cpus=0 if gpus else cpus,
            num_gpus=1 if gpus else 0,
            max_restarts=0,
            max_concurrency=2,
        )
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, str]] = {}
        self._counts: dict[int, int] = {}
        self._asked: dict[int, float] = {}
        self.ready: dict[int, int] = {}
        """Slot → process number of a worker that has loaded."""

    def start(self, slot: int, job: Job) -> None:
        """Create an actor and let it load the model."""
        self._actors[slot] = actor = self._make.remote(job.to_json(), f"{self._owner}.{slot}")
        self._calls[actor.load.remote()] = (slot, "load")

    def give(self, slot: int, song: Song, tries: int) -> None:
        """Call an actor with a song."""
        self._calls[self._actors[slot].do.remote(song, tries)] = (slot, "do")

    def wait(self, seconds: float) -> list[Event]:
        """What calls have returned."""
        self._ask()
        if not self._calls:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        events = []
        for call in ready:
            if call not in self._calls:  # of an actor that has died in the meantime
                continue
            slot, kind = self._calls.pop(call)
            try:
                answer = ray.get(call)
            except ray.exceptions.RayError:
                self.kill(slot)
                events.append(Event(slot, {"kind": "died"}))
                continue
            if kind != "count":
                if answer["kind"] == "ready":
                    self.ready[slot] = answer["process"]
                events.append(Event(slot, answer))
            elif answer != self._counts.get(slot):
                self._counts[slot] = answer
                events.append(Event(slot, {"kind": "beat"}))
        return events

    def kill(self, slot: int) -> None:
        """Kill an actor."""
        self._calls = {call: value for call, value in self._calls.items() if value[0] != slot}
        self.ready.pop(slot, None)
        self._asked.pop(slot, None)
        actor = self._actors.pop(slot, None)
        if actor is not None:
            ray.kill(actor)

    def close(self) -> None:
        """Kill all actors, and leave the cluster if this has joined it."""
        for slot in list(self._actors):
            self.kill(slot)
        if self._connected:
            ray.shutdown()

    def _ask(self) -> None:
        """Ask workers that have a song whether they go on."""
        asked = {slot for slot, kind in self._calls.values() if kind == "count"}
        for slot in {slot for slot, kind in self._calls.values() if kind == "do"} - asked:
            if time.monotonic() - self._asked.get(slot, 0.0) >= ASK:
                self._asked[slot] = time.monotonic()
                self._calls[self._actors[slot].count.remote()] = (slot, "count")


def _connect(cpus: int | None) -> None:
    """Join the cluster, or start Ray here."""
    here: dict[str, Any] = {} if cpus is None else {"num_cpus": cpus, "include_dashboard": False}
    for left in reversed(range(1 if cpus is None else STARTS)):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
            return
        except Exception as error:  # Ray raises what it likes here
            ray.shutdown()
            if not left:
                raise SolovoxError(f"Ray cannot be started or reached: {reason(error)}") from error
