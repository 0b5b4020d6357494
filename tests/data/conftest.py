"""A small data set for every test of the data package."""

from pathlib import Path

import pytest
from songs_on_disk import write_pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three songs of pairs."""
    return write_pairs(tmp_path)
