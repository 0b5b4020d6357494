"""A tiny data set for every test of training."""

from pathlib import Path

import pytest
import torch
from tiny_runs import write_songs

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs to train on, two to validate on; not to be changed."""
    root = tmp_path_factory.mktemp("data")
    write_songs(root / "train", 3)
    write_songs(root / "valid", 2)
    return root
