"""The few-step losses: they are what sampling would give, and gradients go where they should."""

from dataclasses import replace

import pytest
import torch
from random_models import stirred
from tiny_runs import BANDS, TINY, WAVES

from solovox.errors import ModelError
from solovox.evaluation.metrics import multi_resolution_stft
from solovox.model import SeparationModel
from solovox.networks.nothing import NothingConfig
from solovox.presets import ModelConfig, build_model
from solovox.separator import generate_takes
from solovox.training.losses import (
    ESTIMATE_LOSSES,
    QUIET,
    LossConfig,
    SeparationLoss,
    multi_resolution,
)

MODELS = pytest.mark.parametrize(
    "config",
    [
        replace(BANDS, sampling=replace(BANDS.sampling, steps=3, start=0.4)),
        replace(WAVES, sampling=replace(WAVES.sampling, steps=2, start=1.0, eta=0.0)),
    ],
    ids=lambda config: config.name,
)
KIND = replace(TINY.loss, estimate_kind="rms")


def built(config: ModelConfig) -> SeparationModel:
    return stirred(config, 0.05)


def batch(model: SeparationModel, items: int = 2) -> tuple[torch.Tensor, ...]:
    """(mixture, vocals, t, eps)."""
    torch.manual_seed(1)
    samples = model.config.chunk
    vocals, rest = 0.2 * torch.randn(2, items, 2, samples)
    shape = (items, model.codec.channels, model.codec.frames(samples))
    return vocals + rest, vocals, torch.rand(items), torch.randn(shape)


@MODELS
def test_few_step_losses_score_what_sampling_gives(config: ModelConfig) -> None:
    model = built(config)
    mixture, vocals, t, eps = batch(model)
    loss = SeparationLoss(model, replace(KIND, few_step=2.0, few_step_spectra=0.5), "fp32")
    with torch.no_grad():
        losses = loss(mixture, vocals, t, eps)
        sampled = next(generate_takes(model, mixture, [lambda: eps], config.sampling, "fp32"))
    level = model.level(mixture)
    expected = 2 * ESTIMATE_LOSSES["rms"](sampled / level, vocals / level)
    torch.testing.assert_close(losses["few_step"], expected)
    expected = 0.5 * multi_resolution(sampled / level, vocals / level)
    torch.testing.assert_close(losses["few_step_spectra"], expected)


@MODELS
def test_gradients_go_through_as_many_steps_as_asked(config: ModelConfig) -> None:
    gradients, passes = [], []
    for depth in (1, config.sampling.steps, 0):
        model = built(config)
        inside: list[bool] = []
        model.generator.register_forward_hook(
            lambda *_, inside=inside: inside.append(torch.is_grad_enabled())
        )
        weights = LossConfig(diffusion=0.0, few_step=1.0, few_step_depth=depth)
        losses = SeparationLoss(model, weights, "fp32", ("conditioner",))(*batch(model))
        assert losses.keys() == {"few_step"}
        losses["few_step"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.generator.parameters()]))
        passes.append(inside)
    assert passes[0] == [False] * (config.sampling.steps - 1) + [True]
    assert passes[1] == passes[2] == [True] * config.sampling.steps
    torch.testing.assert_close(gradients[1], gradients[2])
    assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[1].norm()


def test_few_step_losses_leave_the_estimate_alone() -> None:
    model = built(BANDS)
    weights = LossConfig(diffusion=0.0, estimate=0.0, spread=0.0, few_step=1.0)
    losses = SeparationLoss(model, weights, "fp32")(*batch(model))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    conditioner = model.conditioner
    assert all(not p.grad.any() for p in conditioner.mask.parameters() if p.grad is not None)
    assert all(not p.grad.any() for p in conditioner.log_spread.parameters())
    assert any(p.grad.any() for p in conditioner.unet.parameters() if p.grad is not None)


