import torch

from solovox.diffusion.objective import diffuse, draw_times_and_noise, undiffuse, velocity_loss
from solovox.diffusion.schedule import alpha, sigma


def pair(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, batch, 3, 40, generator=generator, dtype=torch.float64)
    return x0, eps, torch.rand(batch, generator=generator, dtype=torch.float64)


def test_forward_process_and_velocity_are_as_published():
    x0, eps, t = pair()
    a, s = alpha(t)[:, None, None], sigma(t)[:, None, None]
    x_t, v = diffuse(x0, eps, t)
    torch.testing.assert_close(x_t, a * x0 + s * eps)  # Eq. 1
    torch.testing.assert_close(v, a * eps - s * x0)  # Eq. 2


def test_estimates_from_the_true_velocity_are_the_truth():
    x0, eps, t = pair()
    back = undiffuse(*diffuse(x0, eps, t), t)
    torch.testing.assert_close(back, (x0, eps))


def test_velocity_is_the_derivative_of_x_t_by_the_angle():
    x0, eps, t = pair()
    step = 1e-6
    later, now = diffuse(x0, eps, t + step)[0], diffuse(x0, eps, t)[0]
    slope = (later - now) / (step * torch.pi / 2)
    torch.testing.assert_close(slope, diffuse(x0, eps, t)[1], atol=1e-5, rtol=1e-5)


def test_one_time_serves_all_items():
    x0, eps, _ = pair()
    t = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(diffuse(x0, eps, t), diffuse(x0, eps, t.expand(5)))


def test_loss_is_zero_for_the_truth_and_the_variance_for_silence():
    x0, eps, t = pair()
    assert velocity_loss(lambda x, t: diffuse(x0, eps, t)[1], x0, eps, t) == 0
    silent = velocity_loss(lambda x, t: torch.zeros_like(x), x0, eps, t)
    torch.testing.assert_close(silent, diffuse(x0, eps, t)[1].square().mean())


def test_training_noise_depends_on_the_items_alone():
    t, eps = draw_times_and_noise(7, [8, 9, 10, 11], 4, (2, 6))
    t_part, eps_part = draw_times_and_noise(7, [10, 11], 4, (2, 6))
    assert torch.equal(t[2:], t_part) and torch.equal(eps[2:], eps_part)
    assert not torch.equal(eps[0], draw_times_and_noise(8, [8], 4, (2, 6))[1][0])


def test_times_of_a_batch_are_stratified():
    t, _ = draw_times_and_noise(0, list(range(16)), 8, (1,))
    assert (t * 8).long().tolist() == [*range(8), *range(8)]
