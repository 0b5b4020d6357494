"""Feed the decoders with damaged files; nothing but `AudioError` or sound may come out.

    python benchmarks/fuzz_audio.py [--mutations 10000] [--seed 0] [--keep FOLDER]

Tiny files of every format are made here, then damaged: bytes flipped, header fields set to extreme
values, pieces cut out, doubled or spliced in from another format. Each is read to the end as
`solovox separate` would, and some are sought in. How that is watched over is in `fuzzing.py`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import fuzzing
import numpy as np
import soundfile

from solovox.audio import AudioReader, read_audio
from solovox.errors import AudioError

SOUNDFILE_SEEDS = {
    **{f"wav {kind}": ("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE")},
    **{f"wav {kind}": ("WAV", kind) for kind in ("ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")},
    "wavex": ("WAVEX", "PCM_24"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "aiff-c": ("AIFF", "FLOAT"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "flac 24": ("FLAC", "PCM_24"),
    "ogg vorbis": ("OGG", "VORBIS"),
    "ogg opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FFMPEG_SEEDS = {
    "m4a": ("ipod", "aac", {}),
    "m4a index first": ("ipod", "aac", {"movflags": "faststart"}),
    "m4a alac": ("ipod", "alac", {}),
    "mp4 fragments": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "mp4 opus": ("mp4", "libopus", {}),
    "mov pcm": ("mov", "pcm_s24le", {}),
    "aac": ("adts", "aac", {}),
    "webm": ("webm", "libopus", {}),
    "mka flac": ("matroska", "flac", {}),
    "mka pcm": ("matroska", "pcm_f64le", {}),
    "mp3 untagged": ("mp3", "libmp3lame", {"write_xing": "0"}),
    "wma": ("asf", "wmav2", {}),
    "avi": ("avi", "pcm_s16le", {}),
    "ac3": ("ac3", "ac3", {}),
    "wavpack": ("wv", "wavpack", {}),
    "tta": ("tta", "tta", {}),
    "mpeg-ts": ("mpegts", "aac", {}),
}
EXTREMES = [0, 1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


@cache
def seed_files() -> dict[str, bytes]:
    """Return an intact tiny file, 0.1 s, of every format."""
    rate, samples = 48000, 4800
    noise = np.random.default_rng(0).standard_normal((2, samples)) * 0.1
    tone = np.sin(np.arange(samples) * 0.06) * 0.3
    sound = (noise + tone).astype(np.float32)
    files = {}
    for name, (kind, subtype) in SOUNDFILE_SEEDS.items():
        buffer = io.BytesIO()
        channels = 1 if subtype in ("GSM610",) else 2
        soundfile.write(buffer, sound[:channels].T, rate, subtype, format=kind)
        files[name] = buffer.getvalue()
    for name, (kind, codec, options) in FFMPEG_SEEDS.items():
        files[name] = _encode(kind, codec, options, sound, rate)
    files["mp4 film"] = _encode("mp4", "aac", {}, sound, rate, film=True)
    files["mkv film"] = _encode("matroska", "aac", {}, sound, rate, film=True)
    return files


def _encode(
    kind: str, codec: str, options: dict[str, str], sound: np.ndarray, rate: int, film: bool = False
) -> bytes:
    folder = tempfile.TemporaryDirectory()  # to put an index first, FFmpeg reads its own file
    path = Path(folder.name) / "seed"
    with folder, av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 128_000
        if film:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width = picture.height = 32
        frame = av.AudioFrame.from_ndarray(sound, "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        pieces = av.AudioResampler(
            format=stream.codec_context.format.name,
            layout="stereo",
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        for piece in [*pieces.resample(frame), *pieces.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
        if film:
            black = np.zeros((32, 32, 3), np.uint8)
            for _ in range(5):
                image = av.VideoFrame.from_ndarray(black, format="rgb24")
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
        container.close()
        return path.read_bytes()


def _flip(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    for at in rng.integers(0, len(data), rng.integers(1, 33)):
        data[at] ^= int(rng.integers(1, 256))


def _flip_header(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    for at in rng.integers(0, min(len(data), 200), rng.integers(1, 5)):
        data[at] = int(rng.integers(0, 256))


def _set_field(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    width = int(rng.choice([1, 2, 4, 8]))
    near_an_end = rng.random() < 0.7  # where indices and headers are
    at = int(rng.integers(0, min(len(data), 600) if near_an_end else len(data)))
    if near_an_end and rng.random() < 0.5:
        at = len(data) - 1 - at
    order = "big" if rng.random() < 0.5 else "little"
    value = EXTREMES[rng.integers(len(EXTREMES))] % 2 ** (8 * width)
    data[at : at + width] = value.to_bytes(width, order)


def _cut_end(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    del data[int(rng.integers(0, len(data))) :]


def _cut_out(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    start = int(rng.integers(0, len(data)))
    del data[start : start + int(rng.integers(1, 2000))]


def _double(data: bytearray, rng: np.random.Generator, _: bytes) -> None:
    start, stop = np.sort(rng.integers(0, len(data), 2))
    data[stop:stop] = data[start:stop] * int(rng.integers(1, 4))


def _splice(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at, start = int(rng.integers(0, len(data))), int(rng.integers(0, len(other)))
    data[at:] = other[start:]


def _insert(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    at, start = int(rng.integers(0, len(data))), int(rng.integers(0, len(other)))
    data[at:at] = other[start : start + int(rng.integers(1, 500))]


Mutation = Callable[[bytearray, np.random.Generator, bytes], None]
MUTATIONS: list[Mutation] = [
    *(_flip, _flip_header, _set_field, _set_field, _cut_end, _cut_out, _double, _splice, _insert)
]


def mutant(files: dict[str, bytes], seed: int, case: int) -> tuple[str, bytes]:
    """Return (format, damaged bytes) of case `case`; it depends on nothing else."""
    rng = np.random.default_rng([seed, case])
    names = list(files)
    name = names[case % len(names)]
    data = bytearray(files[name])
    for _ in range(rng.integers(1, 4)):
        if data:
            other = files[names[rng.integers(len(names))]]
            MUTATIONS[rng.integers(len(MUTATIONS))](data, rng, other)
    return name, bytes(data)


def read_all(path: Path, case: int) -> str:
    """Return "read" or "refused"; anything else that happens is a crash."""
    try:
        with AudioReader(path, 44100 if case % 2 else None) as reader:
            for _ in reader.blocks(65_536):
                pass
        if case % 5 == 0:
            read_audio(path, offset=0.05, duration=0.02)
    except AudioError as error:
        if "\n" in str(error) or path.name not in str(error):
            raise RuntimeError(f"not one line that names the file: {error}") from error
        return "refused"
    return "read"


def attempt(folder: Path, seed: int, case: int) -> str:
    """Read a case as `solovox separate` would."""
    path = folder / "case"
    path.write_bytes(mutant(seed_files(), seed, case)[1])
    return read_all(path, case)


def keep(seed: int, case: int, folder: Path) -> str:
    """Save a case's file; its format."""
    name, data = mutant(seed_files(), seed, case)
    (folder / f"{case}-{name.replace(' ', '-')}").write_bytes(data)
    return name


if __name__ == "__main__":
    sys.exit(fuzzing.main(f"audio files, {len(seed_files())} formats", attempt, keep))
