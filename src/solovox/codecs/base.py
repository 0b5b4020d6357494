"""What every codec offers: a way from audio into the space in which diffusion runs, and back."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from solovox.errors import SolovoxError


class Codec(nn.Module, ABC):
    """Audio [batch, 2, samples] ↔ the space of diffusion [batch, channels, frames].

    Attributes:
        sample_rate: the rate of the audio, in Hz.
        channels: channels of the space.
    """

    sample_rate: int
    channels: int

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
