"""A real browser for tests; the fixture `browser` opens it.

SOLOVOX_SCREENSHOTS=DIR keeps pictures of each step.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SLOW = 120_000  # milliseconds: a loaded machine is no failure


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium through Playwright; the test is skipped where one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on PATH")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield running
        running.close()


def until(page: Any, condition: str, argument: Any = None) -> None:
    """Wait until a function of the page's is true."""
    page.wait_for_function(condition, arg=argument, timeout=SLOW)


def picture(page: Any, name: str) -> None:
    """Keep a picture of the page, if pictures are wanted."""
    if folder := os.environ.get("SOLOVOX_SCREENSHOTS"):
        page.wait_for_timeout(700)  # what fades has faded
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
