"""What a conditioner hears in a mixture, as the generator and the losses see it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The conditioner's output, computed once a chunk.

    Attributes:
        embeddings: one tensor a level, in the order in which the generator takes them.
        estimates: auxiliary estimates of the vocals as audio [batch, 2, samples], coarse to fine.
    """

    embeddings: tuple[Tensor, ...]
    estimates: tuple[Tensor, ...] = ()

    @property
    def estimate(self) -> Tensor | None:
        """The finest one-pass estimate of the vocals, or None where the conditioner has none."""
        return self.estimates[-1] if self.estimates else None
