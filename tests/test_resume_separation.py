"""A run that was killed goes on, and its stems are those of a run that was not, byte for byte."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from solovox.audio import AudioReader, AudioWriter, read_audio, write_audio
from solovox.errors import AudioError, SolovoxError
from solovox.resume import FOLDER, ChunkStore, SongState
from solovox.separator import Separator

RATE = 8000
FORMATS = [
    ("wav", "float"), ("wav", "pcm16"), ("wav", "pcm24"), ("flac", "pcm24"), ("mp3", None),
    ("ogg", None),
]  # fmt: skip


def song(seconds=4.0, rate=11025, seed=0):
    noise = np.random.default_rng(seed).standard_normal((2, round(seconds * rate)))
    return (0.2 * noise).astype(np.float32)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def stems_in(folder):
    return {p: data for p, data in contents(folder).items() if FOLDER not in p.parts}


class Killed(BaseException):
    pass


class Listening:
    """A model's formula that counts its calls and dies at one of them."""

    def __init__(self, last=None):
        self.calls, self.last = 0, last

    def __call__(self, x_t, mixture):
        self.calls += 1
        if self.calls == self.last:
            raise Killed
        return torch.tanh(x_t + mixture)


@pytest.fixture
def resumed(oracle, tmp_path):
    """Separate the song in `tmp_path` to `out` with resume; the number of chunks computed."""

    def run(last=None, out="out", **settings):
        formula = Listening(last)
        separator_settings = {k: settings.pop(k) for k in ("seed", "steps") if k in settings}
        separator = Separator(oracle(formula=formula), **{"steps": 1, **separator_settings})
        settings = {"resume": True, **settings}
        try:
            separator.separate_file(tmp_path / "song.wav", tmp_path / out, **settings)
        except Killed:
            return -1
        return formula.calls

    write_audio(tmp_path / "song.wav", song(), 11025)
    return run


@pytest.mark.parametrize(("extension", "subtype"), FORMATS)
def test_a_resumed_song_is_byte_for_byte_that_of_one_run(resumed, tmp_path, extension, subtype):
    if extension in ("mp3", "ogg"):
        write_audio(tmp_path / "song.wav", song(rate=44100), 44100)
    form = {"extension": extension, "subtype": subtype, "gain": -3.0}
    whole = resumed(out="whole", resume=False, **form)
    assert whole > 30
    assert resumed(last=20, **form) == -1
    assert resumed(last=8, **form) == -1  # again, in the resumed run
    assert stems_in(tmp_path / "out") == {}
    assert resumed(**form) == whole - 19 - 7
    assert stems_in(tmp_path / "out") == stems_in(tmp_path / "whole")
    assert len(stems_in(tmp_path / "out")) == 2
    assert [path.suffix for path in (tmp_path / "out" / "oracle" / FOLDER).iterdir()] == [".json"]
    assert resumed(**form) == 0  # it is finished


def test_batches_stay_together(oracle, tmp_path):
    """On a GPU another division into batches would change last bits."""
    sizes = []

    def formula(x_t, mixture):
        sizes.append(len(x_t))
        if len(sizes) == 4:
            raise Killed
        return mixture

    write_audio(tmp_path / "song.wav", song(2.0, RATE), RATE)
    for _ in range(2):
        separator = Separator(oracle(formula=formula), steps=1, batch_size=3)
        separator.device = type("Device", (), {"type": "gpu", "__str__": lambda self: "gpu"})()
        separator._rows = lambda batch, counter, s=separator: formula(
            np.stack([c for _, c in batch]), np.stack([c for _, c in batch])
        )
        try:
            separator.separate_file(tmp_path / "song.wav", tmp_path, resume=True)
        except Killed:
            continue
    assert set(sizes[:-1]) == {3}
    assert sum(sizes) - 3 == separator.plan.count(2 * RATE)  # the batch that died is done again


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"steps": 2}, {"song": 1}, {"damage": 5000}, {"damage": 40}]
)
def test_what_no_longer_fits_is_made_anew(resumed, tmp_path, change):
    assert resumed(last=20) == -1
    (kept,) = (tmp_path / "out" / "oracle" / FOLDER).iterdir()
    if "song" in change:
        write_audio(tmp_path / "song.wav", song(seed=change.pop("song")), 11025)
    if "damage" in change:
        data = bytearray(kept.read_bytes())
        data[change.pop("damage")] ^= 1
        kept.write_bytes(data)
    resumed(**change)
    resumed(out="whole", resume=False, **change)
    assert stems_in(tmp_path / "out") == stems_in(tmp_path / "whole")
    assert not kept.exists()


