"""A run that was killed and resumed is the run that was not, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import BANDS, WAVES, assert_same_state, log_of, tiny_run, train

from solovox.presets import ModelConfig
from solovox.training.config import Stage
from solovox.training.loop import Trainer

STAGES = (Stage(3, ("generator",)), Stage(5, ("conditioner",)), Stage())


class Killed(Exception):
    """Stands for SIGKILL: nothing is done after it."""


def kill_after(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take = trainer._train

    def take_or_die(*args: Any) -> bool:
        if trainer.step == step:
            raise Killed
        return take(*args)

    monkeypatch.setattr(trainer, "_train", take_or_die)


@pytest.mark.parametrize("model", [BANDS, WAVES], ids=lambda model: model.name)
def test_killed_at_any_step_and_resumed_is_uninterrupted(
    songs: Path, tmp_path: Path, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(songs, model, stages=STAGES)
    train(run, tmp_path / "whole")
    for step in range(1, 8):
        trainer = Trainer(run, tmp_path / "cut", workers=0)
        trainer.resume()
        kill_after(trainer, step, monkeypatch)
        with pytest.raises(Killed):
            trainer.run()
    train(run, tmp_path / "cut")
    for name in ("last.safetensors", "best.safetensors"):
        assert_same_state(tmp_path / "whole" / name, tmp_path / "cut" / name)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "cut")


def test_validation_that_was_killed_is_made_up_for(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(songs)
    train(run, tmp_path / "whole")
    trainer = Trainer(run, tmp_path / "cut", workers=0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("solovox.training.loop.validate", lambda *_: (_ for _ in ()).throw(Killed))
        trainer.run()
    assert trainer.step == 4
    resumed = train(run, tmp_path / "cut")
    assert list(resumed.scores) == [4, 8]
    assert_same_state(tmp_path / "whole/best.safetensors", tmp_path / "cut/best.safetensors")
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "cut")


def test_scores_on_other_songs_are_no_measure(songs: Path, tmp_path: Path) -> None:
    run = tiny_run(songs)
    train(run, tmp_path / "run")
    other = shutil.copytree(songs / "valid", tmp_path / "valid")
    first = next(path for path in other.iterdir() if path.is_dir())
    first.rename(other / "another")
    trainer = Trainer(replace(run, valid=str(other)), tmp_path / "run", workers=0)
    trainer.resume()
    assert trainer.scores == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_after_its_step_and_saves(
    songs: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(songs)
    handler = signal.getsignal(number)
    trainer = Trainer(run, tmp_path / "cut", workers=1)
    take = trainer._train

    def take_and_stop(*args: Any) -> bool:
        if trainer.step == 1:
            os.kill(os.getpid(), number)
        return take(*args)

    monkeypatch.setattr(trainer, "_train", take_and_stop)
    assert not trainer.run()
    assert trainer.step == 2
    assert signal.getsignal(number) is handler
    assert train(run, tmp_path / "cut").step == 8
    train(run, tmp_path / "whole")
    assert_same_state(tmp_path / "whole/last.safetensors", tmp_path / "cut/last.safetensors")


def test_second_signal_stops_at_once(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_run(songs), tmp_path / "cut", workers=0)

    def press_twice(index: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(trainer.steps.chunks, "pools", press_twice)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.step == 0


KILLER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from tiny_runs import tiny_run, train
from safetensors import torch as safetensors

out = Path(sys.argv[3])
run = tiny_run(Path(sys.argv[2]), max_steps=20, log_every=1, save_every=3, validate_every=10)

def write_half(tensors, path, metadata):
    path.write_bytes(b"half of a checkpoint")
    if metadata["step"] == "12":
        os.kill(os.getpid(), signal.SIGKILL)
    write(tensors, path, metadata)

write = safetensors.save_file
for moment in ("some time", "while it writes"):
    child = os.fork()
    if child == 0:
        if moment == "while it writes":
            safetensors.save_file = write_half
        train(run, out, workers=1)
        os._exit(1)
    log = out / "log.jsonl"
    while moment == "some time" and (not log.exists() or len(log.read_text().splitlines()) < 5):
        time.sleep(0.01)
    if moment == "some time":
        os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
train(run, out, workers=1)
"""


def test_killed_by_the_system_and_resumed_is_uninterrupted(songs: Path, tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLER, here, str(songs), str(tmp_path / "cut")]
    subprocess.run(command, check=True, timeout=600)
    run = tiny_run(songs, max_steps=20, log_every=1, save_every=3, validate_every=10)
    train(run, tmp_path / "whole")
    for name in ("last.safetensors", "best.safetensors"):
        assert_same_state(tmp_path / "whole" / name, tmp_path / "cut" / name)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "cut")
