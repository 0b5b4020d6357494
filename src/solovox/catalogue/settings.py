"""What decides the bytes of a catalogue. It is fixed when the first worker has loaded the model.

From then on `catalogue.json` in the output folder says it: a run that gives nothing goes on with
that, and one that gives something else is refused, so that a slip never mixes two catalogues.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from solovox.catalogue.storage import MARK, Folder
from solovox.errors import SolovoxError

VERSION = 1
STEMS = ("vocals", "accompaniment")
BOTH = "both"
MODEL = "diff-dmx-small"


@dataclass(frozen=True)
class Settings:
    """Settings of a catalogue; None is what has not been said.

    Attributes:
        shards: into how many parts the songs are divided.
        threads: CPU threads of each worker; another number changes last bits.
        write: "vocals", "accompaniment" or "both".
        extension: "wav", "flac", "mp3" or "ogg".
        subtype: "float", "pcm24" or "pcm16".
        gain: of the stems, in dB.

    The others are those of `Separator`.
    """

    shards: int | None = None
    threads: int | None = None
    write: str | None = None
    extension: str | None = None
    subtype: str | None = None
    gain: float | None = None
    steps: int | None = None
    start: float | None = None
    eta: float | None = None
    cutoff: float | str | None = None
    sampler: str | None = None
    spacing: str | None = None
    takes: int | None = None
    seed: int | None = None
    stems: str | None = None
    precision: str | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """The stems that are written."""
        return STEMS if self.write in (None, BOTH) else (str(self.write),)


DEFAULTS = Settings(
    shards=1,
    threads=1,
    write=BOTH,
    extension="wav",
    gain=0.0,
    seed=0,
    precision="auto",
)
"""What holds if nothing is said; the rest is as the model and the format are."""


@dataclass(frozen=True)
class Job:
    """All that a worker has to know.

    Attributes:
        source: address of the folder of songs.
        target: address of the output folder.
        model: as the user named it.
        device: where to compute; it may differ between workers.
        settings: of the catalogue.
        identity: {"name", "sha256", "config"} of the model that the catalogue was begun with; empty
            if this is the first run.
    """

    source: str
    target: str
    model: str = MODEL
    device: str = "auto"
    settings: Settings = DEFAULTS
    identity: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a worker in another process."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """The job that JSON values describe."""
        return cls(**{**values, "settings": Settings(**values["settings"])})


def plan_job(source: str, target: Folder, model: str | None, device: str, given: Settings) -> Job:
    """The job: what is recorded in the output folder, or what is given and the defaults.

    Raises:
        SolovoxError: if something else is given than is recorded.
    """
    values = _read(target)
    if values is None:
        settings = _over(DEFAULTS, given)
        return Job(source, target.url, model or MODEL, device, settings)
    settings = Settings(**values["settings"])
    for name, value in _said(given).items():
        if value != (begun := getattr(settings, name)):
            raise SolovoxError(
                f"{target.url} was begun with {name} {begun}, not {value}; leave it out, "
                "or choose another output folder"
            )
    identity = dict(values["model"])
    named = identity.pop("given")
    return Job(source, target.url, model or named, device, settings, identity)


def fix_job(target: Folder, job: Job, settings: dict[str, Any], identity: dict[str, str]) -> Job:
    """The job as a worker understood it, recorded in the output folder by the first that does so.

    Raises:
        SolovoxError: if another run has recorded something else in the meantime.
    """
    fixed = replace(job, settings=Settings(**settings), identity=identity)
    values = {
        "version": VERSION,
        "model": {"given": job.model, **identity},
        "settings": asdict(fixed.settings),
    }
    if not target.create(MARK, json.dumps(values, indent=2).encode() + b"\n"):
        begun = plan_job(job.source, target, job.model, job.device, fixed.settings)
        check_identity(target.url, begun.identity, identity)
    return fixed


def check_identity(url: str, begun: dict[str, str], now: dict[str, str]) -> None:
    """Raise a SolovoxError if a catalogue was begun with another model."""
    if begun and begun != now:
        raise SolovoxError(
            f"{url} was begun with the model {begun['name']} of SHA-256 {begun['sha256'][:12]}…, "
            f"this is {now['name']} of {now['sha256'][:12]}…, or its settings differ; name that "
            "one, or choose another output folder"
        )


def identify(config: bytes) -> dict[str, str]:
    """What tells models apart: name and hashes of the weights and of a `config.json`."""
    values = json.loads(config)
    return {
        "name": str(values["name"]),
        "sha256": str(values["sha256"]),
        "config": hashlib.sha256(config).hexdigest(),
    }


def _read(target: Folder) -> dict[str, Any] | None:
    data = target.read(MARK)
    if data is None:
        return None
    try:
        values: dict[str, Any] = json.loads(data)
        known = {f.name for f in fields(Settings)}
        if values["version"] != VERSION or values["settings"].keys() - known:
            raise ValueError("of another version")
        if not values["model"].keys() >= {"given", "name", "sha256", "config"}:
            raise ValueError("it names no model")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SolovoxError(
            f"{target.path(MARK)} is not of this version of solovox ({error}); "
            "choose another output folder"
        ) from error
    return values


def _over(below: Settings, above: Settings) -> Settings:
    return replace(below, **_said(above))


def _said(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if value is not None}
