"""A small data set on disk, and systems that count their calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from solovox.errors import SolovoxError
from solovox.evaluation.oracles import Stems
from solovox.evaluation.systems import Material, SeparateSong, Settings, System

RATE = 8_000
SONGS = ("Aria", "Blues", "Chanson – été")


def write_song(folder: Path, seed: int, seconds: float = 1.5, silent: bool = False) -> None:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    voice = 0.2 * np.sin(2 * np.pi * (200 + 40 * seed) * time) * (not silent)
    vocals = np.stack([voice, voice])
    band = 0.05 * rng.standard_normal(vocals.shape)
    folder.mkdir(parents=True, exist_ok=True)
    for name, audio in (("vocals", vocals), ("mixture", vocals + band)):
        soundfile.write(folder / f"{name}.wav", audio.T, RATE, subtype="FLOAT")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solovox.evaluation.statistics.RESAMPLES", 500)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for seed, name in enumerate(SONGS):
        write_song(folder / name, seed)
    return folder


@dataclass(frozen=True)
class Noisy(System):
    """Returns the truth with noise that depends on the seed; notes each call in `calls`."""

    random = True

    gain: float = 0.02
    fails_on: str = ""
    title: str = "noisy"

    calls = []  # noqa: RUF012 (shared by all of them on purpose; the fixture empties it)

    @property
    def name(self) -> str:
        return self.title

    @property
    def settings(self) -> Settings:
        return {"gain": self.gain}

    @property
    def runs(self) -> int:
        return 5

    def open(self) -> SeparateSong:
        def separate(m: Material, seed: int) -> Stems:
            self.calls.append((m.song.name, seed))
            if m.song.name == self.fails_on:
                raise SolovoxError("the singer has left")
            noise = np.random.default_rng(seed).standard_normal(m.vocals.shape)
            vocals = (m.vocals + self.gain * noise).astype(np.float32)
            return {"vocals": vocals, "accompaniment": m.mixture - vocals}

        return separate


@pytest.fixture
def calls() -> Iterator[list[tuple[str, int]]]:
    Noisy.calls.clear()
    yield Noisy.calls
    Noisy.calls.clear()
