"""How unsure a model is of the vocals: the spread of several takes, by band and second.

    level  [bands, seconds]  the RMS level of the mean take
    spread [bands, seconds]  the RMS over a cell of the takes' standard deviation

Chunks are cut into Hann-windowed frames; the power of a frame's bins goes to the band they lie in
and the second in which the frame's centre lies. Bands are of equal width in mel. Where chunks
overlap, both count, by how much they are heard there. A map takes a kilobyte for four seconds of
song; nothing else is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from solovox.errors import SolovoxError
from solovox.files import written_whole

BANDS = 32
WINDOW = 4096  # samples a frame

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Uncertainty:
    """An uncertainty map.

    Attributes:
        edges: of the bands, in Hz, [bands + 1].
        level: RMS level of the vocals, [bands, seconds], full scale 1.
        spread: RMS of the takes' standard deviation, same shape and unit.
        takes: how many there were.
    """

    edges: Array
    level: Array
    spread: Array
    takes: int

    @property
    def doubt(self) -> Array:
        """The share of a cell's power in which the takes differ: 0 all agree, 1 none do.

        It is spread² / (power of one take), and the mean of N takes keeps 1/N of the spread², so
        that a take has level² + (1 - 1/N) spread².
        """
        spread, level = self.spread**2, self.level**2
        take = level + (1 - 1 / max(1, self.takes)) * spread
        share: Array = np.minimum(1, spread / np.maximum(take, 1e-12))
        return share

    def write(self, path: str | Path, title: str = "") -> Path:
        """The npz file written; a PNG lies beside it, where matplotlib is installed."""
        if find_spec("matplotlib"):
            self.draw(Path(path).with_suffix(".png"), title)
        return self.save(path)

    def save(self, path: str | Path) -> Path:
        """The npz file written, with the attributes by name."""
        path = Path(path)
        with written_whole(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, edges=self.edges, level=self.level, spread=self.spread, takes=self.takes
            )
        return path

    @classmethod
    def load(cls, path: str | Path) -> Uncertainty:
        """The map in an npz file.

        Raises:
            SolovoxError: if it is none.
        """
        try:
            with Path(path).open("rb") as content, np.load(content, allow_pickle=False) as file:
                return cls(file["edges"], file["level"], file["spread"], int(file["takes"]))
        except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError) as error:
            raise SolovoxError(f"{path} is no uncertainty map ({error})") from error

    def draw(self, path: str | Path, title: str = "") -> Path:
        """The PNG drawn: doubt as colour, over time and frequency; what is silent is pale.

        Raises:
            SolovoxError: if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise SolovoxError(
                "drawing needs matplotlib, which is not installed: pip install matplotlib"
            ) from error
        path = Path(path)
        seconds = np.arange(self.level.shape[1] + 1)
        power = self.level**2 + self.spread**2
        loudness = 10 * np.log10(np.maximum(power / max(float(power.max()), 1e-12), 1e-6))
        figure = Figure(figsize=(8, 3.5), layout="constrained")
        axes = figure.subplots()
        mesh = axes.pcolormesh(
            seconds, self.edges, self.doubt, vmin=0, vmax=1, cmap="magma_r",
            alpha=np.clip(1 + loudness / 60, 0, 1),
        )  # fmt: skip
        axes.set_yscale("symlog", linthresh=500)
        ticks = [tick for tick in (100, 500, 1000, 2000, 5000, 10_000) if tick < self.edges[-1]]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_yticks([], minor=True)
        axes.set(xlabel="s", ylabel="Hz", ylim=(0, self.edges[-1]), title=title)
        figure.colorbar(mesh, label=f"share in which {self.takes} takes differ")
        with written_whole(path) as part:
            figure.savefig(part, dpi=120, format="png")
        return path


