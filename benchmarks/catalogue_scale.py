"""Songs per core-hour here, and what a million songs would take.

    python benchmarks/catalogue_scale.py measure SONGS    # minutes: runs catalogues of real songs
    python benchmarks/catalogue_scale.py plan             # seconds: simulates a million songs

`measure` runs `solovox catalogue` with one worker of one thread over a folder of songs, each cut to
`--seconds`, at several settings and formats, and prints CPU seconds, after a song that is not
counted, since a worker loads once for thousands of songs. `plan` simulates workers that
take songs from shards as the driver does: lengths are log-normal; workers die, whole machines are
taken away, songs are unreadable or kill their worker. Work that is lost is done again.
"""

import heapq
import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

MEBI = 1 << 20
SONG = 240.0  # s, the song by which songs are counted


# Measuring


def cut(source: Path, target: Path, seconds: float) -> int:
    """Write the middle of each song of a folder; return how many there are."""
    from solovox.audio import probe, read_audio, write_audio
    from solovox.suffixes import SUFFIXES

    songs = sorted(path for path in source.rglob("*") if path.name.lower().endswith(SUFFIXES))
    target.mkdir()
    for number, song in enumerate(songs):
        length = probe(song).seconds or seconds
        audio, rate = read_audio(song, offset=max(0, (length - seconds) / 2), duration=seconds)
        write_audio(target / f"{number:03d}.wav", audio, rate, "pcm16")
    return len(songs)


@dataclass
class Measured:
    """One row: seconds of sound and of CPU, MB written, peak MiB."""

    sound: float
    cpu: float
    megabytes: float
    peak: float


