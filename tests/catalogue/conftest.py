"""A tiny model on disk, songs of a few tenths of a second, and the benchmark that makes faults."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def faults():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import catalogue_faults
    finally:
        sys.path.remove(str(BENCHMARKS))
    return catalogue_faults


@pytest.fixture(scope="session")
def tiny(faults, tmp_path_factory) -> str:
    return str(faults.make_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def songs(faults, tmp_path) -> Path:
    faults.make_songs(tmp_path / "songs", 6)
    return tmp_path / "songs"