def test_a_torn_record_is_cut_off(resumed, tmp_path):
    whole = resumed(out="whole", resume=False)
    for bytes_left in (10, 60, 3000, 7001):
        assert resumed(last=20) == -1
        (kept,) = (p for p in (tmp_path / "out/oracle" / FOLDER).iterdir() if p.suffix != ".json")
        record = (kept.stat().st_size - 49) // 19
        with kept.open("r+b") as file:
            file.truncate(bytes_left)
        assert resumed() == whole - max(0, bytes_left - 49) // record
        assert stems_in(tmp_path / "out") == stems_in(tmp_path / "whole")
        (tmp_path / "out/oracle/song/vocals.wav").unlink()


@pytest.mark.parametrize("change", ["song", "missing", "short", "seed", "form", "overwritten"])
def test_a_finished_song_is_made_again_if_anything_changed(resumed, tmp_path, change):
    chunks = resumed()
    vocals = tmp_path / "out/oracle/song/vocals.wav"
    before, settings = vocals.read_bytes(), {}
    if change == "song":
        write_audio(tmp_path / "song.wav", song(seed=1), 11025)
    elif change == "missing":
        vocals.unlink()
    elif change == "short":
        vocals.write_bytes(before[:-1])
    elif change == "seed":
        settings = {"seed": 1}
    elif change == "form":
        settings = {"subtype": "pcm16"}
    else:
        resumed(resume=False, seed=1)  # by a run that keeps no state
    assert resumed(**settings) == chunks
    if change in ("missing", "short", "overwritten"):
        assert vocals.read_bytes() == before
    assert resumed(**settings) == 0


def test_state_is_bounded_and_a_song_that_cannot_be_read_leaves_none(resumed, tmp_path):
    assert resumed(last=44) == -1
    (kept,) = (tmp_path / "out" / "oracle" / FOLDER).iterdir()
    as_floats = 4 * 2 * 4.0 * RATE
    assert kept.stat().st_size < 1.3 * as_floats
    data = (tmp_path / "song.wav").read_bytes()
    write_audio(tmp_path / "song.wav", np.pad(song(), ((0, 0), (0, 10))), 11025)
    with (tmp_path / "song.wav").open("r+b") as file:
        file.seek(len(data) - 48)
        file.write(np.float32([np.nan]).tobytes() * 20)
    with pytest.raises(AudioError, match="NaN"):
        resumed()
    assert contents(tmp_path / "out") == {}


def test_settings_that_change_the_stems_are_all_noted(oracle):
    """A new argument of Separator has to be noted; a quality is, as what it stands for."""
    machine = {"device", "batch_size"}
    asked = set(inspect.signature(Separator).parameters) - {"model", "quality"}
    separator = Separator(oracle())
    noted = {**separator._facts, **separator._facts["sampling"], **separator._machine}
    assert asked <= noted.keys()
    assert machine == asked & separator._machine.keys()
    json.dumps(noted)


def test_the_model_is_noted_by_its_weights(oracle, network):
    assert Separator(oracle())._facts != Separator(oracle(name="other"))._facts
    before = Separator(network)._facts
    with torch.no_grad():
        network.generator.leave.bias += 1
    try:
        assert Separator(network)._facts["model"] != before["model"]
    finally:
        with torch.no_grad():
            network.generator.leave.bias -= 1


def test_two_processes_do_not_work_on_the_same_song(tmp_path):
    with (
        ChunkStore(tmp_path / "a.chunks", bytes(32)),
        pytest.raises(SolovoxError, match="another process"),
    ):
        ChunkStore(tmp_path / "a.chunks", bytes(32))
    ChunkStore(tmp_path / "a.chunks", bytes(32)).close()


