"""What a conditioner hears in a mixture, as the generator and the losses see it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The conditioner's output, computed once a chunk.

    Attributes:
        embeddings: one tensor a level, in the order in which the generator takes them.
        estimates: auxiliary one-pass estimates of the vocals as audio [batch, 2, samples], coarse
            to fine.
        mean: the finest estimate in the codec's space, [batch, channels, frames].
        mixture: the mixture in the codec's space.
        spread: the standard deviation of the error that the conditioner expects of `mean`, same
            shape.
    """

    embeddings: tuple[Tensor, ...]
    estimates: tuple[Tensor, ...] = ()
    mean: Tensor | None = None
    mixture: Tensor | None = None
    spread: Tensor | None = None

    @property
    def estimate(self) -> Tensor | None:
        """The finest one-pass estimate of the vocals, or None where the conditioner has none."""
        return self.estimates[-1] if self.estimates else None


@dataclass(frozen=True)
class PreparedFeatures(Features):
    """Features whose embeddings are what the generator makes of them at any x_t and t: those in
    which they enter, level by level, and what else it computes once."""

    @classmethod
    def of(cls, features: Features, embeddings: tuple[Tensor, ...]) -> "PreparedFeatures":
        """Return the features with these embeddings in place of theirs."""
        return cls(**{**vars(features), "embeddings": embeddings})
