"""Counting arithmetic: torch's counter, with what it leaves out on a CPU.

On a CPU torch counts an LSTM and a fused attention as nothing. An LSTM of `inputs` → `hidden` takes
2·4·hidden·(inputs + hidden) operations a frame, direction and layer: four gates, each a product
with the input and one with the state. Attention takes two products of queries × keys × width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def counter() -> FlopCounterMode:
    """A counter of operations, a multiplication and an addition being two."""
    aten = torch.ops.aten
    counted = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
        aten.mkldnn_rnn_layer: lstm_flops,
    }
    return FlopCounterMode(display=False, custom_mapping=counted)


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products of queries × keys × width; arguments are shapes."""
    batch, heads, length, width = query
    return int(2 * batch * heads * length * key[2] * (width + value[3]))


def lstm_flops(frames: Any, of_input: Any, of_state: Any, *_: Any, **__: Any) -> int:
    """One layer in one direction; arguments are the shapes of the input [length, batch, inputs] and
    of the weights [4·hidden, inputs] and [4·hidden, hidden]."""
    return 2 * math.prod(frames[:-1]) * (math.prod(of_input) + math.prod(of_state))
