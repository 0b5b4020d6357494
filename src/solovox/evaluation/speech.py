"""PESQ and STOI: metrics made for speech, borrowed for vocals. Optional extras.

Both were fitted to telephone and hearing-aid speech, not to singing, and both ask for mono; read
them as a trend, not as a judgement. They are computed over stretches of ten seconds, the length
they were made for, and averaged over the stretches in which somebody sings.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solovox.errors import DataError, SolovoxError
from solovox.evaluation.metrics import is_silent

_RATE = 16_000
_STRETCH = 10.0
_SILENCE = -50.0


def pesq(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return the wide-band PESQ score (1.04 worst to 4.64 best), mean over stretches of 10 s.

    Args:
        reference: true vocals, [channels, samples].
        estimate: separated vocals, same shape.
        sample_rate: in Hz; both are brought to 16 kHz.

    Returns:
        NaN where no stretch has vocals.

    Raises:
        SolovoxError: the package pesq is not installed.

    Source: ITU-T P.862.2, by the package pesq.
    """
    module = _extra("pesq")

    def score(s: NDArray[np.float64], e: NDArray[np.float64]) -> float:
        # Below zero are codes, such as that no utterance was found: no score, not a bad one.
        value = float(module.pesq(_RATE, s, e, "wb", on_error=module.PesqError.RETURN_VALUES))
        return math.nan if value < 0 else value

    return _mean_over_stretches(reference, estimate, sample_rate, score)


def stoi(reference: ArrayLike, estimate: ArrayLike, sample_rate: int) -> float:
    """Return the short-time objective intelligibility (0 to 1), mean over stretches of 10 s.

    Args:
        reference: true vocals, [channels, samples].
        estimate: separated vocals, same shape.
        sample_rate: in Hz; both are brought to 16 kHz.

    Returns:
        NaN where no stretch has vocals.

    Raises:
        SolovoxError: the package pystoi is not installed.

    Source: Taal et al. 2011, by the package pystoi.
    """
    module = _extra("pystoi")

    def score(s: NDArray[np.float64], e: NDArray[np.float64]) -> float:
        with warnings.catch_warnings():
            # Too little is left between silences: it would warn, and return 1e-5.
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(module.stoi(s, e, _RATE))
            except RuntimeWarning:
                return math.nan

    return _mean_over_stretches(reference, estimate, sample_rate, score)


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SolovoxError(
            f"the package {name} is not installed: pip install 'solovox[speech]'"
        ) from error


def _mean_over_stretches(
    reference: ArrayLike,
    estimate: ArrayLike,
    sample_rate: int,
    score: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> float:
    import soxr

    if np.shape(reference) != np.shape(estimate):
        raise DataError("a metric needs two signals [channels, samples] of one shape")
    s, e = (
        soxr.resample(
            np.atleast_2d(np.asarray(x, dtype=np.float64)).mean(axis=0), sample_rate, _RATE
        )
        for x in (reference, estimate)
    )
    size = round(_STRETCH * _RATE)
    scores = []
    for start in range(0, len(s), size):
        true, guessed = s[start : start + size], e[start : start + size]
        # Less than a second is too short for either metric.
        if len(true) >= _RATE and not is_silent(true, _SILENCE):
            scores.append(score(true, guessed))
    valid = [value for value in scores if math.isfinite(value)]
    return float(np.mean(valid)) if valid else math.nan
