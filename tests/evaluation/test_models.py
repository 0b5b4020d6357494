"""A real model, untrained and tiny, through the commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from solovox.cli.ablate import ablate
from solovox.cli.evaluate import evaluate as evaluate_command
from solovox.evaluation.benchmark import Options, evaluate, load
from solovox.evaluation.systems import ModelSystem, Sampling

from .conftest import write_song

torch = pytest.importorskip("torch")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_song(tmp_path / "data" / "Aria", seed=0, seconds=0.5)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from solovox.checkpoint import save_model
    from solovox.presets import DIFF_DMX_SMALL, build_model

    small = (8, 8, 8, 8)
    config = replace(
        DIFF_DMX_SMALL,
        chunk=16_384,
        conditioner=replace(DIFF_DMX_SMALL.conditioner, bands=8, widths=small),
        generator=replace(DIFF_DMX_SMALL.generator, bands=8, widths=small, condition_widths=small),
    )
    torch.manual_seed(0)
    return save_model(build_model(config), tmp_path_factory.mktemp("models") / "tiny")


def test_a_model_is_repeatable_and_says_its_settings(
    model: Path, data: Path, tmp_path: Path
) -> None:
    system = ModelSystem(str(model), Sampling(steps=1, eta=0.4), "cpu")
    assert system.name == "tiny steps=1 eta=0.4"
    assert system.runs == 5
    assert system.settings["start"] == 0.1
    one, two = (evaluate(system, data, tmp_path / out, Options(runs=2)) for out in "ab")
    for a, b in zip(one.songs, two.songs, strict=True):
        assert [run.scores for run in a.runs] == [run.scores for run in b.runs]
        assert a.runs[0].scores != a.runs[1].scores


def test_the_commands_take_a_model_folder(model: Path, data: Path, tmp_path: Path) -> None:
    common = ["--data", str(data), "--device", "cpu", "--out", str(tmp_path)]
    done = CliRunner().invoke(
        evaluate_command, [str(model), *common, "--curve", "0,1", "--no-plots"]
    )
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "tiny").settings["steps"] == 1
    assert "## Steps and quality of tiny" in (tmp_path / "report.md").read_text("utf-8")
    done = CliRunner().invoke(
        ablate, [str(model), *common, "--steps", "0,1", "--eta", "0,0.5", "--cutoff", "2000",
                 "--runs", "1"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "| T | no noise | η 0.5 fc 2000 Hz |" in done.output
