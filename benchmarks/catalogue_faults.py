"""What faults cost a catalogue: files lost, corrupt or made twice, each time something is broken.

    python benchmarks/catalogue_faults.py           # minutes, with processes
    python benchmarks/catalogue_faults.py --ray     # Ray too
    python benchmarks/catalogue_faults.py --only ray --songs 200 --every 10 --shipped

Each row is a catalogue of its own, of the same songs, run until it is complete while processes are
really killed and disks are really full. It is compared with a run in which nothing went wrong:

    lost        songs with neither their stems nor a record that says why not
    corrupt     files with other bytes than without the fault, the manifest among them; left-overs
    duplicates  songs that were done once more after they were done; songs listed twice

Exits with status 1 unless all are 0, and each fault has really been made.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from solovox.audio import write_audio
from solovox.catalogue import worker as worker_module
from solovox.catalogue.driver import Limits, Report
from solovox.catalogue.engines import Engine
from solovox.catalogue.records import read_records
from solovox.catalogue.run import ENGINES, separate_catalogue
from solovox.catalogue.settings import Settings
from solovox.catalogue.storage import Folder
from solovox.errors import SolovoxError

RATE = 8000
SHARDS = 3
SLOW = 0.4  # s that a song takes longer here, so that kills hit
WORKERS = 2
SETTINGS = Settings(shards=SHARDS)
LIMITS = Limits(minutes=3.0)


# Songs and models


def make_songs(folder: Path, count: int, rate: int = RATE) -> None:
    """Songs of two to four seconds: two notes, and noise."""
    generator = np.random.default_rng(0)
    for number in range(count):
        time_in_song = np.arange(round(rate * generator.uniform(2, 4))) / rate
        hertz = 220 * 2 ** (generator.integers(0, 24, (2, 1)) / 12)
        noise = 0.02 * generator.standard_normal((2, len(time_in_song)))
        path = folder / f"album {number % 5}" / f"song {number:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = 0.3 * np.sin(2 * np.pi * hertz * time_in_song) + noise
        write_audio(path, sound, rate, "pcm16")


def make_model(folder: Path) -> Path:
    """A model of a few thousand weights."""
    import torch

    from solovox.checkpoint import save_model
    from solovox.codecs.lapped import LappedConfig
    from solovox.networks.band_split import BandSplitConditionerConfig, BandSplitGeneratorConfig
    from solovox.presets import ModelConfig, SamplingConfig, build_model

    torch.manual_seed(0)
    size = {"bands": 6, "widths": (8, 12), "heads": 2}
    config = ModelConfig(
        "tiny",
        LappedConfig(RATE, bands=32),
        BandSplitConditionerConfig(RATE, hop=32, **size),
        BandSplitGeneratorConfig(RATE, bins=32, **size, condition_widths=(8, 12)),
        normalise=True,
        chunk=2048,
        sampling=SamplingConfig(steps=1, start=0.3, eta=0.0, cutoff=1000),
    )
    return save_model(build_model(config), folder)


# What the songs' names make workers do, and how drivers are started


def faulty_worker() -> None:
    """A worker that dies of songs named poison, hangs with those named hang, and takes its time."""
    from solovox import Separator

    separate = Separator.separate_file

    def slowly(self, path, *args, progress=lambda share: None, **settings):
        name = Path(path).name
        if name.startswith("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("hang"):
            time.sleep(3600)
        for _ in range(4):
            time.sleep(float(os.environ.get("SLOW", SLOW)) / 4)
            progress(0.0)
        return separate(self, path, *args, progress=progress, **settings)

    Separator.separate_file = slowly
    marker = os.environ.get("HANG_WHILE_LOADING")
    if marker and not Path(marker).exists():
        Path(marker).touch()
        time.sleep(3600)
    worker_module.main()


WORKER = [sys.executable, str(Path(__file__).resolve()), "worker"]


def run(case: "Case", **options) -> Report:
    """One run in this process."""
    workers = int(os.environ.get("WORKERS", WORKERS))  # drivers of their own take it from here
    arguments = {"settings": SETTINGS, "limits": LIMITS, "workers": workers, "command": WORKER}
    return separate_catalogue(
        str(case.songs), str(case.out), model=str(case.model), device="cpu", **arguments | options
    )


def start_driver(case: "Case") -> subprocess.Popen:
    """One run in a process of its own."""
    places = [str(case.songs), str(case.out), str(case.model)]
    return subprocess.Popen([sys.executable, __file__, "driver", *places])


def driver_main(songs: str, out: str, model: str) -> None:
    """What `start_driver` starts."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    case = Case(Path(songs), Path(out), Path(model))
    report = run(case, stop=stopped.is_set)
    sys.exit(143 if report.stopped else 0)


