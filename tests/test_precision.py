"""Networks run in bf16 where that is asked for, or fast; what is around them does not."""

import pytest
import torch

from solovox.precision import autocast

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
