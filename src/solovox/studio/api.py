"""The studio's JSON API and its page; /api/openapi.json describes it.

Uploads are streamed to disk. What takes long is done by the worker or in a few threads aside, so
that the page is always answered at once. Nothing here loads torch: the page is there before it is.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import anyio
import anyio.to_thread
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

import solovox
from solovox.errors import ModelError, SolovoxError
from solovox.studio.guard import Guard
from solovox.studio.library import (
    Cutoff,
    Gone,
    Knobs,
    Library,
    Quality,
    Rule,
    Sampler,
    Song,
    Strict,
    clean_name,
    new_take,
)
from solovox.studio.worker import Worker

PAGE = Path(__file__).parent / "page"
PIECE = 1 << 20  # bytes of an upload in memory
PATIENCE = 30.0  # seconds without a byte of an upload
RESERVE = 200 << 20  # bytes of disk that are left alone
MOST_TAKES = 200
MOST_SAMPLES = 1 << 20  # frames a request
HEARTBEAT = 15.0  # seconds between signs of life
GONE = "there is no such thing, or no longer"

SongId = Annotated[str, InPath(pattern="^[0-9a-f]{12}$")]
TakeId = SongId
Stem = Literal["vocals", "accompaniment"]
Track = Annotated[str, InPath(pattern=r"^(mixture|[0-9a-f]{12}\.(vocals|accompaniment))$")]
Result = TypeVar("Result")


@dataclass
class Limits:
    """What the studio takes at most."""

    upload: int = 500 << 20  # bytes
    songs: int = 500


class Default(BaseModel):
    """A model, and what it does where nothing is chosen."""

    name: str
    qualities: dict[str, dict[str, Any]] = Field(description="Settings by name; balanced is there.")
    stems: str = Field(description="Its rule for stems.")
    sample_rate: int


class About(BaseModel):
    """What the studio is and can do."""

    version: str
    models: list[Default]
    samplers: list[str]
    rules: list[str]
    largest_upload: int
    most_songs: int
    keep_days: float


class Changes(Strict):
    """What may be changed of a song."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    current: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")


class Wanted(Strict):
    """A take to be made: of the whole song, or of a region, from another take on."""

    knobs: Knobs = Field(default_factory=Knobs)
    parent: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")
    start: float | None = Field(
        default=None, ge=0, le=1e6, description="Of the region, in seconds."
    )
    end: float | None = Field(default=None, gt=0, le=1e6)


class Problem(BaseModel):
    """Why something was not done."""

    detail: str


@dataclass
class Hub:
    """Passes news to whoever listens; a slow listener gets the latest state of each song only."""

    closed: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _waiting: dict[asyncio.Event, dict[str, Song | None]] = field(default_factory=dict)

    def open(self) -> None:
        """News go to this event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def tell(self, song: str, state: Song | None) -> None:
        """Pass on a song's state, or None where it is gone; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._put, song, state)

    def close(self) -> None:
        """End all listening."""
        self.closed = True
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        for event in self._waiting:
            event.set()

    def _put(self, song: str, state: Song | None) -> None:
        for event, news in self._waiting.items():
            news[song] = state
            event.set()

    async def listen(self) -> AsyncIterator[dict[str, Song | None]]:
        """News as they come; empty ones as a sign of life."""
        event = asyncio.Event()
        news: dict[str, Song | None] = {}
        self._waiting[event] = news
        try:
            while not self.closed:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), HEARTBEAT)
                event.clear()
                taken = dict(news)
                news.clear()
                yield taken
        finally:
            del self._waiting[event]


