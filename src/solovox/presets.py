"""The models by name, as constants: the papers' and the bundled ones.

A model's configuration is plain frozen dataclasses. It travels with the weights as JSON, in which
every part names its kind; an unknown kind or key is an error, never ignored. A new codec,
conditioner or generator is one class and one line in a table here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import nn

from solovox.codecs.base import Codec
from solovox.codecs.encodec import (
    ENCODEC_24K,
    ENCODEC_48K,
    Encodec,
    EncodecConfig,
    Encoder,
    encoder_copy,
    load_encoder_weights,
)
from solovox.codecs.encodec_small import SmallEncodec, SmallEncodecConfig
from solovox.codecs.lapped import Lapped, LappedConfig
from solovox.codecs.waveform import Waveform, WaveformConfig
from solovox.errors import ModelError
from solovox.model import SeparationModel
from solovox.networks.band_split import (
    BandSplitConditioner,
    BandSplitConditionerConfig,
    BandSplitGenerator,
    BandSplitGeneratorConfig,
)
from solovox.networks.conditioner import Conditioner, ConditionerConfig
from solovox.networks.generator import Generator, GeneratorConfig
from solovox.networks.latent_bands import LatentBands, LatentBandsConfig
from solovox.networks.latent_unet import LatentConditioner, LatentUNet, LatentUNetConfig
from solovox.networks.nothing import Deaf, NothingConfig, Still
from solovox.settings import parse_settings


@dataclass(frozen=True)
class SamplingConfig:
    """How a model samples where the user does not say otherwise.

    Attributes:
        steps: passes of the generator; 0 returns the conditioner's own estimate.
        start: t at which sampling starts: 1 from noise, less from the estimate.
        eta: share of refinement noise.
        cutoff: of the refinement noise's high-pass in Hz, where 0 leaves it white; or a name of
            `diffusion.refinement.BANDS`.
        sampler: a name of `diffusion.sampling`.
        spacing: a name of `diffusion.schedule.SPACINGS`.
        takes: how often each chunk is sampled; the output is the mean.
    """

    steps: int = 50
    start: float = 1.0
    eta: float = 0.4
    cutoff: float | str = 5000.0
    sampler: str = "ddim"
    spacing: str = "uniform"
    takes: int = 1


QUALITIES = ("fast", "balanced", "best")


@dataclass(frozen=True)
class LatentConditionerConfig(EncodecConfig):
    """The settings of a conditioner that is a copy of EnCodec's encoder: the codec's own."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to build a model and to run it.

    Attributes:
        name: the model's name, also of its output folder.
        codec, conditioner, generator: the parts' settings.
        normalise: whether mixtures are brought to level one (`SeparationModel.level`).
        chunk: samples separated at once.
        overlap: share of a chunk that crossfades with the next.
        sampling: defaults of the sampler, which are the quality "balanced".
        precision: of `Separator` where the user does not say: "auto", or "fp32" where bf16 changes
            the vocals too much (benchmarks/quality.py).
        qualities: the other named settings, "fast" and "best", where the model has them.
        stems: how stems are made where the user does not say, a name of `stems.RULES`.
        give_back: whether vocals that are sampled from the estimate get back what the codec loses
            of it (`SeparationModel.lost`).
    """

    name: str
    codec: Any
    conditioner: Any
    generator: Any
    normalise: bool = False
    chunk: int = 3 * 44100
    overlap: float = 0.2
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    qualities: Mapping[str, SamplingConfig] = field(default_factory=dict, hash=False)
    stems: str = "exact"
    precision: str = "auto"
    give_back: bool = False

    def sampling_of(self, quality: str | None) -> SamplingConfig:
        """The sampler's settings of a named quality; None is the model's defaults.

        Raises:
            ModelError: if the model has no such quality.
        """
        qualities = {"balanced": self.sampling, **self.qualities}
        if quality is None:
            return self.sampling
        if quality not in qualities:
            names = ", ".join(name for name in QUALITIES if name in qualities)
            raise ModelError(f"{self.name} has no quality '{quality}'; it has: {names}")
        return qualities[quality]


def _latent_conditioner(config: LatentConditionerConfig) -> LatentConditioner:
    return LatentConditioner(encoder_copy(config))


CODECS: dict[str, tuple[type, Callable[[Any], Codec]]] = {
    "waveform": (WaveformConfig, Waveform),
    "lapped": (LappedConfig, Lapped),
    "encodec": (EncodecConfig, Encodec),
    "encodec-small": (SmallEncodecConfig, SmallEncodec),
}
CONDITIONERS: dict[str, tuple[type, Callable[[Any], nn.Module]]] = {
    "diff-dmx": (ConditionerConfig, Conditioner),
    "band-split": (BandSplitConditionerConfig, BandSplitConditioner),
    "encodec": (LatentConditionerConfig, _latent_conditioner),
    "none": (NothingConfig, Deaf),
}
GENERATORS: dict[str, tuple[type, Callable[[Any], nn.Module]]] = {
    "diff-dmx": (GeneratorConfig, Generator),
    "band-split": (BandSplitGeneratorConfig, BandSplitGenerator),
    "latent-unet": (LatentUNetConfig, LatentUNet),
    "latent-bands": (LatentBandsConfig, LatentBands),
    "none": (NothingConfig, Still),
}
_PARTS: dict[str, dict[str, tuple[type, Callable[[Any], Any]]]] = {
    "codec": CODECS,
    "conditioner": CONDITIONERS,
    "generator": GENERATORS,
}

MOST, MOST_LEVELS = 1 << 20, 64  # no honest configuration comes near
MOST_CHUNK = 1 << 23  # samples, three minutes

DIFF_DMX = ModelConfig(
    "diff-dmx",
    WaveformConfig(),
    ConditionerConfig(),
    GeneratorConfig(),
    qualities={"fast": SamplingConfig(steps=20), "best": SamplingConfig(takes=4)},
)
"""Diff-DMX-RT at paper size: 99 M parameters (arXiv 2511.21342). T = 20 costs it 0.5 dB there."""

DIFF_DMX_PLAIN = replace(
    DIFF_DMX,
    name="diff-dmx-plain",
    conditioner=ConditionerConfig(attention_levels=0, transformer_layers=0),
)
"""Diff-DMX without attention and transformer in the conditioner: 71 M parameters."""

DIFF_DMX_SMALL = ModelConfig(
    "diff-dmx-small",
    LappedConfig(),
    BandSplitConditionerConfig(),
    BandSplitGeneratorConfig(),
    normalise=True,
    chunk=1176 * 512,
    overlap=0.1,
    sampling=SamplingConfig(steps=1, start=0.1, eta=0.0),
    qualities={
        "fast": SamplingConfig(steps=0, start=0.1, eta=0.0),
        "best": SamplingConfig(steps=1, start=0.1, eta=0.0, takes=4),
    },
)
"""The model that ships: the same system, small enough for a laptop."""

ENCODEC_SMALL = ModelConfig(
    "encodec-small",
    SmallEncodecConfig(),
    NothingConfig(),
    NothingConfig(),
    normalise=True,
    chunk=65536,
)
"""The codec of ldm-dmx-small by itself: to be trained and measured, not to separate with."""

LDM_DMX_24K = ModelConfig(
    "ldm-dmx-24k",
    ENCODEC_24K,
    LatentConditionerConfig(**vars(ENCODEC_24K)),
    LatentUNetConfig(items=2),
    chunk=1024 * 320,
    overlap=0.1,
    sampling=SamplingConfig(steps=50, start=1.0, eta=0.0, cutoff=0.0),
    stems="wiener",
)
"""LDM-dmx on EnCodec's 24 kHz model, left and right as two items (arXiv 2511.20470)."""

