"""The songs of the studio, on disk: what was uploaded, what was made of it, and how far work is.

    WORK/songs/SONG/state.json      a `Song`, written beside and renamed
                    upload          as it came; its name is only ever in the state
                    mixture.wav     decoded, floats; with .peaks and .bands, which the page draws
                    takes/TAKE/     vocals.wav, accompaniment.wav, and the same pictures; of an
                                    average also vocals.doubt
    WORK/trash/                     on its way out

Folders are named by random hex, never by what a browser sent. A folder comes to be whole by being
renamed, and goes by being renamed to the trash. All access to states is under one lock.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from solovox.errors import SolovoxError, printable
from solovox.files import written_whole

log = logging.getLogger("solovox")

Status = Literal["queued", "working", "done", "failed", "cancelled"]
Quality = Literal["fast", "balanced", "best"]
Sampler = Literal["ddim", "dpmpp-2m", "heun"]
Band = Literal["mixture", "spread"]
Cutoff = Annotated[float, Field(ge=0, le=20_000)] | Band
Rule = Literal["exact", "wiener", "generated"]
STEMS = ("vocals", "accompaniment")
ID = re.compile(r"^[0-9a-f]{12}$")
DAY = 86_400  # seconds
LONGEST_NAME = 200


class Strict(BaseModel):
    """Values of known names and nothing else."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Knobs(Strict):
    """What can be chosen for a take; what is null is the model's own."""

    model: str | None = Field(
        default=None, max_length=200, description="A name that /api/studio lists."
    )
    quality: Quality | None = Field(
        default=None, description="Named settings, which those below overrule."
    )
    steps: int | None = Field(default=None, ge=0, le=200, description="Passes of the generator.")
    takes: int | None = Field(
        default=None, ge=1, le=32, description="How often each chunk is sampled, to be averaged."
    )
    start: float | None = Field(default=None, gt=0, le=1, description="1 starts from noise.")
    eta: float | None = Field(default=None, ge=0, le=1, description="Share of refinement noise.")
    cutoff: Cutoff | None = Field(default=None, description="Of that noise in Hz, or its band.")
    sampler: Sampler | None = None
    seed: int = Field(default=0, ge=0, lt=2**32, description="Another seed is another take.")
    stems: Rule | None = Field(default=None, description="How stems are made.")


class Take(Strict):
    """One separation of a song, or one that differs from its parent in a region."""

    id: str
    number: int
    knobs: Knobs
    parent: str | None = None
    start: float | None = None
    end: float | None = None
    status: Status = "queued"
    progress: float = 0.0
    seconds_left: float | None = None
    seconds: float | None = Field(default=None, description="That it took to make.")
    error: str | None = None
    loudest: dict[str, float] = Field(default_factory=dict, description="Peak of each stem.")
    doubt: bool = Field(
        default=False, description="Whether there is a picture of where averaged samples differ."
    )
    made: dict[str, Any] | None = Field(default=None, description="As in the settings file.")
    queued: float = 0.0


class Song(Strict):
    """A song and all takes of it."""

    id: str
    name: str
    created: float
    used: float
    bytes: int = 0
    ready: bool = Field(default=False, description="Whether the mixture can be heard and seen.")
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    current: str | None = Field(default=None, description="The take that is shown.")
    revision: int = Field(default=0, description="Grows by one with each change.")
    takes: list[Take] = Field(default_factory=list)

    def take(self, take: str) -> Take | None:
        """The take of that id."""
        return next((each for each in self.takes if each.id == take), None)


class Gone(Exception):
    """There is no such song or take, or no longer."""


