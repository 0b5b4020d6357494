"""Reports and comparisons say what was measured, and what was not; the commands make them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from solovox.cli.compare import compare
from solovox.cli.evaluate import evaluate as evaluate_command
from solovox.errors import DataError, SolovoxError
from solovox.evaluation.benchmark import Options, Result, evaluate
from solovox.evaluation.comparison import compare_results, comparison_report
from solovox.evaluation.oracles import ORACLES
from solovox.evaluation.report import curve_table, summary_table, table, write_report
from solovox.evaluation.systems import OracleSystem

from .conftest import Noisy, write_song

ONE = Options(runs=1)


@pytest.fixture
def results(data: Path, tmp_path: Path) -> list[Result]:
    write_song(data / "Drums", seed=5, silent=True)
    systems = (Noisy(), OracleSystem("mixture"))
    return [evaluate(system, data, tmp_path / "out", Options(runs=2)) for system in systems]


def test_the_report_has_tables_plots_and_what_was_left_out(
    results: list[Result], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    text = write_report(results, tmp_path / "out", "Title").read_text("utf-8")
    assert text.startswith("# Title\n\n4 songs of ")
    assert "| noisy | 3 | 2 |" in text
    assert "| oracle:mixture | 3 | 1 |" in text
    assert "- noisy, vocals, all metrics: silent reference: Drums" in text
    assert "nan" not in text.lower()
    for name in ("distribution.png", "spectrograms-noisy.png"):
        assert f"plots/{name}" in text
        assert (tmp_path / "out" / "plots" / name).stat().st_size > 5000
    assert not (tmp_path / "out" / "plots" / "spectrograms-oracle-mixture.png").exists()


def test_tables_without_plots_need_no_matplotlib(
    results: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(results, tmp_path / "out", plots=False)
    with pytest.raises(SolovoxError, match="--no-plots"):
        write_report(results, tmp_path / "out")


def test_spread_is_shown_for_several_runs_only(results: list[Result]) -> None:
    noisy, mixture = summary_table(results, "vocals").splitlines()[2:]
    assert " ± " in noisy
    assert " ± " not in mixture


def test_a_curve_has_a_line_a_number_of_steps(results: list[Result]) -> None:
    lines = curve_table(results).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| steps | uSDR dB ↑ |")


def test_cells_cannot_break_a_table() -> None:
    assert table(["a", "b"], [["x|y", "1"]]).splitlines()[2] == "| x\\|y | 1 |"


class TestComparison:
    def test_the_better_system_wins_everywhere(self, data: Path, tmp_path: Path) -> None:
        a, b = (
            evaluate(Noisy(gain, title=str(gain)), data, tmp_path / "out", ONE)
            for gain in (0.1, 0.01)
        )
        found = compare_results(a, b)
        assert found["usdr"].wins == 3
        assert found["usdr"].median.value == pytest.approx(20.0, abs=0.01)
        assert found["usdr"].rank_biserial == 1.0
        assert found["multi_resolution_stft"].losses == 3
        text = comparison_report(a, b)
        assert "| uSDR dB ↑ | 3 | +20.000" in text
        assert "| 3 : 0 |" in text
        assert "Of 3 songs the test cannot give p < 0.25" in text

    def test_songs_of_one_only_and_silent_ones_are_named(self, data: Path, tmp_path: Path) -> None:
        write_song(data / "Drums", seed=5, silent=True)
        a = evaluate(Noisy(title="a"), data, tmp_path / "out", ONE)
        b = evaluate(Noisy(title="b", fails_on="Blues"), data, tmp_path / "out", ONE)
        text = comparison_report(a, b)
        assert "- only in a: Blues" in text
        assert "- silent vocals: Drums" in text
        assert "| uSDR dB ↑ | 2 |" in text

    def test_songs_without_a_score_are_named_by_metric(self, data: Path, tmp_path: Path) -> None:
        write_song(data / "Drums", seed=5, silent=True)
        a, b = (
            evaluate(OracleSystem(name), data, tmp_path / "out") for name in ("mixture", "silence")
        )
        text = comparison_report(a, b)
        assert "- silent vocals: Drums" in text
        songs = "Aria, Blues, Chanson – été"
        assert f"- SI-SDR: no score is defined in oracle:silence: {songs}" in text
        assert "no score is defined in oracle:mixture" not in text

    def test_metrics_of_one_only_are_named(self, data: Path, tmp_path: Path) -> None:
        a, b = (
            evaluate(Noisy(title=name), data, tmp_path / "out", ONE, only="A*") for name in "ab"
        )
        (song,) = b.songs
        scores = {"vocals": {**song.runs[0].scores["vocals"], "pesq": 2.0, "stoi": 0.5}}
        more = replace(b, songs=(replace(song, runs=(replace(song.runs[0], scores=scores),)),))
        for text in (comparison_report(a, more), comparison_report(more, a)):
            assert "- PESQ, STOI: only in b" in text

    def test_unlike_evaluations_are_refused(self, data: Path, tmp_path: Path) -> None:
        a = evaluate(Noisy(), data, tmp_path / "a", ONE)
        b = evaluate(Noisy(), data, tmp_path / "b", Options(runs=1, excerpt=1.0))
        with pytest.raises(DataError, match=r"whole songs.*1 s; evaluate both alike"):
            compare_results(a, b)
        write_song(tmp_path / "other" / "Waltz", seed=0)
        c = evaluate(Noisy(), tmp_path / "other", tmp_path / "c", ONE)
        with pytest.raises(DataError, match="no song in common"):
            compare_results(a, c)


class TestCommands:
    def test_evaluate_then_compare(self, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        arguments = ["oracle:mixture", "oracle:irm", "--data", str(data), "--out", str(out)]
        done = CliRunner().invoke(evaluate_command, [*arguments, "--no-plots"])
        assert done.exit_code == 0, done.output
        assert "| oracle:irm | 3 | 1 |" in done.output
        assert (out / "report.md").is_file()
        written = tmp_path / "comparison.md"
        done = CliRunner().invoke(
            compare,
            [str(out / "oracle-mixture"), str(out / "oracle-irm"), "--out", str(written)],
        )
        assert done.exit_code == 0, done.output
        assert written.read_text("utf-8") == done.output
        assert "# oracle:irm (B) against oracle:mixture (A): vocals" in done.output

    def test_a_failed_song_fails_the_command_after_all_is_done(
        self, data: Path, tmp_path: Path
    ) -> None:
        done = CliRunner().invoke(
            evaluate_command,
            ["--peer", "false {input} {output}", "--data", str(data), "--out", str(tmp_path / "o")],
        )
        assert done.exit_code == 1
        assert done.output.count("false ended with status 1: no message") == 3
        assert (tmp_path / "o" / "report.md").is_file()

    def test_commands_of_one_program_have_names(self, data: Path, tmp_path: Path) -> None:
        given = ["--data", str(data), "--out", str(tmp_path / "o"), "--no-plots"]
        one, two = "false 1 {input} {output}", "false 2 {input} {output}"
        done = CliRunner().invoke(evaluate_command, [*given, "--peer", one, "--peer", two])
        assert isinstance(done.exception, SolovoxError)
        assert "--peer 'NAME: COMMAND'" in str(done.exception)
        named = ["--peer", f"one: {one}", "--peer", f"two: {two}"]
        done = CliRunner().invoke(evaluate_command, [*given, *named])
        assert "| peer:one | 0 |" in done.output
        assert "| peer:two | 0 |" in done.output
        # Refused before any work: the oracle is not there either.
        swapped = ["oracle:mixture", "--peer", f"one: {two}"]
        done = CliRunner().invoke(evaluate_command, [*given, *swapped])
        assert "holds the results of false 1 " in str(done.exception)
        assert not (tmp_path / "o" / "oracle-mixture").exists()

    def test_nothing_to_evaluate_and_bad_lists(self, data: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(evaluate_command, ["--data", str(data)])
        assert isinstance(done.exception, SolovoxError)
        done = CliRunner().invoke(evaluate_command, ["x", "--data", "y", "--curve", "1,two"])
        assert done.exit_code == 2
        assert "'1,two' is not a list such as 1,2,5" in done.output

    def test_help_names_every_oracle(self) -> None:
        text = CliRunner().invoke(evaluate_command, ["--help"]).output
        assert all(name in text for name in ORACLES)
