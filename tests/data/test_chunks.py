"""Chunks are a pure function of (seed, index), follow the silence rule and add up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from songs_on_disk import RATE, noise, write
from torch.utils.data import DataLoader

from solovox.data import augment
from solovox.data.chunks import (
    BROAD,
    NONE,
    PAPER,
    ChunkConfig,
    Pools,
    TrainingChunks,
    augment_pair,
    is_silent,
    whole_songs,
)
from solovox.data.index import find_songs, read_pair, read_stem
from solovox.errors import DataError

PLAIN = ChunkConfig(samples=1024, sample_rate=RATE, remix=0.0, augment=NONE)


@pytest.mark.parametrize("settings", [NONE, PAPER, BROAD])
def test_same_seed_and_index_same_bytes(pairs: Path, settings: object) -> None:
    config = replace(PLAIN, remix=0.5, augment=settings)
    first, again = TrainingChunks(pairs, config, seed=7), TrainingChunks(pairs, config, seed=7)
    backwards = {index: again[index] for index in reversed(range(12))}
    for index in range(12):
        for left, right in zip(first[index], backwards[index], strict=True):
            assert left.shape == (2, 1024) and left.dtype == torch.float32
            assert torch.equal(left, right)
    other = TrainingChunks(pairs, config, seed=8)
    assert not any(torch.equal(first[index][0], other[index][0]) for index in range(12))
    assert len({first[index][0].numpy().tobytes() for index in range(12)}) == 12


def test_workers_and_threads_do_not_change_the_data(pairs: Path) -> None:
    chunks = TrainingChunks(pairs, ChunkConfig(16384, RATE, remix=0.5, augment=BROAD), seed=1)
    here = list(DataLoader(chunks, batch_size=3, sampler=range(4, 16)))
    there = list(DataLoader(chunks, batch_size=3, sampler=range(4, 16), num_workers=2))
    assert len(here) == len(there) == 4
    for left, right in zip(here, there, strict=True):
        assert torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])
    resumed = next(iter(DataLoader(chunks, batch_size=3, sampler=range(13, 16))))
    assert torch.equal(resumed[0], here[3][0])


def test_without_remix_and_augmentation_a_chunk_is_a_place_of_a_song(pairs: Path) -> None:
    whole = {song.name: read_pair(song, 0, song.frames) for song in find_songs(pairs)}
    mixture, vocals = TrainingChunks(pairs, replace(PLAIN, silence_keep=0.0))[3]
    places = [
        (name, start)
        for name, (voice, _) in whole.items()
        for start in np.flatnonzero(voice[0] == float(vocals[0, 0]))
        if np.array_equal(voice[:, start : start + 1024], vocals.numpy())
    ]
    (name, start) = places[0]
    rest = whole[name][1][:, start : start + 1024]
    np.testing.assert_allclose((mixture - vocals).numpy(), rest, atol=1e-6)


@pytest.mark.parametrize(
    ("keep", "low", "high"), [(1.0, 0.42, 0.56), (0.05, 0.02, 0.08), (0, 0, 0)]
)
def test_silent_chunks_are_kept_at_the_asked_share(
    pairs: Path, keep: float, low: float, high: float
) -> None:
    # Half of every song is silent: s = 0.49, for a chunk that reaches into the voice is not.
    # Kept: s·k / (s·k + 1 - s), which is 0.046 for k = 0.05.
    chunks = TrainingChunks(pairs, replace(PLAIN, silence_keep=keep))
    silent = np.mean([is_silent(chunks[index][1].numpy()) for index in range(500)])
    assert low <= silent <= high


@pytest.mark.parametrize(("level", "silent"), [(-59.9, False), (-60.1, True)])
def test_silence_is_below_minus_60_db(level: float, silent: bool) -> None:
    signal = noise(0, 4000)
    signal *= np.float32(augment.db_to_gain(level - augment.level_db(signal)))
    assert is_silent(signal) is silent


def test_silence_everywhere_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "S" / "vocals.wav", np.zeros((2, RATE), np.float32))
    write(tmp_path / "S" / "mixture.wav", noise(0))
    with pytest.raises(DataError, match="no voice in 1000 chunks of S"):
        TrainingChunks(tmp_path, replace(PLAIN, silence_keep=0.0))[0]


@pytest.mark.parametrize("remix", [0.0, 1.0])
@pytest.mark.parametrize("settings", [NONE, BROAD])
def test_the_mixture_is_the_sum(pairs: Path, remix: float, settings: object) -> None:
    chunks = TrainingChunks(pairs, replace(PLAIN, remix=remix, augment=settings))
    for index in range(8):
        vocals, accompaniment = chunks.pair(index)
        mixture, target = chunks[index]
        np.testing.assert_array_equal(target.numpy(), vocals)
        np.testing.assert_array_equal(mixture.numpy(), vocals + accompaniment)
        assert float(mixture.abs().max()) <= 1.0 + 1e-6


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.sum(left * right) / np.sqrt(np.sum(left**2) * np.sum(right**2) + 1e-20))


@pytest.mark.parametrize(("remix", "related"), [(0.0, 1.0), (1.0, 0.0), (0.5, 0.5)])
def test_remix_parts_the_stems(tmp_path: Path, remix: float, related: float) -> None:
    for seed, name in enumerate("AB"):
        voice = write(tmp_path / name / "vocals.wav", noise(seed, 4 * RATE))
        write(tmp_path / name / "accompaniment.wav", voice * np.float32(-0.5))
    chunks = TrainingChunks(tmp_path, replace(PLAIN, remix=remix))
    together = [abs(correlation(*chunks.pair(index))) > 0.9 for index in range(200)]
    assert np.mean(together) == pytest.approx(related, abs=0.12)


def test_a_remix_changes_the_relative_level(tmp_path: Path) -> None:
    write(tmp_path / "A" / "vocals.wav", noise(0, 4 * RATE))
    write(tmp_path / "A" / "accompaniment.wav", noise(1, 4 * RATE))
    chunks = TrainingChunks(tmp_path, replace(PLAIN, remix=1.0, remix_db=6.0))
    levels = []
    for index in range(100):
        vocals, rest = chunks.pair(index)
        levels.append(augment.level_db(rest) - augment.level_db(vocals))
    assert min(levels) < -4.5 and max(levels) > 4.5 and max(map(abs, levels)) < 7.0


def test_songs_are_drawn_by_weight_and_length(tmp_path: Path) -> None:
    for seed, (name, seconds) in enumerate((("A", 1), ("B", 2), ("C", 4))):
        level = np.full((2, seconds * RATE), 0.1 * (seed + 1), np.float32)
        write(tmp_path / name / "vocals.wav", level)
        write(tmp_path / name / "accompaniment.wav", 0 * level)
    (tmp_path / "weights.json").write_text('{"A": 4, "C": 0}')
    chunks = TrainingChunks(tmp_path, PLAIN)
    drawn = [round(10 * float(chunks[index][1][0, 0])) for index in range(300)]
    assert drawn.count(3) == 0
    assert drawn.count(1) / 300 == pytest.approx(4 / 6, abs=0.1)


def test_weights_count_for_remixed_accompaniments_as_asked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "vocals.wav", noise(1))
        write(tmp_path / name / "mixture.wav", noise(2))
    (tmp_path / "weights.json").write_text('{"a": 16}')
    songs = find_songs(tmp_path)
    for power, share in ((1.0, 16 / 17), (0.5, 4 / 5), (0.0, 1 / 2)):
        (band,) = Pools.of(songs, power).bands
        assert band.sums[0] / band.sums[-1] == pytest.approx(share)


def test_music_without_a_voice_is_remixed_only(tmp_path: Path) -> None:
    write(tmp_path / "A" / "vocals.wav", noise(0))
    write(tmp_path / "A" / "accompaniment.wav", noise(1))
    write(tmp_path / "B" / "accompaniment.wav", np.full((2, RATE), 0.25, np.float32))
    for remix, expected in ((0.0, 0.0), (1.0, 0.5)):
        chunks = TrainingChunks(tmp_path, replace(PLAIN, remix=remix, remix_db=0.0))
        flat = [float(np.ptp(chunks.pair(index)[1])) == 0.0 for index in range(100)]
        assert np.mean(flat) == pytest.approx(expected, abs=0.17)


def test_unpaired_stems_are_joined_one_of_each(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "v.wav", noise(0))
    for stem, value in (("drums", 0.1), ("bass", 0.02), ("other", 0.003)):
        write(tmp_path / stem / "x.wav", np.full((2, RATE), value, np.float32))
    chunks = TrainingChunks(tmp_path, replace(PLAIN, remix_db=0.0))
    np.testing.assert_allclose(chunks.pair(0)[1], 0.123, rtol=1e-6)


def test_short_songs_are_padded(tmp_path: Path) -> None:
    write(tmp_path / "A" / "vocals.wav", noise(0, 300))
    write(tmp_path / "A" / "mixture.wav", noise(1, 300))
    mixture, vocals = TrainingChunks(tmp_path, PLAIN)[0]
    assert not mixture[:, 300:].any() and vocals[:, :300].all()


def test_songs_of_another_rate_are_resampled(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    tone = (0.2 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    write(tmp_path / "A" / "vocals.wav", np.stack((tone, tone)))
    write(tmp_path / "A" / "accompaniment.wav", noise(0, 2 * RATE))
    config = replace(PLAIN, samples=16384, sample_rate=44100)
    _, vocals = TrainingChunks(tmp_path, config)[0]
    spectrum = np.abs(np.fft.rfft(vocals[0].numpy() * np.hanning(16384)))
    assert np.argmax(spectrum) * 44100 / 16384 == pytest.approx(500, abs=2)
    ((name, mixture, whole),) = whole_songs(tmp_path, 44100)
    assert (name, mixture.shape, whole.shape) == ("A", (2, 88200), (2, 88200))


def test_pitch_shift_moves_a_songs_own_stems_together(tmp_path: Path) -> None:
    voice = write(tmp_path / "A" / "vocals.wav", noise(0, 4 * RATE))
    write(tmp_path / "A" / "accompaniment.wav", voice * np.float32(0.5))
    shifted = replace(NONE, pitch=1.0, pitch_semitones=4.0)
    vocals, rest = TrainingChunks(tmp_path, replace(PLAIN, augment=shifted)).pair(0)
    np.testing.assert_allclose(rest, 0.5 * vocals, atol=1e-5)


def test_a_loud_sum_is_turned_down_with_its_parts() -> None:
    vocals, rest = np.full((2, 64), 0.9, np.float32), np.full((2, 64), 0.6, np.float32)
    got = augment_pair(vocals, rest, np.random.default_rng(0), replace(PLAIN, samples=64))
    np.testing.assert_allclose(got[0] + got[1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(got[0] / got[1], 1.5, rtol=1e-6)


def test_energy_stays_within_the_settings(pairs: Path) -> None:
    plain = TrainingChunks(pairs, replace(PLAIN, samples=4096, silence_keep=0.0))
    broad = TrainingChunks(pairs, replace(plain.config, augment=replace(BROAD, pitch=0.0)))
    low, high = BROAD.level_db
    for index in range(30):
        rng = np.random.default_rng(index)
        stems = plain.pair(index)
        for before, after in zip(stems, augment_pair(*stems, rng, broad.config), strict=True):
            change = augment.level_db(after) - augment.level_db(before)
            # EQ can add three bells and the tilt; mono takes 3 dB of independent channels.
            assert low - BROAD.gain_db - 4 * BROAD.eq_db - 6 < change
            assert change < high + BROAD.gain_db + 4 * BROAD.eq_db + 3


def test_whole_songs_come_one_by_one(pairs: Path) -> None:
    songs = whole_songs(pairs, RATE)
    name, mixture, vocals = next(songs)
    assert name == "A" and vocals.dtype == torch.float32
    song = find_songs(pairs)[0]
    np.testing.assert_array_equal(mixture.numpy(), read_stem(song, "mixture", 0, song.frames))
    np.testing.assert_array_equal(vocals.numpy(), read_stem(song, "vocals", 0, song.frames))
    assert [name for name, _, _ in songs] == ["B", "C"]


def test_songs_without_accompaniment_are_refused(pairs: Path) -> None:
    with pytest.raises(DataError, match="vocals and accompaniment"):
        TrainingChunks([], PLAIN)
    with pytest.raises(IndexError):
        TrainingChunks(pairs, PLAIN)[-1]
