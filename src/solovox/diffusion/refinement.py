"""Refinement noise: fresh noise added back at each step, above a cutoff only.

A deterministic sampler cannot mend what it got wrong early on; noise added back lets it try again,
but noise at low frequencies costs more than it mends. Diff-DMX therefore high-passes it (4th-order
Butterworth, 5 kHz) and rescales it to unit variance, Eq. 8-10. White noise filtered by a causal
filter and by its zero-phase twin have the same law, so only the filter's power response matters
here, and each codec applies it in its own space (`Codec.shape_noise`).
"""

from torch import Tensor


def butterworth_highpass(frequency: Tensor, cutoff: float, order: int = 4) -> Tensor:
    """The magnitude response of a Butterworth high-pass at `frequency`, both in Hz; 1/√2 at the
    cutoff."""
    ratio = float(cutoff) / frequency.clamp(min=1e-6)
    return (1 + ratio ** (2 * order)).rsqrt()
