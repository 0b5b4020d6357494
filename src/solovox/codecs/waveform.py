"""The identity codec: diffusion on the samples themselves, as in Diff-DMX."""

from dataclasses import dataclass

import torch
from torch import Tensor

from solovox.codecs.base import Codec
from solovox.diffusion.refinement import butterworth_highpass, rolloff

FFT, HOP = 2048, 512  # samples, of the spectrogram by which moving filters are made


@dataclass(frozen=True)
class WaveformConfig:
    """Settings of the identity codec."""

    sample_rate: int = 44100


class Waveform(Codec):
    """Stereo samples as they are, [batch, 2, samples]."""

    channels = 2

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        self.sample_rate = config.sample_rate

    def frames(self, samples: int) -> int:
        """The number of samples."""
        return samples

    def encode(self, audio: Tensor) -> Tensor:
        """The audio itself."""
        return audio

    def decode(self, x: Tensor, samples: int) -> Tensor:
        """The first `samples` samples of x."""
        return x[..., :samples]

    def shape_noise(self, noise: Tensor, cutoff: float | Tensor) -> Tensor:
        """Noise filtered in the frequency domain, then rescaled to unit variance; by a spectrogram
        where the cutoff moves."""
        samples = noise.shape[-1]
        if isinstance(cutoff, Tensor):
            spectrum = self._spectrogram(noise)
            frequency = self._frequencies(noise)[:, None]
            response = butterworth_highpass(frequency, cutoff[:, None]).to(noise.dtype)
            response = response / response.square().mean(dim=-2, keepdim=True).sqrt()
            moved = (spectrum * response[:, None]).flatten(0, 1)
            window = torch.hann_window(FFT, device=noise.device)
            return torch.istft(moved, FFT, HOP, window=window, length=samples).view_as(noise)
        frequency = torch.fft.rfftfreq(samples, 1 / self.sample_rate, device=noise.device)
        response = butterworth_highpass(frequency, cutoff).to(noise.dtype)
        filtered: Tensor = torch.fft.irfft(torch.fft.rfft(noise) * response, n=samples)
        return filtered.div(response.square().mean().sqrt())

    def rolloff(self, x: Tensor) -> Tensor:
        """The cutoffs [batch, times] of audio, one every `HOP` samples."""
        energy = self._spectrogram(x).abs().square().sum(dim=1)
        return rolloff(energy, self._frequencies(x), smooth=5)

    def _spectrogram(self, x: Tensor) -> Tensor:
        """[batch, 2, bins, times]."""
        window = torch.hann_window(FFT, device=x.device)
        spectrum: Tensor = torch.stft(
            x.flatten(0, 1), FFT, HOP, window=window, pad_mode="constant", return_complex=True
        )
        return spectrum.view(*x.shape[:2], *spectrum.shape[1:])

    def _frequencies(self, x: Tensor) -> Tensor:
        frequencies: Tensor = torch.fft.rfftfreq(FFT, 1 / self.sample_rate, device=x.device)
        return frequencies
