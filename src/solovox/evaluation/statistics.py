"""What a handful of songs lets one say: intervals by the bootstrap, paired tests, effect sizes.

Songs are the unit that is sampled: a second run of a model on the same song is no second song. So
runs are averaged first, and every interval and test is over songs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solovox.errors import DataError, SolovoxError

Values = NDArray[np.float64]
Statistic = Callable[..., Values]

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A statistic and the ends of its confidence interval; the ends are NaN below two songs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The paired difference B - A of a metric over the songs that both have.

    Attributes:
        songs: number of pairs.
        mean: mean difference with its bootstrap interval.
        median: median difference with its bootstrap interval.
        p_value: two-sided Wilcoxon signed-rank test of no difference; 1 where no pair differs.
        rank_biserial: effect size from -1 (A above in every song) to 1 (B above in every song).
        cohen: mean difference in units of its standard deviation (Cohen's d_z); NaN below two songs
            or where all differences are equal.
        wins: songs in which B is above A.
        losses: songs in which B is below A.
    """

    songs: int
    mean: Interval
    median: Interval
    p_value: float
    rank_biserial: float
    cohen: float
    wins: int
    losses: int


def bootstrap(
    values: Sequence[float] | Values, statistic: Statistic = np.median, seed: int = 0
) -> Interval:
    """Return a statistic of the values with its 95 % percentile bootstrap interval.

    Of several runs, the statistic is taken over the songs of each run, then averaged over runs.

    Args:
        values: one finite number a song, or [songs, runs].
        statistic: takes `axis`, like numpy.median and numpy.mean.
        seed: of the resampling: the same values give the same interval.

    Raises:
        DataError: there is no value, or one is not finite.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    x = np.asarray(values, dtype=np.float64)
    if not x.size or not np.isfinite(x).all():
        raise DataError("a statistic needs at least one value, and all of them finite")
    x = x.reshape(len(x), -1)
    value = float(statistic(x, axis=0).mean())
    if len(x) < 2:
        return Interval(value, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))
    found = np.mean([statistic(run[drawn], axis=1) for run in x.T], axis=0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def compare(a: Sequence[float] | Values, b: Sequence[float] | Values, seed: int = 0) -> Comparison:
    """Return the paired comparison of two systems on the same songs.

    Args:
        a: one score a song.
        b: the other system's scores of the same songs, in the same order.
        seed: of the bootstrap.

    Raises:
        DataError: lengths differ, nothing to compare, or a value is not finite.
        SolovoxError: scipy is not installed.

    Source: Wilcoxon 1945, exact up to 50 songs without ties; Kerby 2014 (rank-biserial).
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError("a paired comparison needs as many scores of A as of B")
    difference = y - x
    mean, median = (bootstrap(difference, s, seed) for s in (np.mean, np.median))
    moved = difference[difference != 0]
    spread = float(difference.std(ddof=1)) if difference.size > 1 else 0.0
    return Comparison(
        songs=difference.size,
        mean=mean,
        median=median,
        p_value=_wilcoxon(difference) if moved.size else 1.0,
        rank_biserial=_rank_biserial(moved),
        cohen=mean.value / spread if spread > 0 else math.nan,
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of tests made (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _wilcoxon(difference: Values) -> float:
    try:
        from scipy.stats import wilcoxon
    except ImportError as error:
        raise SolovoxError(
            "the Wilcoxon test needs scipy, which is not installed: pip install 'solovox[eval]'"
        ) from error
    # Ties and zeros have no exact distribution in scipy; it falls back by itself.
    return float(wilcoxon(difference).pvalue)


def _rank_biserial(moved: Values) -> float:
    if not moved.size:
        return 0.0
    size = np.abs(moved)
    # The rank of a tie is the mean of the ranks it takes.
    ranks = np.array([(size < s).sum() + ((size == s).sum() + 1) / 2 for s in size])
    return float((ranks * np.sign(moved)).sum() / ranks.sum())
