"""What each augmentation does to a signal whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from songs_on_disk import noise

from solovox.data import augment
from solovox.data.augment import Audio

RATE = 44100
SAMPLES = 16384


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sine(hz: float, samples: int = SAMPLES) -> Audio:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)
    return np.stack((wave, wave)).astype(np.float32)


def peak_hz(audio: Audio) -> float:
    """The strongest frequency, by a parabola over the log spectrum's highest bins."""
    samples = audio.shape[1]
    log = np.log(np.abs(np.fft.rfft(audio[0] * np.hanning(samples))) + 1e-12)
    top = int(np.argmax(log))
    low, mid, high = log[top - 1 : top + 2]
    return (top + 0.5 * (low - high) / (low - 2 * mid + high)) * RATE / samples


def test_polarity_and_flip_undo_themselves() -> None:
    audio = noise(0, SAMPLES)
    np.testing.assert_array_equal(augment.polarity(audio, rng(), 1.0), -audio)
    np.testing.assert_array_equal(augment.channel_flip(audio, rng(), 1.0), audio[::-1])
    for function in (augment.polarity, augment.channel_flip):
        np.testing.assert_array_equal(function(function(audio, rng(), 1.0), rng(), 1.0), audio)
        turned = sum(function(audio, rng(seed)) is not audio for seed in range(400))
        assert 150 < turned < 250


@given(st.floats(-40, 40))
@settings(deadline=None)
def test_gain_is_exact(decibels: float) -> None:
    audio = noise(0, 64)
    louder = augment.gain(audio, rng(), decibels, decibels)
    np.testing.assert_allclose(louder, audio * 10 ** (decibels / 20), rtol=1e-6)
    assert augment.level_db(louder) - augment.level_db(audio) == pytest.approx(decibels, abs=1e-3)


@pytest.mark.parametrize("semitones", [-4.0, -1.5, 0.0, 2.0, 4.0])
def test_pitch_shift_moves_a_sine_by_its_ratio(semitones: float) -> None:
    ratio = 2.0 ** (semitones / 12.0)
    read = augment.samples_to_read(SAMPLES, ratio)
    shifted = augment.resample_by(sine(1000.0, read), ratio, SAMPLES)
    assert shifted.shape == (2, SAMPLES) and shifted.dtype == np.float32
    assert peak_hz(shifted) == pytest.approx(1000.0 * ratio, rel=1e-4)
    middle = shifted[:, 1000:-1000]
    assert augment.level_db(middle) == pytest.approx(augment.level_db(sine(1000.0)), abs=0.05)


def test_drawn_ratios_fill_the_range() -> None:
    ratios = np.array([augment.pitch_ratio(rng(seed), 4.0, 0.5) for seed in range(500)])
    shifts = 12 * np.log2(ratios)
    assert 200 < np.count_nonzero(shifts == 0) < 300
    assert shifts.min() < -3.8 and shifts.max() > 3.8 and np.abs(shifts).max() <= 4.0


