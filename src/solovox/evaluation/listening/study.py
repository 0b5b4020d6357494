"""A listening study on disk: which excerpts of which systems are rated, under what names.

    STUDY/study.json             pages and stimuli; never sent to a listener
    STUDY/audio/TOKEN.flac       stimuli; a token says nothing of the system
    STUDY/results/LISTENER.json  what each listener has said, see `server`

A page has one song: the open reference, and in random order the hidden reference, the anchor and
the systems. Every listener gets an order of pages and of stimuli of their own, drawn from the
listener's name, so that a reloaded page is the same page.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from solovox.data.index import Song, find_songs, read_accompaniment, read_stem
from solovox.errors import DataError
from solovox.evaluation.listening.signals import (
    Audio,
    fade,
    loudest,
    loudness,
    low_pass,
    match_loudness,
)
from solovox.evaluation.systems import EstimatesSystem, Material
from solovox.files import written_whole

REFERENCE, ANCHOR = "reference", "anchor"


@dataclass(frozen=True)
class Page:
    """One song.

    Attributes:
        song: its name.
        start: where the excerpt begins, in seconds.
        open: token of the reference that is named as such.
        stimuli: system by token, with `REFERENCE` (hidden) and `ANCHOR` among them.
    """

    song: str
    start: float
    open: str
    stimuli: dict[str, str]


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        title: what listeners read on top.
        stem: the stem that is rated.
        seconds: length of an excerpt.
        pages: the songs.
    """

    title: str
    stem: str
    seconds: float
    pages: tuple[Page, ...]

    @property
    def systems(self) -> list[str]:
        """The conditions, the hidden reference first and the anchor last."""
        names = {name for page in self.pages for name in page.stimuli.values()}
        return [REFERENCE, *sorted(names - {REFERENCE, ANCHOR}), ANCHOR]

    def order(self, listener: str) -> list[tuple[int, list[str]]]:
        """Return (page, tokens in the order shown) in the order in which a listener gets them.

        Args:
            listener: the listener's name.
        """
        drawn = random.Random(listener)
        pages = drawn.sample(range(len(self.pages)), len(self.pages))
        return [
            (page, drawn.sample(sorted(self.pages[page].stimuli), len(self.pages[page].stimuli)))
            for page in pages
        ]


def make_study(
    folders: Mapping[str, Path],
    reference: Path,
    out: Path,
    *,
    stem: str = "vocals",
    seconds: float = 10.0,
    most: int = 8,
    title: str = "Listening test",
) -> Study:
    """Return a new study, written to a folder.

    Args:
        folders: folder of estimates (SONG/vocals.*) by the name of the system.
        reference: data set with the true stems.
        out: folder of the study.
        stem: "vocals" or "accompaniment".
        seconds: length of an excerpt, from where the reference is loudest.
        most: number of songs; the first by name that have an audible reference.
        title: what listeners read on top.

    Raises:
        DataError: no systems or songs, an estimate that is missing or of other length or rate, or a
            study that is there already.
    """
    if (out / "study.json").exists():
        raise DataError(f"{out}: there is a study already; remove it or choose another folder")
    if not folders:
        raise DataError("a listening test needs at least one folder of estimates")
    taken = {REFERENCE, ANCHOR} & folders.keys()
    if taken:
        raise DataError(f"no system may be called {min(taken)}: rename its folder")
    systems = {name: EstimatesSystem(folder) for name, folder in folders.items()}
    songs = [song for song in find_songs(reference) if song.paired]
    pages: list[Page] = []
    for song in songs:
        for name, system in systems.items():
            for problem in system.check([song]).values():
                raise DataError(f"{name}: {problem}")
        page = _make_page(song, systems, out / "audio", stem, seconds)
        if page:
            pages.append(page)
        if len(pages) == most:
            break
    if not pages:
        raise DataError(f"{reference}: no song with {stem} to be heard")
    study = Study(title, stem, seconds, tuple(pages))
    write_json(out / "study.json", asdict(study))
    return study


def load_study(folder: Path) -> Study:
    """Return the study of a folder.

    Args:
        folder: what `make_study` wrote.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path = folder / "study.json"
    try:
        values = json.loads(path.read_text("utf-8"))
        pages = tuple(Page(**page) for page in values.pop("pages"))
        return Study(**values, pages=pages)
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no study in it; make one with: solovox listen") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not a study ({error})") from error


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all, and down to the disk.

    Args:
        path: the file.
        value: what to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)


def _make_page(
    song: Song, systems: Mapping[str, EstimatesSystem], folder: Path, stem: str, seconds: float
) -> Page | None:
    """Return a page and write its audio, or None where the reference cannot be heard."""
    rate = song.sample_rate
    vocals = read_stem(song, "vocals", 0, song.frames)
    accompaniment = read_accompaniment(song, 0, song.frames, vocals)
    truth = {"vocals": vocals, "accompaniment": accompaniment}[stem]
    samples = min(round(seconds * rate), song.frames)
    start = loudest(truth, samples)
    part = slice(start, start + samples)
    excerpt = truth[:, part]
    if loudness(excerpt, rate) < -60:
        return None
    material = Material(
        song, start, (vocals + accompaniment)[:, part], vocals[:, part], accompaniment[:, part]
    )
    stimuli: dict[str, Audio] = {REFERENCE: excerpt}
    stimuli |= {name: system.open()(material, 0)[stem] for name, system in systems.items()}
    stimuli[ANCHOR] = low_pass(excerpt, rate)
    salt = secrets.token_hex(8)
    tokens = {}
    for name, audio in match_loudness(stimuli, rate).items():
        tokens[name] = _token(salt, name)
        _write_flac(folder / f"{tokens[name]}.flac", fade(audio, rate), rate)
    # The open reference has a token of its own: equal names would give the hidden one away.
    shown = _token(salt, "open")
    (folder / f"{shown}.flac").write_bytes((folder / f"{tokens[REFERENCE]}.flac").read_bytes())
    return Page(
        song.name, start / rate, shown, {token: name for name, token in sorted(tokens.items())}
    )


def _token(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt} {name}".encode()).hexdigest()[:16]


def _write_flac(path: Path, audio: Audio, sample_rate: int) -> None:
    from solovox.audio import write_audio

    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.clip(audio, -1, 1), sample_rate, "pcm16")


def find_folders(folder: Path, ignore: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the systems' folders in a folder, by name.

    Args:
        folder: holds one folder of estimates a system, as `solovox separate` writes them.
        ignore: folders that are no system's: the reference and the study itself.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    known = {path.resolve() for path in ignore}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".") and path.resolve() not in known
    }
