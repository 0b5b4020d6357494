"""The sampling ablation: number of steps T × refinement noise η × its high-pass fc, as one grid.

A cell is an ordinary evaluation of the model with other settings, in a folder of its own: an
interrupted grid goes on where it stopped, and a larger grid computes only what is new. The table is
laid out as Table 2 of Diff-DMX (arXiv 2511.21342): median over songs of the uSDR of the vocals,
mean of five runs where η > 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from solovox.evaluation.benchmark import COLUMNS, Options, Progress, Result, evaluate
from solovox.evaluation.comparison import compare_results
from solovox.evaluation.report import PRIMARY, table
from solovox.evaluation.statistics import Comparison
from solovox.evaluation.systems import ModelSystem, Sampling, System

TABLES = (PRIMARY, "multi_resolution_stft", "lsd")
LEAST = 0.01  # dB of uSDR: what changes less changes nothing
FEW = 6  # songs, at most, of which a bootstrap says little
KINDS = {True: "high-pass filtered", False: "unfiltered"}  # of refinement noise

PAPER: Mapping[tuple[int, float, float], float] = {
    (20, 0.0, 0): 6.86,
    (20, 0.2, 0): 6.85,
    (20, 0.2, 600): 6.97,
    (20, 0.2, 2000): 7.36,
    (20, 0.2, 5000): 7.55,
    (20, 0.4, 5000): 8.26,
    (50, 0.2, 0): 7.17,
    (50, 0.4, 0): 7.25,
    (50, 0.4, 600): 7.59,
    (50, 0.4, 2000): 8.64,
    (50, 0.4, 5000): 8.77,
    (50, 0.8, 5000): 8.33,
    (100, 0.4, 5000): 8.52,
    (100, 0.8, 5000): 7.20,
}
"""(T, η, fc in Hz) → uSDR in dB of Diff-DMX-RT-extra on MUSDB18-HQ, Table 2 of the paper."""


@dataclass(frozen=True)
class Grid:
    """The settings to cross.

    Attributes:
        steps: T; 0 is the conditioner's own estimate, one cell.
        eta: share of refinement noise; 0 is none, one cell whatever `cutoff` has.
        cutoff: fc in Hz, or names of bands that follow the song; 0 is unfiltered.
        start: t at which sampling starts; empty is the model's own.
        sampler: names of samplers; empty is the model's own.
        spacing: names of spacings of the steps; empty is the model's own.
        takes: numbers of takes that are averaged; empty is the model's own.
    """

    steps: Sequence[int] = (20, 50, 100)
    eta: Sequence[float] = (0.0, 0.2, 0.4, 0.8)
    cutoff: Sequence[float | str] = (0.0, 600.0, 2000.0, 5000.0)
    start: Sequence[float] = ()
    sampler: Sequence[str] = ()
    spacing: Sequence[str] = ()
    takes: Sequence[int] = ()

    def unfiltered(self) -> Grid:
        """The grid without filters, for models whose space has no frequencies."""
        return replace(self, cutoff=(0.0,))

    def cells(self) -> list[Sampling]:
        """Return the settings of each cell, once."""
        crossed = itertools.product(
            self.steps,
            self.start or (None,),
            self.sampler or (None,),
            self.spacing or (None,),
            self.takes or (None,),
            self.eta,
            self.cutoff,
        )
        cells = [
            Sampling(steps=0)
            if not steps
            else Sampling(
                steps, start, eta, cutoff if eta else None, sampler, spacing=spacing, takes=takes
            )
            for steps, start, sampler, spacing, takes, eta, cutoff in crossed
        ]
        return list(dict.fromkeys(cells))


def ablate(
    system_of: Callable[[Sampling], System],
    grid: Grid,
    data: str | Path,
    out: str | Path,
    options: Options | None = None,
    jobs: int = 1,
    progress: Callable[[str], Progress] | None = None,
    only: str = "*",
) -> dict[Sampling, Result]:
    """Return the result of every cell of a grid; OUT/ablation.md has the tables.

    Args:
        system_of: the system with the settings of a cell.
        grid: what to cross.
        data: folder of songs.
        out: folder for results.
        options: what to compute.
        jobs: processes.
        progress: told the cell, returns what is told of its songs.
        only: pattern of the songs' names.
    """
    out = Path(out)
    results = {}
    cells = grid.cells()
    for number, cell in enumerate(cells, 1):
        system = system_of(cell)
        shown = progress(f"{number}/{len(cells)} {label(cell)}") if progress else None
        results[cell] = evaluate(system, data, out / "cells", options, jobs, shown, only=only)
        # Written after each cell: a long grid can be read while it runs.
        (out / "ablation.md").write_text(ablation_report(results), "utf-8")
    return results


def model_cells(model: str, device: str = "auto") -> Callable[[Sampling], System]:
    """Return what makes the system of a cell from a model.

    Args:
        model: name, folder or hub id.
        device: where it runs.
    """

    def system_of(cell: Sampling) -> System:
        return ModelSystem(model, cell, device)

    return system_of


def ablation_report(
    results: Mapping[Sampling, Result], songs: str | None = None, compared: Compared | None = None
) -> str:
    """Return the grid as Markdown: a table a metric, and what the refinement noise changes.

    Args:
        results: by cell.
        songs: what to call the data set; None is its path.
        compared: from `compared_with_plain`; None makes it.
    """
    compared = compared_with_plain(results) if compared is None else compared
    first = next(iter(results.values()))
    part = "" if first.options.excerpt is None else f", middle {first.options.excerpt:g} s of each"
    named = songs or f"`{first.data}`"
    count = f"{len(first.songs)} song{'s' * (len(first.songs) != 1)}"
    parts = [
        f"# Sampling of {first.name.partition(' steps=')[0]}",
        f"{count} of {named}{part}. Medians over songs of the vocals' scores; of several runs the "
        "mean of them, ± standard deviation. Bold: the best of the table.",
    ]
    silent = [song.song for song in first.songs if song.silent["vocals"]]
    if silent:
        parts.append(f"Nobody sings in {', '.join(silent)}: in no number.")
    for metric in TABLES:
        if any(result.summary("vocals", metric) for result in results.values()):
            parts += [f"## {COLUMNS[metric].head}", grid_table(results, metric)]
    parts += [*_refinement(results, compared), *_paper(results)]
    parts += _failed(results)
    return "\n\n".join(parts) + "\n"


def grid_table(results: Mapping[Sampling, Result], metric: str) -> str:
    """Return one metric as a Markdown table: a line a T (and start, sampler), a column an (η, fc).

    Args:
        results: by cell.
        metric: a name of `benchmark.COLUMNS`.
    """
    cells: dict[tuple[str, str], tuple[float, float]] = {}
    for cell, result in results.items():
        found = result.summary("vocals", metric)
        if found:
            cells[_row(cell), _column(cell)] = found.median.value, found.spread[0]
    sign = 1 if COLUMNS[metric].higher_is_better else -1
    best = max((sign * value for value, _ in cells.values()), default=math.nan)
    columns = list(dict.fromkeys(_column(cell) for cell in _by_noise(results)))
    rows = []
    for row in dict.fromkeys(_row(cell) for cell in results):
        line = [row]
        for column in columns:
            value, spread = cells.get((row, column), (math.nan, math.nan))
            text = "" if math.isnan(value) else f"{value:.2f}"
            text = f"**{text}**" if text and sign * value == best else text
            line.append(text if math.isnan(spread) else f"{text} ± {spread:.2f}")
        rows.append(line)
    return table(["T", *columns], rows)


class Effects(NamedTuple):
    """What refinement noise changes in the uSDR.

    Attributes:
        changes: by (filtered, what sampling starts from) the median difference in dB of each
            setting; 0 where the interval holds 0, or the difference is below `LEAST`.
        songs: how many were compared, at most.
    """

    changes: Mapping[tuple[bool, str], Sequence[float]]
    songs: int

    def answer(self) -> str:
        """Return in a sentence whether refinement noise helps, from noise and from the estimate.

        It is about filtered noise, or about unfiltered where none is filtered.
        """
        kind = any(filtered for filtered, _ in self.changes)
        said = {
            origin: _effect(self.changes[kind, origin])
            for origin in ("noise", "the estimate")
            if (kind, origin) in self.changes
        }
        parts = [f"from {origin} it {effect}" for origin, effect in said.items()]
        text = "; ".join(parts).replace(" it ", f" {KINDS[kind]} noise ", 1)
        return f"{text[0].upper()}{text[1:]}." if text else ""

    def counts(self) -> str:
        """Return in how many settings refinement noise raises the uSDR, lowers it, does neither."""
        said = []
        for kind in (True, False):
            found = [v for (k, _), values in self.changes.items() if k == kind for v in values]
            if found:
                raised, lowered = sum(v > 0 for v in found), sum(v < 0 for v in found)
                said.append(
                    f"of {len(found)} settings with {KINDS[kind]} noise, {raised} raise the median "
                    f"uSDR by {LEAST:g} dB or more, {lowered} lower it by as much, and "
                    f"{len(found) - raised - lowered} change nothing that these {self.songs} songs "
                    "can show"
                )
        return "; ".join(said).replace("of", "Of", 1) + "." if said else ""

    def caution(self) -> str:
        """Return by what a change was told from none, and how far that can be trusted."""
        if not self.changes:
            return ""
        few = (
            f" Of {self.songs} songs an interval is little but their range: take it as a hint."
            if self.songs <= FEW
            else ""
        )
        return (
            f"A change counts if it is {LEAST:g} dB or more and its 95 % interval leaves out 0. "
            f"The intervals are not corrected for the number of settings.{few}"
        )


Compared = Mapping[Sampling, Mapping[str, Comparison]]
"""By cell with noise, by metric, how it compares with the same steps without."""


def compared_with_plain(results: Mapping[Sampling, Result]) -> Compared:
    """Return the comparison of each cell that has noise with the same steps without.

    Args:
        results: by cell.
    """
    return {
        cell: compare_results(plain, result)
        for cell, result in results.items()
        if cell.eta and (plain := results.get(_without_noise(cell)))
    }


def refinement_effects(
    results: Mapping[Sampling, Result], compared: Compared | None = None
) -> Effects:
    """Return what refinement noise changes, setting by setting.

    Args:
        results: by cell.
        compared: from `compared_with_plain`; None makes it.
    """
    compared = compared_with_plain(results) if compared is None else compared
    changes: dict[tuple[bool, str], list[float]] = {}
    songs = 0
    for cell, comparisons in compared.items():
        found = comparisons.get(PRIMARY)
        if found and found.songs > 1:
            change = found.median
            seen = (change.low > 0 or change.high < 0) and abs(change.value) >= LEAST
            key = bool(cell.cutoff), "noise" if _from_noise(results[cell]) else "the estimate"
            changes.setdefault(key, []).append(change.value if seen else 0.0)
            songs = max(songs, found.songs)
    return Effects(changes, songs)


def _effect(changes: Sequence[float]) -> str:
    """Return the changes of the settings, in dB, in words."""
    up, down = ([value for value in changes if sign * value > 0] for sign in (1, -1))
    rises = f"in {len(up)} of {len(changes)} settings the median uSDR rises"
    falls = f"in {len(down)} of {len(changes)} it falls"
    if up and down:
        return (
            f"helps and harms: {rises}, by up to {max(up):.2f} dB, {falls}, by up to "
            f"{-min(down):.2f} dB"
        )
    if up:
        return f"helps: {rises}, by up to {max(up):.2f} dB"
    if down:
        falls = falls.replace("it falls", "settings the median uSDR falls")
        return f"harms: {falls}, by up to {-min(down):.2f} dB"
    return "changes nothing that these songs can show"


def _from_noise(result: Result) -> bool:
    return result.settings.get("start", 1.0) == 1.0


def label(cell: Sampling) -> str:
    """Return a cell's settings in words."""
    return f"T={_row(cell)} {_column(cell)}"


