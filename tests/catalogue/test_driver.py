"""The driver with workers that follow a script, so that every turn of events can be had at will."""

import errno
import json
from collections import deque

import pytest

from solovox.catalogue import driver as module
from solovox.catalogue.driver import Driver, Limits
from solovox.catalogue.engines import Event
from solovox.catalogue.records import read_records, write_record
from solovox.catalogue.settings import DEFAULTS, Job
from solovox.catalogue.songs import Song
from solovox.catalogue.storage import Folder
from solovox.errors import SolovoxError

READY = {
    "kind": "ready",
    "settings": vars(DEFAULTS),
    "identity": {"name": "n", "sha256": "s", "config": "c"},
}


def done(song):
    record = {"path": song.path, "shard": 0, "status": "done", "bytes": song.bytes}
    return {"kind": "done", "record": {**record, "seconds": 1.0, "stems": {}, "run": {"tries": 1}}}


class Script:
    """An engine in which songs go as a table says: path → messages, one a try; None is silence."""

    def __init__(self, out, table, loads=()):
        self.out, self.table, self.loads = (
            out,
            {k: deque(v) for k, v in table.items()},
            deque(loads),
        )
        self.events, self.given, self.killed, self.with_worker, self.most = [], [], [], set(), 0

    def start(self, slot, job):
        message = self.loads.popleft() if self.loads else READY
        if message:
            self.events.append(Event(slot, message))

    def give(self, slot, song, tries):
        self.given.append((song.path, tries))
        self.with_worker.add(slot)
        self.most = max(self.most, len(self.with_worker))
        script = self.table.get(song.path)
        message = script.popleft() if script else done(song)
        if message and message["kind"] == "done":
            write_record(self.out, 0, song.key, message["record"])
        if message:
            self.events.append(Event(slot, message))

    def wait(self, seconds):
        events, self.events = self.events, []
        self.with_worker -= {event.slot for event in events}
        return events

    def kill(self, slot):
        self.killed.append(slot)
        self.with_worker.discard(slot)

    def close(self):
        pass


DIED = {"kind": "died"}
OUCH = {"kind": "failed", "status": "failed", "error": "ouch"}
BAD = {"kind": "failed", "status": "unreadable", "error": "no sound"}
FULL = {"kind": "failed", "status": "full", "error": "no space left"}


@pytest.fixture
def out(tmp_path) -> Folder:
    return Folder(str(tmp_path))


def drive(out, songs, table, loads=(), workers=2, **limits):
    engine = Script(out, table, loads)
    songs = [Song(name, 5, name) for name in songs]
    driver = Driver(Job("songs", out.url), out, {0: songs}, Limits(**limits))
    try:
        return engine, driver.run(lambda: (engine, workers))
    finally:
        engine.report = driver.report


def statuses(out):
    return {path: record["status"] for path, record in read_records(out, 0).items()}


def test_songs_go_to_as_many_workers_as_there_are(out):
    engine, report = drive(out, "abcdefgh", {})
    assert sorted(engine.given) == [(name, 1) for name in "abcdefgh"]
    assert engine.most == 2
    assert (report.songs, report.done, report.seconds) == (8, 8, 8.0)
    assert out.read("manifest.parquet")


def test_nothing_is_started_if_all_is_done(out):
    drive(out, "ab", {})
    engine, report = drive(out, "ab", {})
    assert engine.given == []
    assert (report.before, report.done) == (2, 0)


def test_a_song_that_goes_wrong_once_is_done_last(out):
    engine, report = drive(out, "abcd", {"a": [DIED], "b": [OUCH]}, workers=1)
    assert engine.given == [(n, 1) for n in "abcd"] + [("a", 2), ("b", 2)]
    assert report.done == 4
    assert not report.aside


def test_a_song_that_goes_wrong_each_time_is_set_aside(out):
    out.write("stems/a/vocals.wav", b"of a worker that died before its record")
    table = {"a": [DIED] * 3, "b": [OUCH] * 3, "c": [BAD]}
    engine, report = drive(out, "abcd", table)
    assert statuses(out) == {"a": "poisoned", "b": "failed", "c": "unreadable", "d": "done"}
    assert len(engine.given) == 3 + 3 + 1 + 1
    errors = {record["path"]: record["error"] for record in report.aside}
    assert errors == {"a": "its worker died, 3 times", "b": "ouch", "c": "no sound"}
    assert out.read("stems/a/vocals.wav") is None


