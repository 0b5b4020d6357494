"""Evaluate a system on a data set: songs in parallel processes, resumable, nothing left unsaid.

    OUT/SYSTEM/songs/SONG.json     scores of every run of a song, written as soon as it is done
    OUT/SYSTEM/songs/SONG.npz      small spectrograms of the loudest ten seconds, for the report
    OUT/SYSTEM/results.json        all of it, with medians, means and intervals
    OUT/SYSTEM/results.csv         one line a song, run and stem
    OUT/SYSTEM/museval/test/*.json BSS-Eval scores as museval writes them, where they were asked for

A song's file holds a fingerprint of all that its scores depend on: settings, and what is in the
files, not when they were written. A second call computes what is missing or has changed and nothing
else. BSS-Eval, PESQ and STOI stay in a song's file when a later call does not ask for them; a run
that lacks one that is asked for is made again, for no stems are kept to score.

A score that is not defined (a silent reference) is null in the files, never a number, and never in
a mean: the summary says which songs were left out, and why.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solovox.allocation import keep_memory
from solovox.data.index import MIXTURE, Member, Song, find_songs, read_pair, read_stem
from solovox.errors import DataError, SolovoxError
from solovox.evaluation.metrics import METRICS, is_silent, mel_edges, mel_filters
from solovox.evaluation.oracles import Stems
from solovox.evaluation.spectra import hann, spectra
from solovox.evaluation.statistics import Interval, bootstrap
from solovox.evaluation.systems import (
    Material,
    SeparateSong,
    Settings,
    System,
    code_digest,
    digest,
    slug,
)
from solovox.files import written_whole

STEMS = ("vocals", "accompaniment")
BSS = ("bss_sdr", "bss_isr", "bss_sir", "bss_sar")
SPEECH = ("pesq", "stoi")
KEPT = ".made-by"  # beside kept stems: the fingerprint of what they were made of
FORMAT = 2
"""Raised when the meaning of a song's file changes: older files are then computed anew."""

Progress = Callable[[int, int, str], None]
"""(songs done, songs in all, name of the song just done)."""


