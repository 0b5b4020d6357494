"""Damaged files of every format end in sound or in one line: a short run of the fuzzing benchmark.

The long runs are `python benchmarks/fuzz_audio.py` and `fuzz_settings.py`.
"""

from __future__ import annotations

import importlib
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from solovox.audio import AudioReader, read_audio
from solovox.errors import AudioError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fuzzing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # worker processes look there, too
    return importlib.import_module("fuzz_audio")


def test_intact_files_are_all_read(fuzzing: ModuleType, tmp_path: Path) -> None:
    for name, data in fuzzing.seed_files().items():
        (tmp_path / "seed").write_bytes(data)
        audio, rate = read_audio(tmp_path / "seed")
        assert rate == 48000, name
        assert 4000 < audio.shape[1] < 7000, name
        assert 0.05 < np.abs(audio).max() < 1.1, name


def test_damaged_files_neither_crash_nor_hang_nor_fill_memory(
    fuzzing: ModuleType, tmp_path: Path
) -> None:
    runner = importlib.import_module("fuzzing")
    *_, report = runner.fuzz(fuzzing.attempt, 300, 1, tmp_path)
    assert report.crashes == {}
    assert sum(report.outcomes.values()) == 300
    assert report.outcomes["read"] > 30  # the damage is not so bad that only openings are tried
    assert report.longest < runner.TIME_LIMIT
    assert report.peak < report.first_peak + (100 << 20)


def test_damaged_settings_and_model_folders_are_refused_in_one_line(
    fuzzing: ModuleType, tmp_path: Path
) -> None:
    settings = importlib.import_module("fuzz_settings")
    runner = importlib.import_module("fuzzing")
    *_, report = runner.fuzz(settings.attempt, 200, 1, tmp_path)
    assert report.crashes == {}
    assert report.outcomes["refused"] > 100
    assert report.outcomes["read"] > 5
    assert report.longest < runner.TIME_LIMIT
    assert report.peak < report.first_peak + (200 << 20)


def test_a_case_depends_on_the_seed_and_its_number_alone(fuzzing: ModuleType) -> None:
    files = fuzzing.seed_files()
    assert fuzzing.mutant(files, 0, 7) == fuzzing.mutant(files, 0, 7) != fuzzing.mutant(files, 1, 7)


def test_a_decompression_bomb_streams_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.flac"  # 10 min of silence in a few kB
    with soundfile.SoundFile(path, "w", 48000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(10):
            file.write(np.zeros(60 * 48000, np.int16))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with AudioReader(path) as reader:
        assert sum(block.shape[1] for block in reader.blocks(48000)) == 10 * 60 * 48000
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_header_that_claims_much_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    soundfile.write(path, np.zeros((1000, 2)), 44100)
    data = bytearray(path.read_bytes())
    data[40:44] = (0x7FFFEFFF).to_bytes(4, "little")
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(AudioError, match="ends early"):
        read_audio(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
