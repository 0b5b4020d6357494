"""Commands that compute for long keep their memory; the library leaves it to the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from solovox import Separator, allocation, write_audio
from solovox.cli import main

COMMANDS = [
    "separate song.wav -n missing",
    "refine song.wav --vocals song.wav -n missing",
    "evaluate missing --data .",
    "ablate missing --data .",
    "study steps --songs missing",
    "study injection --data . --songs missing",
    "catalogue . out --engine inline -n missing",
    "studio --work songs -n missing",
]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    calls: list[bool] = []
    monkeypatch.setattr(allocation, "keep_memory", lambda: calls.append(True))
    return calls


@pytest.mark.parametrize("command", COMMANDS)
def test_long_work_keeps_its_memory(
    command: str, kept: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio("song.wav", np.zeros((2, 800), np.float32), 8000)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code != 0  # nothing of that name is there
    assert kept == [True]


def test_the_library_leaves_the_process_alone(kept: list[bool], oracle) -> None:
    Separator(oracle()).separate(np.ones((2, 800), np.float32), 8000)
    assert not kept
