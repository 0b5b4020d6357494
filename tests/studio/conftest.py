"""A studio that runs in a thread, with a model of a few thousand weights, and a client for it."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch

from solovox.audio import write_audio
from solovox.checkpoint import save_model
from solovox.networks.band_split import BandSplitConditionerConfig, BandSplitGeneratorConfig
from solovox.presets import DIFF_DMX_SMALL, build_model
from solovox.studio.server import Studio

RATE = 44_100
SLOW = 60.0  # seconds: a loaded machine is no failure


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that is quick, and whose vocals depend on the seed."""
    sizes: dict[str, Any] = {"bands": 20, "widths": (8, 16), "heads": 2}
    config = replace(
        DIFF_DMX_SMALL,
        name="tiny",
        chunk=32_768,
        conditioner=BandSplitConditionerConfig(**sizes),
        generator=BandSplitGeneratorConfig(**sizes, condition_widths=(8, 16)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return str(save_model(build_model(config), tmp_path_factory.mktemp("models") / "tiny"))


def make_song(path: Path, seconds: float = 2.0, seed: int = 0, channels: int = 2) -> Path:
    noise = np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE)))
    time = np.arange(noise.shape[1]) / RATE
    tone = np.sin(2 * np.pi * 220 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * time))
    write_audio(path, (0.05 * noise + 0.3 * tone).astype(np.float32), RATE)
    return path


class Client:
    """Asks a studio; answers are (status, value)."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.headers: dict[str, str] = {}

    def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.studio.port, timeout=SLOW)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        if isinstance(body, dict):
            body = json.dumps(body)
            headers = {"Content-Type": "application/json", **headers}
        status, text, _ = self.raw(method, path, body, headers)
        return status, json.loads(text) if text else None

    def upload(self, file: Path, **query: Any) -> dict[str, Any]:
        asked = urlencode({"name": file.name, **query})
        status, song = self.ask("POST", f"/api/songs?{asked}", file.read_bytes())
        assert status == 201, song
        return song

    def song(self, song: str) -> dict[str, Any]:
        status, state = self.ask("GET", f"/api/songs/{song}")
        assert status == 200
        return state

    def until(
        self, song: str, *statuses: str, take: int = -1, within: float = SLOW
    ) -> dict[str, Any]:
        """The song, once its last take (or another) has one of some states."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            state = self.song(song)
            if state["takes"] and state["takes"][take]["status"] in statuses:
                return state
            time.sleep(0.05)
        raise AssertionError(f"not {statuses}: {state['takes']}")

    def separated(self, file: Path, **query: Any) -> dict[str, Any]:
        return self.until(self.upload(file, **query)["id"], "done")


@pytest.fixture
def start(tiny: str, tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Start a studio, by default in one folder, with the tiny model; it is stopped at the end."""
    running: list[tuple[Studio, threading.Thread]] = []

    def starting(**settings: Any) -> Client:
        given = os.environ.get("SOLOVOX_MODELS")  # for pictures: the models that ship
        models = [tiny] if given is None else given.split()
        settings = {"models": models, "threads": torch.get_num_threads(), **settings}
        studio = Studio(settings.pop("work", tmp_path / "work"), **settings)
        thread = threading.Thread(target=studio.run, daemon=True)
        thread.start()
        running.append((studio, thread))
        client = Client(studio)
        if studio.token:
            client.headers["Authorization"] = f"Bearer {studio.token}"
        end = time.monotonic() + SLOW
        while time.monotonic() < end:
            try:
                if client.raw("GET", "/api/studio")[0] == 200:
                    return client
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the studio does not answer")

    yield starting
    for studio, _ in running:
        studio.stop()
    for _, thread in running:
        thread.join(SLOW)
        assert not thread.is_alive()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_song(tmp_path / "song.wav")
