"""Evaluation of a data set: resumes, runs in processes, and never hides a song."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from solovox.audio import read_audio
from solovox.data.index import find_songs
from solovox.errors import DataError, SolovoxError
from solovox.evaluation import benchmark, bss, speech
from solovox.evaluation.benchmark import BSS, SPEECH, STEMS, Options, evaluate, load
from solovox.evaluation.metrics import METRICS, usdr
from solovox.evaluation.peers import PEERS
from solovox.evaluation.systems import (
    EstimatesSystem,
    ModelSystem,
    OracleSystem,
    PeerSystem,
    find_peer,
    find_system,
)

from .conftest import RATE, SONGS, Noisy, write_song

ONE = Options(runs=1)


def read(path: Path) -> np.ndarray:
    audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return audio.T


class TestScores:
    def test_they_are_the_metrics_of_the_files(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(OracleSystem("mixture"), data, tmp_path / "out")
        assert [song.song for song in result.songs] == list(SONGS)
        for song in result.songs:
            mixture, vocals = (
                read(data / song.song / f"{name}.wav") for name in ("mixture", "vocals")
            )
            assert song.score("vocals", "usdr") == pytest.approx(usdr(vocals, mixture))
            assert song.score("accompaniment", "usdr") == pytest.approx(
                usdr(mixture - vocals, mixture), abs=1e-5
            )
            assert song.seconds == 1.5

    def test_all_metrics_of_both_stems_are_there(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(), data, tmp_path / "out", ONE)
        for stem in STEMS:
            assert result.metrics(stem) == list(METRICS)
            for metric in METRICS:
                summary = result.summary(stem, metric)
                assert summary is not None
                assert summary.songs == 3
                assert not summary.left_out

    def test_an_excerpt_is_the_middle(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(OracleSystem("mixture"), data, tmp_path / "out", Options(excerpt=1.0))
        middle = slice(round(0.25 * RATE), round(1.25 * RATE))
        mixture, vocals = (
            read(data / "Aria" / f"{name}.wav")[:, middle] for name in ("mixture", "vocals")
        )
        assert result.songs[0].score("vocals", "usdr") == pytest.approx(usdr(vocals, mixture))

    def test_runs_have_their_own_seeds_and_a_spread(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(), data, tmp_path / "out", Options(seed=7))
        song = result.songs[0]
        assert [run.seed for run in song.runs] == [7, 8, 9, 10, 11]
        scores = song.scores("vocals", "usdr")
        assert scores is not None
        assert len(set(scores)) == 5
        summary = result.summary("vocals", "usdr")
        assert summary is not None
        assert 0 < summary.spread[0] < 1
        table = np.array([s.scores("vocals", "usdr") for s in result.songs])
        assert summary.median.value == pytest.approx(np.median(table, axis=0).mean())
        assert summary.spread[1] == pytest.approx(table.mean(axis=0).std(ddof=1))
        assert summary.mean.low <= summary.mean.value <= summary.mean.high


class TestResuming:
    def test_a_second_call_computes_nothing(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        first = evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert len(calls) == 3
        assert evaluate(Noisy(), data, tmp_path / "out", ONE) == first
        assert len(calls) == 3

    def test_more_runs_add_to_those_there(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        result = evaluate(Noisy(), data, tmp_path / "out", Options(runs=3))
        assert [len(song.runs) for song in result.songs] == [3, 3, 3]
        assert sorted(calls) == sorted((song, seed) for song in SONGS for seed in (0, 1, 2))
        fewer = evaluate(Noisy(), data, tmp_path / "out", Options(runs=2))
        assert [len(song.runs) for song in fewer.songs] == [2, 2, 2]
        assert len(calls) == 9

    def test_what_has_changed_is_computed_anew(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        write_song(data / "Blues", seed=9)
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert [song for song, _ in calls[3:]] == ["Blues"]
        evaluate(Noisy(gain=0.1), data, tmp_path / "out", ONE)
        assert len(calls) == 7
        evaluate(Noisy(gain=0.1), data, tmp_path / "out", Options(runs=1, excerpt=1.0))
        assert len(calls) == 10

    def test_contents_count_and_times_do_not(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        path = data / "Blues" / "vocals.wav"
        path.touch()
        shutil.copytree(data, tmp_path / "elsewhere")
        for folder in (data, tmp_path / "elsewhere"):
            evaluate(Noisy(), folder, tmp_path / "out", ONE)
        assert len(calls) == 3
        # Other samples, the same size: what a check of sizes alone would not see.
        audio, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, 0.5 * audio, rate, subtype="FLOAT")
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert [song for song, _ in calls[3:]] == ["Blues"]

    def test_a_peer_is_known_by_its_program(self, data: Path, tmp_path: Path) -> None:
        song = find_songs(data)[0]
        program = tmp_path / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        system = PeerSystem(f"{program} {{input}} {{output}}")
        before = system.version(song)
        program.write_text("#!/bin/sh\nexit 1\n")
        assert system.version(song) != before
        assert PeerSystem("hpss").version(song).startswith("librosa")

    def test_a_torn_file_is_computed_anew(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        first = evaluate(Noisy(), data, tmp_path / "out", ONE)
        path = tmp_path / "out" / "noisy" / "songs" / "Blues.json"
        path.write_text(path.read_text("utf-8")[:100], "utf-8")
        again = evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert [song for song, _ in calls[3:]] == ["Blues"]
        assert again.songs[1].runs[0].scores == first.songs[1].runs[0].scores

    def test_an_interruption_keeps_finished_runs(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]], monkeypatch
    ) -> None:  # type: ignore[no-untyped-def]
        def interrupt(done: int, total: int, song: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate(Noisy(), data, tmp_path / "out", ONE, progress=interrupt)
        evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert len(calls) == 3
        assert not list((tmp_path / "out").rglob(".*"))


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """BSS-Eval, PESQ and STOI that take no time."""
    frame = {name: np.array([float(n)]) for n, name in enumerate(bss.CRITERIA)}
    found = dict.fromkeys(STEMS, bss.BssScores(frame, 1.0, 1.0))
    monkeypatch.setattr(bss, "bss_eval", lambda *_: found)
    monkeypatch.setattr(speech, "pesq", lambda *_: 1.0)
    monkeypatch.setattr(speech, "stoi", lambda *_: 0.5)


@pytest.mark.usefixtures("quick_scores")
class TestScoresAskedForLater:
    BSS, BOTH = Options(runs=1, bss=True), Options(runs=1, bss=True, speech=True)

    @staticmethod
    def frames(out: Path) -> list[str]:
        return sorted(path.stem for path in (out / "noisy" / "museval" / "test").glob("*.json"))

    def test_they_are_kept_where_a_call_does_without(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        first = evaluate(Noisy(), data, tmp_path, self.BSS)
        plain = evaluate(Noisy(), data, tmp_path, ONE)
        assert plain.metrics("vocals") == list(METRICS)
        evaluate(Noisy(), data, tmp_path, self.BSS, only="A*")
        evaluate(Noisy(), data, tmp_path, ONE, only="A*")
        assert self.frames(tmp_path) == list(SONGS)
        assert evaluate(Noisy(), data, tmp_path, self.BSS) == first
        assert len(calls) == 3
        assert first.metrics("vocals") == [*METRICS, *BSS]

    def test_what_lacks_them_is_separated_again(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        evaluate(Noisy(), data, tmp_path, Options(runs=2))
        evaluate(Noisy(), data, tmp_path, Options(runs=1, speech=True))
        assert len(calls) == 3 * 3
        evaluate(Noisy(), data, tmp_path, self.BSS)  # with PESQ and STOI, as before
        both = evaluate(Noisy(), data, tmp_path, self.BOTH)
        evaluate(Noisy(), data, tmp_path, Options(runs=2))
        assert len(calls) == 4 * 3
        assert both.metrics("vocals") == [*METRICS, *BSS, *SPEECH]

    def test_musevals_files_go_with_the_estimates(self, data: Path, tmp_path: Path) -> None:
        evaluate(Noisy(), data, tmp_path, self.BSS)
        write_song(data / "Blues", seed=9)
        evaluate(Noisy(), data, tmp_path, ONE)
        assert self.frames(tmp_path) == ["Aria", "Chanson – été"]
        shutil.rmtree(data / "Aria")
        evaluate(Noisy(), data, tmp_path, self.BSS)
        assert self.frames(tmp_path) == ["Blues", "Chanson – été"]

    def test_a_file_of_musevals_that_is_gone_is_made_again(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        evaluate(Noisy(), data, tmp_path, self.BSS)
        (tmp_path / "noisy" / "museval" / "test" / "Blues.json").unlink()
        evaluate(Noisy(), data, tmp_path, self.BSS)
        assert [song for song, _ in calls[3:]] == ["Blues"]
        assert self.frames(tmp_path) == list(SONGS)


class TestProcesses:
    def test_two_processes_give_what_one_gives(self, data: Path, tmp_path: Path) -> None:
        shown: list[tuple[int, int]] = []
        one = evaluate(OracleSystem("irm"), data, tmp_path / "one")
        two = evaluate(
            OracleSystem("irm"), data, tmp_path / "two", jobs=2,
            progress=lambda done, total, song: shown.append((done, total)),
        )  # fmt: skip
        assert shown == [(1, 3), (2, 3), (3, 3)]
        for a, b in zip(one.songs, two.songs, strict=True):
            for stem in STEMS:  # but for the last bits, which a threaded sum may change
                assert a.runs[0].scores[stem] == pytest.approx(b.runs[0].scores[stem], rel=1e-9)

    def test_a_system_that_cannot_be_loaded_is_one_line(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(SolovoxError, match="no-such-model"):
            evaluate(ModelSystem("no-such-model"), data, tmp_path / "out", Options(runs=1), jobs=2)


class TestBadInput:
    def test_silent_references_are_named_and_in_no_mean(self, data: Path, tmp_path: Path) -> None:
        write_song(data / "Drums", seed=5, silent=True)
        result = evaluate(Noisy(), data, tmp_path / "out", ONE)
        for metric in METRICS:
            summary = result.summary("vocals", metric)
            assert summary is not None
            assert summary.songs == 3
            assert summary.left_out == {"Drums": "silent reference"}
            assert math.isfinite(summary.mean.value)
        other = result.summary("accompaniment", "usdr")
        assert other is not None
        assert other.songs == 4
        text = (tmp_path / "out" / "noisy" / "results.json").read_text("utf-8")
        assert "NaN" not in text
        assert "Infinity" not in text

    def test_every_reference_silent_has_no_summary(self, tmp_path: Path) -> None:
        write_song(tmp_path / "data" / "Drums", seed=5, silent=True)
        result = evaluate(Noisy(), tmp_path / "data", tmp_path / "out", ONE)
        assert result.summary("vocals", "usdr") is None

    def test_stems_of_other_length_are_named(self, data: Path, tmp_path: Path) -> None:
        soundfile.write(data / "Blues" / "mixture.wav", np.zeros((100, 2)), RATE)
        with pytest.raises(DataError, match=r"1 of 3 songs.*Blues.*100.*--skip-bad"):
            evaluate(Noisy(), data, tmp_path / "out", ONE)
        result = evaluate(Noisy(), data, tmp_path / "out", ONE, skip_bad=True)
        assert [song.song for song in result.songs] == ["Aria", "Chanson – été"]
        assert "Blues" in next(iter(result.failures.values()))

    def test_a_song_that_fails_does_not_stop_the_others(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(fails_on="Blues"), data, tmp_path / "out", ONE)
        assert result.failures == {"Blues": "the singer has left"}
        assert [song.song for song in result.songs] == ["Aria", "Chanson – été"]

    @pytest.mark.parametrize(
        ("stems", "what"),
        [
            ({"vocals": np.zeros((2, 3), np.float32)}, r"shape \(2, 3\), not \(2, 12000\)"),
            ({"vocals": np.full((2, 12_000), np.nan)}, "not finite"),
        ],
    )
    def test_a_system_that_returns_nonsense_is_named(
        self, data: Path, tmp_path: Path, stems: dict[str, np.ndarray], what: str, monkeypatch
    ) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.setattr(Noisy, "open", lambda self: lambda m, seed: stems)
        result = evaluate(Noisy(), data, tmp_path / "out", ONE)
        assert not result.songs
        assert all(re.search(what, line) for line in result.failures.values())

    def test_what_a_library_raises_is_named_too(
        self, data: Path, tmp_path: Path, monkeypatch
    ) -> None:  # type: ignore[no-untyped-def]
        def broken(mixture: np.ndarray, rate: int) -> None:
            raise IndexError("list index out of range\nand more")

        monkeypatch.setitem(PEERS, "broken", lambda: broken)
        result = evaluate(PeerSystem("broken"), data, tmp_path / "out", ONE)
        assert result.failures == dict.fromkeys(
            SONGS, "peer:broken: IndexError: list index out of range"
        )

    def test_only_some_songs(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(), data, tmp_path / "out", ONE, only="A*")
        assert [song.song for song in result.songs] == ["Aria"]
        with pytest.raises(DataError, match="no song's name is like 'X'"):
            evaluate(Noisy(), data, tmp_path / "out", ONE, only="X")

    def test_no_songs(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        with pytest.raises(DataError, match="no songs found"):
            evaluate(Noisy(), tmp_path / "data", tmp_path / "out")


class TestEstimates:
    @staticmethod
    def write(folder: Path, data: Path, samples: int | None = None, rate: int = RATE) -> None:
        for name in SONGS:
            (folder / name).mkdir(parents=True)
            audio = 0.5 * read(data / name / "vocals.wav")[:, :samples]
            soundfile.write(folder / name / "vocals.wav", audio.T, rate, subtype="FLOAT")

    def test_a_folder_is_read(self, data: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "mine", data)
        system = find_system(str(tmp_path / "mine"))
        assert isinstance(system, EstimatesSystem)
        result = evaluate(system, data, tmp_path / "out")
        assert result.name == "mine"
        for song in result.songs:
            assert song.score("vocals", "usdr") == pytest.approx(20 * math.log10(2), abs=1e-4)
        short = evaluate(system, data, tmp_path / "out", Options(excerpt=1.0))
        assert short.songs[0].score("vocals", "usdr") == pytest.approx(6.02, abs=0.01)

    def test_songs_below_a_split_are_found_by_their_own_name(
        self, data: Path, tmp_path: Path
    ) -> None:
        self.write(tmp_path / "mine", data)
        (tmp_path / "set").mkdir()
        data.rename(tmp_path / "set" / "test")
        result = evaluate(EstimatesSystem(tmp_path / "mine"), tmp_path / "set", tmp_path / "out")
        assert [song.song for song in result.songs] == [f"test/{name}" for name in SONGS]

    def test_missing_songs_are_named_before_any_work(self, data: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "mine", data)
        (tmp_path / "mine" / "Blues" / "vocals.wav").unlink()
        with pytest.raises(DataError, match=r"1 of 3 songs cannot be evaluated .*Blues"):
            evaluate(EstimatesSystem(tmp_path / "mine"), data, tmp_path / "out")
        result = evaluate(EstimatesSystem(tmp_path / "mine"), data, tmp_path / "out", skip_bad=True)
        assert len(result.songs) == 2
        assert list(result.failures) == ["Blues"]

    def test_other_lengths_and_rates_are_named(self, data: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "short", data, samples=11_000)
        with pytest.raises(DataError, match="11000 samples, but the song has 12000"):
            evaluate(EstimatesSystem(tmp_path / "short"), data, tmp_path / "out")
        self.write(tmp_path / "fast", data, rate=16_000)
        with pytest.raises(DataError, match="16000 Hz, but the song has 8000 Hz"):
            evaluate(EstimatesSystem(tmp_path / "fast"), data, tmp_path / "out")


class TestFiles:
    def test_load_returns_what_was_saved(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(), data, tmp_path / "out", Options(runs=2))
        for path in ("out", "out/noisy", "out/noisy/results.json"):
            assert load(tmp_path / path) == result
        evaluate(OracleSystem("mixture"), data, tmp_path / "out")
        with pytest.raises(DataError, match="results of 2 systems"):
            load(tmp_path / "out")
        with pytest.raises(DataError, match=r"no results\.json"):
            load(tmp_path)
        (tmp_path / "results.json").write_text("{}")
        with pytest.raises(DataError, match="not results"):
            load(tmp_path)

    def test_the_csv_has_a_line_a_song_run_and_stem(self, data: Path, tmp_path: Path) -> None:
        result = evaluate(Noisy(), data, tmp_path / "out", Options(runs=2))
        with (tmp_path / "out" / "noisy" / "results.csv").open(encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 3 * 2 * 2
        assert lines[0]["song"] == "Aria"
        assert float(lines[0]["usdr"]) == pytest.approx(
            result.songs[0].runs[0].scores["vocals"]["usdr"], rel=1e-4
        )
        assert lines[0]["pesq"] == ""

    def test_a_table_that_cannot_be_written_leaves_the_one_before(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = evaluate(Noisy(), data, tmp_path, ONE, only="A*")
        before = (tmp_path / "noisy" / "results.csv").read_bytes()

        class Full:
            def __init__(self, file: object) -> None:
                pass

            def writerows(self, lines: object) -> None:
                raise OSError("no space left")

        monkeypatch.setattr(csv, "writer", Full)
        with pytest.raises(OSError, match="no space"):
            benchmark.save(result, tmp_path / "noisy")
        assert (tmp_path / "noisy" / "results.csv").read_bytes() == before
        assert not list((tmp_path / "noisy").glob(".*"))

    def test_stems_can_be_kept_and_evaluated_again(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        first = evaluate(Noisy(), data, tmp_path / "out", Options(runs=2))
        for _ in range(2):  # kept once; the second call finds them
            evaluate(Noisy(), data, tmp_path / "out", Options(runs=2), stems=tmp_path / "stems")
        assert len(calls) == 3 * 2 + 3  # of the first run alone
        again = evaluate(EstimatesSystem(tmp_path / "stems" / "noisy"), data, tmp_path / "again")
        for a, b in zip(first.songs, again.songs, strict=True):
            assert a.runs[0].scores["vocals"] == pytest.approx(b.runs[0].scores["vocals"])
        with pytest.raises(DataError, match="whole songs only"):
            evaluate(Noisy(), data, tmp_path, Options(excerpt=1.0), stems=tmp_path / "stems")

    def test_stems_that_were_kept_of_other_settings_are_made_again(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]]
    ) -> None:
        once, kept = Options(runs=1), {"stems": tmp_path / "stems"}
        evaluate(Noisy(gain=0.1), data, tmp_path / "out", once, **kept)
        before = read_audio(tmp_path / "stems" / "noisy" / "Aria" / "vocals.wav")[0]
        evaluate(Noisy(), data, tmp_path / "out", once)
        evaluate(Noisy(), data, tmp_path / "out", once, **kept)
        after = read_audio(tmp_path / "stems" / "noisy" / "Aria" / "vocals.wav")[0]
        assert not np.array_equal(before, after)
        assert len(calls) == 3 * 3
        (tmp_path / "stems" / "noisy" / "Aria" / "vocals.wav").unlink()
        evaluate(Noisy(), data, tmp_path / "out", once, **kept)
        assert len(calls) == 3 * 3 + 1

    def test_scores_of_other_code_are_made_again(
        self, data: Path, tmp_path: Path, calls: list[tuple[str, int]], monkeypatch
    ) -> None:
        evaluate(Noisy(), data, tmp_path, Options(runs=1))
        evaluate(Noisy(), data, tmp_path, Options(runs=1))
        assert len(calls) == 3
        monkeypatch.setattr("solovox.evaluation.benchmark.code_digest", lambda: "other")
        evaluate(Noisy(), data, tmp_path, Options(runs=1))
        assert len(calls) == 6

    @pytest.mark.skipif(
        importlib.util.find_spec("museval") is None, reason="museval is not installed"
    )
    def test_bss_eval_writes_musevals_files(self, tmp_path: Path) -> None:
        write_song(tmp_path / "one" / "test" / "Aria", seed=0)
        result = evaluate(Noisy(), tmp_path / "one", tmp_path / "out", Options(runs=1, bss=True))
        assert "bss_sir" in result.metrics("vocals")
        paths = sorted((tmp_path / "out" / "noisy" / "museval" / "test").iterdir())
        assert [path.stem for path in paths] == ["test-Aria"]
        frames = json.loads(paths[0].read_text("utf-8"))["targets"][0]["frames"]
        assert frames[0]["metrics"]["SDR"] == pytest.approx(
            result.songs[0].score("vocals", "bss_sdr"), abs=1e-4
        )


class TestNamesOfCommands:
    A, B = "program a {input} {output}", "program b {input} {output}"

    @pytest.mark.parametrize(
        ("text", "name", "command"),
        [
            (A, "peer:program", A),
            (f"four: {A}", "peer:four", A),
            ("/opt/x:1/run {input} {output}", "peer:run", "/opt/x:1/run {input} {output}"),
            ("sh -c 'a: {input} {output}'", "peer:sh", "sh -c 'a: {input} {output}'"),
            ("run --model=x {input} {output}", "peer:run", "run --model=x {input} {output}"),
        ],
    )
    def test_a_name_is_a_word_with_a_colon_before_the_command(
        self, text: str, name: str, command: str
    ) -> None:
        system = find_peer(text)
        assert (system.name, system.peer) == (name, command)

    def test_another_command_does_not_replace_results(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(PeerSystem, "open", lambda self: OracleSystem("mixture").open())
        first = evaluate(find_peer(self.A), data, tmp_path)
        with pytest.raises(DataError, match=r"holds the results of program a .* 'NAME: COMMAND'"):
            evaluate(find_peer(self.B), data, tmp_path)
        assert load(tmp_path / "peer-program") == first
        evaluate(find_peer(f"b: {self.B}"), data, tmp_path)
        assert load(tmp_path / "peer-b").settings == {"peer": self.B}
        evaluate(find_peer(self.A), data, tmp_path)  # as before


def test_names_of_systems() -> None:
    assert find_system("oracle:irm") == OracleSystem("irm")
    assert find_system("diff-dmx-small").name == "diff-dmx-small"
    with pytest.raises(SolovoxError, match="no oracle 'best'; there are mixture"):
        find_system("oracle:best")
    with pytest.raises(SolovoxError, match="no peer 'demucs'; there are spleeter"):
        find_system("peer:demucs")
