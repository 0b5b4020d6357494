"""What a data set holds and what is wrong with it: hours, silence, loudness, faults.

Each song is read once, in blocks of ten seconds, so memory does not grow with its length. Levels
are root mean square in dB of full scale, over the time in which the stem is not silent; silence
is counted in windows of one second below -60 dB, the rule by which training chunks are discarded.
Faults are what harms training:

    NaN        samples that are not numbers
    clipping   more than 0.1 % of the samples within runs of at least three at the file's full scale
    DC         a mean of more than 0.01 of full scale
    mismatch   a mixture file that differs from the sum of its stems by more than -20 dB of itself
    stranger   a mixture in which the vocals are not found at their own level: its projection on
               them is not 1 but below 0.5 or above 2 (another take, shifted, turned, scaled)
    silence    nothing in the mixture at all
    unusable   what `find_songs` refuses: unreadable, of another length or rate, without vocals
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solovox.data.augment import Audio
from solovox.data.chunks import SILENCE_DB
from solovox.data.index import (
    ACCOMPANIMENT,
    MIXTURE,
    VOCALS,
    Song,
    find_songs,
    read_accompaniment,
    read_stem,
)
from solovox.errors import DataError

BLOCK_SECONDS = 10
CLIPPED_SHARE = 1e-3
FULL_SCALE = 0.9999
DC_LIMIT = 0.01
MISMATCH_DB = -20.0
SHARE_OF_VOCALS = (0.5, 2.0)
AUDIBLE_DB = -20.0  # vocals further below the mixture than this say nothing about their share


@dataclass(frozen=True)
class SongReport:
    """What one song holds.

    Attributes:
        name: the song.
        seconds: duration.
        vocals: whether it has vocals, accompaniment: whether it has that.
        silence: share of the time in which nobody sings, 0 to 1; 1 without vocals.
        vocals_db: level of the vocals where they sound; None if they never do.
        mixture_db: level of the mixture, or of what there is of it.
        peak_db: peak of the mixture.
        faults: one line each, without the song's name.
    """

    name: str
    seconds: float
    vocals: bool
    accompaniment: bool
    silence: float
    vocals_db: float | None
    mixture_db: float | None
    peak_db: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a data set holds.

    Attributes:
        songs: the songs that can be read.
        sample_rate: their rate in Hz.
        unusable: a line for each song that cannot be used.
    """

    songs: tuple[SongReport, ...]
    sample_rate: int
    unusable: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        """Duration of all songs in hours."""
        return sum(song.seconds for song in self.songs) / 3600

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault as one line that begins with the song or file."""
        return self.unusable + tuple(
            f"{song.name}: {fault}" for song in self.songs for fault in song.faults
        )


def check(root: str | Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """The report on all songs below `root`.

    Args:
        root: folder of songs.
        progress: is called with (songs done, songs in all) after each song.

    Raises:
        DataError: there is no usable song at all.
    """
    unusable: list[DataError] = []
    songs = find_songs(root, unusable.append)
    reports: list[SongReport] = []
    for number, song in enumerate(songs, start=1):
        try:
            reports.append(check_song(song))
        except DataError as fault:
            unusable.append(fault)
        if progress is not None:
            progress(number, len(songs))
    return Report(tuple(reports), songs[0].sample_rate, tuple(map(str, unusable)))


def check_song(song: Song) -> SongReport:
    """The report on one song.

    Raises:
        DataError: a file breaks off or cannot be read.
    """
    voice, whole, difference, product = _Meter(), _Meter(), _Meter(), 0.0
    for stems in _blocks(song):
        if VOCALS in stems:
            voice.add(stems[VOCALS], song.sample_rate)
        total = np.sum([stems[stem] for stem in stems if stem != MIXTURE], axis=0)
        mixture = stems.get(MIXTURE, total)
        whole.add(mixture, song.sample_rate)
        if {MIXTURE, ACCOMPANIMENT} <= song.stems.keys():
            difference.add(mixture - total, song.sample_rate)
        if {MIXTURE, VOCALS} <= song.stems.keys():
            product += float(np.einsum("cs,cs->c", mixture, stems[VOCALS]).sum(dtype=np.float64))
    return SongReport(
        name=song.name,
        seconds=song.seconds,
        vocals=VOCALS in song.stems,
        accompaniment=bool(song.stems.keys() - {VOCALS}),
        silence=voice.silence if VOCALS in song.stems else 1.0,
        vocals_db=voice.active_db,
        mixture_db=whole.active_db,
        peak_db=20 * math.log10(max(whole.peak, 1e-10)),
        faults=tuple(_faults(song, voice, whole, difference, product)),
    )


def _blocks(song: Song) -> Iterator[dict[str, Audio]]:
    """The stems of a song, block by block, its accompaniment among them."""
    size = BLOCK_SECONDS * song.sample_rate
    for start in range(0, song.frames, size):
        frames = min(size, song.frames - start)
        stems = {stem: read_stem(song, stem, start, frames) for stem in song.stems}
        if song.paired and ACCOMPANIMENT not in stems:
            stems[ACCOMPANIMENT] = read_accompaniment(song, start, frames, stems[VOCALS])
        yield stems


def _faults(
    song: Song, voice: _Meter, whole: _Meter, difference: _Meter, product: float
) -> Iterator[str]:
    """What is wrong with a song."""
    for what, meter in ((VOCALS, voice), (MIXTURE, whole)):
        if meter.broken:
            yield f"{what}: {meter.broken} samples are not numbers"
        if meter.clipped_share > CLIPPED_SHARE:
            yield f"{what}: {100 * meter.clipped_share:.1f} % of the samples are clipped"
        if meter.dc > DC_LIMIT:
            yield f"{what}: a constant offset (DC) of {meter.dc:.3f}"
    if whole.active_db is None and not whole.broken:
        yield "silent from beginning to end"
    if difference.count and whole.count and difference.power > 0:
        apart = 10 * math.log10(difference.power / max(whole.power, 1e-20))
        if apart > MISMATCH_DB:
            yield f"the mixture differs from the sum of its stems by {apart:.0f} dB of itself"
    audible = voice.power > whole.power * 10 ** (AUDIBLE_DB / 10)
    if MIXTURE in song.stems and audible and not (voice.broken or whole.broken):
        share = product / voice.squares
        if not SHARE_OF_VOCALS[0] <= share <= SHARE_OF_VOCALS[1]:
            yield f"the mixture holds {share:.2f} times the vocals, not once: not the same take?"


@dataclass
class _Meter:
    """Levels and faults of one signal, gathered block by block."""

    count: int = 0
    squares: float = 0.0
    sums: np.ndarray[tuple[int], np.dtype[np.float64]] = field(default_factory=lambda: np.zeros(2))
    peak: float = 0.0
    broken: int = 0
    clipped: int = 0
    windows: int = 0
    silent: int = 0
    active_squares: float = 0.0
    active_count: int = 0

    def add(self, block: Audio, sample_rate: int) -> None:
        """Take in a block [2, samples] whose length is a number of seconds, but for the last."""
        finite = np.isfinite(block)
        if not finite.all():
            self.broken += int(np.count_nonzero(~finite))
            block = np.where(finite, block, np.float32(0.0))
        self.count += block.size
        self.sums += block.sum(axis=1, dtype=np.float64)
        self.peak = max(self.peak, float(np.abs(block).max()))
        if self.peak >= FULL_SCALE:
            self.clipped += _in_runs(np.abs(block) >= FULL_SCALE)
        edges = np.arange(0, block.shape[1], sample_rate)
        powers = np.add.reduceat(np.einsum("cs,cs->s", block, block), edges).astype(np.float64)
        sizes = 2.0 * np.diff(np.append(edges, block.shape[1]))
        silent = powers < sizes * 10 ** (SILENCE_DB / 10)
        self.squares += float(powers.sum())
        self.windows += len(edges)
        self.silent += int(np.count_nonzero(silent))
        self.active_squares += float(powers[~silent].sum())
        self.active_count += int(sizes[~silent].sum())

    @property
    def power(self) -> float:
        """Mean square over the whole time."""
        return self.squares / max(1, self.count)

    @property
    def active_db(self) -> float | None:
        """Level over the windows that are not silent; None if all are."""
        if not self.active_count:
            return None
        return 10 * math.log10(self.active_squares / self.active_count)

    @property
    def silence(self) -> float:
        """Share of windows that are silent."""
        return self.silent / max(1, self.windows)

    @property
    def dc(self) -> float:
        """The larger of the two channels' means."""
        return float(np.abs(self.sums).max()) * 2 / max(1, self.count)

    @property
    def clipped_share(self) -> float:
        """Share of samples within runs at full scale."""
        return self.clipped / max(1, self.count)


def _in_runs(full: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], least: int = 3) -> int:
    """How many samples [channels, samples] lie in runs of at least `least`."""
    edges = np.diff(np.pad(full, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.concatenate(
        [np.flatnonzero(row == -1) - np.flatnonzero(row == 1) for row in edges]
    )
    return int(lengths[lengths >= least].sum())
