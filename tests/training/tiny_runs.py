"""Runs small enough to be exact about: two systems of a few thousand weights, songs of tones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from solovox.codecs.lapped import LappedConfig
from solovox.codecs.waveform import WaveformConfig
from solovox.data.chunks import NONE
from solovox.networks.band_split import BandSplitConditionerConfig, BandSplitGeneratorConfig
from solovox.networks.conditioner import ConditionerConfig
from solovox.networks.generator import GeneratorConfig
from solovox.presets import ModelConfig, SamplingConfig
from solovox.training.config import TrainingConfig
from solovox.training.loop import Trainer
from solovox.training.run import Run

RATE = 8000
SIZES = {"widths": (8, 8, 16), "factors": (1, 2, 4), "groups": 2}

BANDS = ModelConfig(
    "tiny-bands",
    LappedConfig(RATE, bands=32),
    BandSplitConditionerConfig(RATE, hop=32, bands=6, widths=(8, 12), heads=2),
    BandSplitGeneratorConfig(
        RATE, bins=32, bands=6, widths=(8, 12), heads=2, condition_widths=(8, 12)
    ),
    normalise=True,
    chunk=2048,
    sampling=SamplingConfig(steps=1, start=0.3, eta=0.0, cutoff=1000),
)
WAVES = ModelConfig(
    "tiny-waves",
    WaveformConfig(RATE),
    ConditionerConfig(
        **SIZES,
        attention_levels=1,
        attention_heads=1,
        attention_head_width=8,
        transformer_layers=1,
        transformer_width=16,
        transformer_heads=2,
    ),
    GeneratorConfig(
        **SIZES,
        blocks=(1, 1, 1),
        attention_levels=1,
        attention_head_width=8,
        time_features=16,
        time_hidden=16,
        time_width=8,
        condition_widths=(8, 8, 16),
        injection_levels=1,
    ),
    chunk=1024,
    sampling=SamplingConfig(steps=1, cutoff=1000),
)
TINY = TrainingConfig(
    max_steps=8,
    batch_size=4,
    learning_rate=1e-3,
    warmup=2,
    ema=0.9,
    augment=NONE,
    log_every=2,
    save_every=3,
    validate_every=4,
    precision="fp32",
)


def write_songs(folder: Path, count: int, seconds: float = 1.0) -> None:
    """Songs of a tone in noise."""
    time = np.arange(round(seconds * RATE))[:, None] / RATE
    for song in range(count):
        rng = np.random.default_rng((count, song))
        noise = 0.1 * rng.standard_normal((len(time), 2)).astype(np.float32)
        tone = np.sin(2 * np.pi * rng.uniform(200, 400) * time)
        vocals = (0.3 * tone * [1.0, 0.7]).astype(np.float32)
        place = folder / f"song{song}"
        place.mkdir(parents=True)
        soundfile.write(place / "vocals.wav", vocals, RATE, subtype="FLOAT")
        soundfile.write(place / "mixture.wav", vocals + noise, RATE, subtype="FLOAT")


def tiny_run(data: Path, model: ModelConfig = BANDS, **changes: Any) -> Run:
    return Run(model, replace(TINY, **changes), str(data))


def train(run: Run, out: Path, **settings: Any) -> Trainer:
    """A run after it was trained to its end, resumed if it had begun."""
    trainer = Trainer(run, out, **{"workers": 0, **settings})
    trainer.resume()
    assert trainer.run()
    return trainer


def assert_same_state(a: Path, b: Path) -> None:
    """Bit for bit: weights, running mean, moments."""
    left, right = load_file(a), load_file(b)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def log_of(out: Path) -> list[dict[str, Any]]:
    """A run's log, without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "waiting")}
        for line in lines
    ]