LDM_DMX_48K = replace(
    LDM_DMX_24K,
    name="ldm-dmx-48k",
    codec=ENCODEC_48K,
    conditioner=LatentConditionerConfig(**vars(ENCODEC_48K)),
    generator=LatentUNetConfig(channels=129, condition_channels=129),
    chunk=2048 * 320,
)
"""LDM-dmx on EnCodec's 48 kHz stereo model; the 129th channel is the level of its chunks."""

LDM_DMX_SMALL = ModelConfig(
    "ldm-dmx-small",
    SmallEncodecConfig(),
    BandSplitConditionerConfig(kept=192, learned=32),
    LatentBandsConfig(),
    normalise=True,
    give_back=True,
    chunk=602112,
    overlap=0.1,
    sampling=SamplingConfig(steps=1, start=0.1, eta=0.0, cutoff=0.0),
    qualities={
        "fast": SamplingConfig(steps=0, start=0.1, eta=0.0, cutoff=0.0),
        "best": SamplingConfig(steps=1, start=0.1, eta=0.0, cutoff=0.0, takes=4),
    },
)
"""The latent model that ships: chunks of 13.65 s, and a prior as in diff-dmx-small."""

PRESETS: dict[str, ModelConfig] = {
    preset.name: preset
    for preset in (
        DIFF_DMX,
        DIFF_DMX_PLAIN,
        DIFF_DMX_SMALL,
        LDM_DMX_24K,
        LDM_DMX_48K,
        LDM_DMX_SMALL,
        ENCODEC_SMALL,
    )
}