def _row(cell: Sampling) -> str:
    if not cell.steps:
        return "0 (estimate)"
    start = f", from t = {cell.start:g}" if cell.start is not None else ""
    takes = f", {cell.takes} take{'s' * (cell.takes > 1)}" if cell.takes else ""
    named = "".join(f", {name}" for name in (cell.sampler, cell.spacing) if name)
    return f"{cell.steps}{start}{named}{takes}"


def _column(cell: Sampling) -> str:
    if not cell.eta:
        return "no noise"
    if isinstance(cell.cutoff, str):
        return f"η {cell.eta:g} by {cell.cutoff}"
    cutoff = "unfiltered" if not cell.cutoff else f"fc {cell.cutoff:g} Hz"
    return f"η {cell.eta:g} {cutoff}"


def _without_noise(cell: Sampling) -> Sampling:
    return replace(cell, eta=0.0, cutoff=None)


def _key(cell: Sampling) -> tuple[int, float, float]:
    """Return a cell's place in `PAPER`; a band that follows the song is not there."""
    cutoff = math.nan if isinstance(cell.cutoff, str) else cell.cutoff or 0
    return cell.steps or 0, cell.eta or 0.0, cutoff


def _by_noise(results: Mapping[Sampling, Result]) -> list[Sampling]:
    def order(cell: Sampling) -> tuple[float, bool, float, str]:
        named = isinstance(cell.cutoff, str)
        return cell.eta or 0, named, 0 if named else float(cell.cutoff or 0), str(cell.cutoff)

    return sorted(results, key=order)


