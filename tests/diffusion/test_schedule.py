import pytest
import torch

from solovox.diffusion.schedule import SPACINGS, alpha, log_snr, sigma, times

T = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_variance_is_kept_at_every_time():
    torch.testing.assert_close(alpha(T).square() + sigma(T).square(), torch.ones_like(T))


def test_ends_are_the_signal_and_the_noise():
    assert alpha(T[0]) == 1 and sigma(T[0]) == 0
    assert abs(alpha(T[-1])) < 1e-15 and sigma(T[-1]) == 1


def test_log_snr_is_the_log_of_the_ratio():
    t = T[1:-1]
    torch.testing.assert_close(log_snr(t), torch.log(alpha(t) / sigma(t)))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("start", [1.0, 0.3])
def test_times_fall_from_start_to_zero(spacing, start):
    grid = times(7, start, spacing)
    assert grid.shape == (8,)
    assert abs(grid[0] - start) < 1e-12 and grid[-1] == 0
    assert (grid.diff() < 0).all()


@pytest.mark.parametrize(("start", "first"), [(1.0, 1), (0.3, 0)])
def test_log_snr_spacing_has_equal_steps_between_its_ends(start, first):
    inner = log_snr(times(10, start, spacing="log-snr")[first:-1])
    torch.testing.assert_close(inner.diff(), inner.diff()[0].expand(len(inner) - 1))


@pytest.mark.parametrize(("steps", "start"), [(0, 1.0), (5, 0.0), (5, 1.5)])
def test_impossible_times_are_refused(steps, start):
    with pytest.raises(ValueError, match="must be"):
        times(steps, start)
