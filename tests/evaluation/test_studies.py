"""A study's files, and that an identity and noise on it are what they say."""

import importlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from random_models import stirred

from solovox.audio import write_audio
from solovox.checkpoint import save_model, weights_digest
from solovox.cli.study import study
from solovox.codecs.encodec_small import SmallEncodecConfig
from solovox.errors import ModelError
from solovox.evaluation.metrics import usdr
from solovox.evaluation.studies import (
    Clip,
    context,
    identity,
    injection,
    noise,
    stems,
    steps,
    with_injection,
)
from solovox.networks.band_split import BandSplitConditionerConfig
from solovox.networks.latent_bands import LatentBandsConfig
from solovox.networks.nothing import NothingConfig
from solovox.presets import ModelConfig, SamplingConfig, build_model
from solovox.separator import Separator

CODEC = SmallEncodecConfig(8000, hop=32, bands=24, kept=12, learned=4, encoder_width=8,
                           decoder_width=8, dilations=(1,))  # fmt: skip
MODEL = ModelConfig("tiny", CODEC, NothingConfig(), NothingConfig(), normalise=True, chunk=4096,
                    sampling=SamplingConfig(steps=1, cutoff=0.0))  # fmt: skip

HEARING = replace(
    MODEL,
    name="hearing",
    codec=replace(CODEC, kept=8, learned=8),
    conditioner=BandSplitConditionerConfig(
        8000, hop=32, bands=6, widths=(8, 12), heads=2, kept=8, learned=8
    ),
    generator=LatentBandsConfig(
        8000, hop=32, kept=8, learned=8, bands=6, widths=(8, 12), heads=2, condition_widths=(8, 12)
    ),
    sampling=SamplingConfig(steps=2, start=0.3, eta=0.0, cutoff=0.0),
)


def hearing_model(injected="deep"):
    """A model that hears the mixture, with random weights that are not still."""
    generator = replace(HEARING.generator, injection=injected)
    return stirred(replace(HEARING, generator=generator), 0.02)


@pytest.fixture(scope="module")
def songs():
    """Two clips in which something plays under a tone."""
    time = np.arange(8000) / 8000
    found = []
    for seed, hertz in enumerate((440, 550)):
        tone = 0.3 * np.sin(2 * np.pi * hertz * time)
        band = 0.1 * np.random.default_rng(seed).standard_normal((2, 8000))
        stems = np.stack((tone, tone)).astype(np.float32), band.astype(np.float32)
        found.append(Clip(f"song {seed}", *stems, 8000))
    return found


def mean_usdr(separator, songs):
    return np.mean(
        [usdr(s.vocals, separator.separate(s.mixture, s.sample_rate)["vocals"]) for s in songs]
    )


@pytest.fixture(scope="module")
def clips():
    time = np.arange(8000) / 8000
    tone = np.float32(0.3) * np.sin(2 * np.pi * 440 * time).astype(np.float32)
    return [Clip("tone", np.stack((tone, tone)), np.zeros((2, 8000), np.float32), 8000)]


