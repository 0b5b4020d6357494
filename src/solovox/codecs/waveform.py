"""The identity codec: diffusion on the samples themselves, as in Diff-DMX."""

from dataclasses import dataclass

import torch
from torch import Tensor

from solovox.codecs.base import Codec
from solovox.diffusion.refinement import butterworth_highpass


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

    def shape_noise(self, noise: Tensor, cutoff: float) -> Tensor:
        """Noise filtered in the frequency domain, then rescaled to unit variance."""
        samples = noise.shape[-1]
        frequency = torch.fft.rfftfreq(samples, 1 / self.sample_rate, device=noise.device)
        response = butterworth_highpass(frequency, cutoff).to(noise.dtype)
        filtered: Tensor = torch.fft.irfft(torch.fft.rfft(noise) * response, n=samples)
        return filtered.div(response.square().mean().sqrt())
