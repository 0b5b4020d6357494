"""Shards hold every song, are read as a folder is, and are pure functions of (seed, index) too."""

import gc
import json
import os
import pickle
import shutil
import tarfile
import tracemalloc
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from click.testing import CliRunner
from songs_on_disk import RATE, noise, write, write_pairs
from torch.utils.data import DataLoader

from solovox.cli.data import data
from solovox.data import shards as shards_module
from solovox.data.chunks import BROAD, NONE, ChunkConfig, TrainingChunks
from solovox.data.index import find_songs, read_pair
from solovox.data.shards import ShardChunks, ShardConfig, open_chunks, write_shards
from solovox.errors import DataError

CUT = ShardConfig(piece_seconds=1.0, pieces=4)
PLAIN = ChunkConfig(samples=1024, sample_rate=RATE, remix=0.0, augment=NONE)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "songs", songs=3, seconds=4)


@pytest.fixture
def shards(sources: Path, tmp_path: Path) -> Path:
    assert write_shards(sources, tmp_path / "out", CUT) == 3
    return tmp_path / "out"


def test_the_pieces_are_the_songs(sources: Path, shards: Path) -> None:
    whole = {song.name: read_pair(song, 0, song.frames) for song in find_songs(sources)}
    chunks = ShardChunks(shards, PLAIN)
    assert sum(song.frames for song in chunks.songs) == 3 * 4 * RATE
    for song in chunks.songs:
        name, _, start = song.name.partition("@")
        for got, all_of_it in zip(read_pair(song, 0, song.frames), whole[name], strict=True):
            expected = all_of_it[:, int(start) : int(start) + song.frames]
            np.testing.assert_allclose(got, expected, atol=2**-15)


def test_the_same_songs_make_the_same_bytes(sources: Path, shards: Path, tmp_path: Path) -> None:
    write_shards(sources, tmp_path / "again", CUT)
    for path in sorted(shards.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_stopped_run_goes_on(sources: Path, shards: Path) -> None:
    before = {path.name: path.read_bytes() for path in shards.iterdir()}
    kept = (shards / "shard-000000.tar").stat().st_mtime_ns
    for name in ("index.json", "shard-000001.json", "shard-000001.tar", "shard-000002.json"):
        (shards / name).unlink()
    (shards / ".shard-000001.tar.part").write_text("half")
    write_shards(sources, shards, CUT)
    assert {path.name: path.read_bytes() for path in shards.iterdir()} == before
    assert (shards / "shard-000000.tar").stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="of other songs or settings"):
        write_shards(sources, shards, replace(CUT, pieces=5))


def test_shards_of_songs_that_were_made_anew_are_not_taken(sources: Path, shards: Path) -> None:
    os.utime(next(sources.rglob("vocals.*")), (1, 1))
    with pytest.raises(DataError, match="of other songs or settings"):
        write_shards(sources, shards, CUT)


# webdataset leaves it to the garbage collector to close the files that it has read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_any_webdataset_pipeline_reads_them(shards: Path) -> None:
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 12 and {"json", "vocals.flac", "accompaniment.flac"} <= samples[0].keys()
    assert {json.loads(sample["json"])["song"] for sample in samples} == set("ABC")
    gc.collect()


@pytest.mark.parametrize("config", [PLAIN, replace(PLAIN, remix=0.5, augment=BROAD)])
def test_chunks_are_pure(shards: Path, config: ChunkConfig) -> None:
    first, again = ShardChunks(shards, config, seed=3), ShardChunks(shards, config, seed=3)
    places = (0, 5, first.epoch - 1, first.epoch, 3 * first.epoch + 2)
    late = {place: again[place] for place in reversed(places)}
    for place in places:
        for left, right in zip(first[place], late[place], strict=True):
            assert left.shape == (2, 1024) and torch.equal(left, right)
    other = ShardChunks(shards, config, seed=4)
    assert not torch.equal(first[0][0], other[0][0])


def test_workers_do_not_change_the_data(shards: Path) -> None:
    chunks = open_chunks(shards, replace(PLAIN, remix=0.5, augment=BROAD), seed=1)
    here = list(DataLoader(chunks, batch_size=2, sampler=range(3, 11)))
    sent = pickle.loads(pickle.dumps(chunks))  # as to a worker that is spawned, not forked
    there = list(DataLoader(sent, batch_size=2, sampler=range(3, 11), num_workers=2))
    for left, right in zip(here, there, strict=True):
        assert torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])


def test_an_epoch_visits_each_archive_once_and_each_piece_by_its_share(
    sources: Path, tmp_path: Path
) -> None:
    (sources / "weights.json").write_text('{"A": 3.0}')
    write_shards(sources, tmp_path / "out", CUT)
    chunks = ShardChunks(tmp_path / "out", PLAIN)
    assert chunks.epoch == round(12 * RATE / 1024)
    for epoch in range(3):
        firsts = [chunks.pools(epoch * chunks.epoch + i).first for i in range(chunks.epoch)]
        archives = [song.stems["vocals"][0].archive.name for song in firsts if song]
        assert sum(a != b for a, b in pairwise(archives)) == 2
        counts = Counter(song.name for song in firsts if song)
        for song in chunks.songs:
            share = chunks.epoch * song.weight / (4 * 3 + 8 * 1)
            assert abs(counts[song.name] - share) < 1
    orders = [[chunks.pools(e * chunks.epoch + i).first for i in range(20)] for e in range(2)]
    assert orders[0] != orders[1]


