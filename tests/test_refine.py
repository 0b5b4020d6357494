"""Other separators' vocals, generated again: from an array, a stream or a file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from solovox.audio import read_audio, write_audio
from solovox.cli import main
from solovox.diffusion.schedule import sigma
from solovox.errors import AudioError, ModelError, SolovoxError
from solovox.presets import SamplingConfig
from solovox.refine import TOLERANCE
from solovox.separator import Separator

RATE = 8000
WARM = SamplingConfig(steps=2, start=0.3, eta=0.0, cutoff=1000)


def noise(samples=3000, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((channels, samples)).astype(np.float32)


def keep(x_t, mixture):
    """A generator that believes what it is given, noise and all."""
    return x_t


def test_no_steps_give_the_vocals_back(network):
    mixture, vocals = noise(20_000), noise(20_000, seed=1)
    stems = Separator(network, steps=0).separate(mixture, RATE, vocals=vocals)
    np.testing.assert_allclose(stems["vocals"], vocals, atol=1e-6)
    np.testing.assert_array_equal(stems["accompaniment"], mixture - stems["vocals"])


def test_what_comes_out_hangs_on_the_vocals_and_on_the_mixture(network):
    mixture, vocals, others = (noise(9000, seed=seed) for seed in range(3))
    separator = Separator(network)
    refined = separator.separate(mixture, RATE, vocals=vocals)["vocals"]
    for again in (
        separator.separate(mixture, RATE, vocals=others),
        separator.separate(others, RATE, vocals=vocals),
        separator.separate(mixture, RATE),
    ):
        assert np.abs(again["vocals"] - refined).max() > 1e-3


def test_its_own_estimate_given_is_what_separate_does(network):
    mixture = noise(network.config.chunk)  # one chunk: where two overlap, each has its own estimate
    separator, estimator = (Separator(network, steps=n, precision="fp32") for n in (2, 0))
    estimate = estimator.separate(mixture, RATE)["vocals"]
    given = separator.separate(mixture, RATE, vocals=estimate)["vocals"]
    np.testing.assert_allclose(given, separator.separate(mixture, RATE)["vocals"], atol=1e-4)


def test_the_less_start_the_closer_to_what_was_given(oracle):
    vocals = noise(seed=1)
    apart = []
    for start in (0.1, 0.3, 0.6):
        sampling = replace(WARM, steps=1, start=start)
        model = oracle(formula=keep, sampling=sampling)
        found = Separator(model).separate(noise(), RATE, vocals=vocals)["vocals"]
        apart.append(float(np.abs(found - vocals).mean()))
    assert apart == sorted(apart)
    assert apart[0] < 2 * float(sigma(torch.tensor(0.1)))


def test_a_model_without_an_estimate_of_its_own_can_refine(oracle):
    model = oracle(estimate=None, sampling=WARM)
    with pytest.raises(ModelError, match="no estimate"):
        Separator(model).separate(noise(), RATE)
    stems = Separator(model).separate(noise(), RATE, vocals=noise(seed=1))
    np.testing.assert_allclose(stems["vocals"], 0.5 * noise(), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("given", [1, 2])
@pytest.mark.parametrize("rate", [RATE, 11025])
def test_shape_and_sum(oracle, channels, given, rate):
    mixture, vocals = noise(5001, channels), noise(5001, given, seed=1)
    stems = Separator(oracle(sampling=WARM)).separate(mixture, rate, vocals=vocals)
    assert stems["vocals"].shape == mixture.shape
    np.testing.assert_allclose(stems["vocals"] + stems["accompaniment"], mixture, atol=1e-6)


def test_a_stream_gives_the_same_whatever_its_blocks(network):
    mixture, vocals = noise(15_000), noise(15_000, seed=1)
    separator = Separator(network)
    whole = separator.separate(mixture, RATE, vocals=vocals)["vocals"]
    parts = separator.stream(
        np.array_split(mixture, 7, axis=1), RATE, vocals=iter(np.array_split(vocals, 4, axis=1))
    )
    streamed = np.concatenate([part["vocals"] for part in parts], axis=1)
    np.testing.assert_array_equal(streamed, whole)


@pytest.mark.parametrize("extra", [-round(TOLERANCE * RATE), round(TOLERANCE * RATE)])
def test_a_coders_few_samples_do_not_matter(oracle, extra):
    mixture, vocals = noise(8000), noise(8000 + extra, seed=1)
    stems = Separator(oracle(sampling=WARM)).separate(mixture, RATE, vocals=vocals)
    assert stems["vocals"].shape == mixture.shape


@pytest.mark.parametrize(
    ("vocals", "message"),
    [
        (noise(4000), "at least 0.50 s shorter"),
        (noise(12_000), "at least 0.50 s longer"),
        (noise(8000, 3), "3 channels"),
        (np.full((2, 8000), np.nan, np.float32), "NaN, infinite"),
    ],
)
def test_what_does_not_fit_is_one_line(oracle, vocals, message):
    with pytest.raises(AudioError, match=message) as error:
        Separator(oracle(sampling=WARM)).separate(noise(8000), RATE, vocals=vocals)
    assert "\n" not in str(error.value)


def test_starting_from_noise_is_refused(oracle):
    model = oracle(sampling=replace(WARM, start=1.0))
    with pytest.raises(SolovoxError, match="choose less"):
        Separator(model).separate(noise(), RATE, vocals=noise())


@pytest.mark.parametrize("cutoff", ["mixture", "spread", 0, 900])
def test_bands_of_refinement_noise(oracle, network, cutoff):
    mixture = noise(9000)
    model = oracle(formula=keep, sampling=replace(WARM, eta=1.0, start=1.0))
    separator = Separator(model, cutoff=cutoff)
    if cutoff == "spread":
        with pytest.raises(ModelError, match="has no spread"):
            separator.separate(mixture, RATE)
        return
    fixed = Separator(model, cutoff=1000).separate(mixture, RATE)["vocals"]
    found = separator.separate(mixture, RATE)["vocals"]
    assert np.abs(found - fixed).max() > 1e-2
    np.testing.assert_array_equal(separator.separate(mixture, RATE)["vocals"], found)


def test_a_band_that_there_is_not_is_one_line(oracle):
    with pytest.raises(SolovoxError, match="mixture or spread, not 'bass'"):
        Separator(oracle(), cutoff="bass")


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def run(oracle, monkeypatch, tmp_path):
    """Run `solovox refine` in a folder of its own, with a model that halves its input."""
    monkeypatch.setattr("solovox.separator.load_model", lambda name: oracle(sampling=WARM))
    monkeypatch.chdir(tmp_path)
    write_audio("song.wav", noise(), RATE)
    write_audio("given.wav", noise(seed=1), RATE)
    return lambda *words: CliRunner().invoke(main, ["refine", *map(str, words)])


def test_a_file(run, oracle):
    result = run("song.wav", "--vocals", "given.wav")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "refined/oracle/song/vocals.wav",
        "refined/oracle/song/accompaniment.wav",
    ]
    expected = Separator(oracle(sampling=WARM)).separate(noise(), RATE, vocals=noise(seed=1))
    audio, rate = read_audio("refined/oracle/song/vocals.wav")
    assert rate == RATE
    np.testing.assert_array_equal(audio, expected["vocals"])


def test_options_of_separate(run):
    words = ("--steps", 0, "--flac", "--stem", "vocals", "-o", "out", "--filename", "{track}.{ext}")
    assert run("song.wav", "--vocals", "given.wav", *words).exit_code == 0
    audio, _ = read_audio("out/oracle/song.flac")
    np.testing.assert_allclose(audio, noise(seed=1).clip(-1, 1), atol=1e-5)


def test_many_songs_with_their_vocals(run):
    for name in "ab":
        Path("in").mkdir(exist_ok=True)
        write_audio(f"in/{name}.wav", noise(), RATE)
        Path(f"theirs/{name}").mkdir(parents=True)
        write_audio(f"theirs/{name}/vocals.wav", noise(seed=1), RATE)
    assert run("in", "--vocals", "theirs/{track}/vocals.wav").exit_code == 0
    assert len(list(Path("refined").rglob("*.wav"))) == 4
    result = run("in", "--vocals", "given.wav")
    assert result.exit_code == 1
    assert "{track}" in result.stderr


def test_vocals_at_another_rate_are_resampled(run):
    write_audio("given.wav", noise(6000, seed=1), 2 * RATE)
    assert run("song.wav", "--vocals", "given.wav").exit_code == 0
    assert read_audio("refined/oracle/song/vocals.wav")[0].shape == (2, 3000)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vocals", "nowhere.wav"), "nowhere.wav"),
        (("--vocals", "long.wav"), "has 1.00 s where the mixture has 0.38 s"),
        (("--vocals", "given.wav", "--start", 1), "choose less"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(run, words, message):
    write_audio("long.wav", noise(8000), RATE)
    result = run("song.wav", *words)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("refined").exists()
