"""Short-time spectra invert exactly, and oracles are in the order that theory gives."""

from __future__ import annotations

import numpy as np
import pytest

from solovox.evaluation.metrics import usdr
from solovox.evaluation.oracles import ORACLES, irm, wiener
from solovox.evaluation.spectra import hann, inverse, spectra

RATE = 44_100


def song(seconds: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A gliding voice in the middle, and a chord with hiss to the sides."""
    time = np.arange(round(seconds * RATE)) / RATE
    glide = sum(np.sin(2 * np.pi * k * (220 * time + 30 * time**2)) / k for k in range(1, 8))
    chord = sum(np.sin(2 * np.pi * f * time) for f in (196.0, 246.9, 293.7))
    hiss = np.random.default_rng(0).standard_normal((2, time.size))
    vocals = 0.1 * np.stack([glide, glide])
    accompaniment = 0.1 * np.stack([chord, 0.3 * chord]) + 0.02 * hiss
    return vocals.astype(np.float32), accompaniment.astype(np.float32)


@pytest.mark.parametrize("samples", [1, 1000, 4096, 50_001])
@pytest.mark.parametrize(("fft", "hop"), [(2048, 1024), (4096, 1024), (512, 50)])
def test_inverse_undoes_spectra(samples: int, fft: int, hop: int) -> None:
    audio = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    blocks = (b for (b,) in spectra((audio,), fft, hop, hann(fft, fft), pad="constant"))
    found = inverse(blocks, fft, hop, hann(fft, fft), samples)
    np.testing.assert_allclose(found, audio, atol=1e-5)


def test_spectra_equal_torch_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("solovox.evaluation.spectra.BLOCK_VALUES", 10_000)
    audio = np.random.default_rng(0).standard_normal((2, 9000))
    ours = np.concatenate([b for (b,) in spectra((audio,), 1024, 200, hann(600, 1024))], axis=1)
    theirs = torch.stft(
        torch.from_numpy(audio), 1024, 200, 600,
        torch.hann_window(600, dtype=torch.float64), return_complex=True,
    )  # fmt: skip
    np.testing.assert_allclose(ours.transpose(0, 2, 1), theirs.numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ORACLES)
def test_every_oracle_follows_the_protocol(name: str) -> None:
    vocals, accompaniment = song(0.5)
    stems = ORACLES[name](vocals, accompaniment)(vocals + accompaniment, RATE)
    assert sorted(stems) == ["accompaniment", "vocals"]
    for audio in stems.values():
        assert audio.dtype == np.float32
        assert audio.shape == vocals.shape
        assert np.isfinite(audio).all()


def test_oracles_are_ordered() -> None:
    vocals, accompaniment = song()
    mixture = vocals + accompaniment
    found = {
        name: usdr(vocals, make(vocals, accompaniment)(mixture, RATE)["vocals"])
        for name, make in ORACLES.items()
    }
    assert found["silence"] == pytest.approx(0.0, abs=1e-6)
    assert found["mixture"] == pytest.approx(usdr(vocals, mixture))
    # The voice sits in the middle and the chord to a side: only the Wiener filter uses that.
    assert found["wiener"] > found["irm"] > found["silence"] > found["mixture"]


@pytest.mark.parametrize("oracle", [irm, wiener])
def test_filters_are_exact_where_stems_do_not_overlap(oracle) -> None:  # type: ignore[no-untyped-def]
    vocals, _ = song()
    silent = np.zeros_like(vocals)
    assert usdr(vocals, oracle(vocals, silent)(vocals, RATE)["vocals"]) > 60
    assert np.abs(oracle(silent, vocals)(vocals, RATE)["vocals"]).max() < 1e-4


def test_filters_sum_to_the_mixture() -> None:
    vocals, accompaniment = song()
    for oracle in (irm, wiener):
        stems = oracle(vocals, accompaniment)(vocals + accompaniment, RATE)
        np.testing.assert_allclose(
            stems["vocals"] + stems["accompaniment"], vocals + accompaniment, atol=1e-6
        )