class Library:
    """All songs, in memory and on disk.

    Args:
        work: the folder; it is made if missing. One process may use it at a time.
        keep: days after which a song that nobody used is removed; 0 keeps all.

    Raises:
        SolovoxError: if the folder cannot be used.
    """

    def __init__(self, work: Path, keep: float = 0) -> None:
        self.work, self.keep = work, keep
        self.lock = threading.RLock()
        self.listeners: list[Callable[[str, Song | None], None]] = []
        self._songs: dict[str, Song] = {}
        self._incoming = 0
        try:
            for folder in (self._root, self._trash):
                folder.mkdir(parents=True, exist_ok=True)
            self._in_use = FileLock(work / ".lock", thread_local=False)
            self._in_use.acquire(timeout=0)
        except Timeout as error:
            raise SolovoxError(f"{work}: another studio works there; choose another --work") from (
                error
            )
        except OSError as error:
            raise SolovoxError(
                f"{work}: cannot be used ({error.strerror or error}); choose another --work"
            ) from error
        self._load()

    def close(self) -> None:
        """Let others use the folder."""
        self._in_use.release()

    @property
    def _root(self) -> Path:
        return self.work / "songs"

    @property
    def _trash(self) -> Path:
        return self.work / "trash"

    def folder(self, song: str) -> Path:
        """The folder of a song that is there.

        Raises:
            Gone: if it is not.
        """
        with self.lock:
            if song not in self._songs:
                raise Gone(song)
        return self._root / song

    def take_folder(self, song: str, take: str) -> Path:
        """The folder of a take that is there, whether it has been made or not."""
        with self.lock:
            if self.song(song).take(take) is None:
                raise Gone(take)
        return self._root / song / "takes" / take

    def songs(self) -> list[Song]:
        """Copies of all, oldest first."""
        with self.lock:
            return [song.model_copy(deep=True) for song in self._songs.values()]

    def song(self, song: str) -> Song:
        """A copy of one.

        Raises:
            Gone: if it is not there.
        """
        with self.lock:
            if song not in self._songs:
                raise Gone(song)
            return self._songs[song].model_copy(deep=True)

    def count(self) -> int:
        """The number of songs, those on their way in counted."""
        with self.lock:
            return len(self._songs) + self._incoming

    @contextmanager
    def incoming(self, name: str, most: int) -> Iterator[tuple[Song, Path]]:
        """A new song and the file for its bytes; the song is there once the body has ended well.

        Raises:
            SolovoxError: if there are `most` songs already.
        """
        with self.lock:
            if self.count() >= most:
                raise SolovoxError(f"there are {most} songs already; remove some")
            self._incoming += 1
        now = time.time()
        song = Song(id=_new_id(), name=clean_name(name), created=now, used=now)
        folder = self._root / song.id
        try:
            folder.mkdir()
            yield song, folder / "upload"
            with self.lock:
                self._songs[song.id] = song
                self._incoming -= 1
                self._save(song)
                self._tell(song)
        except BaseException:
            with self.lock:
                if self._songs.pop(song.id, None) is None:
                    self._incoming -= 1
            self._discard(folder)
            raise

    @contextmanager
    def changing(self, song: str, *, save: bool = True) -> Iterator[Song]:
        """The song itself, to be changed in the body; then it is saved and told to all.

        Raises:
            Gone: if it is not there.
        """
        with self.lock:
            if song not in self._songs:
                raise Gone(song)
            there = self._songs[song]
            before = there.model_copy(deep=True)
            try:
                yield there
                there.revision += 1
                if save:
                    self._save(there)
            except BaseException:
                self._songs[song] = before
                raise
            self._tell(there)

    def remove(self, song: str) -> None:
        """Remove a song and all that was made of it.

        Raises:
            Gone: if it is not there.
        """
        with self.lock:
            if self._songs.pop(song, None) is None:
                raise Gone(song)
            for listener in self.listeners:
                listener(song, None)
        self._discard(self._root / song)

    def remove_take(self, song: str, take: str) -> None:
        """Remove a take; those made from it are then made from its parent.

        Raises:
            Gone: if it is not there.
        """
        with self.changing(song) as there:
            old = there.take(take)
            if old is None:
                raise Gone(take)
            there.takes.remove(old)
            for other in there.takes:
                if other.parent == take:
                    other.parent = old.parent
            if there.current == take:
                done = [other.id for other in there.takes if other.status == "done"]
                there.current = old.parent if old.parent in done else (done[-1] if done else None)
        self._discard(self._root / song / "takes" / take)

    def touch(self, song: str) -> None:
        """Somebody uses a song: it is kept for longer."""
        with self.lock, suppress(Gone, OSError):
            there = self._songs.get(song)
            seldom = min(1.0, self.keep or 1.0) * DAY / 24  # hourly, but often within `keep`
            if there and time.time() - there.used > seldom:
                there.used = time.time()
                self._save(there)

    def sweep(self) -> None:
        """Remove what is too old, what has no state, and the trash."""
        with self.lock:
            if self.keep > 0:
                limit = time.time() - self.keep * DAY
                for song in [each for each in self._songs.values() if each.used < limit]:
                    if not any(take.status in ("queued", "working") for take in song.takes):
                        log.info("removing '%s': unused for %g days", song.name, self.keep)
                        self.remove(song.id)
            if not self._incoming:
                for folder in self._root.iterdir():
                    if folder.name not in self._songs:
                        self._discard(folder)
        for folder in self._trash.iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def sweep_song(self, song: str) -> None:
        """Remove what was written of a song, or of takes, after they had been removed."""
        with self.lock:
            there = self._songs.get(song)
            folder = self._root / song
            if there is None:
                self._discard(folder)
                return
            known = {take.id for take in there.takes}
        takes = folder / "takes"
        for stray in takes.iterdir() if takes.is_dir() else ():
            if stray.name not in known:
                self._discard(stray)

    def without_names(self, text: str) -> str:
        """A message without the names of files of songs, which say nothing to who reads it."""
        root = re.escape(printable(str(self._root)))
        text = re.sub(rf"{root}[/\\][^\s:]+: ", "", text)
        return re.sub(rf"{root}[/\\][^\s:]+", "the song", text)

    def free(self) -> int:
        """Bytes free on the disk."""
        return shutil.disk_usage(self.work).free

    def _load(self) -> None:
        for part in self._root.glob("**/*.part"):  # of a studio that was killed
            if part.is_file():
                part.unlink()
        found = []
        for folder in self._root.iterdir():
            try:
                text = (folder / "state.json").read_text(encoding="utf-8")
                song = Song.model_validate_json(text)
            except (OSError, ValidationError, UnicodeDecodeError):
                continue  # swept below
            if song.id == folder.name and ID.match(song.id):
                found.append(song)
        for song in sorted(found, key=lambda song: song.created):
            for take in song.takes:
                if take.status == "working":  # the studio was stopped meanwhile: begin again
                    take.status, take.progress, take.seconds_left = "queued", 0.0, None
                is_there = all((self._stem(song.id, take.id, stem)).is_file() for stem in STEMS)
                if take.status == "done" and not is_there:
                    take.status, take.error = "failed", "its files are gone"
            self._songs[song.id] = song
        self.sweep()
        for song in found:
            self.sweep_song(song.id)

    def _stem(self, song: str, take: str, stem: str) -> Path:
        return self._root / song / "takes" / take / f"{stem}.wav"

    def _save(self, song: Song) -> None:
        path = self._root / song.id / "state.json"
        with written_whole(path) as part:
            part.write_text(song.model_dump_json(indent=1), encoding="utf-8")

    def _tell(self, song: Song) -> None:
        for listener in self.listeners:
            listener(song.id, song.model_copy(deep=True))

    def _discard(self, folder: Path) -> None:
        target = self._trash / f"{folder.name}.{secrets.token_hex(4)}"
        try:
            folder.rename(target)
        except FileNotFoundError:
            return
        except OSError:
            target = folder
        shutil.rmtree(target, ignore_errors=True)


def clean_name(name: str) -> str:
    """A song's name as it may be shown and given to downloads: no folders, no control characters,
    no suffix."""
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(each for each in last if each.isprintable()).strip(" .")
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", printable).strip(" .")
    return (stem or printable or "song")[:LONGEST_NAME]


def new_take(song: Song, knobs: Knobs, **values: Any) -> Take:
    """A queued take, added to a song."""
    number = 1 + max((take.number for take in song.takes), default=0)
    take = Take(id=_new_id(), number=number, knobs=knobs, queued=time.time(), **values)
    song.takes.append(take)
    song.used = time.time()
    return take


def _new_id() -> str:
    return secrets.token_hex(6)