# The comparison


@dataclass
class Case:
    """A catalogue, and what has been seen of its records while faults were made.

    `minutes` is more than a worker takes here until it has loaded.
    """

    songs: Path
    out: Path
    model: Path
    minutes: float = 0.5
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faults: int = 0
    duplicates: int = 0

    def look(self) -> None:
        """Remember the records that are there; count those that were written again."""
        for path in self.out.glob("records/*/*.json"):
            try:
                now = (path.stat().st_ino, path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
            self.duplicates += self.seen.setdefault(path, now) != now
            self.seen[path] = now

    def done(self) -> int:
        """How many songs have a record."""
        return len(list(self.out.glob("records/*/*.json")))


@dataclass
class Row:
    """One line of the table."""

    fault: str
    songs: int
    faults: int
    tries: int
    aside: int
    lost: int
    corrupt: int
    duplicates: int

    @property
    def good(self) -> bool:
        made = bool(self.faults) != self.fault.endswith("nothing")
        return made and not (self.lost or self.corrupt or self.duplicates)


def audit(fault: str, case: Case, reference: Path | None, aside: int = 0) -> Row:
    """Compare a catalogue with one in which nothing went wrong."""
    case.look()
    folder = Folder(str(case.out))
    records = [r for shard in range(SHARDS) for r in read_records(folder, shard).values()]
    known = {record["path"]: record for record in records}
    names = [path.relative_to(case.songs).as_posix() for path in case.songs.rglob("*.*")]
    names = [name for name in names if (case.songs / name).is_file()]
    lost = sum(name not in known for name in names)
    corrupt, expected = 0, set()
    for record in records:
        for stem in record.get("stems", {}).values():
            path = case.out / stem["path"]
            expected.add(path)
            if not path.is_file():
                lost += 1
            elif reference and path.read_bytes() != (reference / stem["path"]).read_bytes():
                corrupt += 1
    corrupt += len({path for path in case.out.glob("stems/**/*") if path.is_file()} ^ expected)
    corrupt += (case.out / ".scratch").exists()
    rows = pq.read_table(case.out / "manifest.parquet").to_pylist()
    duplicates = case.duplicates + len(rows) - len({row["path"] for row in rows})
    if reference:
        there = {
            row["path"]: row for row in pq.read_table(reference / "manifest.parquet").to_pylist()
        }
        corrupt += sum(row != there.get(row["path"]) for row in rows if row["status"] == "done")
        if not aside:
            same = (case.out / "manifest.parquet").read_bytes()
            corrupt += same != (reference / "manifest.parquet").read_bytes()
    set_aside = sum(record["status"] != "done" for record in records)
    lost += abs(set_aside - aside)
    tries = sum(record["run"]["tries"] for record in records)
    return Row(fault, len(names), case.faults, tries, set_aside, lost, corrupt, duplicates)


# The faults


def nothing(case: Case) -> int:
    run(case)
    return 0


@contextmanager
def engines_seen(name: str, see: Callable[[Engine], None]) -> Iterator[None]:
    """Shows each engine of that name as soon as a run has made it."""
    make = ENGINES[name]

    def make_and_show(*args):
        engine, workers = make(*args)
        see(engine)
        return engine, workers

    ENGINES[name] = make_and_show
    try:
        yield
    finally:
        ENGINES[name] = make


def kill_as_given(case: Case, engine, within: float, most: int = 1000) -> None:
    """Make an engine kill the worker of every third song, within so many seconds of giving it."""
    generator, give, given = random.Random(0), engine.give, count(1)

    def give_and_kill(slot, song, tries):
        case.look()
        give(slot, song, tries)
        if next(given) % 3 == 0 and case.faults < most:
            time.sleep(generator.uniform(0, within))
            os.kill(engine.ready[slot], signal.SIGKILL)
            case.faults += 1

    engine.give = give_and_kill


@contextmanager
def killing(case: Case, engines: list, every: float) -> Iterator[None]:
    """Kills one of the workers that there are, every so many seconds."""
    generator, stop = random.Random(0), threading.Event()

    def kill() -> None:
        while not stop.wait(every):
            case.look()
            ready = [pid for engine in engines for pid in dict(engine.ready).values()]
            with suppress(ProcessLookupError, IndexError):
                os.kill(generator.choice(ready), signal.SIGKILL)
                case.faults += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def workers_killed(case: Case, most: int = 1000) -> int:
    with engines_seen("local", lambda engine: kill_as_given(case, engine, SLOW, most)):
        run(case, limits=replace(LIMITS, tries=10))
    return 0


def drivers_killed(case: Case, kills: int = 3, number: int = signal.SIGKILL) -> int:
    """Kill the driver each time some more songs are done, then let it finish."""
    for kill in range(kills):
        driver = start_driver(case)
        wanted = case.done() + 1 + kill
        while driver.poll() is None and case.done() < wanted:
            time.sleep(0.05)
        time.sleep(0.3 * SLOW * (1 + kill))
        case.look()
        if driver.poll() is None:
            case.faults += 1
            driver.send_signal(number)
        assert driver.wait() == (-9 if number == signal.SIGKILL else 143)
        if number != signal.SIGKILL:
            assert not (case.out / ".scratch").exists()
    assert start_driver(case).wait() == 0
    return 0


def drivers_stopped(case: Case) -> int:
    return drivers_killed(case, 2, signal.SIGTERM)


def unreadable(case: Case) -> int:
    (case.songs / "text.mp3").write_text("no sound\n" * 500)
    (case.songs / "empty.flac").touch()
    good = next(case.songs.rglob("*.wav")).read_bytes()
    (case.songs / "cut.wav").write_bytes(good[: len(good) // 2])
    case.faults = len(run(case).aside)
    return 3


def poisoned(case: Case) -> int:
    good = next(case.songs.rglob("*.wav")).read_bytes()
    (case.songs / "poison.wav").write_bytes(good)
    case.faults = len(run(case).aside)
    return 1


def hanging(case: Case) -> int:
    good = next(case.songs.rglob("*.wav")).read_bytes()
    (case.songs / "hang.wav").write_bytes(good)
    case.faults = len(run(case, limits=Limits(tries=2, minutes=case.minutes)).aside)
    return 1


def hanging_load(case: Case) -> int:
    os.environ["HANG_WHILE_LOADING"] = str(case.out.with_name("hung once"))
    try:
        run(case, limits=Limits(minutes=case.minutes), workers=1)
    finally:
        del os.environ["HANG_WHILE_LOADING"]
    case.faults = 1
    return 0


def full_disk(case: Case) -> int:
    """A disk of 2 MB, on which some songs have room; then a larger one."""
    case.out.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]
    subprocess.run(["mount", *options, str(case.out)], check=True, capture_output=True)
    report = run(case)
    assert report.stopped and "disk is full" in report.stopped, report
    assert 0 < report.done < report.songs
    case.faults = 1
    subprocess.run(["mount", "-o", "remount,size=64m", str(case.out)], check=True)
    assert run(case).stopped is None
    return 0


def two_drivers(case: Case) -> int:
    drivers = [start_driver(case) for _ in range(2)]
    while any(driver.poll() is None for driver in drivers):
        case.look()
        time.sleep(0.1)
    assert [driver.wait() for driver in drivers] == [0, 0]
    case.faults = 1
    return 0


def another_setting(case: Case) -> int:
    stop = iter([False] * 8)
    run(case, stop=lambda: next(stop, True) if case.done() else False)
    try:
        run(case, settings=replace(SETTINGS, seed=7))
    except SolovoxError as error:
        assert "was begun with seed 0, not 7" in str(error)
        case.faults = 1
    run(case, settings=Settings())
    return 0


FAULTS: dict[str, tuple[str, Callable[[Case], int]]] = {
    "worker": ("a worker killed with every third song", workers_killed),
    "driver": ("the driver killed", drivers_killed),
    "stop": ("the driver told to end (SIGTERM)", drivers_stopped),
    "disk": ("a full disk", full_disk),
    "unreadable": ("unreadable songs", unreadable),
    "poison": ("a song that kills its worker", poisoned),
    "hang": ("a song that hangs", hanging),
    "load": ("a worker that hangs while it loads", hanging_load),
    "drivers": ("two drivers at once", two_drivers),
    "setting": ("another seed on restart", another_setting),
}
"""Name → (what it is, what makes it and returns how many songs must be set aside)."""


def check(name: str, folder: Path, songs: int, reference: Path | None, minutes: float = 0.5) -> Row:
    """The row of a fault."""
    title, make = FAULTS.get(name, (name, nothing))
    case = Case(folder / name / "songs", folder / name / "out", folder / "model", minutes)
    make_songs(case.songs, songs)
    try:
        return audit(title, case, reference, make(case))
    finally:
        if os.path.ismount(case.out):
            subprocess.run(["umount", str(case.out)], check=False)


# Ray


def check_ray(folder: Path, songs: int, every: float | None, shipped: bool) -> list[Row]:
    """A run on Ray without kills, then one with; both of the same songs."""
    import ray

    model = Path("diff-dmx-small") if shipped else folder / "model"
    settings = replace(SETTINGS, steps=0) if shipped else SETTINGS
    make_songs(folder / "ray songs", songs, 44100 if shipped else RATE)
    rows, often = [], f"every {every:g} s" if every else "with every third song"
    for title, kills in (("Ray, nothing", False), (f"Ray, a worker killed {often}", True)):
        case = Case(folder / "ray songs", folder / title, model)
        with ExitStack() as stack:
            if kills and every:
                engines: list[Engine] = []
                stack.enter_context(engines_seen("ray", engines.append))
                stack.enter_context(killing(case, engines, every))
            elif kills:
                kill = partial(kill_as_given, case, within=0.1)  # a song takes little longer
                stack.enter_context(engines_seen("ray", kill))
            run(case, engine="ray", settings=settings, limits=replace(LIMITS, tries=10))
        rows.append(audit(title, case, folder / "Ray, nothing" if kills else None))
    ray.shutdown()
    return rows


def main_table(only, songs, with_ray, every, shipped) -> None:
    console = Console(width=100)
    table = Table(title=f"{songs} songs, {WORKERS} workers, {SHARDS} shards")
    for heading in (
        "fault",
        "songs",
        "faults",
        "tries",
        "set aside",
        "lost",
        "corrupt",
        "duplicates",
    ):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        names = [name for name in FAULTS if not only or name in only]
        begin = time.monotonic()
        if names:
            rows.append(check("nothing", folder, songs, None))
        minutes = max(0.1, (time.monotonic() - begin) / 60)  # all songs: more than one loading
        for fault in names:
            console.print(FAULTS[fault][0], "…", style="dim")
            try:
                rows.append(check(fault, folder, songs, folder / "nothing" / "out", minutes))
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                if fault != "disk":
                    raise
                console.print(f"left out: a full disk needs `mount` ({error})")
        if with_ray or "ray" in only:
            rows += check_ray(folder, songs, every, shipped)
    for row in rows:
        table.add_row(*(str(value) for value in vars(row).values()))
    console.print(table)
    if not all(row.good for row in rows):
        raise SystemExit("something was lost, corrupt or done twice, or a fault was not made")


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*FAULTS, "ray"]), help="These faults.")
@click.option("--songs", default=12, show_default=True)
@click.option("--ray", "with_ray", is_flag=True, help="Ray's workers too.")
@click.option("--every", type=float, help="Seconds between kills on Ray; else every third song.")
@click.option("--shipped", is_flag=True, help="On Ray, the model that ships, at 44.1 kHz.")
def main(
    only: tuple[str, ...], songs: int, with_ray: bool, every: float | None, shipped: bool
) -> None:
    """Print the table of faults."""
    main_table(only, songs, with_ray, every, shipped)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        faulty_worker()
    elif sys.argv[1:2] == ["driver"]:
        driver_main(*sys.argv[2:])
    else:
        main()
