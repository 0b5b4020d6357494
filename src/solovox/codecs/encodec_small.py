"""A small codec of EnCodec's parts that is a lapped transform before it has learnt anything.

    audio ─ mid, side ─ strided conv ─► coefficients ─┬─► the lowest `kept` ───► + ─► latents
                                      [bands, frames] └─► units ─ LSTM ─ conv ─► +

    latents ─┬─► the lowest `kept`, zeros above ─► + ─► strided conv back ─► audio
             └─► units ─ LSTM ─ conv ────────────► +

Mid and side are two items of the same weights, as EnCodec's mono model takes the channels of a
stereo song. As in EnCodec the strided convolution has a kernel of twice its stride, residual units
are ELU → convolution → ELU → pointwise convolution, and a LSTM with a shortcut follows them.

Ours: one stride of `hop` in place of four, so that all learning happens at the frame rate, where a
CPU is fast; the strided convolution is the orthonormal lapped transform of `codecs.lapped` and
stays so; and a linear path leads past the network. Before training the low bands pass as they are
and the high ones are lost; training can only add: `learned` latents that tell of the high bands,
and a decoder that makes these anew. Source: Défossez et al. 2022 (EnCodec); `codecs.lapped`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.codecs.base import LatentCodec
from solovox.codecs.lapped import Lapped, LappedConfig


@dataclass(frozen=True)
class SmallEncodecConfig:
    """Settings of the small codec.

    Attributes:
        hop: samples a frame; the transform has as many bands.
        bands: the bands that are coded; what lies above is silence.
        kept: the low bands that are latents as they are.
        learned: latents beside them, a channel.
        encoder_width, decoder_width: channels of the residual units.
        dilations: one residual unit each, in encoder and decoder.
    """

    sample_rate: int = 44100
    hop: int = 512
    bands: int = 384
    kept: int = 192
    learned: int = 32
    encoder_width: int = 192
    decoder_width: int = 320
    dilations: tuple[int, ...] = (1, 2, 4)


class ResidualUnit(nn.Module):
    """EnCodec's residual unit on [batch, width, frames]: ELU → dilated convolution to half the
    width → ELU → pointwise convolution, added."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, width // 2, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The frames, refined."""
        y: Tensor = x + self.second(F.elu(self.first(F.elu(x))))
        return y


class Recurrence(nn.Module):
    """A LSTM along time with a shortcut, on [batch, width, frames]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The frames, each with what came before it in mind."""
        heard: Tensor = self.lstm(x.transpose(1, 2).float())[0]
        return x + heard.transpose(1, 2)


class Network(nn.Sequential):
    """Convolution → residual units → LSTM → ELU → convolution, which starts at zero."""

    def __init__(self, inputs: int, width: int, outputs: int, dilations: tuple[int, ...]) -> None:
        super().__init__(
            nn.Conv1d(inputs, width, 3, padding=1),
            *(ResidualUnit(width, dilation) for dilation in dilations),
            Recurrence(width),
            nn.ELU(),
            nn.Conv1d(width, outputs, 3, padding=1),
        )


class SmallEncodec(LatentCodec):
    """Stereo audio as latents [batch, 2·(kept + learned), frames], mid before side."""

    def __init__(self, config: SmallEncodecConfig) -> None:
        self.width = config.kept + config.learned
        super().__init__(2 * self.width)
        self.config = config
        self.sample_rate = config.sample_rate
        self.transform = Lapped(LappedConfig(config.sample_rate, config.hop))
        dilations = config.dilations
        self.encoder = Network(config.bands, config.encoder_width, self.width, dilations)
        self.decoder = Network(self.width, config.decoder_width, config.bands, dilations)
        with torch.no_grad():
            for network, rows in ((self.encoder, config.kept), (self.decoder, config.bands)):
                weight, bias = network[-1].parameters()
                weight[:rows] = 0
                bias.zero_()

    def frames(self, samples: int) -> int:
        """One frame every `hop` samples and one more for the overlap at the end."""
        return self.transform.frames(samples)

    def latents(self, audio: Tensor) -> Tensor:
        """The latents of audio [batch, 2, samples]."""
        c = self.config
        coefficients = self.transform.encode(audio).reshape(2 * len(audio), c.hop, -1)
        linear = F.pad(coefficients[:, : c.kept], (0, 0, 0, c.learned))
        learned = self.encoder(coefficients[:, : c.bands]).float()
        latents: Tensor = linear + learned
        return latents.reshape(len(audio), self.channels, -1)

    def audio(self, latents: Tensor, samples: int) -> Tensor:
        """The audio of latents, cut to `samples` samples."""
        c = self.config
        items = latents.reshape(2 * len(latents), self.width, -1)
        linear = F.pad(items[:, : c.kept], (0, 0, 0, c.bands - c.kept))
        coefficients = F.pad(linear + self.decoder(items).float(), (0, 0, 0, c.hop - c.bands))
        return self.transform.decode(coefficients.reshape(len(latents), 2 * c.hop, -1), samples)
