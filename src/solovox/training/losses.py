"""What a training step minimises: the diffusion loss and the conditioner's auxiliary losses.

    loss = velocity loss (Eq. 3)  +  Σ estimate loss  +  spread loss

The auxiliary losses do not pass through the generator, and the generator's loss does not pass through the estimates (Diff-DMX, arXiv
2511.21342). The spread r of an estimate μ is learnt by the likelihood of x0 ~ N(μ, r²), μ held fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.diffusion.objective import velocity_loss
from solovox.model import SeparationModel
from solovox.precision import autocast


def l2(estimate: Tensor, target: Tensor) -> Tensor:
    """The mean square error of audio [batch, 2, samples], as in Diff-DMX."""
    return F.mse_loss(estimate, target)


def spectral(estimate: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error of audio [batch, 2, samples] and of its complex spectrograms at two resolutions."""
    loss = F.l1_loss(estimate, target)
    error = (estimate - target).flatten(0, 1)
    for window in (512, 2048):
        spectrum = torch.stft(
            error,
            n_fft=window,
            hop_length=window // 4,
            window=torch.hann_window(window, device=error.device),
            normalized=True,
            return_complex=True,
        )
        loss = loss + spectrum.abs().mean() / 2
    return loss


ESTIMATE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": l2, "spectral": spectral}


@dataclass(frozen=True)
class LossConfig:
    """The losses' weights; a weight of 0 leaves a loss out.

    Attributes:
        diffusion: of the velocity loss.
        estimate: of each auxiliary estimate's loss.
        spread: of the spread's likelihood.
        estimate_kind: a name of ESTIMATE_LOSSES.
    """

    diffusion: float = 1.0
    estimate: float = 1.0
    spread: float = 0.1
    estimate_kind: str = "l2"


class SeparationLoss(nn.Module):
    """The losses of a model as one module, so that an engine can wrap it whole."""

    def __init__(
        self,
        model: SeparationModel,
        config: LossConfig,
        precision: str = "auto",
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.precision = precision
        self.model = model
        self.config = config
        self.frozen = frozen

    def forward(self, mixture: Tensor, vocals: Tensor, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name, to be summed.

        Args:
            mixture, vocals: audio, [batch, 2, samples].
            t, eps: time [batch] and noise in the codec's space, for the velocity loss.
        """
        model, config = self.model, self.config
        level = model.level(mixture)
        mixture, vocals = mixture / level, vocals / level
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and "conditioner" not in self.frozen),
            autocast(mixture.device, self.precision),
        ):
            features = model.condition(mixture)
        with torch.no_grad():
            x0 = model.codec.encode(vocals)
        losses: dict[str, Tensor] = {}
        if "generator" not in self.frozen:

            def velocity(x_t: Tensor, t: Tensor) -> Tensor:
                with autocast(x_t.device, self.precision):
                    return model.velocity(x_t, t, features)

            losses["diffusion"] = config.diffusion * velocity_loss(velocity, x0, eps, t)
        if "conditioner" not in self.frozen:
            kind = ESTIMATE_LOSSES[config.estimate_kind]
            for i, estimate in enumerate(features.estimates):
                losses[f"estimate{i}"] = config.estimate * kind(estimate, vocals)
            if features.spread is not None and features.mean is not None:
                error = (x0 - features.mean.detach()) / features.spread
                likelihood = 0.5 * error.square() + torch.log(features.spread)
                losses["spread"] = config.spread * likelihood.mean()
        return losses
