"""Hours of sound, killed on the way and resumed, against the same in one run.

    python benchmarks/long_file.py                            # 3 hours, 3 kills, two cores
    python benchmarks/long_file.py -n diff-dmx-small --steps 0 --minutes 10

A file of chords at 48 kHz is made here, so that both resamplers work, and separated twice by
`solovox separate`, at the same time: once as it is, once with --resume and SIGKILL when the state
has grown to random sizes. It is about what surrounds the networks, so they are left out if no model
is named. Exits with status 1 if one byte of the stems differs, if anything else is left, or if
memory grows.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from memory import write_song
from rich.console import Console
from rich.table import Table

MEBI = 1 << 20
LIMIT = 2.0  # times the memory of one minute


WITHOUT_NETWORKS = """
import sys
from memory import without_networks
from solovox import separator
separator.load_model = lambda name: without_networks(131_072)
"""
COMMAND = """
from solovox.cli import main
main()
"""


def separate(song: Path, out: Path, options: list[str], kill_at: int | None = None):
    """Run the command; kill it when its state has so many bytes; (seconds, peak bytes, status)."""
    program = COMMAND if "-n" in options else WITHOUT_NETWORKS + COMMAND
    command = [sys.executable, "-c", program, "separate", str(song)]
    began = time.perf_counter()
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # where `memory` is
    process = subprocess.Popen([*command, "-o", str(out), "-q", *options], env=place)
    while kill_at is not None and process.poll() is None and state_size(out) < kill_at:
        time.sleep(0.2)
    if kill_at is not None:
        process.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - began, peak, process.returncode


def state_size(out: Path) -> int:
    return sum(path.stat().st_size for path in out.glob("*/.resume/*.chunks"))


def digests(out: Path) -> dict[str, str]:
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".resume" not in path.parts:
            with path.open("rb") as file:
                total = hashlib.sha256()
                while block := file.read(1 << 20):
                    total.update(block)
            found[path.relative_to(out).as_posix()] = total.hexdigest()
    return found


@click.command()
@click.option("--minutes", default=180.0, show_default=True)
@click.option("--kills", default=3, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
@click.option("-n", "--model", help="If networks are wanted.")
@click.option("--steps", default=0, show_default=True)
@click.option("-j", "--jobs", default=2, show_default=True, help="CPU threads.")
@click.option("--format", "extension", default="flac", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="For the files, if not /tmp.")
def main(minutes, kills, seed, model, steps, jobs, extension, folder):
    """Separate a long file in one run, and in several that are killed; compare all bytes."""
    options = ["--steps", str(steps), f"--{extension}", "-j", str(jobs)]
    options += ["--int16"] if extension in ("wav", "flac") else []
    options += ["-n", model] if model else []
    table = Table(title=f"{minutes:g} minutes, {model or 'no networks'}, {extension}")
    for heading in ("run", "seconds", "peak MiB", "state MiB afterwards"):
        table.add_column(heading, justify="left" if heading == "run" else "right")

    def row(name: str, seconds: float, peak: int, out: Path) -> None:
        state = state_size(out) / MEBI
        table.add_row(name, f"{seconds:.0f}", f"{peak / MEBI:.0f}", f"{state:.0f}")
        print(name, f"{seconds:.0f} s, {peak / MEBI:.0f} MiB, state {state:.0f} MiB", flush=True)

    with tempfile.TemporaryDirectory(dir=folder) as place:
        song, whole, out = (Path(place) / name for name in ("song.wav", "whole", "killed"))
        write_song(song, 1)
        *measured, status = separate(song, Path(place) / "short", options)
        if status:
            raise SystemExit(status)
        row("one minute", *measured, whole)
        short = measured[1]
        write_song(song, minutes)
        peaks = []
        pool = ThreadPoolExecutor(1)
        one_run = pool.submit(separate, song, whole, options)
        full = 1.25 * 2 * 4 * 44_100 * 60 * minutes  # bytes of state at the end, about
        chance = random.Random(seed)
        for moment in [(kill + chance.uniform(0.1, 0.9)) / kills for kill in range(kills)]:
            *measured, status = separate(song, out, [*options, "--resume"], int(moment * full))
            if status != -signal.SIGKILL:
                raise SystemExit(f"ended with {status} before it was killed")
            row(f"killed at {moment:.0%}", *measured, out)
            peaks.append(measured[1])
        *measured, status = separate(song, out, [*options, "--resume"])
        row("to the end", *measured, out)
        peaks.append(measured[1])
        *measured, failed = one_run.result()
        row("in one run", *measured, whole)
        peaks.append(measured[1])
        one, other = digests(whole), digests(out)
        Console().print(table)
        same = one == other and len(one) == 2 and status == failed == 0
        print(f"{len(one)} stems and {len(other)}:", "identical" if same else "different")
        if not same or state_size(out) or max(peaks) > LIMIT * short:
            raise SystemExit("stems differ, state is left, or memory has grown")


if __name__ == "__main__":
    main()
