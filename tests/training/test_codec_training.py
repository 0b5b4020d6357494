"""Codecs train in the same loop; latents' statistics are measured before they are used."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_resume import Killed, kill_after
from tiny_runs import BANDS, RATE, assert_same_state, log_of, tiny_run, train

from solovox.codecs.encodec_small import SmallEncodecConfig
from solovox.coding import Coder
from solovox.networks.band_split import BandSplitConditionerConfig
from solovox.networks.latent_bands import LatentBandsConfig
from solovox.networks.nothing import NothingConfig
from solovox.presets import ModelConfig, build_model
from solovox.training.codec_loss import CodecLoss, CodecLossConfig, relative_error
from solovox.training.export import export_run
from solovox.training.loop import Trainer

CODEC = SmallEncodecConfig(
    RATE, hop=32, bands=24, kept=8, learned=8, encoder_width=8, decoder_width=16, dilations=(1,)
)
CODING = ModelConfig(
    "tiny-codec", CODEC, NothingConfig(), NothingConfig(), normalise=True, chunk=4096
)
LATENT = replace(
    BANDS,
    name="tiny-latent",
    codec=CODEC,
    conditioner=BandSplitConditionerConfig(
        RATE, hop=32, bands=6, widths=(8, 12), heads=2, kept=8, learned=8
    ),
    generator=LatentBandsConfig(
        RATE, hop=32, kept=8, learned=8, bands=6, widths=(8, 12), heads=2, condition_widths=(8, 12)
    ),
)


def test_a_codec_learns_and_its_identity_is_scored(songs: Path, tmp_path: Path) -> None:
    run = tiny_run(
        songs, CODING, objective="codec", max_steps=40, learning_rate=3e-3, log_every=10,
        validate_every=20,
    )  # fmt: skip
    torch.manual_seed(run.training.seed)
    fresh = build_model(CODING).state_dict()
    trainer = train(run, tmp_path / "run")
    log = log_of(tmp_path / "run")
    losses = [line["stft"] + line["mel"] for line in log if "stft" in line]
    assert losses[-1] < 0.95 * losses[0]
    assert all(line["usdr"] > 10 for line in log if "usdr" in line)
    moved = {
        name.split(".")[1]
        for name, value in trainer.model.state_dict().items()
        if not torch.equal(value, fresh[name])
    }
    assert moved == {"encoder", "decoder"}


def test_a_killed_training_of_a_codec_goes_on_as_if_it_had_not_been(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(songs, CODING, objective="codec", max_steps=6)
    train(run, tmp_path / "whole")
    trainer = Trainer(run, tmp_path / "cut", workers=0)
    kill_after(trainer, 4, monkeypatch)
    with pytest.raises(Killed):
        trainer.run()
    train(run, tmp_path / "cut")
    assert_same_state(tmp_path / "whole/last.safetensors", tmp_path / "cut/last.safetensors")


def test_statistics_are_measured_once_and_travel_with_the_model(
    songs: Path, tmp_path: Path
) -> None:
    run = tiny_run(songs, LATENT, max_steps=4)
    trainer = train(run, tmp_path / "run")
    codec = trainer.model.codec
    assert bool(codec.fitted)
    assert codec.deviation.max() > codec.deviation.min()
    assert torch.equal(trainer.ema.module.codec.deviation, codec.deviation)
    again = Trainer(run, tmp_path / "run", workers=0)
    again.resume()
    assert torch.equal(again.model.codec.deviation, codec.deviation)
    export_run(tmp_path / "run", tmp_path / "model")
    assert "deviation" not in (tmp_path / "model/config.json").read_text()


def test_the_codec_rests_while_separation_is_learnt(songs: Path, tmp_path: Path) -> None:
    run = tiny_run(songs, LATENT, max_steps=2)
    torch.manual_seed(run.training.seed)
    fresh = build_model(LATENT).codec.encoder.state_dict()
    trained = train(run, tmp_path).model.codec.encoder.state_dict()
    assert all(torch.equal(trained[name], value) for name, value in fresh.items())


def test_a_perfect_codec_has_no_error_and_silence_is_no_trouble() -> None:
    audio = torch.randn(2, 2, 4096)
    assert relative_error(audio, audio) < 1e-3
    torch.testing.assert_close(relative_error(1.1 * audio, audio), torch.tensor(0.1))
    loss = CodecLoss(build_model(CODING), CodecLossConfig(), "fp32")
    silence = torch.zeros(2, 2, 4096)
    losses = loss(silence, silence, torch.rand(2), torch.randn(2, 32, 129))
    assert all(torch.isfinite(value) for value in losses.values())


def test_coding_keeps_length_rate_and_channels() -> None:
    coder = Coder(build_model(CODING))
    for channels, samples, rate in ((2, 10_000, RATE), (1, 9_999, 11_025), (2, 1, RATE)):
        audio = torch.randn(channels, samples).numpy() * 0.1
        coded = coder.code(audio, rate)
        assert coded.shape == audio.shape
        noisy = coder.code(audio, rate, noise=0.5, seed=1)
        assert (noisy == coder.code(audio, rate, noise=0.5, seed=1)).all()
        assert not (noisy == coded).all()
