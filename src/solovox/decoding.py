"""Decode any audio file or pipe in small pieces, float32 [channels, samples].

Two decoders stand behind one function. libsndfile reads what it can seek in exactly: wav, aiff,
flac, Ogg. FFmpeg inside PyAV reads the rest, mp3, m4a, aac, mp4, webm, and pipes.

A file that ends before its header says is an error: half a song must never pass for a whole one.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import av
import numpy as np
import numpy.typing as npt
import soundfile

from solovox.errors import AudioError, printable

FloatArray: TypeAlias = npt.NDArray[np.float32]
PathOrFile: TypeAlias = str | os.PathLike[str] | BinaryIO

BLOCK = 65_536  # samples a channel, decoded or encoded at once
PREROLL = 2  # s decoded before a seek target: lossy decoders have settled by then
SLACK = 0.1  # s by which a coded file's stated duration may exceed its sound
AGAIN = "download or export it again, or keep what is there: `ffmpeg -i FILE out.wav`"
# PyAV has an IndexError for streams that appear midway, a MemoryError for absurd sizes.
DECODING_ERRORS = (av.FFmpegError, soundfile.LibsndfileError, IndexError, MemoryError)
av.logging.set_level(None)  # FFmpeg would write to the terminal; its errors come as exceptions


def open_source(
    path: PathOrFile, name: str, opened: contextlib.ExitStack
) -> SoundFileSource | AvSource:
    """Return a decoder at the start of the sound.

    Both kinds have `sample_rate` and `channels`, as yet unchecked; `frames`, exact or None;
    `seconds`, an estimate or None; `least`, the frames below which the file was cut short;
    `forgets`, whether samples soon cease to depend on where decoding began.

    Args:
        path: a file name or a binary file.
        name: what to call it in errors.
        opened: gets everything that must be closed.
    """
    if isinstance(path, str | os.PathLike):
        file = opened.enter_context(_open_file(path, name))
    elif hasattr(path, "read") and not isinstance(path, io.TextIOBase):
        file = path
    else:
        raise AudioError(
            f"{name}: is neither a file name nor a file open for reading bytes, but a "
            f"{type(path).__name__}"
        )
    if _for_soundfile(file, name):
        try:
            return SoundFileSource(_Quiet(file), name, opened)
        except soundfile.LibsndfileError:
            file.seek(0)
    return AvSource(_Quiet(file), name, opened)


def _open_file(path: str | os.PathLike[str], name: str) -> BinaryIO:
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{name}: is a folder; name an audio file in it")
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
            raise AudioError(f"{name}: is neither a file nor a pipe; name an audio file")
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise AudioError(f"{name}: is empty (0 bytes); download or export it again")
        return Path(path).open("rb")
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file; check the name and the folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: cannot be opened ({reason}); check its permissions") from error


SOUNDFILE_MAGIC = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM"),  # wav, W64, aiff
    *(b"fLaC", b"OggS", b".snd", b"caff"),
)


def _for_soundfile(file: BinaryIO, name: str) -> bool:
    """Return whether libsndfile is to try first; raise for an Ogg file that was cut short."""
    if not file.seekable():
        return False
    file.seek(0)
    head, fit = file.read(32), True
    if head.startswith(b"OggS"):
        # Ogg states no length, but pages do, and the last must be whole. libsndfile reads only the
        # first of several chained or mixed streams; their serial numbers (bytes 14 to 17) differ.
        file.seek(-min(file.seek(0, os.SEEK_END), 1 << 17), os.SEEK_END)
        tail = file.read()
        page = tail[max(0, tail.rfind(b"OggS")) :].ljust(27, b"\xff")  # its header has 27 bytes
        lacing = page[27 : 27 + page[26]]
        rest = page[27 + page[26] + sum(lacing) :]
        missing = 27 + page[26] + sum(lacing) > len(page)
        if missing or (rest and b"OggS".startswith(rest)):
            raise AudioError(f"{name}: ends early, within a page of Ogg; {AGAIN}")
        fit = page[14:18] == head[14:18]
    if head.startswith(b"caff"):
        fit = head[28:32] == b"lpcm"  # libsndfile prints what it finds wrong in Apple Lossless
    file.seek(0)
    return fit and head.startswith(SOUNDFILE_MAGIC)


class _Quiet:
    """A file as the libraries see it.

    It has no name, whose suffix FFmpeg would believe. When a damaged header asks for places that
    are not there it raises nothing, which would be printed, and for much at once it gives less.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seekable = file, file.tell, file.seekable

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 64 * BLOCK))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


