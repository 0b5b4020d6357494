"""Each codec gives audio back, and treats white noise as its law demands."""

import math

import pytest
import torch

from solovox.codecs.lapped import Lapped, LappedConfig, lapped_basis
from solovox.codecs.waveform import Waveform, WaveformConfig
from solovox.diffusion.refinement import unsure

CODECS = {
    "waveform": Waveform(WaveformConfig()),
    "lapped": Lapped(LappedConfig()),
    "lapped, unweighted": Lapped(LappedConfig(bands=64, tilt=0.0)),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("samples", [1, 511, 512, 5000])
def test_audio_comes_back(name, samples):
    codec = CODECS[name]
    audio = torch.randn(2, 2, samples)
    x = codec.encode(audio)
    assert x.shape == (2, codec.channels, codec.frames(samples))
    torch.testing.assert_close(codec.decode(x, samples), audio, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CODECS)
def test_an_item_does_not_depend_on_its_batch(name):
    audio = torch.randn(3, 2, 3000)
    codec = CODECS[name]
    torch.testing.assert_close(codec.encode(audio)[1:2], codec.encode(audio[1:2]))


@pytest.mark.parametrize("name", CODECS)
def test_refinement_noise_has_unit_variance_and_no_lows(name):
    codec = CODECS[name]
    noise = torch.randn(1, codec.channels, codec.frames(100_000))
    shaped = codec.shape_noise(noise, 5000.0)
    assert abs(float(shaped.std()) - 1) < 0.02
    audio = codec.decode(shaped, 100_000)
    power = torch.fft.rfft(audio).abs().square().mean(dim=(0, 1))
    hertz = torch.fft.rfftfreq(100_000, 1 / codec.sample_rate)
    low, high = power[hertz < 1000].mean(), power[(hertz > 6000) & (hertz < 8000)].mean()
    assert low < 1e-3 * high


def hissing_then_humming(samples, rate):
    """Audio [1, 2, samples]: a whistle at 7 kHz in the first half, a hum at 200 Hz after it."""
    time = torch.arange(samples) / rate
    whistle, hum = (torch.sin(2 * math.pi * hertz * time) for hertz in (7000, 200))
    return torch.where(time < samples / rate / 2, whistle, hum).expand(1, 2, -1)


@pytest.mark.parametrize("name", CODECS)
def test_a_band_that_follows_the_mixture(name):
    codec, samples = CODECS[name], 100_000
    cutoffs = codec.rolloff(codec.encode(hissing_then_humming(samples, codec.sample_rate)))
    early, late = cutoffs[0, 20:60].mean(), cutoffs[0, -60:-20].mean()
    assert abs(early - 7000) < 400 and late < 600
    noise = torch.randn(1, codec.channels, codec.frames(samples))
    shaped = codec.shape_noise(noise, cutoffs)
    # Unit variance at every time, and nothing below the cutoff of that time.
    halves = shaped.tensor_split(2, dim=2)
    assert all(abs(float(half.std()) - 1) < 0.03 for half in halves)
    parts = codec.decode(shaped, samples).tensor_split(2, dim=2)
    for half, edge in zip(parts, (early, late), strict=True):
        middle = half[..., 10_000:-10_000]
        power = torch.fft.rfft(middle * torch.hann_window(middle.shape[-1])).abs().square()
        power = power.mean(dim=(0, 1))
        hertz = torch.fft.rfftfreq(middle.shape[-1], 1 / codec.sample_rate)
        above = power[(hertz > 2 * edge) & (hertz < 4 * edge)].mean()
        assert power[hertz < edge / 3].mean() < 0.02 * above


@pytest.mark.parametrize("name", CODECS)
def test_a_band_that_stays_is_the_fixed_one(name):
    codec, samples = CODECS[name], 50_000
    noise = torch.randn(1, codec.channels, codec.frames(samples))
    times = codec.rolloff(codec.encode(torch.randn(1, 2, samples))).shape[1]
    moving = codec.shape_noise(noise, torch.full((1, times), 5000.0))
    error = moving - codec.shape_noise(noise, 5000.0)
    assert error.square().mean() < 0.01


@pytest.mark.parametrize("name", CODECS)
def test_silence_and_hiss_have_a_cutoff_too(name):
    codec = CODECS[name]
    audio = torch.stack((torch.zeros(2, 20_000), torch.randn(2, 20_000)))
    cutoffs = codec.rolloff(codec.encode(audio))
    assert cutoffs.isfinite().all()
    assert cutoffs.max() <= codec.sample_rate / 4
    noise = torch.randn(2, codec.channels, codec.frames(20_000))
    assert codec.shape_noise(noise, cutoffs).isfinite().all()


def test_noise_goes_where_the_estimate_is_unsure():
    noise, spread = torch.randn(2, 64, 500), torch.full((2, 64, 500), 0.01)
    spread[:, :16] = 1.0
    spread[1] *= 100  # of another level: it is relative
    response = unsure(spread)
    torch.testing.assert_close(response[0], response[1])
    torch.testing.assert_close(response.square().mean(dim=(1, 2)), torch.ones(2))
    shaped = noise * response
    assert abs(float(shaped.std()) - 1) < 0.02
    assert shaped[:, 16:].std() < 0.35 * shaped[:, :16].std()
    torch.testing.assert_close(unsure(torch.full((1, 4, 4), 0.3)), torch.ones(1, 4, 4))


def test_lapped_transform_is_orthonormal():
    codec = CODECS["lapped, unweighted"]
    audio = torch.randn(1, 2, 64 * 100)
    energy = codec.encode(audio).square().sum()
    torch.testing.assert_close(energy, audio.square().sum(), rtol=1e-6, atol=0.0)
    basis = lapped_basis(64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(64, dtype=torch.float64))
    overlap = basis[:, 64:] @ basis[:, :64].T
    torch.testing.assert_close(overlap, torch.zeros(64, 64, dtype=torch.float64))


def test_white_noise_stays_white():
    codec = CODECS["lapped, unweighted"]
    x = codec.encode(torch.randn(1, 2, 64 * 4000))[0, :, 1:-1]
    covariance = x @ x.T / x.shape[1]
    assert (covariance - torch.eye(codec.channels)).abs().max() < 0.1


def test_a_voice_in_the_centre_is_all_mid():
    codec = CODECS["lapped"]
    mono = torch.randn(1, 1, 4000).expand(1, 2, -1)
    mid, side = codec.encode(mono).chunk(2, dim=1)
    assert side.abs().max() < 1e-5 < mid.abs().max()