class UncertaintyMeter:
    """Gathers a map while chunks are made.

    Hand one to `Separator.separate` or `stream`, and read `map` afterwards.
    """

    def __init__(self) -> None:
        self.begin(1, 1, 1)

    @property
    def map(self) -> Uncertainty:
        """The map of what was separated.

        Raises:
            SolovoxError: if nothing was.
        """
        if not self._samples:
            raise SolovoxError("there is no uncertainty map before something is separated")
        seconds = -(-self._samples // self._song_rate)
        self._grow(seconds)
        weight = np.maximum(self._weight[:seconds], 1e-12)
        spread = self._spread[:, :seconds] / (weight * max(1, self._takes - 1))
        level = self._level[:, :seconds] / weight
        edges = mel_edges(self._rate)
        return Uncertainty(
            edges.astype(np.float32),
            np.sqrt(level).astype(np.float32),
            np.sqrt(spread).astype(np.float32),
            self._takes,
        )

    def begin(self, takes: int, sample_rate: int, song_rate: int) -> None:
        """Forget what was measured.

        Args:
            takes: how many takes of each chunk are to come.
            sample_rate: of the chunks, in Hz.
            song_rate: of what `hear` is told of, in Hz.
        """
        self._takes, self._rate, self._song_rate, self._samples = takes, sample_rate, song_rate, 0
        self._spread, self._level = np.zeros((2, BANDS, 0))
        self._weight = np.zeros(0)

    def deviation(self, start: int, fade: int, deviation: Tensor) -> None:
        """Count a take's share of the second moment (`RunningMean.add`).

        Args:
            start: the chunk's first sample in the song.
            fade: samples over which it fades in and out.
            deviation: [channels, samples].
        """
        seconds, weight, power = self._cells(start, fade, deviation)
        np.add.at(self._spread.T, seconds, (power * weight).T)

    def mean(self, start: int, fade: int, mean: Tensor) -> None:
        """Count a chunk's mean take; arguments as above."""
        seconds, weight, power = self._cells(start, fade, mean)
        np.add.at(self._level.T, seconds, (power * weight).T)
        np.add.at(self._weight, seconds, weight)

    def hear(self, samples: int) -> None:
        """The song has so many samples more."""
        self._samples += samples

    def _cells(
        self, start: int, fade: int, audio: Tensor
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(second [frames], weight [frames], power [bands, frames]) of a chunk's frames."""
        samples = audio.shape[-1]
        size = min(WINDOW, samples)
        window = torch.hann_window(size, device=audio.device)
        frames = audio.unfold(-1, size, max(1, size // 2)) * window
        bins = torch.fft.rfft(frames).abs().square().mean(dim=0)  # of the channels
        bins[:, 1 : (size + 1) // 2] *= 2  # a real signal's negative frequencies
        bins /= size * window.square().sum()  # now the sum over bins is the mean square
        frequency = np.arange(bins.shape[1]) * self._rate / size
        band = np.clip(np.searchsorted(mel_edges(self._rate), frequency, "right") - 1, 0, BANDS - 1)
        power = np.zeros((BANDS, bins.shape[0]))
        np.add.at(power, band, bins.T.cpu().double().numpy())
        centre = np.arange(bins.shape[0]) * max(1, size // 2) + size // 2
        edge = np.minimum(centre, samples - centre) / max(1, fade)
        seconds = (start + centre) // self._rate
        self._grow(int(seconds[-1]) + 1)
        return seconds, np.clip(edge, 1e-3, 1), power

    def _grow(self, seconds: int) -> None:
        if (missing := seconds - self._weight.size) > 0:
            missing += self._weight.size  # double: a long song is not copied every second
            self._spread, self._level, self._weight = (
                np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, missing)])
                for a in (self._spread, self._level, self._weight)
            )


def mel_edges(sample_rate: int) -> npt.NDArray[np.float64]:
    """The BANDS + 1 edges in Hz of bands of equal width in mel, from 0 to half of the rate."""
    edges: npt.NDArray[np.float64]
    edges = 700 * np.expm1(np.linspace(0, np.log1p(sample_rate / 1400), BANDS + 1))
    return edges
