"""Diff-DMX's generator: noisy vocals, a time and the conditioner's features give the velocity.

A 1-D U-Net of seven levels on the waveform. The conditioner's embeddings of the four deepest
levels are matched in width by a 1x1 convolution, once a chunk, and injected in the encoder and in
the decoder.

Source: arXiv 2511.21342, the section on the architecture; the velocity is its Eq. 2.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from solovox.networks.features import Features, PreparedFeatures
from solovox.networks.layers import Conv, to_image, to_sequence
from solovox.networks.unet import UNet, UNetConfig


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(UNetConfig):
    """Size of the generator.

    The paper states the widths, the factors, the blocks, the 1024 Fourier features, the levels
    with attention and those with injection. The rest is ours, chosen so that the parameters come
    out at its 15.9 M: the kernel, the groups, the heads, the time embedding's widths, one FiLM
    layer a level, skips that are added, and one matching convolution a level that serves encoder
    and decoder.
    """

    channels: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 128, 256, 256, 512)
    factors: tuple[int, ...] = (1, 2, 4, 1, 4, 1, 4)
    blocks: tuple[int, ...] = (1, 1, 1, 2, 2, 2, 2)
    condition_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024, 2048)  # the conditioner's
    injection_levels: int = 4  # how many of the deepest


class Generator(nn.Module):
    """Diff-DMX's generator (see the module's text)."""

    needs_mixture = False  # in the codec's space: the embeddings tell of it

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        levels = range(len(config.widths))
        self.injected = tuple(levels)[len(levels) - config.injection_levels :]
        self.match = nn.ModuleList(
            Conv(config.condition_widths[i], config.widths[i]) for i in self.injected
        )
        self.unet = UNet(config, self.injected)

    def prepare(self, features: Features) -> PreparedFeatures:
        """Return the features with their embeddings matched, which depends on neither x_t nor t.

        A sampler calls this once a chunk and hands the result to every step; `forward` takes
        either kind.
        """
        if isinstance(features, PreparedFeatures):
            return features
        embeddings = (features.embeddings[i] for i in self.injected)
        matched = tuple(
            to_sequence(match(to_image(embedding)))
            for match, embedding in zip(self.match, embeddings, strict=True)
        )
        return PreparedFeatures.of(features, matched)

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        """Return the velocity [batch, channels, samples].

        Args:
            x_t: noisy vocals [batch, channels, samples], at least one sample.
            t: diffusion time [batch], in [0, 1].
            features: the conditioner's for the mixture of these samples, or `prepare`'s of them.
        """
        velocity: Tensor = self.unet(x_t, t, self.prepare(features).embeddings)
        return velocity
