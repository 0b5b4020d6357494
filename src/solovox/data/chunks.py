"""Training chunks: (mixture, vocals), each a pure function of (seed, index).

    song by weight x length -> place -> vocals -> silent? draw again, 19 times in 20
                                          |
    accompaniment: the song's own, or (remix) another song's at another place
                                          |
    augmentations of each stem, then of both -> mixture = vocals + accompaniment

Every chunk has a generator of its own, made from (seed, index) alone. So the data do not depend
on the number of workers, nor on where a run was stopped: chunk 10 000 is the same after a resume
as without one. A step s of batch size B trains on the chunks s·B … s·B + B - 1; hand
`range(first, last)` to the DataLoader as its sampler.

A chunk is silent when the level of its vocals, over both channels and the whole chunk, is below
-60 dB of full scale. Those that are kept teach that there may be no voice at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from solovox.data import augment
from solovox.data.augment import Audio, Rng
from solovox.data.index import (
    ACCOMPANIMENT,
    MIXTURE,
    VOCALS,
    Song,
    find_songs,
    read_accompaniment,
    read_pair,
    read_stem,
)
from solovox.errors import DataError

SILENCE_DB = -60.0
TRIES = 1000  # draws of a chunk before the data set is taken to be silent


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how far each augmentation goes; a probability of 0 turns it off.

    Attributes:
        polarity: probability, for each stem by itself.
        flip: probability of exchanging left and right, for each stem by itself.
        pitch: probability; one shift for a song's own stems, one for each where they come from
            two songs.
        pitch_semitones: largest shift up or down.
        gain_db: level of the vocals against the accompaniment changes by up to this, either way.
        level_db: range from which the change of level of both together is drawn.
        eq: probability, for each stem by itself.
        eq_db: largest boost or cut.
        width: probability of a changed stereo width, for each stem by itself.
        width_db: range of the change of the side signal.
        mono: probability that the vocals are made mono.
        compress: probability, for each stem by itself.
        low_pass: probability of a low-pass over both stems.
        low_pass_hz: range of its cut-off.
    """

    polarity: float = 0.5
    flip: float = 0.5
    pitch: float = 0.5
    pitch_semitones: float = 4.0
    gain_db: float = 4.0
    level_db: tuple[float, float] = (-9.0, 3.0)
    eq: float = 0.3
    eq_db: float = 6.0
    width: float = 0.2
    width_db: tuple[float, float] = (-9.0, 3.0)
    mono: float = 0.1
    compress: float = 0.2
    low_pass: float = 0.1
    low_pass_hz: tuple[float, float] = (8000.0, 20000.0)


BROAD = AugmentConfig()
"""Everything: for small data sets."""
PAPER = AugmentConfig(
    gain_db=0.0, level_db=(0.0, 0.0), eq=0.0, width=0.0, mono=0.0, compress=0.0, low_pass=0.0
)
"""What Diff-DMX names: polarity, channel flip and pitch shift (stem remix is ChunkConfig.remix)."""
NONE = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0, 0.0)
"""Nothing: the songs as they are."""


@dataclass(frozen=True)
class ChunkConfig:
    """What a training chunk is.

    Attributes:
        samples: length at `sample_rate`.
        sample_rate: the model's rate in Hz; songs of another rate are resampled.
        silence_keep: share of the silent vocal chunks that are kept (the papers discard 95 %).
        remix: probability that the accompaniment comes from another song and place.
        remix_db: the level of such an accompaniment changes by up to this, either way.
        band_weight: how far the songs' weights count for such an accompaniment: their exponent, 1
            as for the vocals, 0 not at all.
        augment: the augmentations.
    """

    samples: int
    sample_rate: int = 44100
    silence_keep: float = 0.05
    remix: float = 0.5
    remix_db: float = 6.0
    band_weight: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class TrainingChunks(Dataset[tuple[Tensor, Tensor]]):
    """Chunks (mixture, vocals), float32 [2, samples] each, of the songs of a folder.

    Args:
        songs: a folder, or what `find_songs` gives.
        config: what a chunk is.
        seed: of all randomness; chunk `index` depends on (seed, index) and on nothing else.
        length: nominal length of an epoch. Any index from 0 up can be read.

    Raises:
        DataError: the folder cannot be used.
    """

    def __init__(
        self,
        songs: str | Path | Sequence[Song],
        config: ChunkConfig,
        seed: int = 0,
        length: int = 1_000_000,
    ) -> None:
        self.songs = find_songs(songs) if isinstance(songs, (str, Path)) else list(songs)
        self.config = config
        self.seed = seed
        self.length = length
        self._pools = Pools.of(self.songs, config.band_weight)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """The chunk `index`: (mixture, vocals), float32 [2, samples] each.

        Raises:
            DataError: a file cannot be read, or nobody sings anywhere.
        """
        vocals, accompaniment = self.pair(index)
        return torch.from_numpy(vocals + accompaniment), torch.from_numpy(vocals)

    def pair(self, index: int) -> tuple[Audio, Audio]:
        """The chunk `index` as (vocals, accompaniment), float32 [2, samples] each."""
        if index < 0:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        vocals, accompaniment = draw_pair(self.pools(index), rng, self.config)
        return augment_pair(vocals, accompaniment, rng, self.config)

    def pools(self, index: int) -> Pools:
        """The songs from which the chunk `index` is drawn."""
        return self._pools


