"""What a training step minimises: the diffusion loss and the conditioner's auxiliary losses.

    loss = velocity loss (Eq. 3)  +  Σ estimate loss  +  spread loss

The auxiliary losses do not pass through the generator, and the generator's loss does not pass
through the estimates (Diff-DMX, arXiv 2511.21342). The spread r of an estimate μ is learnt by the
likelihood of x0 ~ N(μ, r²), μ held fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.diffusion.objective import velocity_loss
from solovox.errors import ModelError
from solovox.model import SeparationModel
from solovox.networks.features import Features
from solovox.precision import autocast


def l2(estimate: Tensor, target: Tensor) -> Tensor:
    """The mean square error of audio [batch, 2, samples], as in Diff-DMX."""
    return F.mse_loss(estimate, target)


def spectral(estimate: Tensor, target: Tensor) -> Tensor:
    """The mean absolute error of audio [batch, 2, samples] and of its complex spectrograms at two
    resolutions."""
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


def rms(estimate: Tensor, target: Tensor) -> Tensor:
    """The root mean square error of each item [batch, …], averaged: like `l2` it asks for the mean
    of what the vocals may be, but a loud item does not drown the others."""
    return (estimate - target).square().flatten(1).mean(dim=1).add(1e-8).sqrt().mean()


ESTIMATE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": l2,
    "spectral": spectral,
    "rms": rms,
}


@dataclass(frozen=True)
class LossConfig:
    """The losses' weights.

    Attributes:
        diffusion: of the velocity loss.
        estimate: of each auxiliary estimate's loss.
        coefficients: of the finest estimate's rms error in the codec's space, where a lapped
            transform weighs high bands like low ones.
        spread: of the spread's likelihood.
        estimate_kind: a name of ESTIMATE_LOSSES.

    Raises:
        ModelError: if there is no loss of that name.
    """

    diffusion: float = 1.0
    estimate: float = 1.0
    coefficients: float = 0.0
    spread: float = 0.1
    estimate_kind: str = "l2"

    def __post_init__(self) -> None:
        if self.estimate_kind not in ESTIMATE_LOSSES:
            kinds = " or ".join(ESTIMATE_LOSSES)
            raise ModelError(f"the loss of the estimates is {kinds}, not {self.estimate_kind}")


class SeparationLoss(nn.Module):
    """The losses of a model as one module, so that an engine can wrap it whole.

    Frozen parts, and the codec always, are made so: they get no gradient and stay in evaluation
    mode.

    Args:
        model: the model.
        config: the losses' weights.
        precision: of the networks, see `solovox.precision`.
        frozen: parts that are not trained: "conditioner", "generator". Their losses are left out.
    """

    def __init__(
        self,
        model: SeparationModel,
        config: LossConfig,
        precision: str = "auto",
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.precision = precision
        self.frozen = frozen
        for part in ("codec", "conditioner", "generator"):
            model.get_submodule(part).requires_grad_(part not in (*frozen, "codec"))
        self.train()

    def train(self, mode: bool = True) -> "SeparationLoss":
        """Training mode for what is trained."""
        super().train(mode)
        for part in (*self.frozen, "codec"):
            self.model.get_submodule(part).eval()
        return self

    def forward(self, mixture: Tensor, vocals: Tensor, t: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name, to be summed.

        Args:
            mixture, vocals: audio, [batch, 2, samples].
            t, eps: time [batch] and noise in the codec's space, for the velocity loss.
        """
        level = self.model.level(mixture)
        mixture, vocals = mixture / level, vocals / level
        hears = torch.is_grad_enabled() and "conditioner" not in self.frozen
        with torch.set_grad_enabled(hears), autocast(mixture.device, self.precision):
            features = self.model.condition(mixture)
        with torch.no_grad():
            x0 = self.model.codec.encode(vocals)
        losses: dict[str, Tensor] = {}
        if "generator" not in self.frozen:
            losses["diffusion"] = self._diffusion(x0, t, eps, features)
        if "conditioner" not in self.frozen:
            losses |= self._estimates(vocals, x0, features)
        return losses

    def _diffusion(self, x0: Tensor, t: Tensor, eps: Tensor, features: Features) -> Tensor:
        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x_t.device, self.precision):
                return self.model.velocity(x_t, t, features)

        return self.config.diffusion * velocity_loss(velocity, x0, eps, t)

    def _estimates(self, vocals: Tensor, x0: Tensor, features: Features) -> dict[str, Tensor]:
        config, kind = self.config, ESTIMATE_LOSSES[self.config.estimate_kind]
        losses = {
            f"estimate{i}": config.estimate * kind(estimate.float(), vocals)
            for i, estimate in enumerate(features.estimates)
        }
        if config.coefficients and features.mean is not None:
            losses["coefficients"] = config.coefficients * rms(features.mean, x0)
        if features.spread is not None and features.mean is not None:
            error = (x0 - features.mean.detach()) / features.spread
            likelihood = 0.5 * error.square() + torch.log(features.spread)
            losses["spread"] = config.spread * likelihood.mean()
        return losses
