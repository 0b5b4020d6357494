import io

import pyarrow.parquet as pq
import pytest

from solovox.catalogue.manifest import MANIFEST, merge_manifests, write_manifest
from solovox.catalogue.records import read_record, read_records, write_record
from solovox.catalogue.storage import Folder


def record(path, shard=0, **values):
    stems = {"vocals": {"path": f"stems/{path}/vocals.wav", "peak_db": -3.0, "rms_db": None}}
    settings = {"steps": 2, "seed": 5}
    return {
        "path": path, "shard": shard, "status": "done", "seed": 5, "seconds": 2.5,
        "settings": settings, "stems": stems, "run": {"tries": 1}, **values,
    }  # fmt: skip


@pytest.fixture
def out(tmp_path) -> Folder:
    return Folder(str(tmp_path))


def manifest(out, shards, records):
    for shard in range(shards):
        write_manifest(out, shard, [r for i, r in enumerate(records) if i % shards == shard])
    assert merge_manifests(out, shards)
    return out.read(MANIFEST)


def test_records_come_back(out):
    write_record(out, 2, "key", record("a.wav", 2))
    out.write("records/00002/broken.json", b"{")
    assert read_record(out, 2, "key") == record("a.wav", 2)
    assert read_record(out, 2, "nothing") is None
    assert read_records(out, 2) == {"a.wav": record("a.wav", 2)}
    assert read_records(out, 3) == {}


def test_the_manifest_depends_on_songs_alone(out):
    records = [record(f"{number}.wav") for number in range(9)]
    one = manifest(out, 1, records)
    others = [record(f"{number}.wav", run={"tries": 7}) for number in reversed(range(9))]
    assert manifest(out, 4, others) == one


def test_the_manifest_waits_for_all_shards(out):
    write_manifest(out, 0, [record("a.wav")])
    assert not merge_manifests(out, 2)
    write_manifest(out, 1, [])
    assert merge_manifests(out, 2)


def test_rows(out):
    failed = {"path": "z\udcff.wav", "status": "unreadable", "error": "is empty", "bytes": 0}
    data = manifest(out, 1, [failed, record("a.wav")])
    done, aside = pq.read_table(io.BytesIO(data)).to_pylist()
    assert done["vocals_path"] == "stems/a.wav/vocals.wav"
    assert (done["vocals_peak_db"], done["vocals_rms_db"]) == (-3.0, None)
    assert done["settings"] == '{"seed": 5, "steps": 2}'
    assert (aside["path"], aside["status"]) == (r"z\udcff.wav", "unreadable")
