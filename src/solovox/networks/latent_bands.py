"""The small latent generator: LDM-dmx's design on tokens of bands, around the estimate.

The small codec's latents are the low bands of a lapped transform and some learnt channels, so they
can be cut into bands as a spectrum is (`networks.band_split`); eight learnt latents count as one
band. The velocity is what `band_split` derives around the conditioner's Gaussian prior N(μ, r²).

    mixture's latents ─► tokens ─► folded to a level's rate ─┐
    conditioner's tokens of that level ──────────────────────┴─► concatenated, merged: deep levels
                                                                   │
                                       z, μ, r (tokens), t ─► U-Net ─► correction ─► velocity

As in the paper the mixture enters by concatenation and a merging convolution at the deeper levels
only, in the encoder and in the decoder, and time by FiLM. Ours: the prior, through which the
estimate is known at all levels; the conditioner's tokens beside the latents; two-dimensional
convolutions over bands × time. Source: arXiv 2511.20470; `networks.latent_unet` is its full size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.diffusion.schedule import alpha, sigma
from solovox.networks.band_split import (
    BandMerge,
    BandSplit,
    BandUNet,
    latent_band_edges,
    limit_spread,
    mel_band_edges,
    told_spread,
)
from solovox.networks.features import Features, PreparedFeatures
from solovox.networks.latent_unet import INJECTED, Injection
from solovox.networks.layers import TimeEmbedding


@dataclass(frozen=True)
class LatentBandsConfig:
    """Settings of the small latent generator.

    Attributes:
        hop: bands of the codec's transform.
        kept, learned: the codec's channels: low bands, and learnt latents.
        bands: bands of a split of the whole transform; those of the kept part are used.
        patch: frames a token.
        widths: channels of the tokens, level by level.
        blocks: residual blocks a level.
        heads: attention heads at the deepest level.
        condition_widths: channels of the conditioner's tokens, level by level.
        injection: the levels at which the mixture enters.
        spread_limit: largest spread of a low band, as a share of the mixture's level there.
    """

    sample_rate: int = 44100
    hop: int = 512
    kept: int = 192
    learned: int = 32
    bands: int = 60
    patch: int = 2
    widths: tuple[int, ...] = (48, 64, 96, 128)
    blocks: int = 1
    heads: int = 4
    condition_widths: tuple[int, ...] = (64, 128, 192, 256)
    injection: Injection = "deep"
    spread_limit: float = 0.5


class Merge(nn.Module):
    """Tokens and a condition, concatenated and merged by a pointwise convolution, which starts by
    passing the tokens as they are."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width + condition, width, 1)
        with torch.no_grad():
            tokens = self.conv.weight[:, :width, 0, 0]
            tokens.zero_().diagonal().fill_(1.0)
            self.conv.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The tokens [batch, width, bands, steps] with the condition heard."""
        y: Tensor = self.conv(torch.cat((x, condition[:, :, : x.shape[2]]), dim=1))
        return y


class LatentBandUNet(BandUNet):
    """The U-Net of `band_split` with conditions merged at some levels of encoder and decoder.

    Args:
        config: its size.
        time_width: of the time embedding.
    """

    def __init__(self, config: LatentBandsConfig, time_width: int) -> None:
        super().__init__(config.widths, config.blocks, config.heads, time_width)
        widths = config.widths
        levels = INJECTED[config.injection](len(widths))
        heard = {str(i): widths[i] + config.condition_widths[i] for i in levels}
        # A level's rate is half of that above: 2 × 2 tokens are folded into one.
        self.fold = nn.ModuleList(
            nn.Conv2d(above, below, 2, stride=2) for above, below in pairwise(widths)
        )
        self.merge_in = nn.ModuleDict({i: Merge(widths[int(i)], heard[i]) for i in heard})
        self.merge_out = nn.ModuleDict(
            {i: Merge(widths[int(i)], heard[i]) for i in heard if int(i) + 1 < len(widths)}
        )

    def heard(self, mixture: Tensor, tokens: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What enters at each injected level: the mixture's tokens and the conditioner's."""
        folded = self.padded(mixture)
        conditions = []
        for depth, own in enumerate(tokens):
            if depth:
                folded = self.fold[depth - 1](folded)
            if str(depth) in self.merge_in:
                conditions.append(torch.cat((folded, own[:, :, : folded.shape[2]]), dim=1))
        return tuple(conditions)

    def padded(self, x: Tensor) -> Tensor:
        """Tokens with zeros behind the last, both ways, so that all levels come out even."""
        return F.pad(x, (0, -x.shape[3] % self.stride, 0, -x.shape[2] % self.stride))

    def correction(self, x: Tensor, time: Tensor, heard: Sequence[Tensor]) -> Tensor:
        """The decoder's finest tokens; `heard` has what enters at each injected level."""
        conditions = dict(zip(self.merge_in, heard, strict=True))
        x = self.padded(x)
        skips: list[Tensor] = []
        for depth, blocks in enumerate(self.encoder):
            if depth:
                skips.append(x)
                x = self.down[depth - 1](x)
            if (i := str(depth)) in self.merge_in:
                x = self.merge_in[i](x, conditions[i])
            x = blocks(x, time)
        x = self.bottom(self.attention(x), time)
        for depth in reversed(range(len(self.decoder))):
            x = self.skip[depth](torch.cat((self.up[depth](x), skips[depth]), dim=1))
            if (i := str(depth)) in self.merge_out:
                x = self.merge_out[i](x, conditions[i])
            x = self.decoder[depth](x, time)
        return x


