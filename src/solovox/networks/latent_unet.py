"""LDM-dmx's networks: a U-Net on a codec's latents, and the encoder that hears the mixture.

    mixture ─► encoder ─► latents ─► folded to a level's rate ─► injected at the deeper levels
                                                                   │
                                                     x_t, t ─► U-Net ─► velocity

Everything is [batch, channels, frames] at the codec's frame rate. At an injected level, whose rate
is r times lower, r frames of the mixture's latents are folded into one by a convolution with
kernel = stride = r, then concatenated and merged, in the encoder and in the decoder. The paper
injects at the deeper levels only, since shallow ones let the accompaniment bleed through; the other
places are there to study that claim.

Source: arXiv 2511.20470, the section on the system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import Tensor, nn

from solovox.networks.features import Features, PreparedFeatures
from solovox.networks.layers import Conv, pad_right, to_image, to_sequence
from solovox.networks.unet import UNet, UNetConfig

Injection = Literal["deep", "all", "bottleneck"]

# The injected levels of a U-Net with so many levels.
INJECTED: dict[Injection, Callable[[int], range]] = {
    "deep": lambda levels: range(levels // 2, levels),
    "all": lambda levels: range(levels),
    "bottleneck": lambda levels: range(levels - 1, levels),
}


@dataclass(frozen=True, kw_only=True)
class LatentUNetConfig(UNetConfig):
    """Size of the latent U-Net.

    The paper states that time enters by FiLM and the mixture at the deeper levels. All sizes are
    ours: five levels, 90.5 M parameters, the lower three injected and with attention; EnCodec's 128
    latent channels. Where a codec takes left and right apart, `items` is 2: each is an item of its
    own for the network, too.
    """

    channels: int = 128
    condition_channels: int = 128
    items: int = 1
    injection: Injection = "deep"
    widths: tuple[int, ...] = (256, 384, 512, 768, 1024)
    factors: tuple[int, ...] = (1, 2, 2, 2, 2)
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2)
    attention_levels: int = 3
    attention_heads: int = 8
    attention_head_width: int = 64
    time_hidden: int = 512
    time_width: int = 256


class LatentUNet(nn.Module):
    """The generator in the latent space (see the module's text)."""

    needs_mixture = False  # in the codec's space: the embeddings tell of it

    def __init__(self, config: LatentUNetConfig) -> None:
        super().__init__()
        self.config = config
        injected = INJECTED[config.injection](len(config.widths))
        rates = [prod(config.factors[: i + 1]) for i in injected]
        self.match = nn.ModuleList(
            Conv(config.condition_channels, config.widths[i], rate, rate)
            for i, rate in zip(injected, rates, strict=True)
        )
        self.unet = UNet(config, injected)

    def prepare(self, features: Features) -> PreparedFeatures:
        """Return the features with the mixture's latents folded, which needs neither x_t nor t.

        A sampler calls this once a chunk and hands the result to every step; `forward` takes either
        kind. The latents are the first embedding, [batch, condition_channels, frames].
        """
        if isinstance(features, PreparedFeatures):
            return features
        latents = self._apart(features.embeddings[0])
        latents = to_image(pad_right(latents, self.unet.multiple))
        return PreparedFeatures.of(
            features, tuple(to_sequence(match(latents)) for match in self.match)
        )

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """Return the velocity, [batch, items·channels, frames].

        Args:
            x_t: noisy latents of the vocals [batch, items·channels, frames], at least one frame.
            t: diffusion time [batch], in [0, 1].
            features: the conditioner's for the mixture of these frames, or `prepare`'s of them.
        """
        times = t.repeat_interleave(self.config.items)
        velocity: Tensor = self.unet(self._apart(x_t), times, self.prepare(features).embeddings)
        return velocity.reshape(x_t.shape)

    def _apart(self, x: Tensor) -> Tensor:
        """Latents [batch, items·channels, frames] as [batch·items, channels, frames]."""
        return x.reshape(len(x) * self.config.items, -1, x.shape[-1])


class LatentConditioner(nn.Module):
    """The mixture's latents as features.

    Training has two stages: with the encoder frozen, then fine-tuned.

    Args:
        encoder: maps audio [batch, 2, samples] to latents [batch, channels, frames]. It is trained,
            so give it a copy of the codec's encoder, never the codec's own.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.frozen = False

    def freeze(self) -> None:
        """Keep the encoder as it is: no gradient, and evaluation mode whatever the model's."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def unfreeze(self) -> None:
        """Let the encoder learn."""
        self.frozen = False
        self.encoder.requires_grad_(True).train(self.training)

    def train(self, mode: bool = True) -> "LatentConditioner":
        """Return this module, set to training mode but for a frozen encoder."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, mixture: Tensor) -> Features:
        """Return features whose one embedding is the latents of the mixture [batch, 2, samples]."""
        return Features(embeddings=(self.encoder(mixture),))
