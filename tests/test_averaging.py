"""Several takes: their mean and spread without holding them, and the map of their differences."""

import weakref

import numpy as np
import pytest
import torch

from solovox.audio import read_audio, write_audio
from solovox.averaging import RunningMean, take_seed
from solovox.errors import SolovoxError
from solovox.separator import Separator
from solovox.uncertainty import Uncertainty, UncertaintyMeter

RATE = 8000


def song(samples, seed=0):
    noise = np.random.default_rng(seed).standard_normal((2, samples))
    return (0.3 * noise).astype(np.float32)


def test_mean_and_variance_of_what_was_added():
    takes = torch.randn(7, 2, 50, dtype=torch.float64)
    mean = RunningMean()
    second = sum(mean.add(take).square() for take in takes)
    torch.testing.assert_close(mean.value, takes.mean(dim=0))
    torch.testing.assert_close(second / 6, takes.var(dim=0))


def test_what_is_added_is_left_alone():
    takes = torch.randn(3, 4)
    before = takes.clone()
    mean = RunningMean()
    for take in takes:
        mean.add(take)
    assert torch.equal(takes, before)


def test_no_two_runs_share_a_take():
    seeds = {take_seed(seed, take, 4) for seed in range(5) for take in range(4)}
    assert len(seeds) == 20


def test_takes_are_the_mean_of_the_runs_of_their_seeds(network):
    mixture = song(9000)
    runs = [Separator(network, seed=seed).separate(mixture, RATE)["vocals"] for seed in (3, 4, 5)]
    together = Separator(network, seed=1, takes=3).separate(mixture, RATE)["vocals"]
    np.testing.assert_allclose(together, np.mean(runs, axis=0), atol=1e-6)


def test_the_conditioner_listens_once_for_all_takes(oracle):
    model, seen = oracle(), []
    separator = Separator(model, steps=3, takes=4)
    chunks = separator.plan.count(3000)
    separator.separate(song(3000), RATE, progress=seen.append)
    assert (model.conditioner.calls, model.generator.calls) == (chunks, 12 * chunks)
    assert seen == sorted(seen) and seen[0] == pytest.approx(1 / (13 * chunks))


def test_takes_of_nothing_random_are_refused(oracle):
    with pytest.raises(SolovoxError, match="takes must be 1 where steps is 0"):
        Separator(oracle(), steps=0, takes=2)
    with pytest.raises(SolovoxError, match="takes must be 1 or more"):
        Separator(oracle(), takes=0)


def noisy(x_t, mixture):
    """A model that returns what it started from: the takes are white noise of level one."""
    return x_t


def test_the_map_has_the_level_and_the_spread(oracle):
    """Takes of white noise with standard deviation 1, around nothing: power flat in frequency."""
    meter = UncertaintyMeter()
    model = oracle(formula=noisy, chunk=RATE)
    separator = Separator(model, steps=1, eta=0, takes=50)
    separator.separate(song(4 * RATE), RATE, uncertainty=meter)
    found = meter.map
    assert found.level.shape == found.spread.shape == (32, 4)
    assert found.takes == 50
    assert found.edges[0] == 0 and found.edges[-1] == pytest.approx(RATE / 2)
    density = found.spread**2 / np.diff(found.edges)[:, None]
    wide = np.diff(found.edges) > 100  # of many bins, so that they are cut nearly where they end
    np.testing.assert_allclose(density[wide] * RATE / 2, 1, atol=0.1)
    np.testing.assert_allclose((found.spread**2).sum(axis=0), 1, atol=0.03)
    np.testing.assert_allclose((found.level**2).sum(axis=0), 1 / 50, atol=0.005)
    np.testing.assert_allclose(found.doubt, 1, atol=0.02)


@pytest.mark.parametrize("takes", [2, 3, 50])
@pytest.mark.parametrize("certain", [0.0, 0.5, 2.0])
def test_doubt_is_the_share_of_a_take_s_power_whatever_the_number_of_takes(takes, certain):
    """A take is a voice of power `certain` and noise of power one; the mean's noise is 1/N."""
    spread = np.ones((32, 1), np.float32)
    level = np.sqrt(certain + spread / takes)
    doubt = Uncertainty(np.arange(33.0), level, spread, takes).doubt
    np.testing.assert_allclose(doubt, 1 / (certain + 1), rtol=1e-6)


def test_doubt_is_a_share_at_all_times():
    """A mean of few takes may happen to be quieter than the noise in it is on average."""
    quiet, loud = np.zeros((32, 1), np.float32), np.ones((32, 1), np.float32)
    assert (Uncertainty(np.arange(33.0), quiet, loud, 2).doubt == 1).all()
    assert (Uncertainty(np.arange(33.0), loud, quiet, 2).doubt == 0).all()
    assert (Uncertainty(np.arange(33.0), quiet, quiet, 2).doubt == 0).all()