def test_songs_of_one_name_but_other_suffix_have_states_of_their_own(tmp_path):
    assert SongState(tmp_path, "a\n.wav").chunks != SongState(tmp_path, "a\n.mp3").chunks
    assert SongState(tmp_path, "\udcff\n.wav").receipt.parent == tmp_path


def test_a_pipe_cannot_be_resumed(resumed, tmp_path):
    (tmp_path / "song.wav").unlink()
    os.mkfifo(tmp_path / "song.wav")
    with pytest.raises(AudioError, match="only files"):
        resumed()


def test_leftovers_of_other_targets_stay(tmp_path):
    writers = [AudioWriter(tmp_path / name, RATE, 1) for name in ("a.wav", "a.flac")]
    assert len(list(tmp_path.iterdir())) == 2
    from solovox.audio import remove_leftovers

    remove_leftovers(tmp_path / "a.wav")
    assert len(list(tmp_path.iterdir())) == 1
    writers[1].close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]
    writers[0].abort()


# Whole processes, killed

PROGRAM = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import make_network
from solovox import separator
from solovox.cli import main

quick = separator.generate_takes
def slowly(*args, **settings):
    time.sleep(0.02)
    yield from quick(*args, **settings)

separator.generate_takes = slowly
separator.load_model = lambda name: make_network()
main(["separate", *sys.argv[1:]])
"""


def command(tmp_path, *words):
    program = PROGRAM.format(tests=str(Path(__file__).parent))
    return [sys.executable, "-c", program, *map(str, words), "-q", "-j", "1"]


def test_a_batch_survives_kills_at_random_moments(tmp_path):
    songs = []
    for number, name in enumerate(("a.wav", "b.flac", "c.wav")):
        write_audio(tmp_path / name, song(8.0 + number, RATE, number), RATE)
        songs.append(tmp_path / name)
    subprocess.run(command(tmp_path, *songs, "-o", tmp_path / "whole", "--ogg"), check=True)
    rng = np.random.default_rng(time.time_ns())
    arguments = command(tmp_path, *songs, "-o", tmp_path / "out", "--ogg", "--resume")
    kills = 0
    for attempt in range(60):
        process = subprocess.Popen(arguments)
        began = time.monotonic()
        while process.poll() is None and not contents(tmp_path / "out"):
            time.sleep(0.01)  # starting up
            assert time.monotonic() - began < 60
        if attempt < 5:
            time.sleep(rng.uniform(0.05, 0.9))
            process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 3
    assert stems_in(tmp_path / "out") == stems_in(tmp_path / "whole")
    assert len(stems_in(tmp_path / "out")) == 6  # and no temporary files
    assert {p.suffix for p in (tmp_path / "out/network" / FOLDER).iterdir()} == {".json"}


@pytest.mark.parametrize("resume", [True, False])
def test_ctrl_c_keeps_what_resume_needs_and_nothing_else(tmp_path, resume):
    write_audio(tmp_path / "a.wav", song(300.0, RATE), RATE)  # not done before the signal comes
    words = [tmp_path / "a.wav", "-o", tmp_path / "out", *(["--resume"] * resume)]
    process = subprocess.Popen(command(tmp_path, *words))
    while process.poll() is None and not any((tmp_path).rglob("*.part")):
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    kept = contents(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert [path.suffix for path in kept] == [".chunks"] * resume


def test_ogg_and_all_other_formats_are_the_same_bytes_every_time(tmp_path):
    for kind in ("wav", "flac", "mp3", "ogg"):
        for name in ("a", "b"):
            write_audio(tmp_path / f"{name}.{kind}", song(2.0, 44100), 44100)
            time.sleep(0.002)
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    with AudioReader(tmp_path / "a.ogg") as reader:
        assert reader.frames == 2 * 44100
    assert np.abs(read_audio(tmp_path / "a.ogg")[0] - song(2.0, 44100)).mean() < 0.1


def test_files_of_one_name_are_told_apart(tmp_path):
    state = SongState(tmp_path / ".resume", "song")
    (tmp_path / ".resume").mkdir()
    files = [tmp_path / stem / "song.wav" for stem in ("vocals", "accompaniment")]
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b"12345678")
    state.finish({}, files[:1])
    assert state.is_finished({}, files[:1])
    assert not state.is_finished({}, files)
