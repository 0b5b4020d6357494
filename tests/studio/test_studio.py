"""The studio's server: what comes in, what comes out, what is kept, what is refused."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner

from solovox.audio import read_audio, write_audio
from solovox.cli import main
from solovox.diffusion.refinement import BANDS
from solovox.diffusion.sampling import SAMPLERS
from solovox.errors import SolovoxError
from solovox.presets import QUALITIES
from solovox.separator import STEMS, Separator
from solovox.stems import RULES
from solovox.studio import api, library
from solovox.studio.api import Limits
from solovox.studio.library import Band, Library, Quality, Rule, Sampler, clean_name
from solovox.studio.server import Studio
from solovox.studio.worker import Worker

from .conftest import RATE, SLOW, Client

Start = Callable[..., Client]


def wait(condition: Callable[[], Any], within: float = SLOW) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Gate(threading.Event):
    """Where the worker waits, with a take that is being made, until the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    real = Worker._separator

    def waiting(self: Worker, knobs: Any) -> Any:
        gate.reached.set()
        assert gate.wait(SLOW)
        return real(self, knobs)

    monkeypatch.setattr(Worker, "_separator", waiting)
    return gate


def test_downloads_are_the_commands_bytes(
    start: Start, file: Path, tiny: str, tmp_path: Path
) -> None:
    client = start()
    song = client.separated(file, seed=3)
    words = ["separate", str(file), "-n", tiny, "-o", str(tmp_path / "out"), "--seed", "3"]
    for query, options in (
        ("format=wav", []),
        ("format=wav&bits=24", ["--int24"]),
        ("format=wav&bits=16", ["--int16"]),
        ("format=flac&bits=24", ["--flac"]),
        ("format=mp3", ["--mp3"]),
    ):
        assert CliRunner().invoke(main, [*words, *options]).exit_code == 0
        for stem in STEMS:
            path = f"/api/songs/{song['id']}/takes/{song['current']}/stems/{stem}?{query}"
            status, body, headers = client.raw("GET", path)
            assert status == 200
            suffix = query.split("&")[0].removeprefix("format=")
            assert body == (tmp_path / "out" / "tiny" / "song" / f"{stem}.{suffix}").read_bytes()
            assert f"song%20-%20{stem}.{suffix}" in headers["content-disposition"]


