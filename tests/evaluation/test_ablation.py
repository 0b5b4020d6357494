"""The grid has each cell once, resumes, and is written as the paper's table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from solovox.cli.ablate import ablate as command
from solovox.cli.evaluate import bands
from solovox.evaluation.ablation import (
    PAPER,
    Effects,
    Grid,
    ablate,
    ablation_report,
    grid_table,
    label,
    refinement_effects,
)
from solovox.evaluation.benchmark import Options
from solovox.evaluation.oracles import Stems
from solovox.evaluation.systems import Material, Sampling, SeparateSong, Settings, System

from .conftest import write_song

GRID = Grid(steps=(0, 20, 50), eta=(0.0, 0.4), cutoff=(0.0, 5000.0))
SHORT = Options(excerpt=0.4)


@dataclass(frozen=True)
class Pretender(System):
    """As good as the paper says that these settings are."""

    random = True

    cell: Sampling
    calls = []  # noqa: RUF012

    @property
    def name(self) -> str:
        return " ".join(["model", *(f"{k}={v}" for k, v in self.cell.given().items())])

    @property
    def settings(self) -> Settings:
        return self.cell.given()

    @property
    def runs(self) -> int:
        return 2 if self.cell.eta else 1

    def open(self) -> SeparateSong:
        def separate(m: Material, seed: int) -> Stems:
            self.calls.append(self.cell)
            key = (self.cell.steps or 0, self.cell.eta or 0.0, self.cell.cutoff or 0)
            level = PAPER.get(key, 5.0) + 0.1 * seed
            noise = np.random.default_rng(seed).standard_normal(m.vocals.shape)
            noise *= np.sqrt(np.sum(m.vocals**2) / np.sum(noise**2)) * 10 ** (-level / 20)
            vocals = (m.vocals + noise).astype(np.float32)
            return {"vocals": vocals, "accompaniment": m.mixture - vocals}

        return separate


def test_cells_that_are_the_same_are_one() -> None:
    cells = GRID.cells()
    assert len(cells) == 1 + 2 * (1 + 2)
    assert cells[0] == Sampling(steps=0)
    assert Sampling(20, None, 0.0) in cells
    assert Sampling(50, None, 0.4, 5000.0) in cells
    more = Grid(steps=(5,), eta=(0.0,), start=(0.3, 1.0), sampler=("ddim", "other")).cells()
    assert len(more) == 4


def test_the_grid_is_a_table_and_resumes(data: Path, tmp_path: Path) -> None:
    Pretender.calls.clear()
    results = ablate(Pretender, GRID, data, tmp_path / "out", SHORT)
    calls = len(Pretender.calls)
    assert calls == 3 * (1 + 2 + 4 * 2)  # songs × (estimate + plain cells + noisy cells × runs)
    text = (tmp_path / "out" / "ablation.md").read_text("utf-8")
    assert text.startswith("# Sampling of model\n")
    lines = grid_table(results, "usdr").splitlines()
    assert lines[0] == "| T | no noise | η 0.4 unfiltered | η 0.4 fc 5000 Hz |"
    assert lines[2] == "| 0 (estimate) | 5.00 |  |  |"
    assert lines[3] == "| 20 | 6.86 | 5.05 ± 0.07 | 8.31 ± 0.07 |"
    assert "**8.82** ± 0.07" in lines[4]
    assert "| 20 | η 0.4 fc 5000 Hz | 8.31 | 8.26 |" in text
    assert "| 20 | η 0.4 fc 5000 Hz | +1.450 [+1.450, +1.450] | 3/3 |" in text
    assert (
        "Of 2 settings with high-pass filtered noise, 2 raise the median uSDR by 0.01 dB or more, "
        "0 lower it by as much, and 0 change nothing that these 3 songs can show; of 2 settings "
        "with unfiltered noise, 1 raise"
    ) in text
    ablate(Pretender, GRID, data, tmp_path / "out", SHORT)
    assert len(Pretender.calls) == calls
    ablate(Pretender, Grid(steps=(20, 100), eta=(0.0,)), data, tmp_path / "out", SHORT)
    assert len(Pretender.calls) == calls + 3


def test_bands_takes_and_spacings_are_cells_and_named() -> None:
    cells = Grid((5,), (0.4, 0.0), ("spread", 5000.0), spacing=("cosine",), takes=(1, 4)).cells()
    assert [label(cell) for cell in cells] == [
        "T=5, cosine, 1 take η 0.4 by spread",
        "T=5, cosine, 1 take η 0.4 fc 5000 Hz",
        "T=5, cosine, 1 take no noise",
        "T=5, cosine, 4 takes η 0.4 by spread",
        "T=5, cosine, 4 takes η 0.4 fc 5000 Hz",
        "T=5, cosine, 4 takes no noise",
    ]


def test_only_what_the_paper_did_stands_beside_it(data: Path, tmp_path: Path) -> None:
    grid = Grid((20,), (0.0, 0.4), (5000.0, "spread"), start=(0.3, 1.0))
    report = ablation_report(ablate(Pretender, grid, data, tmp_path, Options(1, excerpt=0.4)))
    beside = report.partition("## Beside the paper")[2]
    assert "| 20, from t = 1 | η 0.4 fc 5000 Hz |" in beside
    assert "t = 0.3" not in beside
    assert "spread" not in beside


def test_what_noise_does_is_answered_by_where_sampling_starts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PAPER, (20, 0.4, 2000.0), 6.865)  # of 6.86 without: less than 0.01 dB
    monkeypatch.setitem(PAPER, (20, 0.8, 5000.0), 6.06)
    once = Options(1, excerpt=0.4)
    noise = Grid((20,), (0.0, 0.4), (5000.0,), start=(1.0,))
    estimate = Grid((20,), (0.0, 0.4), (2000.0,), start=(0.3,))
    worse = Grid((20,), (0.0, 0.8), (5000.0,), start=(0.3,))
    parts = [ablate(Pretender, grid, data, tmp_path, once) for grid in (noise, estimate, worse)]
    assert refinement_effects(parts[0] | parts[1]).answer() == (
        "From noise high-pass filtered noise helps: in 1 of 1 settings the median uSDR rises, by "
        "up to 1.40 dB; from the estimate it changes nothing that these songs can show."
    )
    assert (
        ", 0 raise the median uSDR by 0.01 dB or more, 0 lower it by as much, and 1 change nothing"
        in refinement_effects(parts[1]).counts()
    )
    assert (
        refinement_effects(parts[1] | parts[2])
        .answer()
        .endswith(" harms: in 1 of 2 settings the median uSDR falls, by up to 0.80 dB.")
    )
    unfiltered = ablate(Pretender, Grid((20,), (0.0, 0.4), (0.0,)), data, tmp_path, once)
    assert refinement_effects(unfiltered).answer().startswith("From noise unfiltered noise harms: ")
    nothing = refinement_effects({Sampling(steps=0): parts[0][Sampling(20, 1.0, 0.0)]})
    assert (nothing.answer(), nothing.counts(), nothing.caution()) == ("", "", "")


def test_silent_songs_and_small_numbers_are_said(data: Path, tmp_path: Path) -> None:
    write_song(data / "Drums", seed=5, silent=True)
    grid = Grid((20,), (0.0, 0.4), (5000.0,))
    text = ablation_report(ablate(Pretender, grid, data, tmp_path, SHORT))
    assert "Nobody sings in Drums: in no number." in text
    assert "Of 3 songs an interval is little but their range" in text


def test_verdicts_say_what_counts_and_that_many_were_given() -> None:
    few, more = (Effects({(True, "noise"): [0.5]}, songs).caution() for songs in (6, 7))
    assert more == (
        "A change counts if it is 0.01 dB or more and its 95 % interval leaves out 0. The "
        "intervals are not corrected for the number of settings."
    )
    assert few == f"{more} Of 6 songs an interval is little but their range: take it as a hint."


def test_lower_is_better_where_it_is(data: Path, tmp_path: Path) -> None:
    results = ablate(
        Pretender, Grid((20,), (0.0, 0.4), (5000.0,)), data, tmp_path / "out", Options(runs=1)
    )
    row = grid_table(results, "multi_resolution_stft").splitlines()[2]
    plain, noisy = row.split("|")[2:4]
    assert "**" in noisy
    assert "**" not in plain


@pytest.mark.parametrize("bad", [["--steps", "ten"], ["--eta", "0;1"], ["--takes", "x"]])
def test_the_command_refuses_what_is_no_list(bad: list[str]) -> None:
    done = CliRunner().invoke(command, ["model", "--data", "songs", *bad])
    assert done.exit_code == 2
    assert "is not a list such as 1,2,5" in done.output


@pytest.mark.parametrize("bad", [["--cutoff", "-5"], ["--sampler", "ddim;heun"]])
def test_the_command_refuses_what_is_no_name(bad: list[str]) -> None:
    done = CliRunner().invoke(command, ["model", "--data", "songs", *bad])
    assert done.exit_code == 2
    assert "is not a list of names such as" in done.output


def test_bands_are_numbers_and_names() -> None:
    assert bands(None, None, "0, 2000.5,spread") == (0.0, 2000.5, "spread")  # type: ignore[arg-type]
    assert bands(None, None, None) == ()  # type: ignore[arg-type]
