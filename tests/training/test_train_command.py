"""`solovox train` and `solovox export`, from an empty folder to a model that separates."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from tiny_runs import BANDS, RATE, TINY, log_of, tiny_run, train, write_songs

from solovox.checkpoint import load_model
from solovox.cli import main
from solovox.cli.train import with_checkpointing
from solovox.data.shards import ShardConfig, write_shards
from solovox.errors import ModelError
from solovox.presets import PRESETS, config_to_json
from solovox.separator import Separator
from solovox.training.export import folder_name
from solovox.training.run import read_preset, read_run


def solovox(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    values = {"model": config_to_json(BANDS), "training": asdict(TINY)}
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def new_run(songs: Path, preset: Path, tmp_path: Path) -> list[object]:
    return ["train", "--preset", preset, "--data", songs, "--out", tmp_path / "run", "--workers", 0]


def test_a_folder_is_held_by_one_process_at_a_time(new_run: list[object], tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from solovox.training.run import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    refused = solovox(*new_run, "--max-steps", 1)
    assert refused.exit_code == 1
    assert "another process trains there" in refused.output
    assert not (tmp_path / "run/run.json").exists()
    other.kill()  # a process that dies lets go
    other.communicate()
    for more in (("--max-steps", 1), ("--max-steps", 2, "--resume")):
        done = solovox(*new_run, *more)
        assert done.exit_code == 0, done.output


def test_from_songs_to_a_model_that_separates(new_run: list[object], tmp_path: Path) -> None:
    result = solovox(*new_run, "--max-steps", 4, "--batch-size", 2, "--stages", "generator:2,none")
    assert result.exit_code == 0, result.output
    assert "Done: 4 steps" in result.output and "solovox export" in result.output
    run = read_run(tmp_path / "run")
    assert run.training.batch_size == 2 and run.training.stages[0].frozen == ("generator",)
    notes = tmp_path / "notes.md"
    notes.write_text("Made of noise.")
    result = solovox(
        *("export", tmp_path / "run", tmp_path / "model", "--name", "hiss", "--licence", "CC0-1.0"),
        *("--card-notes", notes, "--dtype", "bf16"),
    )
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "model")
    state = load_file(tmp_path / "run/best.safetensors")
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[f"ema.{key}"].bfloat16().float())
    mixture = np.random.default_rng(0).uniform(-0.1, 0.1, (2, RATE)).astype(np.float32)
    stems = Separator(model).separate(mixture, RATE)
    assert np.isfinite(stems["vocals"]).all()
    card = (tmp_path / "model/README.md").read_text()
    texts = ("# hiss", "license: CC0-1.0", "Made of noise.", "| song0 |", "| **mean** |")
    for text in (*texts, "Computed in bf16, the vocals of a chunk of song0 are"):
        assert text in card
    assert str(tmp_path) not in card and "## Limits" in card and '"batch_size": 2' in card


def test_a_model_that_bf16_would_spoil_computes_in_fp32(
    new_run: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert solovox(*new_run, "--max-steps", 1).exit_code == 0
    monkeypatch.setattr("solovox.training.export.APART", 500.0)
    assert solovox("export", tmp_path / "run", tmp_path / "model").exit_code == 0
    config = load_model(tmp_path / "model").config
    assert (config.name, config.precision) == ("model", "fp32")
    assert "the model computes in fp32" in (tmp_path / "model/README.md").read_text()


def test_a_model_is_called_as_its_folder_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_name(Path("models/mine/"), "preset") == "mine"
    assert folder_name(Path(), "preset") == tmp_path.name
    for folder in ("/", "a\nb", "a" * 101):
        assert folder_name(Path(folder), "preset") == "preset"


def test_run_folder_is_not_overwritten_but_resumed(new_run: list[object], tmp_path: Path) -> None:
    assert solovox(*new_run, "--max-steps", 2).exit_code == 0
    result = solovox(*new_run, "--max-steps", 4)
    assert result.exit_code == 1
    assert "holds a run; add --resume" in result.output and result.output.count("\n") == 1
    result = solovox("train", "--out", tmp_path / "run", "--resume", "--max-steps", 4)
    assert result.exit_code == 0 and "Done: 4 steps" in result.output
    assert read_run(tmp_path / "run").training.max_steps == 4
    assert log_of(tmp_path / "run")[-1]["step"] == 4


def test_resume_starts_what_has_not_begun(new_run: list[object]) -> None:
    assert solovox(*new_run, "--max-steps", 1, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "diff-dmx-huge", "--data", "."], "no preset 'diff-dmx-huge'"),
        (["--preset", "diff-dmx-small"], "needs --preset (or --init) and --data"),
        (["--resume"], "needs --preset"),
        (["--preset", "diff-dmx-small", "--data", "nowhere"], "no such folder"),
        (["--preset", "diff-dmx-small", "--data", ".", "--stages", "all"], "FROZEN:UNTIL"),
        (["--init", "nobody", "--data", "."], "no model 'nobody'"),
        (
            ["--preset", "diff-dmx-small", "--teacher", "nobody", "--data", "."],
            "no model 'nobody'",
        ),
        (["--accelerator", "abacus"], "cannot train on 1 x abacus"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = solovox("train", "--out", "run", *arguments)
    assert result.exit_code == 1
    assert message in result.output and result.output.count("\n") == 1
    assert not Path("run").exists()


def test_unknown_settings_of_a_run_are_told(new_run: list[object], tmp_path: Path) -> None:
    assert solovox(*new_run, "--max-steps", 1).exit_code == 0
    path = tmp_path / "run/run.json"
    values = json.loads(path.read_text())
    for change, name in (({"colour": 1}, "colour"), ({"training": {"colour": 1}}, "colour")):
        path.write_text(json.dumps({**values, **change}))
        with pytest.raises(ModelError, match=f"unknown setting .*{name}"):
            read_run(tmp_path / "run")
    path.write_text("{}")
    with pytest.raises(ModelError, match="describes no model"):
        read_run(tmp_path / "run")


def test_presets_are_read_as_they_are(preset: Path) -> None:
    assert read_preset(str(preset)) == (BANDS, TINY)
    assert read_preset("diff-dmx")[0] == PRESETS["diff-dmx"]


def test_activations_can_be_computed_anew() -> None:
    changed = with_checkpointing(PRESETS["diff-dmx"])
    assert changed.conditioner.checkpoint_activations and changed.generator.checkpoint_activations
    with pytest.raises(ModelError, match="tiny-bands does not offer"):
        with_checkpointing(BANDS)


def test_shards_are_trained_on(preset: Path, songs: Path, tmp_path: Path) -> None:
    write_songs(tmp_path / "songs", 2)
    data = tmp_path / "data"
    write_shards(tmp_path / "songs", data / "train", ShardConfig(piece_seconds=0.5, pieces=2))
    result = solovox(
        *("train", "--preset", preset, "--data", data, "--valid", songs / "valid"),
        *("--out", tmp_path / "run", "--workers", 0, "--max-steps", 2),
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run/best.safetensors").exists()


def test_export_of_what_was_never_validated(songs: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(songs / "train")
    manifest = {
        "songs": [
            {
                "song": "a", "split": "train", "seconds": 7200,
                "sources": [{"package": "hums", "licence": "CC0-1.0"}],
            },
            {"song": "b", "split": "valid", "seconds": 1, "sources": [{"package": "secret"}]},
        ]
    }  # fmt: skip
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest))
    train(tiny_run(tmp_path / "data", max_steps=1), tmp_path / "run")
    result = solovox("export", tmp_path / "run", tmp_path / "model")
    assert result.exit_code == 1 and "--weights last" in result.output
    assert (
        solovox("export", tmp_path / "run", tmp_path / "model", "--weights", "last").exit_code == 0
    )
    card = (tmp_path / "model/README.md").read_text()
    assert "| hums | CC0-1.0 | 1 |" in card and "1 songs, 2.0 h" in card
    assert "secret" not in card and "not validated" in card
    assert "bf16 changes of its vocals was not measured" in card and "none was held out" in card
    assert "EnCodec" not in card  # nothing of Meta's is in it
    assert "holds no run" in solovox("export", tmp_path, tmp_path / "model").output
