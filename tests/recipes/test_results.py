"""The pages of results and the clips of the studies, made of fake songs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from solovox.audio import write_audio
from solovox.checkpoint import save_model
from solovox.codecs.encodec_small import SmallEncodecConfig
from solovox.evaluation.metrics import as_16_bit
from solovox.networks.nothing import NothingConfig
from solovox.presets import ModelConfig, SamplingConfig, build_model

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
        found = [soundfile.read(path.with_stem(stem))[0].T for stem in ("vocals", "mixture")]
        assert all(np.array_equal(audio, as_16_bit(audio)) for audio in found)
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


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("make")
    monkeypatch.setattr("solovox.evaluation.statistics.RESAMPLES", 100)
    monkeypatch.setattr(module, "SPLEETER", module.OracleSystem("wiener"))
    monkeypatch.setattr(module, "fetch_song", lambda folder: folder)
    return module


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    write_song(tmp_path / "cache/demo-song/falcon", 1, 1)
    for seed, name in enumerate(("A", "B")):
        write_song(tmp_path / "data/test" / name, 1, seed)
    codec = SmallEncodecConfig(RATE, hop=32, bands=24, kept=12, learned=4, encoder_width=8,
                               decoder_width=8, dilations=(1,))  # fmt: skip
    config = ModelConfig("tiny", codec, NothingConfig(), NothingConfig(), normalise=True,
                         chunk=4096, sampling=SamplingConfig(steps=1, cutoff=0.0))  # fmt: skip
    models = [str(save_model(build_model(config), tmp_path / name)) for name in ("one", "two")]
    folders = {"open": "data", "cache": "cache", "out": "runs", "docs": "docs"}
    given = [f"--{name}={tmp_path / folder}" for name, folder in folders.items()]
    return [*given, f"--models={','.join(models)}"]


def test_results_show_both_models_on_each_set(
    make: ModuleType, options: list[str], tmp_path: Path
) -> None:
    images = tmp_path / "docs/images"
    images.mkdir(parents=True)
    (images / "results-old.jpg").touch()
    (images / "other.jpg").touch()
    done = CliRunner().invoke(make.main, ["results", *options])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "docs/results.md").read_text("utf-8")
    drawn = {path.name for path in images.iterdir()}
    for group in ("falcon-69", "open-split"):
        for model in ("one", "two"):
            name = f"results-{group}-spectrograms-{model}.jpg"
            assert f"(images/{name})" in page
            assert name in drawn
    assert drawn >= {"other.jpg", "results-open-split.png"}
    assert "results-old.jpg" not in drawn
    assert "make.py results --open data` writes" in page
    assert " 1 song; scored are 1 s of it." in page
    assert " 2 songs; scored are 1 s of each, 2 s in all." in page
    assert "](../recipes/open-singing/README.md)" in page


def test_what_is_scored_is_the_middle_rounded_to_16_bits(make: ModuleType, tmp_path: Path) -> None:
    falcon = write_song(tmp_path / "cache/demo-song/falcon", 1, 1)
    songs = {
        name: write_song(tmp_path / "data" / name, 1, seed)
        for seed, name in enumerate(("test/A", "test/B", "valid/cc0-Francium", "valid/Other"))
    }
    found = make.groups(tmp_path / "data", tmp_path / "cache", 0.5)
    middle = slice(RATE // 4, RATE // 4 + RATE // 2)
    expected = {
        "Falcon 69": {"falcon": falcon},
        "Open split": {name: songs[f"test/{name}"][..., middle] for name in "AB"},
        "Francium": {"cc0-Francium": songs["valid/cc0-Francium"]},  # shorter than its excerpt
    }
    assert [group.title for group in found] == list(expected)
    for group in found:
        given = expected[group.title]
        assert {path.name for path in group.folder.iterdir()} == given.keys()
        for name, stems in given.items():
            for stem, audio in zip(("vocals", "accompaniment"), stems, strict=True):
                written = soundfile.read(group.folder / name / f"{stem}.wav", dtype="float32")[0].T
                assert np.array_equal(written, as_16_bit(audio.astype(np.float32)))


def test_sampling_repeats_one_setting_and_answers(
    make: ModuleType,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = make.Grid((2,), (0.0, 0.4), (0.0,), (1.0,))
    monkeypatch.setattr(make, "GRIDS", {"From noise": [grid]})
    monkeypatch.setattr(make, "RUNS", {grid.cells()[1]: 3})
    compared = []
    original = make.compared_with_plain
    monkeypatch.setattr(
        make, "compared_with_plain", lambda part: compared.append(part) or original(part)
    )
    monkeypatch.setattr("solovox.evaluation.ablation.compared_with_plain", None)
    done = CliRunner().invoke(make.main, ["sampling", *options, "--runs", "1"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "docs/studies/sampling.md").read_text("utf-8")
    assert "one: From noise unfiltered noise " in page
    summary = page.partition("## The paper's Table 2")[0]
    assert summary.count("A change counts if it is 0.01 dB or more") == 1
    assert "Of 2 songs an interval is little but their range" in summary
    assert len(compared) == 2  # once a model and question
    runs = {
        path.parent.name: len(json.loads(path.read_text("utf-8"))["songs"][0]["runs"])
        for path in (tmp_path / "runs/sampling/one-From-noise").glob("*/results.json")
    }
    assert sorted(runs.values()) == [1, 3]


def test_the_repeated_settings_are_in_the_grid(make: ModuleType) -> None:
    cells = {cell for grids in make.GRIDS.values() for grid in grids for cell in grid.cells()}
    assert set(make.RUNS) <= cells
    line = make.runs_line(1)
    assert line == "Runs a setting: 1; T=10, from t = 1 η 0.4 fc 5000 Hz is run 5 times."


def test_every_setting_of_the_papers_table_is_studied(make: ModuleType) -> None:
    grids = make.GRIDS["From noise, as in the paper"]
    cells = {cell for grid in grids for cell in grid.cells()}
    for steps, eta, cutoff in make.PAPER:
        assert make.Sampling(steps, 1.0, eta, cutoff if eta else None) in cells


def test_all_gives_each_page_its_own_excerpt(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for command in (make.results, make.sampling):
        monkeypatch.setattr(command, "callback", lambda **given: told.append(given))
    done = CliRunner().invoke(make.main, ["all"])
    assert done.exit_code == 0, done.output
    assert [given["excerpt"] for given in told] == [8, 12]
    assert (told[1]["runs"], told[1]["most"]) == (1, 6)
    assert told[0]["open_singing"] == Path("data")
