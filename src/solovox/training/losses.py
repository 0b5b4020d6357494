"""What a training step minimises: the diffusion loss and the conditioner's auxiliary losses.

    loss = velocity loss (Eq. 3)  +  Σ estimate loss  +  spread loss  [+  few-step losses]

The auxiliary losses do not pass through the generator, and the generator's loss does not pass
through the estimates (Diff-DMX, arXiv 2511.21342). The spread r of an estimate μ is learnt by the
likelihood of x0 ~ N(μ, r²), μ held fixed.

With teachers, the estimates learn the mean of the teachers' estimates beside the vocals themselves
(Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"): models that err differently
err less together, and one network can learn to be their mean. Where nobody sings, silence is known
to be right, and is what is learnt.

The few-step losses walk as sampling will, from the model's own start in its own number of steps,
and score the vocals that come out (Lay et al. 2023, "Single and Few-step Diffusion for Generative
Speech Enhancement"): steps that are long are then learnt as long steps. Gradients go through the
last `few_step_depth` of them. A trained generator is fine-tuned this way; from scratch it is the
velocity loss that teaches it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solovox.diffusion.objective import velocity_loss
from solovox.diffusion.sampling import ddim, warm_start
from solovox.diffusion.schedule import times
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


def multi_resolution(estimate: Tensor, target: Tensor) -> Tensor:
    """The multi-resolution spectral distance of audio [batch, 2, samples] (Yamamoto et al. 2020).

    As `evaluation.metrics.multi_resolution_stft` measures it, each item by itself, on windows of
    512, 1024 and 2048 samples. Phases do not count: what is noise in the vocals may be other noise
    in the estimate, where errors of samples would ask for silence. Items whose vocals are below
    `QUIET` count as if they were as loud, or silence would outweigh all singing.
    """
    distances = []
    for fft in (512, 1024, 2048):
        window = torch.hann_window(fft, device=estimate.device)

        def magnitude(audio: Tensor, fft: int = fft, window: Tensor = window) -> Tensor:
            flat = audio.flatten(0, 1)
            spectrum = torch.stft(
                flat, fft, fft // 4, window=window, pad_mode="constant", return_complex=True
            )
            power = torch.view_as_real(spectrum).square().sum(dim=-1)
            return power.clamp(min=FLOOR**2).sqrt().reshape(len(audio), -1)

        s, e = magnitude(target), magnitude(estimate)
        least = QUIET * float(window.square().sum().sqrt())  # the magnitude of noise of that level
        level = s.square().mean(dim=1).sqrt().clamp(min=least)
        convergence = (s - e).square().mean(dim=1).clamp(min=FLOOR**2).sqrt() / level
        distances.append(convergence.mean() + (s.log() - e.log()).abs().mean())
    return torch.stack(distances).mean()


FLOOR = 1e-3  # of magnitudes in `multi_resolution`: mixtures have level one, and metrics floor 1e-4
QUIET = 0.1  # of a mixture's level

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
        few_step: of the error (`estimate_kind`) of vocals sampled as the model's own settings say,
            by DDIM without refinement noise.
        few_step_spectra: of the `multi_resolution` distance of the same vocals.
        few_step_depth: how many of the last steps their gradients go through; 0 is all.
        teacher: share of the teachers' mean in what the estimates learn, where there are teachers.

    Where there is a few-step loss, a velocity loss of weight 0 is not computed.

    Raises:
        ModelError: if there is no loss of that name, the depth is below 0, or the share is not one.
    """

    diffusion: float = 1.0
    estimate: float = 1.0
    coefficients: float = 0.0
    spread: float = 0.1
    estimate_kind: str = "l2"
    few_step: float = 0.0
    few_step_spectra: float = 0.0
    few_step_depth: int = 1
    teacher: float = 0.7

    @property
    def samples(self) -> bool:
        """Whether vocals are sampled for any of the losses."""
        return bool(self.few_step or self.few_step_spectra)

    def __post_init__(self) -> None:
        if self.estimate_kind not in ESTIMATE_LOSSES:
            kinds = " or ".join(ESTIMATE_LOSSES)
            raise ModelError(f"the loss of the estimates is {kinds}, not {self.estimate_kind}")
        if self.few_step_depth < 0:
            raise ModelError(f"few_step_depth must be 0 or more, not {self.few_step_depth}")
        if not 0 <= self.teacher <= 1:
            raise ModelError(f"teacher must be from 0 to 1, not {self.teacher}")


