"""How evaluation scales over processes: wall time for N songs with one process and with two.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_jobs.py [--songs 12] [--seconds 60]

Songs and estimates are noise, for metrics take the same time whatever they hear. One thread a
process compares like with like. The machine must be idle, or the ratio says nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from solovox.evaluation.benchmark import evaluate
from solovox.evaluation.systems import EstimatesSystem

RATE = 44_100


def write(folder: Path, songs: int, seconds: float) -> None:
    rng = np.random.default_rng(0)
    for song in range(songs):
        vocals, band = (0.1 * rng.standard_normal((round(seconds * RATE), 2)) for _ in range(2))
        files = {
            f"data/{song:02}/vocals.wav": vocals,
            f"data/{song:02}/accompaniment.wav": band,
            f"estimates/{song:02}/vocals.wav": vocals + 0.1 * band,
        }
        for name, audio in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, audio, RATE, subtype="PCM_16")


def cpu_seconds() -> float:
    """CPU time of this process and of all children that have ended."""
    used = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, arguments.songs, arguments.seconds)
        walls, cpus = {}, {}
        for jobs in (1, 2):
            began, used = time.perf_counter(), cpu_seconds()
            evaluate(
                EstimatesSystem(folder / "estimates"),
                folder / "data",
                folder / f"out{jobs}",
                jobs=jobs,
            )
            walls[jobs], cpus[jobs] = time.perf_counter() - began, cpu_seconds() - used
    audio = arguments.songs * arguments.seconds
    load = os.getloadavg()[0]
    print(f"{arguments.songs} songs of {arguments.seconds:g} s, both stems, all metrics")
    print("| processes | CPU s | wall s | s for 50 songs of 4 min, at that rate | of one process |")
    print("|---:|---:|---:|---:|---:|")
    for jobs, wall in walls.items():
        whole = wall / audio * 50 * 240
        print(f"| {jobs} | {cpus[jobs]:.1f} | {wall:.1f} | {whole:.0f} | {wall / walls[1]:.2f} |")
    print(f"Load average at the end: {load:.1f} (above 2 the machine was not idle)")


if __name__ == "__main__":
    main()
