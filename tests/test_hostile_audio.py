"""Damaged files of every format end in sound or in one line: a short run of the fuzzing benchmark.

The long run is `python benchmarks/fuzz_audio.py`.
"""

from __future__ import annotations

import importlib.util
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from solovox.audio import AudioReader, read_audio
from solovox.errors import AudioError


@pytest.fixture(scope="module")
def fuzzing() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz_audio.py"
    spec = importlib.util.spec_from_file_location("fuzz_audio", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_audio"] = module  # where the worker processes look for it
    spec.loader.exec_module(module)
    return module


def test_intact_files_are_all_read(fuzzing: ModuleType, tmp_path: Path) -> None:
    for name, data in fuzzing.seed_files().items():
        (tmp_path / "seed").write_bytes(data)
        audio, rate = read_audio(tmp_path / "seed")
        assert rate == 48000, name
        assert 4000 < audio.shape[1] < 7000, name
        assert 0.05 < np.abs(audio).max() < 1.1, name


def test_damaged_files_neither_crash_nor_hang_nor_fill_memory(
    fuzzing: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(fuzzing.__file__ or "").parent))
    *_, report = fuzzing.fuzz(300, 1, tmp_path)
    assert report.crashes == {}
    assert sum(report.outcomes.values()) == 300
    assert report.outcomes["read"] > 30  # the damage is not so bad that only openings are tried
    assert report.longest < fuzzing.TIME_LIMIT
    assert report.peak < report.first_peak + (100 << 20)


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
