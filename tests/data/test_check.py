"""The report's figures are those of known signals; each fault is found and named."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from songs_on_disk import RATE, noise, write

from solovox.cli.data import data
from solovox.data.check import check


def test_hours_silence_and_levels(tmp_path: Path) -> None:
    vocals = np.zeros((2, 20 * RATE), np.float32)
    vocals[:, : 5 * RATE] = 0.1 * np.sign(noise(0, 5 * RATE))  # -20 dB for a quarter of the time
    write(tmp_path / "train" / "A" / "vocals.wav", vocals)
    write(tmp_path / "train" / "A" / "accompaniment.wav", np.zeros_like(vocals))
    write(tmp_path / "valid" / "B" / "vocals.wav", 0 * vocals)
    write(tmp_path / "valid" / "B" / "accompaniment.wav", 0.5 * np.sign(noise(1, 20 * RATE)))
    report = check(tmp_path)
    first, second = report.songs
    assert report.hours == pytest.approx(40 / 3600) and report.sample_rate == RATE
    assert (first.silence, second.silence) == (0.75, 1.0)
    assert first.vocals_db == pytest.approx(-20.0, abs=0.01) and second.vocals_db is None
    assert first.mixture_db == pytest.approx(-20.0, abs=0.01)
    assert second.mixture_db == pytest.approx(-6.02, abs=0.01)
    assert second.peak_db == pytest.approx(-6.02, abs=0.01)
    assert report.faults == ()


Pair = tuple[np.ndarray, np.ndarray]


def clipped(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    return 5 * vocals, np.clip(5 * (vocals + rest), -1, 1)


def offset(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    return vocals, vocals + rest + np.float32(0.05)


def not_numbers(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    spoilt = vocals.copy()
    spoilt[0, 100] = np.nan
    return spoilt, vocals + rest


def shifted(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    return np.roll(vocals, 50, axis=1), vocals + rest


def turned(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    return -vocals, vocals + rest


def silent(vocals: np.ndarray, rest: np.ndarray) -> Pair:
    return 0 * vocals, 0 * rest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (clipped, r"A: mixture: \d+\.\d % of the samples are clipped"),
        (offset, r"A: mixture: a constant offset \(DC\) of 0\.0[45]\d"),
        (not_numbers, r"A: vocals: 1 samples are not numbers"),
        (shifted, r"A: the mixture holds -?0\.0\d times the vocals, not once.*"),
        (turned, r"A: the mixture holds -(0\.9|1\.0)\d times the vocals, not once.*"),
        (silent, r"A: silent from beginning to end"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, spoil: Callable[..., Pair], message: str) -> None:
    vocals, mixture = spoil(noise(0, 2 * RATE), noise(1, 2 * RATE))
    write(tmp_path / "A" / "vocals.wav", vocals)
    write(tmp_path / "A" / "mixture.wav", mixture)
    (fault,) = check(tmp_path).faults
    assert re.fullmatch(message, fault)


def test_a_mixture_unlike_its_stems_is_found(tmp_path: Path) -> None:
    stems = [
        write(tmp_path / "A" / f"{s}.wav", noise(n)) for n, s in enumerate(("vocals", "drums"))
    ]
    write(tmp_path / "A" / "mixture.wav", sum(stems) + noise(5, level=0.02))
    assert "differs from the sum of its stems by -17 dB" in check(tmp_path).faults[0]


def test_unusable_songs_are_listed_and_the_others_reported(pairs: Path) -> None:
    write(pairs / "B" / "vocals.wav", noise(0, 77))
    (pairs / "C" / "vocals.wav").unlink()
    write(pairs / "D" / "vocals.wav", noise(0), 16000)
    write(pairs / "D" / "mixture.wav", noise(0), 16000)
    report = check(pairs)
    assert [song.name for song in report.songs] == ["A"]
    assert len(report.unusable) == 3
    (pairs / "weights.json").write_text('{"B": 2}')  # the weight of one that is left out
    assert len(check(pairs).unusable) == 3
    for line, part in zip(report.unusable, ("77", "no vocals", "16000 Hz"), strict=True):
        assert part in line and len(line.splitlines()) == 1


def test_the_command_prints_the_table_and_fails_on_faults(pairs: Path) -> None:
    result = CliRunner().invoke(data, ["check", str(pairs)])
    assert result.exit_code == 0 and "No faults" in result.output and "hours" in result.output
    (pairs / "C" / "vocals.wav").write_text("no sound")
    result = CliRunner().invoke(data, ["check", "--songs", str(pairs)])
    assert result.exit_code == 1 and "C/vocals.wav: cannot be read" in result.output


def test_unpaired_files_are_reported_too(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "v.wav", noise(0))
    write(tmp_path / "other" / "o.wav", noise(1))
    report = check(tmp_path)
    assert [song.vocals for song in report.songs] == [False, True] and not report.faults