# What libsndfile logs when it cuts a stated size down to what the file holds.
SHORTENED = re.compile(
    r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)", re.M
)
UNSTATED = 0x7FFFF000  # bytes; programs that write to a pipe state this or more


class SoundFileSource:
    """libsndfile: lengths and seeks are exact."""

    def __init__(self, file: _Quiet, name: str, opened: contextlib.ExitStack) -> None:
        self._file = opened.enter_context(soundfile.SoundFile(file))
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int | None = self._file.frames
        self.least: float = self._file.frames
        self.seconds: float | None = self._file.frames / max(self.sample_rate, 1)
        self.forgets = self._file.subtype != "OPUS"
        # PyAV is better at flac and wav of unknown length, and at mp3 inside wav.
        if not 0 < self.least < 1 << 60 or self._file.subtype.startswith("MPEG"):
            raise soundfile.LibsndfileError(1)
        if size := SHORTENED.search(self._file.extra_info):
            stated, there = int(size[1]), int(size[2])
            frame = there / max(self.least, 1)
            if stated < UNSTATED and stated - there >= frame:
                raise cut_short(name, self.seconds, self.seconds * stated / max(there, 1))

    def read(self) -> FloatArray:
        """Return the next [channels, samples]; none at the end."""
        return cast(FloatArray, self._file.read(BLOCK, dtype="float32", always_2d=True).T)

    def jump(self, frame: int) -> int:
        """Go to `frame` or somewhat before it; return where."""
        if not self._file.seekable():
            return 0
        start = max(0, frame - PREROLL * self.sample_rate)
        return int(self._file.seek(min(start, int(self.least))))


MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
STATES_LENGTH = (MP4, "matroska,webm", "wav", "aiff", "flac", "avi")
EXACT_TIMES = (MP4, "mp3")  # time stamps are exact to a sample: a seek knows where it landed
# Formats and codecs of sound alone: no play lists that open other files, no video decoders.
AV_FORMATS = "mov,mp3,aac,matroska,ogg,wav,aiff,flac,asf,avi,mpeg,mpegts,ac3,ape,wv,tta"
AV_CODECS = (
    *("aac", "aac_latm", "ac3", "alac", "ape", "eac3", "flac", "libopus", "libvorbis", "mp1float"),
    *("mp2float", "mp3float", "opus", "tta", "vorbis", "wavpack", "wmapro", "wmav1", "wmav2"),
    *(name for name in sorted(av.codecs_available) if re.match("adpcm_|pcm_(?!s64)", name)),
)
AV_OPTIONS = {
    "format_whitelist": AV_FORMATS,
    "codec_whitelist": ",".join(AV_CODECS),
    "protocol_whitelist": "none",
}
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}