def test_the_map_tells_where_a_model_is_unsure(oracle):
    mixture = song(6 * RATE)
    mixture[:, : 3 * RATE] *= 1e-3

    def loud_is_unsure(x_t, mixture):
        return mixture * (1 + 0.5 * x_t)

    meter = UncertaintyMeter()
    separator = Separator(oracle(formula=loud_is_unsure), steps=1, eta=0, takes=8)
    separator.separate(mixture, RATE, uncertainty=meter)
    spread = meter.map.spread.mean(axis=0)
    assert spread[:2].max() < 0.01 * spread[3:].min()


def test_takes_that_agree_leave_no_spread(oracle):
    meter = UncertaintyMeter()
    Separator(oracle(0.5), takes=3).separate(song(5 * RATE + 1), RATE, uncertainty=meter)
    assert meter.map.level.shape == (32, 6)
    assert meter.map.spread.max() < 1e-5
    assert meter.map.level[:, :5].min() > 0.001


def test_the_map_is_that_of_the_song_s_seconds_at_any_rate(oracle):
    meter = UncertaintyMeter()
    Separator(oracle(), takes=2).separate(song(44_100), 44_100, uncertainty=meter)
    assert meter.map.level.shape == (32, 1)


def test_no_map_before_anything_was_separated():
    with pytest.raises(SolovoxError, match="before something is separated"):
        UncertaintyMeter().map  # noqa: B018


def test_a_map_comes_back_from_its_file(tmp_path):
    edges, level = (
        np.arange(33, dtype=np.float32),
        np.random.default_rng(0).random((2, 32, 5)).astype(np.float32),
    )
    written = Uncertainty(edges, *level, takes=3)
    found = Uncertainty.load(written.save(tmp_path / "a.npz"))
    for name, value in vars(written).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    whole = (tmp_path / "a.npz").read_bytes()
    for broken in (b"no map", b"", whole[:100]):
        (tmp_path / "b.npz").write_bytes(broken)
        with pytest.raises(SolovoxError, match="no uncertainty map"):
            Uncertainty.load(tmp_path / "b.npz")


def test_a_map_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **values):
        raise OSError(28, "No space left on device")

    found = Uncertainty(np.arange(33.0), *np.ones((2, 32, 5), np.float32), takes=3)
    monkeypatch.setattr("numpy.savez_compressed", full)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    for write in (found.save, found.draw):
        with pytest.raises(OSError, match="No space"):
            write(tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_a_file_s_map_lies_beside_its_stems(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", song(3 * RATE), RATE)
    separator = Separator(oracle(formula=noisy), takes=2)
    paths = separator.separate_file(tmp_path / "a.wav", tmp_path, uncertainty=True)
    folder = tmp_path / "oracle" / "a"
    names = {"vocals.wav", "accompaniment.wav", "uncertainty.npz", "uncertainty.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert Uncertainty.load(paths["uncertainty"]).spread.shape == (32, 3)
    plain = separator.separate(*read_audio(tmp_path / "a.wav"))["vocals"]
    np.testing.assert_array_equal(read_audio(paths["vocals"])[0], plain)
    with pytest.raises(SolovoxError, match="2 takes or more"):
        Separator(oracle()).separate_file(tmp_path / "a.wav", tmp_path, uncertainty=True)
    with pytest.raises(SolovoxError, match="2 takes or more"):
        Separator(oracle()).separate(song(RATE), RATE, uncertainty=UncertaintyMeter())


def test_what_a_map_does_not_show_is_told_once(oracle, tmp_path, caplog):
    for name in "ab":
        write_audio(tmp_path / f"{name}.wav", song(RATE), RATE)

    def said(start, **settings):
        caplog.clear()
        separator = Separator(oracle(), takes=2, start=start)
        for name in "ab":
            separator.separate_file(tmp_path / f"{name}.wav", tmp_path, **settings)
        return [record.getMessage() for record in caplog.records]

    assert not said(0.5, uncertainty=True) and not said(0.1) and not said(0.1, resume=True)
    (line,) = said(0.4, uncertainty=True)
    assert "start 0.4" in line and "not what the model is unsure of" in line
    (line,) = said(0.5, uncertainty=True, resume=True)
    assert "nothing is kept of a song half done" in line


def test_a_map_takes_no_stem_s_place(oracle, tmp_path):
    write_audio(tmp_path / "a.wav", song(RATE), RATE)
    separator = Separator(oracle(formula=noisy), takes=2)
    paths = separator.separate_file(
        tmp_path / "a.wav", tmp_path, uncertainty=True, stems=["vocals"], filename="{track}.wav"
    )
    assert {name: path.name for name, path in paths.items()} == {
        "vocals": "a.wav",
        "uncertainty": "a.npz",
    }
    assert read_audio(paths["vocals"])[0].shape == (2, RATE)


def test_no_take_is_kept():
    mean = RunningMean()
    for _ in range(3):
        take = torch.randn(5)
        kept = weakref.ref(take)
        mean.add(take)
        del take
        assert kept() is None
