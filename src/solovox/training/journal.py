"""What a run tells of itself: log.jsonl, one line of JSON a record, and the same for TensorBoard.

A killed run may have logged steps that its last checkpoint does not hold; a resumed run takes them
again, so their lines are dropped first.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter

from solovox.files import explained, written_whole
from solovox.training.validation import Audio, Excerpt

LOG = "log.jsonl"
Line = dict[str, Any]


def read_log(folder: Path, step: int) -> list[Line]:
    """The records of a run up to a step; a line that was cut short is left out."""
    path = folder / LOG
    if not path.exists():
        return []
    whole = [text for text in path.read_text().splitlines(keepends=True) if text.endswith("\n")]
    lines: list[Line] = [json.loads(text) for text in whole]
    return [line for line in lines if line["step"] <= step]


class Journal:
    """The journal of a run in a folder, from a step on.

    Args:
        folder: the run's folder.
        step: the steps already done; records of later ones are dropped.

    Raises:
        SolovoxError: if the journal cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOG
        with explained(self.path), written_whole(self.path, alone=True) as part:
            part.write_text("".join(f"{json.dumps(line)}\n" for line in read_log(folder, step)))
        with explained(self.path):
            self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def record(self, step: int, values: Mapping[str, float], songs: object = None) -> None:
        """Write numbers by name; `songs`, JSON values, goes to the log alone."""
        line: Line = {"step": step}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        if songs is not None:
            line["songs"] = songs
        with explained(self.path):
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    def show(self, step: int, excerpt: Excerpt) -> None:
        """Show an excerpt to ears and eyes: mixture, true vocals, estimate."""
        tracks = {
            "mixture": excerpt.mixture,
            "vocals, true": excerpt.vocals,
            "vocals, estimated": excerpt.estimate,
        }
        picture = np.concatenate([spectrogram(audio) for audio in tracks.values()])
        with explained(self.path):
            for name, audio in tracks.items():
                mono = torch.from_numpy(audio.mean(axis=0)).clamp(-1, 1)
                self.board.add_audio(name, mono, step, excerpt.sample_rate)
            self.board.add_image("mixture, true, estimated", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is waiting to be written."""
        with explained(self.path):
            self.board.close()


def spectrogram(audio: Audio, fft: int = 1024) -> npt.NDArray[np.uint8]:
    """A picture [fft/4, frames, 3] of audio [channels, samples]; 80 dB, low frequencies below."""
    mono = torch.from_numpy(audio.mean(axis=0))
    spectrum = torch.stft(
        mono, fft, fft // 2, window=torch.hann_window(fft), return_complex=True, pad_mode="constant"
    ).abs()
    pairs = spectrum[:-1].reshape(fft // 4, 2, -1).amax(dim=1)
    level = 20 * torch.log10(pairs / fft + 1e-9)
    shade = ((level + 100) / 80).clamp(0, 1).flip(0).numpy()
    picture: npt.NDArray[np.uint8] = matplotlib.colormaps["magma"](shade, bytes=True)[..., :3]
    return picture
