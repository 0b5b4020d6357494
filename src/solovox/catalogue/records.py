"""What is known of each song: a record in JSON, which makes it done or set aside.

It tells what the song is, what was made of it, and under "run" what happened to happen, such as
tries and seconds of work.
"""

from __future__ import annotations

import json
from typing import Any

from solovox.catalogue.storage import Folder

DONE = "done"
FAILED = "failed"
"""Of a song that failed for reasons which may pass; another run tries it again."""

Record = dict[str, Any]


def record_name(shard: int, key: str) -> str:
    """The file of a song's record."""
    return f"records/{shard:05d}/{key}.json"


def write_record(folder: Folder, shard: int, key: str, record: Record) -> None:
    """Write a song's record, which makes it done or set aside."""
    folder.write(record_name(shard, key), json.dumps(record, indent=1).encode() + b"\n")


def read_record(folder: Folder, shard: int, key: str) -> Record | None:
    """A song's record; None if there is none that can be read."""
    return _parse(folder.read(record_name(shard, key)))


def read_records(folder: Folder, shard: int) -> dict[str, Record]:
    """Path → record of a shard."""
    names = folder.names(f"records/{shard:05d}")
    found = filter(None, map(_parse, folder.read_many(names)))
    return {record["path"]: record for record in found}


def _parse(data: bytes | None) -> Record | None:
    try:
        record = json.loads(data or b"")
    except ValueError:
        return None
    return record if isinstance(record, dict) and "path" in record and "status" in record else None
