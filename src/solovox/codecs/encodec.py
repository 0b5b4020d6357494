"""EnCodec's continuous latents, by way of `transformers`: the quantiser is skipped.

    24 kHz, mono    75 frames a second   left and right are two items    [batch, 2·128, frames]
    48 kHz, stereo  150                  chunks of 1 s, each normalised  [batch, 128 + 1, frames]

The second model works on chunks of a second that overlap by 1 %; each is divided by its level (the
root mean square of left + right), encoded and decoded by itself, multiplied by the level and
crossfaded with triangular weights, as `transformers.EncodecModel` does it:

    samples   |---- 48000 ----|               47520 from chunk to chunk
              |          |----|----------|
    frames    |---- 150 ------|---- 150 ----|    chunk after chunk; the last may have fewer

A generated voice needs levels too. So the logarithm of a chunk's level is a channel more, the same
in all of its frames, and decoding takes its mean. That is ours: the paper does not say which of the
two it uses. The last chunk is as long as the audio, as in the published code; `transformers`'
feature extractor would fill it with zeros first. Source: Défossez et al. 2022; arXiv 2511.20470 for
the use of it.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from solovox.codecs.base import LatentCodec
from solovox.errors import ModelError, reason

LEAST_LEVEL = 1e-4  # added to a chunk's, -80 dB: silence has no logarithm


@dataclass(frozen=True)
class EncodecConfig:
    """An EnCodec model: where its weights are, and its architecture as `transformers` names it.

    Attributes:
        source: hub id or folder of the trained model. A checkpoint holds the codec's weights too,
            so it is asked for only where a model is begun (`load_codec_weights`).

    All others are those of `transformers.EncodecConfig`, every one, so that a model that differs in
    any of them is not taken for another.
    """

    source: str = "facebook/encodec_24khz"
    sampling_rate: int = 24000
    audio_channels: int = 1
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None
    norm_type: str = "weight_norm"
    use_causal_conv: bool = True
    use_conv_shortcut: bool = True
    pad_mode: str = "reflect"
    trim_right_ratio: float = 1.0
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    compress: int = 2
    num_filters: int = 32
    hidden_size: int = 128
    num_lstm_layers: int = 2
    num_residual_layers: int = 1
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    codebook_dim: int = 128
    codebook_size: int = 1024
    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)


ENCODEC_24K = EncodecConfig()
"""The published 24 kHz model: 7.4 M parameters each way, causal."""

ENCODEC_48K = EncodecConfig(
    source="facebook/encodec_48khz",
    sampling_rate=48000,
    audio_channels=2,
    normalize=True,
    chunk_length_s=1.0,
    overlap=0.01,
    norm_type="time_group_norm",
    use_causal_conv=False,
    target_bandwidths=(3.0, 6.0, 12.0, 24.0),
)
"""The published 48 kHz model."""


class Encoder(nn.Module):
    """Audio [batch, 2, samples] at the codec's rate → latents [batch, channels, frames].

    Args:
        config: the model.
        network: its encoder.
    """

    def __init__(self, config: EncodecConfig, network: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.network = network

    def forward(self, audio: Tensor) -> Tensor:
        """The latents as they are, not scaled; a level channel last where chunks are normalised."""
        c = self.config
        batch, _, samples = audio.shape
        items = audio.reshape(-1, c.audio_channels, samples)
        parts = []
        for start, end in chunks(c, samples):
            chunk = items[..., start:end]
            if c.normalize:
                mono = chunk.sum(dim=1, keepdim=True) / c.audio_channels
                level = mono.square().mean(dim=-1, keepdim=True).sqrt() + 1e-8
                x = self.network(chunk / level)
                log_level = torch.log(level + LEAST_LEVEL).expand(-1, 1, x.shape[-1])
                x = torch.cat((x, log_level.to(x.dtype)), dim=1)
            else:
                x = self.network(chunk)
            parts.append(x)
        return torch.cat(parts, dim=-1).reshape(batch, latent_channels(c), -1)


class Encodec(LatentCodec):
    """A trained EnCodec as the space of diffusion.

    Raises:
        ModelError: if `transformers` is not installed, or the architecture does not exist.
    """

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__(latent_channels(config))
        self.config = config
        self.sample_rate = config.sampling_rate
        whole = _network(config)
        self.encoder = Encoder(config, whole.encoder)
        self.decoder = cast(nn.Module, whole.decoder)

    def load_codec_weights(self) -> None:
        """Fetch the trained weights.

        Raises:
            ModelError: if they cannot be had or are of another architecture.
        """
        trained = pretrained(self.config)
        self.encoder.network.load_state_dict(trained.encoder.state_dict())
        self.decoder.load_state_dict(trained.decoder.state_dict())

    def frames(self, samples: int) -> int:
        """A frame every hop, chunk by chunk; what is left of a hop makes one more."""
        return sum(count for _, count in self._spans(samples))

    def latents(self, audio: Tensor) -> Tensor:
        """The encoder's output."""
        latents: Tensor = self.encoder(audio)
        return latents

    def audio(self, latents: Tensor, samples: int) -> Tensor:
        """The decoder's output, cut to `samples` samples."""
        c = self.config
        items = latents.reshape(2 * len(latents) // c.audio_channels, -1, latents.shape[-1])
        decoded, begin = [], 0
        for _, count in self._spans(samples):
            x = items[..., begin : begin + count]
            begin += count
            if c.normalize:
                level = torch.exp(x[:, -1:].mean(dim=-1, keepdim=True)) - LEAST_LEVEL
                decoded.append(self.decoder(x[:, :-1]) * level.clamp(min=0))
            else:
                decoded.append(self.decoder(x))
        joined = decoded[0] if len(decoded) == 1 else crossfaded(decoded, chunk_sizes(c)[1])
        return joined[..., :samples].reshape(len(latents), 2, samples)

    def _spans(self, samples: int) -> Iterator[tuple[int, int]]:
        """(first sample, frames) of each chunk."""
        hop = math.prod(self.config.upsampling_ratios)
        for start, end in chunks(self.config, samples):
            yield start, -(-(end - start) // hop)


def latent_channels(config: EncodecConfig) -> int:
    """Channels of a stereo song's latents."""
    items = 2 // config.audio_channels
    return items * (config.hidden_size + int(config.normalize))


def chunk_sizes(config: EncodecConfig) -> tuple[int, int]:
    """(samples of a chunk, samples from one to the next); (0, 0) for a model without chunks."""
    if config.chunk_length_s is None:
        return 0, 0
    chunk = int(config.chunk_length_s * config.sampling_rate)
    return chunk, max(1, int((1.0 - (config.overlap or 0.0)) * chunk))


def chunks(config: EncodecConfig, samples: int) -> list[tuple[int, int]]:
    """(start, end) of each chunk of so many samples."""
    chunk, stride = chunk_sizes(config)
    if not chunk:
        return [(0, samples)]
    return [(start, min(start + chunk, samples)) for start in range(0, samples, stride)]


def crossfaded(parts: list[Tensor], stride: int) -> Tensor:
    """Chunks [items, channels, samples] that begin `stride` apart, added with triangular weights
    that are divided by their sum."""
    # Decoded chunks are whole frames, so the last but one may end behind the last.
    total = max(i * stride + part.shape[-1] for i, part in enumerate(parts))
    position = torch.linspace(0, 1, parts[0].shape[-1] + 2, device=parts[0].device)[1:-1]
    weight = 0.5 - (position - 0.5).abs()
    out = parts[0].new_zeros(*parts[0].shape[:-1], total)
    sums = parts[0].new_zeros(out.shape[-1])
    for i, part in enumerate(parts):
        place = slice(i * stride, i * stride + part.shape[-1])
        out[..., place] += weight[: part.shape[-1]] * part
        sums[place] += weight[: part.shape[-1]]
    return out / sums


def encoder_copy(config: EncodecConfig) -> Encoder:
    """An encoder of its own, for a conditioner to train; its weights are random until
    `load_encoder_weights`."""
    return Encoder(config, _network(config).encoder)


def load_encoder_weights(encoder: Encoder) -> None:
    """Give an encoder the trained weights.

    Raises:
        ModelError: if they cannot be had.
    """
    encoder.network.load_state_dict(pretrained(encoder.config).encoder.state_dict())


def architecture(folder: str | Path) -> EncodecConfig:
    """The settings of an EnCodec model, in a folder or on the hub.

    Raises:
        ModelError: if there is none.
    """
    transformers = _transformers()
    try:
        if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
            raise OSError("it has no config.json")
        found = transformers.EncodecConfig.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise _missing(str(folder), error) from error
    names = [name for name in EncodecConfig.__dataclass_fields__ if name != "source"]
    values = {name: getattr(found, name) for name in names}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return EncodecConfig(source=str(folder), **values)


def pretrained(config: EncodecConfig) -> Any:
    """The trained `transformers.EncodecModel` of a configuration, from the hub or a folder.

    Raises:
        ModelError: if it cannot be had, or is of another architecture.
    """
    found = architecture(config.source)
    if {**asdict(found), "source": ""} != {**asdict(config), "source": ""}:
        raise ModelError(f"'{config.source}' is not the EnCodec model that is configured")
    try:
        return _transformers().EncodecModel.from_pretrained(config.source).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(config.source, error) from error


def _network(config: EncodecConfig) -> Any:
    transformers = _transformers()
    values = {name: value for name, value in asdict(config).items() if name != "source"}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    try:
        return transformers.EncodecModel(transformers.EncodecConfig(**values))
    except (ValueError, TypeError) as error:
        raise ModelError(f"there is no such EnCodec model: {error}") from error


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError("EnCodec needs transformers: pip install 'solovox[encodec]'") from error
    return transformers


def _missing(source: str, error: Exception) -> ModelError:
    return ModelError(
        f"cannot load the EnCodec model '{source}': {reason(error)}; give its folder, or go online"
    )