class Pool:
    """Songs, each drawn with a probability in proportion to weight ** power x length."""

    def __init__(self, songs: Sequence[Song], power: float = 1.0) -> None:
        self.songs = songs
        self.sums = list(accumulate(song.weight**power * song.seconds for song in songs))

    def draw(self, rng: Rng) -> Song:
        """One of the songs."""
        place = bisect_right(self.sums, rng.random() * self.sums[-1])
        return self.songs[min(place, len(self.songs) - 1)]


@dataclass(frozen=True)
class Pools:
    """Where a chunk is drawn from.

    Attributes:
        voices: songs with vocals.
        bands: songs for remixed accompaniments, which take one of each pool: songs of pairs make
            up one pool; unpaired drums, bass and others are pools of their own.
        first: the song to try first, if that is given; it may turn out to be silent.
    """

    voices: Pool
    bands: tuple[Pool, ...]
    first: Song | None = None

    @classmethod
    def of(cls, songs: Sequence[Song], band_weight: float = 1.0) -> Pools:
        """The pools of a data set; `band_weight` as in `ChunkConfig`.

        Raises:
            DataError: there are no vocals, or there is nothing else.
        """
        voices = [song for song in songs if VOCALS in song.stems]
        paired = [song for song in songs if song.paired]
        loose = [song for song in songs if VOCALS not in song.stems]
        if paired:
            bands = [paired + [song for song in loose if ACCOMPANIMENT in song.stems]]
        else:
            stems = sorted({stem for song in loose for stem in song.stems})
            bands = [[song for song in loose if stem in song.stems] for stem in stems]
        if not voices or not bands:
            raise DataError("training needs vocals and accompaniment; the songs lack one of them")
        return cls(Pool(voices), tuple(Pool(band, band_weight) for band in bands))


def draw_pair(pools: Pools, rng: Rng, config: ChunkConfig) -> tuple[Audio, Audio]:
    """Vocals and accompaniment of a drawn place, remixed and shifted in pitch, not augmented.

    Raises:
        DataError: a file cannot be read, or nobody sings anywhere.
    """
    song, start, ratio, raw = _draw_vocals(pools, rng, config)
    vocals = augment.resample_by(raw, ratio, config.samples)
    if song.paired and rng.random() >= config.remix:
        own = read_accompaniment(song, start, raw.shape[1], raw)
        return vocals, augment.resample_by(own, ratio, config.samples)
    parts = [_draw_band(pool, rng, config) for pool in pools.bands]
    accompaniment = np.sum(parts, axis=0) if len(parts) > 1 else parts[0]
    return vocals, augment.gain(accompaniment, rng, -config.remix_db, config.remix_db)


def is_silent(vocals: Audio) -> bool:
    """Whether nobody is heard: the level over all samples is below -60 dB of full scale."""
    return augment.level_db(vocals) < SILENCE_DB


