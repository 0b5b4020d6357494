"""Read, resample and write audio in blocks: float32 [channels, samples], one or two channels.

    file or pipe ──source──► blocks ──resampler──► blocks at the wanted rate
    blocks ──quantise──► sink ──► temporary file beside the target ──rename──► target

The sources are in `decoding.py`. Everything goes in small pieces: memory depends neither on a
file's length nor on what its header claims.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from solovox.decoding import (
    BLOCK,
    DECODING_ERRORS,
    FloatArray,
    PathOrFile,
    cut_short,
    label,
    open_source,
)
from solovox.errors import AudioError

RATES = (1_000, 768_000)  # Hz, lowest and highest
LOUDEST = 1e10  # 32-bit integers stored as floats reach 2e9; more is no sound and would overflow
WARM_UP = 4096  # samples, at the slower rate, after which the resampling filter has settled


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself.

    `frames` is None where only decoding would tell the exact count; `seconds` is then an estimate,
    for progress bars, or None.
    """

    sample_rate: int
    channels: int
    frames: int | None
    path: str
    seconds: float | None = None


def probe(path: PathOrFile) -> AudioInfo:
    """Return a file's rate, channels and length without decoding it all; raise as `AudioReader`."""
    with AudioReader(path) as audio:
        return AudioInfo(audio.sample_rate, audio.channels, audio.frames, audio.name, audio.seconds)


def read_audio(
    path: PathOrFile,
    sample_rate: int | None = None,
    offset: float = 0.0,
    duration: float | None = None,
) -> tuple[FloatArray, int]:
    """Return (audio [channels, samples], sample rate) of a file or of a part of it.

    Args:
        path: a file name, or a binary file open for reading.
        sample_rate: Hz to resample to; None keeps the file's own.
        offset: seconds to start at; the reader seeks, it does not decode all that comes before.
        duration: seconds to read; None reads to the end. Less comes back where the file ends first.

    Raises:
        AudioError: as `AudioReader`, or if `offset` lies past the end.
    """
    with AudioReader(path, sample_rate) as reader:
        if not is_number(offset) or not (duration is None or is_number(duration)):
            raise AudioError(f"{reader.name}: offset and duration must be numbers of seconds")
        if not (offset >= 0 and (duration is None or duration > 0)):
            raise AudioError(f"{reader.name}: offset must be at least 0 s and duration above 0 s")
        if start := round(offset * reader.sample_rate):
            reader.seek(start, exact=False)
        wanted = math.inf if duration is None else max(1, round(duration * reader.sample_rate))
        parts: list[FloatArray] = []
        for block in reader.blocks(BLOCK):
            parts.append(block[:, : int(min(wanted, BLOCK))])
            wanted -= parts[-1].shape[1]
            if wanted <= 0:
                break
        if not parts:
            raise AudioError(f"{reader.name}: ends before {offset:g} s; choose a smaller offset")
        return np.concatenate(parts, axis=1), reader.sample_rate


def write_audio(
    path: PathOrFile, audio: npt.ArrayLike, sample_rate: int, subtype: str | None = None
) -> None:
    """Write audio [channels, samples] to a file, whole or not at all; see `AudioWriter`."""
    try:
        samples = np.asarray(audio, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise AudioError(f"{label(path)}: not written, for it is no audio: {error}") from error
    with AudioWriter(path, sample_rate, len(samples) if samples.ndim else 0, subtype) as writer:
        writer.write(samples)


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Return round(samples * rate_out / rate_in), ties up; at least 1 if there are any samples."""
    return max((2 * samples * rate_out + rate_in) // (2 * rate_in), int(samples > 0))


def is_number(value: object) -> bool:
    """Return whether a value is a number: neither a truth value nor NaN nor infinite."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < math.inf  # type: ignore[operator]


def whole_rate(rate: Any, name: str) -> int:
    """Return a sample rate as an integer; raise AudioError if it is none, or out of range."""
    if not is_number(rate) or rate != int(rate) or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(
            f"{name}: cannot work at {rate!r} Hz; give a whole number, {RATES[0]} to {RATES[1]}"
        )
    return int(rate)


class StreamResampler:
    """Resample a stream piece by piece, to the same samples as in one piece.

    Linear phase, without latency: output sample k lies at time k / rate_out. When `last` has been
    given after n samples in all, `resampled_length(n, rate_in, rate_out)` have come out: no drift.

    Args:
        rate_in: Hz of what comes in.
        rate_out: Hz of what goes out; an equal rate passes samples through untouched.
        channels: rows of every block.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.rate_in, self.rate_out = rate_in, rate_out
        self._taken = self._given = 0
        self._stream: Any = None
        if rate_in != rate_out:
            self._stream = soxr.ResampleStream(rate_in, rate_out, channels, "float32", "VHQ")

    def process(self, block: FloatArray, last: bool = False) -> FloatArray:
        """Return what is ready, [channels, samples]; `last` empties the filter's memory too."""
        if self._stream is None:
            return block
        self._taken += block.shape[1]
        out: FloatArray = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last).T
        if last:  # soxr counts in floating point: it may be a sample off
            due = resampled_length(self._taken, self.rate_in, self.rate_out) - self._given
            out = np.pad(out[:, :due], ((0, 0), (0, max(0, due - out.shape[1]))))
        self._given += out.shape[1]
        return out


