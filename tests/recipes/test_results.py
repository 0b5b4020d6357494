"""The pages of results and the clips of the studies, made of fake songs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from solovox.audio import write_audio

RECIPE = Path(__file__).parents[2] / "recipes" / "results"
RATE = 8000


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"results_{name}", RECIPE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def write_song(folder: Path, seconds: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(-0.4, 0.4, (2, 2, round(seconds * RATE)))
    folder.mkdir(parents=True)
    for name, stem in zip(("vocals", "accompaniment"), noise, strict=True):
        write_audio(folder / f"{name}.wav", stem, RATE)
    return noise


def test_clips_are_the_parts_that_the_studies_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = load("clips")
    falcon = write_song(tmp_path / "demo/falcon", 6, 1)
    francium = write_song(tmp_path / "songs/valid/Francium", 95, 2)
    monkeypatch.setattr(clips, "fetch_song", lambda _: tmp_path / "demo")
    given = ["--songs", str(tmp_path / "songs"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(clips.main, given)
    assert done.exit_code == 0, done.output
    part = francium[..., 60 * RATE : 90 * RATE]
    for name, (vocals, accompaniment) in (("Falcon 69", falcon), ("Francium 60-90", part)):
        path = tmp_path / "out" / name / "mixture.wav"
        assert soundfile.info(path).subtype == "PCM_16"
        found = [soundfile.read(path.with_stem(stem))[0].T for stem in ("vocals", "mixture")]
        np.testing.assert_allclose(found[0], vocals, atol=0.51 / 32768)
        np.testing.assert_allclose(found[1] - found[0], accompaniment, atol=0.51 / 32768)


def test_without_the_song_the_clips_say_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = load("clips")
    write_song(tmp_path / "demo/falcon", 1, 1)
    write_song(tmp_path / "songs/valid/Other", 1, 2)
    monkeypatch.setattr(clips, "fetch_song", lambda _: tmp_path / "demo")
    done = CliRunner().invoke(clips.main, ["--songs", str(tmp_path / "songs")])
    assert done.exit_code == 1
    assert "has no song Francium: make it with recipes/open-singing/songs.py" in done.output
