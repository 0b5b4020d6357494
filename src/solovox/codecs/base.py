"""What every codec offers: a way from audio into the space in which diffusion runs, and back."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from solovox.errors import SolovoxError


class Codec(nn.Module, ABC):
    """Audio [batch, 2, samples] ↔ the space of diffusion [batch, channels, frames].

    Attributes:
        sample_rate: the rate of the audio, in Hz.
        channels: channels of the space.
        has_frequencies: whether noise in it can be filtered.
    """

    sample_rate: int
    channels: int
    has_frequencies = True

    @abstractmethod
    def frames(self, samples: int) -> int:
        """The number of frames that `encode` makes of `samples` samples."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Tensor:
        """The representation of audio, [batch, channels, frames]."""

    @abstractmethod
    def decode(self, x: Tensor, samples: int) -> Tensor:
        """The audio [batch, 2, samples] that a representation stands for."""

    @abstractmethod
    def shape_noise(self, noise: Tensor, cutoff: float | Tensor) -> Tensor:
        """White noise of the space, high-passed at `cutoff` Hz (Butterworth, order 4) and rescaled
        to unit variance.

        Args:
            noise: [batch, channels, frames].
            cutoff: in Hz, or as `rolloff` gives it: then the variance is one at every time.
        """

    def rolloff(self, x: Tensor) -> Tensor:
        """The cutoffs in Hz [batch, times] above which little of a representation lies.

        Raises:
            SolovoxError: if the space has no frequencies.
        """
        raise SolovoxError("this model's codec has no frequencies to follow; give a cutoff in Hz")


class LatentCodec(Codec):
    """A codec with learnt latents, scaled to a standard deviation of at most one.

    Each channel is divided by its own deviation, measured once on voices by `fit` and stored with
    the weights, but by no less than `FLOOR` of the largest: what is quiet stays quieter.
    """

    FLOOR = 0.25
    has_frequencies = False
    deviation: Tensor
    fitted: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("deviation", torch.ones(channels, 1))
        self.register_buffer("fitted", torch.tensor(False))

    @abstractmethod
    def latents(self, audio: Tensor) -> Tensor:
        """The latents of audio before they are scaled."""

    @abstractmethod
    def audio(self, latents: Tensor, samples: int) -> Tensor:
        """The audio of latents that are not scaled."""

    def encode(self, audio: Tensor) -> Tensor:
        """The scaled latents of audio."""
        return self.latents(audio).float() / self.deviation

    def decode(self, x: Tensor, samples: int) -> Tensor:
        """The audio that scaled latents stand for."""
        return self.audio(x * self.deviation, samples)

    @torch.no_grad()
    def fit(self, audio: Tensor) -> None:
        """Measure the latents' deviation on audio [batch, 2, samples], voices and nothing else."""
        deviation = self.latents(audio).float().square().mean(dim=(0, 2)).sqrt()
        self.deviation.copy_(deviation.clamp(min=self.FLOOR * float(deviation.max()))[:, None])
        self.fitted.fill_(True)

    def shape_noise(self, noise: Tensor, cutoff: float | Tensor) -> Tensor:
        """Never: a latent channel has no frequency.

        Raises:
            SolovoxError: always.
        """
        raise SolovoxError("this model's codec has no frequencies to filter; give cutoff 0")
