"""BSS-Eval v4 (SDR, ISR, SIR, SAR over one-second frames), computed by museval 0.4.

An estimate is projected on the references delayed by up to 512 samples, with one filter for the
whole song: what the target's own delays explain is target and spatial error, what the other
stems' add is interference, the rest is artefact. The set of references is always {vocals,
accompaniment}: SIR, SAR and ISR depend on it. A frame in which any stem is silent has no score
(NaN); the score of a song is the median of its frames that have one.

Source: Stöter, Liutkus, Ito 2018, "The 2018 signal separation evaluation campaign".
museval's package imports its data set reader, which needs ffmpeg; its metrics alone do not, so
that module is what is loaded here.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from solovox.errors import DataError, SolovoxError

STEMS = ("vocals", "accompaniment")
CRITERIA = ("SDR", "ISR", "SIR", "SAR")

_INSTALL = "BSS-Eval needs museval, which is not installed: pip install 'solovox[bss]'"


@dataclass(frozen=True)
class BssScores:
    """Scores of one stem: an array [frames] in dB for each of SDR, ISR, SIR, SAR; NaN is no score.

    Attributes:
        frames: the scores by criterion.
        window: length of a frame in seconds.
        hop: distance of frames in seconds.
    """

    frames: Mapping[str, NDArray[np.float64]]
    window: float
    hop: float

    def medians(self) -> dict[str, float]:
        """Return the median in dB of the frames that have a score, by criterion; NaN for none."""
        return {name: _median(values) for name, values in self.frames.items()}


def bss_eval(
    references: Mapping[str, NDArray[np.floating]],
    estimates: Mapping[str, NDArray[np.floating]],
    sample_rate: int,
    window: float = 1.0,
    hop: float = 1.0,
    dither: float = 0.0,
) -> dict[str, BssScores]:
    """Return the framewise BSS-Eval v4 scores of the vocals and the accompaniment.

    About a minute for a song of four minutes.

    Args:
        references: true "vocals" and "accompaniment", [channels, samples].
        estimates: separated "vocals" and "accompaniment", same shape.
        sample_rate: in Hz.
        window: length of a frame in seconds; infinity for one frame, where SDR equals uSDR.
        hop: distance of frames in seconds.
        dither: noise that is added to the references, as a share of each one's level. Where lossy
            coding has emptied a band of them the projection has no unique filters, and SIR, ISR and
            SAR are rounding errors; 1e-3 makes them well defined. 0 is BSS-Eval v4 as published.

    Raises:
        SolovoxError: museval is not installed.
        DataError: shapes differ.
    """
    true, guessed = (
        np.stack([np.asarray(stems[name], dtype=np.float64).T for name in STEMS])
        if len({np.shape(stems[name]) for name in STEMS}) == 1
        else None
        for stems in (references, estimates)
    )
    if true is None or guessed is None or true.shape != guessed.shape:
        raise DataError("BSS-Eval needs vocals and accompaniment of one shape, true and separated")
    noise = np.random.default_rng(0)
    for stem in true if dither else ():
        stem += dither * stem.std() * noise.standard_normal(stem.shape)
    samples = true.shape[1]
    # museval leaves a last, shorter frame out; a song under one frame is scored as one.
    whole = math.isinf(window) or round(window * sample_rate) > samples
    size = samples if whole else round(window * sample_rate)
    step = samples if whole else round(hop * sample_rate)
    if not all(stem.any() for stem in (*true, *guessed)):
        none = np.full((2, (samples - size) // step + 1), np.nan)
        scores = (none, none, none, none)
    else:
        scores = _museval().bss_eval(
            true,
            guessed,
            window=math.inf if whole else size,
            hop=step,
            compute_permutation=False,
            filters_len=512,
            framewise_filters=False,
            bsseval_sources_version=False,
        )[:4]
    # A perfect estimate has infinite scores; museval's own files hold NaN for those.
    return {
        stem: BssScores(
            {
                name: np.where(np.isfinite(values[index]), values[index], np.nan)
                for name, values in zip(CRITERIA, scores, strict=True)
            },
            samples / sample_rate if whole else window,
            samples / sample_rate if whole else hop,
        )
        for index, stem in enumerate(STEMS)
    }


def museval_json(scores: Mapping[str, BssScores]) -> dict[str, object]:
    """Return the scores of one song in the form of museval's JSON files (musdb.schema.json).

    Written as RESULTS/test/SONG.json, museval's `EvalStore.add_eval_dir(RESULTS)` reads them.

    Args:
        scores: by stem, of `bss_eval`.
    """
    return {
        "targets": [
            {
                "name": stem,
                "frames": [
                    {
                        "time": index * score.hop,
                        "duration": score.window,
                        "metrics": {
                            name: round(float(values[index]), 5)
                            for name, values in score.frames.items()
                        },
                    }
                    for index in range(len(score.frames["SDR"]))
                ],
            }
            for stem, score in scores.items()
        ],
        "museval_version": "0.4.1",
    }


def _median(values: NDArray[np.float64]) -> float:
    scored = values[~np.isnan(values)]
    return float(np.median(scored)) if scored.size else math.nan


def _museval() -> ModuleType:
    name = "solovox._museval_metrics"
    if name not in sys.modules:
        package = importlib.util.find_spec("museval")
        if package is None or not package.submodule_search_locations:
            raise SolovoxError(_INSTALL)
        path = Path(package.submodule_search_locations[0]) / "metrics.py"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise SolovoxError(_INSTALL)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]
