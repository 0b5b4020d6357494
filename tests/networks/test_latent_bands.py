"""The small latent generator: where the mixture enters, and what it is before training."""

from dataclasses import replace

import pytest
import torch

from solovox.networks.band_split import latent_band_edges
from solovox.networks.features import Features
from solovox.networks.latent_bands import LatentBands, LatentBandsConfig

CONFIG = LatentBandsConfig(
    sample_rate=8000,
    hop=32,
    kept=12,
    learned=8,
    bands=8,
    widths=(8, 8, 12),
    heads=2,
    condition_widths=(4, 6, 8),
)
CHANNELS, FRAMES = 2 * 20, 10
DEPTHS = {"deep": {1, 2}, "all": {0, 1, 2}, "bottleneck": {2}}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(spread=0.3, frames=FRAMES):
    bands, tokens = 8, 8  # of the conditioner, padded
    embeddings = tuple(
        noise(2, width, bands // 2**i, tokens // 2**i, seed=i)
        for i, width in enumerate(CONFIG.condition_widths)
    )
    shape = (2, CHANNELS, frames)
    return Features(
        embeddings,
        mean=noise(*shape, seed=4),
        mixture=3 * noise(*shape, seed=5),
        spread=torch.full(shape, spread),
    )


def generator(injection="deep"):
    torch.manual_seed(0)
    return LatentBands(replace(CONFIG, injection=injection))


def test_the_learnt_latents_are_bands_of_eight_after_the_low_ones():
    assert latent_band_edges([0, 2, 5, 9, 14, 20], 12, 16) == [0, 2, 5, 9, 12, 20, 28]


def test_before_training_it_knows_the_gaussian_prior_exactly():
    model, heard, t = generator(), features(spread=0.1), torch.tensor([0.3, 0.7])
    a, s = (f(t * torch.pi / 2)[:, None, None] for f in (torch.cos, torch.sin))
    x_t = noise(2, CHANNELS, FRAMES, seed=9)
    r = model.limited(heard.spread, heard.mixture)
    mean = (a * r.square() * x_t + s.square() * heard.mean) / (a.square() * r.square() + s.square())
    torch.testing.assert_close(model(x_t, t, heard), (a * x_t - mean) / s, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("injection", DEPTHS)
def test_the_mixture_enters_at_these_levels(injection):
    model = generator(injection)
    torch.nn.init.normal_(model.merge.unfold[0].weight)
    model(noise(2, CHANNELS, FRAMES), torch.tensor([0.5, 0.5]), features()).sum().backward()
    encoder, decoder = model.unet.merge_in, model.unet.merge_out
    assert {int(i) for i in encoder} == DEPTHS[injection]
    assert {int(i) for i in decoder} == DEPTHS[injection] - {2}
    for i, merge in (*encoder.items(), *decoder.items()):
        heard = merge.conv.weight.grad[:, CONFIG.widths[int(i)] :]
        assert heard.abs().max() > 0


def test_where_nothing_is_heard_the_low_bands_have_no_spread_to_speak_of():
    heard = features(spread=0.5)
    silent = torch.zeros_like(heard.mixture)
    mid, side = generator().limited(heard.spread, silent).chunk(2, dim=1)
    for r in (mid, side):
        assert r[:, : CONFIG.kept].max() < 1e-3
        assert (r[:, CONFIG.kept :] == 0.5).all()


@pytest.mark.parametrize("injection", DEPTHS)
def test_prepared_features_give_the_same_velocity(injection):
    model, heard = generator(injection), features(spread=0.5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    prepared = model.prepare(heard)
    assert model.prepare(prepared) is prepared
    asked = []
    for module in (model.split_mixture, *model.unet.fold):
        module.register_forward_hook(lambda *_: asked.append(1))
    x_t = noise(2, CHANNELS, FRAMES, seed=9)
    for t in (torch.tensor(0.02), torch.tensor([0.3, 0.9])):
        found = model(x_t, t, prepared)
        assert asked == []
        assert torch.equal(found, model(x_t, t, heard))
        assert asked
        asked.clear()


def test_it_needs_a_prior():
    with pytest.raises(ValueError, match="needs a prior"):
        generator()(noise(1, CHANNELS, 4), torch.tensor(0.5), Features(()))