def test_the_next_run_tries_what_failed_for_a_passing_reason_and_with_again_all(out):
    drive(out, "abc", {"a": [DIED] * 3, "b": [OUCH] * 3})
    engine, report = drive(out, "abc", {})
    assert engine.given == [("b", 1)]
    assert [record["path"] for record in report.aside] == ["a"]
    engine, report = drive(out, "abc", {}, again=True)
    assert engine.given == [("a", 1)]
    assert not report.aside


def test_a_worker_that_dies_after_the_record_has_done_its_song(out):
    song = Song("a", 5, "a")

    class Late(Script):
        def give(self, slot, song, tries):
            super().give(slot, song, tries)
            self.events[-1] = Event(slot, DIED)

    engine = Late(out, {})
    report = Driver(Job("songs", out.url), out, {0: [song]}, Limits()).run(lambda: (engine, 1))
    assert engine.given == [("a", 1)]
    assert report.done == 1


def test_silence_ends_a_worker(out, monkeypatch):
    now = iter(range(0, 10**6, 7))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    _, report = drive(out, "ab", {"a": [None] * 3}, loads=[None, READY], minutes=2)
    assert statuses(out) == {"a": "hung", "b": "done"}
    assert report.aside[0]["error"] == "nothing went on for 2 minutes, 3 times"


def test_workers_that_cannot_start_end_the_run(out):
    with pytest.raises(SolovoxError, match="3 workers in a row died or hung while they loaded"):
        drive(out, "ab", {}, loads=[DIED] * 3)
    with pytest.raises(SolovoxError, match="no model"):
        drive(out, "ab", {}, loads=[{"kind": "broken", "error": "no model"}])
    assert statuses(out) == {}
    assert out.read("catalogue.json") is None


def test_a_worker_that_starts_late_is_no_songs_fault(out):
    engine, _ = drive(out, "ab", {}, loads=[DIED, DIED])
    assert sorted(engine.given) == [("a", 1), ("b", 1)]


def test_a_worker_that_would_compute_otherwise_is_replaced(out):
    other = {**READY, "settings": {**READY["settings"], "precision": "bf16"}}
    engine, report = drive(out, "abcd", {}, loads=[READY, other])
    assert (report.done, engine.killed) == (4, [1])
    other = {**READY, "identity": {**READY["identity"], "sha256": "other"}}
    with pytest.raises(SolovoxError, match="was begun with the model n"):
        drive(out, "abcde", {}, loads=[other])


def test_a_full_disk_ends_the_run_and_no_song_is_blamed(out):
    engine, report = drive(out, "abcd", {"b": [FULL]}, workers=1)
    assert "disk is full" in report.stopped
    assert statuses(out) == {"a": "done"}
    engine, report = drive(out, "abcd", {}, workers=1)
    assert engine.given == [(name, 1) for name in "bcd"]


def test_a_disk_that_is_full_for_the_driver_too(out, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_manifest", fail)
    assert "disk is full" in drive(out, "a", {})[1].stopped


def test_when_all_songs_fail_the_run_ends(out):
    names = [f"{number:03d}" for number in range(100)]
    engine, report = drive(out, names, {name: [OUCH] * 3 for name in names})
    assert report.stopped.startswith("10 songs in a row failed")
    assert len(engine.given) <= 12
    engine, report = drive(out, names, {})
    assert report.done == 100


def test_a_song_that_takes_the_driver_down_is_remembered(out):
    class Crash(BaseException):
        pass

    class Deadly(Script):
        def give(self, slot, song, tries):
            if song.path == "b":
                self.given.append((song.path, tries))
                raise Crash
            super().give(slot, song, tries)

    for tries in range(3):
        engine = Deadly(out, {})
        songs = {0: [Song(name, 5, name) for name in "abc"]}
        driver = Driver(Job("songs", out.url), out, songs, Limits())
        driver._end = lambda: None  # it dies without a word
        with pytest.raises(Crash):
            driver.run(lambda engine=engine: (engine, 1))
        assert engine.given[-1] == ("b", tries + 1)
        name = out.names("claims/00000")[-1]
        state = {**json.loads(out.read(name)), "process": 2**22 + 1}  # it is gone
        out.write(name, json.dumps(state).encode())
    engine, _ = drive(out, "abc", {})
    assert engine.given == []
    assert statuses(out) == {"a": "done", "b": "poisoned", "c": "done"}


def test_a_song_of_another_size_is_done_again(out):
    drive(out, "ab", {})
    songs = {0: [Song("a", 5, "a"), Song("b", 6, "b")]}
    engine = Script(out, {})
    Driver(Job("songs", out.url), out, songs, Limits()).run(lambda: (engine, 1))
    assert engine.given == [("b", 1)]
