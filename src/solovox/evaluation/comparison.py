"""Two systems on the same songs: what differs, by how much, and whether that may be chance."""

from __future__ import annotations

import math

from solovox.errors import DataError
from solovox.evaluation.benchmark import COLUMNS, Result
from solovox.evaluation.report import table
from solovox.evaluation.statistics import Comparison, compare, holm


def compare_results(a: Result, b: Result, stem: str = "vocals") -> dict[str, Comparison]:
    """Return the paired comparison B - A by metric, over the songs that have a score in both.

    Args:
        a: one system's results.
        b: the other's.
        stem: "vocals" or "accompaniment".

    Raises:
        DataError: no song is in both, or they were cut differently.
    """
    if a.options.excerpt != b.options.excerpt:
        raise DataError(
            f"{a.name} was evaluated on {_part(a)}, {b.name} on {_part(b)}; evaluate both alike"
        )
    songs_a, songs_b = ({song.song: song for song in result.songs} for result in (a, b))
    shared = [name for name in songs_a if name in songs_b]
    if not shared:
        raise DataError(f"{a.name} and {b.name} have no song in common")
    for name in shared:
        if abs(songs_a[name].seconds - songs_b[name].seconds) > 1e-3:
            raise DataError(f"{name} has another length in {b.name}: is it the same data set?")
        if songs_a[name].data != songs_b[name].data and songs_a[name].data and songs_b[name].data:
            raise DataError(f"{name} has other contents in {b.name}; evaluate both on the same")
    found = {}
    for metric in a.metrics(stem):
        pairs = [
            (x, y)
            for name in shared
            if (x := songs_a[name].score(stem, metric)) is not None
            and (y := songs_b[name].score(stem, metric)) is not None
        ]
        if pairs:
            found[metric] = compare([x for x, _ in pairs], [y for _, y in pairs])
    return found


def comparison_report(a: Result, b: Result, stem: str = "vocals") -> str:
    """Return the comparison as Markdown.

    Args:
        a: one system's results.
        b: the other's.
        stem: "vocals" or "accompaniment".

    Raises:
        DataError: no song is in both, or they were cut differently.
    """
    found = compare_results(a, b, stem)
    adjusted = holm([comparison.p_value for comparison in found.values()])
    rows = []
    for (metric, c), p in zip(found.items(), adjusted, strict=True):
        column = COLUMNS[metric]
        better, worse = (c.wins, c.losses) if column.higher_is_better else (c.losses, c.wins)
        # With four digits the median of multi-resolution STFT still says something.
        ends = "" if math.isnan(c.median.low) else f" [{c.median.low:.3f}, {c.median.high:.3f}]"
        rows.append(
            [
                column.head,
                str(c.songs),
                f"{c.median.value:+.3f}{ends}",
                f"{c.mean.value:+.3f}",
                f"{better} : {worse}",
                f"{c.p_value:.4f}",
                f"{p:.4f}",
                f"{c.rank_biserial:+.2f}",
                "–" if math.isnan(c.cohen) else f"{c.cohen:+.2f}",
            ]
        )
    heads = ["metric", "songs", "median B − A", "mean B − A", "B better : worse"]
    heads += ["p", "p (Holm)", "r", "d"]
    lines = [
        f"# {b.name} (B) against {a.name} (A): {stem}",
        table(heads, rows),
        "p: Wilcoxon signed-rank test, two-sided; Holm: adjusted for the number of metrics. "
        "r: rank-biserial correlation, −1 to 1. d: mean difference in standard deviations. "
        "Brackets: 95 % bootstrap interval over songs. ↓: lower is better, so a negative "
        "difference favours B.",
    ]
    most = max((comparison.songs for comparison in found.values()), default=0)
    if most < 6:
        lines.append(
            f"Of {most} songs the test cannot give p < {2 / 2**most:.3g}: too few for a verdict."
        )
    lines += _unpaired(a, b, stem)
    return "\n\n".join(lines)


def _unpaired(a: Result, b: Result, stem: str) -> list[str]:
    """Return which songs are in no pair, and of which metrics, and why."""
    in_a, in_b = ({song.song: song for song in result.songs} for result in (a, b))
    lines = [
        f"- only in {result.name}: {', '.join(sorted(names))}"
        for result, names in ((a, in_a.keys() - in_b.keys()), (b, in_b.keys() - in_a.keys()))
        if names
    ]
    shared = in_a.keys() & in_b.keys()
    silent = sorted(name for name in shared if in_a[name].silent[stem])
    if silent:
        lines.append(f"- silent {stem}: {', '.join(silent)}")
    without: dict[str, list[str]] = {}  # labels of metrics by what they lack
    for metric in COLUMNS:
        scored = [result for result in (a, b) if metric in result.metrics(stem)]
        if len(scored) == 1:
            without.setdefault(f"only in {scored[0].name}", []).append(COLUMNS[metric].label)
        for result, songs in ((a, in_a), (b, in_b)) if len(scored) == 2 else ():
            names = sorted(
                name
                for name in shared.difference(silent)
                if songs[name].score(stem, metric) is None
            )
            if names:
                lacking = f"no score is defined in {result.name}: {', '.join(names)}"
                without.setdefault(lacking, []).append(COLUMNS[metric].label)
    lines += [f"- {', '.join(labels)}: {lacking}" for lacking, labels in without.items()]
    return ["Left out:\n\n" + "\n".join(lines)] if lines else []


def _part(result: Result) -> str:
    return "whole songs" if result.options.excerpt is None else f"{result.options.excerpt:g} s"
