"""Validation on whole songs: uSDR and multi-resolution STFT of the vocals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from solovox.data.chunks import whole_songs
from solovox.diffusion.noise import ChunkNoise
from solovox.diffusion.sampling import ddim, warm_start
from solovox.diffusion.schedule import times
from solovox.evaluation.metrics import multi_resolution_stft, usdr
from solovox.model import SeparationModel


@dataclass(frozen=True)
class Score:
    """Means over the validation songs.

    Attributes:
        usdr: of the vocals, in dB.
        multi_resolution_stft: distance of the vocals.
    """

    usdr: float
    multi_resolution_stft: float


@torch.inference_mode()
def validate(model: SeparationModel, songs: Path, *, estimate_only: bool) -> Score:
    """The mean scores of a model on the songs of a folder."""
    model.eval()
    scores = []
    for _, mixture, vocals in whole_songs(songs, model.codec.sample_rate):
        n = model.config.chunk
        out = []
        for i, start in enumerate(range(0, mixture.shape[1], n)):
            x = torch.nn.functional.pad(mixture[None, :, start : start + n], (0, max(0, start + n - mixture.shape[1])))
            level = model.level(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                f = model.condition(x / level)
                if estimate_only:
                    y = f.estimate
                else:
                    s = model.config.sampling
                    noise = ChunkNoise(0, [i], f.mean.shape[1:], x.device)
                    x_t = warm_start(f.mean, noise(), s.start)
                    y = model.codec.decode(ddim(lambda a, t: model.velocity(a, t, f), x_t, times(s.steps, s.start)), n)
            out.append((y.float() * level)[0])
        estimate = torch.cat(out, 1)[:, : mixture.shape[1]].numpy()
        scores.append((usdr(vocals.numpy(), estimate), multi_resolution_stft(vocals.numpy(), estimate)))
    a, b = np.mean(scores, axis=0)
    return Score(float(a), float(b))
