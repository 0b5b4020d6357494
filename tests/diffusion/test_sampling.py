"""Samplers on a Gaussian, whose velocity is known: what they must do, exactly."""

import itertools
import math
from itertools import pairwise

import pytest
import torch

from solovox.diffusion.noise import ChunkNoise
from solovox.diffusion.refinement import butterworth_highpass
from solovox.diffusion.sampling import SAMPLERS, ddim, refinement_scale, warm_start
from solovox.diffusion.schedule import alpha, sigma, times

DEVIATION = 0.5


def gaussian_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The exact velocity for x0 ~ N(0, DEVIATION²)."""
    a, s = alpha(t), sigma(t)
    variance = (a * DEVIATION) ** 2 + s**2
    x0 = a * DEVIATION**2 / variance * x
    eps = s / variance * x
    return a * eps - s * x0


def ddim_gain(steps: int) -> float:
    """What DDIM's steps multiply x by: (a'·a·d² + s'·s)/(a²·d² + s²) a step."""
    gain, grid = 1.0, times(steps).tolist()
    for t, u in itertools.pairwise(grid):
        a, s = math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)
        a_next, s_next = math.cos(u * math.pi / 2), math.sin(u * math.pi / 2)
        gain *= (a_next * a * DEVIATION**2 + s_next * s) / (a**2 * DEVIATION**2 + s**2)
    return gain


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_ddim_has_the_exact_gain_on_a_gaussian(steps):
    x = torch.randn(3, 2, 20, dtype=torch.float64)
    torch.testing.assert_close(ddim(gaussian_velocity, x, times(steps)), ddim_gain(steps) * x)


@pytest.mark.parametrize(
    ("name", "spacing", "order"),
    [("ddim", "uniform", 1), ("heun", "uniform", 2), ("dpmpp-2m", "log-snr", 2)],
)
def test_order_of_convergence(name, spacing, order):
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = [
        abs(float(SAMPLERS[name](gaussian_velocity, x, grid)) - DEVIATION)
        for grid in (times(steps, spacing=spacing) for steps in (80, 160, 320))
    ]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(found - order) < 0.15 for found in orders)


def deviation_drawn(name: str, grid: torch.Tensor, eta: float) -> float:
    """The exact standard deviation of what a sampler draws.

    It is linear in all noise it is given, so its response to each draw alone, one a batch item,
    says everything.
    """
    size = len(grid) + 1
    draws = iter(torch.eye(size, dtype=torch.float64)[:, :, None, None])
    drawn = SAMPLERS[name](
        gaussian_velocity, next(draws), grid, eta=eta, refinement=lambda: next(draws)
    )
    return float(drawn.square().sum().sqrt())


@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize(
    ("name", "spacing", "order"),
    [("ddim", "cosine", 1), ("dpmpp-2m", "log-snr", 2)],
)
def test_weak_order_of_convergence_with_refinement_noise(name, spacing, order, eta):
    """What is drawn has the right law, by the same order in the steps as without noise."""
    errors = [
        abs(deviation_drawn(name, times(steps, spacing=spacing), eta) - DEVIATION)
        for steps in (80, 160, 320)
    ]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(found - order) < 0.15 for found in orders)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_perfect_velocity_gives_the_clean_signal(name, steps):
    x0, eps = torch.randn(2, 4, 2, 30, dtype=torch.float64)
    exact = SAMPLERS[name](lambda x, t: alpha(t) * eps - sigma(t) * x0, eps, times(steps))
    torch.testing.assert_close(exact, x0)


@pytest.mark.parametrize(("name", "passes"), [("ddim", 5), ("heun", 9), ("dpmpp-2m", 5)])
def test_passes_of_the_network(name, passes):
    calls = []

    def velocity(x, t):
        calls.append(float(t))
        return gaussian_velocity(x, t)

    SAMPLERS[name](velocity, torch.ones(1, 1, 1), times(5))
    assert len(calls) == passes
    assert all(0 < t <= 1 for t in calls)


def test_refinement_keeps_the_variance():
    t, s = torch.tensor(0.8), torch.tensor(0.5)
    delta = refinement_scale(t, s, 0.7)
    direction = (sigma(s).square() - delta.square()).sqrt()  # Eq. 9
    torch.testing.assert_close(direction.square() + delta.square(), sigma(s).square())
    assert delta > 0


def test_refinement_scale_is_ddpm_at_eta_one():
    t, s = torch.tensor(0.8), torch.tensor(0.5)
    posterior = (sigma(s) / sigma(t)).square() * (1 - (alpha(t) / alpha(s)).square())
    torch.testing.assert_close(refinement_scale(t, s, 1.0).square(), posterior)


@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m"])
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_stochastic_sampling_draws_the_gaussian(name, eta):
    noise = ChunkNoise(0, [0], (1, 200_000), torch.device("cpu"))
    sample = SAMPLERS[name](gaussian_velocity, noise(), times(200), eta=eta, refinement=noise)
    assert abs(float(sample.std()) - DEVIATION) < 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_refinement_without_noise_is_refused(name):
    with pytest.raises(ValueError, match="refinement noise"):
        SAMPLERS[name](gaussian_velocity, torch.zeros(1, 1, 1), times(2), eta=0.4)


def test_warm_start_has_the_schedule_s_levels():
    estimate, noise = torch.full((1, 1, 4), 2.0), torch.full((1, 1, 4), 3.0)
    expected = 2 * math.cos(0.3 * math.pi / 2) + 3 * math.sin(0.3 * math.pi / 2)
    torch.testing.assert_close(warm_start(estimate, noise, 0.3), torch.full((1, 1, 4), expected))


def test_noise_of_a_chunk_is_the_same_in_any_batch():
    cpu = torch.device("cpu")
    together, alone = ChunkNoise(3, [4, 5, 6], (2, 8), cpu), ChunkNoise(3, [5], (2, 8), cpu)
    for _ in range(3):
        assert torch.equal(together()[1], alone()[0])


def test_noise_is_unrelated_between_chunks_and_seeds():
    cpu, shape = torch.device("cpu"), (1, 100_000)
    draws = torch.cat([ChunkNoise(seed, [0, 1, 2], shape, cpu)()[:, 0] for seed in (0, 1, 2)])
    correlation = torch.corrcoef(draws) - torch.eye(9)
    assert correlation.abs().max() < 0.02


def test_butterworth_response():
    response = butterworth_highpass(torch.tensor([0.0, 2500.0, 5000.0, 50_000.0]), 5000.0)
    assert response[0] == 0 and abs(response[3] - 1) < 1e-6
    assert abs(20 * math.log10(response[2]) + 3.0103) < 1e-3
    assert abs(20 * math.log10(response[1]) + 24.1) < 0.1  # order 4: 24 dB an octave
