"""What can be evaluated, behind one interface: models, folders of estimates, oracles, peers.

    diff-dmx-small, ./my-model        a model: a name, a folder or a hub id
    ./estimates                       a folder with SONG/vocals.wav, as separators write them
    oracle:irm                        an oracle (mixture, silence, irm, wiener)
    peer:spleeter                     another separator (spleeter, repet, hpss)

A system is a small frozen value that travels to worker processes; `open()` there loads what it
needs, once, and returns what separates one song after the other.
"""

# ruff: noqa: D102 (the methods of a system are documented once, in `System`)

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from solovox.data.index import Song
from solovox.errors import DataError, SolovoxError, reason
from solovox.evaluation.oracles import ORACLES, Audio, Stems
from solovox.evaluation.peers import PEERS, command, find_stems, package_version

Settings = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Material:
    """One song, or the part of it that is evaluated.

    Attributes:
        song: where it was read from.
        start: first sample of the part.
        mixture: what systems hear, [2, samples].
        vocals: true stem, [2, samples].
        accompaniment: true stem, [2, samples].
    """

    song: Song
    start: int
    mixture: Audio
    vocals: Audio
    accompaniment: Audio


SeparateSong = Callable[[Material, int], Stems]
"""(material, seed) -> {"vocals", "accompaniment"}, each [2, samples]."""

CODE = (
    "*.py",
    "codecs/*.py",
    "diffusion/*.py",
    "networks/*.py",
    "data/index.py",
    *(f"evaluation/{name}.py" for name in ("benchmark", "bss", "metrics", "oracles", "peers")),
    *(f"evaluation/{name}.py" for name in ("spectra", "speech", "systems")),
)
"""Where stems and scores come from, below the package."""


class System(ABC):
    """Something to evaluate."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables and folders call it."""

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """What its output depends on, for the record."""

    @property
    def random(self) -> bool:
        """Whether another seed gives other stems; what is not random is run once."""
        return False

    @property
    def runs(self) -> int:
        """How many runs are due where the user does not say: one if a second gives the same."""
        return 1

    def version(self, song: Song) -> str:
        """Return a text that changes with the files on which this song's output depends."""
        return ""

    def check(self, songs: Sequence[Song]) -> dict[str, str]:
        """Return what makes songs unusable, by song name."""
        return {}

    @abstractmethod
    def open(self) -> SeparateSong:
        """Load what it takes and return what separates songs."""


