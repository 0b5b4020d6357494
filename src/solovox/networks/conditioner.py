"""Diff-DMX's conditioner: a mixture goes in, once a chunk; one embedding a level comes out.

    mixture ─► encoder ──────────────► bottleneck ─► transformer ─► decoder ─► reconstruction head
                 └─ auxiliary sums ──────▲    └─► latent head          └─► embeddings, one a level

Seven levels of one residual block each, with no skips from encoder to decoder. What the encoder
hears at each level reaches the bottleneck by an auxiliary connection instead: group norm -> ReLU
-> mean over the bottleneck's frames -> 1x1 convolution, added. Shapes: level i is [batch,
widths[i], 1, samples / (factors[0]·…·factors[i])].

The two heads give estimates of the vocals for the auxiliary losses and for the listener. The
generator never sees them: its gradient reaches the embeddings, not the heads.

Source: arXiv 2511.21342, the section on the architecture.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from solovox.networks.features import Features
from solovox.networks.layers import (
    Conv,
    ImageAttention,
    TransformerLayer,
    downsample,
    pad_right,
    run,
    to_image,
    to_sequence,
    upsample,
)


@dataclass(frozen=True, kw_only=True)
class ConditionerConfig:
    """Size of the conditioner.

    The paper states the widths, the factors, three convolutions a block, the levels with attention
    and the transformer's depth. The rest is ours, chosen so that the parameters come out at its
    82.9 M (and, without attention and transformer, at 71 M with the generator): `squeeze`,
    `kernels`, `groups`, the heads, and the transformer's width and expansion.
    """

    audio_channels: int = 2
    widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024, 2048)
    factors: tuple[int, ...] = (1, 2, 4, 1, 4, 1, 4)
    squeeze: int = 4  # ours: a block works on widths[i] / squeeze channels
    kernels: tuple[int, ...] = (3, 5, 3)  # ours: one a convolution of a block
    groups: int = 8  # ours
    attention_levels: int = 4  # how many of the deepest; 0 for the plain variant
    attention_heads: int = 3  # ours
    attention_head_width: int = 64  # ours
    transformer_layers: int = 6  # 0 for the plain variant
    transformer_width: int = 512  # ours
    transformer_heads: int = 8  # ours
    transformer_expansion: int = 4  # ours
    checkpoint_activations: bool = False


class Block(nn.Module):
    """Residual block: 3 x (group norm -> PReLU -> convolution); attention at deep levels."""

    def __init__(self, config: ConditionerConfig, level: int) -> None:
        super().__init__()
        width = config.widths[level]
        inner = width // config.squeeze
        widths = (width, *(inner for _ in config.kernels[1:]), width)
        self.branch = nn.Sequential()
        for inputs, outputs, kernel in zip(widths, widths[1:], config.kernels, strict=False):
            self.branch.append(nn.GroupNorm(config.groups, inputs))
            self.branch.append(nn.PReLU(inputs))
            self.branch.append(Conv(inputs, outputs, kernel))
        attends = level >= len(config.widths) - config.attention_levels
        self.attention = (
            ImageAttention(width, config.attention_heads, config.attention_head_width)
            if attends
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x [batch, width, 1, length] after the residual sum and the attention."""
        heard: Tensor = self.attention(x + self.branch(x))
        return heard


class AuxiliaryConnection(nn.Module):
    """What an encoder level adds to the bottleneck: group norm -> ReLU -> 1x1 convolution."""

    def __init__(self, groups: int, inputs: int, outputs: int, rate: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, inputs)
        # The mean and the 1x1 convolution commute; in this order it costs `rate` times less.
        self.pool = nn.AvgPool2d((1, rate))
        self.conv = Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, outputs, 1, length / rate] for x [batch, inputs, 1, length]."""
        added: Tensor = self.conv(self.pool(torch.relu(self.norm(x))))
        return added


class Transformer(nn.Module):
    """Rotary transformer on the bottleneck, in its own width between two linear maps; residual."""

    def __init__(self, config: ConditionerConfig) -> None:
        super().__init__()
        width, inner = config.widths[-1], config.transformer_width
        self.enter = nn.Linear(width, inner)
        self.layers = nn.Sequential(
            *(
                TransformerLayer(inner, config.transformer_heads, config.transformer_expansion)
                for _ in range(config.transformer_layers)
            )
        )
        self.leave = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x [batch, width, 1, length] after all layers."""
        tokens = x.squeeze(2).transpose(1, 2)
        update: Tensor = self.leave(self.layers(self.enter(tokens)))
        return x + update.transpose(1, 2).unsqueeze(2)


