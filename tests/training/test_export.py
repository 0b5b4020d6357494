"""The guard of precision: what bf16 may change of a model's vocals before it is not used."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_runs import BANDS, RATE

from solovox.data.index import find_songs
from solovox.training import export
from solovox.training.export import find_precision

MODEL = SimpleNamespace(config=BANDS, codec=SimpleNamespace(sample_rate=RATE))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, (2, BANDS.chunk)).astype(np.float32)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """Vocals and accompaniment of one chunk, each of noise."""
    place = tmp_path / "songs" / "song"
    place.mkdir(parents=True)
    for seed, stem in enumerate(("vocals", "accompaniment")):
        soundfile.write(place / f"{stem}.wav", noise(seed).T, RATE, subtype="FLOAT")
    return place


class Rounding:
    """A separator of known errors: vocals, 20 dB of error, and what bf16 adds to it by setting."""

    def __init__(self, changes: dict[tuple[float, int], np.ndarray]) -> None:
        self.changes, self.asked = changes, []

    def __call__(self, model, device, *, start, steps, takes, precision):
        assert (device, takes) == ("cpu", 1)
        self.asked.append((start, steps, precision))
        added = self.changes.get((start, steps), 0.0) if precision == "bf16" else 0.0
        vocals = noise(0) + 0.1 * noise(2) + added
        return SimpleNamespace(separate=lambda mixture, rate: {"vocals": vocals})


OWN, LONG = (0.3, 1), (1.0, 20)


@pytest.fixture(params=[OWN, LONG], ids=["own", "from noise"])
def setting(request: pytest.FixtureRequest) -> tuple[float, int]:
    return request.param


def found(song: Path, monkeypatch: pytest.MonkeyPatch, **changes: np.ndarray) -> tuple[str, str]:
    rounding = Rounding({OWN: changes.get("own", 0.0), LONG: changes.get("long", 0.0)})
    monkeypatch.setattr(export, "Separator", rounding)
    result = find_precision(MODEL, find_songs(song.parent))
    assert {(start, steps) for start, steps, _ in rounding.asked} == {OWN, LONG}
    return result


def in_one(setting: tuple[float, int], change: np.ndarray) -> dict[str, np.ndarray]:
    return {"own" if setting == OWN else "long": change}


@pytest.mark.parametrize("sign", [1, -1])
def test_usdr_that_changes_is_fp32_however_far_apart(song, monkeypatch, setting, sign) -> None:
    """1 % more of the error is 60 dB from what it was, and costs 0.086 dB; half of that is fine."""
    precision, told = found(song, monkeypatch, **in_one(setting, sign * 0.001 * noise(2)))
    assert precision == "fp32" and "the model computes in fp32" in told
    assert f"{-sign * 0.086:+.3f}" in told or f"{-sign * 0.087:+.3f}" in told
    precision, told = found(song, monkeypatch, **in_one(setting, sign * 0.0005 * noise(2)))
    assert precision == "auto" and "computes in fp32" not in told


def test_vocals_that_are_near_are_fp32_whatever_their_usdr(song, monkeypatch, setting) -> None:
    """An error 37 dB below the vocals, unlike the one there is, adds less than 0.1 dB to it."""
    monkeypatch.setattr(export, "CHANGE", 0.5)
    precision, told = found(song, monkeypatch, **in_one(setting, 10 ** (-36.5 / 20) * noise(3)))
    assert precision == "fp32" and "36." in told
    precision, told = found(song, monkeypatch, **in_one(setting, 10 ** (-43.5 / 20) * noise(3)))
    assert precision == "auto" and "43." in told


def test_a_model_that_samples_in_many_steps_is_checked_in_two(song, monkeypatch) -> None:
    many = replace(BANDS, sampling=replace(BANDS.sampling, steps=50, start=1.0))
    rounding = Rounding({})
    monkeypatch.setattr(export, "Separator", rounding)
    find_precision(SimpleNamespace(config=many, codec=MODEL.codec), find_songs(song.parent))
    assert [asked[:2] for asked in rounding.asked] == [(1.0, 2)] * 2 + [LONG] * 2


def test_it_is_said_where_nothing_could_be_measured(song, monkeypatch) -> None:
    precision, told = find_precision(MODEL, [])
    assert precision == "auto" and "not measured" in told and "none was held out" in told
    silence = np.zeros((BANDS.chunk, 2), np.float32)
    soundfile.write(song / "vocals.wav", silence, RATE, subtype="FLOAT")
    precision, told = find_precision(MODEL, find_songs(song.parent))
    assert precision == "auto" and "not measured" in told and "nobody sings" in told


def test_a_song_without_a_voice_in_its_middle_is_passed_over(song, monkeypatch) -> None:
    quiet = song.parent / "a-silence"
    quiet.mkdir()
    for stem, level in (("vocals", 0.0), ("accompaniment", 1.0)):
        soundfile.write(quiet / f"{stem}.wav", level * noise(4).T, RATE, subtype="FLOAT")
    assert [song.name for song in find_songs(song.parent)] == ["a-silence", "song"]
    assert "a chunk of song are" in found(song, monkeypatch)[1]
