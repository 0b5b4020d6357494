"""From a generated voice and its mixture to two stems.

| rule        | vocals                | accompaniment         | stems sum to the mixture |
|-------------|-----------------------|-----------------------|--------------------------|
| `exact`     | as generated          | mixture - vocals      | yes                      |
| `wiener`    | the mixture, filtered | mixture - vocals      | yes                      |
| `generated` | as generated          | as that of `wiener`   | no                       |

A model that generates samples takes its phase from the mixture, so subtracting its vocals removes
the voice: `exact`. A codec's decoder makes a phase of its own; subtracting that leaves the voice in
the accompaniment and adds a second one. `wiener` takes from the generated vocals only how loud they
are at each time and frequency. `generated` keeps what only generation has (breaths, highs that the
mixture hides), and its accompaniment is fit to listen to all the same.

A rule works on one chunk, so a stream gives what a whole song gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WINDOW = 4096  # samples of the filter's spectrogram, 93 ms at 44.1 kHz
FLOOR = 1e-4  # of a covariance's trace, added to its diagonal: mono is singular otherwise
TINY = 1e-12

Rule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(mixture, generated vocals) → (vocals, what the accompaniment lacks), all [batch, 2, samples]."""


def exact(mixture: Tensor, vocals: Tensor) -> tuple[Tensor, Tensor]:
    """The vocals as generated; the accompaniment is the mixture less them."""
    return vocals, vocals


def wiener(mixture: Tensor, vocals: Tensor) -> tuple[Tensor, Tensor]:
    """What the generated vocals let through of the mixture; the accompaniment is the rest."""
    filtered = wiener_filter(mixture, vocals)
    return filtered, filtered


def generated(mixture: Tensor, vocals: Tensor) -> tuple[Tensor, Tensor]:
    """The vocals as generated; the accompaniment is the rest of the `wiener` rule."""
    return vocals, wiener_filter(mixture, vocals)


RULES: dict[str, Rule] = {"exact": exact, "wiener": wiener, "generated": generated}


def wiener_filter(mixture: Tensor, vocals: Tensor) -> Tensor:
    """What a multichannel Wiener filter takes for vocals in the mixture, [batch, 2, samples].

    With x the mixture's spectrogram and s the magnitudes of the generated vocals, the first guess
    is a mask that trusts magnitudes alone, a = max(|x| - s, 0) being the accompaniment's:

        y_s = x·s²/(s² + a²),   y_a = x - y_s

    From the guess follow each source's power p (the mean of both channels) at each time and
    frequency and its covariance of left and right R at each frequency, and the filter:

        R_j = Σ_t y_j y_jᴴ / Σ_t p_j,   vocals = p_s R_s (p_s R_s + p_a R_a)⁻¹ x

    The covariances mend much of what leaked into the generated vocals or is missing in them.
    Source: Duong, Vincent & Gribonval 2010; Nugraha, Liutkus & Vincent 2016, with one iteration.

    Args:
        mixture: [batch, 2, samples].
        vocals: generated vocals, same shape.
    """
    x, loudness = _spectrogram(mixture), _spectrogram(vocals).abs()
    rest = (x.abs() - loudness).clamp(min=0)
    guess = x * (loudness.square() / (loudness.square() + rest.square() + TINY))
    voice, other = _covariance(guess), _covariance(x - guess)
    a, d, b = (v + o for v, o in zip(voice, other, strict=True))
    return _audio(_multiply(*voice, _solve(a, d, b, x)), mixture.shape[-1])


def _covariance(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p·R of y [batch, 2, bins, frames] as (left, right, left·right*), without the axis 2."""
    left, right = y.unbind(1)
    power = y.abs().square().mean(1)
    share = power / (power.sum(-1, keepdim=True) + TINY)
    moments = (left.abs().square(), right.abs().square(), left * right.conj())
    a, d, b = (share * moment.sum(-1, keepdim=True) for moment in moments)
    return a, d, b


def _multiply(a: Tensor, d: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The product of the matrices [[a, b], [b*, d]] and x [batch, 2, bins, frames]."""
    left, right = x.unbind(1)
    return torch.stack((a * left + b * right, b.conj() * left + d * right), dim=1)


def _solve(a: Tensor, d: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The product of the inverse of [[a, b], [b*, d]], made regular, and x."""
    floor = FLOOR * (a + d) + TINY
    a, d = a + floor, d + floor
    determinant = a * d - b.abs().square()
    return _multiply(d, a, -b, x) / determinant[:, None]


def _spectrogram(audio: Tensor) -> Tensor:
    """[batch, 2, samples] → [batch, 2, bins, frames]."""
    batch, channels, samples = audio.shape
    window = torch.hann_window(WINDOW, device=audio.device)
    flat = audio.reshape(batch * channels, samples)
    # Padded with zeros: a reflection needs chunks longer than half a window.
    spectra = torch.stft(
        flat, WINDOW, WINDOW // 4, window=window, pad_mode="constant", return_complex=True
    )
    return spectra.reshape(batch, channels, *spectra.shape[1:])


def _audio(spectrogram: Tensor, samples: int) -> Tensor:
    """The inverse of `_spectrogram`."""
    batch, channels = spectrogram.shape[:2]
    window = torch.hann_window(WINDOW, device=spectrogram.device)
    audio = torch.istft(
        spectrogram.flatten(0, 1), WINDOW, WINDOW // 4, window=window, length=samples
    )
    return audio.reshape(batch, channels, samples)
