"""Audio through a codec and back: what separation in its space can reach at best.

    audio ─ resample ─► chunks ─► encode ─► + noise ─► decode ─► overlap-add ─ resample ─► audio

Chunks, their crossfades and their levels are those with which the model separates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from solovox.audio import StreamResampler
from solovox.chunking import ChunkPlan, OverlapAdd
from solovox.diffusion.noise import ChunkNoise
from solovox.model import SeparationModel
from solovox.precision import autocast

FloatArray = npt.NDArray[np.float32]


class Coder:
    """A model's codec alone.

    Args:
        model: the model.
        device: where to compute.
        precision: of the codec's networks, see `solovox.precision`.
    """

    def __init__(
        self, model: SeparationModel, device: torch.device | None = None, precision: str = "auto"
    ) -> None:
        self.device = device or torch.device("cpu")
        self.precision = precision
        self.model = model.eval().to(self.device)
        self.plan = ChunkPlan.of(model.config.chunk, model.config.overlap)

    @property
    def sample_rate(self) -> int:
        """The codec's rate in Hz."""
        return self.model.codec.sample_rate

    def code(
        self, audio: FloatArray, sample_rate: int, noise: float = 0.0, seed: int = 0
    ) -> FloatArray:
        """The audio [channels, samples] after encoding and decoding, as long as before.

        Args:
            audio: one or two channels.
            sample_rate: its rate in Hz.
            noise: standard deviation of Gaussian noise on the latents.
            seed: of the noise.
        """
        channels, samples = audio.shape
        stereo = np.repeat(audio, 2, axis=0) if channels == 1 else audio
        there = resample(stereo, sample_rate, self.sample_rate)
        stream = OverlapAdd(self.plan)
        parts = [
            stream.add(self._chunk(index, chunk, noise, seed))
            for index, chunk in [*stream.feed(there), *stream.end()]
        ]
        back = resample(np.concatenate(parts, axis=1), self.sample_rate, sample_rate)
        coded = np.zeros_like(stereo)
        coded[:, : back.shape[1]] = back[:, :samples]
        return coded.mean(axis=0, keepdims=True) if channels == 1 else coded

    @torch.inference_mode()
    def _chunk(self, index: int, chunk: FloatArray, noise: float, seed: int) -> FloatArray:
        codec = self.model.codec
        audio = torch.from_numpy(chunk)[None].to(self.device)
        level = self.model.level(audio)
        with autocast(self.device, self.precision):
            x = codec.encode(audio / level)
            if noise:
                draw = ChunkNoise(seed, [index], tuple(x.shape[1:]), self.device)
                x = x + noise * draw()
            coded: FloatArray = (codec.decode(x, audio.shape[-1]) * level)[0].cpu().numpy()
        return coded


def resample(audio: FloatArray, rate_in: int, rate_out: int) -> FloatArray:
    """Audio [channels, samples] at another rate."""
    if rate_in == rate_out:
        return audio
    return StreamResampler(rate_in, rate_out, len(audio)).process(audio, last=True)
