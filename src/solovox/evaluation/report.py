"""The report of an evaluation: a Markdown page with tables, and plots beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solovox.errors import SolovoxError
from solovox.evaluation.benchmark import COLUMNS, STEMS, Result, Summary
from solovox.evaluation.statistics import CONFIDENCE, Interval
from solovox.evaluation.systems import slug

PRIMARY = "usdr"


def write_report(
    results: Sequence[Result],
    out: str | Path,
    title: str = "Evaluation",
    curves: Sequence[Sequence[Result]] = (),
    plots: bool = True,
) -> Path:
    """Return the path of the report that was written: OUT/report.md, with OUT/plots/*.png.

    Args:
        results: systems on the same data set, in the order of the tables.
        out: the folder that `benchmark.evaluate` wrote them to.
        title: heading of the page.
        curves: for each model of which a steps-quality curve is wanted, its results by steps.
        plots: whether to draw; needs matplotlib.

    Raises:
        SolovoxError: matplotlib is not installed.
    """
    out = Path(out)
    parts = [f"# {title}", _what(results)]
    for stem in STEMS:
        parts += [f"## {stem.capitalize()}", summary_table(results, stem)]
    parts += [_NOTES, "## Songs", song_table(results, "vocals")]
    parts += _left_out(results)
    if plots:
        folder = out / "plots"
        folder.mkdir(parents=True, exist_ok=True)
        plot_distribution(results, folder / "distribution.png")
        parts += ["## Distribution over songs", "![uSDR of the vocals](plots/distribution.png)"]
        for result in results:
            if result.name.startswith("oracle:"):
                continue
            name = f"spectrograms-{slug(result.name)}.png"
            if plot_spectrograms(result, out / slug(result.name) / "songs", folder / name):
                parts += [
                    f"## Best, median and worst song of {result.name}",
                    "The ten seconds with the loudest vocals, mel spectrograms in dB.",
                    f"![spectrograms](plots/{name})",
                ]
    for curve in curves:
        parts += [f"## Steps and quality of {curve[0].name.partition(' ')[0]}", curve_table(curve)]
        if plots:
            name = f"curve-{slug(curve[0].name.partition(' ')[0])}.png"
            plot_curve(curve, out / "plots" / name)
            parts.append(f"![steps and quality](plots/{name})")
    path = out / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")
    return path


def summary_table(results: Sequence[Result], stem: str) -> str:
    """Return a Markdown table: a line a system, median over songs of each metric.

    Args:
        results: systems on the same data set.
        stem: "vocals" or "accompaniment".
    """
    metrics = [m for m in COLUMNS if any(m in result.metrics(stem) for result in results)]
    heads = ["system", "songs", "runs", f"mean {COLUMNS[PRIMARY].head}"]
    heads += [COLUMNS[metric].head for metric in metrics]
    rows = []
    for result in results:
        first = result.summary(stem, PRIMARY)
        row = [
            result.name,
            str(first.songs if first else 0),
            str(len(result.songs[0].runs)) if result.songs else "0",
            _cell(first, "mean"),
        ]
        for metric in metrics:
            row.append(_cell(result.summary(stem, metric), "median", metric in _WITH_INTERVAL))
        rows.append(row)
    heads.append("s / s")
    for row, result in zip(rows, results, strict=True):
        row.append(f"{result.speed():.2f}" if result.songs else "–")
    return table(heads, rows)


def song_table(results: Sequence[Result], stem: str, metric: str = PRIMARY) -> str:
    """Return a Markdown table: a line a song, a column a system, mean over runs of one metric.

    Args:
        results: systems on the same data set.
        stem: "vocals" or "accompaniment".
        metric: a name of `benchmark.COLUMNS`.
    """
    scores = {r.name: {s.song: s.score(stem, metric) for s in r.songs} for r in results}
    songs = sorted({song for found in scores.values() for song in found})
    heads = [f"song, {COLUMNS[metric].head}", *scores]
    rows = [[song, *(_number(found.get(song)) for found in scores.values())] for song in songs]
    return table(heads, rows)


def curve_table(curve: Sequence[Result]) -> str:
    """Return a Markdown table: a line a number of steps, medians over songs.

    Args:
        curve: results of one model, by steps.
    """
    shown = [PRIMARY, "multi_resolution_stft", "lsd", "bleedless", "fullness"]
    rows = [
        [
            str(result.settings.get("steps", "–")),
            *(_cell(result.summary("vocals", metric), "median") for metric in shown),
            f"{result.speed():.2f}",
        ]
        for result in curve
    ]
    return table(["steps", *(COLUMNS[m].head for m in shown), "s / s"], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is aligned to the left, the others to the right.

    Args:
        heads: the first line.
        rows: the others, as long as the first.
    """
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    lines.insert(1, "|---" + "|---:" * (len(heads) - 1) + "|")
    return "\n".join(lines)


def weights_of(models: Iterable[str]) -> dict[str, str]:
    """Return the first twelve digits of the SHA-256 of models' weights, by the models' names.

    Args:
        models: names, folders or hub ids.
    """
    from solovox.checkpoint import weights_digest

    return {Path(name).resolve().name: (weights_digest(name) or "?")[:12] for name in models}


def weights_line(digests: Mapping[str, str]) -> str:
    """Return in Markdown which weights figures are of.

    Args:
        digests: from `weights_of`.
    """
    return f"Weights (SHA-256): {', '.join(f'{n} `{d}`' for n, d in digests.items())}."


def plot_distribution(results: Sequence[Result], path: Path) -> None:
    """Draw each system's uSDR of the vocals: a dot a song, a box for the quartiles."""
    plt = pyplot()
    named = [
        (r.name, [v for s in r.songs if (v := s.score("vocals", PRIMARY)) is not None])
        for r in results
    ]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.5 * len(named)), layout="constrained")
    for row, (_, values) in enumerate(named):
        if values:
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            box = [(low, high - low)]
            axes.broken_barh(box, (row - 0.25, 0.5), facecolors="none", edgecolors="black")
            axes.vlines(middle, row - 0.25, row + 0.25, color="tab:red")
        # Dots beside each other would hide each other: spread them a little, always the same way.
        height = row + 0.15 * np.sin(np.arange(len(values)) * 2.4)
        axes.plot(values, height, "o", markersize=4, alpha=0.6, color="tab:blue")
    axes.set_yticks(range(len(named)), [name for name, _ in named])
    axes.invert_yaxis()
    axes.set_xlabel("uSDR of the vocals (dB), a dot a song")
    axes.grid(axis="x", alpha=0.3)
    save_figure(plt, figure, path)


def plot_spectrograms(result: Result, folder: Path, path: Path) -> bool:
    """Draw mixture, true and separated vocals of the best, median and worst song.

    Returns:
        False where no song has both a score and a spectrogram; nothing is drawn then.
    """
    scored = sorted(
        (value, s.song)
        for s in result.songs
        if (value := s.score("vocals", PRIMARY)) is not None
        and (folder / f"{s.song}.npz").is_file()
    )
    if not scored:
        return False
    picks = [("best", scored[-1]), ("median", scored[len(scored) // 2]), ("worst", scored[0])]
    picks = picks[:: max(1, 4 - len(scored))][: len(scored)]  # of two songs the best and the worst
    if len(picks) == 1:
        picks = [("only song", scored[0])]
    plt = pyplot()
    figure, axes = plt.subplots(
        len(picks), 3, figsize=(12, 2.6 * len(picks)), layout="constrained", squeeze=False
    )
    for row, (kind, (value, song)) in enumerate(picks):
        with np.load(folder / f"{song}.npz") as shown:
            begin, end = shown["seconds"]
            bands = len(shown["edges"]) - 2
            ticks = (100, 500, 1000, 3000, 10_000)
            for column, name in enumerate(("mixture", "vocals", "estimate")):
                axis = axes[row, column]
                axis.imshow(
                    shown[name], origin="lower", aspect="auto", vmin=0, vmax=255, cmap="magma",
                    extent=(begin, end, 0, bands),
                )  # fmt: skip
                axis.set_title(name, fontsize=9)
                places = np.interp(ticks, shown["edges"], np.arange(bands + 2))
                axis.set_yticks(places, [f"{tick / 1000:g} kHz" for tick in ticks], fontsize=7)
            axes[row, 0].set_ylabel(f"{kind}: {value:.1f} dB\n{song[-24:]}", fontsize=8)
    for column in range(3):
        axes[-1, column].set_xlabel("seconds")
    save_figure(plt, figure, path)
    return True


def plot_curve(curve: Sequence[Result], path: Path) -> None:
    """Draw median uSDR and multi-resolution STFT distance over the number of steps."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, metric in zip(axes, (PRIMARY, "multi_resolution_stft"), strict=True):
        found = [
            (int(str(r.settings["steps"])), s.median)
            for r in curve
            if (s := r.summary("vocals", metric)) and "steps" in r.settings
        ]
        steps = [step for step, _ in found]
        axis.plot(steps, [m.value for _, m in found], "o-")
        axis.fill_between(steps, [m.low for _, m in found], [m.high for _, m in found], alpha=0.2)
        axis.set_xlabel("steps")
        axis.set_ylabel(COLUMNS[metric].head)
        axis.grid(alpha=0.3)
    save_figure(plt, figure, path)


_WITH_INTERVAL = (PRIMARY, "multi_resolution_stft")  # all of them would make tables unreadable
_NOTES = (
    f"Medians over songs (one column has the mean), with the {CONFIDENCE:.0%} bootstrap interval "
    "over songs in brackets (results.json has it for every metric); after ±, the standard "
    "deviation over runs. ↑ more is better, ↓ less is. `s / s` is seconds of separation a second "
    "of audio. Scores of a silent reference are not defined and are in no number; these songs are "
    "listed below."
)


def _what(results: Sequence[Result]) -> str:
    first = results[0]
    part = "whole songs"
    if first.options.excerpt is not None:
        part = f"the middle {first.options.excerpt:g} s of each song"
    minutes = sum(song.seconds for song in first.songs) / 60
    songs = f"{len(first.songs)} song{'s' * (len(first.songs) != 1)}"
    return f"{songs} of `{first.data}`, {part}, {minutes:.1f} minutes."


def _left_out(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        lines += [f"- {result.name}: **{n}** failed: {why}" for n, why in result.failures.items()]
        without: dict[tuple[str, str, str], list[str]] = {}
        for stem in STEMS:
            for song in result.songs:
                labels = [
                    COLUMNS[metric].label
                    for metric in result.metrics(stem)
                    if song.scores(stem, metric) is None
                ]
                if labels:
                    which = "all metrics" if len(labels) > 3 else ", ".join(labels)
                    why = "silent reference" if song.silent[stem] else "no score is defined"
                    without.setdefault((stem, which, why), []).append(song.song)
        lines += [
            f"- {result.name}, {stem}, {which}: {why}: {', '.join(songs)}"
            for (stem, which, why), songs in without.items()
        ]
    return ["## Left out", "\n".join(lines)] if lines else []


def _cell(summary: Summary | None, which: str, interval: bool = True) -> str:
    if summary is None:
        return "–"
    found: Interval = getattr(summary, which)
    spread = summary.spread[which == "mean"]
    text = _number(found.value)
    if not math.isnan(spread):
        text += f" ± {_number(spread)}"
    if interval and not math.isnan(found.low):
        text += f" [{_number(found.low)}, {_number(found.high)}]"
    return text


def _number(value: float | None) -> str:
    """Return two decimals, or two digits of what is smaller."""
    if value is None:
        return "–"
    if abs(value) < 5e-7:
        return "0.00"  # never -0.00
    return f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.2g}"


def pyplot() -> Any:
    """Return matplotlib's pyplot, drawing to files.

    Raises:
        SolovoxError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise SolovoxError(
            "plots need matplotlib, which is not installed: pip install 'solovox[eval]', "
            "or say --no-plots"
        ) from error
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def save_figure(plt: Any, figure: Any, path: Path) -> None:
    """Write a figure and let go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
