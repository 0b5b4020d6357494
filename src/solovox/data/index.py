"""Songs found in a folder, and random access to the samples of their stems.

A training pair is (vocals, accompaniment), both float32 [2, frames]. What is on disk decides how
a song is read:

    SONG/{vocals,mixture}.wav            accompaniment = mixture - vocals
    SONG/{vocals,accompaniment}.wav      as they are ("instrumental" is the same as "accompaniment")
    SONG/{vocals,drums,bass,other,…}.wav accompaniment = the rest summed (MUSDB18-HQ, MSST type 1)
    SONG.stem.mp4                        five streams: mixture, drums, bass, other, vocals (MUSDB18)
    SONG/accompaniment.wav               music without a voice: only ever remixed under another song
    vocals/*.wav, other/*.wav            a folder a stem, unpaired: joined at random (MSST type 2)
    *.csv with columns instrum,path      unpaired lists of files, joined at random (MSST type 3)

Songs may lie a few folders down (train/SONG). wav, flac, ogg, aiff, opus and mp3 are read by
libsndfile, which seeks; m4a and mp4 by PyAV, which seeks to a little before and decodes from
there. An optional ROOT/weights.json ({"SONG": 2.0}) says how often a song is drawn, relative to
its length; one file above the folders train and valid may serve them all ({"train/SONG": 2.0}).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath

import av
import numpy as np
import numpy.typing as npt
import soundfile

from solovox.audio import RATES
from solovox.errors import DataError, reason

Audio = npt.NDArray[np.float32]

VOCALS = "vocals"
ACCOMPANIMENT = "accompaniment"
MIXTURE = "mixture"

SEEKABLE = frozenset({".wav", ".flac", ".ogg", ".aiff", ".aif", ".opus", ".mp3"})
DECODED = frozenset({".m4a", ".mp4", ".aac"})
STEM_FILE = ".stem.mp4"
# Streams of a MUSDB18 stem file; the coded mixture (stream 0) is not the sum, and left alone.
STREAMS: Mapping[str, tuple[int, ...]] = {VOCALS: (4,), ACCOMPANIMENT: (1, 2, 3)}
# Other names under which data sets keep the same stem.
SYNONYMS: Mapping[str, str] = {
    "instrumental": ACCOMPANIMENT,
    "instrum": ACCOMPANIMENT,
    "no_vocals": ACCOMPANIMENT,
    "mix": MIXTURE,
}
DEPTH = 4  # folders below the root in which songs are looked for
LAST_PAGE = 255 * 1024  # samples that a page of Vorbis can span: 255 packets of half a block
PREROLL = 4096  # samples decoded before the wanted ones: a codec of overlapping blocks settles


@dataclass(frozen=True)
class Member:
    """A file inside an uncompressed tar archive.

    Attributes:
        archive: the archive.
        name: the file's name in it.
        offset: where its bytes begin in the archive.
        size: number of bytes.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    @property
    def suffix(self) -> str:
        """The end of the file's name, with the dot."""
        return PurePath(self.name).suffix

    def exists(self) -> bool:
        """Whether the archive is there."""
        return self.archive.exists()

    def open(self) -> io.BytesIO:
        """The file's bytes as a file."""
        with self.archive.open("rb") as file:
            if self.offset + self.size > file.seek(0, io.SEEK_END):
                raise DataError(f"{self}: lies beyond the archive's end; write the shards again")
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


@dataclass(frozen=True)
class Song:
    """One song, or one unpaired file, of a data set.

    Attributes:
        name: path of the song below the data set's folder.
        stems: the files that are summed to each stem; "mixture" is there where the data set has
            it. A stem file (.stem.mp4) stands under each stem that it holds. An unpaired song has
            one stem only.
        frames: length in samples at `sample_rate`.
        sample_rate: rate of the files in Hz.
        weight: how often it is drawn, relative to its length; 1 is plain.
    """

    name: str
    stems: Mapping[str, tuple[Path | Member, ...]]
    frames: int
    sample_rate: int
    weight: float = 1.0

    @property
    def paired(self) -> bool:
        """Whether both the vocals and their own accompaniment can be read."""
        return VOCALS in self.stems and bool({ACCOMPANIMENT, MIXTURE} & self.stems.keys())

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


Found = Callable[[], Song]


