"""What the page draws of a sound file: peaks for the waveform, bands for the spectrogram.

Both are a matrix of bytes, stored column by column behind a header of 16 bytes:

    uint32 columns, uint32 rows, float64 seconds a column, then uint8 [columns, rows]

Peaks have two rows: how far the samples reach up and down within the column, 255 being full scale.
Bands have a row for each of 96 frequencies, evenly spaced in the logarithm from 50 Hz to 16 kHz;
255 is 0 dB of a full-scale sine, 0 is -90 dB. Long songs get longer columns: the size is bounded.
Where vocals are the mean of several samples, .doubt has the same rows, a column a second: 255 where
the samples have nothing in common, 0 where they agree or nothing is heard.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solovox.audio import AudioReader
from solovox.files import written_whole
from solovox.uncertainty import Uncertainty

Bytes = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

PEAKS_A_SECOND, MOST_PEAKS = 200, 400_000
COLUMNS_A_SECOND, MOST_COLUMNS = 60, 24_000
ROWS, LOWEST, HIGHEST = 96, 50.0, 16_000.0
FLOOR = -90.0  # dB
BLOCK = 1 << 18


def draw(path: Path, frames: int) -> float:
    """The loudest sample of a file; its pictures are then beside it, as .peaks and .bands.

    Args:
        path: a sound file.
        frames: its length in samples.
    """
    with AudioReader(path) as reader:
        rate = reader.sample_rate
        peaks = Peaks(_hop(frames, rate, PEAKS_A_SECOND, MOST_PEAKS))
        bands = Bands(rate, _hop(frames, rate, COLUMNS_A_SECOND, MOST_COLUMNS))
        loudest = 0.0
        for block in reader.blocks(BLOCK):
            loudest = max(loudest, float(np.abs(block).max()))
            peaks.feed(block)
            bands.feed(block.mean(axis=0))
    write(path.with_suffix(".peaks"), peaks.end(), peaks.hop / rate)
    write(path.with_suffix(".bands"), bands.end(), bands.hop / rate)
    return loudest


def draw_doubt(path: Path, chart: Uncertainty, rate: int, start: float, end: float) -> None:
    """Write the picture of an uncertainty map, between two moments in seconds.

    Args:
        path: the file.
        chart: how far several samples are apart.
        rate: of the song in Hz, by which other pictures of it have their rows.
        start, end: nothing is drawn in seconds that lie outside.
    """
    power = chart.level**2 + chart.spread**2
    loudness = 10 * np.log10(np.maximum(power / max(float(power.max()), 1e-12), 1e-6))
    apart = np.sqrt(chart.doubt) * (1 + loudness / 60)
    second = np.arange(apart.shape[1])
    apart[:, (second + 1 <= start) | (second >= end)] = 0
    band = np.searchsorted(chart.edges, _centres(rate), "right") - 1
    write(path, np.rint(255 * apart[band.clip(0, len(apart) - 1)].T).astype(np.uint8), 1.0)


def write(path: Path, picture: Bytes, seconds: float) -> None:
    """Write a picture [columns, rows], beside and renamed."""
    with written_whole(path) as part:
        part.write_bytes(struct.pack("<IId", *picture.shape, seconds) + picture.tobytes())


class Peaks:
    """How far samples reach up and down in each `hop` of a stream of blocks [channels, n]."""

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self._rest = np.zeros((1, 0), np.float32)
        self._columns: list[Bytes] = []

    def feed(self, block: FloatArray) -> None:
        """Take in a block."""
        up, down = block.max(axis=0), block.min(axis=0)
        both = np.stack((up, -down)).clip(0, 1)
        rest = both[:, :0] if not self._rest.shape[1] else self._rest
        joined = np.concatenate((rest, both), axis=1)
        whole = joined.shape[1] // self.hop * self.hop
        self._take(joined[:, :whole])
        self._rest = joined[:, whole:].copy()

    def end(self) -> Bytes:
        """All columns [columns, 2]."""
        if self._rest.shape[1]:
            self._take(np.pad(self._rest, ((0, 0), (0, self.hop - self._rest.shape[1]))))
        return np.concatenate(self._columns) if self._columns else np.zeros((0, 2), np.uint8)

    def _take(self, audio: FloatArray) -> None:
        columns = audio.reshape(2, -1, self.hop).max(axis=2)
        self._columns.append(np.rint(columns.T * 255).astype(np.uint8))


class Bands:
    """The level of each band, a column a `hop`, of a stream of mono blocks [n]."""

    def __init__(self, rate: int, hop: int) -> None:
        self.hop = hop
        self._window = 1 << max(8, round(math.log2(rate * 0.093)))  # 4096 at 44.1 kHz
        self._taper = np.hanning(self._window).astype(np.float32)
        self._filters = _filters(rate, self._window)
        self._rest = np.zeros(self._window // 2, np.float32)  # so that columns are centred
        self._columns: list[Bytes] = []
        self._samples = 0

    def feed(self, block: FloatArray) -> None:
        """Take in a block."""
        self._samples += len(block)
        self._take(block)

    def end(self) -> Bytes:
        """All columns [columns, ROWS]."""
        wanted = -(-self._samples // self.hop)
        self._take(np.zeros(self._window + self.hop, np.float32))
        columns = self._columns or [np.zeros((0, ROWS), np.uint8)]
        picture: Bytes = np.concatenate(columns)[:wanted]
        return picture

    def _take(self, block: FloatArray) -> None:
        audio = np.concatenate((self._rest, block))
        count = max(0, (len(audio) - max(self._window, self.hop)) // self.hop + 1)
        if count > 0:
            frames = np.lib.stride_tricks.sliding_window_view(audio, self._window)[:: self.hop]
            for at in range(0, count, 512):
                self._columns.append(self._levels(frames[at : min(at + 512, count)]))
        self._rest = audio[count * self.hop :].copy()

    def _levels(self, frames: FloatArray) -> Bytes:
        spectra = np.abs(np.fft.rfft(frames * self._taper)) * (2 / self._taper.sum())
        power = np.square(spectra).astype(np.float32) @ self._filters
        level = 10 * np.log10(np.maximum(power, 1e-12))
        levels: Bytes = np.rint((level / -FLOOR + 1).clip(0, 1) * 255).astype(np.uint8)
        return levels


def _filters(rate: int, window: int) -> FloatArray:
    """Triangles [bins, ROWS] between neighbouring bands, at least two bins wide either way."""
    centres = _centres(rate) * window / rate
    ratio = centres[1] / centres[0]
    width = np.maximum(centres * (ratio - 1), 1.0)
    bins = np.arange(window // 2 + 1)[:, None]
    triangles: FloatArray = np.maximum(0, 1 - np.abs(bins - centres) / width).astype(np.float32)
    return triangles


def _centres(rate: int) -> npt.NDArray[np.float64]:
    """The bands' frequencies in Hz."""
    highest = min(HIGHEST, rate / 2)
    return np.geomspace(min(LOWEST, highest / 2), highest, ROWS)


def _hop(frames: int, rate: int, a_second: int, most: int) -> int:
    return max(1, round(rate / a_second), -(-frames // most))
