"""The driver: takes shards, keeps workers busy, counts tries, and sees to it that nothing is lost.

A song is in one of four states. It *waits*; it is *with a worker*; it is *done* when its record is
there; or it is *set aside*, with a record that says why:

    unreadable   it is no sound, or broken; more tries would not help
    poisoned     its worker died each time
    hung         nothing went on for too long, each time
    failed       something else went wrong each time; another run tries it again

A song is begun at most `tries` times, and one that went wrong goes to the end of the queue. No more
songs are fetched at once than there are workers. A full disk, many songs that fail in a row, or
workers that cannot start end the run: what waits is done by the next one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from solovox.catalogue.claims import RENEW, Claim, Claims
from solovox.catalogue.engines import Engine
from solovox.catalogue.manifest import merge_manifests, write_manifest
from solovox.catalogue.records import (
    DONE,
    FAILED,
    Record,
    read_record,
    read_records,
    write_record,
)
from solovox.catalogue.settings import Job, check_identity, fix_job
from solovox.catalogue.songs import Song
from solovox.catalogue.storage import Folder, clear_scratch
from solovox.catalogue.worker import DISK_FULL, FULL, UNREADABLE, Message
from solovox.errors import SolovoxError

POISONED, HUNG = "poisoned", "hung"
IN_A_ROW = 10  # songs that fail one after the other end a run
TICK = 1.0  # s, at most, between looks at signals and clocks
POLL = 5.0  # s between looks at shards of other drivers


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        tries: how often a song is begun.
        minutes: for how long a worker may do nothing, while it loads or works on a song.
        again: whether songs that were set aside in earlier runs are tried again.
        check: whether the stems of songs that are done are compared with their hashes.
    """

    tries: int = 3
    minutes: float = 10.0
    again: bool = False
    check: bool = False


@dataclass
class Report:
    """What a run did.

    Attributes:
        songs: in the shards that were this run's.
        before: done by earlier runs.
        done: done by this one.
        seconds: of the songs that this one has done.
        aside: records of all songs that are set aside.
        notes: what else there is to say.
        stopped: why the run ended early; None if it did not.
    """

    songs: int = 0
    before: int = 0
    done: int = 0
    seconds: float = 0.0
    aside: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None


class Stop(BaseException):
    """Ends a run at once; passes through whatever catches errors of songs."""


@dataclass
class _Shard:
    claim: Claim
    records: dict[str, Record]
    left: int


@dataclass
class _Task:
    song: Song
    shard: _Shard


@dataclass
class _Slot:
    """A place for a worker. `heard` is when it last said something."""

    started: bool = False
    ready: bool = False
    heard: float = 0.0
    task: _Task | None = None


