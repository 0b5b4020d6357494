"""Two processes train as one does: each takes half of every batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import log_of, tiny_run, train

from solovox.errors import SolovoxError
from solovox.presets import build_model
from solovox.training.batches import Steps
from solovox.training.config import Stage

STAGES = (Stage(2, ("generator",)), Stage(4, ("conditioner",)), Stage())
TWO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from lightning.fabric import Fabric
from test_processes import run_of
from tiny_runs import train

def work(fabric):
    train(run_of(Path(sys.argv[2])), Path(sys.argv[3]), fabric=fabric)

if __name__ == "__main__":
    Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(work)
"""


def run_of(songs: Path):
    return tiny_run(songs, max_steps=6, accumulate=2, stages=STAGES, log_every=1)


def test_two_processes_are_one(songs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO, str(Path(__file__).parent), str(songs)]
    subprocess.run([*command, str(tmp_path / "two")], check=True, timeout=600)
    run = run_of(songs)
    train(run, tmp_path / "one")
    for one, two in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert one.pop("songs", {}).keys() == two.pop("songs", {}).keys()
        assert one == pytest.approx(two, rel=1e-3)
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    torch.manual_seed(run.training.seed)
    apart = moved = 0.0
    for name, fresh in build_model(run.model).state_dict().items():
        apart += float((one[f"model.{name}"] - two[f"model.{name}"]).square().sum())
        moved += float((one[f"model.{name}"] - fresh).square().sum())
    assert moved > 0 and apart < 1e-6 * moved


def test_processes_share_each_batch(songs: Path) -> None:
    chunks = []  # not read here
    parts = [Steps(chunks, 12, (2, 8), rank, 3) for rank in range(3)]  # type: ignore[arg-type]
    assert [index for part in parts for index in part.indices(5)] == list(range(60, 72))
    with pytest.raises(SolovoxError, match="12 does not divide into 5 processes"):
        Steps(chunks, 12, (2, 8), 0, 5)  # type: ignore[arg-type]
