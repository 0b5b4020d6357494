"""Intervals cover what they claim, and paired tests agree with textbook values."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from solovox.errors import DataError, SolovoxError
from solovox.evaluation.statistics import bootstrap, compare, holm

# Darwin's maize: heights of cross- and self-fertilised plants, in eighths of an inch (Fisher 1935).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_the_interval_of_the_mean_covers_it() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        interval = bootstrap(rng.standard_normal(50), np.mean, seed=trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_bootstrap_is_repeatable_and_in_order() -> None:
    values = np.random.default_rng(1).standard_normal(20)
    found = bootstrap(values)
    assert found == bootstrap(values)
    assert found.low <= found.value <= found.high
    assert found.value == np.median(values)


def test_runs_are_averaged_after_the_statistic() -> None:
    runs = np.array([[0.0, 3.0], [1.0, 5.0], [5.0, 4.0]])
    assert bootstrap(runs, np.median).value == (1.0 + 4.0) / 2
    one = np.random.default_rng(3).standard_normal(9)
    assert bootstrap(np.stack([one, one], axis=1)) == bootstrap(one)


def test_one_song_has_no_interval_and_none_is_an_error() -> None:
    found = bootstrap([3.0])
    assert found.value == 3.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    with pytest.raises(DataError):
        bootstrap([])
    with pytest.raises(DataError, match="finite"):
        bootstrap([1.0, math.nan])


def test_darwins_maize() -> None:
    found = compare([0.0] * 15, DARWIN)
    assert found.songs == 15
    assert (found.wins, found.losses) == (13, 2)
    assert found.mean.value == pytest.approx(20.933, abs=1e-3)
    # Signed ranks: 96 above and 24 below, p = 0.0413 (scipy's own worked example).
    assert found.p_value == pytest.approx(0.0413, abs=1e-4)
    assert found.rank_biserial == pytest.approx((96 - 24) / 120)
    assert found.cohen == pytest.approx(20.933 / np.std(DARWIN, ddof=1), abs=1e-3)
    assert found.mean.low > 0


def test_comparison_is_antisymmetric() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(12), rng.standard_normal(12)
    one, other = compare(a, b), compare(b, a)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.rank_biserial == pytest.approx(-other.rank_biserial)
    assert one.median.value == pytest.approx(-other.median.value)


def test_equal_systems() -> None:
    found = compare([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.p_value, found.rank_biserial, found.wins, found.losses) == (1.0, 0.0, 0, 0)
    assert math.isnan(found.cohen)
    assert math.isnan(compare([1.0, 2.0], [2.0, 3.0]).cohen)


def test_unpaired_scores_are_an_error() -> None:
    with pytest.raises(DataError, match="as many"):
        compare([1.0], [1.0, 2.0])


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_missing_scipy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(SolovoxError, match=r"solovox\[eval\]"):
        compare([1.0, 2.0], [2.0, 4.0])
