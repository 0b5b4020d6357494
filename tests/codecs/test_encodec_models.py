"""LDM-dmx on EnCodec from end to end: tiny random codecs of both kinds, loaded from a folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_encodec import TINY

from solovox.checkpoint import load_model, save_model
from solovox.codecs.encodec import ENCODEC_24K, ENCODEC_48K
from solovox.data.chunks import NONE
from solovox.networks.latent_unet import LatentUNetConfig
from solovox.presets import (
    LDM_DMX_24K,
    LDM_DMX_48K,
    LatentConditionerConfig,
    SamplingConfig,
    build_model,
    load_pretrained,
)
from solovox.separator import Separator
from solovox.stems import RULES
from solovox.training.config import TrainingConfig
from solovox.training.export import export_run
from solovox.training.loop import Trainer
from solovox.training.run import Run

transformers = pytest.importorskip("transformers")

UNET = {
    "widths": (8, 8),
    "factors": (1, 2),
    "blocks": (1, 1),
    "groups": 2,
    "attention_levels": 1,
    "attention_heads": 1,
    "attention_head_width": 8,
    "time_features": 16,
    "time_hidden": 16,
    "time_width": 8,
}
KINDS = {
    "24k": (LDM_DMX_24K, replace(ENCODEC_24K, sampling_rate=2400, **TINY)),
    "48k": (LDM_DMX_48K, replace(ENCODEC_48K, sampling_rate=4800, **TINY)),
}


@pytest.fixture(scope="module", params=KINDS)
def preset(request, tmp_path_factory):
    """A small preset whose codec's weights are in a folder, as docs/ldm-dmx.md describes it."""
    folder = tmp_path_factory.mktemp(request.param)
    large, config = KINDS[request.param]
    codec = replace(config, source=str(folder))
    values = {k: v for k, v in vars(config).items() if k != "source"}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    torch.manual_seed(0)
    whole = transformers.EncodecModel(transformers.EncodecConfig(**values))
    whole.save_pretrained(folder)
    channels = config.hidden_size + int(config.normalize)
    items = 2 // config.audio_channels
    return replace(
        large,
        codec=codec,
        conditioner=LatentConditionerConfig(**vars(codec)),
        generator=LatentUNetConfig(
            channels=channels, condition_channels=channels, items=items, **UNET
        ),
        chunk=config.sampling_rate * 2,
        sampling=SamplingConfig(steps=2, eta=0.0, cutoff=0.0),
    )


@pytest.fixture(scope="module")
def model(preset):
    torch.manual_seed(1)
    model = build_model(preset)
    load_pretrained(model)
    model.codec.fit(song(2, 4 * preset.codec.sampling_rate)[None])
    return model.eval()


def song(channels, samples, seed=0):
    return 0.1 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


def test_codec_and_conditioner_have_the_folder_s_weights(preset, model):
    trained = transformers.EncodecModel.from_pretrained(preset.codec.source).state_dict()
    for encoder in (model.codec.encoder, model.conditioner.encoder):
        for name, weight in encoder.network.state_dict().items():
            torch.testing.assert_close(weight, trained[f"encoder.{name}"])
    for name, weight in model.codec.decoder.state_dict().items():
        torch.testing.assert_close(weight, trained[f"decoder.{name}"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_song_at_44100_hz_keeps_rate_and_length(model, rule, channels):
    mixture = song(channels, 3 * 44_100 + 17).numpy()
    separator = Separator(model, device="cpu", stems=rule, precision="fp32")
    stems = separator.separate(mixture, 44_100)
    for stem in stems.values():
        assert stem.shape == mixture.shape
        assert np.isfinite(stem).all()
    assert np.abs(stems["vocals"]).max() > 1e-4
    total = stems["vocals"] + stems["accompaniment"]
    apart = np.abs(total - mixture).max()
    assert apart > 1e-3 if rule == "generated" else apart < 1e-6


def test_its_own_mixture_is_not_encoded_twice(model, monkeypatch):
    """The conditioner hears the mixture; the codec's encoder has no part in separating."""

    def encode(audio):
        raise AssertionError("the codec was asked")

    monkeypatch.setattr(model.codec, "encode", encode)
    Separator(model, device="cpu").separate(song(2, 9000).numpy(), 44_100)


def test_a_saved_model_separates_as_before_without_the_codec_s_folder(model, preset, tmp_path):
    save_model(model, tmp_path / "model")
    away = Path(preset.codec.source)
    hidden = away.rename(away.with_name(f"{away.name}-away"))
    try:
        again = load_model(tmp_path / "model")
    finally:
        hidden.rename(away)
    assert again.config == model.config
    mixture = song(2, 44_100).numpy()
    vocals, expected = (
        Separator(m, device="cpu", precision="fp32").separate(mixture, 44_100)["vocals"]
        for m in (again, model)
    )
    np.testing.assert_array_equal(vocals, expected)


def test_it_is_trained_and_exported_with_the_codec_s_licence(preset, tmp_path):
    rate = preset.codec.sampling_rate
    for name, seed in (("vocals", 1), ("mixture", 2)):
        path = tmp_path / "data/train/song" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, song(2, 4 * rate, seed).numpy().T, rate, subtype="FLOAT")
    settings = TrainingConfig(
        max_steps=1, batch_size=2, warmup=1, ema=0.5, augment=NONE, save_every=1, precision="fp32"
    )
    run = Run(preset, settings, str(tmp_path / "data"), valid=None)
    trainer = Trainer(run, tmp_path / "run", workers=0)
    assert bool(trainer.model.codec.fitted)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.resume()
    assert trainer.run()
    moved = {k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])}
    assert any(name.startswith("generator.") for name in moved)
    assert not any(name.startswith("codec.") for name in moved)
    folder = export_run(tmp_path / "run", tmp_path / "model", weights="last")
    exported = load_model(folder)
    assert exported.config.codec == preset.codec
    stems = Separator(exported, device="cpu").separate(song(2, 9000).numpy(), 44_100)
    assert stems["vocals"].shape == (2, 9000)
    card = (folder / "README.md").read_text()
    assert "CC BY-NC 4.0" in card and str(preset.codec.source) in card
