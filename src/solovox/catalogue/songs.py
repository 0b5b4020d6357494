"""Which songs there are, and to which shard each belongs.

The shard is a hash of the song's name below the input folder: it depends on nothing else, so that
processes which never speak to each other agree on it, and songs that are added move no others.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

from solovox.catalogue.storage import Folder
from solovox.names import below
from solovox.suffixes import SUFFIXES


@dataclass(frozen=True, slots=True)
class Song:
    """A file of the input folder, and the folder of its stems below `stems/`."""

    path: str
    bytes: int
    track: str

    @property
    def key(self) -> str:
        """The name of its record."""
        return _hash(self.path)[:32]

    def stem(self, stem: str, extension: str) -> str:
        """The file of a stem, below the output folder."""
        return f"stems/{self.track}/{stem}.{extension}"


def shard_of(path: str, shards: int) -> int:
    """The shard, 0 to `shards` - 1, of the song of that name."""
    return int(_hash(path)[:16], 16) % shards


def find_songs(
    folder: Folder,
    shards: int,
    wanted: Collection[int],
    check: Callable[[], None] = lambda: None,
    leave_out: Folder | None = None,
) -> dict[int, list[Song]]:
    """The songs of some shards, in the order of their names.

    Args:
        folder: the input.
        shards: how many there are in all.
        wanted: those to return.
        check: called with each file; what it raises stops the search.
        leave_out: a folder that is no input, if it lies in this one.
    """
    found: dict[int, list[tuple[str, int]]] = {shard: [] for shard in wanted}
    alike: defaultdict[int, int] = defaultdict(int)
    for path, size in folder.walk(leave_out):
        check()
        if not path.lower().endswith(SUFFIXES):
            continue
        alike[_folded(path)] += 1
        shard = shard_of(path, shards)
        if shard in found:
            found[shard].append((path, size))
    return {
        shard: [
            Song(path, size, _track(path, alike[_folded(path)] > 1)) for path, size in sorted(files)
        ]
        for shard, files in found.items()
    }


def _track(path: str, doubtful: bool) -> str:
    """The folder of a song's stems: its own name, suffix and all, so that no two songs share it.

    Names that some file systems take for the same get their hash as well. So do names that no file
    system takes, or that would lead elsewhere, as an object store may have them.
    """
    safe = below(path)
    return f"{safe} ({_hash(path)[:8]})" if doubtful or safe != path else safe


def _folded(path: str) -> int:
    return hash(unicodedata.normalize("NFC", path).casefold())


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