def _refinement(results: Mapping[Sampling, Result], compared: Compared) -> list[str]:
    """Return what refinement noise changes at equal steps, song by song."""
    rows = []
    for cell, comparisons in compared.items():
        row = [_row(cell), _column(cell)]
        for metric in TABLES:
            c = comparisons.get(metric)
            if c is None:
                row += ["–", "–"]
                continue
            better = c.wins if COLUMNS[metric].higher_is_better else c.losses
            ends = (
                "" if math.isnan(c.median.low) else f" [{c.median.low:+.3f}, {c.median.high:+.3f}]"
            )
            row += [f"{c.median.value:+.3f}{ends}", f"{better}/{c.songs}"]
        rows.append(row)
    if not rows:
        return []
    heads = ["T", "noise", *(h for m in TABLES for h in (f"Δ {COLUMNS[m].head}", "better in"))]
    effects = refinement_effects(results, compared)
    return [
        "## What refinement noise changes",
        "Against no noise at the same T: median difference over songs with its 95 % bootstrap "
        "interval, and in how many songs the noise is better.",
        table(heads, rows),
        " ".join(filter(None, (effects.answer(), effects.counts(), effects.caution()))),
    ]


def _paper(results: Mapping[Sampling, Result]) -> list[str]:
    """Return the cells that the paper has too, beside its figures."""
    rows = []
    for cell, result in results.items():
        key = _key(cell)
        found = result.summary("vocals", PRIMARY)
        # The paper starts from noise, with DDIM and equal steps, once.
        begins = _from_noise(result) and (cell.takes or 1) == 1
        plain = cell.sampler in (None, "ddim") and cell.spacing in (None, "uniform")
        if key in PAPER and found and begins and plain:
            rows.append(
                [_row(cell), _column(cell), f"{found.median.value:.2f}", f"{PAPER[key]:.2f}"]
            )
    if not rows:
        return []
    return [
        "## Beside the paper",
        "Diff-DMX-RT-extra on MUSDB18-HQ (arXiv 2511.21342, Table 2): another model, other songs. "
        "Compare the differences between lines, not the figures of a line.",
        table(["T", "noise", "here, uSDR dB", "paper, uSDR dB"], rows),
    ]


def _failed(results: Mapping[Sampling, Result]) -> list[str]:
    lines = [
        f"- {label(cell)}: **{song}** failed: {why}"
        for cell, result in results.items()
        for song, why in result.failures.items()
    ]
    return ["## Left out\n", "\n".join(lines)] if lines else []
