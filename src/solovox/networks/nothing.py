"""The absent conditioner and generator of a model that is a codec and no more."""

from dataclasses import dataclass

from torch import Tensor, nn

from solovox.networks.features import Features


@dataclass(frozen=True)
class NothingConfig:
    """There is nothing to set."""


class Deaf(nn.Module):
    """A conditioner that hears nothing."""

    def __init__(self, config: NothingConfig) -> None:
        super().__init__()

    def forward(self, mixture: Tensor) -> Features:
        """Features without anything in them."""
        return Features(embeddings=())


class Still(nn.Module):
    """A generator that stands still."""

    needs_mixture = False

    def __init__(self, config: NothingConfig) -> None:
        super().__init__()

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """No velocity."""
        return x_t * 0
