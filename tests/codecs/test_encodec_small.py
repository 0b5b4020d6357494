"""The small codec: a lapped transform at first, with latents that are scaled and bear a batch."""

from dataclasses import replace

import pytest
import torch

from solovox.codecs.encodec_small import SmallEncodec, SmallEncodecConfig
from solovox.codecs.lapped import Lapped, LappedConfig
from solovox.errors import SolovoxError

CONFIG = SmallEncodecConfig(
    8000, hop=32, bands=24, kept=12, learned=4, encoder_width=8, decoder_width=8, dilations=(1, 2)
)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fresh():
    torch.manual_seed(0)
    return SmallEncodec(CONFIG).eval()


def trained():
    codec = fresh()
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


def kept_bands(audio):
    transform = Lapped(LappedConfig(CONFIG.sample_rate, CONFIG.hop))
    x = transform.encode(audio).reshape(len(audio), 2, CONFIG.hop, -1)
    x[:, :, CONFIG.kept :] = 0
    return transform.decode(x.flatten(1, 2), audio.shape[-1])


@pytest.mark.parametrize("samples", [1, 31, 32, 1000])
@torch.inference_mode()
def test_before_training_it_keeps_the_low_bands_exactly(samples):
    codec, audio = fresh(), noise(2, 2, samples)
    x = codec.encode(audio)
    assert x.shape == (2, 2 * (CONFIG.kept + CONFIG.learned), codec.frames(samples))
    torch.testing.assert_close(codec.decode(x, samples), kept_bands(audio), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_statistics_bring_every_channel_to_one_at_most_and_change_nothing_else():
    codec, audio = trained(), 3 * noise(4, 2, 4000)
    before = codec.decode(codec.encode(audio), 4000)
    codec.fit(audio)
    deviation = codec.encode(audio).square().mean(dim=(0, 2)).sqrt()
    assert deviation.max() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(codec.decode(codec.encode(audio), 4000), before)
    copy = SmallEncodec(CONFIG)
    copy.load_state_dict(codec.state_dict())  # they travel with the weights
    assert torch.equal(copy.deviation, codec.deviation)
    assert copy.fitted


@torch.inference_mode()
def test_an_item_does_not_depend_on_its_batch():
    codec, audio = trained(), noise(3, 2, 1000)
    x = codec.encode(audio)
    torch.testing.assert_close(codec.encode(audio[1:2]), x[1:2])
    torch.testing.assert_close(codec.decode(x, 1000)[1:2], codec.decode(x[1:2], 1000))


@torch.inference_mode()
def test_mid_and_side_go_through_the_same_weights():
    codec, audio = trained(), noise(1, 1, 1000)
    in_mid = codec.encode(torch.cat((audio, audio), dim=1)).chunk(2, dim=1)
    in_side = codec.encode(torch.cat((audio, -audio), dim=1)).chunk(2, dim=1)
    torch.testing.assert_close(in_mid[0], in_side[1])


def test_latents_have_no_frequencies_to_filter():
    with pytest.raises(SolovoxError, match="give cutoff 0"):
        fresh().shape_noise(noise(1, 2, 8), 5000.0)


def test_the_whole_network_learns():
    codec = fresh().train()
    optimizer = torch.optim.Adam(codec.parameters(), 1e-2)
    audio = noise(4, 2, 512)
    losses = []
    for _ in range(30):
        loss = (codec.decode(codec.encode(audio), 512) - audio).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.95 * losses[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in codec.parameters())


def test_it_is_as_large_as_documented():
    with torch.device("meta"):
        codec = SmallEncodec(SmallEncodecConfig())
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(2.89e6, rel=0.01)
    wide = SmallEncodec(replace(CONFIG, decoder_width=16))
    assert wide.channels == 32
