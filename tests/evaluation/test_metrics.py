"""Metrics: closed forms, agreement with reference libraries, and awkward audio."""

from __future__ import annotations

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from solovox.errors import DataError
from solovox.evaluation.metrics import (
    METRICS,
    as_16_bit,
    bleedless,
    fullness,
    is_silent,
    lsd,
    mel_filters,
    mel_mae,
    mel_mae_db,
    multi_resolution_stft,
    si_sdr,
    usdr,
)

RATE = 44_100


def tone(seconds: float = 1.0, hertz: float = 440.0, gain: float = 0.3) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (gain * np.stack([np.sin(2 * np.pi * hertz * time), np.cos(9 * hertz * time)])).astype(
        np.float32
    )


def noise(seconds: float = 1.0, gain: float = 0.1, seed: int = 0) -> np.ndarray:
    shape = (2, round(seconds * RATE))
    return (gain * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


class TestClosedForms:
    @pytest.mark.parametrize("level", [-20.0, 0.0, 6.0, 30.0])
    def test_usdr_of_a_scaled_error_is_its_level(self, level: float) -> None:
        s, e = tone().astype(np.float64), noise().astype(np.float64)
        e *= math.sqrt((s**2).sum() / (e**2).sum()) * 10 ** (-level / 20)
        assert usdr(s, s + e) == pytest.approx(level, abs=1e-6)

    def test_usdr_of_known_estimates(self) -> None:
        s = tone()
        assert usdr(s, 0 * s) == pytest.approx(0.0, abs=1e-9)
        assert usdr(s, -s) == pytest.approx(-20 * math.log10(2), abs=1e-6)
        assert usdr(s, s / 2) == pytest.approx(20 * math.log10(2), abs=1e-6)
        energy = float((s.astype(np.float64) ** 2).sum())
        assert usdr(s, s) == pytest.approx(10 * math.log10((energy + 1e-7) / 1e-7))

    @given(gain=st.floats(0.01, 100).flatmap(lambda g: st.sampled_from([g, -g])))
    @settings(max_examples=20, deadline=None)
    def test_si_sdr_does_not_see_gain(self, gain: float) -> None:
        s = tone(0.1).astype(np.float64)
        e = s + noise(0.1)
        assert si_sdr(s, gain * e) == pytest.approx(si_sdr(s, e), abs=1e-8)

    def test_si_sdr_ends_at_200_db(self) -> None:
        s = np.array([[1.0, 1.0, 0.0, 0.0]])
        assert si_sdr(s, 3 * s) == pytest.approx(200.0)
        assert si_sdr(s, np.array([[1.0, -1.0, 0.0, 0.0]])) == pytest.approx(-200.0)

    def test_lsd_of_a_gain_is_the_gain(self) -> None:
        s = noise()
        assert lsd(s, 0.1 * s, RATE) == pytest.approx(2.0, abs=1e-4)

    def test_mel_mae_db_of_a_gain_is_the_gain(self) -> None:
        s = noise()
        assert mel_mae_db(s, s / 10, RATE) == pytest.approx(20.0, abs=1e-3)

    def test_mel_mae_is_linear_in_level(self) -> None:
        s, e = noise(), noise(seed=1)
        assert mel_mae(3 * s, 3 * e, RATE) == pytest.approx(3 * mel_mae(s, e, RATE), rel=1e-5)

    def test_multi_resolution_of_a_gain(self) -> None:
        # Spectral convergence of half the level is 1/2, and each log magnitude is off by ln 2.
        s = noise(gain=0.3)
        assert multi_resolution_stft(s, s / 2) == pytest.approx(0.5 + math.log(2), abs=1e-3)

    @pytest.mark.parametrize("gain", [0.1, 10.0])
    def test_bleedless_and_fullness_of_a_gain(self, gain: float) -> None:
        s = noise()
        worse = 100 / 21  # 20 dB too loud, or too quiet, everywhere
        expected = (worse, 100.0) if gain > 1 else (100.0, worse)
        found = bleedless(s, gain * s, RATE), fullness(s, gain * s, RATE)
        assert found == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("name", METRICS)
    def test_a_perfect_estimate_is_best(self, name: str) -> None:
        metric = METRICS[name]
        s = tone() + noise()
        perfect = metric.compute(s, s, RATE)
        scores = [metric.compute(s, s + noise(gain=g, seed=1), RATE) for g in (0.01, 0.1)]
        ordered = [perfect, *scores]
        if name == "fullness":  # added noise takes little away
            assert perfect == 100.0 >= max(scores)
        else:
            assert ordered == sorted(ordered, reverse=metric.higher_is_better)


class TestReferenceLibraries:
    def test_si_sdr_equals_torchmetrics(self) -> None:
        torch = pytest.importorskip("torch")
        audio = pytest.importorskip("torchmetrics.functional.audio")
        s, e = tone().astype(np.float64), (tone() + noise()).astype(np.float64)
        theirs = audio.scale_invariant_signal_distortion_ratio(
            torch.from_numpy(e.reshape(-1)), torch.from_numpy(s.reshape(-1))
        )
        assert si_sdr(s, e) == pytest.approx(float(theirs), abs=1e-6)

    def test_multi_resolution_stft_equals_auraloss(self) -> None:
        torch = pytest.importorskip("torch")
        freq = pytest.importorskip("auraloss.freq")
        s, e = tone(), tone() + noise()
        theirs = freq.MultiResolutionSTFTLoss()(
            torch.from_numpy(e)[None], torch.from_numpy(s)[None]
        )
        assert multi_resolution_stft(s, e) == pytest.approx(float(theirs), rel=1e-4)

    def test_golden_values(self) -> None:
        # auraloss 0.4.0 and torchmetrics 1.9 gave these for the same signals.
        s, e = tone(), tone() + noise()
        assert multi_resolution_stft(s, e) == pytest.approx(9.0399, abs=1e-3)
        assert si_sdr(s, e) == pytest.approx(6.5266, abs=1e-3)

    @pytest.mark.parametrize("bands", [80, 512])
    def test_mel_filters_equal_librosa(self, bands: int) -> None:
        filters = pytest.importorskip("librosa.filters")
        theirs = filters.mel(sr=RATE, n_fft=4096, n_mels=bands)
        np.testing.assert_allclose(mel_filters(RATE, 4096, bands), theirs, atol=1e-7)

    @pytest.mark.parametrize("gain", [1.0, 1e-5, 0.0])  # very quiet estimates have a level too
    def test_bleedless_and_fullness_equal_a_plain_torch_computation(self, gain: float) -> None:
        torch = pytest.importorskip("torch")
        s, e = tone() + noise(gain=0.001), gain * (0.7 * tone() + noise())
        filters = torch.from_numpy(mel_filters(RATE, 4096, 512)).float()

        def levels(x: np.ndarray) -> torch.Tensor:
            window = torch.hann_window(4096)
            spectrum = torch.stft(
                torch.from_numpy(x), 4096, 1024, window=window, return_complex=True,
                pad_mode="constant",
            )  # fmt: skip
            level = 20 * torch.log10(torch.clamp(filters @ spectrum.abs(), min=1e-10))
            return torch.clamp(level, min=float(level.max()) - 80)

        difference = levels(e) - levels(s)
        excess, loss = (
            float(part.mean()) if part.numel() else 0.0
            for part in (difference[difference > 0], -difference[difference < 0])
        )
        assert bleedless(s, e, RATE) == pytest.approx(100 / (1 + excess), rel=1e-3)
        assert fullness(s, e, RATE) == pytest.approx(100 / (1 + loss), rel=1e-3)


class TestAwkwardAudio:
    @pytest.mark.parametrize("name", METRICS)
    @pytest.mark.parametrize("samples", [1, 2, 100, 5000])
    def test_short_audio_has_a_finite_score(self, name: str, samples: int) -> None:
        s, e = tone()[:, 10 : 10 + samples], noise()[:, :samples]
        assert math.isfinite(METRICS[name].compute(s, e, RATE))

    @pytest.mark.parametrize("name", METRICS)
    def test_a_silent_reference_is_undefined_or_finite_never_an_exception(self, name: str) -> None:
        s = np.zeros((2, 8000), np.float32)
        score = METRICS[name].compute(s, noise()[:, :8000], RATE)
        undefined = {"si_sdr", "multi_resolution_stft", "lsd", "bleedless", "fullness"}
        assert math.isnan(score) == (name in undefined)

    @pytest.mark.parametrize("name", METRICS)
    def test_a_silent_estimate(self, name: str) -> None:
        s = tone(0.2)
        score = METRICS[name].compute(s, 0 * s, RATE)
        assert math.isnan(score) == (name == "si_sdr")

    @pytest.mark.parametrize("name", METRICS)
    def test_constant_audio(self, name: str) -> None:
        s = np.full((2, 9000), 0.5, np.float32)
        assert math.isfinite(METRICS[name].compute(s, 0.8 * s, RATE))

    def test_swapped_channels_are_heard(self) -> None:
        s = np.stack([tone()[0], np.zeros(RATE, np.float32)])
        assert usdr(s, s[::-1]) == pytest.approx(-10 * math.log10(2), abs=1e-4)
        assert si_sdr(s, s[::-1]) < -100
        assert multi_resolution_stft(s, s[::-1]) > 1

    def test_clipping_costs(self) -> None:
        s = tone(gain=1.5)
        assert 5 < usdr(s, np.clip(s, -1, 1)) < 30

    def test_16_bits_are_those_of_a_file_and_fill_what_a_lossy_one_left_empty(self) -> None:
        rng = np.random.default_rng(0)
        audio = rng.uniform(-0.9, 0.9, (2, RATE)).astype(np.float32)
        file = io.BytesIO()
        soundfile.write(file, as_16_bit(audio).T, RATE, format="WAV", subtype="PCM_16")
        file.seek(0)
        read, _ = soundfile.read(file, dtype="float32")
        np.testing.assert_array_equal(read.T, as_16_bit(audio))
        spectrum = np.fft.rfft(audio)
        spectrum[:, len(spectrum[0]) // 2 :] = 0
        lossy = np.fft.irfft(spectrum, RATE).astype(np.float32)
        hiss = lossy + rng.normal(0, 1e-5, lossy.shape)  # -100 dB of full scale: nobody hears it
        assert lsd(lossy, hiss, RATE) > 1.5
        assert lsd(as_16_bit(lossy), hiss, RATE) < 0.7

    def test_silent_frames_do_not_count_in_lsd(self) -> None:
        s = np.concatenate([noise(1.0), np.zeros((2, RATE), np.float32)], axis=1)
        e = np.concatenate([0.1 * noise(1.0), noise(1.0, seed=1)], axis=1)
        assert lsd(s, e, RATE) == pytest.approx(2.0, abs=0.05)

    def test_mono_vectors_count_as_one_channel(self) -> None:
        s, e = tone()[0], noise()[0]
        assert usdr(s, e) == usdr(s[None], e[None])

    @pytest.mark.parametrize("name", METRICS)
    def test_inputs_are_not_changed(self, name: str) -> None:
        s, e = tone(0.1), noise(0.1)
        s.setflags(write=False)
        e.setflags(write=False)
        METRICS[name].compute(s, e, RATE)

    def test_bad_input_is_named(self) -> None:
        with pytest.raises(DataError, match=r"one shape, got \(2, 100\) and \(2, 99\)"):
            usdr(tone()[:, :100], tone()[:, :99])
        bad = tone()
        bad[0, 5] = np.nan
        with pytest.raises(DataError, match="the estimate holds a value that is not finite"):
            usdr(tone(), bad)
        with pytest.raises(DataError, match="one shape"):
            usdr(np.zeros((2, 0)), np.zeros((2, 0)))

    def test_silence_is_a_level(self) -> None:
        assert is_silent(np.zeros((2, 10)))
        assert is_silent(np.full((2, 10), 9e-5))
        assert not is_silent(np.full((2, 10), 2e-4))
        assert is_silent(np.zeros((2, 0)))


def test_importing_the_metrics_needs_numpy_alone() -> None:
    code = (
        "import sys, solovox.evaluation.metrics;"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
