"""Anybody's vocals, generated again: another separator's estimate as the place to start from.

A separator that masks or regresses leaves holes and musical noise, or stops at 11 kHz. Diffused to
a time t < 1 and sampled from there, conditioned on the mixture, such an estimate keeps what is
above the noise and gets the rest anew (stochastic regeneration, Lemercier et al. 2023). The vocals
travel with the mixture through resampling and chunking, as rows below it:

    mixture  ──┐                     ┌─ conditioner ─► Features ─┐
               ├ [channels + 2, n] ──┤                           ├─► sampler from t ─► vocals
    vocals   ──┘                     └─ codec.encode ─► mean ────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from solovox.audio import AudioReader
from solovox.codecs.base import Codec
from solovox.errors import AudioError
from solovox.networks.features import Features

FloatArray = npt.NDArray[np.float32]

TOLERANCE = 0.05  # seconds by which the vocals may be shorter or longer than their mixture


def starting_from(features: Features, vocals: Tensor, codec: Codec) -> Features:
    """Features of a mixture, with other vocals [batch, 2, samples] in place of the estimate.

    The spread stays the conditioner's own: how unsure one can be there, whoever estimates.
    """
    return replace(features, estimates=(*features.estimates, vocals), mean=codec.encode(vocals))


class Beside:
    """Vocals that are read block by block along with their mixture.

    They are two rows in any case: mono is doubled, and what is generated for a mono mixture is
    folded down to it afterwards.

    Args:
        blocks: the vocals, float32 [channels, any length].
        sample_rate: of both, in Hz.
        name: what messages call the mixture.
    """

    def __init__(self, blocks: Iterable[FloatArray], sample_rate: int, name: str) -> None:
        self._blocks = iter(blocks)
        self._held: FloatArray | None = None
        self._missing = 0
        self._tolerance = round(TOLERANCE * sample_rate)
        self._rate = sample_rate
        self._name = name

    def under(self, block: FloatArray) -> FloatArray:
        """A block of the mixture [channels, n] above that of the vocals: [channels + 2, n].

        Raises:
            AudioError: if the vocals have ended too early, or are no audio.
        """
        wanted = block.shape[1]
        held = np.zeros((2, 0), np.float32) if self._held is None else self._held
        while held.shape[1] < wanted:
            more = next(self._blocks, None)
            if more is None:
                self._missing += wanted - held.shape[1]
                if self._missing > self._tolerance:
                    self._refuse(f"at least {self._missing / self._rate:.2f} s shorter")
                held = np.pad(held, ((0, 0), (0, wanted - held.shape[1])))
                break
            held = np.concatenate((held, self._doubled(more)), axis=1)
        self._held = held[:, wanted:]
        return np.concatenate((block, held[:, :wanted]))

    def finish(self) -> None:
        """The mixture has ended.

        Raises:
            AudioError: if the vocals go on for too long.
        """
        left = 0 if self._held is None else self._held.shape[1]
        while left <= self._tolerance and (more := next(self._blocks, None)) is not None:
            left += more.shape[1]
        if left > self._tolerance:
            self._refuse(f"at least {left / self._rate:.2f} s longer")

    def _doubled(self, vocals: FloatArray) -> FloatArray:
        if vocals.ndim != 2 or len(vocals) not in (1, 2):
            raise AudioError(
                f"the vocals of {self._name} must be [channels, samples] with 1 or 2 channels, "
                f"not {list(vocals.shape)}"
            )
        if not np.isfinite(vocals).all():
            raise AudioError(f"the vocals of {self._name} have NaN or infinite samples")
        return np.repeat(vocals, 2 // len(vocals), axis=0)

    def _refuse(self, how: str) -> None:
        raise AudioError(
            f"the vocals of {self._name} are {how} than it; "
            "give the vocals of this very file, cut and padded nowhere"
        )


def read_beside(path: str | Path, mixture: AudioReader, stack: ExitStack) -> Iterator[FloatArray]:
    """The blocks of a file of vocals, at its mixture's rate.

    Args:
        path: the vocals' file.
        mixture: the mixture's, open.
        stack: closes what is opened.

    Raises:
        AudioError: if it cannot be read, or is visibly of another length.
    """
    reader = stack.enter_context(AudioReader(path, mixture.sample_rate))
    if reader.frames is not None and mixture.frames is not None:
        apart = abs(reader.frames - mixture.frames) / mixture.sample_rate
        if apart > TOLERANCE:
            lengths = [frames / mixture.sample_rate for frames in (reader.frames, mixture.frames)]
            raise AudioError(
                f"{path}: has {lengths[0]:.2f} s where the mixture has {lengths[1]:.2f} s; "
                "give the vocals of this very file, cut and padded nowhere"
            )
    return reader.blocks(1 << 16)
