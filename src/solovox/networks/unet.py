"""The generators' common body: a 1-D U-Net that hears time and, at chosen levels, conditions.

    x ─► stem ─► level 0 ─────────────── skip ──────────────► + ─► level 0 ─► head ─► velocity
                   └► down ─► level 1 ── skip ──► + ─► level 1 ─► up ┘
                                └► down ─► …  ─► up ┘

A level is: optional injection (concatenate the condition, merge by a 1x1 convolution), then
residual blocks, each 2 x (group norm -> SiLU -> convolution) -> FiLM from the time embedding ->
optional self-attention. Level i is [batch, widths[i], 1, length / (factors[0]·…·factors[i])], in
encoder and decoder.

Source: arXiv 2511.21342, the section on the architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from solovox.networks.layers import (
    Conv,
    FiLM,
    ImageAttention,
    TimeEmbedding,
    downsample,
    pad_right,
    run,
    to_image,
    to_sequence,
    upsample,
)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Size of a U-Net; every tuple has one entry a level, shallowest first."""

    channels: int
    widths: tuple[int, ...]
    factors: tuple[int, ...]
    blocks: tuple[int, ...]
    kernel: int = 3
    groups: int = 8
    attention_levels: int = 4  # how many of the deepest
    attention_heads: int = 1
    attention_head_width: int = 32
    time_features: int = 1024
    time_spread: float = 4.0  # of the random frequencies, in cycles over t in [0, 1]
    time_hidden: int = 128
    time_width: int = 64
    checkpoint_activations: bool = False


class Block(nn.Module):
    """Residual block: 2 x (group norm -> SiLU -> convolution) -> FiLM, added; then attention."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        width = config.widths[level]
        self.branch = nn.Sequential()
        for _ in range(2):
            self.branch.append(nn.GroupNorm(config.groups, width))
            self.branch.append(nn.SiLU())
            self.branch.append(Conv(width, width, config.kernel))
        attends = level >= len(config.widths) - config.attention_levels
        self.attention = (
            ImageAttention(width, config.attention_heads, config.attention_head_width)
            if attends
            else nn.Identity()
        )

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return x [batch, width, 1, length] after the residual sum and the attention."""
        heard: Tensor = self.attention(x + torch.addcmul(shift, self.branch(x), 1 + scale))
        return heard


class Level(nn.Module):
    """One level of the encoder or of the decoder; its blocks share one FiLM layer."""

    def __init__(self, config: UNetConfig, level: int, injected: bool) -> None:
        super().__init__()
        width = config.widths[level]
        self.merge = Conv(2 * width, width) if injected else None
        self.film = FiLM(config.time_width, width)
        self.blocks = nn.ModuleList(Block(config, level) for _ in range(config.blocks[level]))

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        """Return x [batch, width, 1, length]; the condition, where there is one, has x's shape."""
        if self.merge is not None and condition is not None:
            x = self.merge(torch.cat((x, condition), dim=1))
        scale, shift = self.film(time)
        for block in self.blocks:
            x = block(x, scale, shift)
        return x


class UNet(nn.Module):
    """The U-Net (see the module's text).

    Args:
        config: its size.
        injected: the levels at which a condition enters, in the encoder and in the decoder.
    """

    def __init__(self, config: UNetConfig, injected: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.injected = tuple(injected)
        self.multiple = prod(config.factors)
        widths, factors = config.widths, config.factors
        levels = range(len(widths))
        above = (widths[0], *widths)  # width of the level above level i
        self.time = TimeEmbedding(
            config.time_features, config.time_hidden, config.time_width, config.time_spread
        )
        self.stem = Conv(config.channels, widths[0], config.kernel)
        self.downs = nn.ModuleList(downsample(above[i], widths[i], factors[i]) for i in levels)
        self.encoder = nn.ModuleList(Level(config, i, i in self.injected) for i in levels)
        self.decoder = nn.ModuleList(Level(config, i, i in self.injected) for i in levels)
        self.ups = nn.ModuleList(upsample(widths[i], above[i], factors[i]) for i in levels)
        self.head = nn.Sequential(
            nn.GroupNorm(config.groups, widths[0]),
            nn.SiLU(),
            Conv(widths[0], config.channels, config.kernel),
        )

    def forward(self, x: Tensor, t: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """Return the velocity [batch, channels, length].

        Args:
            x: [batch, channels, length], at least one long.
            t: diffusion time [batch], in [0, 1].
            conditions: one for each injected level, shallowest first, with the width and the padded
                length of that level.
        """
        length = x.shape[-1]
        heard = {
            i: to_image(condition) for i, condition in zip(self.injected, conditions, strict=True)
        }
        again = self.config.checkpoint_activations
        time = self.time(t)
        #  |<---------- length --------->|<- zeros ->|   padded to a multiple of all factors'
        #  |  128  |  128  |  128  |  128  |  128    |   product (128 in Diff-DMX), and cut again
        x = self.stem(to_image(pad_right(x, self.multiple)))
        skips = []
        for i, (down, level) in enumerate(zip(self.downs, self.encoder, strict=True)):
            x = run(level, down(x), time, heard.get(i), checkpointed=again)
            skips.append(x)
        for i in reversed(range(len(skips))):
            x = run(self.decoder[i], x, time, heard.get(i), checkpointed=again)
            x = self.ups[i](x)
            if i > 0:
                x = x + skips[i - 1]
        return to_sequence(self.head(x))[..., :length]