def measure_one(first: Path, songs: Path, out: Path, words: dict, results) -> None:
    """Run catalogues of one song and then of all in this process, with one thread."""
    import torch

    torch.set_num_threads(1)
    from solovox.catalogue.run import separate_catalogue
    from solovox.catalogue.settings import Settings

    options = {"settings": Settings(**words), "engine": "inline", "device": "cpu"}
    separate_catalogue(str(first), f"{out} first", **options)
    cpu = time.process_time()
    report = separate_catalogue(str(songs), str(out), **options)
    cpu = time.process_time() - cpu
    size = sum(path.stat().st_size for path in out.glob("stems/**/*.*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBI
    results.put((report.seconds, cpu, size / 1e6, peak))


SETTINGS = {
    "default": {},
    "one pass (--steps 0)": {"steps": 0},
    "one pass, flac": {"steps": 0, "extension": "flac"},
    "one pass, mp3": {"steps": 0, "extension": "mp3"},
}


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure songs per core-hour, or plan a large catalogue, which is done if nothing is said."""
    if context.invoked_subcommand is None:
        context.invoke(plan)


@main.command()
@click.argument("songs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seconds", default=30.0, show_default=True, help="Of each song.")
def measure(songs: Path, seconds: float) -> None:
    """Print CPU seconds a song, for a folder of songs."""
    import multiprocessing

    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    table = Table(title="one worker, one thread")
    for name in (
        "settings", "sound s", "CPU s", "CPU s / s", "songs of 4 min / core-hour", "MB / song",
        "peak MiB",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "settings" else "right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut(songs, folder / "songs", seconds)
        (folder / "first").mkdir()
        shutil.copy(folder / "songs" / "000.wav", folder / "first")
        for title, words in SETTINGS.items():
            results = context.SimpleQueue()
            arguments = (folder / "first", folder / "songs", folder / title, words, results)
            process = context.Process(target=measure_one, args=arguments)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)
            m = Measured(*results.get())
            share = m.cpu / m.sound
            table.add_row(
                title, f"{m.sound:.0f}", f"{m.cpu:.0f}", f"{share:.3f}",
                f"{3600 / (SONG * share):.1f}", f"{m.megabytes * SONG / m.sound:.0f}",
                f"{m.peak:.0f}",
            )  # fmt: skip
    Console(width=100).print(table)


# Planning


@dataclass(frozen=True)
class Plan:
    """A catalogue on many machines.

    Attributes:
        songs: how many.
        minutes: mean length; lengths are log-normal with a spread of `spread` (of the logarithm).
        work: CPU seconds a second of sound.
        megabytes: written a song of mean length.
        shards: parts; one driver works on each.
        machines: how many drivers at once, each with `cores` workers.
        start: s until a worker has loaded.
        requeue: s until a machine that was taken away is replaced.
        worker_deaths, machine_deaths: an hour.
        unreadable, deadly: share of songs.
        tries: of a song.
        core_hour, terabyte_month, thousand_writes: prices.
    """

    songs: int = 1_000_000
    minutes: float = 4.0
    spread: float = 0.4
    work: float = 1.0
    megabytes: float = 100.0
    shards: int = 2000
    machines: int = 200
    cores: int = 16
    start: float = 5.0
    requeue: float = 600.0
    worker_deaths: float = 0.01
    machine_deaths: float = 0.02
    unreadable: float = 0.002
    deadly: float = 0.0001
    tries: int = 3
    core_hour: float = 0.04
    terabyte_month: float = 23.0
    thousand_writes: float = 0.005


@dataclass
class Outcome:
    """What a plan comes to. Core-hours are those of workers that compute."""

    hours: float = 0.0
    core_hours: float = 0.0
    lost_core_hours: float = 0.0
    again: int = 0
    aside: int = 0
    slowest_shard: float = 0.0
    mean_shard: float = 0.0


def simulate(plan: Plan, seed: int = 0) -> Outcome:
    """Let machines work through the shards, one shard a machine at a time."""
    random = np.random.default_rng(seed)
    mu = np.log(60 * plan.minutes) - plan.spread**2 / 2
    seconds = random.lognormal(mu, plan.spread, plan.songs) * plan.work
    draw = random.random(plan.songs)
    unreadable = draw < plan.unreadable
    deadly = (draw >= plan.unreadable) & (draw < plan.unreadable + plan.deadly)
    shard = random.integers(0, plan.shards, plan.songs)
    order = np.argsort(shard, kind="stable")
    edges = np.searchsorted(shard[order], np.arange(plan.shards + 1))
    out, lengths = Outcome(), []
    machines = [0.0] * plan.machines
    for number in range(plan.shards):
        begin = heapq.heappop(machines)
        songs = order[edges[number] : edges[number + 1]]
        end = _shard(plan, begin, seconds[songs], unreadable[songs], deadly[songs], random, out)
        lengths.append(end - begin)
        heapq.heappush(machines, end)
    out.hours = max(machines) / 3600
    out.slowest_shard, out.mean_shard = max(lengths) / 3600, float(np.mean(lengths)) / 3600
    return out


def _shard(plan: Plan, begin, seconds, unreadable, deadly, random, out: Outcome) -> float:
    """The time at which a machine that begins a shard has finished it."""
    queue = [(number, 1) for number in range(len(seconds))][::-1]
    dies = begin + random.exponential(3600 / plan.machine_deaths)
    workers = [(begin + plan.start, core, None) for core in range(plan.cores)]  # free at
    heapq.heapify(workers)
    end = begin
    while workers:
        now, core, task = heapq.heappop(workers)
        if now > dies:  # the machine is gone: all that its workers had is lost
            lost = [task, *(other for _, _, other in workers)]
            for (number, tries), started in filter(None, lost):
                out.lost_core_hours += max(0.0, dies - started) / 3600
                _again(plan, queue, number, tries, out)
            begin = dies + plan.requeue
            dies = begin + random.exponential(3600 / plan.machine_deaths)
            workers = [(begin + plan.start, core, None) for core in range(plan.cores)]
            continue
        if task is not None:
            (number, tries), started = task
            killed = deadly[number] or random.random() < 1 - np.exp(
                -(now - started) / 3600 * plan.worker_deaths
            )
            if killed:
                share = random.random()
                out.lost_core_hours += share * (now - started) / 3600
                now = started + share * (now - started) + plan.start
                _again(plan, queue, number, tries, out)
            elif unreadable[number]:
                out.aside += 1
            else:
                out.core_hours += (now - started) / 3600
        end = max(end, now)
        if queue:
            number, tries = queue.pop()
            took = 0.0 if unreadable[number] else seconds[number]
            heapq.heappush(workers, (now + took, core, ((number, tries), now)))
    return float(end)


def _again(plan: Plan, queue: list[tuple[int, int]], number: int, tries: int, out: Outcome) -> None:
    """Put a song that was lost at the end of the queue, which is its start; or aside."""
    if tries < plan.tries:
        out.again += 1
        queue.insert(0, (number, tries + 1))
    else:
        out.aside += 1


@main.command()
@click.option("--songs", default=Plan.songs, show_default=True)
@click.option("--work", type=float, multiple=True, help="CPU seconds a second of sound; several.")
@click.option("--megabytes", type=float, multiple=True, help="A song, one for each --work.")
@click.option("--machines", default=Plan.machines, show_default=True)
@click.option("--cores", default=Plan.cores, show_default=True)
@click.option("--shards", type=int, multiple=True, default=(200, 2000, 20000), show_default=True)
@click.option("--machine-deaths", default=Plan.machine_deaths, show_default=True, help="An hour.")
def plan(songs, work, megabytes, machines, cores, shards, machine_deaths) -> None:
    """Print what a large catalogue takes."""
    table = Table(title=f"{songs} songs of 4 min, {machines} machines of {cores} cores")
    for name in (
        "CPU s / s", "MB / song", "shards", "days", "core-hours", "lost", "begun again",
        "set aside", "slowest shard / mean", "TB", "computing", "storing a month",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for cost, size in zip(work or (1.0,), megabytes or (100.0,), strict=True):
        for count in shards:
            p = replace(
                Plan(), songs=songs, machines=machines, cores=cores, shards=count, work=cost,
                megabytes=size, machine_deaths=machine_deaths,
            )  # fmt: skip
            o = simulate(p)
            hours = o.core_hours + o.lost_core_hours
            terabytes = p.songs * p.megabytes / 1e6
            table.add_row(
                f"{cost:g}", f"{size:g}", str(count), f"{o.hours / 24:.1f}", f"{hours:.0f}",
                f"{o.lost_core_hours / hours:.2%}", str(o.again), str(o.aside),
                f"{o.slowest_shard / o.mean_shard:.2f}", f"{terabytes:.0f}",
                f"{o.hours * machines * cores * p.core_hour:.0f}",
                f"{terabytes * p.terabyte_month:.0f}",
            )  # fmt: skip
    Console(width=max(120, Console().width)).print(table)


if __name__ == "__main__":
    sys.exit(main())