@lru_cache
def code_digest() -> str:
    """Return a hash of the code that stems and scores come from."""
    package = Path(__file__).parents[1]
    files = sorted(path for pattern in CODE for path in package.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@dataclass(frozen=True)
class OracleSystem(System):
    """An oracle by its name in `oracles.ORACLES`."""

    oracle: str

    @property
    def name(self) -> str:
        return f"oracle:{self.oracle}"

    @property
    def settings(self) -> Settings:
        return {"oracle": self.oracle}

    def open(self) -> SeparateSong:
        make = ORACLES[self.oracle]

        def separate(m: Material, seed: int) -> Stems:
            return make(m.vocals, m.accompaniment)(m.mixture, m.song.sample_rate)

        return separate


@dataclass(frozen=True)
class PeerSystem(System):
    """A peer by its name in `peers.PEERS`, or a command.

    Attributes:
        peer: the name, or the command with {input} and {output}.
        title: what to call a command in tables, after `peer:`; None takes its program's name.
    """

    peer: str
    title: str | None = None

    @property
    def name(self) -> str:
        return f"peer:{self.title or Path(self.peer.split()[0]).name}"

    @property
    def settings(self) -> Settings:
        return {"peer": self.peer}

    def version(self, song: Song) -> str:
        if self.peer in PEERS:
            return package_version(self.peer)
        # The program that is called; what it loads itself cannot be known.
        program = shutil.which(shlex.split(self.peer)[0])
        return digest(Path(program)) if program else ""

    def open(self) -> SeparateSong:
        run = PEERS[self.peer]() if self.peer in PEERS else command(self.peer)

        def separate(m: Material, seed: int) -> Stems:
            try:
                return run(m.mixture, m.song.sample_rate)
            except SolovoxError:
                raise
            except Exception as error:  # a library's own, of any kind: the other songs go on
                kind = type(error).__name__
                raise SolovoxError(f"{self.name}: {kind}: {reason(error)}") from error

        return separate


@dataclass(frozen=True)
class EstimatesSystem(System):
    """A folder of stems that were separated before: SONG/vocals.* and, if there, accompaniment.*.

    The accompaniment is the mixture less the vocals where no file holds it.
    """

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def settings(self) -> Settings:
        return {"estimates": str(self.folder)}

    def version(self, song: Song) -> str:
        return " ".join(digest(path) for path in self._files(song).values())

    def check(self, songs: Sequence[Song]) -> dict[str, str]:
        from solovox.audio import probe

        problems = {}
        for song in songs:
            try:
                for path in self._files(song).values():
                    info = probe(path)
                    _same(path, info.sample_rate, info.frames, song)
            except SolovoxError as error:
                problems[song.name] = str(error)
        return problems

    def open(self) -> SeparateSong:
        from solovox.audio import read_audio

        def separate(m: Material, seed: int) -> Stems:
            stems = {}
            for name, path in self._files(m.song).items():
                audio, rate = read_audio(path)
                _same(path, rate, audio.shape[1], m.song)
                audio = audio[:, m.start : m.start + m.mixture.shape[1]]
                stems[name] = audio if len(audio) == 2 else np.repeat(audio, 2, axis=0)
            stems.setdefault("accompaniment", m.mixture - stems["vocals"])
            return stems

        return separate

    def _files(self, song: Song) -> dict[str, Path]:
        # A separator knows a song by its folder or file name, not by its place in the data set.
        for name in dict.fromkeys((song.name, Path(song.name).name, _title(song.name))):
            folder = self.folder / name
            if folder.is_dir():
                found = find_stems(folder)
                if len(found["vocals"]) == 1 and len(found["accompaniment"]) < 2:
                    return {stem: paths[0] for stem, paths in found.items() if paths}
                raise DataError(
                    f"{folder}: {len(found['vocals'])} vocals files and "
                    f"{len(found['accompaniment'])} of accompaniment; keep one of each"
                )
        raise DataError(f"{self.folder / song.name}: no such folder of estimates")


@dataclass(frozen=True)
class Sampling:
    """How a model is to separate; None leaves it to the model.

    Attributes:
        steps: passes of the generator; 0 is the conditioner's own estimate.
        start: t at which sampling starts.
        eta: share of refinement noise.
        cutoff: of the refinement noise's high-pass, in Hz, or the name of a band.
        sampler: a name of `diffusion.sampling.SAMPLERS`.
        stems: a name of `solovox.stems.RULES`.
        spacing: of the steps, a name of `diffusion.schedule.SPACINGS`.
        takes: how often each chunk is sampled; the output is the mean.
        quality: "fast", "balanced" or "best", which the others overrule.

    Names and meanings are those of `solovox.Separator`'s arguments.
    """

    steps: int | None = None
    start: float | None = None
    eta: float | None = None
    cutoff: float | str | None = None
    sampler: str | None = None
    stems: str | None = None
    spacing: str | None = None
    takes: int | None = None
    quality: str | None = None

    def given(self) -> Settings:
        """Return what was said, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class ModelSystem(System):
    """A model by name, folder or hub id, with its sampling settings."""

    model: str
    sampling: Sampling = Sampling()
    device: str = "auto"

    @property
    def name(self) -> str:
        folder = Path(self.model)
        title = folder.resolve().name if folder.is_dir() else self.model
        return " ".join(
            [title, *(f"{name}={value}" for name, value in self.sampling.given().items())]
        )

    @property
    def settings(self) -> Settings:
        config = self._config()
        defaults: Settings = config.get("qualities", {}).get(
            self.sampling.quality, config.get("sampling", {})
        )
        return {"model": self.model, "device": self.device, **defaults, **self.sampling.given()}

    @property
    def random(self) -> bool:
        return self.settings.get("steps") != 0  # 0 is the conditioner's own estimate

    @property
    def runs(self) -> int:
        # Refinement noise makes runs differ; without it they differ by the first noise alone.
        return 5 if self.random and self.settings.get("eta") else 1

    def version(self, song: Song) -> str:
        # The configuration holds a digest of the weights.
        config = self._config()
        facts = [config, *_arithmetic(self.device, config.get("precision", "auto"))]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def open(self) -> SeparateSong:
        from solovox.separator import Separator

        given: dict[str, Any] = dict(self.sampling.given())
        separator = Separator(self.model, device=self.device, **given)

        def separate(m: Material, seed: int) -> Stems:
            separator.seed = seed
            return separator.separate(m.mixture, m.song.sample_rate)

        return separate

    def _config(self) -> dict[str, Any]:
        from solovox.checkpoint import CONFIG, find_model

        config: dict[str, Any] = json.loads((find_model(self.model) / CONFIG).read_text("utf-8"))
        return config


@lru_cache  # one warning of a device that is not there, not one a song
def _arithmetic(device: str, precision: str) -> tuple[str, str, str]:
    """Return what last bits depend on: torch, the kind of device, what it computes in."""
    import torch

    from solovox.precision import resolve
    from solovox.separator import find_device

    found = find_device(device)
    return torch.__version__, found.type, resolve(found, precision)


def find_system(text: str, sampling: Sampling | None = None, device: str = "auto") -> System:
    """Return the system that a word of the command line names.

    Args:
        text: a model, a folder of estimates, oracle:NAME or peer:NAME.
        sampling: for a model.
        device: for a model.

    Raises:
        SolovoxError: no oracle or peer of that name.
    """
    kind, colon, name = text.partition(":")
    tables: Mapping[str, tuple[Mapping[str, object], Callable[[str], System]]] = {
        "oracle": (ORACLES, OracleSystem),
        "peer": (PEERS, PeerSystem),
    }
    if colon and kind in tables:
        known, make = tables[kind]
        if name not in known:
            raise SolovoxError(f"there is no {kind} {name!r}; there are {', '.join(known)}")
        return make(name)
    if Path(text).is_dir() and not (Path(text) / "config.json").is_file():
        return EstimatesSystem(Path(text))
    return ModelSystem(text, sampling or Sampling(), device)


def find_peer(text: str) -> PeerSystem:
    """Return the system that a --peer of the command line names.

    Args:
        text: a command with {input} and {output}; before it there may be "NAME: ", what to call it.
            A program's name does not end in a colon.
    """
    named = re.fullmatch(r"\s*([^\s:{}]+):\s+(.+)", text, re.DOTALL)
    return PeerSystem(named[2], named[1]) if named else PeerSystem(text)


def slug(name: str) -> str:
    """Return a system's name as a folder's name."""
    return re.sub(r"[^\w.=+-]+", "-", name).strip("-.") or "system"


def _title(name: str) -> str:
    return Path(name).name.removesuffix(".stem.mp4")


def digest(path: Path) -> str:
    """Return a digest of what is in a file; it is read once, until the file is written anew."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, changed: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()[:24]


def _same(path: Path, rate: int, frames: int | None, song: Song) -> None:
    if rate != song.sample_rate:
        raise DataError(f"{path}: {rate} Hz, but the song has {song.sample_rate} Hz")
    if frames is not None and frames != song.frames:
        raise DataError(f"{path}: {frames} samples, but the song has {song.frames}")
