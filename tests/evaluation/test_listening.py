"""Listening tests: standard signals, a server that loses nothing, an honest analysis."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from solovox.cli.listen import listen
from solovox.errors import DataError, SolovoxError
from solovox.evaluation.listening.analysis import analyse, analysis_report, screen
from solovox.evaluation.listening.server import ListeningServer
from solovox.evaluation.listening.signals import fade, loudest, loudness, low_pass, match_loudness
from solovox.evaluation.listening.study import ANCHOR, REFERENCE, Study, load_study, make_study

from .conftest import RATE, SONGS, write_song


def sine(hertz: float, rate: int, seconds: float = 2.0, gain: float = 1.0) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


class TestSignals:
    @pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
    def test_loudness_of_the_standards_own_example(self, rate: int) -> None:
        # BS.1770-4: a 997 Hz sine of full scale in one channel reads -3.01 LKFS.
        assert loudness(sine(997, rate)[None], rate) == pytest.approx(-3.01, abs=0.02)
        stereo = np.stack([sine(997, rate, gain=0.1)] * 2)
        assert loudness(stereo, rate) == pytest.approx(-20.0, abs=0.02)

    def test_silence_does_not_make_loudness_lower(self) -> None:
        tone = sine(997, 48_000, 4.0)[None]
        with_gap = np.concatenate([tone, np.zeros_like(tone)], axis=1)
        assert loudness(with_gap, 48_000) == pytest.approx(loudness(tone, 48_000), abs=0.3)
        assert loudness(np.zeros((2, 48_000), "f4"), 48_000) == -math.inf

    def test_low_notes_and_shrill_ones_are_weighted(self) -> None:
        levels = [loudness(sine(f, 48_000)[None], 48_000) for f in (40, 997, 4000)]
        assert levels[0] < levels[1] - 5
        assert levels[2] > levels[1] + 2

    @pytest.mark.parametrize("rate", [32_000, 44_100, 96_000])
    def test_the_anchor_is_the_standards_low_pass(self, rate: int) -> None:
        impulse = np.zeros((1, rate), "f4")
        impulse[0, rate // 2] = 1
        response = 20 * np.log10(np.abs(np.fft.rfft(low_pass(impulse, rate)[0])) + 1e-9)
        hertz = np.fft.rfftfreq(rate, 1 / rate)
        assert np.abs(response[hertz <= 3500]).max() < 0.1
        assert response[hertz >= 4000].max() < -25
        assert response[hertz >= 4500].max() < -50

    def test_the_anchor_has_no_delay(self) -> None:
        tone = sine(1000, 44_100)[None]
        middle = slice(5000, -5000)
        np.testing.assert_allclose(low_pass(tone, 44_100)[0, middle], tone[0, middle], atol=0.02)

    def test_matched_stimuli_are_equally_loud_and_do_not_clip(self) -> None:
        noise = np.random.default_rng(0).standard_normal((2, 96_000)).astype("f4")
        peaky = 0.01 * noise
        peaky[:, 100] = 5.0
        found = match_loudness(
            {"a": 0.5 * noise, "b": peaky, "silent": np.zeros_like(noise)}, 48_000
        )
        assert loudness(found["a"], 48_000) == pytest.approx(loudness(found["b"], 48_000), abs=0.1)
        assert max(np.abs(x).max() for x in found.values()) <= 10 ** (-1 / 20) + 1e-6
        assert not found["silent"].any()

    def test_fades_end_at_nothing_and_leave_the_middle(self) -> None:
        faded = fade(np.ones((2, 1000), "f4"), 10_000)
        assert faded[0, 0] < 0.01
        assert faded[0, -1] < 0.01
        assert (faded[:, 100:-100] == 1).all()
        assert fade(np.ones((2, 1), "f4"), 10_000).shape == (2, 1)

    def test_the_loudest_part(self) -> None:
        audio = np.zeros((2, 1000), "f4")
        audio[:, 600:700] = 1
        assert 500 <= loudest(audio, 200) <= 600
        assert loudest(audio, 5000) == 0


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """Two systems that have separated the data set, and the study of them."""
    for system, gain in (("good", 0.9), ("poor", 0.3)):
        for song in SONGS:
            audio, _ = soundfile.read(data / song / "vocals.wav", dtype="float32")
            noise = np.random.default_rng(0).standard_normal(audio.shape)
            path = tmp_path / "separated" / system / song / "vocals.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, gain * audio + 0.05 * (1 - gain) * noise, RATE, subtype="FLOAT")
    return tmp_path / "separated"


@pytest.fixture
def study(folder: Path, data: Path, tmp_path: Path) -> tuple[Study, Path]:
    place = tmp_path / "study"
    folders = {path.name: path for path in sorted(folder.iterdir())}
    return make_study(folders, data, place, seconds=1.0), place


class TestStudy:
    def test_every_song_has_reference_anchor_and_systems(self, study: tuple[Study, Path]) -> None:
        made, place = study
        assert made.systems == [REFERENCE, "good", "poor", ANCHOR]
        assert [page.song for page in made.pages] == list(SONGS)
        for page in made.pages:
            assert sorted(page.stimuli.values()) == ["anchor", "good", "poor", "reference"]
            for token in (page.open, *page.stimuli):
                audio, rate = soundfile.read(place / "audio" / f"{token}.flac", always_2d=True)
                assert (len(audio), rate) == (RATE, RATE)
        assert load_study(place) == made

    def test_names_of_files_give_nothing_away(self, study: tuple[Study, Path]) -> None:
        _, place = study
        names = {path.stem for path in (place / "audio").iterdir()}
        assert len(names) == 3 * 5
        assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)

    def test_the_order_is_the_listeners_own_and_stays(self, study: tuple[Study, Path]) -> None:
        made, _ = study
        assert made.order("a") == made.order("a")
        orders = {str(made.order(f"listener {n}")) for n in range(20)}
        assert len(orders) > 15
        for page, tokens in made.order("a"):
            assert set(tokens) == set(made.pages[page].stimuli)

    def test_what_cannot_be_is_one_line(
        self, study: tuple[Study, Path], folder: Path, data: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="a study already"):
            make_study({"good": folder / "good"}, data, study[1])
        with pytest.raises(DataError, match="at least one folder"):
            make_study({}, data, tmp_path / "new")
        with pytest.raises(DataError, match="no system may be called anchor"):
            make_study({"anchor": folder / "good"}, data, tmp_path / "new")
        (folder / "good" / "Blues" / "vocals.wav").unlink()
        with pytest.raises(DataError, match=r"good: .*Blues"):
            make_study({"good": folder / "good"}, data, tmp_path / "new")
        with pytest.raises(DataError, match="no study in it"):
            load_study(tmp_path)

    def test_songs_without_voice_are_passed_over(self, folder: Path, data: Path) -> None:
        write_song(data / "Aria", seed=0, silent=True)
        made = make_study({"good": folder / "good"}, data, folder / "listening", seconds=1.0)
        assert [page.song for page in made.pages] == list(SONGS[1:])


@pytest.fixture
def server(study: tuple[Study, Path]) -> Iterator[ListeningServer]:
    with ListeningServer(study[1], port=0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def ask(server: ListeningServer, method: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def said(state: dict[str, Any], revision: int, value: int) -> dict[str, Any]:
    page = state["pages"][0]
    return {
        "revision": revision,
        "current": 1,
        "finished": False,
        "answers": {"comment": "ärger"},
        "pages": {
            str(page["page"]): {
                "ratings": dict.fromkeys(page["stimuli"], value), "done": True, "seconds": 12.5,
            }
        },
    }  # fmt: skip


class TestServer:
    def test_the_page_needs_nothing_from_elsewhere(self, server: ListeningServer) -> None:
        for path in ("", "listen.js", "listen.css"):
            with urllib.request.urlopen(server.url + path, timeout=10) as answer:
                text = answer.read().decode()
                assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
            assert "http://" not in text
            assert "https://" not in text

    def test_a_listener_is_told_no_names(self, server: ListeningServer) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        state = ask(server, "GET", f"api/listeners/{listener}")
        text = json.dumps(state)
        assert not any(name in text for name in ("good", "poor", "anchor", *SONGS))
        assert len(state["pages"]) == 3

    def test_what_is_said_comes_back(self, server: ListeningServer) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)
        assert ask(server, "PUT", path, said(state, 3, 70))["revision"] == 3
        again = ask(server, "GET", path)
        assert again["pages"] == state["pages"]
        assert again["said"]["pages"] == said(state, 3, 70)["pages"]
        assert again["said"]["answers"] == {"comment": "ärger"}

    def test_an_older_message_does_not_undo_a_newer(self, server: ListeningServer) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)
        ask(server, "POST", path, said(state, 5, 90))  # as sendBeacon does
        assert ask(server, "PUT", path, said(state, 4, 10))["revision"] == 5
        ratings = next(iter(ask(server, "GET", path)["said"]["pages"].values()))["ratings"]
        assert set(ratings.values()) == {90}

    def test_a_window_undoes_nothing_that_was_said_in_another(
        self, server: ListeningServer
    ) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)

        def say(window: str, seen: int, revision: int, value: int) -> Any:
            message = said(state, revision, value) | {"window": window, "seen": seen}
            return ask(server, "PUT", path, message)

        def there() -> set[int]:
            pages = ask(server, "GET", path)["said"]["pages"]
            return {value for page in pages.values() for value in page["ratings"].values()}

        assert say("a", 0, 10, 10) == {"revision": 10, "window": "a"}
        assert say("b", 10, 11, 20) == {"revision": 11, "window": "b"}
        # However often the first window counts, it has not seen what the second has said.
        assert say("a", 10, 70, 30) == {"revision": 11, "window": "b"}
        assert there() == {20}
        # An answer that was lost on its way is no other window.
        assert say("b", 10, 15, 40) == {"revision": 15, "window": "b"}
        assert there() == {40}

    def test_results_of_earlier_versions_go_on(self, server: ListeningServer) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)
        ask(server, "PUT", path, said(state, 3, 70))
        result = json.loads(server.result(listener).read_text("utf-8"))
        del result["window"]
        server.result(listener).write_text(json.dumps(result), "utf-8")
        kept = said(state, 5, 80)  # by a browser, from before as well
        assert ask(server, "PUT", path, kept) == {"revision": 5, "window": ""}
        new = said(state, 6, 90) | {"window": "a", "seen": 5}
        assert ask(server, "PUT", path, new) == {"revision": 6, "window": "a"}

    def test_many_at_once_leave_the_newest(self, server: ListeningServer) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)
        threads = [
            threading.Thread(target=ask, args=(server, "PUT", path, said(state, n, n)))
            for n in range(1, 25)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        there = json.loads(server.result(listener).read_text("utf-8"))
        assert there["revision"] == 24
        assert set(next(iter(there["pages"].values()))["ratings"].values()) == {24}
        assert not list(server.result(listener).parent.glob(".*"))

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"pages": {"99": {"ratings": {}, "done": True, "seconds": 1}}}, 400),
            ({"pages": {"0": {"ratings": {"x": 1}, "done": True, "seconds": 1}}}, 400),
            ({"pages": None}, 400),
            ({"revision": "new"}, 400),
        ],
    )
    def test_nonsense_is_refused(
        self, server: ListeningServer, change: dict[str, Any], status: int
    ) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server, "PUT", path, said(state, 1, 50) | change)
        assert refused.value.code == status
        too_high = said(state, 1, 101)
        with pytest.raises(urllib.error.HTTPError):
            ask(server, "PUT", path, too_high)
        assert ask(server, "GET", path)["said"]["revision"] == 0

    @pytest.mark.parametrize(
        "sent",
        [
            '"revision": NaN',
            '"revision": 1e999',
            '"revision": 1e300',
            '"current": 99',
            '"current": -1',
            '"seconds": NaN',
            '"answers": ' + 100_000 * "[",
        ],
    )
    def test_numbers_out_of_range_are_refused(self, server: ListeningServer, sent: str) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        body = json.dumps(said(ask(server, "GET", path), 1, 50))
        name = sent.partition(":")[0]
        body = re.sub(name + r": ([\d.]+|\{[^}]*\})", lambda _: sent, body)
        assert sent in body
        request = urllib.request.Request(server.url + path, body.encode(), method="PUT")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
        assert refused.value.code == 400
        assert ask(server, "GET", path)["said"]["revision"] == 0

    @pytest.mark.parametrize(
        ("header", "status"),
        [
            ("Content-Length: -1", 411),
            ("Content-Length: many", 411),
            ("Transfer-Encoding: chunked", 411),
            ("Content-Length: 99999999999", 413),
        ],
    )
    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_a_body_without_bounds_is_not_read(
        self, server: ListeningServer, method: str, header: str, status: int
    ) -> None:
        before = len(list((server.folder / "results").glob("*.json")))
        with socket.create_connection(server.server_address[:2], timeout=10) as line:
            line.sendall(
                f"{method} /api/listeners HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode()
            )
            answer = b""
            while block := line.recv(4096):  # it ends: the server hangs up
                answer += block
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert answer.count(b"HTTP/1.1") == 1
        assert len(list((server.folder / "results").glob("*.json"))) == before

    @pytest.mark.parametrize(
        "path",
        ["audio/0000.flac", "audio/../study.json", "study.json", "api/listeners/../../study",
         "api/listeners/ffffffffffffffff", "api/listeners/..%2f..%2fstudy"],
    )  # fmt: skip
    def test_nothing_else_is_served(self, server: ListeningServer, path: str) -> None:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(server, "GET", path)
        assert refused.value.code == 404

    def test_a_full_disk_is_said_and_leaves_nothing_behind(
        self, server: ListeningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listener = ask(server, "POST", "api/listeners")["listener"]
        path = f"api/listeners/{listener}"
        state = ask(server, "GET", path)

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for method, where in (("PUT", path), ("POST", "api/listeners")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(server, method, where, said(state, 1, 50))
            assert refused.value.code == 507
        assert [p.name for p in server.result("").parent.iterdir()] == [f"{listener}.json"]
        assert ask(server, "GET", path)["said"]["revision"] == 0
        monkeypatch.undo()
        assert ask(server, "PUT", path, said(state, 1, 50))["revision"] == 1

    def test_a_port_that_cannot_be_is_one_line(self, server: ListeningServer) -> None:
        with pytest.raises(SolovoxError, match=r"port 99999 .*65535.*; choose another --port"):
            ListeningServer(server.folder, port=99999)

    def test_a_taken_port_is_one_line(self, server: ListeningServer) -> None:
        with pytest.raises(SolovoxError, match="choose another --port"):
            ListeningServer(server.folder, port=server.server_address[1])


def answer(place: Path, made: Study, listener: str, ratings: dict[str, int], jitter: int) -> None:
    pages = {
        str(number): {
            "ratings": {
                token: min(100, ratings[name] + (jitter * (number + 1)) % 5)
                for token, name in page.stimuli.items()
            },
            "done": True,
            "seconds": 30.0,
        }
        for number, page in enumerate(made.pages)
    }
    path = place / "results" / f"{listener}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"listener": listener, "pages": pages}), "utf-8")


class TestAnalysis:
    GOOD = {REFERENCE: 96, "good": 80, "poor": 40, ANCHOR: 20}  # noqa: RUF012

    def test_means_intervals_and_tests(self, study: tuple[Study, Path]) -> None:
        made, place = study
        for n in range(6):
            shifted = {name: value - n for name, value in self.GOOD.items()}
            answer(place, made, f"{n}", shifted | {REFERENCE: 100}, jitter=n)
        found = analyse(place)
        assert [c.name for c in found.conditions] == made.systems
        means = {c.name: c.mean for c in found.conditions}
        assert means[REFERENCE].value > means["good"].value > means["poor"].value
        for name in ("good", "poor"):
            assert means[name].low < means[name].value < means[name].high
        (pair,) = found.pairs
        assert (pair.a, pair.b) == ("good", "poor")
        assert pair.difference.value == pytest.approx(-40)
        # Six listeners are six units, however many songs each has rated: p = 2 / 2^6 at best.
        assert pair.p_value == pytest.approx(2 / 2**6)
        assert pair.rank_biserial == -1.0
        text = analysis_report(found)
        assert "6 listeners, 3 songs" in text
        assert "| poor − good | -40.0 |" in text

    def test_the_t_interval_is_the_textbooks(self, study: tuple[Study, Path]) -> None:
        made, place = study
        for listener, good in (("a", 60), ("b", 70), ("c", 80)):
            answer(place, made, listener, self.GOOD | {"good": good}, jitter=0)
        good = analyse(place).conditions[1].mean
        half = 4.302653 * 10 / math.sqrt(3)  # t(0.975, 2) s / sqrt(n)
        assert (good.low, good.value, good.high) == pytest.approx((70 - half, 70, 70 + half))

    def test_careless_listeners_are_left_out_and_named(self, study: tuple[Study, Path]) -> None:
        made, place = study
        answer(place, made, "careful", self.GOOD, 0)
        answer(place, made, "deaf", self.GOOD | {REFERENCE: 50}, 0)
        answer(place, made, "generous", self.GOOD | {ANCHOR: 95}, 0)
        found = analyse(place)
        assert list(found.ratings) == ["careful"]
        assert found.excluded == {
            "deaf": "rated the hidden reference under 90 in 3 of 3 songs",
            "generous": "rated the anchor 90 or more in 3 of 3 songs",
        }
        assert "- deaf: rated the hidden reference" in analysis_report(found)

    def test_one_slip_in_seven_is_forgiven(self) -> None:
        pages = {n: {REFERENCE: 100, ANCHOR: 10} for n in range(7)}
        pages[0][REFERENCE] = 60
        assert screen(pages) == ""
        pages[1][REFERENCE] = 60
        assert screen(pages) != ""

    def test_nobody_to_count(self, study: tuple[Study, Path]) -> None:
        made, place = study
        with pytest.raises(DataError, match="no listener to count: 0 began"):
            analyse(place)
        answer(place, made, "deaf", self.GOOD | {REFERENCE: 50}, 0)
        with pytest.raises(DataError, match="1 were left out; deaf: rated the hidden reference"):
            analyse(place)
        (place / "results" / "torn.json").write_text("{")
        with pytest.raises(DataError, match=r"torn\.json: not a listener's result"):
            analyse(place)


def test_the_command_makes_and_analyses(folder: Path, data: Path) -> None:
    pytest.importorskip("matplotlib")
    make = [str(folder), "--reference", str(data), "--seconds", "1", "--make-only"]
    for _ in range(2):  # the second time it is there already
        done = CliRunner().invoke(listen, make)
        assert done.exit_code == 0, done.output
        assert "3 songs, reference, good, poor, anchor" in done.output
    place = folder / "listening"
    answer(place, load_study(place), "a", TestAnalysis.GOOD, 1)
    done = CliRunner().invoke(listen, [str(folder), "--analyse"])
    assert done.exit_code == 0, done.output
    assert "1 listener, 3 songs" in done.output
    assert (place / "analysis.png").stat().st_size > 5000


def test_the_command_asks_for_the_reference(folder: Path) -> None:
    done = CliRunner().invoke(listen, [str(folder)])
    assert isinstance(done.exception, DataError)
    assert "--reference" in str(done.exception)
