"""Each codec gives audio back, and treats white noise as its law demands."""

import pytest
import torch

from solovox.codecs.lapped import Lapped, LappedConfig, lapped_basis
from solovox.codecs.waveform import Waveform, WaveformConfig

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