class LatentBands(nn.Module):
    """The velocity around the conditioner's Gaussian prior, in the small codec's latents."""

    def __init__(self, config: LatentBandsConfig) -> None:
        super().__init__()
        edges = mel_band_edges(config.hop, config.bands, config.sample_rate)
        edges = latent_band_edges(edges, config.kept, config.learned)
        width = config.widths[0]
        time_width = 2 * width
        self.config = config
        self.time = TimeEmbedding(256, time_width, time_width, spread=2.0)
        self.split = BandSplit(edges, 6, config.patch, width)
        self.split_mixture = BandSplit(edges, 2, config.patch, width)
        self.unet = LatentBandUNet(config, time_width)
        self.merge = BandMerge(edges, 2, config.patch, width)
        for parameter in self.merge.unfold.parameters():
            nn.init.zeros_(parameter)

    def prepare(self, features: Features) -> PreparedFeatures:
        """The features with what depends on neither x_t nor t, as embeddings: the limited spread,
        the inputs beside z, [batch, 4·(kept + learned), frames], and what enters at each injected
        level.

        A sampler calls this once a chunk and hands the result to every step; `forward` takes
        either kind.
        """
        if isinstance(features, PreparedFeatures):
            return features
        if features.mean is None or features.spread is None or features.mixture is None:
            raise ValueError("the small latent generator needs a prior and the mixture's latents")
        spread = self.limited(features.spread.detach().float(), features.mixture.float())
        given = torch.cat((features.mean.detach().float(), told_spread(spread)), dim=1)
        mixture = self.split_mixture(self.folded(features.mixture, 2))
        heard = self.unet.heard(mixture, features.embeddings)
        return PreparedFeatures.of(features, (spread, given, *heard))

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """The velocity at x_t [batch, 2·(kept + learned), frames] and t, a scalar or [batch]; the
        features are the conditioner's, or `prepare`'s of them."""
        spread, given, *heard = self.prepare(features).embeddings
        mean = given[:, : x_t.shape[1]]
        t = t.to(x_t.dtype).expand(x_t.shape[0])
        a, s = alpha(t)[:, None, None], sigma(t)[:, None, None]
        scale = (a.square() * spread.square() + s.square()).sqrt()
        z = (x_t - a * mean) / scale
        inputs = torch.cat((z, given), dim=1)
        tokens = self.unet.correction(self.split(self.folded(inputs, 6)), self.time(t), heard)
        correction = self.merge(tokens, x_t.shape[-1]).flatten(1, 2)
        velocity: Tensor = (
            a * s * (1 - spread.square()) / scale * z - s * mean + spread / scale * correction
        )
        return velocity

    def folded(self, x: Tensor, features: int) -> Tensor:
        """[batch, features·width, frames] as a spectrum [batch, features, width, frames]."""
        return x.reshape(len(x), features, -1, x.shape[-1])

    def limited(self, spread: Tensor, mixture: Tensor) -> Tensor:
        """The spread with that of the low bands limited by what is heard there."""
        kept, limit = self.config.kept, self.config.spread_limit
        parts = []
        for r, m in zip(spread.chunk(2, dim=1), mixture.chunk(2, dim=1), strict=True):
            parts += [limit_spread(r[:, :kept], m[:, :kept], limit), r[:, kept:]]
        return torch.cat(parts, dim=1)
