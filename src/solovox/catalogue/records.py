"""What is known of each song, and the manifest of all.

A record is JSON: what the song is, what was made of it, and under "run" what happened to happen,
such as tries and seconds of work. The manifest is a Parquet table of the records without that,
ordered by path: it depends on songs and settings alone, not on shards, workers or accidents.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from solovox.catalogue.settings import STEMS
from solovox.catalogue.storage import Folder

MANIFEST = "manifest.parquet"
DONE = "done"
FAILED = "failed"
"""Of a song that failed for reasons which may pass; another run tries it again."""

Record = dict[str, Any]

_OF_STEM = {
    "path": "string",
    "sha256": "string",
    "bytes": "int64",
    "peak_db": "float64",
    "rms_db": "float64",
}
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("seconds", pa.float64()),
        ("sample_rate", pa.int64()),
        ("channels", pa.int64()),
        ("model", pa.string()),
        ("model_sha256", pa.string()),
        ("settings", pa.string()),
        ("seed", pa.int64()),
        ("device", pa.string()),
        *((f"{stem}_{name}", kind) for stem in STEMS for name, kind in _OF_STEM.items()),
    ]
)


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


def write_manifest(folder: Folder, shard: int, records: Iterable[Record]) -> None:
    """Write the manifest of a shard."""
    table = pa.Table.from_pylist([_row(record) for record in records], SCHEMA)
    folder.write(_manifest(shard), _bytes(table))


def merge_manifests(folder: Folder, shards: int) -> bool:
    """Write the manifest of the whole catalogue if those of all shards are there; whether so."""
    wanted = [_manifest(shard) for shard in range(shards)]
    if set(wanted) - set(folder.names("manifest")):
        return False
    tables = [pq.read_table(io.BytesIO(folder.read(name) or b"")) for name in wanted]
    folder.write(MANIFEST, _bytes(pa.concat_tables(tables)))
    return True


def _manifest(shard: int) -> str:
    return f"manifest/{shard:05d}.parquet"


def _bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table.sort_by("path"), buffer, compression="zstd")
    return buffer.getvalue()


def _row(record: Record) -> Record:
    row = {name: record.get(name) for name in SCHEMA.names}
    row["settings"] = json.dumps(record.get("settings") or {}, sort_keys=True)
    for stem, values in (record.get("stems") or {}).items():
        row |= {f"{stem}_{name}": values.get(name) for name in _OF_STEM}
    return {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}


def _text(value: str) -> str:
    """Names that are not UTF-8 with their odd bytes spelt out."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _parse(data: bytes | None) -> Record | None:
    try:
        record = json.loads(data or b"")
    except ValueError:
        return None
    return record if isinstance(record, dict) and "path" in record and "status" in record else None
