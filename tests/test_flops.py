"""The benchmarks' counter of arithmetic, against closed forms."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def flops(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("flops")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@torch.no_grad()
def test_an_lstm_takes_eight_products_a_frame(
    flops: ModuleType, directions: int, batch_first: bool
) -> None:
    length, batch, i, h = 7, 3, 12, 20
    lstm = nn.LSTM(i, h, num_layers=2, bidirectional=directions == 2, batch_first=batch_first)
    with flops.counter() as counted:
        lstm(torch.randn((batch, length, i) if batch_first else (length, batch, i)))
    layers = [2 * 4 * h * (inputs + h) for inputs in (i, directions * h)]
    assert counted.get_total_flops() == length * batch * directions * sum(layers)


@torch.no_grad()
def test_attention_takes_two_products(flops: ModuleType) -> None:
    query, key, value = (torch.randn(2, 3, n, 8) for n in (10, 14, 14))
    with flops.counter() as counted:
        F.scaled_dot_product_attention(query, key, value)
    assert counted.get_total_flops() == 2 * (2 * 2 * 3 * 10 * 14 * 8)
