"""What listeners said: means with 95 % intervals, post-screening, paired tests, a plot.

Post-screening after ITU-R BS.1534-3, 4.1.2: a listener who rates the hidden reference under 90 in
more than 15 % of the songs is left out, and so is one who rates the anchor 90 or more in more than
15 %. Both are named.

Intervals of means are t-intervals over listeners (over songs, where there is one listener): the
ratings of one listener are not independent. So it is with paired tests of two systems: Wilcoxon and
a bootstrap interval over the listeners' mean differences (over songs, where there is one listener),
adjusted for the number of pairs after Holm.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from solovox.errors import DataError, SolovoxError
from solovox.evaluation.listening.study import ANCHOR, REFERENCE, Study, load_study
from solovox.evaluation.report import table
from solovox.evaluation.statistics import CONFIDENCE, Interval, compare, holm

LIMIT, SHARE = 90, 0.15

Ratings = Mapping[str, Mapping[int, Mapping[str, int]]]
"""Rating by listener, page and system."""


@dataclass(frozen=True)
class Condition:
    """One system, or the hidden reference or the anchor.

    Attributes:
        name: its name.
        mean: mean rating with its interval.
        median: median of all ratings.
        ratings: number of ratings.
    """

    name: str
    mean: Interval
    median: float
    ratings: int


@dataclass(frozen=True)
class Pair:
    """Two systems on the same pages.

    Attributes:
        a: name of one.
        b: name of the other.
        difference: mean of b - a, with its bootstrap interval.
        p_value: Wilcoxon signed-rank test over the same units as the interval.
        adjusted: the same for the number of pairs (Holm).
        rank_biserial: effect size, -1 to 1.
    """

    a: str
    b: str
    difference: Interval
    p_value: float
    adjusted: float
    rank_biserial: float


@dataclass(frozen=True)
class Analysis:
    """A study's outcome.

    Attributes:
        study: what was rated.
        ratings: what is counted.
        excluded: reason by listener left out.
        unfinished: pages left open, by listener that is counted.
        conditions: in the order of `study.systems`.
        pairs: of systems, without reference and anchor.
    """

    study: Study
    ratings: Ratings
    excluded: dict[str, str]
    unfinished: dict[str, int]
    conditions: tuple[Condition, ...]
    pairs: tuple[Pair, ...]


def analyse(folder: Path) -> Analysis:
    """Return the outcome of the study in a folder.

    Args:
        folder: the study's.

    Raises:
        DataError: there is no study, no listener that counts, or a result that cannot be read.
        SolovoxError: scipy is not installed.
    """
    study = load_study(folder)
    ratings = read_ratings(study, folder)
    excluded = {name: why for name, pages in ratings.items() if (why := screen(pages))}
    counted = {name: pages for name, pages in ratings.items() if pages and name not in excluded}
    if not counted:
        raise DataError(
            f"{folder}: no listener to count: {len(ratings)} began, {len(excluded)} were left out"
            + "".join(f"; {name}: {why}" for name, why in excluded.items())
        )
    conditions = tuple(_condition(counted, name) for name in study.systems)
    systems = [name for name in study.systems if name not in (REFERENCE, ANCHOR)]
    return Analysis(
        study,
        counted,
        excluded,
        {n: len(study.pages) - len(p) for n, p in counted.items() if len(p) < len(study.pages)},
        conditions,
        _pairs(counted, list(itertools.combinations(systems, 2))),
    )


def read_ratings(study: Study, folder: Path) -> dict[str, dict[int, dict[str, int]]]:
    """Return the ratings of every listener's finished pages.

    Args:
        study: the study.
        folder: its folder.

    Raises:
        DataError: a file cannot be read.
    """
    ratings: dict[str, dict[int, dict[str, int]]] = {}
    for path in sorted((folder / "results").glob("*.json")):
        try:
            said = json.loads(path.read_text("utf-8"))
            ratings[said["listener"]] = {
                int(number): {
                    study.pages[int(number)].stimuli[token]: int(value)
                    for token, value in page["ratings"].items()
                }
                for number, page in said["pages"].items()
                if page["done"]
                and page["ratings"].keys() == study.pages[int(number)].stimuli.keys()
            }
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path}: not a listener's result ({error})") from error
    return ratings


def screen(pages: Mapping[int, Mapping[str, int]]) -> str:
    """Return why a listener is left out, or an empty text.

    Args:
        pages: ratings by page and system.
    """
    if not pages:
        return ""
    low = sum(page[REFERENCE] < LIMIT for page in pages.values())
    high = sum(page[ANCHOR] >= LIMIT for page in pages.values())
    if low > SHARE * len(pages):
        return f"rated the hidden reference under {LIMIT} in {low} of {len(pages)} songs"
    if high > SHARE * len(pages):
        return f"rated the anchor {LIMIT} or more in {high} of {len(pages)} songs"
    return ""


def analysis_report(analysis: Analysis) -> str:
    """Return the outcome as Markdown.

    Args:
        analysis: of `analyse`.
    """
    study = analysis.study
    listeners = len(analysis.ratings)
    units = "listeners" if listeners > 1 else "songs (one listener)"
    parts = [
        f"# {study.title}",
        f"{listeners} listener{'s' * (listeners != 1)}, {len(study.pages)} songs, {study.stem}, "
        f"{study.seconds:g} s each. MUSHRA scale, 0 to 100.",
        table(
            ["condition", "mean", f"{CONFIDENCE:.0%} interval", "median", "ratings"],
            [
                [c.name, f"{c.mean.value:.1f}", _ends(c.mean), f"{c.median:.0f}", str(c.ratings)]
                for c in analysis.conditions
            ],
        ),
        f"Interval: t, over {units}.",
    ]
    if analysis.pairs:
        parts += [
            "## Paired tests",
            table(
                ["B − A", "mean", f"{CONFIDENCE:.0%} interval", "p", "p (Holm)", "r"],
                [
                    [
                        f"{p.b} − {p.a}",
                        f"{p.difference.value:+.1f}",
                        _ends(p.difference),
                        f"{p.p_value:.4f}",
                        f"{p.adjusted:.4f}",
                        f"{p.rank_biserial:+.2f}",
                    ]
                    for p in analysis.pairs
                ],
            ),
            f"p: Wilcoxon signed-rank over {units}; Holm: adjusted for the number of pairs; r: "
            f"rank-biserial correlation. Interval: bootstrap over {units}.",
        ]
    left = [f"- {name}: {why}" for name, why in analysis.excluded.items()]
    left += [f"- {n}: {pages} songs not finished" for n, pages in analysis.unfinished.items()]
    if left:
        parts += ["## Left out", "\n".join(left)]
    return "\n\n".join(parts) + "\n"


def plot(analysis: Analysis, path: Path) -> None:
    """Draw each condition's mean and interval over the listeners' own means.

    Args:
        analysis: of `analyse`.
        path: PNG file.

    Raises:
        SolovoxError: matplotlib is not installed.
    """
    from solovox.evaluation.report import pyplot, save_figure

    plt = pyplot()
    names = [condition.name for condition in analysis.conditions]
    figure, axes = plt.subplots(figsize=(1.5 + 1.1 * len(names), 4), layout="constrained")
    for place, condition in enumerate(analysis.conditions):
        means = _by_listener(analysis.ratings, condition.name)
        axes.plot([place + 0.15] * len(means), means, "o", alpha=0.4, color="tab:blue")
        mean = condition.mean
        low, high = (0.0 if math.isnan(e) else abs(e - mean.value) for e in (mean.low, mean.high))
        axes.errorbar(place, mean.value, [[low], [high]], fmt="s", capsize=6, color="black")
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_ylim(0, 102)
    axes.set_yticks([10, 30, 50, 70, 90], ["Bad", "Poor", "Fair", "Good", "Excellent"])
    axes.set_yticks(range(0, 101, 20), minor=True)
    axes.grid(axis="y", which="minor", alpha=0.4)
    axes.set_title("Mean and 95 % interval; a dot a listener", fontsize=9)
    save_figure(plt, figure, path)


def _condition(ratings: Ratings, name: str) -> Condition:
    values = [page[name] for pages in ratings.values() for page in pages.values() if name in page]
    return Condition(
        name, _t_interval(_units(ratings, name)), float(np.median(values)), len(values)
    )


def _units(ratings: Ratings, name: str) -> list[float]:
    """Return what counts as independent: the listeners' means, or one listener's ratings."""
    if len(ratings) > 1:
        return _by_listener(ratings, name)
    return [float(page[name]) for pages in ratings.values() for page in pages.values()]


def _by_listener(ratings: Ratings, name: str) -> list[float]:
    return [float(np.mean([page[name] for page in pages.values()])) for pages in ratings.values()]


def _t_interval(units: Sequence[float]) -> Interval:
    try:
        from scipy.stats import t
    except ImportError as error:
        raise SolovoxError(
            "the analysis needs scipy, which is not installed: pip install 'solovox[eval]'"
        ) from error
    mean = float(np.mean(units))
    if len(units) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(units) - 1) * np.std(units, ddof=1))
    half /= math.sqrt(len(units))
    # The scale ends at 0 and 100, and so does what the mean can be.
    return Interval(mean, max(0.0, mean - half), min(100.0, mean + half))


def _pairs(ratings: Ratings, names: Sequence[tuple[str, str]]) -> tuple[Pair, ...]:
    found = []
    for a, b in names:
        found.append((a, b, compare(_units(ratings, a), _units(ratings, b))))
    adjusted = holm([tested.p_value for *_, tested in found])
    return tuple(
        Pair(a, b, tested.mean, tested.p_value, p, tested.rank_biserial)
        for (a, b, tested), p in zip(found, adjusted, strict=True)
    )


def _ends(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "–"
    return f"[{interval.low:.1f}, {interval.high:.1f}]"