def find_songs(root: str | Path, on_fault: Callable[[DataError], None] | None = None) -> list[Song]:
    """The songs below `root`, in the order of their names.

    Args:
        root: folder of any layout above, or a CSV list.
        on_fault: is told of each song that cannot be used, which is then left out; without it,
            the first such song is an error.

    Raises:
        DataError: nothing found, a song without vocals, stems of different length, mixed sample
            rates, a file that cannot be read, weights for a song that is not there.
    """
    root = Path(root)
    songs: list[Song] = []
    faults = 0
    for found in _scan(root):
        try:
            song = found()
            if songs and song.sample_rate != songs[0].sample_rate:
                raise DataError(
                    f"{_first_file(song)}: {song.sample_rate} Hz, but {_first_file(songs[0])} has "
                    f"{songs[0].sample_rate} Hz; bring the data set to one rate"
                )
            songs.append(song)
        except DataError as fault:
            if on_fault is None:
                raise
            on_fault(fault)
            faults += 1
    if not songs:
        raise DataError(f"{root}: no songs found; a song is a folder with vocals.wav + mixture.wav")
    if not any(VOCALS in song.stems for song in songs):
        raise DataError(f"{root}: no vocals among {len(songs)} files; a stem must be called vocals")
    if not any(song.stems.keys() - {VOCALS} for song in songs):
        raise DataError(f"{root}: vocals only; add a mixture, an accompaniment or other music")
    return _weighted(sorted(songs, key=lambda song: song.name), root, strict=not faults)


def read_pair(song: Song, start: int, frames: int) -> tuple[Audio, Audio]:
    """Vocals and accompaniment of a paired song, float32 [2, frames] each; zeros past the end.

    Args:
        song: a paired song.
        start: first sample, at the song's rate.
        frames: number of samples.

    Raises:
        DataError: a file cannot be read, or the song is not paired.
    """
    vocals = read_stem(song, VOCALS, start, frames)
    return vocals, read_accompaniment(song, start, frames, vocals)


def read_accompaniment(song: Song, start: int, frames: int, vocals: Audio | None = None) -> Audio:
    """The accompaniment [2, frames]: its own stems if there are any, else mixture - vocals.

    Args:
        song: a song with accompaniment or mixture.
        start: first sample.
        frames: number of samples.
        vocals: the vocals of the same place [2, frames], if at hand, to spare a second reading.
    """
    if ACCOMPANIMENT in song.stems:
        return read_stem(song, ACCOMPANIMENT, start, frames)
    if vocals is None:
        vocals = read_stem(song, VOCALS, start, frames)
    return read_stem(song, MIXTURE, start, frames) - vocals


def read_stem(song: Song, stem: str, start: int, frames: int) -> Audio:
    """One stem, float32 [2, frames]: the sum of its files; mono is doubled; zeros past the end.

    Raises:
        DataError: the song has no such stem, or a file cannot be read.
    """
    if start < 0:
        raise ValueError(f"start must not be negative: {start}")
    if stem not in song.stems:
        raise DataError(
            f"{_first_file(song)}: the song {song.name} has no {stem}; it cannot be used as a pair"
        )
    total = np.zeros((2, frames), np.float32)
    wanted = max(0, min(frames, song.frames - start))
    for path in song.stems[stem] if wanted else ():
        if isinstance(path, Path) and path.suffix.lower() in DECODED:
            total[:, :wanted] += _decode(path, _streams(path, stem), start, wanted)
        else:
            total[:, :wanted] += _seek(path, start, wanted)
    return total


# ---- what is there -----------------------------------------------------------------------------


def _scan(root: Path) -> Iterator[Found]:
    """What may be songs, each as a function that makes the song or raises DataError."""
    if not root.exists():
        raise DataError(f"{root}: no such folder; give the folder that holds the songs")
    if root.is_file():
        yield from _from_csv(root, root.parent)
        return
    lists = [path for path in sorted(root.glob("*.csv")) if _is_list(path)]
    for path in lists:
        yield from _from_csv(path, root)
    if not lists:
        yield from _from_folder(root, root, DEPTH)


