import math

import pytest
import torch

from solovox import stems

RATE = 44100
SAMPLES = 40_000


def usdr(reference, estimate):
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


def voice_and_band():
    """A gliding harmonic voice in the centre; noise bursts left and a chord right."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(SAMPLES) / RATE
    phase = 2 * math.pi * torch.cumsum(220 + 60 * torch.sin(2 * math.pi * 3 * time), 0) / RATE
    voice = sum(torch.sin(k * phase) / k for k in range(1, 9))
    chord = sum(torch.sin(2 * math.pi * f * time) for f in (311, 466, 622))
    noise = torch.randn(SAMPLES, generator=generator) * (torch.sin(2 * math.pi * 4 * time) > 0.8)
    vocals = 0.2 * torch.stack((voice, voice))
    band = 0.1 * torch.stack((noise + 0.3 * chord, 0.2 * noise + chord))
    return vocals[None], band[None]


def other_phase(vocals):
    """The same vocals as a codec might make them: each bin turned at random."""
    generator = torch.Generator().manual_seed(1)
    window = torch.hann_window(1024)
    spectrum = torch.stft(vocals[0], 1024, 256, window=window, return_complex=True)
    turn = torch.exp(1j * torch.randn(spectrum.shape[1:], generator=generator))
    return torch.istft(spectrum * turn, 1024, 256, window=window, length=SAMPLES)[None]


def test_exact_keeps_the_vocals():
    vocals, band = voice_and_band()
    kept, removed = stems.exact(vocals + band, vocals)
    assert kept is removed is vocals


def test_generated_keeps_the_vocals_and_removes_what_wiener_removes():
    vocals, band = voice_and_band()
    mixture, sung = vocals + band, other_phase(vocals)
    kept, removed = stems.generated(mixture, sung)
    assert kept is sung
    torch.testing.assert_close(removed, stems.wiener(mixture, sung)[0])


def test_wiener_separates_whatever_the_phase():
    vocals, band = voice_and_band()
    mixture, sung = vocals + band, other_phase(vocals)
    filtered = stems.wiener_filter(mixture, sung)
    assert usdr(vocals, filtered) > usdr(vocals, sung) + 3
    assert usdr(band, mixture - filtered) > usdr(band, mixture - sung) + 3
    turned = stems.wiener_filter(mixture, -vocals)  # right but for its sign
    assert usdr(vocals, turned) > 15
    assert usdr(band, mixture - turned) > 10


@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_wiener_mends_a_wrong_level(gain):
    vocals, band = voice_and_band()
    filtered = stems.wiener_filter(vocals + band, gain * vocals)
    assert usdr(vocals, filtered) > usdr(vocals, gain * vocals)


def test_wiener_of_the_mixture_is_the_mixture_and_of_silence_is_silence():
    vocals, band = voice_and_band()
    mixture = vocals + band
    assert usdr(mixture, stems.wiener_filter(mixture, mixture)) > 45
    silence = torch.zeros_like(mixture)
    assert stems.wiener_filter(mixture, silence).abs().max() < 1e-6
    assert not stems.wiener_filter(silence, silence).any()
    assert not stems.wiener_filter(silence, mixture).any()


@pytest.mark.parametrize("level", [1e-4, 1.0, 100.0])
def test_wiener_of_mono_is_mono_at_any_level(level):
    vocals, band = voice_and_band()
    mono = level * (vocals + band).mean(1, keepdim=True).expand(1, 2, -1)
    sung = level * vocals.mean(1, keepdim=True).expand(1, 2, -1)
    filtered = stems.wiener_filter(mono, sung)
    assert torch.isfinite(filtered).all()
    torch.testing.assert_close(filtered[:, 0], filtered[:, 1], atol=1e-4 * level, rtol=0)
    assert usdr(sung, filtered) > 10


def test_items_of_a_batch_do_not_mix():
    vocals, band = voice_and_band()
    mixture = torch.cat((vocals + band, 2 * band + vocals))
    sung = torch.cat((vocals, 0.5 * vocals))
    together = stems.wiener_filter(mixture, sung)
    for item in range(2):
        alone = stems.wiener_filter(mixture[item : item + 1], sung[item : item + 1])
        torch.testing.assert_close(together[item : item + 1], alone)


@pytest.mark.parametrize("samples", [1, 100, 4096, 5000])
def test_any_length(samples):
    mixture = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(0))
    filtered = stems.wiener_filter(mixture, 0.5 * mixture)
    assert filtered.shape == mixture.shape
    assert torch.isfinite(filtered).all()