class Conditioner(nn.Module):
    """Diff-DMX's conditioner (see the module's text)."""

    def __init__(self, config: ConditionerConfig) -> None:
        super().__init__()
        self.config = config
        widths, factors = config.widths, config.factors
        levels = range(len(widths))
        above = (widths[0], *widths)  # width of the level above level i
        self.multiple = prod(factors)
        self.stem = Conv(config.audio_channels, widths[0], max(config.kernels))
        self.downs = nn.ModuleList(downsample(above[i], widths[i], factors[i]) for i in levels)
        self.encoder = nn.ModuleList(Block(config, i) for i in levels)
        self.auxiliary = nn.ModuleList(
            AuxiliaryConnection(config.groups, widths[i], widths[-1], prod(factors[i + 1 :]))
            for i in levels[:-1]
        )
        self.transformer = Transformer(config) if config.transformer_layers else nn.Identity()
        self.decoder = nn.ModuleList(Block(config, i) for i in levels)
        self.ups = nn.ModuleList(upsample(widths[i], above[i], factors[i]) for i in levels)
        self.latent_head = Conv(widths[-1], config.audio_channels * self.multiple)
        self.reconstruction_head = Conv(widths[0], config.audio_channels)

    def forward(self, mixture: Tensor) -> Features:
        """Return one embedding a level, shallowest first, and the two heads' estimates.

        Args:
            mixture: audio [batch, audio_channels, samples], at least one sample.
        """
        samples = mixture.shape[-1]
        #  |<-------- samples -------->|<- zeros ->|   padded to a multiple of 128: the estimates
        #  |  128  |  128  |  128  |  128  |  128  |   are cut, the embeddings keep the padding
        heard = self._encode(to_image(pad_right(mixture, self.multiple)))
        embeddings = self._decode(self.transformer(heard))
        estimates = (self._unfold(self.latent_head(heard)), self.reconstruction_head(embeddings[0]))
        return Features(
            embeddings=tuple(to_sequence(embedding) for embedding in embeddings),
            estimates=tuple(to_sequence(estimate)[..., :samples] for estimate in estimates),
        )

    def _encode(self, x: Tensor) -> Tensor:
        """Return the bottleneck [batch, widths[-1], 1, frames], auxiliary connections added."""
        x = self.stem(x)
        levels = []
        for down, block in zip(self.downs, self.encoder, strict=True):
            x = run(block, down(x), checkpointed=self.config.checkpoint_activations)
            levels.append(x)
        for auxiliary, level in zip(self.auxiliary, levels[:-1], strict=True):
            x = x + auxiliary(level)
        return x

    def _decode(self, x: Tensor) -> list[Tensor]:
        """Return the decoder's output at each level, shallowest first."""
        embeddings = []
        for block, up in zip(reversed(self.decoder), reversed(self.ups), strict=True):
            embedding = run(block, x, checkpointed=self.config.checkpoint_activations)
            embeddings.append(embedding)
            x = up(embedding)
        return embeddings[::-1]

    def _unfold(self, x: Tensor) -> Tensor:
        """Return audio [batch, channels, 1, n·frames] for frames [batch, channels·n, 1, frames]."""
        batch, _, _, frames = x.shape
        framed = x.reshape(batch, self.config.audio_channels, self.multiple, frames)
        return framed.transpose(2, 3).reshape(batch, self.config.audio_channels, 1, -1)
