"""A model is three parts: codec → conditioner → generator.

    mixture ─ codec.encode ─► (space of diffusion)
       └───── conditioner ──► Features, once a chunk
    x_t, t, Features ─ generator ─► velocity, once a step

Both published systems and the small models that ship are this class with other parts (`presets`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from solovox.codecs.base import Codec
from solovox.diffusion.refinement import unsure
from solovox.errors import ModelError
from solovox.networks.features import Features

if TYPE_CHECKING:
    from solovox.presets import ModelConfig


class SeparationModel(nn.Module):
    """Codec, conditioner and generator of one separation system.

    Args:
        config: the settings that the model was built from.
        codec: audio ↔ the space of diffusion.
        conditioner: mixture [batch, 2, samples] → Features.
        generator: (x_t, t, Features) → velocity.
    """

    def __init__(
        self, config: ModelConfig, codec: Codec, conditioner: nn.Module, generator: nn.Module
    ) -> None:
        super().__init__()
        self.config = config
        self.codec = codec
        self.conditioner = conditioner
        self.generator = generator

    def level(self, mixture: Tensor) -> Tensor:
        """The gain [batch, 1, 1] to divide a mixture [batch, 2, samples] by, and to multiply the
        vocals by afterwards.

        It is the mixture's RMS level, at least -60 dB, so that silence stays silence; one for a
        model that takes audio as it is. Zeros at the end do not count: what comes before the
        silence at a file's end has its own level.
        """
        if not self.config.normalise:
            return mixture.new_ones(mixture.shape[0], 1, 1)
        energy = mixture.square().mean(dim=1, keepdim=True)
        heard = (energy > 0).flip(2).cummax(dim=2).values.sum(dim=2, keepdim=True).clamp(min=1)
        return (energy.sum(dim=2, keepdim=True) / heard).sqrt().clamp(min=1e-3)

    def condition(self, mixture: Tensor, cutoff: float | str = 0.0) -> Features:
        """What the conditioner hears in a mixture, with its estimate in the codec's space.

        The mixture is there, too, unless nobody asks for it: some generators have no use for it
        (`needs_mixture`), and nor has refinement noise but with one cutoff.

        Args:
            mixture: audio [batch, 2, samples].
            cutoff: what `shape_noise` will be asked for.
        """
        features = cast(Features, self.conditioner(mixture))
        mean = None if features.estimate is None else self.codec.encode(features.estimate)
        asked = cutoff == "mixture" or getattr(self.generator, "needs_mixture", True)
        return replace(features, mean=mean, mixture=self.codec.encode(mixture) if asked else None)

    @torch.no_grad()
    def lost(self, features: Features) -> Tensor | float:
        """What coding loses of the estimate [batch, 2, samples], where the model gives it back.

        Vocals that sampling made of the estimate μ are then D(x0) + μ - D(E(μ)): what no latent
        holds, as the phase of the highs, stays the mixture's, and a sample that is equal to E(μ)
        is the estimate itself.
        """
        if not self.config.give_back or features.estimate is None or features.mean is None:
            return 0.0
        estimate = features.estimate.float()
        return estimate - self.codec.decode(features.mean.float(), estimate.shape[-1])

    def prepare(self, features: Features) -> Features:
        """The features with what the generator makes of them at any x_t and t, made once."""
        prepare = getattr(self.generator, "prepare", None)
        return features if prepare is None else cast(Features, prepare(features))

    def shape_noise(self, noise: Tensor, cutoff: float | str, features: Features) -> Tensor:
        """White noise [batch, channels, frames] as refinement noise, of unit variance.

        Args:
            noise: white noise of the codec's space.
            cutoff: in Hz, where 0 leaves the noise white, or a name of `refinement.BANDS`.
            features: of the chunks, made by `condition` for this cutoff.

        Raises:
            ModelError: if the conditioner tells no spread, or the codec has no frequencies.
        """
        if cutoff == "spread":
            if features.spread is None:
                raise ModelError(f"{self.config.name} has no spread; use another cutoff")
            return noise * unsure(features.spread.float())
        if cutoff == "mixture":
            assert features.mixture is not None  # `condition` gives it for this cutoff
            return self.codec.shape_noise(noise, self.codec.rolloff(features.mixture))
        return self.codec.shape_noise(noise, float(cutoff)) if cutoff else noise

    def velocity(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """The velocity at x_t [batch, channels, frames] and time t."""
        return cast(Tensor, self.generator(x_t, t, features))