class SeparationLoss(nn.Module):
    """The losses of a model as one module, so that an engine can wrap it whole.

    Frozen parts, and the codec always, are made so: they get no gradient and stay in evaluation
    mode.

    Args:
        model: the model.
        config: the losses' weights.
        precision: of the networks, see `solovox.precision`.
        frozen: parts that are not trained: "conditioner", "generator". Their losses are left out.
        teachers: models whose mean estimate the estimates learn; they are left as they are.

    Raises:
        ModelError: if there are to be few-step losses and the model samples in no step, or a
            teacher works at another sample rate.
    """

    def __init__(
        self,
        model: SeparationModel,
        config: LossConfig,
        precision: str = "auto",
        frozen: tuple[str, ...] = (),
        teachers: Sequence[SeparationModel] = (),
    ) -> None:
        super().__init__()
        rate = model.codec.sample_rate
        for teacher in teachers:
            if teacher.codec.sample_rate != rate:
                raise ModelError(
                    f"{teacher.config.name} works at {teacher.codec.sample_rate} Hz and cannot "
                    f"teach at {rate} Hz; choose another teacher"
                )
        if config.samples and not model.config.sampling.steps:
            raise ModelError("few-step losses need a model that samples in 1 step or more")
        self.model = model
        self.config = config
        self.precision = precision
        self.frozen = frozen
        self._teachers = tuple(teachers)  # a tuple: no part of this module, so never trained
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
            if self.config.diffusion or not self.config.samples:
                losses["diffusion"] = self._diffusion(x0, t, eps, features)
            if self.config.samples:
                losses |= self._few_steps(vocals, eps, features)
        if "conditioner" not in self.frozen:
            losses |= self._estimates(self._taught(mixture, vocals), x0, features)
        return losses

    def _diffusion(self, x0: Tensor, t: Tensor, eps: Tensor, features: Features) -> Tensor:
        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x_t.device, self.precision):
                return self.model.velocity(x_t, t, features)

        return self.config.diffusion * velocity_loss(velocity, x0, eps, t)

    def _few_steps(self, vocals: Tensor, eps: Tensor, features: Features) -> dict[str, Tensor]:
        config, sampling = self.config, self.model.config.sampling

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(x_t.device, self.precision):
                return self.model.velocity(x_t, t.to(x_t.device).expand(len(x_t)), features).float()

        x = eps
        lost: Tensor | float = 0.0
        if sampling.start < 1:
            if features.mean is None:
                raise ModelError(f"{self.model.config.name} has no estimate to start sampling from")
            lost = self.model.lost(features)
            x = warm_start(features.mean.detach().float(), eps, sampling.start)
        grid = times(sampling.steps, sampling.start, sampling.spacing)
        first = max(0, sampling.steps - config.few_step_depth) if config.few_step_depth else 0
        with torch.no_grad():
            x = ddim(velocity, x, grid[: first + 1])
        x0 = ddim(velocity, x, grid[first:])
        sampled = self.model.codec.decode(x0, vocals.shape[-1]) + lost
        losses = {}
        if config.few_step:
            error = ESTIMATE_LOSSES[config.estimate_kind](sampled, vocals)
            losses["few_step"] = config.few_step * error
        if config.few_step_spectra:
            losses["few_step_spectra"] = config.few_step_spectra * multi_resolution(sampled, vocals)
        return losses

    @torch.no_grad()
    def _taught(self, mixture: Tensor, vocals: Tensor) -> Tensor:
        """What the estimates are to be, [batch, 2, samples]: vocals, and what teachers hear."""
        if not self._teachers or not self.config.teacher:
            return vocals
        heard = []
        for teacher in self._teachers:
            level = teacher.level(mixture)
            with autocast(mixture.device, self.precision):
                estimate = teacher.conditioner(mixture / level).estimate
            if estimate is None:
                raise ModelError(f"{teacher.config.name} makes no estimate that could be learnt")
            heard.append(estimate.float() * level)
        sung, heard_all = (a.square().mean(dim=(1, 2), keepdim=True) for a in (vocals, mixture))
        share = torch.where(sung > QUIET**2 * heard_all, self.config.teacher, 0.0)
        return vocals + share * (torch.stack(heard).mean(dim=0) - vocals)

    def _estimates(self, target: Tensor, x0: Tensor, features: Features) -> dict[str, Tensor]:
        config, kind = self.config, ESTIMATE_LOSSES[self.config.estimate_kind]
        losses = {
            f"estimate{i}": config.estimate * kind(estimate.float(), target)
            for i, estimate in enumerate(features.estimates)
        }
        if config.coefficients and features.mean is not None:
            coefficients = self.model.codec.encode(target) if self._teachers else x0
            losses["coefficients"] = config.coefficients * rms(features.mean, coefficients)
        if features.spread is not None and features.mean is not None:
            error = (x0 - features.mean.detach()) / features.spread
            likelihood = 0.5 * error.square() + torch.log(features.spread)
            losses["spread"] = config.spread * likelihood.mean()
        return losses
