"""Feed damaged model folders, settings files and shard indexes to what reads them.

    python benchmarks/fuzz_settings.py [--mutations 10000] [--seed 0] [--keep FOLDER]

Nothing but the package's own one-line errors may come out, or something usable; and no file outside
of the folder may appear. In a model's `config.json`, a settings file of the studio, a run's
`run.json` and a shard index, values become huge, negative, of other types, deep or missing; names
become paths that lead out. Weights get headers that lie: shapes, types, offsets that overlap or lie
beyond the end, lengths; or are cut. The configuration always vouches for them by the right SHA-256.
The sound in a shard is damaged too, and its index then tells lies about where it is and how long.
"""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np

from solovox.errors import LONGEST, SolovoxError

VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 7, 64, 10**6, 2**31, 10**9, 2**39, 2**63, 10**30, 0.5, -0.5, 1e308,
    float("nan"), float("inf"), "", "x", "../../escaped", "/tmp/escaped", "\x00", "a\nb",
    "é" * 5000, [], [1], [10**9], [8, 8], [[]], [None], {}, {"kind": "x"}, {"a": {"b": 1}},
    "lapped", "waveform", "band-split", "diff-dmx", "ddim", "F64", "I8", "pickle",
]  # fmt: skip


@cache
def seeds() -> tuple[dict[str, Any], bytes, dict[str, Any], dict[str, Any]]:
    """A tiny model's configuration and weights, a take and a run."""
    import torch

    from solovox.checkpoint import CONFIG, WEIGHTS, save_model
    from solovox.networks.band_split import BandSplitConditionerConfig, BandSplitGeneratorConfig
    from solovox.presets import DIFF_DMX_SMALL, build_model, config_to_json
    from solovox.separator import Separator
    from solovox.takes import Settings, Take, take_to_json
    from solovox.training.config import TrainingConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"bands": 12, "widths": (8, 8), "heads": 2}
    config = replace(
        DIFF_DMX_SMALL,
        name="tiny",
        conditioner=BandSplitConditionerConfig(**shape),
        generator=BandSplitGeneratorConfig(**shape, condition_widths=(8, 8)),
    )
    model = build_model(config)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        values = json.loads((Path(folder) / CONFIG).read_text())
        weights = (Path(folder) / WEIGHTS).read_bytes()
    settings = Settings.of(Separator(model, device="cpu"), "diff-dmx-small")
    take = json.loads(json.dumps(take_to_json(Take(settings))))
    run = {"model": config_to_json(config), "training": asdict(TrainingConfig()), "data": "songs"}
    return values, weights, take, json.loads(json.dumps(run))


@cache
def shards() -> tuple[dict[str, Any], bytes]:
    """The index and the one archive of a tiny data set."""
    import soundfile

    from solovox.data.shards import ShardConfig, write_shards

    noise = np.random.default_rng(0).normal(0.0, 0.1, (4410, 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "songs" / "a").mkdir(parents=True)
        for stem in ("vocals", "accompaniment"):
            soundfile.write(folder / "songs" / "a" / f"{stem}.wav", noise, 44100)
        write_shards(folder / "songs", folder / "out", ShardConfig(piece_seconds=0.05))
        index = json.loads((folder / "out" / "index.json").read_text())
        return index, (folder / "out" / "shard-000000.tar").read_bytes()


def damaged(values: Any, rng: np.random.Generator) -> Any:
    """A copy of JSON values with one to three changes."""
    values = copy.deepcopy(values)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(values))
        holder, key = places[rng.integers(len(places))]
        value = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        change = rng.integers(8)
        if change == 0 and isinstance(holder, dict):
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[str(value)[:50]] = value
        elif change == 2 and isinstance(holder[key], list) and holder[key]:
            holder[key] *= int(rng.integers(2, 2000))
        else:
            holder[key] = value
        if not values:
            break
    return values


def _places(values: Any):
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


def text_of(values: Any, rng: np.random.Generator) -> bytes:
    text = json.dumps(values).encode()
    change = rng.integers(20)
    if change == 0:
        text = text[: rng.integers(len(text))]
    elif change == 1:
        text = b"[" * 100_000
    elif change == 2:
        at = rng.integers(len(text))
        text = text[:at] + bytes(rng.integers(0, 256, 3, np.uint8)) + text[at:]
    elif change == 3:
        text = text.replace(b": 1", b": 1" + b"0" * int(rng.integers(1, 6000)), 1)
    return text


