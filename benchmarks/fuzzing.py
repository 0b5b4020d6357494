"""Run hostile cases in a process of their own, and tell what became of them.

A case is bad input that is made from a seed and a number alone. A process with little memory tries
one after the other and says of each "read" or "refused". A crash is the death of that process, any
other exception, or no answer within the time limit; the process is then replaced. Time is that of
the processor, so that other work on the machine does not count.

`fuzz_audio.py` and `fuzz_settings.py` have the cases.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from rich import print as show
from rich.progress import track
from rich.table import Table

TIME_LIMIT = 20.0  # s of the processor for one case; a signal then ends the process
PATIENCE = 15  # as often as that by the clock, in case it sleeps
MEMORY_LIMIT = 512 << 20  # bytes of address space on top of what the interpreter has

Try = Callable[[Path, int, int], str]
"""(folder, seed, case) → "read" or "refused"; found by name in a new process."""


@dataclass
class Report:
    """What came of the cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: dict[int, str] = field(default_factory=dict)
    first_peak: int = 0
    peak: int = 0
    peak_case: int = 0
    longest: float = 0.0
    longest_case: int = 0

    def add(self, case: int, outcome: str, seconds: float, peak: int) -> None:
        if outcome in ("read", "refused"):
            self.outcomes[outcome] += 1
        else:
            self.crashes[case] = outcome
        self.first_peak = self.first_peak or peak
        if peak > self.peak:
            self.peak, self.peak_case = peak, case
        if seconds > self.longest:
            self.longest, self.longest_case = seconds, case


def work(connection: Connection, attempt: Try, folder: Path, seed: int, cases: range) -> None:
    """Try the cases one by one and tell (case, outcome, seconds, peak bytes) of each."""
    attempt(folder, seed, 0)  # imports and caches are not the first case's
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT,) * 2)
    warnings.simplefilter("error")
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
        start = time.process_time()
        try:
            outcome = attempt(folder, seed, case)
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        connection.send((case, outcome, seconds, peak))


def fuzz(attempt: Try, mutations: int, seed: int, folder: Path) -> Iterator[Report]:
    """Yield the report so far after each case."""
    context = multiprocessing.get_context("spawn")
    report, done = Report(), 0
    while done < mutations:
        here, there = context.Pipe(duplex=False)
        cases = range(done, mutations)
        worker = context.Process(target=work, args=(there, attempt, folder, seed, cases))
        worker.start()
        there.close()
        while done < mutations:
            try:
                answered = here.poll(PATIENCE * TIME_LIMIT)
                result = here.recv() if answered else (done, "no answer in time", TIME_LIMIT, 0)
            except EOFError:
                worker.join()
                result = (done, f"died with exit code {worker.exitcode}", 0.0, 0)
                answered = False
            report.add(*result)
            done += 1
            yield report
            if not answered:
                break
        worker.kill()
        worker.join()


def main(what: str, attempt: Try, keep: Callable[[int, int, Path], str]) -> int:
    """Run as many cases as the command line says, and print a table.

    Args:
        what: the cases, for the table.
        attempt: tries one.
        keep: (seed, case, folder) → a name for a case that crashed, after saving it in the folder.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the cases that crashed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = fuzz(attempt, options.mutations, options.seed, Path(folder))
        *_, report = track(cases, "trying", total=options.mutations)
        table = Table(show_header=False)
        table.add_row("cases", what)
        table.add_row("mutations run", str(sum(report.outcomes.values()) + len(report.crashes)))
        table.add_row("read", str(report.outcomes["read"]))
        table.add_row("refused in one line", str(report.outcomes["refused"]))
        table.add_row("crashes", str(len(report.crashes)))
        table.add_row("peak memory", f"{report.peak / 2**20:.0f} MiB (case {report.peak_case})")
        table.add_row("  of it before the first", f"{report.first_peak / 2**20:.0f} MiB")
        table.add_row("longest time", f"{report.longest:.2f} CPU s (case {report.longest_case})")
        show(table)
        for case, outcome in sorted(report.crashes.items()):
            place = options.keep or Path(folder)
            place.mkdir(parents=True, exist_ok=True)
            print(f"case {case} ({keep(options.seed, case, place)}): {outcome}")
    return 1 if report.crashes else 0
