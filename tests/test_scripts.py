"""Benchmarks and recipes are commands: each says how it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ("benchmarks/latent_models.py", "recipes/ldm-dmx-small/start.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_how_it_is_used(script: str) -> None:
    command = [sys.executable, str(ROOT / script), "--help"]
    given = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")
