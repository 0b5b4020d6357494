"""The small model: one U-Net of band tokens, twice, as conditioner and as generator.

A spectrum [batch, features, bins, frames] is cut into bands that are narrow at low and wide at high
frequencies (mel scale), and `patch` frames of a band become one token. 2-D convolutions over bands
× time share their weights over both: what is learnt of a voice at one pitch serves at the next.
Source of the split: Luo & Yu 2023 (BSRNN).

Conditioner. Log-magnitudes of left, right, mid and side → tokens → a bounded mask on mid and side →
the one-pass estimate μ, and the spread r, the standard deviation of its error in each coefficient
of the codec. As in Diff-DMX it hands one embedding a level to the generator.

Generator. With x0 ~ N(μ, r²) the best velocity is known in closed form, so the network learns only
what is left:

    x̂0 = μ + (alpha·r²/w)·z,   z = (x_t - alpha·μ)/w,   w² = alpha²·r² + sigma²
    v  = (alpha·x_t - x̂0)/sigma + (r/w)·net(z, μ, r, t)
       = alpha·sigma·(1 - r²)/w·z - sigma·μ + (r/w)·net(z, μ, r, t)

With the true spread, input and target of `net` have unit variance at every t and in every
coefficient, in the manner of Karras et al. 2022 (EDM). Where the conditioner is sure (r → 0, nobody
sings), the generator cannot add a voice.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.diffusion.schedule import alpha, sigma
from solovox.networks.features import Features, PreparedFeatures
from solovox.networks.layers import Attention, FiLM, TimeEmbedding
from solovox.stereo import mid_side


@dataclass(frozen=True)
class BandSplitConditionerConfig:
    """Settings of the small model's conditioner.

    Attributes:
        hop: samples from frame to frame, as in the codec; the spectrogram's window is four times as
            long.
        bands: bands of the split.
        patch: frames a token.
        widths: channels of the tokens, level by level.
        blocks: residual blocks a level.
        heads: attention heads at the deepest level.
        kept, learned: of a codec whose channels are the transform's lowest `kept` bands and so many
            learnt latents (`networks.latent_bands`); 0 where they are the bands of the transform.
    """

    sample_rate: int = 44100
    hop: int = 512
    bands: int = 60
    patch: int = 2
    widths: tuple[int, ...] = (64, 128, 192, 256)
    blocks: int = 1
    heads: int = 4
    kept: int = 0
    learned: int = 0


@dataclass(frozen=True)
class BandSplitGeneratorConfig:
    """Settings of the small model's generator; names as in the conditioner.

    Attributes:
        bins: bands of the codec a channel.
        condition_widths: channels of the conditioner's embeddings, level by level.
        spread_limit: largest spread, as a share of the mixture's level around the coefficient.
    """

    sample_rate: int = 44100
    bins: int = 512
    bands: int = 60
    patch: int = 2
    widths: tuple[int, ...] = (64, 96, 128, 192)
    blocks: int = 1
    heads: int = 4
    condition_widths: tuple[int, ...] = (64, 128, 192, 256)
    spread_limit: float = 0.5


def mel_band_edges(bins: int, bands: int, sample_rate: int) -> list[int]:
    """The bands + 1 edges of a split of `bins` linear bins into bands of equal width in mel, each
    at least one bin."""

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    step = mel(sample_rate / 2) / bands
    edges = [0]
    for band in range(1, bands + 1):
        hertz = 700 * (math.exp(band * step / 1127) - 1)
        ideal = round(hertz * bins / (sample_rate / 2))
        edges.append(min(max(ideal, edges[-1] + 1), bins - (bands - band)))
    return edges


LEARNED_BAND = 8  # learnt latents that make up one band


def latent_band_edges(edges: list[int], kept: int, learned: int) -> list[int]:
    """The edges of a split of `kept` bins, cut as `edges` say, and `learned` latents after them."""
    low = [edge for edge in edges if edge < kept]
    return [*low, *range(kept, kept + learned, LEARNED_BAND), kept + learned]


class BandSplit(nn.Module):
    """A spectrum [batch, features, bins, frames] → tokens [batch, width, bands, ⌈frames/patch⌉]."""

    def __init__(self, edges: list[int], features: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.values = [(high - low) * features * patch for low, high in pairwise(edges)]
        self.embed = nn.ModuleList(nn.Linear(values, width) for values in self.values)

    def forward(self, spectrum: Tensor) -> Tensor:
        """The tokens of a spectrum."""
        batch, features, bins, frames = spectrum.shape
        spectrum = F.pad(spectrum, (0, -frames % self.patch))
        rows = spectrum.reshape(batch, features, bins, -1, self.patch).permute(0, 3, 2, 1, 4)
        rows = rows.reshape(batch, rows.shape[1], -1)  # a frame's values lie band after band
        bands = torch.split(rows, self.values, dim=2)
        tokens = [embed(band) for embed, band in zip(self.embed, bands, strict=True)]
        return torch.stack(tokens, dim=1).permute(0, 3, 1, 2)


class BandMerge(nn.Module):
    """Tokens [batch, width, bands, tokens] → a spectrum [batch, features, bins, frames]."""

    def __init__(self, edges: list[int], features: int, patch: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.patch = patch
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * width)
        self.unfold = nn.ModuleList(
            nn.Linear(2 * width, (high - low) * features * patch) for low, high in pairwise(edges)
        )

    def forward(self, tokens: Tensor, frames: int) -> Tensor:
        """The spectrum of tokens, cut to `frames` frames."""
        rows = tokens[:, :, : len(self.unfold)].permute(0, 2, 3, 1)
        batch, _, steps, _ = rows.shape
        hidden = F.gelu(self.hidden(self.norm(rows)))
        bands = [
            unfold(band) for unfold, band in zip(self.unfold, hidden.unbind(dim=1), strict=True)
        ]
        spectrum = torch.cat(bands, dim=2).float()
        spectrum = spectrum.reshape(batch, steps, -1, self.features, self.patch)
        spectrum = spectrum.permute(0, 3, 2, 1, 4).flatten(3)
        return spectrum[..., :frames]


def channel_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Layer norm over the channels of [batch, channels, bands, tokens], which lie last in
    memory."""
    rows = x.permute(0, 2, 3, 1)
    return F.layer_norm(rows, rows.shape[-1:], gain, shift).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + 2 × (norm → SiLU → 3×3 convolution), with FiLM from the time embedding before the second
    convolution."""

    def __init__(self, width: int, time_width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2, width))
        self.shift = nn.Parameter(torch.zeros(2, width))
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = FiLM(time_width, width) if time_width else None
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """The tokens, refined; `time` is [batch, time_width]."""
        h = self.first(F.silu(channel_norm(x, self.gain[0], self.shift[0])))
        h = channel_norm(h, self.gain[1], self.shift[1])
        if self.film is not None and time is not None:
            scale, shift = self.film(time)
            h = h * (1 + scale) + shift
        y: Tensor = x + self.second(F.silu(h))
        return y


class Blocks(nn.ModuleList):
    """Residual blocks one after the other."""

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """The tokens, refined by each block in turn."""
        for block in self:
            x = block(x, time)
        return x


class TimeAttention(Attention):
    """Self-attention along time, each band by itself, on [batch, width, bands, tokens]."""

    def forward(self, x: Tensor) -> Tensor:
        """The tokens after each has looked at all of its band."""
        rows = x.permute(0, 2, 3, 1)
        return super().forward(rows.flatten(0, 1)).reshape(rows.shape).permute(0, 3, 1, 2)


class BandUNet(nn.Module):
    """A U-Net over tokens [batch, width, bands, tokens]; bands and tokens halve from level to
    level.

    The same class serves the conditioner, whose decoder levels are its embeddings, and the
    generator, which takes those embeddings in its encoder, level by level, each by a pointwise
    convolution of `inject`, and is modulated by time.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: int,
        heads: int,
        time_width: int = 0,
        condition_widths: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        pairs = list(pairwise(widths))

        def level(width: int) -> Blocks:
            return Blocks([ResidualBlock(width, time_width) for _ in range(blocks)])

        self.encoder = nn.ModuleList(level(width) for width in widths)
        self.decoder = nn.ModuleList(level(width) for width in widths[:-1])
        self.attention = TimeAttention(widths[-1], heads, widths[-1] // heads)
        self.bottom = level(widths[-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.skip = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a in widths[:-1])
        self.inject = nn.ModuleList(
            nn.Conv2d(c, w, 1)
            for c, w in zip(condition_widths, widths, strict=bool(condition_widths))
        )

    def injected(self, embeddings: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What is added to the encoder's tokens, level by level."""
        return tuple(
            inject(embedding) for inject, embedding in zip(self.inject, embeddings, strict=True)
        )

    def forward(
        self, x: Tensor, time: Tensor | None = None, injected: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, ...]:
        """The decoder's tokens level by level, the finest first."""
        bands, steps = x.shape[2:]
        x = F.pad(x, (0, -steps % self.stride, 0, -bands % self.stride))
        skips: list[Tensor] = []
        for depth, blocks in enumerate(self.encoder):
            if depth:
                skips.append(x)
                x = self.down[depth - 1](x)
            if injected:
                x = x + injected[depth]
            x = blocks(x, time)
        x = self.bottom(self.attention(x), time)
        levels = [x]
        for depth in reversed(range(len(self.decoder))):
            x = self.skip[depth](torch.cat((self.up[depth](x), skips[depth]), dim=1))
            x = self.decoder[depth](x, time)
            levels.append(x)
        levels.reverse()
        return tuple(levels)


class BandSplitConditioner(nn.Module):
    """The one-pass estimate of the vocals by a bounded mask on the mixture's mid and side, and its
    spread."""

    window: Tensor

    def __init__(self, config: BandSplitConditionerConfig) -> None:
        super().__init__()
        self.hop = config.hop
        # On the meta device it would make torch import its compiler, which takes a second.
        window = torch.hann_window(4 * config.hop, device="cpu")
        self.register_buffer("window", window, persistent=False)
        # The spectrogram has two bins for each band of the codec, and one more, at Nyquist, which
        # is left out.
        edges = mel_band_edges(config.hop, config.bands, config.sample_rate)
        fine = [2 * edge for edge in edges]
        width = config.widths[0]
        self.split = BandSplit(fine, 4, config.patch, width)
        self.unet = BandUNet(config.widths, config.blocks, config.heads)
        self.mask = BandMerge(fine, 2, config.patch, width)
        if config.kept:
            edges = latent_band_edges(edges, config.kept, config.learned)
        self.log_spread = BandMerge(edges, 2, config.patch, width)

    def forward(self, mixture: Tensor) -> Features:
        """Embeddings, estimate and spread for a mixture [batch, 2, samples] of level one."""
        batch, _, samples = mixture.shape
        # Frame i is centred on sample i·hop, and the last one lies at or behind the end, as in the
        # codec.
        padded = F.pad(mixture.flatten(0, 1), (2 * self.hop, 2 * self.hop + -samples % self.hop))
        spectrum = torch.stft(
            padded,
            n_fft=4 * self.hop,
            hop_length=self.hop,
            window=self.window,
            center=False,
            normalized=True,
            return_complex=True,
        ).reshape(batch, 2, 2 * self.hop + 1, -1)
        middle = mid_side(spectrum, dim=1)
        magnitude = torch.cat((spectrum, middle), dim=1)[:, :, :-1].abs()
        levels = self.unet(self.split(0.3 * torch.log(magnitude + 1e-4) + 1))
        frames = spectrum.shape[-1]
        mask = F.pad(torch.sigmoid(self.mask(levels[0], frames)), (0, 0, 0, 1))
        estimate = torch.istft(
            mid_side(mask * middle, dim=1).flatten(0, 1),
            n_fft=4 * self.hop,
            hop_length=self.hop,
            window=self.window,
            normalized=True,
            length=samples,
        ).reshape(batch, 2, samples)
        # The spread is learnt about the estimate as it is; its loss does not turn the trunk.
        log_spread = self.log_spread(levels[0].detach(), frames)
        spread = torch.exp(log_spread.clamp(-6, 3) - 1.5)
        return Features(embeddings=levels, estimates=(estimate,), spread=spread.flatten(1, 2))


LEAST_TOLD = 1e-4  # no generator has learnt from smaller spreads


def told_spread(spread: Tensor) -> Tensor:
    """A spread as generators take it: its logarithm, near zero."""
    return torch.log(spread.clamp(min=LEAST_TOLD)) + 2


def limit_spread(spread: Tensor, mixture: Tensor, limit: float) -> Tensor:
    """The spread [batch, channels, frames], at most `limit` times the mixture's level there.

    A rule of thumb against hiss: the spread knows bands only, and without the limit sampling fills
    the gaps between harmonics. It is no bound on the error, for vocals and accompaniment may
    cancel; where it binds, what the network sees and learns has more than unit variance. The level
    is taken over three frames, since a coefficient alone may vanish by its phase.
    """
    level = F.avg_pool1d(mixture.square(), 3, stride=1, padding=1).sqrt()
    return torch.minimum(spread, limit * level + 1e-6)


class BandSplitGenerator(nn.Module):
    """The velocity around the conditioner's Gaussian prior, in the lapped transform's space."""

    def __init__(self, config: BandSplitGeneratorConfig) -> None:
        super().__init__()
        edges = mel_band_edges(config.bins, config.bands, config.sample_rate)
        width = config.widths[0]
        time_width = 2 * width
        self.bins = config.bins
        self.spread_limit = config.spread_limit
        self.time = TimeEmbedding(256, time_width, time_width, spread=2.0)
        self.split = BandSplit(edges, 8, config.patch, width)
        self.unet = BandUNet(
            config.widths, config.blocks, config.heads, time_width, config.condition_widths
        )
        self.merge = BandMerge(edges, 2, config.patch, width)
        for parameter in self.merge.unfold.parameters():
            nn.init.zeros_(parameter)

    def prepare(self, features: Features) -> PreparedFeatures:
        """The features with what depends on neither x_t nor t, as embeddings: the limited spread,
        the inputs beside z, [batch, 6·bins, frames], and what is injected, level by level.

        A sampler calls this once a chunk and hands the result to every step; `forward` takes
        either kind.
        """
        if isinstance(features, PreparedFeatures):
            return features
        if features.mean is None or features.spread is None or features.mixture is None:
            raise ValueError("the band-split generator needs a prior and the mixture")
        spread = limit_spread(features.spread.detach(), features.mixture, self.spread_limit)
        given = torch.cat((features.mean.detach(), told_spread(spread), features.mixture), dim=1)
        injected = self.unet.injected(features.embeddings)
        return PreparedFeatures.of(features, (spread, given, *injected))

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """The velocity at x_t [batch, 2·bins, frames] and t, a scalar or [batch]; the features are
        the conditioner's, or `prepare`'s of them."""
        spread, given, *injected = self.prepare(features).embeddings
        mean = given[:, : x_t.shape[1]]
        t = t.to(x_t.dtype).expand(x_t.shape[0])
        a, s = alpha(t)[:, None, None], sigma(t)[:, None, None]
        scale = (a.square() * spread.square() + s.square()).sqrt()
        z = (x_t - a * mean) / scale
        inputs = torch.cat((z, given), dim=1)
        tokens = self.split(inputs.reshape(len(x_t), 8, self.bins, -1))
        tokens = self.unet(tokens, self.time(t), tuple(injected))[0]
        correction = self.merge(tokens, x_t.shape[-1]).flatten(1, 2)
        velocity: Tensor = (
            a * s * (1 - spread.square()) / scale * z - s * mean + spread / scale * correction
        )
        return velocity
