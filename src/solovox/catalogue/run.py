"""`separate_catalogue`: one run over a catalogue, from addresses to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from solovox.catalogue.driver import Driver, Limits, Report
from solovox.catalogue.engines import Engine, InlineEngine, LocalEngine, count_workers
from solovox.catalogue.settings import Job, Settings, plan_job
from solovox.catalogue.songs import find_songs
from solovox.catalogue.storage import Folder, this_process
from solovox.errors import SolovoxError


def separate_catalogue(
    source: str,
    target: str,
    *,
    model: str | None = None,
    device: str = "auto",
    settings: Settings | None = None,
    engine: str = "local",
    workers: int | None = None,
    shards: Sequence[int] | None = None,
    limits: Limits | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Report], None] = lambda report: None,
    command: Sequence[str] | None = None,
) -> Report:
    """What one run over a catalogue did; it goes on where earlier ones ended.

    Args:
        source: the folder of songs, local or the address of another file system's.
        target: the output folder, likewise.
        model: a name of `list_models`, a folder, or a hub id; None is that of earlier runs.
        device: where to compute.
        settings: what decides the output; None, or a field that is None, is as in earlier runs.
        engine: a name of ENGINES.
        workers: how many; None is one per GPU, or per `threads` cores.
        shards: which to work on; None is all that no other run works on.
        limits: when to give up.
        stop: asked about once a second whether to end.
        tell: called with the report when something has changed.
        command: what the local engine starts as a worker; None is the usual.

    Raises:
        SolovoxError: if the run cannot begin or go on; what is done stays done.
    """
    owner = this_process()
    songs_folder, out = Folder(source), Folder(target, owner)
    if not songs_folder.exists():
        raise SolovoxError(f"{source}: no such folder; check its address")
    if out.is_same(songs_folder):
        raise SolovoxError(f"{target}: is the input too; choose another output folder")
    job = plan_job(source, out, model, device, settings or Settings())
    count = job.settings.shards or 1
    wanted = range(count) if shards is None else shards
    if wrong := [shard for shard in wanted if not 0 <= shard < count]:
        raise SolovoxError(f"there is no shard {wrong[0]}; they are 0 to {count - 1}")
    if engine not in ENGINES:
        raise SolovoxError(f"unknown engine '{engine}'; use {', '.join(ENGINES)}")

    def check() -> None:
        if stop():
            raise SolovoxError("stopped while the songs were listed; nothing was begun")

    songs = find_songs(songs_folder, count, wanted, check, leave_out=out)
    driver = Driver(job, out, songs, limits or Limits(), stop, tell)
    make = partial(ENGINES[engine], owner, job, workers, driver, command)
    return driver.run(make)


def _local(
    owner: str, job: Job, workers: int | None, driver: Driver, command: Sequence[str] | None
) -> tuple[Engine, int]:
    return LocalEngine(owner, command), workers or count_workers(job)


def _inline(
    owner: str, job: Job, workers: int | None, driver: Driver, command: Sequence[str] | None
) -> tuple[Engine, int]:
    return InlineEngine(owner, driver.beat), 1


def _ray(
    owner: str, job: Job, workers: int | None, driver: Driver, command: Sequence[str] | None
) -> tuple[Engine, int]:
    try:
        from solovox.catalogue.on_ray import RayEngine
    except ModuleNotFoundError as error:
        raise SolovoxError("--engine ray needs Ray: run `pip install 'solovox[ray]'`") from error
    engine = RayEngine(owner, job, workers)
    return engine, engine.workers


ENGINES: dict[str, Callable[..., tuple[Engine, int]]] = {
    "local": _local,
    "ray": _ray,
    "inline": _inline,
}
"""Name → (engine, how many workers)."""
