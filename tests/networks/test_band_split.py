"""The small model: its split, its mask, and the closed form around which its generator learns."""

import itertools
from dataclasses import replace

import pytest
import torch

from solovox.diffusion.objective import diffuse, undiffuse
from solovox.networks import band_split
from solovox.networks.band_split import (
    BandMerge,
    BandSplit,
    BandSplitConditionerConfig,
    BandSplitGeneratorConfig,
    limit_spread,
    mel_band_edges,
)
from solovox.presets import DIFF_DMX_SMALL, build_model

TINY = replace(
    DIFF_DMX_SMALL,
    conditioner=BandSplitConditionerConfig(bands=20, widths=(8, 16), heads=2),
    generator=BandSplitGeneratorConfig(bands=20, widths=(8, 16), heads=2, condition_widths=(8, 16)),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(TINY).eval()


@pytest.mark.parametrize(("bins", "bands"), [(512, 60), (512, 20), (64, 60)])
def test_bands_cover_all_bins_once_and_widen(bins, bands):
    edges = mel_band_edges(bins, bands, 44100)
    widths = [b - a for a, b in itertools.pairwise(edges)]
    assert edges[0] == 0 and edges[-1] == bins and min(widths) >= 1
    assert widths[-1] >= widths[0]


def test_split_and_merge_keep_bands_and_frames_apart():
    edges = [0, 1, 3, 8]
    split, merge = BandSplit(edges, 4, 2, 16), BandMerge(edges, 2, 2, 16)
    spectrum = torch.randn(2, 4, 8, 7, requires_grad=True)
    out = merge(split(spectrum), 7)
    assert out.shape == (2, 2, 8, 7)
    (gradient,) = torch.autograd.grad(out[0, :, 3:, 4].sum(), spectrum)
    touched = gradient.abs().sum(dim=1) > 0
    assert touched[0, 3:, 4:6].all()  # the last band, frames 4 and 5: one token
    touched[0, 3:, 4:6] = False
    assert not touched.any()


@pytest.mark.parametrize("samples", [1, 700, 20_000])
def test_shapes(model, samples):
    features = model.condition(torch.randn(2, 2, samples))
    frames = model.codec.frames(samples)
    assert features.estimate.shape == (2, 2, samples)
    for x in (features.mean, features.spread, features.mixture):
        assert x.shape == (2, 1024, frames)
    x_t = torch.randn(2, 1024, frames)
    assert model.velocity(x_t, torch.tensor([0.1, 0.9]), features).shape == x_t.shape


def test_frames_of_spectrogram_and_codec_are_centred_alike(model):
    """A click's energy lies in the same frames of the estimate's mask and of the codec."""
    click = torch.zeros(1, 2, 512 * 20)
    click[..., 512 * 7] = 1.0
    features = model.condition(click)
    energy = features.mixture.square().sum(dim=(0, 1))
    assert energy[7] > 0.5 * energy.sum()


def test_the_mask_is_bounded(model):
    mixture = torch.randn(1, 2, 20_000)
    assert model.condition(mixture).estimate.square().sum() < mixture.square().sum()


def test_untrained_generator_is_the_exact_velocity_of_its_gaussian_prior(model):
    """With the last layer zero, x̂0 is the posterior mean for x0 ~ N(mean, spread²)."""
    features = model.condition(torch.randn(1, 2, 5000))
    spread = torch.full_like(features.mean, 0.3)
    loud = torch.full_like(spread, 10.0)
    features = replace(features, spread=spread, mixture=loud)
    generator = torch.Generator().manual_seed(1)
    x0 = features.mean + spread * torch.randn(spread.shape, generator=generator)
    for t in torch.tensor([0.05, 0.4, 0.95]):
        x_t, _ = diffuse(x0, torch.randn(x0.shape, generator=generator), t)
        a, s = torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)
        gain = a * 0.3**2 / (a**2 * 0.3**2 + s**2)
        posterior = features.mean + gain * (x_t - a * features.mean)
        velocity = model.velocity(x_t, t, features)
        torch.testing.assert_close(undiffuse(x_t, velocity, t)[0], posterior, atol=1e-5, rtol=1e-4)


def test_where_the_conditioner_is_sure_the_generator_adds_nothing(model):
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features = model.condition(torch.randn(1, 2, 5000))
    features = replace(features, spread=torch.full_like(features.mean, 1e-4))
    x_t, t = torch.randn_like(features.mean), torch.tensor(0.5)
    x0, _ = undiffuse(x_t, model.velocity(x_t, t, features), t)
    assert (x0 - features.mean).abs().max() < 0.01


def test_the_spread_is_limited_by_what_is_heard():
    spread = torch.full((1, 2, 50), 0.3)
    mixture = torch.zeros(1, 2, 50)
    mixture[:, 0, 20:30] = 2.0
    limited = limit_spread(spread, mixture, 0.5)
    assert (limited[:, 1] < 1e-3).all() and (limited[:, 0, :18] < 1e-3).all()
    assert torch.equal(limited[:, 0, 20:30], spread[:, 0, 20:30])
    assert (limited <= spread).all()


def test_where_the_mixture_is_silent_the_generator_adds_nothing(model):
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features = model.condition(torch.zeros(1, 2, 5000))
    x_t, t = torch.randn_like(features.mean), torch.tensor(0.5)
    x0, _ = undiffuse(x_t, model.velocity(x_t, t, features), t)
    assert x0.abs().max() < 0.01


def test_each_embedding_reaches_the_velocity(model):
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features = model.condition(torch.randn(1, 2, 5000))
    levels = [e.detach().requires_grad_() for e in features.embeddings]
    x_t = torch.randn_like(features.mean)
    v = model.velocity(x_t, torch.tensor(0.5), replace(features, embeddings=tuple(levels)))
    for gradient in torch.autograd.grad(v.square().sum(), levels):
        assert gradient.abs().max() > 0


def test_prepared_features_give_the_same_velocity(model):
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    features = model.condition(torch.randn(2, 2, 5000))
    prepared = model.prepare(features)
    assert model.prepare(prepared) is prepared
    assert prepared.spread is features.spread  # refinement noise is shaped by it
    x_t = torch.randn_like(features.mean)
    for t in (torch.tensor(0.02), torch.tensor([0.3, 0.9])):
        v = model.velocity(x_t, t, features)
        assert torch.equal(model.velocity(x_t, t, prepared), v)


def test_a_step_makes_no_more_of_the_features(model, monkeypatch):
    """What is prepared once a chunk is not computed at the steps."""
    features = model.condition(torch.randn(1, 2, 5000))
    prepared = model.prepare(features)
    asked = []
    for module in model.generator.unet.inject:
        module.register_forward_hook(lambda *_: asked.append("inject"))
    for name in ("limit_spread", "told_spread"):
        monkeypatch.setattr(band_split, name, lambda *_: asked.append("spread"))
    model.velocity(torch.randn_like(features.mean), torch.tensor(0.5), prepared)
    assert asked == []


def test_the_generator_s_loss_does_not_turn_the_estimate(model):
    features = model.condition(torch.randn(1, 2, 5000))
    model.velocity(torch.randn_like(features.mean), torch.tensor(0.5), features).sum().backward()
    assert all(p.grad is None for p in model.conditioner.mask.parameters())