class AudioReader:
    """Read a file, or a binary stream such as `sys.stdin.buffer`, block by block.

    A context manager. `sample_rate`, `channels` and `frames` describe what `blocks` gives; `frames`
    is None where the format does not state it exactly; `seconds` is the best guess, or None.

    Args:
        path: a file name, or a binary file open for reading, which need not be seekable.
        sample_rate: Hz to resample to; None keeps the file's own.

    Raises:
        AudioError: at opening if the file is missing, a folder, empty, no audio, visibly cut short,
            or has more than two channels or an absurd rate; while reading if it ends early, or
            holds NaN, infinite or no samples. The message is one line that names the file.
    """

    def __init__(self, path: PathOrFile, sample_rate: int | None = None) -> None:
        self._path, self.name = path, label(path)
        with contextlib.ExitStack() as self._opened:  # closes what was opened if anything fails
            self._source = source = open_source(path, self.name, self._opened)
            self.sample_rate = source.sample_rate
            if sample_rate is not None:
                self.sample_rate = whole_rate(sample_rate, self.name)
            self.channels, self.seconds = source.channels, source.seconds
            self._refuse_odd(source.sample_rate)
            self._opened = self._opened.pop_all()
        self._position = self._skip_in = self._skip_out = 0
        self.frames = source.frames
        if self.frames is not None:
            self.frames = resampled_length(self.frames, source.sample_rate, self.sample_rate)

    def blocks(self, size: int) -> Iterator[FloatArray]:
        """Yield float32 [channels, size] blocks to the end, the last one shorter.

        The samples do not depend on `size`. Iterate once; to begin again, `seek` first.
        """
        return _rechunk(_drop(self._resampled(), self._skip_out), size)

    def seek(self, frame: int, exact: bool = True) -> None:
        """Make the next `blocks` begin at `frame`, counted at `sample_rate`.

        If `exact`, the samples are bit for bit those of reading from the start, and where only that
        gives them (aac, Opus, resampling) all that comes before is decoded again. Otherwise they
        are close: resampling differs by 1e-6, aac by its noise. The position is exact in any case.
        """
        frame, rate_in, rate_out = max(0, frame), self._source.sample_rate, self.sample_rate
        # Start where both sampling grids meet, early enough for the resampling filter to settle:
        #   in   |..:..:..:..|..:..:..:..|     from | to |: rate_in / gcd samples
        #   out  |.....:.....|.....:.....|                  rate_out / gcd samples
        common = math.gcd(rate_in, rate_out)
        period_in, period_out = rate_in // common, rate_out // common
        warm_up = -(-WARM_UP // min(period_in, period_out)) if rate_in != rate_out else 0
        start = max(0, frame // period_out - warm_up)
        if exact and not (rate_in == rate_out and self._source.forgets):
            start = 0
        self._skip_out = frame - start * period_out
        self._reopen()
        landed = self._source.jump(start * period_in)
        if landed is None:  # the container cannot tell where it landed: decode from the start
            self._reopen()
            landed = 0
        self._position, self._skip_in = landed, start * period_in - landed

    def close(self) -> None:
        """Release the file; a stream that was passed in stays open."""
        self._opened.close()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_odd(self, rate: int) -> None:
        if self.channels not in (1, 2):
            raise AudioError(
                f"{self.name}: has {self.channels} channels; solovox takes mono or stereo; "
                "fold it down first, e.g. `ffmpeg -i FILE -ac 2 out.wav`"
            )
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(
                f"{self.name}: {rate} Hz is out of range, {RATES[0]} to {RATES[1]} Hz; "
                "resample it first, e.g. `ffmpeg -i FILE -ar 44100 out.wav`"
            )

    def _reopen(self) -> None:
        if not (isinstance(self._path, str | os.PathLike) or self._path.seekable()):
            raise AudioError(f"{self.name}: a pipe cannot be read twice; save it to a file first")
        self._opened.close()
        self._source = open_source(self._path, self.name, self._opened)

    def _resampled(self) -> Iterator[FloatArray]:
        resampler = StreamResampler(self._source.sample_rate, self.sample_rate, self.channels)
        for block in _drop(self._checked(), self._skip_in):
            yield resampler.process(block)
        yield resampler.process(np.zeros((self.channels, 0), np.float32), last=True)

    def _checked(self) -> Iterator[FloatArray]:
        """Yield the source's blocks; raise where they stop being trustworthy."""
        source, rate = self._source, self._source.sample_rate
        while True:
            try:
                block = source.read()
            except DECODING_ERRORS as error:
                raise cut_short(self.name, self._position / rate, source.seconds) from error
            if not block.shape[1]:
                break
            with np.errstate(invalid="ignore"):
                loudest = np.abs(block).max()
            if not loudest <= LOUDEST:  # `not <=` catches NaN too
                raise AudioError(
                    f"{self.name}: has NaN, infinite or absurdly large samples near "
                    f"{self._position / rate:.2f} s; export it again"
                )
            self._position += block.shape[1]
            yield block
        if not self._position:
            raise AudioError(f"{self.name}: has no samples; export it again")
        if self._position < source.least:
            raise cut_short(self.name, self._position / rate, source.seconds)


# Suffix: what `subtype` may be, the default first, and libsndfile's name for it.
FORMATS = {
    ".wav": {"float": "FLOAT", "pcm16": "PCM_16", "pcm24": "PCM_24"},
    ".flac": {"pcm24": "PCM_24", "pcm16": "PCM_16"},
    ".mp3": dict.fromkeys(("float", "pcm16", "pcm24"), "MPEG_LAYER_III"),
    ".ogg": dict.fromkeys(("float", "pcm16", "pcm24"), "VORBIS"),
}
BITS = {"PCM_16": 16, "PCM_24": 24}
QUALITY: dict[str, dict[str, Any]] = {
    ".mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.0},  # 320 kbit/s
    ".ogg": {"compression_level": 0.2},  # quality 8, about 256 kbit/s
}
UNKNOWN = 0xFFFFFFFF  # the size in a wav header that cannot tell it
WAV_LIMIT = UNKNOWN - 1  # bytes; a longer wav becomes RF64


class AudioWriter:
    """Write blocks to a file that appears whole when the context manager ends, or not at all.

    The suffix chooses the format. pcm rounds to the nearest integer, so that samples read from 16
    or 24 bit come back bit for bit, and clips what lies beyond +-1; `clipped` counts those samples,
    `peak` is the largest of all. Float wav, mp3 and ogg (Vorbis) never clip, but most players clip
    the last two (`overloads`). A wav beyond 4 GB becomes RF64. The same samples give the same
    bytes.

    Args:
        path: a name ending in .wav, .flac, .mp3 or .ogg; or a binary stream, which stays open and
            gets wav with the header of unknown length that pipes need.
        sample_rate: Hz.
        channels: 1 or 2.
        subtype: "pcm16", "pcm24" or "float"; None is float for wav and pcm24 for flac. mp3 and ogg
            are coded from floats in any case.

    Raises:
        AudioError: if the place cannot be written, the format cannot hold such audio, or a block
            has another shape, NaN or infinite samples. The message is one line that names the file.
    """

    def __init__(
        self, path: PathOrFile, sample_rate: int, channels: int, subtype: str | None = None
    ) -> None:
        self.name = label(path)
        self.sample_rate = sample_rate = whole_rate(sample_rate, self.name)
        self.channels = channels
        self.frames = self.clipped = 0
        self.peak = 0.0
        self._samples_crc = 0
        self._target = Path(path) if isinstance(path, str | os.PathLike) else None
        suffix = self._target.suffix.lower() if self._target else ".wav"
        if suffix not in FORMATS:
            raise AudioError(f"{self.name}: unknown output format; use {', '.join(FORMATS)}")
        subtypes = FORMATS[suffix]
        if (subtype := subtype or next(iter(subtypes))) not in subtypes:
            raise AudioError(
                f"{self.name}: {suffix[1:]} holds no {subtype}; choose {' or '.join(subtypes)}"
            )
        if channels not in (1, 2):
            raise AudioError(f"{self.name}: cannot hold {channels} channels; give 1 or 2")
        if not (self._target or hasattr(path, "write")):
            raise AudioError(f"{self.name}: give a file name, or a file open for writing bytes")
        if self._target and self._target.is_dir():
            raise AudioError(f"{self.name}: is a folder; give a file name")
        self._bits = BITS.get(subtypes[subtype])
        self._coded = suffix in QUALITY
        self._sink: Any = None
        self._part: Path | None = None
        self._file: Any = path
        with self._explained():
            if self._target:
                part = f"{_part_prefix(self._target)}{uuid.uuid4().hex[:12]}.part"
                self._part = self._target.with_name(part)
                self._file = _OutputFile(self._part, "xb+")
            self._sink = (
                _WavSink(self._file, sample_rate, channels, self._bits)
                if suffix == ".wav"
                else self._encoder(suffix[1:], subtypes[subtype], QUALITY.get(suffix, {}))
            )
            self._raise_kept()

    def _encoder(self, kind: str, coding: str, quality: dict[str, Any]) -> soundfile.SoundFile:
        shape = (self.sample_rate, self.channels)
        try:
            return soundfile.SoundFile(self._file, "w", *shape, coding, format=kind, **quality)
        except soundfile.LibsndfileError as error:
            self.abort()
            hint = f"{kind} cannot hold {self.sample_rate} Hz; choose wav or flac"
            raise AudioError(f"{self.name}: {hint}") from error

    @property
    def overloads(self) -> bool:
        """Whether a coded file has samples beyond +-1, which whoever decodes to integers clips."""
        return self._coded and self.peak > 1

    def write(self, block: npt.ArrayLike) -> None:
        """Append samples [channels, n]."""
        samples = np.asarray(block, dtype=np.float32)
        if self._sink is None or samples.ndim != 2 or samples.shape[0] != self.channels:
            raise AudioError(
                f"{self.name}: cannot take {samples.shape}; open it, give [channels, n]"
            )
        if not np.isfinite(samples).all():
            raise AudioError(f"{self.name}: not written, for its samples hold NaN or infinity")
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0)))
        self._samples_crc = zlib.crc32(samples.tobytes("F"), self._samples_crc)
        for start in range(0, samples.shape[1], BLOCK):  # long blocks overflow libvorbis' stack
            piece: npt.NDArray[Any] = samples[:, start : start + BLOCK].T
            if self._bits:
                full = 2.0 ** (self._bits - 1)
                self.clipped += int((np.abs(piece) > 1).sum())
                piece = np.clip(np.rint(piece * full), -full, full - 1).astype(np.int32)
                piece <<= 32 - self._bits  # the sinks take the upper bits
            with self._explained():
                self._sink.write(piece)
                self._raise_kept()
        self.frames += samples.shape[1]

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._sink is None:
            return
        with self._explained():
            self._sink.close()
            if self._target and self._part:
                if self._target.suffix.lower() == ".ogg":
                    _name_ogg_stream(self._file, self._samples_crc)
                self._raise_kept()
                os.fsync(self._file.fileno())  # whole before it has its name, even if power fails
                self._file.close()
                self._part.replace(self._target)
        self._sink = self._part = None

    def abort(self) -> None:
        """Leave nothing behind."""
        sink, part, self._sink, self._part = self._sink, self._part, None, None
        with contextlib.suppress(OSError, soundfile.LibsndfileError):
            if sink is not None:
                sink.close()
        if part and isinstance(self._file, _OutputFile):
            self._file.close()
            part.unlink(missing_ok=True)

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        (self.close if kind is None else self.abort)()

    def _raise_kept(self) -> None:
        if isinstance(self._file, _OutputFile) and self._file.error:
            raise self._file.error

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, soundfile.LibsndfileError) as error:
            self.abort()
            reason = getattr(error, "strerror", None) or error
            raise AudioError(
                f"{self.name}: cannot be written ({reason}); choose another place or free space"
            ) from error