def _from_folder(folder: Path, root: Path, depth: int) -> Iterator[Found]:
    """Songs of a folder: itself one, or a folder a stem, or songs further down."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    for path in files:
        if path.name.lower().endswith(STEM_FILE):
            yield partial(_song, path, root, dict.fromkeys(STREAMS, (path,)))
    audio = [path for path in files if _is_audio(path)]
    if audio:
        yield partial(_from_stems, folder, root, audio)
        return
    folders = [entry for entry in entries if entry.is_dir()]
    by_stem = {
        _stem(entry): [path for path in sorted(entry.iterdir()) if _is_audio(path)]
        for entry in folders
    }
    if by_stem.get(VOCALS):
        items = [(stem, path) for stem, paths in by_stem.items() for path in paths]
        yield from _unpaired(items, root)
    elif depth:
        for entry in folders:
            yield from _from_folder(entry, root, depth - 1)


def _from_stems(folder: Path, root: Path, files: Sequence[Path]) -> Song:
    """The song of a folder of stems."""
    found: dict[str, Path] = {}
    for path in files:
        if _stem(path) in found:
            raise DataError(
                f"{path}: a second file for the stem {_stem(path)}; keep one of the two"
            )
        found[_stem(path)] = path
    if found.keys() == {ACCOMPANIMENT}:
        return _song(folder, root, {ACCOMPANIMENT: (found[ACCOMPANIMENT],)})
    if VOCALS not in found:
        names = ", ".join(path.name for path in files[:4])
        raise DataError(f"{folder}: no vocals (found {names}); a song needs a file called vocals")
    stems: dict[str, tuple[Path, ...]] = {VOCALS: (found[VOCALS],)}
    rest = tuple(path for stem, path in found.items() if stem not in (VOCALS, MIXTURE))
    if ACCOMPANIMENT in found:
        stems[ACCOMPANIMENT] = (found[ACCOMPANIMENT],)
    elif rest:
        stems[ACCOMPANIMENT] = rest
    if MIXTURE in found:
        stems[MIXTURE] = (found[MIXTURE],)
    if len(stems) == 1:
        raise DataError(
            f"{found[VOCALS]}: nothing to sing over; add mixture.wav or accompaniment.wav beside it"
        )
    return _song(folder, root, stems)


def _unpaired(items: Sequence[tuple[str, Path]], root: Path) -> Iterator[Found]:
    """One song a file; a whole accompaniment, where there is one, makes its parts superfluous."""
    whole = any(stem == ACCOMPANIMENT for stem, _ in items)
    for stem, path in items:
        if stem != MIXTURE and (not whole or stem in (VOCALS, ACCOMPANIMENT)):
            yield partial(_song, path, root, {stem: (path,)})


def _is_list(path: Path) -> bool:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return {"instrum", "path"} <= set(next(csv.reader(file), []))


def _from_csv(path: Path, root: Path) -> Iterator[Found]:
    """Unpaired songs of a list; its paths may be relative to the list."""
    if not _is_list(path):
        raise DataError(f"{path}: not a list of stems; its first line must be: instrum,path")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, start=2):
        if not row["instrum"] or not row["path"]:
            raise DataError(
                f"{path}: line {number} has no stem or no path; it must be: instrum,path"
            )
    items = [
        (SYNONYMS.get(row["instrum"], row["instrum"]), path.parent / row["path"]) for row in rows
    ]
    yield from _unpaired(items, root)


def _song(place: Path, root: Path, stems: Mapping[str, tuple[Path, ...]]) -> Song:
    """A song whose files agree in rate and length."""
    name = (place.relative_to(root) if place.is_relative_to(root) else place).as_posix()
    first: tuple[int, int] | None = None
    for path in dict.fromkeys(path for paths in stems.values() for path in paths):
        rate, frames = _measure(path)
        first = first or (rate, frames)
        if rate != first[0]:
            raise DataError(
                f"{path}: {rate} Hz, but the song's first stem has {first[0]}; bring them to one"
            )
        if frames != first[1]:
            raise DataError(
                f"{path}: {frames} samples, but its first stem has {first[1]}; make them equal"
            )
    assert first is not None
    if first[1] == 0:
        raise DataError(f"{_first_of(stems)}: no samples in it; remove it or make it again")
    return Song(name if name != "." else place.resolve().name, dict(stems), first[1], first[0])


def _weighted(songs: list[Song], root: Path, strict: bool) -> list[Song]:
    """The songs with the weights of weights.json, if there is one: in the folder itself, or above.

    A file in the folder names the songs ("SONG"), one in the folder above also the split
    ("train/SONG").
    """
    folder = root if root.is_dir() else root.parent
    for path, prefix in (
        (folder / "weights.json", ""),
        (folder.parent / "weights.json", f"{folder.name}/"),
    ):
        if path.is_file():
            weights = _read_weights(path, prefix)
            break
    else:
        return songs
    unknown = weights.keys() - {song.name for song in songs}
    if unknown and strict:  # else it may be the weight of a song that was left out
        raise DataError(
            f"{path}: a weight for {prefix}{min(unknown)}, which is not there; mend the name"
        )
    if not any(weights.get(song.name, 1.0) for song in songs):
        raise DataError(f"{path}: every song has the weight 0; give one of them more")
    return [replace(song, weight=weights.get(song.name, 1.0)) for song in songs]


def _read_weights(path: Path, prefix: str) -> dict[str, float]:
    """The weights of the songs whose names begin with `prefix`, which is taken off."""
    try:
        found = {
            str(name): float(weight) for name, weight in json.loads(path.read_text("utf-8")).items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f'{path}: not of the form {{"SONG": 1.5}} ({error})') from error
    for name, weight in found.items():
        if not 0.0 <= weight < float("inf"):
            raise DataError(
                f"{path}: the weight of {name} is {weight}; it must be a number from 0 up"
            )
    return {
        name[len(prefix) :]: weight for name, weight in found.items() if name.startswith(prefix)
    }


def _is_audio(path: Path) -> bool:
    name = path.name.lower()
    return (
        not name.endswith(STEM_FILE)
        and path.suffix.lower() in SEEKABLE | DECODED
        and not name.startswith(".")
    )


def _stem(path: Path) -> str:
    name = path.stem.lower() if path.is_file() else path.name.lower()
    return SYNONYMS.get(name, name)


def _first_of(stems: Mapping[str, tuple[Path, ...]]) -> Path:
    return next(iter(stems.values()))[0]


def _first_file(song: Song) -> Path | Member:
    return next(iter(song.stems.values()))[0]


def _streams(path: Path, stem: str) -> tuple[int, ...]:
    return STREAMS[stem] if path.name.lower().endswith(STEM_FILE) else (0,)


# ---- reading -----------------------------------------------------------------------------------


def _measure(path: Path) -> tuple[int, int]:
    """(sample rate in Hz, length in samples) of a file, from its header."""
    if path.suffix.lower() not in DECODED:
        try:
            with soundfile.SoundFile(path) as file:
                _check(path, file.channels, file.samplerate)
                return file.samplerate, file.frames
        except (soundfile.LibsndfileError, OSError) as error:
            raise _unreadable(path, error) from error
    try:
        with av.open(str(path)) as container:
            streams = container.streams.audio
            if path.name.lower().endswith(STEM_FILE) and len(streams) != 5:
                raise DataError(
                    f"{path}: {len(streams)} streams of sound, but a MUSDB18 stem file has 5"
                )
            if not streams:
                raise DataError(f"{path}: no sound in it; remove it")
            _check(path, streams[0].codec_context.channels, streams[0].rate)
            return streams[0].rate, min(_stream_frames(stream) for stream in streams)
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _stream_frames(stream: av.AudioStream) -> int:
    if stream.duration is None or stream.time_base is None:
        return 0
    return round(stream.duration * stream.time_base * stream.rate)


def _seek(path: Path | Member, start: int, frames: int) -> Audio:
    """float32 [2, frames] from `start`, by libsndfile."""
    try:
        source = path.open() if isinstance(path, Member) else path
        with soundfile.SoundFile(source) as file:
            _check(path, file.channels, file.samplerate)
            if start + frames > file.frames:
                raise DataError(f"{path}: shorter than it was; make it, or the shards, again")
            skip = 0
            if path.suffix.lower() == ".ogg":
                # Vorbis: libsndfile misses the place by up to a block when it lands on the last
                # page (libsndfile issue 885), so land before it and read on.
                skip = start - max(0, min(start, file.frames - LAST_PAGE))
            file.seek(start - skip)
            read = file.read(skip + frames, dtype="float32", always_2d=True, fill_value=0.0)
            samples: Audio = read[skip:].T
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    return samples  # one row is broadcast to two by the caller's sum


def _decode(path: Path, streams: tuple[int, ...], start: int, frames: int) -> Audio:
    """Sum of some streams, float32 [2, frames] from `start`, by PyAV.

    |--preroll--|=========== wanted ===========|
    ^ seek      ^ start                        ^ start + frames
    """
    total = np.zeros((2, frames), np.float32)
    try:
        for index in streams:
            with av.open(str(path)) as container:
                stream = container.streams.audio[index]
                assert stream.time_base is not None
                early = max(0, start - PREROLL) / stream.rate
                container.seek(int(early / stream.time_base), stream=stream)
                resampler = av.AudioResampler(format="fltp", layout="stereo", rate=stream.rate)
                for frame in container.decode(stream):
                    assert frame.time is not None
                    position = round(frame.time * stream.rate) - start
                    for block in resampler.resample(frame):
                        _add_at(total, block.to_ndarray().astype(np.float32, copy=False), position)
                    if position + frame.samples >= frames:
                        break
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error
    return total


def _add_at(total: Audio, block: Audio, position: int) -> None:
    """Add `block` [2, n] to `total` at `position`, which may lie outside."""
    low, high = max(0, position), min(total.shape[1], position + block.shape[1])
    if low < high:
        total[:, low:high] += block[:, low - position : high - position]


def _check(path: Path | Member, channels: int, sample_rate: int) -> None:
    """Refuse what a header cannot mean, and what would take memory without bounds."""
    if channels > 2:
        raise DataError(f"{path}: {channels} channels; only mono and stereo can be used")
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise DataError(f"{path}: {sample_rate} Hz is out of range; make it again")


def _unreadable(path: Path | Member, error: Exception) -> DataError:
    if not path.exists():
        return DataError(f"{path}: no such file")
    why = getattr(error, "error_string", None) or reason(error)  # libsndfile's without the name
    return DataError(f"{path}: cannot be read as audio ({why}); remove it or make it again")
