"""The manifest of a catalogue: a Parquet table of all records, ordered by path.

It leaves out what happened to happen, such as tries and seconds of work. So it depends on songs and
settings alone, not on shards, workers or accidents.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from solovox.catalogue.records import Record
from solovox.catalogue.settings import STEMS
from solovox.catalogue.storage import Folder

MANIFEST = "manifest.parquet"

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
    """Names that are not UTF-8 with what is odd in them spelt out."""
    return value.encode("utf-8", "backslashreplace").decode()
