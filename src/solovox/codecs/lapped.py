"""An orthonormal lapped transform: waveform diffusion in coefficients that a small network can
afford.

The MDCT with a sine window, as one strided convolution and its transpose, with N bands:

    basis[k, n] = sqrt(2/N) · sin(π(n + ½)/2N) · cos(π(n + ½ + N/2)(k + ½)/N),   0 ≤ n < 2N

The basis is orthonormal over the whole signal, so white noise in is white noise out and diffusion
in the coefficients *is* diffusion on the waveform, N samples at a time. Frame i is centred on
sample i·N:

    samples          |0      N|      2N|      3N|
    frame 0  [-N ····|········]
    frame 1          [········|········]
    frame 2                   [········|········]

Left and right are turned into mid and side first, an orthonormal rotation too: a voice in the
centre is all mid.

A voice falls off with frequency, white noise does not. Dividing by a tilted weight (half of a
voice's fall, in dB) lets sampling spend its
steps on all bands: the noise is then white in the weighted coefficients. Source: Princen & Bradley
    1986; Malvar 1992.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from solovox.codecs.base import Codec
from solovox.diffusion.refinement import butterworth_highpass, rolloff
from solovox.stereo import mid_side


@dataclass(frozen=True)
class LappedConfig:
    """Settings of the lapped transform.

    Attributes:
        bands: N, bands a channel and samples a frame.
        scale: level of the coefficients of a voice before weighting, so that its standard deviation
            is near 1 after it.
        corner: frequency above which the weight falls, in Hz.
        tilt: exponent of the fall; the weight is (1 + (f/corner)²)^(-tilt/2). 0 is no weighting.
    """

    sample_rate: int = 44100
    bands: int = 512
    scale: float = 1.0
    corner: float = 500.0
    tilt: float = 0.7


def lapped_basis(bands: int) -> Tensor:
    """The MDCT basis with a sine window, [bands, 2·bands], float64."""
    n = torch.arange(2 * bands, dtype=torch.float64) + 0.5
    k = torch.arange(bands, dtype=torch.float64)[:, None] + 0.5
    window = torch.sin(math.pi * n / (2 * bands))
    return math.sqrt(2 / bands) * window * torch.cos(math.pi / bands * (n + bands / 2) * k)


def _tables(config: LappedConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The basis, and each band's centre in Hz and weight.

    On the meta device, where a model is built for its shapes alone, they have no values: arithmetic
    there makes torch import its compiler, which takes a second.
    """
    bands = config.bands
    if torch.empty(0).is_meta:
        return torch.empty(bands, 2 * bands), torch.empty(bands), torch.empty(bands)
    centre = (torch.arange(bands) + 0.5) * config.sample_rate / (2 * bands)
    weight = config.scale * (1 + (centre / config.corner) ** 2) ** (-config.tilt / 2)
    return lapped_basis(bands).float(), centre, weight


class Lapped(Codec):
    """Stereo audio as weighted lapped-transform coefficients, [batch, 2·bands, frames], mid before
    side."""

    basis: Tensor
    frequency: Tensor
    weight: Tensor

    def __init__(self, config: LappedConfig) -> None:
        super().__init__()
        self.sample_rate = config.sample_rate
        self.bands = config.bands
        self.channels = 2 * config.bands
        basis, centre, weight = _tables(config)
        self.register_buffer("basis", basis[:, None], persistent=False)
        self.register_buffer("frequency", centre, persistent=False)
        self.register_buffer("weight", weight[:, None], persistent=False)

    def frames(self, samples: int) -> int:
        """One frame every `bands` samples and one more for the overlap at the end."""
        return -(-samples // self.bands) + 1

    def encode(self, audio: Tensor) -> Tensor:
        """The weighted coefficients of audio."""
        batch, channels, samples = audio.shape
        end = self.frames(samples) * self.bands - samples
        rotated = mid_side(audio, dim=1)
        padded = F.pad(rotated, (self.bands, end)).reshape(batch * channels, 1, -1)
        with torch.autocast(audio.device.type, enabled=False):
            x = F.conv1d(padded, self.basis, stride=self.bands) / self.weight
        return x.reshape(batch, self.channels, -1)

    def decode(self, x: Tensor, samples: int) -> Tensor:
        """The audio of weighted coefficients, cut to `samples` samples."""
        batch, _, frames = x.shape
        coefficients = x.reshape(batch * 2, self.bands, frames) * self.weight
        with torch.autocast(x.device.type, enabled=False):
            audio = F.conv_transpose1d(coefficients, self.basis, stride=self.bands)
        return mid_side(audio.reshape(batch, 2, -1)[..., self.bands : self.bands + samples], dim=1)

    def shape_noise(self, noise: Tensor, cutoff: float | Tensor) -> Tensor:
        """Noise weighted by the filter's response at each band's centre, then rescaled to unit
        variance."""
        if isinstance(cutoff, Tensor):
            cutoff = cutoff[:, None]
        response = butterworth_highpass(self.frequency[:, None], cutoff)
        response = response / response.square().mean(dim=-2, keepdim=True).sqrt()
        return noise * torch.cat((response, response), dim=-2)

    def rolloff(self, x: Tensor) -> Tensor:
        """The cutoffs [batch, frames] of coefficients, from the energy around each frame."""
        energy = (x.reshape(len(x), 2, self.bands, -1) * self.weight).square().sum(dim=1)
        return rolloff(energy, self.frequency, smooth=5)
