"""A data set in shards: a few large files in place of many, for network disks and object stores.

Songs are cut into pieces of some 30 s, the pieces shuffled, and written as WebDataset archives:

    OUT/index.json         every piece: its song, weight, and where its bytes lie in which archive
    OUT/shard-000000.tar   000000-0000.json, 000000-0000.vocals.flac,
                           000000-0000.accompaniment.flac, …
    OUT/shard-000000.json  the part of the index that belongs to one archive

The archives can be read by any WebDataset pipeline. `ShardChunks` reads them as `TrainingChunks`
reads a folder: items of the same form, each a pure function of (seed, index). It visits one
archive after the other, in an order that is shuffled anew in every epoch, and draws everything in
a chunk (its place, the next try after a silent one, the remixed accompaniment) from the archive
of the moment. So a worker holds one archive at a time, and its pages stay in the system's cache.
From a remote store each archive is fetched once, whole, into a local folder.

How often a piece comes up in an epoch: an epoch has L = round(total duration / chunk) chunks,
piece i a share b_i = L · weight_i · frames_i / sum, and its count is floor(B_i + u) -
floor(B_(i-1) + u), where B is the running sum of b and u one draw an epoch (systematic sampling):
the counts are b_i rounded up or down, and always sum to L.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from solovox.audio import RATES
from solovox.data.augment import Audio
from solovox.data.chunks import ChunkConfig, Pools, TrainingChunks
from solovox.data.index import (
    ACCOMPANIMENT,
    MIXTURE,
    VOCALS,
    Member,
    Song,
    find_songs,
    read_accompaniment,
    read_stem,
)
from solovox.errors import DataError
from solovox.files import written_whole
from solovox.settings import fits

INDEX = "index.json"
VERSION = 1
LARGEST_INDEX = 32 << 20  # bytes: some 1,200 hours in pieces of 30 s; reading takes ten times that
INDEX_ROW = 250  # bytes of it a piece, at most, without the song's name
MOST_HOURS = 5000.0  # of all pieces; an epoch's order takes 40 bytes a chunk


@dataclass(frozen=True)
class ShardConfig:
    """How a data set is cut.

    Attributes:
        piece_seconds: about how long a piece is: several chunks, and a chunk's length more when
            shifted up.
        pieces: number of pieces in an archive; 64 of 30 s are 32 minutes, some 250 MB of flac.
        format: "flac", or "wav" for twice the size or more, and less time to read.
        seed: of the order of the pieces.
    """

    piece_seconds: float = 30.0
    pieces: int = 64
    format: str = "flac"
    seed: int = 0


@dataclass(frozen=True)
class _Piece:
    song: Song
    start: int
    frames: int


def write_shards(
    root: str | Path,
    out: str | Path,
    config: ShardConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """The number of archives into which the songs below `root` are written.

    The result is the same bytes for the same songs and settings. Archives that are complete
    already are left alone, so that a killed run goes on where it stopped.

    Args:
        root: folder of songs, of any layout that `find_songs` reads.
        out: folder for the archives.
        config: how to cut.
        progress: is called with (archives done, archives in all) after each.

    Raises:
        DataError: the songs cannot be used, or `out` holds archives of something else.
    """
    config = config or ShardConfig()
    out = Path(out)
    songs = find_songs(root)
    plan = _plan(songs, config)
    stamp = _stamp(songs, config)
    if sum(len(json.dumps(piece.song.name)) + INDEX_ROW for piece in plan) > LARGEST_INDEX:
        raise DataError(f"{root}: {len(plan)} pieces are too many for an index; make them longer")
    _check_hours(str(root), songs)
    out.mkdir(parents=True, exist_ok=True)
    groups = [plan[first : first + config.pieces] for first in range(0, len(plan), config.pieces)]
    shards: list[Any] = []
    for number, group in enumerate(groups):
        part = out / f"shard-{number:06d}.json"
        if part.exists():
            shard = json.loads(part.read_text("utf-8"))
            if shard.get("stamp") != stamp:
                raise DataError(f"{part}: of other songs or settings; choose an empty folder")
        else:
            shard = {"stamp": stamp, **_write_shard(out, number, group, config)}
            _write_json(part, shard)
        shards.append({key: shard[key] for key in ("file", "pieces")})
        if progress is not None:
            progress(number + 1, len(groups))
    rate = songs[0].sample_rate
    _write_json(out / INDEX, {"version": VERSION, "sample_rate": rate, "shards": shards})
    return len(groups)


class ShardChunks(TrainingChunks):
    """Chunks (mixture, vocals) of a data set in shards, as `TrainingChunks` gives them of a folder.

    Args:
        root: folder of the archives, or its address (https://…, or what else webdataset opens).
        config: what a chunk is.
        seed: of all randomness.
        length: nominal length; any index from 0 up can be read.
        cache: local folder for what is fetched from an address.

    Raises:
        DataError: there is no index, or it cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        config: ChunkConfig,
        seed: int = 0,
        length: int = 1_000_000,
        cache: str | Path | None = None,
    ) -> None:
        self.store = _Store(str(root), cache)
        self.files, shards = _read_index(self.store)
        super().__init__([song for shard in shards for song in shard], config, seed, length)
        self._shard_pools = [_pools_of(shard, self._pools, config.band_weight) for shard in shards]
        # The pieces that start a chunk, each with the number of its archive.
        self._starts = [
            (number, song)
            for number, shard in enumerate(shards)
            for song in shard
            if VOCALS in song.stems
        ]
        seconds = sum(song.seconds for _, song in self._starts)
        self.epoch = max(1, round(seconds * config.sample_rate / config.samples))
        self._last: tuple[int, npt.NDArray[np.int64]] | None = None

    def pools(self, index: int) -> Pools:
        """The pools of the archive of chunk `index`, its piece first; the archive is fetched."""
        epoch, place = divmod(index, self.epoch)
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._order(epoch)
        number, song = self._starts[int(self._last[1][place])]
        pools = self._shard_pools[number]
        # An archive that lacks a stem borrows it from all the others.
        for file in self.files if pools is self._pools else self.files[number : number + 1]:
            self.store.fetch(file)
        return replace(pools, first=song)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Which of the starts each chunk of an epoch takes, int64 [chunks], archive by archive."""
        # A stream apart from those of the chunks, whose keys are pairs.
        rng = np.random.default_rng((self.seed, epoch, 1))
        shares = np.cumsum([song.weight * song.seconds for _, song in self._starts])
        bounds = np.floor(shares * (self.epoch / shares[-1]) + rng.random())
        bounds[-1] = self.epoch
        counts = np.diff(bounds, prepend=0.0).astype(np.int64)
        chosen = np.repeat(np.arange(len(self._starts)), counts)
        turn = rng.permutation(len(self.files))
        archives = turn[np.array([number for number, _ in self._starts])[chosen]]
        order: npt.NDArray[np.int64] = chosen[np.lexsort((rng.random(len(chosen)), archives))]
        return order


def open_chunks(
    root: str | Path, config: ChunkConfig, seed: int = 0, length: int = 1_000_000
) -> TrainingChunks:
    """The chunks of a folder of songs, or of a folder or address of shards.

    Args:
        root: folder or address.
        config: what a chunk is.
        seed: of all randomness.
        length: nominal length.

    Raises:
        DataError: neither songs nor shards can be read there.
    """
    if is_address(str(root)) or (Path(root) / INDEX).is_file():
        return ShardChunks(root, config, seed, length)
    return TrainingChunks(root, config, seed, length)


def is_address(root: str) -> bool:
    """Whether `root` is to be fetched rather than opened in place."""
    return "://" in root or root.startswith("pipe:")


# ---- writing -----------------------------------------------------------------------------------


def _plan(songs: Sequence[Song], config: ShardConfig) -> list[_Piece]:
    """All pieces of all songs, shuffled; those of a song are equal in length."""
    pieces = []
    for song in songs:
        count = max(1, round(song.seconds / config.piece_seconds))
        edges = [song.frames * number // count for number in range(count + 1)]
        pieces += [_Piece(song, a, b - a) for a, b in pairwise(edges)]
    order = np.random.default_rng(config.seed).permutation(len(pieces))
    return [pieces[place] for place in order]


def _stamp(songs: Sequence[Song], config: ShardConfig) -> str:
    """A digest of all that decides what is written; files are known by size and time."""
    digest = hashlib.sha256(json.dumps(asdict(config)).encode())
    for song in songs:
        found = {stem: [Path(str(p)).stat() for p in paths] for stem, paths in song.stems.items()}
        files = {stem: [(s.st_size, s.st_mtime_ns) for s in stats] for stem, stats in found.items()}
        facts = (song.name, song.frames, song.sample_rate, song.weight, files)
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def _write_shard(
    out: Path, number: int, pieces: Sequence[_Piece], config: ShardConfig
) -> dict[str, Any]:
    """One archive, and its part of the index."""
    try:
        import webdataset
    except ImportError as error:
        raise DataError("writing shards needs webdataset: pip install solovox[train]") from error
    path = out / f"shard-{number:06d}.tar"
    rows: list[dict[str, Any]] = []
    with written_whole(path, alone=True) as part:
        with part.open("wb") as file, webdataset.TarWriter(file, encoder=False, mtime=0) as tar:
            for place, piece in enumerate(pieces):
                key = f"{number:06d}-{place:04d}"
                facts = {
                    "song": piece.song.name,
                    "start": piece.start,
                    "frames": piece.frames,
                    "weight": piece.song.weight,
                }
                sounds = _encode(piece, config.format)
                tar.write({"__key__": key, "json": json.dumps(facts).encode(), **sounds})
                stems = {name.split(".")[0]: f"{key}.{name}" for name in sounds}
                rows.append({**facts, "stems": stems})
        with tarfile.open(part) as archive:
            places = {member.name: [member.offset_data, member.size] for member in archive}
    for row in rows:
        row["stems"] = {stem: [name, *places[name]] for stem, name in row["stems"].items()}
    return {"file": path.name, "pieces": rows}


def _encode(piece: _Piece, suffix: str) -> dict[str, bytes]:
    """The stems of a piece as 16-bit files; all are turned down where one would clip."""
    song, start, frames = piece.song, piece.start, piece.frames
    stems = {stem: read_stem(song, stem, start, frames) for stem in song.stems if stem != MIXTURE}
    if song.paired:
        stems[ACCOMPANIMENT] = read_accompaniment(song, start, frames, stems[VOCALS])
    peak = max(float(np.abs(audio).max()) for audio in stems.values())
    factor = np.float32(1.0 / max(1.0, peak))
    return {
        f"{stem}.{suffix}": _sound_file(audio * factor, song.sample_rate, suffix)
        for stem, audio in stems.items()
    }


def _sound_file(audio: Audio, sample_rate: int, suffix: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.T, sample_rate, format=suffix.upper(), subtype="PCM_16")
    return buffer.getvalue()


def _write_json(path: Path, content: object) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(content), "utf-8")


# ---- reading -----------------------------------------------------------------------------------


class _Store:
    """Files of a folder, or of an address of which copies are kept in a local folder."""

    def __init__(self, root: str, cache: str | Path | None) -> None:
        self.root = root.rstrip("/")
        self.remote = is_address(root)
        name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
        default = Path.home() / ".cache" / "solovox" / "shards" / name
        self.folder = Path(cache or default) if self.remote else Path(root)

    def fetch(self, name: str, anew: bool = False) -> Path:
        """The local path of a file, fetched if need be; one worker fetches, the others wait.

        Raises:
            DataError: it is not there.
        """
        path = self.folder / name
        if not self.remote:
            if not path.is_file():
                raise DataError(f"{path}: not there; it belongs to the shards of {self.root}")
            return path
        if anew or not path.is_file():
            import filelock

            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / f".{name}.lock"):
                if anew or not path.is_file():
                    before = path.read_bytes() if path.is_file() else None
                    self._download(name, path)
                    if name == INDEX and before not in (None, path.read_bytes()):
                        self._forget_archives()
        return path

    def _forget_archives(self) -> None:
        """Remove the copies of archives: they are of another index."""
        for copy in self.folder.glob("*.tar"):
            copy.unlink()

    def _download(self, name: str, path: Path) -> None:
        import webdataset

        try:
            with (
                webdataset.gopen(f"{self.root}/{name}") as source,
                written_whole(path) as part,
                part.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.root}/{name}: cannot be fetched ({error})") from error


def _read_index(store: _Store) -> tuple[list[str], list[list[Song]]]:
    """(archives, the pieces of each as songs)."""
    path = store.fetch(INDEX, anew=True)
    if path.stat().st_size > LARGEST_INDEX:
        raise DataError(f"{path}: too large to be an index; write the shards again")
    try:
        index = json.loads(path.read_text("utf-8"))
        if index["version"] != VERSION:
            raise DataError(f"{path}: of another version; this solovox reads {VERSION}")
        rate = whole(index["sample_rate"], *RATES)
        files = [_plain_name(shard["file"]) for shard in index["shards"]]
        shards = [
            [_piece(piece, store.folder / shard["file"], rate) for piece in shard["pieces"]]
            for shard in index["shards"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not an index of shards; write them again") from error
    _check_hours(str(path), [song for shard in shards for song in shard])
    if not any(song.weight for shard in shards for song in shard if VOCALS in song.stems):
        raise DataError(f"{path}: lists no vocals that can be drawn; write the shards again")
    return files, shards


def _check_hours(where: str, songs: Sequence[Song]) -> None:
    if (hours := sum(song.seconds for song in songs) / 3600) > MOST_HOURS:
        raise DataError(f"{where}: {hours:.0f} hours are more than {MOST_HOURS:.0f}; divide it")


def _plain_name(name: object) -> str:
    """The name of a file in the very folder of the index: no path leads in or out of it."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]{0,200}", name):
        raise ValueError("not the name of an archive")
    return name


def whole(value: object, least: int = 0, most: int = 1 << 40) -> int:
    """A whole number in a range; raise ValueError if it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError("not a number that can be")
    return value


def _piece(row: Mapping[str, Any], archive: Path, sample_rate: int) -> Song:
    stems = {}
    for stem, (member, offset, size) in row["stems"].items():
        stems[str(stem)] = (Member(archive, str(member), whole(offset), whole(size, 1)),)
    weight = row["weight"]
    if not fits(weight, float) or weight < 0:
        raise ValueError("not a weight")
    name = f"{row['song']}@{whole(row['start'])}"
    return Song(name, stems, whole(row["frames"], 1), sample_rate, float(weight))


def _pools_of(shard: Sequence[Song], whole: Pools, band_weight: float) -> Pools:
    """The pools of one archive, or of the whole set where the archive lacks a stem."""
    try:
        pools = Pools.of(shard, band_weight)
    except DataError:
        return whole
    return pools if len(pools.bands) == len(whole.bands) else whole