def test_silence_is_discarded_in_shards_too(shards: Path) -> None:
    chunks = ShardChunks(shards, replace(PLAIN, silence_keep=0.0))
    assert all(chunks[index][1].abs().max() > 0.01 for index in range(60))


def test_remixes_stay_within_the_archive(shards: Path) -> None:
    chunks = ShardChunks(shards, replace(PLAIN, remix=1.0))
    pools = chunks.pools(0)
    assert pools.first is not None and len(pools.bands) == 1
    archive = pools.first.stems["vocals"][0].archive
    songs = (*pools.voices.songs, *pools.bands[0].songs)
    assert {song.stems["vocals"][0].archive for song in songs} == {archive}


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_an_address_is_fetched_archive_by_archive(
    sources: Path, tmp_path: Path, suffix: str
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    write_shards(sources, out, replace(CUT, format=suffix))
    local = ShardChunks(out, PLAIN)
    remote = ShardChunks(f"pipe:cat {out}", PLAIN, cache=cache)
    assert [path.name for path in cache.glob("*.tar")] == []
    torch.testing.assert_close(remote[0], local[0], rtol=0, atol=0)
    assert len(list(cache.glob("*.tar"))) == 1
    shutil.rmtree(out)
    write_shards(sources, out, replace(CUT, format=suffix, pieces=5))
    remote = ShardChunks(f"pipe:cat {out}", PLAIN, cache=cache)  # drops copies of the old archives
    torch.testing.assert_close(remote[0], ShardChunks(out, PLAIN)[0], rtol=0, atol=0)
    for path in out.glob("*.tar"):
        path.rename(path.with_suffix(".moved"))
    torch.testing.assert_close(remote[0], remote[0], rtol=0, atol=0)
    with pytest.raises(DataError, match=r"shard-.*cannot be fetched"):
        for index in range(remote.epoch):
            remote.pools(index)
    assert not list(cache.glob(".*.part"))


def test_loud_pieces_are_turned_down_together(tmp_path: Path) -> None:
    vocals = write(tmp_path / "songs" / "A" / "vocals.wav", noise(0, level=0.3))
    write(tmp_path / "songs" / "A" / "accompaniment.wav", 5 * vocals)
    write_shards(tmp_path / "songs", tmp_path / "out", CUT)
    (song,) = ShardChunks(tmp_path / "out", PLAIN).songs
    got, rest = read_pair(song, 0, song.frames)
    assert np.abs(rest).max() == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(rest, 5 * got, atol=2e-4)


def test_unpaired_stems_may_lie_in_different_archives(tmp_path: Path) -> None:
    write(tmp_path / "songs" / "vocals" / "v.wav", noise(0))
    write(tmp_path / "songs" / "drums" / "d.wav", np.full((2, RATE), 0.25, np.float32))
    write_shards(tmp_path / "songs", tmp_path / "out", replace(CUT, pieces=1))
    config = replace(PLAIN, remix_db=0.0)
    chunks = ShardChunks(f"pipe:cat {tmp_path / 'out'}", config, cache=tmp_path / "cache")
    np.testing.assert_allclose(chunks.pair(0)[1], 0.25, atol=1e-4)


def test_what_cannot_be_read_is_named(sources: Path, shards: Path) -> None:
    assert type(open_chunks(sources, PLAIN)) is TrainingChunks
    for path in shards.glob("*.tar"):
        path.unlink()
    with pytest.raises(DataError, match=r"shard-00000\d\.tar: not there"):
        ShardChunks(shards, PLAIN)[0]
    (shards / "index.json").write_text("{}")
    with pytest.raises(DataError, match=r"index\.json: not an index"):
        ShardChunks(shards, PLAIN)
    (shards / "index.json").write_text('{"version": 99}')
    with pytest.raises(DataError, match=r"index\.json: of another version"):
        ShardChunks(shards, PLAIN)


def rewrite(shards: Path, **values: object) -> None:
    """Let the index say something else of its first archive's pieces, or of all."""
    index = json.loads((shards / "index.json").read_text())
    for name, value in values.items():
        for holder in (index, *index["shards"][0]["pieces"]):
            if name in holder:
                holder[name] = value
    (shards / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"sample_rate": 2**31}, "not an index"),
        ({"sample_rate": 1}, "not an index"),
        ({"frames": 2**39}, "hours are more than"),
        ({"frames": 2**24}, "shorter than"),
    ],
)
def test_an_index_that_lies_takes_no_memory(
    shards: Path, lie: dict[str, object], said: str
) -> None:
    rewrite(shards, **lie)
    tracemalloc.start()
    with pytest.raises(DataError, match=said):
        chunks = ShardChunks(shards, PLAIN)
        for place in range(chunks.epoch):
            chunks[place]
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_an_index_that_is_too_large_is_neither_written_nor_read(
    sources: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "LARGEST_INDEX", (shards / "index.json").stat().st_size - 1)
    with pytest.raises(DataError, match="too large"):
        ShardChunks(shards, PLAIN)
    with pytest.raises(DataError, match="12 pieces are too many"):
        write_shards(sources, shards.parent / "new", CUT)
    assert not (shards.parent / "new").exists()


def test_the_command_packs_a_folder(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    result = CliRunner().invoke(data, ["shard", str(sources), str(out), "--pieces", "2"])
    assert result.exit_code == 0 and "2 archives" in result.output
    with tarfile.open(out / "shard-000000.tar") as archive:
        assert len(archive.getnames()) == 6
