"""The one thread that separates: takes from the queue, one after the other, with one model.

A take of a whole song goes from mixture.wav to its stems; a take of a region goes from its
parent's stems to its own (`solovox.redo`). Whatever fails, fails that take alone. Every pass of a
network asks whether the take is still wanted; what a removed song's take has written is swept.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solovox.errors import SolovoxError, reason
from solovox.studio.library import Gone, Knobs, Library, Song, Take

if TYPE_CHECKING:
    from solovox.separator import Separator

log = logging.getLogger("solovox")

TELL = 0.25  # seconds between two messages about progress
BLOCK = 65_536


class Unwanted(Exception):
    """The take that is being made was cancelled or removed, or the studio ends."""


class Worker(threading.Thread):
    """Makes the takes that are queued in a library.

    Args:
        library: where takes are queued.
        models: what may be asked for: name → name, folder or hub id; the first is the default.
        device: as for `Separator`.
        threads: CPU threads; None leaves torch its own number.
    """

    def __init__(
        self,
        library: Library,
        models: dict[str, str],
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        super().__init__(name="studio-worker", daemon=True)
        self.library, self.models, self.device, self.threads = library, models, device, threads
        self.listeners: list[Callable[[Song, Take], None]] = []
        self._wake = threading.Condition()
        self._ending = False
        self._loaded: tuple[str, Any] | None = None
        self._cost: float | None = None  # seconds of work for a second of audio, as last seen
        self._told = 0.0

    def wake(self) -> None:
        """Something was queued."""
        with self._wake:
            self._wake.notify()

    def end(self) -> None:
        """Stop after the pass that is being made; what is unfinished is queued again next time."""
        self._ending = True
        self.wake()

    def run(self) -> None:
        """Work until told to end."""
        import solovox.audio  # noqa: F401 (before the first upload is looked at, not meanwhile)

        last_sweep = time.monotonic()
        while not self._ending:
            job = self._next()
            if job is None:
                with self._wake:
                    if not self._ending and self._next() is None:
                        self._wake.wait(timeout=60)
            else:
                try:
                    self._work(*job)
                except Exception:  # the thread must outlive whatever it is
                    log.exception("the studio's worker goes on after a failure of its own")
                    time.sleep(1)
            if time.monotonic() - last_sweep > 600:
                last_sweep = time.monotonic()
                with suppress(OSError):
                    self.library.sweep()

    def _next(self) -> tuple[str, str] | None:
        """The take to be made next: regions first, for somebody listens; then first come."""
        waiting = [
            ((take.parent is None, take.queued), song.id, take.id)
            for song in self.library.songs()
            for take in song.takes
            if take.status == "queued"
        ]
        return min(waiting)[1:] if waiting else None

    def _work(self, song_id: str, take_id: str) -> None:
        try:
            self._set(song_id, take_id, status="working", progress=0.0, error=None)
            self._make(song_id, take_id)
        except (Unwanted, Gone):
            if self._ending:  # begin again when the studio is back
                self._finish(song_id, take_id, status="queued", progress=0.0)
        except MemoryError:
            self._finish(song_id, take_id, status="failed", error="memory is full; try again")
        except Exception as error:  # of any kind: the others are to be made
            self._loaded = None if not isinstance(error, SolovoxError | OSError) else self._loaded
            reason = self._one_line(error)
            log.warning("a take failed: %s", reason)
            self._finish(song_id, take_id, status="failed", error=reason)
        with suppress(OSError):
            self.library.sweep_song(song_id)

    def _finish(self, song: str, take: str, **values: Any) -> None:
        with suppress(Gone, Unwanted):  # removed or cancelled in the meantime
            self._set(song, take, seconds_left=None, **values)

    def _set(self, song: str, take: str, **values: Any) -> None:
        with self.library.lock:
            try:
                self._change(song, take, values, save=True)
            except OSError as error:  # the disk is full: go on with what is in memory
                log.warning("cannot write the state of a song: %s", error)
                self._change(song, take, values, save=False)

    def _change(self, song: str, take: str, values: dict[str, Any], save: bool) -> None:
        with self.library.changing(song, save=save) as there:
            entry = there.take(take)
            if entry is None:
                raise Gone(take)
            again = values.get("status") in ("working", "queued")
            if entry.status == "cancelled" or (entry.status == "queued" and not again):
                raise Unwanted  # in the latter case, by who asked for another try
            for name, value in values.items():
                setattr(entry, name, value)
            if values.get("status") == "done":
                there.current = take

    def _make(self, song_id: str, take_id: str) -> None:
        began = time.monotonic()
        folder = self.library.folder(song_id)
        self._prepare(song_id, folder)
        song = self.library.song(song_id)
        take = song.take(take_id)
        parent = None
        if take is None:
            raise Gone(take_id)
        if take.start is not None:  # a region: a parent that was removed is None
            parent = song.take(take.parent or "")
            if parent is None or parent.status != "done" or parent.made is None:
                raise SolovoxError("the take that this one begins with is not there any more")
        result, facts = self._separate(song, take, parent, folder)
        try:
            self.library.take_folder(song_id, take_id)  # raises Gone
            target = folder / "takes" / take_id
            shutil.rmtree(target, ignore_errors=True)
            result.rename(target)
        except FileNotFoundError as error:  # the song went meanwhile
            raise Gone(song_id) from error
        finally:
            shutil.rmtree(result, ignore_errors=True)
        self._finish(
            song_id, take_id, status="done", progress=1.0, seconds=time.monotonic() - began, **facts
        )

    def _prepare(self, song_id: str, folder: Path) -> None:
        """Decode a new song, so that it can be heard and seen."""
        from solovox.audio import AudioReader, AudioWriter
        from solovox.studio.pictures import draw

        if self.library.song(song_id).ready:
            return
        mixture = folder / "mixture.wav"
        with AudioReader(folder / "upload") as reader:
            rate, channels = reader.sample_rate, reader.channels
            with AudioWriter(mixture, rate, channels) as writer:
                for block in reader.blocks(BLOCK):
                    self._check(song_id, None)
                    writer.write(block)
                frames = writer.frames
        draw(mixture, frames)
        with self.library.changing(song_id) as song:
            song.sample_rate, song.channels, song.frames = rate, channels, frames
            song.ready = True

    def _separate(
        self, song: Song, take: Take, parent: Take | None, folder: Path
    ) -> tuple[Path, dict[str, Any]]:
        """The folder with the stems, and what is to be told of the take."""
        import torch

        from solovox.audio import AudioReader, AudioWriter
        from solovox.redo import Region, splice
        from solovox.separator import STEMS
        from solovox.studio.pictures import draw, draw_doubt
        from solovox.takes import Redo, take_from_json, take_to_json
        from solovox.takes import Take as Recipe
        from solovox.uncertainty import UncertaintyMeter

        threads = self.threads
        if parent is not None:  # with its threads, so that the settings file repeats all of it
            threads = take_from_json(parent.made).threads or threads
        if threads and threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        separator, model = self._separator(take.knobs)
        recipe = Recipe.of(separator, model)
        progress = self._progress(song, take)
        meter = UncertaintyMeter() if separator.sampling.takes > 1 else None
        result = folder / "takes" / f"{take.id}.part"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True)
        with ExitStack() as stack:
            reader = stack.enter_context(AudioReader(folder / "mixture.wav"))
            region = None
            if take.start is not None and take.end is not None:
                region = Region.of(take.start, take.end, reader.sample_rate)
            parts: Iterator[dict[str, Any]] = separator.stream(
                reader.blocks(BLOCK), reader.sample_rate, frames=reader.frames,
                progress=progress, name=song.name, only=region, uncertainty=meter,
            )  # fmt: skip
            if parent is not None and region is not None:
                files = {
                    stem: stack.enter_context(
                        AudioReader(folder / "takes" / parent.id / f"{stem}.wav")
                    ).blocks(BLOCK)
                    for stem in STEMS
                }
                old = (
                    dict(zip(files, blocks, strict=True))
                    for blocks in zip(*files.values(), strict=True)
                )
                parts = splice(old, parts, region)
                redo = Redo(take.start or 0.0, take.end or 0.0, recipe.settings)
                base = take_from_json(parent.made)
                recipe = replace(base, redone=(*base.redone, redo))
            writers = {
                stem: stack.enter_context(
                    AudioWriter(result / f"{stem}.wav", reader.sample_rate, reader.channels)
                )
                for stem in STEMS
            }
            for part in parts:
                self._check(song.id, take.id)
                for stem, writer in writers.items():
                    writer.write(part[stem])
        loudest = {}
        for stem in STEMS:
            self._check(song.id, take.id)
            loudest[stem] = draw(result / f"{stem}.wav", song.frames)
        if meter is not None:
            start, end = take.start or 0.0, take.end or math.inf
            draw_doubt(result / "vocals.doubt", meter.map, song.sample_rate, start, end)
        made = take_to_json(recipe)
        return result, {"loudest": loudest, "made": made, "doubt": meter is not None}

    def _separator(self, knobs: Knobs) -> tuple[Separator, str]:
        """A separator with the one model that is kept in memory, and the model's name."""
        from solovox.separator import Separator

        asked = knobs.model or next(iter(self.models))
        if asked not in self.models:
            raise SolovoxError(f"no model '{asked}'; there are: {', '.join(self.models)}")
        name = self.models[asked]
        chosen = knobs.model_dump(exclude={"model"})
        if self._loaded is not None and self._loaded[0] == name:
            return Separator(self._loaded[1], self.device, **chosen), name
        self._loaded = None  # before the next one comes
        separator = Separator(name, self.device, **chosen)
        self._loaded = (name, separator.model)
        return separator, name

    def _progress(self, song: Song, take: Take) -> Callable[[float], None]:
        began = time.monotonic()

        def tell(share: float) -> None:
            self._check(song.id, take.id)
            now = time.monotonic()
            if share > 0 and work_of(song, take):
                self._cost = (now - began) / (share * work_of(song, take))
            if now - self._told < TELL and share < 1:
                return
            self._told = now
            left = (now - began) * (1 - share) / share if share > 0 else None
            with suppress(Gone), self.library.changing(song.id, save=False) as there:
                entry = there.take(take.id)
                if entry is not None and entry.status == "working":
                    entry.progress, entry.seconds_left = share, left

        return tell

    def seconds_left(self) -> float | None:
        """How long all that is queued will take; None where nothing is known yet."""
        total = 0.0
        for song in self.library.songs():
            for take in song.takes:
                if take.status == "working":
                    if take.seconds_left is None:
                        return None
                    total += take.seconds_left
                elif take.status == "queued":
                    if self._cost is None or not (song.frames or take.start is not None):
                        return None
                    total += self._cost * work_of(song, take)
        return total

    def _check(self, song: str, take: str | None) -> None:
        """Raise if the take is not wanted any more."""
        if self._ending:
            raise Unwanted
        there = self.library.song(song)
        if take is not None:
            entry = there.take(take)
            if entry is None or entry.status != "working":
                raise Unwanted

    def _one_line(self, error: Exception) -> str:
        """A failure without the names of the studio's own files."""
        text = reason(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.strerror}; free some space, and try again"
        elif not isinstance(error, SolovoxError):
            text = f"unexpected {type(error).__name__}: {text}"
        return self.library.without_names(text)


def work_of(song: Song, take: Take) -> float:
    """The seconds of audio that a take generates."""
    if take.start is not None and take.end is not None:
        return take.end - take.start + 3  # whole chunks
    return song.frames / song.sample_rate if song.sample_rate else 0.0