def augment_pair(
    vocals: Audio, accompaniment: Audio, rng: Rng, config: ChunkConfig
) -> tuple[Audio, Audio]:
    """Both stems [2, samples] after all augmentations but those that decide what is read.

    Where the sum would exceed full scale, both are turned down by the same factor.
    """
    settings = config.augment
    vocals = augment.mono(vocals, rng, settings.mono)
    vocals = augment.gain(vocals, rng, -settings.gain_db, settings.gain_db)
    stems = [_augment_stem(stem, rng, settings) for stem in (vocals, accompaniment)]
    curves = _curves(rng, config)
    stems = [
        stem if curve is None else augment.apply_curve(stem, curve)
        for stem, curve in zip(stems, curves, strict=True)
    ]
    level = augment.db_to_gain(augment.uniform(rng, *settings.level_db))
    peak = level * float(np.abs(stems[0] + stems[1]).max())
    factor = np.float32(level / max(1.0, peak))
    return stems[0] * factor, stems[1] * factor


def whole_songs(root: str | Path, sample_rate: int = 44100) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The paired songs below `root`, one at a time: (name, mixture, vocals), float32 [2, samples].

    The mixture is the data set's own file where there is one, else the sum of the stems.

    Args:
        root: folder of songs.
        sample_rate: rate to bring them to, in Hz.
    """
    for song in find_songs(root):
        if not song.paired:
            continue
        vocals, accompaniment = read_pair(song, 0, song.frames)
        mixture = vocals + accompaniment
        if MIXTURE in song.stems:
            mixture = read_stem(song, MIXTURE, 0, song.frames)
        ratio = song.sample_rate / sample_rate
        samples = round(song.frames / ratio)
        yield (
            song.name,
            torch.from_numpy(augment.resample_by(mixture, ratio, samples)),
            torch.from_numpy(augment.resample_by(vocals, ratio, samples)),
        )


def _draw_vocals(pools: Pools, rng: Rng, config: ChunkConfig) -> tuple[Song, int, float, Audio]:
    """(song, start, ratio, vocals): a place that is not silent, or kept in spite of it."""
    song = pools.first or pools.voices.draw(rng)
    for _ in range(TRIES):
        start, frames, ratio = _place(song, rng, config)
        vocals = read_stem(song, VOCALS, start, frames)
        if rng.random() < config.silence_keep or not is_silent(vocals):
            return song, start, ratio, vocals
        song = pools.voices.draw(rng)
    raise DataError(
        f"no voice in {TRIES} chunks of {song.name} and the other songs; "
        "run solovox data check on their folder"
    )


def _draw_band(pool: Pool, rng: Rng, config: ChunkConfig) -> Audio:
    """Accompaniment [2, samples] of a drawn place."""
    song = pool.draw(rng)
    start, frames, ratio = _place(song, rng, config)
    if song.paired:
        raw = read_accompaniment(song, start, frames)
    else:
        raw = read_stem(song, next(iter(song.stems)), start, frames)
    return augment.resample_by(raw, ratio, config.samples)


def _place(song: Song, rng: Rng, config: ChunkConfig) -> tuple[int, int, float]:
    """(start, frames, ratio): where to read, how much, and the speed at which it is played."""
    settings = config.augment
    shift = augment.pitch_ratio(rng, settings.pitch_semitones, settings.pitch)
    ratio = shift * song.sample_rate / config.sample_rate
    frames = augment.samples_to_read(config.samples, ratio)
    return int(rng.integers(0, max(1, song.frames - frames + 1))), frames, ratio


def _augment_stem(stem: Audio, rng: Rng, settings: AugmentConfig) -> Audio:
    stem = augment.polarity(stem, rng, settings.polarity)
    stem = augment.channel_flip(stem, rng, settings.flip)
    stem = augment.width(stem, rng, *settings.width_db, settings.width)
    return augment.compress(stem, rng, settings.compress)


def _curves(rng: Rng, config: ChunkConfig) -> tuple[augment.Curve | None, augment.Curve | None]:
    """Filters of vocals and accompaniment: a tone control each, a low-pass for both, or None."""
    settings = config.augment
    tone_vocals, tone_rest, dull = (
        rng.random() < p for p in (settings.eq, settings.eq, settings.low_pass)
    )
    if not (tone_vocals or tone_rest or dull):
        return None, None
    freqs = augment.frequencies(config.samples, config.sample_rate)
    curves = [
        augment.eq_curve(freqs, rng, settings.eq_db) if drawn else None
        for drawn in (tone_vocals, tone_rest)
    ]
    if dull:
        shared = augment.low_pass_curve(freqs, rng, *settings.low_pass_hz)
        curves = [shared if curve is None else curve * shared for curve in curves]
    return curves[0], curves[1]