@dataclass(frozen=True)
class Column:
    """One score in tables."""

    label: str
    unit: str
    higher_is_better: bool

    @property
    def head(self) -> str:
        """The label with its unit and the better direction."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.label}{unit} {'↑' if self.higher_is_better else '↓'}"


COLUMNS: dict[str, Column] = {
    **{m.name: Column(m.label, m.unit, m.higher_is_better) for m in METRICS.values()},
    "bss_sdr": Column("cSDR", "dB", True),
    "bss_isr": Column("ISR", "dB", True),
    "bss_sir": Column("SIR", "dB", True),
    "bss_sar": Column("SAR", "dB", True),
    "pesq": Column("PESQ", "", True),
    "stoi": Column("STOI", "", True),
}
"""Every score there can be, in the order of tables."""


@dataclass(frozen=True)
class Options:
    """What is computed.

    Attributes:
        runs: runs of what is random, with seeds seed, seed + 1, …; None takes what is due.
        seed: of the first run.
        excerpt: seconds from the middle of each song; None is the whole song.
        bss: whether to compute BSS-Eval v4 (about a minute a song and run).
        speech: whether to compute PESQ and STOI of the vocals.
    """

    runs: int | None = None
    seed: int = 0
    excerpt: float | None = None
    bss: bool = False
    speech: bool = False


@dataclass(frozen=True)
class Run:
    """One run on one song.

    Attributes:
        seed: of the run.
        seconds: time that separation took, in seconds.
        scores: by stem and metric; None is not defined.
    """

    seed: int
    seconds: float
    scores: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class SongResult:
    """All runs on one song.

    Attributes:
        song: its name.
        seconds: length of what was evaluated.
        silent: whether the reference of each stem is silent.
        runs: in the order of their seeds.
        data: hash of the song's files; empty is unknown.
    """

    song: str
    seconds: float
    silent: dict[str, bool]
    runs: tuple[Run, ...]
    data: str = ""

    def score(self, stem: str, metric: str) -> float | None:
        """Return the mean over runs, or None where a run has no score."""
        values = self.scores(stem, metric)
        return None if values is None else float(np.mean(values))

    def scores(self, stem: str, metric: str) -> list[float] | None:
        """Return one score a run, or None where a run has none."""
        values = [run.scores.get(stem, {}).get(metric) for run in self.runs]
        found = [value for value in values if value is not None]
        return found if found and len(found) == len(values) else None


@dataclass(frozen=True)
class Summary:
    """One metric of one stem over all songs.

    Attributes:
        median: over songs, mean of the runs' medians, with its interval over songs.
        mean: over songs, with its interval.
        spread: standard deviation over runs of (the median, the mean); NaN for one run.
        songs: number of songs with a score.
        left_out: reason by name of each song without one.
    """

    median: Interval
    mean: Interval
    spread: tuple[float, float]
    songs: int
    left_out: dict[str, str]


@dataclass(frozen=True)
class Result:
    """One system on one data set.

    Attributes:
        name: of the system.
        settings: of the system.
        data: the data set, as given.
        options: what was computed.
        songs: in the order of their names.
        failures: what went wrong, by song: these songs are in no number.
    """

    name: str
    settings: Settings
    data: str
    options: Options
    songs: tuple[SongResult, ...]
    failures: dict[str, str] = field(default_factory=dict)

    def metrics(self, stem: str) -> list[str]:
        """Return the names of the metrics that were computed for a stem, in the order of tables."""
        found = {m for song in self.songs for run in song.runs for m in run.scores.get(stem, {})}
        return [name for name in COLUMNS if name in found]

    def summary(self, stem: str, metric: str) -> Summary | None:
        """Return median and mean over songs, or None where no song has a score."""
        scored = {song.song: song.scores(stem, metric) for song in self.songs}
        values = [value for value in scored.values() if value is not None]
        if not values:
            return None
        table = np.array(values)  # [songs, runs]
        runs = table.shape[1]
        return Summary(
            median=bootstrap(table, np.median),
            mean=bootstrap(table, np.mean),
            spread=tuple(
                float(f(table, axis=0).std(ddof=1)) if runs > 1 else math.nan
                for f in (np.median, np.mean)
            ),  # type: ignore[arg-type]
            songs=len(values),
            left_out={
                song.song: "silent reference" if song.silent[stem] else "no score is defined"
                for song in self.songs
                if scored[song.song] is None
            },
        )

    def speed(self) -> float:
        """Return seconds of separation a second of audio, over all songs and runs."""
        audio = sum(song.seconds * len(song.runs) for song in self.songs)
        return sum(run.seconds for song in self.songs for run in song.runs) / audio


def evaluate(
    system: System,
    data: str | Path,
    out: str | Path,
    options: Options | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    skip_bad: bool = False,
    only: str = "*",
    stems: str | Path | None = None,
) -> Result:
    """Return the scores of a system on a data set; they are on disk as well.

    Args:
        system: what to evaluate.
        data: folder of songs, of any layout that `data.index.find_songs` reads.
        out: folder for results; the system gets its own folder in it.
        options: what to compute.
        jobs: processes; each holds one song and its own copy of the system.
        progress: called after each song.
        skip_bad: leave unusable songs out, and say so, in place of an error before any work.
        only: pattern of the songs' names, such as "test/cc0-*".
        stems: folder to keep the stems of the first run in, as STEMS/SYSTEM/SONG/vocals.wav.

    Raises:
        DataError: no songs, or unusable ones; they are named.
        SolovoxError: the system cannot be loaded.
    """
    options = options or Options()
    check_place(system, out)
    there, faults = _find_songs(data)
    songs = [song for song in there if fnmatchcase(song.name, only)]
    if not songs and not faults:
        raise DataError(f"{data}: no song's name is like {only!r}")
    failures = {f"unreadable {n}": str(fault) for n, fault in enumerate(faults, 1)}
    failures |= system.check(songs)
    if failures and not (skip_bad and songs):
        raise DataError(_unusable(failures, len(songs) + len(faults)))
    if stems is not None and options.excerpt is not None:
        raise DataError("stems are kept of whole songs only: leave either stems or excerpt away")
    kept = None if stems is None else Path(stems) / slug(system.name)
    runs = options.runs if options.runs is not None and system.random else system.runs
    folder = Path(out) / slug(system.name)
    tasks = [
        _Task(song, folder, _fingerprint(system, song, options), runs, options, kept)
        for song in songs
        if song.name not in failures
    ]
    todo = [task for task in tasks if len(_read_song(task).runs) < runs]
    ready = len(tasks) - len(todo)
    if progress and ready:
        progress(ready, len(tasks), "")
    work = _in_process if jobs == 1 or len(todo) < 2 else _in_pool
    for done, (task, error) in enumerate(work(system, todo, jobs), 1):
        if error:
            failures[task.song.name] = error
        if progress:
            progress(ready + done, len(tasks), task.song.name)
    results = tuple(_read_song(task) for task in tasks if task.song.name not in failures)
    result = Result(system.name, system.settings, str(data), options, results, failures)
    save(result, folder)
    _tidy_museval(folder, tasks, {song.name for song in there} - {song.name for song in songs})
    return result


def check_place(system: System, out: str | Path) -> None:
    """Raise where a system's folder holds the results of another one that has its name.

    Args:
        system: what is to be evaluated.
        out: folder for results.

    Raises:
        DataError: another command of the same program, or a name that gives the same folder.
    """
    path = Path(out) / slug(system.name) / "results.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        name, command = found["name"], found["settings"].get("peer")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # none, or torn: nothing to lose
    if name != system.name or command != system.settings.get("peer"):
        raise DataError(
            f"{path.parent} holds the results of {command or name}; give another --out, or a "
            "command a name of its own: --peer 'NAME: COMMAND'"
        )


def save(result: Result, folder: str | Path) -> None:
    """Write results.json and results.csv.

    Args:
        result: what to write.
        folder: where.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        stem: {
            metric: asdict(found)
            for metric in result.metrics(stem)
            if (found := result.summary(stem, metric))
        }
        for stem in STEMS
    }
    _write(
        folder / "results.json", _dumps({"format": FORMAT, **asdict(result), "summary": summary})
    )
    lines = [["song", "run", "seed", "stem", "seconds", *COLUMNS]]
    for song in result.songs:
        for number, run in enumerate(song.runs):
            for stem, scores in run.scores.items():
                cells = ["" if (v := scores.get(name)) is None else f"{v:.6g}" for name in COLUMNS]
                lines.append(
                    [song.song, str(number), str(run.seed), stem, f"{run.seconds:.3f}", *cells]
                )
    with (
        written_whole(folder / "results.csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(lines)


def load(path: str | Path) -> Result:
    """Return the results that `evaluate` wrote.

    Args:
        path: a results.json, its folder, or a folder with one system's results in it.

    Raises:
        DataError: there is none, there are several, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / "results.json"] if (path / "results.json").is_file() else []
        found = found or sorted(path.glob("*/results.json"))
        if len(found) != 1:
            names = ", ".join(str(p.parent) for p in found[:4])
            raise DataError(
                f"{path}: results of {len(found)} systems ({names}); name one of them"
                if found
                else f"{path}: no results.json in it; make one with: solovox evaluate"
            )
        path = found[0]
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise DataError(f"{path}: made by another version; evaluate again")
        return Result(
            name=values["name"],
            settings=values["settings"],
            data=values["data"],
            options=Options(**values["options"]),
            songs=tuple(_song_result(song) for song in values["songs"]),
            failures=values["failures"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not results of solovox evaluate ({error})") from error


# ---- one song --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    song: Song
    folder: Path
    fingerprint: str
    runs: int
    options: Options
    kept: Path | None  # folder for the system's stems

    @property
    def path(self) -> Path:
        return self.folder / "songs" / f"{self.song.name}.json"

    @property
    def museval(self) -> Path:
        return self.folder / "museval" / "test" / _museval_name(self.song.name)

    @property
    def kept_song(self) -> Path | None:
        """Folder for the song's stems; .stem.mp4 belongs to a file's name, not to the song's."""
        return self.kept and self.kept / self.song.name.removesuffix(".stem.mp4")


def score(material: Material, stems: Stems, options: Options) -> dict[str, dict[str, float | None]]:
    """Return the scores by stem and metric of one separation; None where one is not defined.

    Args:
        material: the true stems.
        stems: the separated ones, [2, samples] each.
        options: what to compute.

    Raises:
        SolovoxError: a stem has another shape or is not finite.
    """
    truth = {"vocals": material.vocals, "accompaniment": material.accompaniment}
    rate = material.song.sample_rate
    scores: dict[str, dict[str, float | None]] = {}
    for stem, true in truth.items():
        if np.shape(stems[stem]) != true.shape:
            raise SolovoxError(
                f"the separated {stem} have shape {np.shape(stems[stem])}, not {true.shape}"
            )
        silent = is_silent(true)
        scores[stem] = {
            name: None if silent else _defined(metric.compute(true, stems[stem], rate))
            for name, metric in METRICS.items()
        }
    if options.speech:
        from solovox.evaluation.speech import pesq, stoi

        for name, metric in zip(SPEECH, (pesq, stoi), strict=True):
            scores["vocals"][name] = _defined(metric(material.vocals, stems["vocals"], rate))
    return scores


def _score_song(task: _Task, separate: SeparateSong) -> None:
    material = _read_material(task.song, task.options.excerpt)
    if task.kept_song:
        from solovox.audio import write_audio

        task.kept_song.mkdir(parents=True, exist_ok=True)
    runs = list(_stored(task).runs)
    silent = {
        "vocals": is_silent(material.vocals),
        "accompaniment": is_silent(material.accompaniment),
    }
    for number in range(task.runs):
        if number < len(runs) and _is_whole(task, number, runs[number]):
            continue
        # A run that is made again is scored by what it was scored by before, too.
        held = {name for run in runs[number : number + 1] for name in run.scores["vocals"]}
        options = replace(
            task.options,
            bss=task.options.bss or held >= set(BSS),
            speech=task.options.speech or held >= set(SPEECH),
        )
        seed = task.options.seed + number
        began = time.perf_counter()
        stems = separate(material, seed)
        seconds = time.perf_counter() - began
        scores = score(material, stems, options)
        if options.bss:
            _score_bss(task, material, stems, scores, number)
        if not number:
            if task.kept_song:
                for name, audio in stems.items():
                    write_audio(
                        task.kept_song / f"{name}.wav", audio, task.song.sample_rate, "float"
                    )
                _write(task.kept_song / KEPT, task.fingerprint)
            _write_spectrograms(task.path.with_name(f"{task.path.stem}.npz"), material, stems)
        runs[number : number + 1] = [Run(seed, seconds, scores)]
        length = material.mixture.shape[1] / task.song.sample_rate
        done = SongResult(task.song.name, length, silent, tuple(runs), _contents(task.song))
        _write(task.path, _dumps({"fingerprint": task.fingerprint, **asdict(done)}))


def _score_bss(
    task: _Task,
    material: Material,
    stems: Stems,
    scores: dict[str, dict[str, float | None]],
    number: int,
) -> None:
    from solovox.evaluation.bss import bss_eval, museval_json

    found = bss_eval(
        {"vocals": material.vocals, "accompaniment": material.accompaniment},
        stems,
        material.song.sample_rate,
    )
    for stem, frames in found.items():
        for name, value in frames.medians().items():
            scores[stem][f"bss_{name.lower()}"] = _defined(value)
    # museval knows no runs: its files hold the first one.
    if not number:
        _write(task.museval, json.dumps(museval_json(found), indent=1))


def _museval_name(song: str) -> str:
    return f"{song.replace('/', '-')}.json"


def _read_material(song: Song, excerpt: float | None) -> Material:
    frames = song.frames
    if excerpt is not None:
        frames = min(frames, round(excerpt * song.sample_rate))
    start = (song.frames - frames) // 2
    vocals, accompaniment = read_pair(song, start, frames)
    mixture = (
        read_stem(song, MIXTURE, start, frames) if MIXTURE in song.stems else vocals + accompaniment
    )
    return Material(song, start, mixture, vocals, accompaniment)


def _write_spectrograms(path: Path, material: Material, stems: Stems) -> None:
    """Write mel spectrograms of the ten seconds with the loudest vocals, as bytes: 0 is -80 dB."""
    rate = material.song.sample_rate
    length = min(material.vocals.shape[1], 10 * rate)
    power = np.square(material.vocals.mean(axis=0, dtype=np.float64))
    heard = np.concatenate([[0.0], np.cumsum(power)])
    start = int(np.argmax(heard[length:] - heard[:-length])) if length else 0
    begin = (material.start + start) / rate
    shown: dict[str, NDArray[Any]] = {"seconds": np.array([begin, begin + length / rate])}
    shown["edges"] = mel_edges(rate, 128)
    signals = {
        "mixture": material.mixture,
        "vocals": material.vocals,
        "estimate": stems["vocals"],
    }
    for name, audio in signals.items():
        part = audio[:, start : start + length].mean(axis=0, keepdims=True)
        filters = mel_filters(rate, 2048, 128).T
        mels = np.concatenate(
            [np.abs(b[0]) @ filters for (b,) in spectra((part,), 2048, 512, hann(2048, 2048))]
        )
        level = 20 * np.log10(np.maximum(mels, 1e-9))
        shown[name] = np.clip((level + 80) * 255 / 100, 0, 255).astype(np.uint8).T
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **shown)  # type: ignore[arg-type]


# ---- processes -------------------------------------------------------------------------------

_separate: SeparateSong | SolovoxError | None = None


def _start_worker(system: System) -> None:
    global _separate
    keep_memory()
    try:
        _separate = system.open()
    except SolovoxError as error:
        # Raised here it would only break the pool; the first song passes it on.
        _separate = error


def _work(task: _Task) -> str | None:
    """Score a song in a worker; return what went wrong, or None."""
    if isinstance(_separate, SolovoxError):
        raise _separate
    assert _separate is not None
    return _attempt(task, _separate)


def _attempt(task: _Task, separate: SeparateSong) -> str | None:
    try:
        _score_song(task, separate)
    except SolovoxError as error:
        return str(error)
    return None


def _in_process(
    system: System, tasks: Sequence[_Task], jobs: int
) -> Iterator[tuple[_Task, str | None]]:
    separate = system.open() if tasks else None
    for task in tasks:
        assert separate is not None
        yield task, _attempt(task, separate)


def _in_pool(
    system: System, tasks: Sequence[_Task], jobs: int
) -> Iterator[tuple[_Task, str | None]]:
    # The longest songs first: no process is left alone with a long one at the end.
    ordered = sorted(tasks, key=lambda task: -task.song.frames)
    jobs = min(jobs, len(tasks))
    with (
        _threads((os.cpu_count() or 1) // jobs),
        ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), _start_worker, (system,)
        ) as pool,
    ):
        pending: dict[Future[str | None], _Task] = {pool.submit(_work, t): t for t in ordered}
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise SolovoxError(
                "a worker process could not start or died, perhaps for want of memory; finished "
                "songs are kept: run again, with --jobs 1 to see the reason"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Give child processes started inside this many threads each; libraries read it at import."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({n: v or str(max(1, number)) for n, v in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


# ---- files -----------------------------------------------------------------------------------


def _find_songs(data: str | Path) -> tuple[list[Song], list[DataError]]:
    """Return the songs that can be evaluated, and what is wrong with the others."""
    faults: list[DataError] = []
    try:
        songs = [song for song in find_songs(data, faults.append) if song.paired]
    except DataError:
        if not faults:
            raise
        songs = []  # there were songs, and none was whole
    if not songs and not faults:
        raise DataError(f"{data}: no song has both vocals and a mixture or accompaniment")
    return songs, faults


def _fingerprint(system: System, song: Song, options: Options) -> str:
    """Return a hash of all that a song's scores depend on, but how many and which there are."""
    values = {
        "format": FORMAT,
        "code": code_digest(),
        "settings": system.settings,
        "version": system.version(song),
        "options": {"seed": options.seed, "excerpt": options.excerpt},
        "files": _contents(song),
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def _contents(song: Song) -> str:
    """Return a hash of a song's files."""
    paths = {path for paths in song.stems.values() for path in paths}
    files = sorted({path.archive if isinstance(path, Member) else path for path in paths})
    named = "".join(f"{path.name} {digest(path)}\n" for path in files)
    return hashlib.sha256(named.encode()).hexdigest()[:24]


def _read_song(task: _Task) -> SongResult:
    """Return the runs on disk that need not be made again, at most as many as wanted."""
    stored = _stored(task)
    whole = takewhile(lambda n: _is_whole(task, n, stored.runs[n]), range(len(stored.runs)))
    runs = tuple(_asked(stored.runs[n], task.options) for n in whole)
    return replace(stored, runs=runs[: task.runs])


def _stored(task: _Task) -> SongResult:
    """Return what is on disk; it has no runs if they were made with other settings."""
    try:
        values = json.loads(task.path.read_text("utf-8"))
        if values.pop("fingerprint") == task.fingerprint:
            return _song_result(values)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not whole: to be computed
    return SongResult(task.song.name, 0.0, dict.fromkeys(STEMS, False), ())


def _is_whole(task: _Task, number: int, run: Run) -> bool:
    """Whether a run has all scores asked for and, the first, the files that are made of it."""
    names = run.scores["vocals"].keys()
    wanted = BSS * task.options.bss + SPEECH * task.options.speech
    if not names >= set(wanted):
        return False
    if number:
        return True
    try:
        kept = not task.kept_song or (
            (task.kept_song / "vocals.wav").is_file()
            and (task.kept_song / KEPT).read_text("utf-8") == task.fingerprint
        )
    except (OSError, ValueError):
        kept = False
    return kept and (not task.options.bss or task.museval.is_file())


def _asked(run: Run, options: Options) -> Run:
    """Return a run without the scores that only another call asked for."""
    hidden = BSS * (not options.bss) + SPEECH * (not options.speech)
    scores = {
        stem: {name: value for name, value in found.items() if name not in hidden}
        for stem, found in run.scores.items()
    }
    return replace(run, scores=scores)


def _tidy_museval(folder: Path, tasks: Sequence[_Task], others: set[str]) -> None:
    """Remove museval's files of what is no longer scored: museval takes all that it finds.

    Args:
        folder: of the system.
        tasks: the songs of this call.
        others: names of songs that were not asked for: theirs stay.
    """
    there = list(folder.glob("museval/test/*.json"))
    if not there:
        return
    scored = {
        task.museval.name
        for task in tasks
        if any(run.scores["vocals"].keys() >= set(BSS) for run in _stored(task).runs[:1])
    }
    stale = {task.museval.name for task in tasks} - scored
    kept = {_museval_name(name) for name in others}
    asked = any(task.options.bss for task in tasks)
    for path in there:
        if path.name in stale or (asked and path.name not in scored | kept):
            path.unlink()


def _song_result(values: dict[str, Any]) -> SongResult:
    runs = tuple(Run(r["seed"], r["seconds"], r["scores"]) for r in values["runs"])
    data = values.get("data", "")
    return SongResult(values["song"], values["seconds"], values["silent"], runs, data)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _unusable(failures: dict[str, str], songs: int) -> str:
    shown = "; ".join(f"{name}: {what}" for name, what in list(failures.items())[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return (
        f"{len(failures)} of {songs} songs cannot be evaluated ({shown}{more}); "
        "mend them, or leave them out with --skip-bad"
    )


def _dumps(value: object) -> str:
    """Return JSON in which a number that is not finite is null."""
    return json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(text, "utf-8")