def test_few_step_losses_can_be_trained_down() -> None:
    model = built(BANDS)
    weights = LossConfig(diffusion=0.0, few_step=1.0, few_step_spectra=0.2, estimate_kind="rms")
    loss = SeparationLoss(model, weights, "fp32", ("conditioner",))
    optimizer = torch.optim.AdamW(model.generator.parameters(), lr=1e-2)
    totals = []
    for _ in range(40):
        losses = loss(*batch(model))
        total = losses["few_step"] + losses["few_step_spectra"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.9 * totals[0]


def test_few_step_losses_need_steps() -> None:
    config = replace(BANDS, sampling=replace(BANDS.sampling, steps=0))
    with pytest.raises(ModelError, match="1 step or more"):
        SeparationLoss(build_model(config), LossConfig(few_step=1.0))
    with pytest.raises(ModelError, match="few_step_depth must be 0 or more"):
        LossConfig(few_step_depth=-1)


def test_estimates_learn_the_teachers_mean_where_somebody_sings() -> None:
    model, teachers = built(BANDS), [built(BANDS), build_model(BANDS)]
    before = [teacher.state_dict() for teacher in teachers]
    mixture, vocals, t, eps = batch(model)
    vocals[1] = 0
    with torch.no_grad():
        level = model.level(mixture)
        heard = [teacher.conditioner(mixture / level).estimate for teacher in teachers]
        estimate = model.conditioner(mixture / level).estimate
    vocals_heard = vocals / level
    expected = vocals_heard.clone()
    expected[0] = 0.3 * vocals_heard[0] + 0.7 * (heard[0][0] + heard[1][0]) / 2
    weights = replace(KIND, estimate=2.0, coefficients=1.0, teacher=0.7)
    loss = SeparationLoss(model, weights, "fp32", ("generator",), teachers)
    losses = loss(mixture, vocals, t, eps)
    rms = ESTIMATE_LOSSES["rms"]
    torch.testing.assert_close(losses["estimate0"], 2 * rms(estimate, expected))
    coefficients = rms(model.codec.encode(estimate), model.codec.encode(expected))
    torch.testing.assert_close(losses["coefficients"], coefficients)
    # The spread is that of the estimate's true error, whatever the teachers say.
    alone = SeparationLoss(model, weights, "fp32", ("generator",))(mixture, vocals, t, eps)
    torch.testing.assert_close(losses["spread"], alone["spread"])
    assert (losses["estimate0"] - alone["estimate0"]).abs() > 1e-3
    # Teachers are neither trained nor saved.
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for teacher, weights_before in zip(teachers, before, strict=True):
        assert all(p.grad is None for p in teacher.parameters())
        assert all(torch.equal(v, weights_before[k]) for k, v in teacher.state_dict().items())
    assert loss.state_dict().keys() == SeparationLoss(model, weights).state_dict().keys()


def test_teachers_hear_the_level_they_know() -> None:
    teacher, student = built(BANDS), build_model(replace(BANDS, normalise=False))
    mixture, vocals, _, _ = batch(student)
    heard = teacher.conditioner(mixture / teacher.level(mixture)).estimate
    loss = SeparationLoss(student, replace(KIND, teacher=1.0), "fp32", teachers=[teacher])
    torch.testing.assert_close(loss._taught(mixture, vocals), heard * teacher.level(mixture))


def test_teachers_must_hear_the_same_and_estimate() -> None:
    model = build_model(BANDS)
    other = replace(BANDS, codec=replace(BANDS.codec, sample_rate=16_000))
    with pytest.raises(ModelError, match="works at 16000 Hz and cannot teach at 8000 Hz"):
        SeparationLoss(model, KIND, teachers=[build_model(other)])
    plain = build_model(replace(WAVES, conditioner=NothingConfig()))
    with pytest.raises(ModelError, match="tiny-waves makes no estimate that could be learnt"):
        SeparationLoss(model, KIND, "fp32", ("generator",), [plain])(*batch(model))
    with pytest.raises(ModelError, match="teacher must be from 0 to 1"):
        LossConfig(teacher=1.5)


def test_multi_resolution_distance() -> None:
    torch.manual_seed(0)
    target = torch.randn(3, 2, 44_100)
    assert float(multi_resolution(target, target)) < 1e-3
    # At half the level: convergence 1/2, and ln 2 between the logarithms.
    half = float(multi_resolution(target / 2, target))
    assert half == pytest.approx(0.5 + 0.6931, abs=1e-3)
    # It goes as the metric does, whose windows are a little shorter.
    other = target + 0.5 * torch.randn_like(target)
    pairs = list(zip(target, other, strict=True))
    metric = [multi_resolution_stft(t.numpy(), o.numpy()) for t, o in pairs]
    assert float(multi_resolution(other, target)) == pytest.approx(sum(metric) / 3, rel=0.05)
    # Other noise of the same level is nearer than near silence, unlike sample by sample.
    assert multi_resolution(torch.randn_like(target), target) < 1.5
    assert multi_resolution(0.1 * target, target) > 3
    # Each item counts by itself, and a silent one is finite, with a finite gradient.
    alone = torch.stack([multi_resolution(o[None], t[None]) for t, o in pairs])
    torch.testing.assert_close(multi_resolution(other, target), alone.mean())
    quiet = (0.5 * QUIET * target).requires_grad_()
    distance = multi_resolution(quiet, torch.zeros_like(target))
    distance.backward()
    assert 0.4 < float(distance.detach()) < 20
    assert quiet.grad is not None and quiet.grad.isfinite().all()