def test_noise_spoils_more_the_more_there_is(clips, tmp_path):
    folder = save_model(build_model(MODEL), tmp_path / "model")
    found = noise(str(folder), clips, (0.0, 0.1, 1.0), told=lambda _: None)
    scores = [row["usdr"] for row in found.rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 20  # a tone below the bands' end passes
    found.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/study.json").read_text())["rows"] == found.rows
    assert "| 0.1 |" in (tmp_path / "out/study.md").read_text()
    assert (tmp_path / "out/study.png").stat().st_size > 1000


def test_an_untrained_codec_is_scored_beside_the_trained(clips, tmp_path):
    folder = save_model(build_model(MODEL), tmp_path)
    found = identity([str(folder)], clips, untrained=True, told=lambda _: None)
    assert [row["codec"] for row in found.rows[::2]] == ["tiny, untrained", "tiny"]


def test_a_model_without_levels_of_injection_has_none_to_choose():
    with pytest.raises(ModelError, match="no levels of injection"):
        with_injection(build_model(MODEL), "all")


def test_each_rule_is_scored_beside_the_mixture(clips, tmp_path):
    folder = save_model(build_model(MODEL), tmp_path)
    found = stems([str(folder)], clips, told=lambda _: None)
    names = [row["system"] for row in found.rows if row["series"] == "tone, vocals"]
    assert names == ["mixture", "tiny, exact", "tiny, wiener", "tiny, generated"]
    assert found.rows[0]["usdr"] > 60  # there is nothing but vocals in the mixture
    assert "means" not in found.markdown()


def test_steps_are_counted_from_each_start(songs, tmp_path):
    folder = str(save_model(hearing_model(), tmp_path))
    found = steps(folder, songs, (0, 1, 3), (0.5, 1.0), told=lambda _: None)
    settings = [(row["series"], row["T"]) for row in found.rows]
    assert settings == [(f"start {start}", count) for start in ("0.5", "1") for count in (0, 1, 3)]
    scores = [row["usdr"] for row in found.rows]
    assert scores[0] == scores[3]  # the estimate, wherever sampling would start
    assert len(set(scores)) == 5
    expected = Separator(folder, steps=3, start=0.5, stems="generated")
    assert scores[2] == pytest.approx(mean_usdr(expected, songs), abs=1e-4)
    assert found.weights.keys() == {tmp_path.name}


def test_context_is_the_length_of_a_chunk_and_no_more_than_the_song(songs, tmp_path):
    folder = str(save_model(hearing_model(), tmp_path))
    found = context(folder, songs, (0.512, 0.256), told=lambda _: None)
    assert [row["seconds"] for row in found.rows] == [0.512, 0.256]
    longer, shorter = (row["usdr"] for row in found.rows)
    assert longer == pytest.approx(
        mean_usdr(Separator(folder, stems="generated"), songs), abs=1e-4
    )  # 4096 samples, as the model has
    short = hearing_model()
    short.config = replace(short.config, chunk=2048)
    expected = mean_usdr(Separator(short, stems="generated"), songs)
    assert shorter == pytest.approx(expected, abs=1e-4)
    assert abs(longer - shorter) > 1e-3


@pytest.mark.skipif(importlib.util.find_spec("museval") is None, reason="museval is not installed")
def test_injection_is_studied_from_the_models_start_and_from_noise(songs):
    models = {kind: hearing_model(kind) for kind in ("deep", "all")}
    found = injection(models, songs[:1], told=lambda _: None)
    settings = [(row["injection"], row["series"]) for row in found.rows]
    series = ("start 0.3, T = 2", "start 1, T = 10")
    assert settings == [(kind, one) for kind in models for one in series]
    expected = mean_usdr(Separator(models["all"], stems="generated"), songs[:1])
    assert found.rows[2]["usdr"] == pytest.approx(expected, abs=1e-4)
    assert len({row["usdr"] for row in found.rows}) == 4
    assert np.isfinite([row["sir"] for row in found.rows]).all()


def test_from_noise_alone_is_studied_once(songs, monkeypatch):
    scored = {"vocals": type("Scored", (), {"medians": lambda self: {"SIR": 3.0}})()}
    monkeypatch.setattr("solovox.evaluation.studies.bss_eval", lambda *_, **__: scored)
    model = hearing_model()
    sampling = replace(model.config.sampling, start=1.0)
    model.config = replace(model.config, sampling=sampling)
    found = injection({"deep": model}, songs[:1], told=lambda _: None)
    assert [(row["series"], row["sir"]) for row in found.rows] == [("start 1, T = 10", 3.0)]


def test_a_clip_too_quiet_for_a_score_is_in_no_mean_of_it_and_named(clips, tmp_path):
    folder = save_model(build_model(MODEL), tmp_path)
    hum = replace(clips[0], name="hum", vocals=clips[0].vocals * np.float32(1e-3))  # -74 dB
    alone = noise(str(folder), clips, (0.0,), told=lambda _: None)
    both = noise(str(folder), [*clips, hum], (0.0,), told=lambda _: None)
    assert both.rows[0]["lsd"] == pytest.approx(alone.rows[0]["lsd"], rel=1e-3)
    assert "LSD is not defined in hum: in no mean of it." in both.markdown()
    assert "not defined" not in alone.markdown()
    quiet = noise(str(folder), [hum], (0.0,), told=lambda _: None)
    assert "| – |" in quiet.markdown()
    quiet.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/study.json").read_text())["rows"][0]["lsd"] is None


def test_the_benchmark_leaves_out_vocals_too_quiet_for_a_score(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    quality = importlib.import_module("quality")
    time = np.arange(8000) / 8000
    tone = np.stack(2 * [np.sin(2 * np.pi * 440 * time)]).astype(np.float32)
    (tmp_path / "songs/hum").mkdir(parents=True)
    for name, level in (("vocals", 3e-4), ("accompaniment", 0.1)):
        write_audio(tmp_path / f"songs/hum/{name}.wav", level * tone, 8000)
    done = CliRunner().invoke(quality.main, [str(tmp_path / "songs")])
    assert done.exit_code == 1
    assert "hum, excerpt 1: nobody is heard to sing; left out" in done.output
    assert "there are no excerpts with a voice" in done.output


def test_a_study_says_of_which_weights_it_is_and_what_made_it(clips, tmp_path, monkeypatch):
    model = save_model(build_model(MODEL), tmp_path / "model")
    (tmp_path / "songs/tone").mkdir(parents=True)
    for name in ("vocals", "mixture"):
        write_audio(tmp_path / f"songs/tone/{name}.wav", clips[0].vocals, 8000)
    words = ["noise", "-n", str(model), "--levels", "0", f"--songs={tmp_path / 'songs'}"]
    monkeypatch.setattr("sys.argv", ["/bin/solovox", "study", *words])
    done = CliRunner().invoke(study, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    digest = weights_digest(model)[:12]
    assert f"Weights (SHA-256): model `{digest}`." in done.output
    assert "Made by `solovox study noise -n model --levels 0 --songs=songs`." in done.output
    kept = json.loads((tmp_path / "out/study.json").read_text())
    assert kept["weights"] == {"model": digest}
    assert kept["command"].startswith("solovox study noise ")