def build_model(preset: ModelConfig | str) -> SeparationModel:
    """A model with fresh weights.

    Args:
        preset: a configuration, or a name of PRESETS.

    Raises:
        ModelError: if there is no preset of that name.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ModelError(f"no preset '{preset}'; there are: {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    codec, conditioner, generator = (
        _constructor(part, getattr(preset, part)) for part in ("codec", "conditioner", "generator")
    )
    return SeparationModel(preset, codec, conditioner, generator)


def load_pretrained(model: SeparationModel) -> None:
    """Give a fresh model EnCodec's weights, in the codec and in the conditioner.

    Raises:
        ModelError: if they cannot be had.
    """
    if isinstance(model.codec, Encodec):
        model.codec.load_codec_weights()
    encoder = getattr(model.conditioner, "encoder", None)
    if isinstance(encoder, Encoder):
        load_encoder_weights(encoder)


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """A configuration as JSON values; each part names its kind."""
    plain = asdict(config)
    for part, table in _PARTS.items():
        settings = getattr(config, part)
        kind = next(kind for kind, (cls, _) in table.items() if type(settings) is cls)
        plain[part] = {"kind": kind, **plain[part]}
    return plain


def config_from_json(values: dict[str, Any]) -> ModelConfig:
    """The configuration that JSON values describe.

    Raises:
        ModelError: if a kind or a key is unknown, or one is missing.
    """
    if not isinstance(values, dict):
        raise ModelError("a model's configuration must have named settings")
    values = dict(values)
    for part, table in _PARTS.items():
        settings = values.get(part)
        settings = dict(settings) if isinstance(settings, dict) else {}
        kind = settings.pop("kind", None)
        if not isinstance(kind, str) or kind not in table:
            raise ModelError(
                f"unknown kind of {part} {str(kind)[:40]!r}; there are: {', '.join(table)}"
            )
        values[part] = parse_settings(table[kind][0], settings, part)
        _check_sizes(vars(values[part]), part)
    values["sampling"] = parse_settings(SamplingConfig, values.get("sampling", {}), "sampling")
    qualities = values.get("qualities", {})
    if not isinstance(qualities, dict) or not set(qualities) <= set(QUALITIES):
        raise ModelError(f"qualities must be named: {', '.join(QUALITIES)}")
    values["qualities"] = {
        name: parse_settings(SamplingConfig, settings, f"quality '{name}'")
        for name, settings in qualities.items()
    }
    config = parse_settings(ModelConfig, values, "model")
    if not 0 < len(config.name) <= 100 or not config.name.isprintable():
        raise ModelError("a model's name must be of 1 to 100 letters")
    if not 0 < config.chunk <= MOST_CHUNK or not 0 <= config.overlap <= 0.5:
        raise ModelError(
            f"a chunk must be of 1 to {MOST_CHUNK} samples and overlap by 0 to 0.5, not "
            f"{config.chunk} and {config.overlap}"
        )
    return config


def _check_sizes(settings: Mapping[str, Any], part: str) -> None:
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        numbers = [item for item in values if isinstance(item, int)]
        if len(values) > MOST_LEVELS or any(not 0 <= number <= MOST for number in numbers):
            raise ModelError(
                f"{name} of the {part} does not fit: at most {MOST_LEVELS} values of 0 to {MOST}"
            )


def _constructor(part: str, settings: Any) -> Any:
    for cls, build in _PARTS[part].values():
        if type(settings) is cls:
            return build(settings)
    raise ModelError(f"no {part} takes a {type(settings).__name__}")
