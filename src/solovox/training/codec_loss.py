"""What a codec learns from: audio that went through it against the audio itself.

    loss = wave · ‖y - ŷ‖/‖y‖  +  stft · (spectral convergence + log-magnitude)  +  mel · log-mel

The first term asks for the waveform, phase and all, in units of what separates decibels; the others
for spectra where the phase cannot be had. Both the vocals and their mixtures are coded: the one
has to be decoded, the other to be heard. Noise on the latents, of another strength for each item,
makes a decoder that forgives what sampling leaves. Sources: Défossez et al. 2022 (EnCodec), Eq. 2
and 3, without the adversary; Yamamoto et al. 2020.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from solovox.codecs.base import LatentCodec
from solovox.errors import ModelError
from solovox.evaluation.metrics import mel_filters
from solovox.model import SeparationModel
from solovox.precision import autocast

FFTS = (512, 1024, 2048)
MELS = 80
FLOOR = 1e-3  # of magnitudes in logarithms, where the mixture's level is one
QUIET = 0.03  # level below which an item's error counts as if it were as loud as this


@dataclass(frozen=True)
class CodecLossConfig:
    """The weights of a codec's losses.

    Attributes:
        wave: of the waveform's relative error.
        stft: of the multi-resolution spectral distance.
        mel: of the mel spectra's log distance.
        noise: largest standard deviation of the noise on the scaled latents.
        unit: of a penalty that holds the learned latents near a standard deviation of one.
    """

    wave: float = 1.0
    stft: float = 0.2
    mel: float = 0.1
    noise: float = 0.1
    unit: float = 0.01


class CodecLoss(nn.Module):
    """The losses of a model's codec as one module; the other parts rest.

    Args:
        model: the model.
        config: the losses' weights.
        precision: of the networks, see `solovox.precision`.

    Raises:
        ModelError: if the codec has nothing to learn.
    """

    def __init__(self, model: SeparationModel, config: CodecLossConfig, precision: str) -> None:
        super().__init__()
        if not isinstance(model.codec, LatentCodec):
            raise ModelError(f"the codec of {model.config.name} has nothing to learn")
        self.model = model
        self.codec = model.codec
        self.config = config
        self.precision = precision
        self.codec.requires_grad_(True)

    def forward(self, mixture: Tensor, vocals: Tensor, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name, to be summed.

        Args:
            mixture, vocals: audio, [batch, 2, samples].
            t, eps: strength [batch] and direction of the noise on the latents.
        """
        level = self.model.level(mixture)
        audio = torch.cat((vocals, mixture)) / level.repeat(2, 1, 1)
        noise = self.config.noise * t[:, None, None] * eps
        with autocast(audio.device, self.precision):
            latents = self.codec.encode(audio)
            coded = self.codec.decode(latents + noise.repeat(2, 1, 1), audio.shape[-1])
        stft, mel = spectral_distances(coded, audio, self.codec.sample_rate)
        deviation = latents.square().mean(dim=(0, 2)).add(1e-6).sqrt()
        return {
            "wave": self.config.wave * relative_error(coded, audio),
            "stft": self.config.stft * stft,
            "mel": self.config.mel * mel,
            "unit": self.config.unit * torch.log(deviation).square().mean(),
        }


def relative_error(estimate: Tensor, target: Tensor) -> Tensor:
    """The error's level over the target's, averaged over items [batch, …]; 0.1 is 20 dB."""
    error, size = (
        (x.flatten(1).square().mean(1) + 1e-8).sqrt() for x in (estimate - target, target)
    )
    return (error / size.clamp(min=QUIET)).mean()


def spectral_distances(estimate: Tensor, target: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """(spectral convergence and the log-magnitudes' distance, the mean of three resolutions; the
    distance of log mel spectra, at the finest of them)."""
    total = mel = estimate.new_zeros(())
    for fft in FFTS:
        x, y = magnitudes(estimate, fft), magnitudes(target, fft)
        convergence = (x - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1).clamp(min=QUIET)
        total = total + convergence.mean() + log_distance(x, y)
        if fft == FFTS[-1]:
            filters = _mels(sample_rate, fft).to(x.device)
            mel = log_distance(filters @ x, filters @ y)
    return total / len(FFTS), mel


def log_distance(x: Tensor, y: Tensor) -> Tensor:
    """The mean distance of the logarithms of magnitudes."""
    return (torch.log(x + FLOOR) - torch.log(y + FLOOR)).abs().mean()


def magnitudes(audio: Tensor, fft: int) -> Tensor:
    """Spectrograms [batch·channels, bins, frames] of audio [batch, channels, samples]."""
    spectrum = torch.stft(
        audio.flatten(0, 1).float(),
        fft,
        fft // 4,
        window=torch.hann_window(fft, device=audio.device),
        normalized=True,
        return_complex=True,
    )
    return (spectrum.real.square() + spectrum.imag.square() + 1e-8).sqrt()


@lru_cache
def _mels(sample_rate: int, fft: int) -> Tensor:
    """Mel filters whose weights sum to one, [bands, bins]."""
    filters = mel_filters(sample_rate, fft, MELS)
    weights = filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9)
    return torch.from_numpy(weights).float()