class _OutputFile(io.FileIO):
    """A file that keeps its first error to itself: libsndfile, which calls it, would lose it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view, done = memoryview(data), 0
        try:
            while done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = self.error or error
        return len(view)


class _WavSink:
    """wav without libsndfile: for pipes, for RF64, and without its time stamp in float files."""

    def __init__(self, file: Any, sample_rate: int, channels: int, bits: int | None) -> None:
        self._file, self._bits = file, bits or 32
        self._sample_rate, self._channels, self._frames = sample_rate, channels, 0
        self._width = channels * self._bits // 8
        file.write(self._header(None))

    def write(self, samples: npt.NDArray[Any]) -> None:
        kind = "<f4" if self._bits == 32 else "<i4"
        raw = np.ascontiguousarray(samples, kind).view(np.uint8).reshape(-1, 4)
        self._file.write(raw[:, 4 - self._bits // 8 :].tobytes())
        self._frames += len(samples)

    def close(self) -> None:
        if isinstance(self._file, _OutputFile):
            self._file.write(b"\0" * (self._frames * self._width % 2))
            self._file.seek(0)
            self._file.write(self._header(self._frames))
        self._file.flush()

    def _header(self, frames: int | None) -> bytes:
        """Return 92 bytes; those of a chunk to be skipped keep the place of RF64's 64-bit sizes."""
        count = frames or 0
        size = UNKNOWN if frames is None else count * self._width
        riff = 84 + size + size % 2
        long = frames is not None and riff > WAV_LIMIT
        sizes = (b"ds64", 28, riff, size, count, 0) if long else (b"JUNK", 28, 0, 0, 0, 0)
        pcm = (self._sample_rate, self._sample_rate * self._width, self._width, self._bits)
        kind = 3 if self._bits == 32 else 1  # float or integer
        return (
            struct.pack(
                "<4sI4s",
                b"RF64" if long else b"RIFF",
                UNKNOWN if long else min(riff, UNKNOWN),
                b"WAVE",
            )
            + struct.pack("<4sIQQQI", *sizes)
            + struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, self._channels, *pcm)
            + struct.pack("<4sII", b"fact", 4, min(count, UNKNOWN))
            + struct.pack("<4sI", b"data", UNKNOWN if long else size)
        )


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of a file that they were writing."""
    prefix = _part_prefix(target)
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            if path.name.startswith(prefix) and path.suffix == ".part":
                path.unlink()


def _part_prefix(target: Path) -> str:
    """How the names of the temporary files of a target begin; those of other targets do not."""
    digest = hashlib.sha256(target.name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f".{target.stem[:40]}.{digest}."


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _name_ogg_stream(file: io.FileIO, number: int) -> None:
    """Give an Ogg file's stream a number of its content's; libsndfile draws one at random.

    It stands on every page, and must differ where files are chained. A page is 27 bytes, of which
    14 to 17 are the number, 22 to 25 the page's CRC, the last how many segments follow; then their
    lengths; then the segments.
    """
    at = 0
    while True:
        file.seek(at)
        page = bytearray(file.read(27 + 255))
        if len(page) < 27:
            return
        lengths = 27 + page[26]
        size = lengths + sum(page[27:lengths])
        page += file.read(size - len(page)) if size > len(page) else b""
        del page[size:]
        page[14:18], page[22:26] = number.to_bytes(4, "little"), bytes(4)
        page[22:26] = _ogg_crc(page).to_bytes(4, "little")
        file.seek(at)
        file.write(page)
        at += size


def _ogg_crc(page: bytearray) -> int:
    """Ogg's CRC: the polynomial of zlib's, but from the highest bit down, and begun with 0."""
    mirrored = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _drop(blocks: Iterable[FloatArray], count: int) -> Iterator[FloatArray]:
    """Leave out the first `count` samples."""
    for block in blocks:
        if block.shape[1] > count:
            yield block[:, count:]
        count = max(0, count - block.shape[1])


def _rechunk(blocks: Iterable[FloatArray], size: int) -> Iterator[FloatArray]:
    """Give the same samples in blocks of `size`, the last one shorter."""
    held: list[FloatArray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= size:
            joined = np.concatenate(held, axis=1)
            for start in range(0, count - size + 1, size):
                yield joined[:, start : start + size]
            count %= size
            held = [joined[:, joined.shape[1] - count :]]
    if count:
        yield np.concatenate(held, axis=1)