def make_app(
    library: Library,
    worker: Worker,
    hub: Hub,
    *,
    folders: dict[str, Path],
    host: str = "127.0.0.1",
    token: str | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """The whole web application, guarded.

    Args:
        folders: of the worker's models, by name.
        library, worker: that it shows; the worker is started and ended with it.
        hub: by which it passes on news.
        host, token: as for `Guard`.
        limits: of uploads.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub.open()
        library.listeners.append(hub.tell)
        worker.start()
        yield
        hub.close()
        library.listeners.remove(hub.tell)
        worker.end()
        await anyio.to_thread.run_sync(partial(worker.join, 30), abandon_on_cancel=True)

    app = FastAPI(
        title="solovox studio",
        version=solovox.__version__,
        summary="Separate songs, generate regions again, and hear the difference.",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,  # its scripts would come from another host
        redoc_url=None,
    )
    app.add_middleware(Guard, host=host, token=token)
    receiving = asyncio.Semaphore(2)  # uploads read at a time: the others wait, the page does not
    aside = anyio.CapacityLimiter(2)  # threads for files: the cores are the worker's

    async def in_thread(work: Callable[..., Result], *arguments: Any) -> Result:
        return await anyio.to_thread.run_sync(partial(work, *arguments), limiter=aside)

    @app.exception_handler(Gone)
    async def gone(request: Request, error: Gone) -> JSONResponse:
        return JSONResponse({"detail": GONE}, 404)

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        reason = error.strerror or "the disk cannot be used"
        return JSONResponse({"detail": f"{reason}; free some space, and try again"}, 507)

    @app.exception_handler(SolovoxError)
    async def unfit(request: Request, error: SolovoxError) -> JSONResponse:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, FileNotFoundError):  # it was removed meanwhile
            return JSONResponse({"detail": GONE}, 404)
        if isinstance(cause, OSError):
            return await disk(request, cause)
        return JSONResponse({"detail": library.without_names(str(error))}, 415)

    models = known_models(folders)

    @app.get("/api/studio")
    async def about() -> About:
        """What the studio is and can do."""
        return About(
            version=solovox.__version__,
            models=models,
            samplers=list(get_args(Sampler)),
            rules=list(get_args(Rule)),
            largest_upload=limits.upload,
            most_songs=limits.songs,
            keep_days=library.keep,
        )

    @app.get("/api/songs")
    async def songs() -> list[Song]:
        """All songs, oldest first."""
        return library.songs()

    @app.post(
        "/api/songs",
        status_code=201,
        responses=_problems(408, 409, 413, 415, 429, 507),
        openapi_extra={"requestBody": {"required": True, **_content("application/octet-stream")}},
    )
    async def upload(
        request: Request,
        name: Annotated[str, Query(max_length=300)] = "song",
        separate: bool = True,
        model: Annotated[str | None, Query(max_length=200)] = None,
        quality: Quality | None = None,
        takes: Annotated[int | None, Query(ge=1, le=32)] = None,
        steps: Annotated[int | None, Query(ge=0, le=200)] = None,
        start: Annotated[float | None, Query(gt=0, le=1)] = None,
        eta: Annotated[float | None, Query(ge=0, le=1)] = None,
        cutoff: Cutoff | None = None,
        sampler: Sampler | None = None,
        seed: Annotated[int, Query(ge=0, lt=2**32)] = 0,
        stems: Rule | None = None,
    ) -> Song:
        """Take in a song, the bytes of whose file are the body; it is then queued for separation.

        Any sound file that `solovox separate` reads; its name is for showing only.
        """
        knobs = Knobs(
            model=model, quality=quality, steps=steps, takes=takes, start=start, eta=eta,
            cutoff=cutoff, sampler=sampler, seed=seed, stems=stems,
        )  # fmt: skip
        _check_knobs(knobs, worker.models)
        length = request.headers.get("content-length", "0")
        expected = int(length) if length.isdigit() else 0
        if expected > limits.upload:
            raise HTTPException(413, f"a file may have {limits.upload >> 20} MB")
        async with receiving:
            if library.free() < RESERVE + expected:
                raise HTTPException(507, "the disk is full; remove some songs")
            try:
                with library.incoming(name, limits.songs) as (song, path):
                    song.bytes = await _receive(request, path, limits.upload)
                    reading = await in_thread(_probe, path)
                    if reading is not None:
                        raise HTTPException(415, f"{clean_name(name)}: {reading}")
                    if await request.is_disconnected():  # all had come, but it was stopped
                        raise ClientDisconnect
                    if separate:
                        new_take(song, knobs)
            except SolovoxError as error:
                raise HTTPException(429, str(error)) from error
            except ClientDisconnect as error:  # nobody hears the answer: it is no failure
                raise HTTPException(408, "the upload was stopped") from error
        worker.wake()
        return library.song(song.id)

    @app.get("/api/songs/{song}", responses=_problems(404))
    async def song_state(song: SongId) -> Song:
        """A song and its takes."""
        return library.song(song)

    @app.patch("/api/songs/{song}", responses=_problems(404, 409))
    async def change(song: SongId, changes: Changes) -> Song:
        """Rename a song, or choose the take that is shown."""
        with library.changing(song) as there:
            if changes.name is not None:
                there.name = clean_name(changes.name)
            if changes.current is not None:
                take = there.take(changes.current)
                if take is None or take.status != "done":
                    raise HTTPException(409, "only a take that is done can be shown")
                there.current = take.id
        return library.song(song)

    @app.delete("/api/songs/{song}", status_code=204, responses=_problems(404))
    async def remove(song: SongId) -> None:
        """Remove a song, its takes, and what is being made of it."""
        await in_thread(library.remove, song)

    @app.post("/api/songs/{song}/takes", status_code=201, responses=_problems(404, 409, 429))
    async def make(song: SongId, wanted: Wanted) -> Song:
        """Queue a take: of the whole song, or of a region, everything else being its parent's."""
        _check_knobs(wanted.knobs, worker.models)
        redo = (wanted.parent, wanted.start, wanted.end)
        if any(value is None for value in redo) and any(value is not None for value in redo):
            raise HTTPException(409, "a region needs parent, start and end")
        with library.changing(song) as there:
            if len(there.takes) >= MOST_TAKES:
                raise HTTPException(429, f"a song may have {MOST_TAKES} takes; remove some")
            if wanted.parent is not None and wanted.start is not None and wanted.end is not None:
                parent = there.take(wanted.parent)
                if parent is None or parent.status != "done":
                    raise HTTPException(409, "a region is generated again in a take that is done")
                seconds = there.frames / there.sample_rate
                if not wanted.start < min(wanted.end, seconds):
                    raise HTTPException(409, "the region is empty, or not within the song")
                wanted.end = min(wanted.end, seconds)
            new_take(there, wanted.knobs, parent=wanted.parent, start=wanted.start, end=wanted.end)
        worker.wake()
        return library.song(song)

    @app.delete("/api/songs/{song}/takes/{take}", status_code=204, responses=_problems(404, 409))
    async def remove_take(song: SongId, take: TakeId) -> None:
        """Remove a take; not one that another is just being made from."""
        for other in library.song(song).takes:
            if other.parent == take and other.status in ("queued", "working"):
                raise HTTPException(409, "another take is being made from this one")
        await in_thread(library.remove_take, song, take)

    @app.post("/api/songs/{song}/takes/{take}/cancel", responses=_problems(404, 409))
    async def cancel(song: SongId, take: TakeId) -> Song:
        """Stop making a take, or take it out of the queue."""
        return _restate(song, take, ("queued", "working"), "cancelled")

    @app.post("/api/songs/{song}/takes/{take}/retry", responses=_problems(404, 409))
    async def retry(song: SongId, take: TakeId) -> Song:
        """Queue a take again that failed or was cancelled."""
        return _restate(song, take, ("failed", "cancelled"), "queued")

    def _restate(song: str, take: str, before: tuple[str, ...], after: Any) -> Song:
        with library.changing(song) as there:
            entry = there.take(take)
            if entry is None:
                raise Gone(take)
            if entry.status not in before:
                raise HTTPException(409, f"the take is {entry.status}")
            entry.status, entry.progress = after, 0.0
            entry.seconds_left = entry.error = None
        worker.wake()
        return library.song(song)

    def track_file(song: str, track: str) -> Path:
        """The wav file of a track that is there."""
        there = library.song(song)
        if track == "mixture":
            if not there.ready:
                raise Gone(track)
            return library.folder(song) / "mixture.wav"
        take, _, stem = track.partition(".")
        return stem_file(song, take, stem)

    def stem_file(song: str, take: str, stem: str) -> Path:
        entry = library.song(song).take(take)
        if entry is None or entry.status != "done":
            raise Gone(take)
        path = library.take_folder(song, take) / f"{stem}.wav"
        if not path.is_file():
            raise Gone(take)
        return path

    @app.get(
        "/api/songs/{song}/tracks/{track}/samples",
        responses=_problems(404, 415, 507) | _binary("application/octet-stream"),
        response_class=Response,
    )
    async def samples(
        song: SongId,
        track: Track,
        start: Annotated[int, Query(ge=0, lt=2**40)] = 0,
        frames: Annotated[int, Query(ge=1, le=MOST_SAMPLES)] = 65_536,
    ) -> Response:
        """Samples as 32-bit floats, little endian, channels interleaved.

        `track` is `mixture`, or a take's id, a dot and a stem. Past the end there are fewer.
        """
        library.touch(song)
        audio = await in_thread(_samples, track_file(song, track), start, frames)
        return Response(audio, media_type="application/octet-stream")

    @app.get(
        "/api/songs/{song}/tracks/{track}/{picture}",
        responses=_problems(404) | _binary("application/octet-stream"),
        response_class=Response,
    )
    async def picture(
        song: SongId, track: Track, picture: Literal["peaks", "bands", "doubt"]
    ) -> FileResponse:
        """What the page draws: `solovox.studio.pictures` tells the format."""
        path = track_file(song, track).with_suffix(f".{picture}")
        if not path.is_file():
            raise Gone(picture)
        return FileResponse(path, media_type="application/octet-stream")

    @app.get(
        "/api/songs/{song}/takes/{take}/stems/{stem}",
        responses=_problems(404, 415, 507) | _binary("audio/wav", "audio/flac", "audio/mpeg"),
        response_class=Response,
    )
    async def download(
        song: SongId,
        take: TakeId,
        stem: Stem,
        format: Literal["wav", "flac", "mp3"] = "wav",  # noqa: A002 (named by the API)
        bits: Literal["16", "24", "float"] | None = None,
    ) -> FileResponse:
        """A stem as a file, as `solovox separate` writes it."""
        if format == "mp3" and bits is not None:
            bits = None
        if format == "flac" and bits == "float":
            raise HTTPException(415, "flac holds no floats; choose 16 or 24 bits, or wav")
        source = stem_file(song, take, stem)
        there = library.song(song)  # before it is converted: it may go meanwhile
        number = next(each.number for each in there.takes if each.id == take)
        suffix = f" (take {number})" if number > 1 else ""
        path = await in_thread(_converted, source, format, bits)
        library.touch(song)
        return FileResponse(path, filename=f"{there.name}{suffix} - {stem}.{format}")

    @app.get("/api/songs/{song}/takes/{take}/settings", responses=_problems(404))
    async def settings(song: SongId, take: TakeId) -> Response:
        """The settings file with which `solovox separate --settings` makes the take again."""
        there = library.song(song)
        entry = there.take(take)
        if entry is None or entry.made is None:
            raise Gone(take)
        name = f"{there.name}.take{entry.number}.settings.json"
        answer = Response(json.dumps(entry.made, indent=2) + "\n", media_type="application/json")
        answer.headers["Content-Disposition"] = FileResponse(os.devnull, filename=name).headers[
            "content-disposition"
        ]
        return answer

    @app.get(
        "/api/events",
        responses=_binary("text/event-stream"),
        response_class=Response,
    )
    async def events() -> StreamingResponse:
        """Server-sent events: first `songs`, all of them; then `song` for each that changes, and
        `removed` with an id; `queue` with the seconds left for all."""

        async def stream() -> AsyncIterator[str]:
            listening = hub.listen()
            first = asyncio.ensure_future(anext(listening))  # registered before the snapshot
            await asyncio.sleep(0)
            yield _event("songs", [song.model_dump() for song in library.songs()])
            try:
                news = await first
                while True:
                    for song, state in news.items():
                        if state is None:
                            yield _event("removed", song)
                        else:
                            yield _event("song", state.model_dump())
                    yield _event("queue", {"seconds_left": worker.seconds_left()})
                    news = await anext(listening)
                    await asyncio.sleep(0.05)  # news in a row go together
            except StopAsyncIteration:
                return
            finally:
                first.cancel()
                await listening.aclose()  # type: ignore[attr-defined]

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    app.mount("/", _Page(directory=PAGE, html=True))
    return app


class _Page(StaticFiles):
    """The page's files, always asked for again: after an update nothing old is shown."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        answer = super().file_response(*arguments, **named)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def known_models(models: dict[str, Path]) -> list[Default]:
    """What the page tells of each model, without loading it.

    Raises:
        ModelError: if a folder holds no model.
    """
    found = []
    for name, folder in models.items():
        try:
            found.append(_known_model(name, folder))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{folder}: no model there; export it first with `solovox export`"
            ) from error
    return found


def _known_model(name: str, folder: Path) -> Default:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rate = config.get("codec", {}).get("sample_rate", 44_100)
    balanced = config.get("sampling", {})
    qualities = {**config.get("qualities", {}), "balanced": balanced}
    ordered = {each: qualities[each] for each in get_args(Quality) if each in qualities}
    stems = config.get("stems", "exact")
    return Default(name=name, qualities=ordered, stems=stems, sample_rate=rate)


def _check_knobs(knobs: Knobs, models: dict[str, str]) -> None:
    if knobs.model is not None and knobs.model not in models:
        raise HTTPException(409, f"no such model; there are: {', '.join(models)}")


async def _receive(request: Request, path: Path, most: int) -> int:
    """The bytes written to `path`; no more than a megabyte of them is ever in memory."""
    total = 0
    held = bytearray()
    pieces = aiter(request.stream())
    async with await anyio.open_file(path, "xb") as file:
        while True:
            try:
                with anyio.fail_after(PATIENCE):  # a client that stalls must not hold up others
                    piece = await anext(pieces)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise HTTPException(408, "nothing came any more") from error
            total += len(piece)
            if total > most:
                raise HTTPException(413, f"a file may have {most >> 20} MB")
            held += piece
            if len(held) >= PIECE:
                await file.write(bytes(held))
                held.clear()
        await file.write(bytes(held))
    return total


def _probe(path: Path) -> str | None:
    """Why a file cannot be read; None if it can."""
    from solovox.audio import probe

    try:
        probe(path)
    except SolovoxError as error:
        return str(error).replace(f"{path}: ", "").replace(str(path), "the file")
    return None


def _samples(path: Path, start: int, frames: int) -> bytes:
    from solovox.audio import AudioReader

    with AudioReader(path) as reader:
        if reader.frames is None or start >= reader.frames:
            return b""
        reader.seek(start)
        block = next(reader.blocks(frames))
        return block.T.astype("<f4").tobytes()


def _converted(source: Path, extension: str, bits: str | None) -> Path:
    """A stem in another form, beside it; made when first asked for."""
    from solovox.audio import AudioReader, AudioWriter

    subtype = {"16": "pcm16", "24": "pcm24", "float": "float", None: None}[bits]
    if extension == "wav" and subtype in (None, "float"):
        return source
    target = source.with_name(f"{source.stem}.{subtype or 'best'}.{extension}")
    if not target.is_file():
        with (
            AudioReader(source) as reader,
            AudioWriter(target, reader.sample_rate, reader.channels, subtype) as writer,
        ):
            for block in reader.blocks(65_536):
                writer.write(block)
    return target


def _event(kind: str, value: object) -> str:
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n"


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in codes}


def _binary(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {200: _content(*kinds)}


def _content(*kinds: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {"content": {kind: {"schema": schema} for kind in kinds}}