def wrong_weights(weights: bytes, rng: np.random.Generator) -> bytes:
    (length,) = struct.unpack("<Q", weights[:8])
    header, body = json.loads(weights[8 : 8 + length]), weights[8 + length :]
    change = rng.integers(5)
    if change == 0:
        return weights[: rng.integers(len(weights))]
    if change == 1:
        return struct.pack("<Q", int(rng.choice([0, 1, 2**20, 2**31, 2**62]))) + weights[8:]
    if change == 2:
        data = bytearray(weights)
        for at in rng.integers(0, len(data), 20):
            data[at] = int(rng.integers(256))
        return bytes(data)
    text = json.dumps(damaged(header, rng)).encode()
    return struct.pack("<Q", len(text)) + text + body


def model_folder(folder: Path, rng: np.random.Generator) -> Callable[[], object]:
    from solovox.checkpoint import CONFIG, WEIGHTS, load_model
    from solovox.separator import Separator

    values, weights, *_ = seeds()
    if rng.random() < 0.4:
        weights = wrong_weights(weights, rng)
        values = {**values, "sha256": hashlib.sha256(weights).hexdigest()}
        text = json.dumps(values).encode()
    else:
        text = text_of(damaged(values, rng), rng)
    (folder / CONFIG).write_bytes(text)
    (folder / WEIGHTS).write_bytes(weights)

    def use() -> None:
        separator = Separator(load_model(folder), device="cpu")
        path = separator.path_of("song.wav", "vocals", folder / "out").resolve()
        if not path.is_relative_to((folder / "out").resolve()):
            raise RuntimeError(f"{path} leads out")

    return use


def settings_file(folder: Path, rng: np.random.Generator) -> Callable[[], object]:
    from solovox.takes import read_take

    path = folder / "take.json"
    path.write_bytes(text_of(damaged(seeds()[2], rng), rng))
    return lambda: read_take(path)


def run_folder(folder: Path, rng: np.random.Generator) -> Callable[[], object]:
    from solovox.training.run import read_run

    (folder / "run.json").write_bytes(text_of(damaged(seeds()[3], rng), rng))
    return lambda: read_run(folder)


def shard_index(folder: Path, rng: np.random.Generator) -> Callable[[], object]:
    from solovox.data.chunks import ChunkConfig
    from solovox.data.shards import ShardChunks

    store, cache = folder / "store", folder / "cache"
    store.mkdir(exist_ok=True)
    index, sounds = shards()
    if rng.random() < 0.5:
        data = bytearray(sounds[: rng.integers(1, len(sounds))] if rng.random() < 0.2 else sounds)
        for at in rng.integers(0, len(data), 50):
            data[at] = int(rng.integers(256))
        sounds = bytes(data)
    (store / "shard-000000.tar").write_bytes(sounds)
    (store / "index.json").write_bytes(text_of(damaged(index, rng), rng))
    return lambda: ShardChunks(store, ChunkConfig(samples=1 << 17), cache=cache)[0]


KINDS = {
    "model": model_folder,
    "settings": settings_file,
    "run": run_folder,
    "shards": shard_index,
}


def attempt(folder: Path, seed: int, case: int) -> str:
    """Return "read" or "refused"; anything else that happens is a crash."""
    kind = list(KINDS)[case % len(KINDS)]
    place = folder / "inside" / kind
    place.mkdir(parents=True, exist_ok=True)
    use = KINDS[kind](place, np.random.default_rng([seed, case]))
    outcome = "read"
    try:
        use()
    except SolovoxError as error:
        if not str(error).isprintable() or len(str(error)) > LONGEST:
            raise RuntimeError(f"not one line: {error}") from error
        outcome = "refused"
    if [path.name for path in folder.iterdir()] != ["inside"]:
        raise RuntimeError("a file was written outside of its folder")
    return outcome


def keep(seed: int, case: int, folder: Path) -> str:
    kind = list(KINDS)[case % len(KINDS)]
    place = folder / f"{case}-{kind}"
    place.mkdir(exist_ok=True)
    KINDS[kind](place, np.random.default_rng([seed, case]))
    return kind


if __name__ == "__main__":
    what = "model folders, settings files, runs, shard indexes"
    sys.exit(fuzzing.main(what, attempt, keep))
