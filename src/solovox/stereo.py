"""Left and right, mid and side."""

import math

import torch
from torch import Tensor


def mid_side(x: Tensor, dim: int) -> Tensor:
    """Left and right along `dim` turned into mid and side, or back (orthonormal)."""
    left, right = x.chunk(2, dim=dim)
    return torch.cat((left + right, left - right), dim=dim) * math.sqrt(0.5)
