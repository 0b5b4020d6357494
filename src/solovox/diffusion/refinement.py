"""Refinement noise: fresh noise added back at each step, above a cutoff only.

A deterministic sampler cannot mend what it got wrong early on; noise added back lets it try again,
but noise at low frequencies costs more than it mends. Diff-DMX therefore high-passes it (4th-order
Butterworth, 5 kHz) and rescales it to unit variance, Eq. 8-10. White noise filtered by a causal
filter and by its zero-phase twin have the same law, so only the filter's power response matters
here, and each codec applies it in its own space (`Codec.shape_noise`).

The paper leaves open a band that follows the input. Two are here, both rescaled alike:

| cutoff      | where the noise goes                                                        |
|-------------|-----------------------------------------------------------------------------|
| a frequency | above it, as in the paper                                                   |
| `mixture`   | above the frequency under which 95 % of the mixture's energy lies just then |
| `spread`    | where the conditioner is unsure of its estimate, coefficient by coefficient |
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = ("mixture", "spread")
"""Names that stand in place of a cutoff in Hz."""

SHARE = 0.95
HIGHEST = 0.5  # of the Nyquist frequency: little noise would be left above, and that very loud


def butterworth_highpass(frequency: Tensor, cutoff: float | Tensor, order: int = 4) -> Tensor:
    """The magnitude response of a Butterworth high-pass at `frequency`, both in Hz; 1/√2 at the
    cutoff."""
    ratio = cutoff / frequency.clamp(min=1e-6)
    return (1 + ratio ** (2 * order)).rsqrt()


def rolloff(power: Tensor, frequency: Tensor, smooth: int) -> Tensor:
    """The cutoffs [batch, frames] in Hz under which `SHARE` of a spectrum's energy lies.

    Args:
        power: energies, [batch, bins, frames].
        frequency: of the bins in Hz, rising, [bins].
        smooth: frames, an odd number, over which energies are summed first.
    """
    around = F.avg_pool1d(
        power, smooth, stride=1, padding=smooth // 2, count_include_pad=False
    ).cumsum(dim=1)
    below = (around < SHARE * around[:, -1:]).sum(dim=1).clamp(max=len(frequency) - 1)
    return frequency[below].clamp(max=HIGHEST * float(frequency[-1]))


def unsure(spread: Tensor) -> Tensor:
    """The response [batch, channels, frames] of noise for where an estimate is unsure.

    With r the spread and m its geometric mean over the chunk, r/√(r² + m²): like a high-pass's, it
    is 1/√2 at m, falls to 0 below and ends at 1 above. The mean square over a chunk is then 1.
    """
    middle = spread.clamp(min=1e-8).log().mean(dim=(1, 2), keepdim=True).exp()
    response = spread / torch.hypot(spread, middle)
    return response / response.square().mean(dim=(1, 2), keepdim=True).sqrt()
