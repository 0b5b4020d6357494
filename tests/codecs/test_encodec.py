"""The wrapper against `transformers.EncodecModel` itself, both kinds, without its quantiser."""

import math
from dataclasses import replace

import pytest
import torch

from solovox.codecs.encodec import (
    ENCODEC_24K,
    ENCODEC_48K,
    Encodec,
    architecture,
    encoder_copy,
    load_encoder_weights,
)
from solovox.errors import ModelError

transformers = pytest.importorskip("transformers")

TINY = {
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_dim": 16,
    "codebook_size": 16,
    "upsampling_ratios": (4, 2),
    "num_lstm_layers": 1,
    "target_bandwidths": (1.0,),
}
KINDS = {
    "24k": replace(ENCODEC_24K, sampling_rate=800, **TINY),
    # As in the published model, a stride (990) is no whole number of frames (of 8 samples).
    "48k": replace(ENCODEC_48K, sampling_rate=1000, **TINY),
}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """(settings, the whole model) of a small model with random weights, saved to a folder."""
    folder = tmp_path_factory.mktemp(request.param)
    config = replace(KINDS[request.param], source=str(folder))
    values = {k: v for k, v in vars(config).items() if k != "source"}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    torch.manual_seed(0)
    whole = transformers.EncodecModel(transformers.EncodecConfig(**values)).eval()
    whole.save_pretrained(folder)
    return config, whole


def loaded(config):
    codec = Encodec(config).eval()
    codec.load_codec_weights()
    return codec


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


AUDIO = {
    "noise": lambda samples: 0.1 * noise(1, 2, samples),
    "silence": lambda samples: torch.zeros(1, 2, samples),
    "noise, then silence": lambda samples: 0.1 * noise(1, 2, samples) * (torch.arange(samples) < 9),
}


@pytest.mark.parametrize("kind", AUDIO)
@pytest.mark.parametrize("samples", [1, 7, 989, 990, 1000, 1001, 3999, 5000])
@torch.inference_mode()
def test_it_codes_as_the_model_does_without_its_quantiser(saved, samples, kind, monkeypatch):
    config, whole = saved
    codec, audio = loaded(config), AUDIO[kind](samples)
    latents = []

    def encode(x, bandwidth):
        latents.append(x)
        return x.transpose(0, 1)

    monkeypatch.setattr(whole.quantizer, "encode", encode)
    monkeypatch.setattr(whole.quantizer, "decode", lambda x: x.transpose(0, 1))
    items = audio.reshape(-1, config.audio_channels, samples)
    expected = whole(items).audio_values[..., :samples].reshape(1, 2, samples)
    mine = codec.encode(audio)
    torch.testing.assert_close(codec.decode(mine, samples), expected)
    rows = mine.reshape(len(items), -1, mine.shape[-1])[:, : config.hidden_size]
    torch.testing.assert_close(rows, torch.cat(latents, dim=-1))


@pytest.mark.parametrize("samples", [1, 989, 990, 991, 999, 1980, *range(1981, 2001, 3), 5000])
@torch.inference_mode()
def test_frames_and_lengths_are_foretold(saved, samples):
    codec = loaded(saved[0])
    x = codec.encode(noise(1, 2, samples))
    assert x.shape == (1, codec.channels, codec.frames(samples))
    assert codec.decode(x, samples).shape == (1, 2, samples)


@torch.inference_mode()
def test_latents_are_scaled_to_at_most_one_and_back(saved):
    codec, audio = loaded(saved[0]), 0.1 * noise(4, 2, 6000)
    before = codec.decode(codec.encode(audio), 6000)
    assert not codec.fitted
    codec.fit(audio)
    scaled = codec.encode(audio).square().mean(dim=(0, 2)).sqrt()
    assert codec.fitted
    assert scaled.max() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(codec.decode(codec.encode(audio), 6000), before)


@torch.inference_mode()
def test_an_item_does_not_depend_on_its_batch(saved):
    codec, audio = loaded(saved[0]), noise(3, 2, 2000)
    torch.testing.assert_close(codec.encode(audio)[1:2], codec.encode(audio[1:2]))


@torch.inference_mode()
def test_a_louder_song_is_louder_latents_or_a_higher_level(saved):
    config, _ = saved
    codec, audio = loaded(config), 0.1 * noise(1, 2, 4000)
    soft, loud = codec.encode(audio), codec.encode(2 * audio)
    if config.normalize:
        torch.testing.assert_close(soft[:, :-1], loud[:, :-1], atol=1e-4, rtol=1e-4)
        assert (loud[:, -1] - soft[:, -1]).numpy() == pytest.approx(math.log(2), abs=1e-3)
    else:
        assert not torch.allclose(soft, loud)


def test_the_conditioners_encoder_is_a_copy_of_the_codecs(saved):
    config, _ = saved
    codec, copy = loaded(config), encoder_copy(config).eval()
    load_encoder_weights(copy)
    audio = noise(1, 2, 800)
    torch.testing.assert_close(copy(audio), codec.latents(audio))
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in codec.parameters()}


def test_the_folder_tells_the_architecture(saved):
    assert architecture(saved[0].source) == saved[0]


def test_what_is_not_there_is_one_line(tmp_path, saved):
    with pytest.raises(ModelError, match="cannot load the EnCodec model"):
        architecture(tmp_path)
    with pytest.raises(ModelError, match="is not the EnCodec model that is configured"):
        Encodec(replace(saved[0], num_filters=8)).load_codec_weights()
