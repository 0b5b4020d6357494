"""Validation on whole songs, separated as a user would: uSDR and multi-resolution STFT distance.

The mixture's own scores are what doing nothing reaches. Songs in which nobody sings (vocals under
-80 dB) have no such scores and do not count. Several processes share the songs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from solovox.coding import Coder
from solovox.data.chunks import whole_songs
from solovox.data.index import find_songs
from solovox.errors import DataError
from solovox.evaluation.metrics import is_silent, multi_resolution_stft, usdr
from solovox.separator import Separator

METRICS = ("usdr", "multi_resolution_stft", "mixture_usdr", "mixture_multi_resolution_stft")
EXCERPT_SECONDS = 10

Audio = npt.NDArray[np.float32]
Scores = dict[str, dict[str, float]]
"""Song → metric of METRICS → score; NaN where there is none."""


@dataclass(frozen=True)
class Excerpt:
    """Where the first song is sung loudest, to listen to; each [2, samples]."""

    sample_rate: int
    mixture: Audio
    vocals: Audio
    estimate: Audio


def song_names(songs: Path) -> list[str]:
    """The songs of a folder that can be validated on, in the order of `validate`.

    Raises:
        DataError: if there are none.
    """
    names = [song.name for song in find_songs(songs) if song.paired]
    if not names:
        raise DataError(f"{songs}: no song has both vocals and a mixture to validate on; add one")
    return names


def validate(
    system: Separator | Coder,
    songs: Path,
    rank: int = 0,
    world: int = 1,
    reduce: Callable[[Tensor], Tensor] = lambda scores: scores,
) -> tuple[Scores, Excerpt | None]:
    """Each song's scores; and an excerpt of the first song, in the process that separated it.

    Args:
        system: a separator, scored by what it makes of the mixture; or a codec, scored by what is
            left of the vocals that go through it.
        songs: folder of songs.
        rank, world: which process of how many; each separates every `world`-th song.
        reduce: the sum of a tensor over all processes.

    Raises:
        DataError: if there is nothing to validate on, or a song cannot be read.
    """
    names = song_names(songs)
    table = torch.zeros(len(names), len(METRICS), dtype=torch.float64)
    excerpt = None
    rate = system.sample_rate
    mine = islice(enumerate(whole_songs(songs, rate)), rank, None, world)
    for row, (_, heard, sung) in mine:
        mixture, vocals = heard.numpy(), sung.numpy()
        if isinstance(system, Coder):
            estimate = system.code(vocals, rate)
        else:
            estimate = system.separate(mixture, rate)["vocals"]
        table[row] = torch.tensor([*_scores(vocals, estimate), *_scores(vocals, mixture)])
        if row == 0:
            part = _loudest(vocals, EXCERPT_SECONDS * rate)
            excerpt = Excerpt(rate, mixture[:, part], vocals[:, part], estimate[:, part])
    rows = reduce(table).tolist()
    scores = [dict(zip(METRICS, row, strict=True)) for row in rows]
    return dict(zip(names, scores, strict=True)), excerpt


def mean_scores(scores: Scores) -> dict[str, float]:
    """The mean of each metric over the songs that have it; NaN if none has."""
    means = {}
    for metric in METRICS:
        values = [song[metric] for song in scores.values() if not math.isnan(song[metric])]
        means[metric] = sum(values) / len(values) if values else math.nan
    return means


def _scores(vocals: Audio, estimate: Audio) -> tuple[float, float]:
    if is_silent(vocals):  # as in an evaluation: what a codec left of silence is no singing
        return math.nan, math.nan
    return usdr(vocals, estimate), multi_resolution_stft(vocals, estimate)


def _loudest(vocals: Audio, samples: int) -> slice:
    """The stretch of `samples` samples, or the whole, with the most energy, to a tenth of it."""
    hop = max(1, samples // 10)
    energy = np.square(vocals).sum(axis=0)
    sums = np.concatenate(([0.0], np.cumsum(energy, dtype=np.float64)))
    starts = np.arange(0, max(1, len(energy) - samples + 1), hop)
    ends = np.minimum(starts + samples, len(energy))
    start = int(starts[np.argmax(sums[ends] - sums[starts])])
    return slice(start, start + samples)
