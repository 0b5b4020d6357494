"""Layers that the waveform and the latent networks share.

Sequences travel as images of height one, [batch, channels, 1, length]: the same weights then run
in either memory layout, and on a CPU the two-dimensional kernels are the faster ones. Measured on
one Zen 4 thread, 32 channels x 131072: a channels-last convolution of kernel 3 takes half the
time, a resampling convolution (kernel = stride = 4) a fifth to an eighth. The backward pass of the
group norm is up to ten times slower in channels-last, so that layout is used only where no
gradient is wanted: see `to_image`.

Rotary position embedding: Su et al. 2021, "RoFormer", Eq. 34. FiLM: Perez et al. 2018, Eq. 1.
Random Fourier features: Tancik et al. 2020, Eq. 4.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_ROTARY_BASE = 10_000.0


def to_image(x: Tensor) -> Tensor:
    """Return [batch, channels, length] as an image of height one, in the fastest layout."""
    layout = torch.contiguous_format if torch.is_grad_enabled() else torch.channels_last
    return x.unsqueeze(2).contiguous(memory_format=layout)


def to_sequence(x: Tensor) -> Tensor:
    """Return an image of height one [batch, channels, 1, length] as [batch, channels, length]."""
    return x.squeeze(2)


def pad_right(x: Tensor, multiple: int) -> Tensor:
    """Return x [..., length] with zeros after its end, up to a length that `multiple` divides.

    |<------ length ------>|<- zeros ->|
    |  multiple |  multiple |  multiple |
    """
    return F.pad(x, (0, -x.shape[-1] % multiple))


def run(module: nn.Module, *inputs: Any, checkpointed: bool) -> Tensor:
    """Return module(*inputs); if checkpointed, activations are computed anew backwards."""
    if checkpointed and torch.is_grad_enabled():
        return checkpoint(module, *inputs, use_reentrant=False)  # type: ignore[no-any-return]
    return module(*inputs)  # type: ignore[no-any-return]


class Conv(nn.Conv2d):
    """A convolution along time.

    Kernel = stride resamples; an odd kernel with stride 1 keeps the length.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            inputs, outputs, (1, kernel), (1, stride), padding=(0, (kernel - stride) // 2)
        )


def downsample(inputs: int, outputs: int, factor: int) -> nn.Module:
    """Return a convolution with kernel = stride = factor; nothing where no shape changes."""
    return (
        nn.Identity()
        if factor == 1 and inputs == outputs
        else Conv(inputs, outputs, factor, factor)
    )


def upsample(inputs: int, outputs: int, factor: int) -> nn.Module:
    """Return the transposed convolution that undoes `downsample`'s change of shape."""
    if factor == 1 and inputs == outputs:
        return nn.Identity()
    return nn.ConvTranspose2d(inputs, outputs, (1, factor), (1, factor))


def rotate(x: Tensor) -> Tensor:
    """Return queries or keys turned by angles that grow with position (rotary embedding).

    The product of a turned query and a turned key depends on their distance, not on their
    positions.

    Args:
        x: [batch, heads, length, width], width even.
    """
    cos, sin = _turns(*x.shape[-2:], x.device)
    real, imaginary = x.float().chunk(2, dim=-1)  # bfloat16 cannot tell late positions apart
    turned = torch.cat((real * cos - imaginary * sin, real * sin + imaginary * cos), dim=-1)
    return turned.to(x.dtype)


@lru_cache(maxsize=16)
def _turns(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, width / 2] of the angles by which `rotate` turns."""
    with torch.inference_mode(False):  # what is kept may be wanted for training later
        pair = torch.arange(width // 2, device=device, dtype=torch.float32)
        speed = _ROTARY_BASE ** (-2 * pair / width)
        angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * speed
        return angle.cos(), angle.sin()


class Attention(nn.Module):
    """Residual self-attention over time with rotary positions, on tokens [batch, length, width]."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after each has looked at all."""
        batch, length, _ = tokens.shape
        qkv = self.qkv(self.norm(tokens)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, length, head_width]
        heard = F.scaled_dot_product_attention(rotate(query), rotate(key), value)
        mixed: Tensor = self.out(heard.transpose(1, 2).flatten(2))
        return tokens + mixed


class ImageAttention(Attention):
    """The same attention on images of height one [batch, channels, 1, length]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x after each moment has looked at all; channels-last needs no copy."""
        return super().forward(x.squeeze(2).transpose(1, 2)).transpose(1, 2).unsqueeze(2)


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer on tokens: rotary attention, then a GELU MLP."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, width // heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Linear(expansion * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after one layer."""
        tokens = self.attention(tokens)
        update: Tensor = self.mlp(tokens)
        return tokens + update


class TimeEmbedding(nn.Module):
    """Diffusion time t as a vector: random Fourier features, then a three-layer MLP with GELU.

    The frequencies are drawn once, from a normal distribution of `spread` cycles over t in [0, 1],
    and saved with the weights.
    """

    frequencies: Tensor

    def __init__(self, features: int, hidden: int, width: int, spread: float) -> None:
        super().__init__()
        # As for the window of `BandSplitConditioner`: no arithmetic on the meta device.
        frequencies = spread * torch.randn(features // 2, device="cpu")
        self.register_buffer("frequencies", frequencies)
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )

    def forward(self, t: Tensor) -> Tensor:
        """Return [batch, width] for t [batch]."""
        angle = 2 * math.pi * t[:, None] * self.frequencies
        embedding: Tensor = self.mlp(torch.cat((angle.cos(), angle.sin()), dim=-1))
        return embedding


class FiLM(nn.Module):
    """Scale and shift of each channel for (1 + scale)·h + shift, from the time embedding."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * channels)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift, each [batch, channels, 1, 1], for embeddings [batch, inputs]."""
        scale, shift = self.linear(embedding)[:, :, None, None].chunk(2, dim=1)
        return scale, shift
