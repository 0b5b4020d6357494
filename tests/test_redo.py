"""A region generated again: what changes, what does not, and that it can be repeated."""

import numpy as np
import pytest
import torch

from solovox.audio import read_audio, write_audio
from solovox.errors import AudioError, SolovoxError
from solovox.redo import FADE, Region, splice
from solovox.separator import STEMS, Separator

RATE = 8000


def song(samples, channels=2, seed=0):
    noise = np.random.default_rng(seed).standard_normal((channels, samples))
    return (0.3 * noise).astype(np.float32)


def outside(start, end, samples, rate=RATE):
    """Where nothing may change."""
    fade = round(FADE * rate)
    mask = np.ones(samples, bool)
    mask[max(0, round(start * rate) - fade) : round(end * rate) + fade] = False
    return mask


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (1.3, 1.9), (0.9, 3.0), (2.9, 9.0)])
@pytest.mark.parametrize("rule", ["exact", "generated"])
def test_a_region_is_new_and_the_rest_is_not(network, start, end, rule):
    audio = song(26_000)
    first = Separator(network, seed=0, stems=rule)
    other = Separator(network, seed=5, eta=0.8, stems=rule)
    before, full = first.separate(audio, RATE), other.separate(audio, RATE)
    kept = {name: stem.copy() for name, stem in before.items()}
    after = other.redo(audio, RATE, before, start, end)
    inside = slice(round(start * RATE), min(round(end * RATE), 26_000))
    rest = outside(start, end, 26_000)
    for name in STEMS:
        np.testing.assert_array_equal(after[name][:, inside], full[name][:, inside])
        np.testing.assert_array_equal(after[name][:, rest], before[name][:, rest])
        np.testing.assert_array_equal(before[name], kept[name])  # the caller's arrays are his
    assert not np.array_equal(after["vocals"], before["vocals"])
    if rule == "exact":
        np.testing.assert_allclose(sum(after.values()), audio, atol=1e-6)


def test_a_region_of_a_resampled_song(network):
    audio = song(60_000)
    first, other = Separator(network, seed=0), Separator(network, seed=5)
    before, full = first.separate(audio, 22_050), other.separate(audio, 22_050)
    after = other.redo(audio, 22_050, before, 1.0, 1.4)
    inside = slice(22_050, round(1.4 * 22_050))
    np.testing.assert_allclose(after["vocals"][:, inside], full["vocals"][:, inside], atol=1e-6)
    rest = outside(1.0, 1.4, 60_000, 22_050)
    np.testing.assert_array_equal(after["vocals"][:, rest], before["vocals"][:, rest])


def test_only_the_chunks_of_the_region_are_computed(oracle):
    model = oracle(chunk=800)  # hop 640
    separator = Separator(model, steps=2)
    audio = song(80_000)
    stems = separator.separate(audio, RATE)
    model.generator.calls = 0
    told = []
    separator.redo(audio, RATE, stems, 4.0, 4.1, told.append)
    # Samples 31760 to 33040 with the fades: chunks 49 to 51.
    assert model.generator.calls == 2 * 3
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert told[0] == pytest.approx(1 / 9)


def test_files_and_arrays_are_redone_alike(network, tmp_path):
    audio = song(30_000)
    write_audio(tmp_path / "song.wav", audio, RATE)
    first, second, third = (Separator(network, seed=seed) for seed in (0, 1, 2))
    expected = second.redo(audio, RATE, first.separate(audio, RATE), 0.5, 1.5)
    expected = third.redo(audio, RATE, expected, 1.2, 2.0)
    told = []
    paths = first.separate_file(
        tmp_path / "song.wav", tmp_path, progress=told.append,
        redone=[(0.5, 1.5, second), (1.2, 2.0, third), (90, 95, third)],  # the last is not there
    )  # fmt: skip
    for name, path in paths.items():
        np.testing.assert_array_equal(read_audio(path)[0], expected[name])
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_tensors_stay_tensors(oracle):
    separator = Separator(oracle(0.5))
    audio = torch.from_numpy(song(4000))
    stems = separator.redo(audio, RATE, separator.separate(audio, RATE), 0.1, 0.2)
    assert isinstance(stems["vocals"], torch.Tensor)
    torch.testing.assert_close(stems["vocals"], 0.5 * audio, atol=2e-6, rtol=0)


def test_what_does_not_fit_is_refused(oracle):
    separator = Separator(oracle())
    audio = song(4000)
    stems = separator.separate(audio, RATE)
    for start, end in ((0.3, 0.3), (-1, 0.2), (0.5, 0.9), (0.3, 0.1), (float("nan"), 1)):
        with pytest.raises(SolovoxError, match="no region"):
            separator.redo(audio, RATE, stems, start, end)
    with pytest.raises(AudioError, match="stems must be"):
        separator.redo(audio, RATE, {"vocals": audio}, 0.1, 0.2)
    with pytest.raises(AudioError, match="stems must be"):
        separator.redo(audio, RATE, dict.fromkeys(STEMS, audio[:, 1:]), 0.1, 0.2)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_splicing_does_not_depend_on_blocks(size):
    old, new = song(1000), song(1000, seed=1)
    region = Region(300, 600, 50)

    def cut(audio, size):
        return ({"vocals": audio[:, at : at + size]} for at in range(0, 1000, size))

    (whole,) = splice(cut(old, 1000), cut(new, 1000), region)
    parts = [part["vocals"] for part in splice(cut(old, size), cut(new, 13), region)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole["vocals"])


def test_the_crossfade_is_a_symmetric_raised_cosine():
    region = Region(100, 200, 40)
    weights = region.weights(0, 300)
    assert not weights[:60].any()
    assert (weights[100:200] == 1).all()
    np.testing.assert_allclose(weights[60:100] + weights[60:100][::-1], 1, atol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-6)
    assert (region.first, region.last) == (60, 240)
