"""Networks run in bf16 where that is asked for, or fast; what is around them does not."""

import numpy as np
import pytest
import torch

from solovox.checkpoint import list_models
from solovox.evaluation.metrics import usdr
from solovox.precision import autocast
from solovox.separator import Separator

CPU = torch.device("cpu")


def result_type(precision: str) -> torch.dtype:
    layer = torch.nn.Linear(4, 4)
    with autocast(CPU, precision):
        return layer(torch.zeros(1, 4)).dtype


def test_asked_for() -> None:
    assert result_type("bf16") is torch.bfloat16
    assert result_type("fp32") is torch.float32


@pytest.mark.parametrize("fast", [True, False])
def test_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    assert result_type("auto") is (torch.bfloat16 if fast else torch.float32)


def test_auto_without_that_question_is_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert result_type("auto") is torch.float32


def test_unknown_precision_is_told() -> None:
    with pytest.raises(ValueError, match="auto, bf16, fp32, not fp8"):
        autocast(CPU, "fp8")


@pytest.mark.parametrize("info", list_models(), ids=lambda info: info.name)
def test_bf16_changes_the_vocals_of_bundled_models_by_little_or_is_not_used(info):
    """40 dB apart at least and 0.05 dB of uSDR at most; a model that is not asks for fp32."""
    time = np.arange(50_000) / 44_100
    phase = 2 * np.pi * 220 * (time + 0.002 * np.sin(2 * np.pi * 5 * time))
    voice = sum(np.sin(k * phase) / k for k in range(1, 16)) * np.sin(2 * np.pi * time) ** 2
    vocals = np.stack([0.1 * voice] * 2).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(vocals.shape)
    mixture = (vocals + 0.02 * noise).astype(np.float32)
    if Separator(info.folder, device="cpu").precision == "fp32":
        return
    exact, fast = (
        Separator(info.folder, device="cpu", precision=precision).separate(mixture, 44_100)
        for precision in ("fp32", "bf16")
    )
    assert np.square(exact["vocals"]).sum() > 0.1 * np.square(vocals).sum()  # it is heard as one
    assert usdr(exact["vocals"], fast["vocals"]) > 40
    assert abs(usdr(vocals, fast["vocals"]) - usdr(vocals, exact["vocals"])) < 0.05