def test_resampling_to_another_rate_keeps_the_pitch_in_hz() -> None:
    out = augment.resample_by(sine(1000.0), 44100 / 22050, SAMPLES // 2)
    assert peak_hz(out) / 2 == pytest.approx(1000.0, rel=1e-4)


def test_width_keeps_the_middle_and_scales_the_side() -> None:
    audio = noise(0, SAMPLES)
    wide = augment.width(audio, rng(), 6.0, 6.0, 1.0)
    np.testing.assert_allclose(wide.sum(0), audio.sum(0), atol=1e-6)
    np.testing.assert_allclose(wide[0] - wide[1], 10**0.3 * (audio[0] - audio[1]), atol=1e-6)


def test_mono_is_the_mean_and_mono_once() -> None:
    audio = noise(0, SAMPLES)
    once = augment.mono(audio, rng(), 1.0)
    np.testing.assert_array_equal(once[0], once[1])
    np.testing.assert_allclose(once[0], audio.mean(0), atol=1e-7)
    np.testing.assert_array_equal(augment.mono(once, rng(), 1.0), once)


def test_a_flat_curve_changes_nothing_and_curves_multiply() -> None:
    audio = noise(0, 10007)
    freqs = augment.frequencies(10007, RATE)
    flat = np.ones_like(freqs)
    np.testing.assert_allclose(augment.apply_curve(audio, flat), audio, atol=1e-6)
    first = augment.eq_curve(freqs, rng(1), 6.0)
    second = augment.eq_curve(freqs, rng(2), 6.0)
    # Applied in turn the filters lose the tail beyond the chunk, hence the middle only.
    both = augment.apply_curve(audio, first * second)[:, 2000:-2000]
    turns = augment.apply_curve(augment.apply_curve(audio, first), second)[:, 2000:-2000]
    assert np.mean((both - turns) ** 2) < 1e-4 * np.mean(both**2)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_tone_control_is_broad_and_bounded(seed: int) -> None:
    freqs = augment.frequencies(SAMPLES, RATE)
    curve = 20 * np.log10(augment.eq_curve(freqs, rng(seed), 6.0))
    assert np.abs(curve).max() <= 6.0 * 3 + 6.0
    octaves = np.log2(np.maximum(freqs, 20.0))
    slopes = np.diff(curve[freqs > 20]) / np.diff(octaves[freqs > 20])
    assert np.abs(slopes).max() < 3 * 6.0 * 0.86 / 0.5 + 0.6 + 0.1  # dB an octave


def test_low_pass_keeps_the_low_and_stops_the_high() -> None:
    freqs = augment.frequencies(SAMPLES, RATE)
    curve = augment.low_pass_curve(freqs, rng(), 10000.0, 10000.0)
    assert np.all(curve[freqs < 9500] == 1.0) and np.all(curve[freqs > 10500] < 1e-6)
    for hz, gain_db in ((5000.0, 0.0), (10000.0, -6.02)):
        out = augment.apply_curve(sine(hz), curve)[:, 2000:-2000]
        assert augment.level_db(out) - augment.level_db(sine(hz)) == pytest.approx(gain_db, abs=0.1)
    assert augment.level_db(augment.apply_curve(sine(14000.0), curve)[:, 2000:-2000]) < -60


@pytest.mark.parametrize("level", [-60.0, -20.0, 0.0])
def test_compressor_follows_its_formula(level: float) -> None:
    audio = sine(441.0) * np.float32(augment.db_to_gain(level))
    power = 10 ** (augment.level_db(audio) / 10)
    expected = (1 + power / 10 ** (-20 / 10)) ** (-0.5 * (1 - 1 / 3))
    gains = augment.compressor_gain(audio, -20.0, 3.0)
    np.testing.assert_allclose(gains[2000:-2000], expected, rtol=0.02)


def test_compression_keeps_the_level_and_narrows_the_range() -> None:
    audio = noise(0, SAMPLES)
    audio[:, : SAMPLES // 2] *= np.float32(0.1)
    out = augment.compress(audio, rng(), 1.0)
    assert augment.level_db(out) == pytest.approx(augment.level_db(audio), abs=0.01)
    ratio = augment.level_db(out[:, SAMPLES // 2 :]) - augment.level_db(out[:, : SAMPLES // 2])
    assert 5.0 < ratio < 19.5
    quiet = np.zeros((2, SAMPLES), np.float32)
    assert augment.compress(quiet, rng(), 1.0) is quiet


EVERY = [
    lambda audio, gen: augment.polarity(audio, gen),
    lambda audio, gen: augment.channel_flip(audio, gen),
    lambda audio, gen: augment.gain(audio, gen, -6.0, 6.0),
    lambda audio, gen: augment.width(audio, gen, -6.0, 3.0, 1.0),
    lambda audio, gen: augment.mono(audio, gen, 1.0),
    lambda audio, gen: augment.compress(audio, gen, 1.0),
    lambda audio, gen: augment.apply_curve(
        audio, augment.eq_curve(augment.frequencies(audio.shape[1], RATE), gen, 6.0)
    ),
]


@pytest.mark.parametrize("function", EVERY)
def test_every_one_is_pure(function) -> None:  # type: ignore[no-untyped-def]
    audio = noise(0, 5000)
    before = audio.copy()
    first, second = function(audio, rng(3)), function(audio, rng(3))
    assert first.dtype == np.float32 and first.shape == audio.shape and np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize(
    "function", [augment.polarity, augment.channel_flip, augment.mono, augment.compress]
)
def test_draws_do_not_depend_on_the_outcome(function) -> None:  # type: ignore[no-untyped-def]
    after = []
    for probability in (0.0, 1.0):
        generator = rng(5)
        function(noise(0, 600), generator, probability)
        after.append(generator.random())
    assert after[0] == after[1]


def test_level_of_known_signals() -> None:
    assert augment.level_db(np.ones((2, 10), np.float32)) == 0.0
    assert augment.level_db(sine(441.0)) == pytest.approx(
        20 * math.log10(0.5 / math.sqrt(2)), abs=0.02
    )
    assert augment.level_db(np.zeros((2, 10), np.float32)) == -200.0


@given(st.integers(64, 3_000_000))
@settings(deadline=None)
def test_transform_sizes_are_smooth_and_close(samples: int) -> None:
    size = augment._fft_size(samples)
    assert size >= samples and size <= 1.13 * samples
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    assert size == 1
