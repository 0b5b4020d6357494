"""Tiny data sets, made on the spot."""

from pathlib import Path

import av
import numpy as np
import soundfile

from solovox.data.augment import Audio

RATE = 8000


def noise(seed: int, frames: int = RATE, channels: int = 2, level: float = 0.1) -> Audio:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal((channels, frames))).astype(np.float32)


def write(path: Path, audio: Audio, rate: int = RATE) -> Audio:
    """Write a float file, so that what is read is what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "FLOAT" if path.suffix == ".wav" else None
    soundfile.write(path, audio.T, rate, subtype=subtype)
    return audio


def write_stem_file(path: Path, stems: list[Audio], rate: int = 44100) -> None:
    """A .stem.mp4: one AAC stream a stem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=rate, layout="stereo") for _ in stems]
        for stream, audio in zip(streams, stems, strict=True):
            frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, 0
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)


def write_pairs(root: Path, songs: int = 3, seconds: int = 3) -> Path:
    """Songs {vocals,mixture}.wav named A, B, …; each sings in its first half only."""
    for index in range(songs):
        vocals = noise(index, seconds * RATE)
        vocals[:, vocals.shape[1] // 2 :] = 0.0
        folder = root / chr(ord("A") + index)
        write(folder / "vocals.wav", vocals)
        write(folder / "mixture.wav", vocals + noise(index + 100, seconds * RATE))
    return root