class AvSource:
    """FFmpeg. The first frame is decoded at opening: a header of aac may state half its rate.

    Encoders add silence at both ends. FFmpeg drops it at the start, and at the end of mp3 and Opus.
    In mp4 the last packet's duration or the edit list tells how much of the last frame is sound.
    """

    def __init__(self, file: _Quiet, name: str, opened: contextlib.ExitStack) -> None:
        self._name, first = name, None
        try:
            container = av.open(file, "r", options=AV_OPTIONS, metadata_errors="replace")
            self._container = opened.enter_context(container)
            if not container.streams.audio:
                raise AudioError(f"{name}: has no audio track; name a file with sound")
            self._stream = stream = container.streams.audio[0]
            if stream.codec_context is None or stream.codec_context.name not in AV_CODECS:
                raise AudioError(f"{name}: its audio codec is not known; convert it to flac first")
            self.sample_rate, self.channels = stream.rate, stream.channels
            if self.channels <= 2:  # the reader refuses more
                self._frames = self._decode()
                first = next(self._frames)
                self.sample_rate, self.channels = first.sample_rate, first.layout.nb_channels
        except (*DECODING_ERRORS, StopIteration) as error:
            pipe = "" if file.seekable() else "; m4a and mp4 need a file, not a pipe"
            raise AudioError(
                f"{name}: is not audio, or is damaged, cut short or without samples; if it plays "
                f"elsewhere, convert it first: `ffmpeg -i FILE out.wav`{pipe}"
            ) from error
        kind, seconds = container.format.name, _stated_seconds(container, stream)
        self._origin = first.pts if first is not None else None
        self._samples_per_tick = (stream.time_base or Fraction(1)) * self.sample_rate
        self._exact = kind in EXACT_TIMES and file.seekable() and self._origin is not None
        self._blocks = self._arrays(first)
        self.seconds, self.least = seconds, 0.0
        # Opus predicts from its past, aac fills bands with one endless series of random numbers.
        self.forgets = stream.codec_context.name.startswith(
            ("pcm", "flac", "alac", "mp3", "vorbis")
        )
        self.frames: int | None = None
        if seconds is not None and kind in STATES_LENGTH:
            self.least = (seconds - SLACK) * self.sample_rate
        self._length = (stream.duration or 0) * self._samples_per_tick
        self._mp4 = kind == MP4 and self._samples_per_tick == 1
        tagged = (stream.start_time or 0) * self._samples_per_tick > 529  # the decoder's own delay
        if kind == "mp3" and tagged and self._length and self._length.denominator == 1:
            # LAME's tag counts samples; without it the length is guessed from the bit rate.
            self.least = self.frames = int(self._length)

    def read(self) -> FloatArray:
        """Return the next [channels, samples]; none at the end."""
        return next(self._blocks, np.zeros((self.channels, 0), np.float32))

    def jump(self, frame: int) -> int | None:
        """Go to `frame` or somewhat before it, right after opening; return where, None if lost."""
        start = frame - PREROLL * self.sample_rate
        if start <= 0 or not self._exact or self._origin is None:
            return 0
        try:
            target = self._origin + int(start / self._samples_per_tick)
            self._container.seek(target, stream=self._stream)
            self._frames = self._decode()
            first = next(self._frames)
        except (*DECODING_ERRORS, StopIteration):
            return None
        if first.pts is None:
            return None
        self._blocks = self._arrays(first)
        landed = (first.pts - self._origin) * self._samples_per_tick
        return int(landed) if landed.denominator == 1 and 0 <= landed <= frame else None

    def _decode(self) -> Iterator[av.AudioFrame]:
        failure: av.FFmpegError | None = None
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                failure = failure or error
                continue
            if failure and frames:
                raise failure
            yield from frames
        # Tags may follow the sound of mp3; and where the length is stated, that tells what is lost.
        if failure and self._container.format.name not in ("mp3", *STATES_LENGTH):
            raise failure

    def _arrays(self, held: av.AudioFrame | None) -> Iterator[FloatArray]:
        if held is None:
            return
        for frame in self._frames:
            yield self._array(held)
            held = frame
        yield self._array(held)[:, : self._sound(held)]

    def _sound(self, last: av.AudioFrame) -> int:
        """Return how many samples of the last frame are not the encoder's padding."""
        sound, counted = last.samples, self.frames is not None
        if not (self._mp4 or counted) or last.pts is None or self._origin is None:
            return sound
        if self._mp4 and 0 < last.duration < sound:
            sound = last.duration
        end = (last.pts - self._origin) * self._samples_per_tick + sound
        padding = int(end - self._length)
        # Edit lists of mp4 are often rounded to 1 ms, so trust them beyond that alone.
        fuzz = 0 if counted else self.sample_rate // 500
        return sound - padding if fuzz < padding < sound else sound

    def _array(self, frame: av.AudioFrame) -> FloatArray:
        if frame.sample_rate != self.sample_rate:
            raise AudioError(
                f"{self._name}: changes from {self.sample_rate} to {frame.sample_rate} Hz on the "
                "way; convert it first: `ffmpeg -i FILE out.wav`"
            )
        kind, channels = frame.format.name.removesuffix("p"), frame.layout.nb_channels
        data = frame.to_ndarray()
        if not frame.format.is_planar:
            data = data.reshape(-1, channels).T
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused later
            samples = data.astype(np.float32) - np.float32(128 * (kind == "u8"))
        samples /= np.float32(FULL_SCALE[kind])
        if channels != self.channels:  # it changed midway
            samples = samples.mean(axis=0, keepdims=True).repeat(self.channels, axis=0)
        return samples


def _stated_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    if container.format.name == "avi":  # FFmpeg guesses; the header counts, or states 2^30
        ticks = stream.frames if stream.frames < 1 << 30 else 0
        return float(ticks * stream.time_base) if ticks and stream.time_base else None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska tags each track with its length; the container's own is the longest track's.
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None


def label(path: PathOrFile) -> str:
    """Return what to call it in a message of one line."""
    if not isinstance(path, str | os.PathLike):
        name = getattr(path, "name", None)  # a number for a pipe
        path = name if isinstance(name, str) else "audio stream"
    return printable(os.fspath(path))


def cut_short(name: str, got: float, total: float | None) -> AudioError:
    """Return the error for sound that stops after `got` seconds."""
    of = f" of {total:.2f}" if total is not None and total > got else ""
    return AudioError(f"{name}: ends early or is damaged: {got:.2f}{of} s can be read; {AGAIN}")