def test_a_redone_region_and_its_settings_file(
    start: Start, file: Path, tiny: str, tmp_path: Path
) -> None:
    client = start()
    song = client.separated(file)
    first = song["current"]
    before = stems_of(client, song["id"], first)
    knobs: Any = {"seed": 9, "start": 0.9, "takes": 2}
    asked = {"parent": first, "start": 0.5, "end": 1.0, "knobs": knobs}
    assert client.ask("POST", f"/api/songs/{song['id']}/takes", asked)[0] == 201
    song = client.until(song["id"], "done")
    second = song["current"]
    assert song["takes"][1]["id"] == second
    assert song["takes"][1]["parent"] == first
    after = stems_of(client, song["id"], second)
    expected = Separator(tiny, **knobs).redo(read_audio(file)[0], RATE, dict(before), 0.5, 1.0)
    for stem in STEMS:
        np.testing.assert_array_equal(after[stem], expected[stem])
        assert not np.array_equal(after[stem], before[stem])

    # Again in what was redone; then the command line repeats all of it from the settings file.
    asked = {"parent": second, "start": 0.8, "end": 1.5, "knobs": {"seed": 4, "quality": "fast"}}
    assert client.ask("POST", f"/api/songs/{song['id']}/takes", asked)[0] == 201
    song = client.until(song["id"], "done")
    status, text, headers = client.raw(
        "GET", f"/api/songs/{song['id']}/takes/{song['current']}/settings"
    )
    assert status == 200
    assert "song.take3.settings.json" in headers["content-disposition"]
    (tmp_path / "settings.json").write_bytes(text)
    assert [redo["start"] for redo in json.loads(text)["redone"]] == [0.5, 0.8]
    words = ["separate", str(file), "--settings", str(tmp_path / "settings.json"), "-o"]
    result = CliRunner().invoke(main, [*words, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    final = stems_of(client, song["id"], song["current"])
    for stem in STEMS:
        found, _ = read_audio(tmp_path / "out" / "tiny" / "song" / f"{stem}.wav")
        np.testing.assert_array_equal(found, final[stem])

    # Undo is choosing the take before; a take that goes leaves those made from it.
    status, song = client.ask("PATCH", f"/api/songs/{song['id']}", {"current": first})
    assert (status, song["current"]) == (200, first)
    assert client.ask("DELETE", f"/api/songs/{song['id']}/takes/{second}")[0] == 204
    song = client.song(song["id"])
    assert [take["parent"] for take in song["takes"]] == [None, first]


def stems_of(client: Client, song: str, take: str) -> dict[str, Any]:
    """The stems, sample by sample as the page plays them."""
    frames = client.song(song)["frames"]
    found = {}
    for stem in STEMS:
        parts = []
        for at in range(0, frames, 30_000):
            path = f"/api/songs/{song}/tracks/{take}.{stem}/samples?start={at}&frames=30000"
            status, body, _ = client.raw("GET", path)
            assert status == 200
            parts.append(np.frombuffer(body, "<f4").reshape(-1, 2).T)
        found[stem] = np.concatenate(parts, axis=1)
        assert found[stem].shape == (2, frames)
    return found


def test_pictures_show_what_is_there(start: Start, file: Path) -> None:
    client = start()
    song = client.separated(file)
    for track in ("mixture", f"{song['current']}.vocals"):
        status, body, _ = client.raw("GET", f"/api/songs/{song['id']}/tracks/{track}/peaks")
        assert status == 200
        columns, rows, seconds = struct.unpack("<IId", body[:16])
        assert (columns, rows) == (401, 2)  # of 220 samples
        assert seconds * columns == pytest.approx(2.0, abs=0.01)
        assert len(body) == 16 + columns * rows
    body = client.raw("GET", f"/api/songs/{song['id']}/tracks/mixture/peaks")[1]
    peaks = np.frombuffer(body[16:], np.uint8)
    audio, _ = read_audio(file)
    assert peaks.max() / 255 == pytest.approx(np.abs(audio).max(), abs=0.01)
    bands = client.raw("GET", f"/api/songs/{song['id']}/tracks/mixture/bands")[1]
    columns, rows, _ = struct.unpack("<IId", bands[:16])
    loudest = np.frombuffer(bands[16:], np.uint8).reshape(columns, rows).mean(0).argmax()
    frequencies = np.geomspace(50, 16_000, rows)
    assert frequencies[loudest] == pytest.approx(220, rel=0.08)


def test_doubt_is_drawn_where_several_samples_were_averaged(start: Start, file: Path) -> None:
    client = start()
    song = client.separated(file, takes=2, start=0.9)

    def doubt(take: str) -> Any:
        path = f"/api/songs/{song['id']}/tracks/{take}.vocals/doubt"
        status, body, _ = client.raw("GET", path)
        assert status == 200
        columns, rows, seconds = struct.unpack("<IId", body[:16])
        assert (columns, rows, seconds) == (2, 96, 1.0)
        return np.frombuffer(body[16:], np.uint8).reshape(columns, rows)

    whole = doubt(song["current"])
    assert (whole.max(axis=1) > 0).all()
    asked = {"parent": song["current"], "start": 1.2, "end": 1.7}
    for takes, shown in ((2, True), (1, False)):
        again = {**asked, "knobs": {"seed": 5, "takes": takes, "start": 0.9}}
        client.ask("POST", f"/api/songs/{song['id']}/takes", again)
        take = client.until(song["id"], "done")["takes"][-1]
        assert take["doubt"] is shown
        if shown:
            region = doubt(take["id"])
            assert region[0].max() == 0 < region[1].max()
        else:
            path = f"/api/songs/{song['id']}/tracks/{take['id']}.vocals/doubt"
            assert client.raw("GET", path)[0] == 404


def test_all_is_there_after_a_restart(start: Start, file: Path, gate: Gate) -> None:
    client = start()
    gate.set()
    done = client.separated(file)
    gate.clear()
    unfinished = client.upload(file)
    waiting = client.upload(file)
    client.until(unfinished["id"], "working")
    client.studio.stop()
    gate.set()
    wait(lambda: not client.studio.worker.is_alive())
    wait(lambda: not client.studio.library._in_use.is_locked)
    folder = client.studio.library.work / "songs" / unfinished["id"]
    left = folder / ".mixture.wav.0123456789ab.part"  # as if it had been killed
    left.touch()

    again = start()
    assert not left.exists()
    assert [song["id"] for song in again.ask("GET", "/api/songs")[1]] == [
        done["id"], unfinished["id"], waiting["id"],
    ]  # fmt: skip
    assert again.song(done["id"]) == client_state(done, again)
    for song in (unfinished, waiting):
        again.until(song["id"], "done")


def client_state(song: dict[str, Any], client: Client) -> dict[str, Any]:
    """What a song must look like later: the same, but for when it was used."""
    return {**song, "used": client.song(song["id"])["used"]}


def test_a_song_that_goes_while_it_is_worked_on_leaves_nothing(
    start: Start, file: Path, gate: Gate
) -> None:
    client = start()
    song = client.upload(file)
    assert gate.reached.wait(SLOW)  # later than "working": the song has been decoded
    root = client.studio.library.work
    assert client.ask("DELETE", f"/api/songs/{song['id']}")[0] == 204
    assert client.ask("GET", f"/api/songs/{song['id']}")[0] == 404
    # What the worker still writes of it, wherever it was, goes too.
    (root / "songs" / song["id"] / "takes").mkdir(parents=True)
    gate.set()
    other = client.upload(file)
    client.until(other["id"], "done")
    wait(lambda: [p.name for p in (root / "songs").iterdir()] == [other["id"]])
    assert not list((root / "trash").iterdir())


def test_a_take_that_goes_while_it_is_made_leaves_nothing(
    start: Start, file: Path, gate: Gate
) -> None:
    client = start()
    song = client.upload(file)
    state = client.until(song["id"], "working")
    take = state["takes"][0]["id"]
    assert client.ask("DELETE", f"/api/songs/{song['id']}/takes/{take}")[0] == 204
    gate.set()
    assert client.ask("POST", f"/api/songs/{song['id']}/takes", {"knobs": {}})[0] == 201
    state = client.until(song["id"], "done")
    takes = client.studio.library.work / "songs" / song["id"] / "takes"
    wait(lambda: [p.name for p in takes.iterdir()] == [state["current"]])


def test_cancel_and_retry(start: Start, file: Path, gate: Gate) -> None:
    client = start()
    first, second = client.upload(file), client.upload(file)
    client.until(first["id"], "working")
    for song in (first, second):
        path = f"/api/songs/{song['id']}/takes/{song['takes'][0]['id']}"
        assert client.ask("POST", f"{path}/retry")[0] == 409
        status, state = client.ask("POST", f"{path}/cancel")
        assert (status, state["takes"][0]["status"]) == (200, "cancelled")
    gate.set()
    third = client.separated(file)
    assert third["current"]
    assert client.song(first["id"])["takes"][0]["status"] == "cancelled"
    path = f"/api/songs/{second['id']}/takes/{second['takes'][0]['id']}"
    assert client.ask("POST", f"{path}/retry")[0] == 200
    client.until(second["id"], "done")


def test_a_retried_take_is_not_judged_by_the_pass_that_was_cancelled(
    start: Start, file: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, calls = Worker._separator, []

    def first_fails(self: Worker, knobs: Any) -> Any:
        found = waiting(self, knobs)
        calls.append(1)
        if len(calls) == 1:
            raise SolovoxError("of the first pass")
        return found

    monkeypatch.setattr(Worker, "_separator", first_fails)
    client = start()
    song = client.upload(file)
    assert gate.reached.wait(SLOW)
    path = f"/api/songs/{song['id']}/takes/{song['takes'][0]['id']}"
    assert client.ask("POST", f"{path}/cancel")[0] == 200
    assert client.ask("POST", f"{path}/retry")[0] == 200
    gate.set()
    client.until(song["id"], "done")
    assert len(calls) == 2


def test_a_region_without_its_parent_fails(start: Start, file: Path, gate: Gate) -> None:
    client = start()
    gate.set()
    song = client.separated(file, quality="fast")
    path = f"/api/songs/{song['id']}/takes"
    first = song["current"]
    client.ask("POST", path, {"knobs": {"seed": 1, "quality": "fast"}})
    client.until(song["id"], "done")
    gate.clear()
    client.until(client.upload(file, quality="fast")["id"], "working")
    asked = {"parent": first, "start": 0.5, "end": 1.0}
    region = client.ask("POST", path, asked)[1]["takes"][-1]["id"]
    assert client.ask("POST", f"{path}/{region}/cancel")[0] == 200
    assert client.ask("DELETE", f"{path}/{first}")[0] == 204
    assert client.ask("POST", f"{path}/{region}/retry")[0] == 200
    gate.set()
    take = client.until(song["id"], "done", "failed")["takes"][-1]
    assert take["status"] == "failed"
    assert "not there any more" in take["error"]


def test_a_take_that_fails_as_it_is_cancelled_stops_nothing(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()

    def failing(self: Worker, song: str, take: str) -> None:
        assert client.ask("POST", f"/api/songs/{song}/takes/{take}/cancel")[0] == 200
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_make", failing)
        client.until(client.upload(file)["id"], "cancelled")
        client.until(client.upload(file)["id"], "cancelled")
    client.until(client.upload(file)["id"], "done")


def test_what_is_no_song_is_refused_and_leaves_nothing(start: Start, file: Path) -> None:
    client = start()
    for body in (b"", b"no song at all" * 100):
        status, said = client.ask("POST", "/api/songs?name=x.mp3", body)
        assert status == 415
        assert said["detail"].startswith("x: ")
        assert "/" not in said["detail"].replace("and/or", "")
    assert not list((client.studio.library.work / "songs").iterdir())
    assert client.ask("GET", "/api/songs") == (200, [])


def test_a_song_that_breaks_off_fails_alone(start: Start, file: Path) -> None:
    client = start()
    audio = bytearray(file.read_bytes())
    audio[200_000:200_004] = struct.pack("<f", float("nan"))
    broken = file.with_name("broken.wav")
    broken.write_bytes(bytes(audio))
    song = client.upload(broken)
    other = client.upload(file)
    state = client.until(song["id"], "failed")
    assert "NaN" in state["takes"][0]["error"]
    assert str(client.studio.library.work) not in state["takes"][0]["error"]
    client.until(other["id"], "done")


def test_a_full_disk_fails_takes_and_uploads_but_not_the_studio(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    song = client.upload(file, separate=False)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def kept(self: Any, data: Any) -> int:  # as `_OutputFile` does
        self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return memoryview(data).nbytes

    with monkeypatch.context() as patch:
        patch.setattr("solovox.audio._OutputFile.write", kept)
        patch.setattr(Library, "_save", full)
        client.studio.library._songs[song["id"]].takes.clear()
        assert client.ask("POST", f"/api/songs/{song['id']}/takes", {})[0] == 507
        assert client.ask("POST", "/api/songs", file.read_bytes())[0] == 507
        assert len(list((client.studio.library.work / "songs").iterdir())) == 1
    path = f"/api/songs/{song['id']}/takes"
    for _ in range(2):  # the mixture cannot be written, then the stems cannot
        with monkeypatch.context() as patch:
            patch.setattr("solovox.audio._OutputFile.write", kept)
            assert client.ask("POST", path, {})[0] == 201
            state = client.until(song["id"], "failed")
            assert "No space left on device" in state["takes"][-1]["error"]
            assert "/" not in state["takes"][-1]["error"]
        assert client.ask("POST", f"{path}/{state['takes'][-1]['id']}/retry")[0] == 200
        state = client.until(song["id"], "done")
    with monkeypatch.context() as patch:
        patch.setattr("solovox.audio._OutputFile.write", kept)
        stem = f"{path}/{state['current']}/stems/vocals?format=flac"
        status, said = client.ask("GET", stem)
        assert status == 507
        assert "No space left on device" in said["detail"]
        assert "/" not in said["detail"]
    assert client.raw("GET", stem)[0] == 200
    monkeypatch.setattr(Library, "free", lambda self: 1000)
    assert client.ask("POST", "/api/songs", file.read_bytes())[0] == 507


def test_downloads_that_cannot_be_made_say_why(start: Start, tmp_path: Path) -> None:
    client = start()
    noise = np.random.default_rng(0).standard_normal((2, 40_000)).astype(np.float32)
    write_audio(tmp_path / "high.wav", 0.1 * noise, 96_000)
    song = client.separated(tmp_path / "high.wav", quality="fast")
    stem = f"/api/songs/{song['id']}/takes/{song['current']}/stems/vocals"
    status, said = client.ask("GET", f"{stem}?format=mp3")
    assert (status, said["detail"]) == (415, "mp3 cannot hold 96000 Hz; choose wav or flac")
    assert client.raw("GET", f"{stem}?format=flac")[0] == 200
    client.studio.library.take_folder(song["id"], song["current"]).joinpath("vocals.wav").unlink()
    samples = f"/api/songs/{song['id']}/tracks/{song['current']}.vocals/samples"
    for path in (stem, f"{stem}?format=mp3", samples):
        assert client.ask("GET", path)[0] == 404


def test_a_take_that_goes_while_it_is_converted_is_gone(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    song = client.separated(file, quality="fast")
    stem = f"/api/songs/{song['id']}/takes/{song['current']}/stems/vocals"
    converted = api._converted

    def late(*arguments: Any) -> Path:
        client.studio.library.remove(song["id"])
        return converted(*arguments)

    monkeypatch.setattr(api, "_converted", late)
    assert client.ask("GET", f"{stem}?format=flac")[0] == 404


def test_limits(start: Start, file: Path) -> None:
    client = start(limits=Limits(upload=1 << 20, songs=2))
    big = b"x" * ((1 << 20) + 1)
    assert client.ask("POST", "/api/songs", big)[0] == 413

    # Without a length, the bytes are counted as they come.
    connection = http.client.HTTPConnection("127.0.0.1", client.studio.port, timeout=SLOW)
    pieces = (b"x" * 65_536 for _ in range(40))
    try:
        connection.request("POST", "/api/songs", pieces, encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was told to stop before all was sent
    connection.close()
    client.upload(file, separate=False)
    client.upload(file, separate=False)
    status, said = client.ask("POST", "/api/songs", file.read_bytes())
    assert (status, said["detail"]) == (429, "there are 2 songs already; remove some")
    wait(lambda: len(list((client.studio.library.work / "songs").iterdir())) == 2)


def test_an_upload_that_breaks_off_leaves_nothing(
    start: Start, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = start()
    connection = http.client.HTTPConnection("127.0.0.1", client.studio.port, timeout=SLOW)
    connection.putrequest("POST", "/api/songs?name=half.wav")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(file.read_bytes()[:300_000])
    root = client.studio.library.work / "songs"
    wait(lambda: list(root.iterdir()))
    connection.close()
    wait(lambda: not list(root.iterdir()))
    assert client.studio.library.count() == 0
    client.studio.stop()
    wait(lambda: not client.studio.library._in_use.is_locked)
    assert not capfd.readouterr().err  # stopping is no failure


def test_uploads_that_stall_hold_up_nobody(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solovox.studio.api.PATIENCE", 0.5)
    client = start()
    stalled = []
    for _ in range(4):
        connection = http.client.HTTPConnection("127.0.0.1", client.studio.port, timeout=SLOW)
        connection.putrequest("POST", "/api/songs")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        stalled.append(connection)
    client.upload(file, separate=False)
    for connection in stalled:
        assert connection.getresponse().status == 408
        connection.close()
    assert len(list((client.studio.library.work / "songs").iterdir())) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {"start": 0.1, "end": 0.5},
        {"parent": "0" * 12, "start": 0.1, "end": 0.5},
        {"parent": "TAKE", "start": 0.5, "end": 0.5},
        {"parent": "TAKE", "start": 7, "end": 8},
        {"parent": "TAKE", "start": 0.1},
        {"knobs": {"model": "/etc/passwd"}},
        {"knobs": {"model": "someone/model"}},
        {"knobs": {"steps": -1}},
        {"knobs": {"eta": 2}},
        {"knobs": {"colour": 1}},
        {"colour": 1},
    ],
)
def test_takes_that_cannot_be_made_are_refused(start: Start, file: Path, wanted: Any) -> None:
    client = start()
    song = client.separated(file, quality="fast")
    if wanted.get("parent") == "TAKE":
        wanted = {**wanted, "parent": song["current"]}
    assert client.ask("POST", f"/api/songs/{song['id']}/takes", wanted)[0] in (409, 422)
    assert len(client.song(song["id"])["takes"]) == 1


def test_news_come_as_they_happen(start: Start, file: Path) -> None:
    client = start()
    connection = http.client.HTTPConnection("127.0.0.1", client.studio.port, timeout=SLOW)
    connection.request("GET", "/api/events")
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")

    def events() -> Any:
        kind = ""
        while line := answer.readline().decode().rstrip("\n"):
            kind = line.removeprefix("event: ")
            yield kind, json.loads(answer.readline().decode().removeprefix("data: "))
            answer.readline()

    news = events()
    assert next(news) == ("songs", [])
    song = client.upload(file)
    seen = []
    for kind, value in news:
        if kind == "song":
            assert value["id"] == song["id"]
            seen.append((value["takes"][0]["status"], value["takes"][0]["progress"]))
            if seen[-1][0] == "done":
                break
    assert [share for _, share in seen] == sorted(share for _, share in seen)
    client.ask("DELETE", f"/api/songs/{song['id']}")
    assert next(value for kind, value in news if kind == "removed") == song["id"]
    connection.close()


@pytest.mark.parametrize("keep", [2, 0.02])
def test_old_songs_go_and_used_ones_stay(start: Start, file: Path, keep: float) -> None:
    client = start(keep=keep)
    old = client.upload(file, separate=False)
    used = client.upload(file)
    client.until(used["id"], "done")
    library = client.studio.library
    for song in (old, used):
        library._songs[song["id"]].used -= 1.5 * keep * 86_400
    client.raw("GET", f"/api/songs/{used['id']}/tracks/mixture/samples")
    library.sweep()
    assert [song["id"] for song in client.ask("GET", "/api/songs")[1]] == [used["id"]]
    assert not (library.work / "songs" / old["id"]).exists()


def test_songs_are_not_kept_for_less_than_no_time(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["studio", "--keep", "-1", "--work", str(tmp_path)])
    assert result.exit_code == 2
    assert "--keep" in result.output
    assert not list(tmp_path.iterdir())


def test_a_folder_is_used_once_and_leftovers_are_swept(tmp_path: Path, tiny: str) -> None:
    stray = tmp_path / "songs" / "0123456789ab"
    stray.mkdir(parents=True)
    (stray / "state.json").write_text('{"id": "../../x"}')
    library = Library(tmp_path)
    assert not stray.exists()
    with pytest.raises(SolovoxError, match="another studio"):
        Library(tmp_path)
    library.close()
    Library(tmp_path).close()
    with pytest.raises(SolovoxError, match="cannot be used"):
        Library(Path("/proc/nothing"))


def test_what_cannot_be_started_is_one_line(tmp_path: Path, start: Start, tiny: str) -> None:
    client = start()
    with pytest.raises(SolovoxError, match="choose another --port"):
        Studio(tmp_path / "other", port=client.studio.port, models=[tiny])
    Library(tmp_path / "other").close()  # it was let go
    with pytest.raises(SolovoxError, match="no model"):
        Studio(tmp_path / "other", models=["nothing"])
    for text in (None, "no json", "[]"):
        (empty := tmp_path / "empty").mkdir(exist_ok=True)
        if text is not None:
            (empty / "config.json").write_text(text)
        with pytest.raises(SolovoxError, match="empty: no model there; export it first"):
            Studio(tmp_path / "other", models=[str(empty)])
    (tmp_path / "tiny").mkdir()
    with pytest.raises(SolovoxError, match="both be shown as 'tiny'"):
        Studio(tmp_path / "other", models=[tiny, str(tmp_path / "tiny")])


def test_a_browser_that_comes_early_is_not_refused(tmp_path: Path, tiny: str) -> None:
    studio = Studio(tmp_path, models=[tiny])
    socket.create_connection(("127.0.0.1", studio.port), timeout=SLOW).close()
    studio._socket.close()
    studio.library.close()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("song.mp3", "song"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\a.b.flac", "a.b"),
        ("tab\tnew\nline.wav", "tabnewline"),
        ("..", "song"),
        ("", "song"),
        (".mp3", "mp3"),
        ("x" * 500, "x" * 200),
    ],
)
def test_names_are_for_showing(given: str, name: str) -> None:
    assert clean_name(given) == name


def test_choices_are_those_of_the_package() -> None:
    assert set(get_args(Sampler)) == set(SAMPLERS)
    assert get_args(Rule) == tuple(RULES)
    assert get_args(Band) == BANDS
    assert get_args(Quality) == tuple(QUALITIES)
    assert library.STEMS == STEMS
