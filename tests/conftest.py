"""Models small enough to be exact about: formulas, or networks of a few thousand weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from browsing import chromium
from torch import Tensor, nn

from solovox.codecs.lapped import Lapped, LappedConfig
from solovox.codecs.waveform import Waveform, WaveformConfig
from solovox.diffusion.schedule import alpha, sigma
from solovox.model import SeparationModel
from solovox.networks.features import Features
from solovox.presets import ModelConfig, SamplingConfig

RATE = 8000


class Estimate(nn.Module):
    """A conditioner that takes a share of the mixture for vocals."""

    def __init__(self, share: float | None) -> None:
        super().__init__()
        self.share = share
        self.calls = 0

    def forward(self, mixture: Tensor) -> Features:
        self.calls += 1
        return Features((), () if self.share is None else (self.share * mixture,))


class Formula(nn.Module):
    """The exact velocity for x0 = formula(x_t, mixture)."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.calls = 0

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        self.calls += 1
        assert t.shape == (len(x_t),)
        t = t[:, None, None]
        return (alpha(t) * x_t - self.formula(x_t, features.mixture)) / sigma(t)


def make_oracle(
    gain: float = 0.5,
    *,
    estimate: float | None = 0.25,
    chunk: int = 800,
    formula: Callable[[Tensor, Tensor], Tensor] | None = None,
    sampling: SamplingConfig | None = None,
    normalise: bool = False,
    name: str = "oracle",
) -> SeparationModel:
    """A model that knows the vocals: `gain` times the mixture, or a formula of (x_t, mixture)."""
    sampling = sampling or SamplingConfig(steps=2, start=1.0, eta=0.4, cutoff=1000)
    codec = WaveformConfig(RATE)
    qualities = {"fast": replace(sampling, steps=0), "best": replace(sampling, steps=4)}
    config = ModelConfig(name, codec, None, None, normalise, chunk, 0.2, sampling, qualities)
    generator = Formula(formula or (lambda x_t, mixture: gain * mixture))
    return SeparationModel(config, Waveform(codec), Estimate(estimate), generator)


class Listener(nn.Module):
    """A conditioner of real layers: each sample of the estimate depends on its surroundings."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 16, 9, padding=4), nn.SiLU(), nn.Conv1d(16, 2, 9, padding=4)
        )

    def forward(self, mixture: Tensor) -> Features:
        return Features((), (self.layers(mixture).float(),))


class Singer(nn.Module):
    """A generator of real layers: convolution, normalisation, attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(3 * channels, 32, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.leave = nn.Conv1d(32, channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, features: Features) -> Tensor:
        x = self.norm(self.enter(torch.cat((x_t, features.mixture, features.mean), dim=1)))
        x = (x + t[:, None, None]).transpose(1, 2)
        return self.leave((x + self.attention(x, x, x)[0]).transpose(1, 2))


def make_network() -> SeparationModel:
    """A model of real layers in bands of the lapped transform."""
    sampling = SamplingConfig(steps=2, start=0.5, eta=0.4, cutoff=1000)
    codec = LappedConfig(sample_rate=RATE, bands=64)
    config = ModelConfig("network", codec, None, None, True, 4096, 0.2, sampling)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = (Lapped(codec), Listener(), Singer(128))
    return SeparationModel(config, *parts).eval()


@pytest.fixture
def oracle() -> Callable[..., SeparationModel]:
    return make_oracle


@pytest.fixture(scope="session")
def network() -> SeparationModel:
    return make_network()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running