class Driver:
    """One run over some shards of a catalogue.

    Args:
        job: what to do.
        target: the output folder.
        songs: shard → its songs.
        limits: when to give up.
        stop: asked about once a second whether to end.
        tell: called with the report when something has changed.
    """

    def __init__(
        self,
        job: Job,
        target: Folder,
        songs: dict[int, list[Song]],
        limits: Limits,
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[Report], None] = lambda report: None,
    ) -> None:
        self.report = Report()
        self._job, self._target, self._songs, self._limits = job, target, songs, limits
        self._stop, self._tell = stop, tell
        self._claims = Claims(target)
        self._pending = deque(songs)
        self._held: list[int] = []
        self._shards: list[_Shard] = []
        self._queue: deque[_Task] = deque()
        self._failed_in_a_row = self._failed_starts = 0
        self._renewed = self._polled = time.monotonic()

    def run(self, make: Callable[[], tuple[Engine, int]]) -> Report:
        """Do all there is to do.

        Args:
            make: the engine, and how many workers it is to have; called if there is a song to do.

        Raises:
            SolovoxError: if the run cannot go on, in one line; what is done stays done.
        """
        self._engine: Engine | None = None
        self._slots: list[_Slot] = []
        try:
            while self._refill():
                if self._engine is None and self._queue:
                    self._engine, workers = make()
                    self._slots = [_Slot() for _ in range(workers)]
                self._step()
        except Stop as stop:
            self.report.stopped = str(stop)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise SolovoxError(f"{self._target.url}: {error}") from error
            self.report.stopped = _full(error.strerror)
        finally:
            self._end()
        return self.report

    def beat(self) -> None:
        """Look at signals and renew claims; for engines that do not return for long."""
        if self._stop():
            raise Stop("stopped")
        if time.monotonic() - self._renewed >= RENEW:
            self._renewed = time.monotonic()
            for shard in self._shards:
                shard.claim.save()

    def _refill(self) -> bool:
        """Take shards until all workers have songs to come; whether anything is left to do."""
        self.beat()
        while self._pending and len(self._queue) <= len(self._slots):
            index = self._pending.popleft()
            claim = self._claims.take(index)
            if claim is None:
                self._held.append(index)
            else:
                self._open(claim)
            self.beat()
        busy = bool(self._queue) or any(slot.task for slot in self._slots)
        if not busy and not self._pending and self._held:
            self._look_at_held()
        return busy or bool(self._pending or self._held or self._queue)

    def _look_at_held(self) -> None:
        """Take shards that others have left; leave those to others on which they work."""
        if time.monotonic() - self._polled < POLL:
            return
        self._polled = time.monotonic()
        for index in list(self._held):
            claim = self._claims.take(index)
            if claim is not None:
                self._held.remove(index)
                self._open(claim)
            elif holder := self._claims.alive.get(index):
                self._held.remove(index)
                self.report.notes.append(f"shard {index} is left to {holder}, who works on it")

    def _open(self, claim: Claim) -> None:
        records = read_records(self._target, claim.shard)
        shard = _Shard(claim, records, 0)
        self._shards.append(shard)
        late: list[_Task] = []
        for song in self._songs.pop(claim.shard):
            self.report.songs += 1
            record = records.get(song.path)
            if record is not None and self._is_settled(song, record):
                if record["status"] == DONE:
                    self.report.before += 1
                else:
                    self.report.aside.append(record)
                continue
            shard.left += 1
            tries = claim.tries.get(song.path, 0)
            (late if tries else self._queue).append(_Task(song, shard))
        # Songs that were begun and not finished may have killed a driver: they come last.
        for task in late:
            if claim.tries[task.song.path] < self._limits.tries:
                self._queue.append(task)
            else:
                self._set_aside(task, POISONED, self._died_of(task))
        self._tell(self.report)
        self._close_if_complete(shard)

    def _is_settled(self, song: Song, record: Record) -> bool:
        """Whether there is nothing to do for a song: it is done, or set aside for good."""
        if record.get("bytes") != song.bytes:
            return False
        if record["status"] != DONE:
            return record["status"] != FAILED and not self._limits.again
        if not self._limits.check:
            return True
        for stem in record["stems"].values():
            self.beat()
            if self._target.digest(stem["path"]) != stem["sha256"]:
                self.report.notes.append(f"{song.path}: its stems are not as they were; done again")
                return False
        return True

    def _step(self) -> None:
        """Give songs to workers, and hear what they say."""
        if self._engine is None:
            time.sleep(TICK)
            return
        for number, slot in enumerate(self._slots):
            if self._queue and not slot.started:
                slot.started, slot.ready, slot.heard = True, False, time.monotonic()
                self._engine.start(number, self._job)
            elif self._queue and slot.ready and slot.task is None:
                self._give(number, slot, self._queue.popleft())
        for event in self._engine.wait(TICK):
            self._hear(event.slot, event.message)
        for number, slot in enumerate(self._slots):
            silent = time.monotonic() - slot.heard > 60 * self._limits.minutes
            if slot.started and silent and (slot.task or not slot.ready):
                self._engine.kill(number)
                minutes = f"{self._limits.minutes:g} minutes"
                self._lost(slot, HUNG, f"nothing went on for {minutes}, {{tries}} times")

    def _give(self, number: int, slot: _Slot, task: _Task) -> None:
        assert self._engine is not None
        tries = task.shard.claim.tries.get(task.song.path, 0) + 1
        task.shard.claim.tries[task.song.path] = tries
        task.shard.claim.save()
        slot.task, slot.heard = task, time.monotonic()
        self._engine.give(number, task.song, tries)

    def _hear(self, number: int, message: Message) -> None:
        slot = self._slots[number]
        slot.heard = time.monotonic()
        kind = message["kind"]
        if kind == "ready":
            self._failed_starts = 0
            slot.ready = self._agree(number, message["settings"], message["identity"])
            slot.started = slot.ready
        elif kind == "broken":
            raise SolovoxError(message["error"])
        elif kind == "died":
            self._lost(slot, POISONED, "its worker died, {tries} times")
        elif slot.task is not None and kind == "done":
            task, slot.task = slot.task, None
            self._done(task, message["record"])
        elif slot.task is not None and kind == "failed":
            task, slot.task = slot.task, None
            self._failed(task, message["status"], message["error"])

    def _agree(self, number: int, settings: dict[str, Any], identity: dict[str, str]) -> bool:
        """Whether a worker understands the job as the others do; it is taken away if not.

        The first one decides what was left open. Another may have begun before that, on a machine
        that would compute in other numbers: the next one in its place is told.
        """
        assert self._engine is not None
        if not self._job.identity:
            self._job = fix_job(self._target, self._job, settings, identity)
        check_identity(self._target.url, self._job.identity, identity)
        if settings != asdict(self._job.settings):
            self._engine.kill(number)
            return False
        return True

    def _done(self, task: _Task, record: Record) -> None:
        self._failed_in_a_row = 0
        self.report.done += 1
        self.report.seconds += record["seconds"]
        self._settle(task, record)

    def _failed(self, task: _Task, status: str, error: str) -> None:
        if status == FULL:
            task.shard.claim.tries[task.song.path] -= 1
            raise Stop(_full(error))
        if status == UNREADABLE:
            self._set_aside(task, status, error)
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= IN_A_ROW:
            task.shard.claim.tries[task.song.path] -= 1
            raise Stop(f"{IN_A_ROW} songs in a row failed, the last with: {error}")
        self._try_again(task, status, error)

    def _lost(self, slot: _Slot, status: str, why: str) -> None:
        """A worker is gone."""
        task, slot.task = slot.task, None
        was_ready, slot.started, slot.ready = slot.ready, False, False
        if task is None:
            self._failed_starts += not was_ready
            if self._failed_starts >= max(self._limits.tries, len(self._slots)):
                raise SolovoxError(
                    f"{self._failed_starts} workers in a row died or hung while they loaded the "
                    "model; see what they printed, and try `solovox separate` with one song"
                )
            return
        song, shard = task.song, task.shard
        record = read_record(self._target, shard.claim.shard, song.key)
        if record is not None and record["status"] == DONE and record["bytes"] == song.bytes:
            before = shard.records.get(song.path)
            if before is None or before["run"] != record["run"]:
                self._done(task, record)  # it died after the song
                return
        self._try_again(task, status, why.format(tries=shard.claim.tries[song.path]))

    def _try_again(self, task: _Task, status: str, error: str) -> None:
        if task.shard.claim.tries[task.song.path] < self._limits.tries:
            self._queue.append(task)
        else:
            self._set_aside(task, status, error)

    def _died_of(self, task: _Task) -> str:
        return f"its worker or the driver died, {task.shard.claim.tries[task.song.path]} times"

    def _set_aside(self, task: _Task, status: str, error: str) -> None:
        song, shard = task.song, task.shard
        record: Record = {
            "path": song.path,
            "shard": shard.claim.shard,
            "status": status,
            "error": error,
            "bytes": song.bytes,
            "run": {"tries": shard.claim.tries.get(song.path, 0)},
        }
        for stem in self._job.settings.written:
            self._target.remove(song.stem(stem, self._job.settings.extension or "wav"))
        write_record(self._target, shard.claim.shard, song.key, record)
        self.report.aside.append(record)
        self._settle(task, record)

    def _settle(self, task: _Task, record: Record) -> None:
        """A song is done or set aside."""
        shard = task.shard
        shard.records[task.song.path] = record
        shard.claim.tries.pop(task.song.path, None)
        shard.left -= 1
        self._tell(self.report)
        self._close_if_complete(shard)

    def _close_if_complete(self, shard: _Shard) -> None:
        if shard.left or shard not in self._shards:
            return
        write_manifest(self._target, shard.claim.shard, shard.records.values())
        merge_manifests(self._target, self._job.settings.shards or 1)
        shard.claim.release()
        self._shards.remove(shard)

    def _end(self) -> None:
        """Take workers away, and give shards back with what is known of unfinished songs."""
        if self._engine is not None:
            self._engine.close()
        for slot in self._slots:
            if slot.task is not None:
                slot.task.shard.claim.tries[slot.task.song.path] -= 1
        for shard in self._shards:
            try:
                shard.claim.release()
            except (OSError, SolovoxError):
                continue  # it will be seen that this process is gone
        clear_scratch(self._target, self._target.owner)


def _full(error: object) -> str:
    return f"the disk is full or cannot be written ({error}); free space and run again"
