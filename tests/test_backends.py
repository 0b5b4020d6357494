"""Other engines compute the same."""

import sys

import numpy as np
import pytest

from solovox.errors import SolovoxError
from solovox.separator import Separator


def song(samples):
    noise = np.random.default_rng(0).standard_normal((2, samples))
    return (0.1 * noise).astype(np.float32)


def apart(a, b):
    """How far two results are apart, in dB below the first."""
    return 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum())


@pytest.mark.parametrize(("precision", "decibels"), [("fp32", 80), ("bf16", 40)])
def test_openvino_gives_what_torch_gives(precision, decibels):
    pytest.importorskip("openvino")
    mixture = song(44_100)
    settings = {"steps": 1, "device": "cpu", "precision": precision}
    expected = Separator(**settings).separate(mixture, 44_100)["vocals"]
    found = Separator(**settings, backend="openvino").separate(mixture, 44_100)["vocals"]
    assert apart(expected, found) > decibels


def test_a_separator_s_model_serves_another_engine():
    pytest.importorskip("openvino")
    settings = {"steps": 1, "device": "cpu", "precision": "fp32"}
    plain, mixture = Separator(**settings), song(44_100)
    other = Separator(plain.model, **settings, backend="openvino")
    again = Separator(other.model, **settings, backend="openvino")
    back = Separator(other.model, **settings)
    expected = plain.separate(mixture, 44_100)["vocals"]
    assert apart(expected, again.separate(mixture, 44_100)["vocals"]) > 80
    np.testing.assert_array_equal(expected, back.separate(mixture, 44_100)["vocals"])


def test_compile_is_torch_s_own(oracle, monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.compile", lambda module, mode: compiled.append(mode) or module)
    model = oracle(0.5)
    vocals = Separator(model, backend="compile").separate(song(2000), 8000)["vocals"]
    np.testing.assert_allclose(vocals, 0.5 * song(2000), atol=1e-6)
    assert compiled == ["reduce-overhead"]


def test_a_missing_engine_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SolovoxError, match=r"pip install 'solovox\[openvino\]'"):
        Separator(backend="openvino", device="cpu")


def test_an_unknown_engine_is_one_line(oracle):
    with pytest.raises(SolovoxError, match="backend must be torch or openvino or compile, not 'x'"):
        Separator(oracle(), backend="x")
