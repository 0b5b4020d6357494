"""Who works on a shard: one driver at a time, even if drivers die or start at once.

A claim is a file `claims/SHARD/NUMBER.json`; the highest number holds. Whoever finds it given back
or abandoned creates the next number, and creating a file that must not exist is all that has to
be atomic. A holder rewrites its file every `RENEW` seconds. It is abandoned if its process is gone,
which can be seen on the same host, or if nothing was rewritten during `LEASE` seconds of watching;
so no clocks are compared.

The claim also holds how often each unfinished song has been tried: a song that takes the driver
down with it is remembered.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from solovox.catalogue.storage import Folder, clear_scratch
from solovox.errors import SolovoxError

RENEW = 20.0  # s
LEASE = 300.0  # s


class Claim:
    """The right to work on a shard, until it is released.

    Attributes:
        shard: the shard.
        tries: song → how often it was begun, for those that are not finished.
    """

    def __init__(self, folder: Folder, shard: int, number: int, tries: dict[str, int]) -> None:
        self.shard, self.tries = shard, tries
        self._folder, self._number, self._count = folder, number, 0

    @property
    def name(self) -> str:
        """The claim's file."""
        return f"{_place(self.shard)}/{self._number:06d}.json"

    def create(self) -> bool:
        """Make the claim; whether nobody was faster."""
        if not self._folder.create(self.name, self._state()):
            return False
        if self._folder.names(_place(self.shard))[-1] == self.name:
            return True
        self._folder.remove(self.name)
        return False

    def save(self) -> None:
        """Rewrite the claim, which renews it.

        Raises:
            SolovoxError: if another driver has taken the shard.
        """
        if (last := self._folder.names(_place(self.shard))[-1:]) != [self.name]:
            raise SolovoxError(
                f"shard {self.shard} was taken over by another driver ({last}), as this one did "
                "not answer; what it has done is done"
            )
        self._count += 1
        self._folder.write(self.name, self._state())

    def release(self) -> None:
        """Give the shard back."""
        self._folder.write(self.name, self._state(free=True))

    def _state(self, free: bool = False) -> bytes:
        state = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": _began(os.getpid()),
            "owner": self._folder.owner,
            "count": self._count,
            "free": free,
            "tries": {song: tries for song, tries in self.tries.items() if tries},
        }
        return json.dumps(state).encode()


class Claims:
    """Takes shards; remembers what it has seen of those that others hold."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen: dict[int, tuple[bytes, float]] = {}
        self.alive: dict[int, str] = {}
        """Shard → its holder, where that has been seen to renew its claim."""

    def take(self, shard: int) -> Claim | None:
        """The claim to a shard; None while another driver holds it."""
        names = self._folder.names(_place(shard))
        tries: dict[str, int] = {}
        if names:
            data = self._folder.read(names[-1]) or b""
            state = _parse(data)
            if not self._is_over(shard, data, state):
                return None
            tries = {str(song): int(count) for song, count in state.get("tries", {}).items()}
            owner = str(state.get("owner"))
            here = not state.get("free") and state.get("host") == socket.gethostname()
            if here and owner != self._folder.owner:  # numbers are used again: that is in use now
                clear_scratch(self._folder, owner)
        number = int(Path(names[-1]).stem) + 1 if names else 0
        claim = Claim(self._folder, shard, number, tries)
        if not claim.create():
            return None
        for name in names:
            self._folder.remove(name)
        return claim

    def _is_over(self, shard: int, data: bytes, state: dict[str, Any]) -> bool:
        if state.get("free"):
            return True
        here = state.get("host") == socket.gethostname()
        if here and not _lives(state.get("process"), state.get("began")):
            return True
        before, since = self._seen.setdefault(shard, (data, time.monotonic()))
        if before != data:
            self._seen[shard] = (data, time.monotonic())
            self.alive[shard] = f"process {state.get('process')} on {state.get('host')}"
            return False
        return time.monotonic() - since > LEASE


def _place(shard: int) -> str:
    return f"claims/{shard:05d}"


def _parse(data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _lives(process: Any, began: Any) -> bool:
    """Whether that process is there, and began when it says: numbers are used again."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError, OverflowError):
        return True
    return began is None or began == _began(int(process))


def _began(process: int) -> str | None:
    """When a process began, in the system's own units; None where that cannot be seen."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return stat.rsplit(")", 1)[-1].split()[19]
