"""Models from the Hugging Face hub, each name held to one commit.

`owner/name` or `owner/name@v1` may mean other weights tomorrow. So the first time that a name is
used here, the commit that it stands for is noted, with the SHA-256 of the configuration (which has
that of the weights), in ~/.cache/solovox/hub. From then on the name means that commit, with and
without a network, and files that are not what they were are refused. `owner/name@COMMIT`, with 40
hexadecimal digits, is the same on every machine; another branch or tag is another name.
"""

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from urllib.parse import quote

from solovox.errors import ModelError, reason
from solovox.files import written_whole

COMMIT = re.compile(r"[0-9a-f]{40}")

log = logging.getLogger("solovox")


def pins() -> Path:
    """The folder in which commits are noted, a file a name."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "solovox" / "hub"


def fetch(name: str, revision: str | None, files: list[str], config: str) -> Path:
    """The local folder of a repository, at the commit that the name is held to.

    Args:
        name: "owner/name", or "owner/name@revision".
        revision: branch, tag or commit, if the name has none.
        files: the files to fetch; no others are.
        config: the one by whose hash the folder is known again.

    Raises:
        ModelError: if it cannot be fetched, or is not what it was.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, named = name.partition("@")
    revision = named or revision
    pin = pins() / (quote(f"{repository}@{revision or ''}", safe="") + ".json")
    commit, digest = _read(pin)
    try:
        folder = Path(
            snapshot_download(repository, revision=commit or revision, allow_patterns=files)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"cannot fetch '{repository}' from the hub: {reason(error)}") from error
    found = folder.name  # the hub's cache has a folder a commit
    asked = commit or (revision if revision and COMMIT.fullmatch(revision) else None)
    if not COMMIT.fullmatch(found) or asked not in (None, found):
        raise ModelError(f"{folder} is not commit {asked or 'of any'} of '{repository}'")
    if not (folder / config).is_file():
        raise ModelError(f"'{repository}' is no model of solovox: it has no {config}")
    there = hashlib.sha256((folder / config).read_bytes()).hexdigest()
    if digest is None:
        log.info("%s is held to commit %s (%s)", name, found, pin)
        _write(pin, {"commit": found, "sha256": there})
    elif there != digest:
        raise ModelError(f"{folder} is not what was fetched first; remove it, to fetch it again")
    return folder


def _read(pin: Path) -> tuple[str | None, str | None]:
    """(commit, SHA-256) of a pin; None twice where there is none.

    Raises:
        ModelError: if it is damaged.
    """
    try:
        noted = json.loads(pin.read_text("utf-8"))
        commit, digest = noted["commit"], noted["sha256"]
        if not COMMIT.fullmatch(commit) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError("not a commit and a hash")
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{pin} cannot be read ({error}); remove it") from error
    return commit, digest


def _write(pin: Path, noted: dict[str, str]) -> None:
    try:
        pin.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(pin) as part:
            part.write_text(json.dumps(noted) + "\n", "utf-8")
    except OSError as error:
        log.warning("%s cannot be written (%s): the name is not held to a commit", pin, error)
