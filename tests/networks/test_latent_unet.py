"""The latent networks: where the mixture enters, what its encoder learns, and when."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from solovox.networks.features import Features
from solovox.networks.latent_unet import (
    Injection,
    LatentConditioner,
    LatentUNet,
    LatentUNetConfig,
)
from solovox.networks.layers import pad_right

CONFIG = LatentUNetConfig(
    channels=6,
    condition_channels=5,
    widths=(4, 8, 8, 12),
    factors=(1, 2, 2, 2),
    blocks=(1, 1, 2, 1),
    groups=2,
    attention_levels=2,
    attention_heads=2,
    attention_head_width=4,
    time_features=16,
    time_hidden=8,
    time_width=8,
)
LEVELS: dict[Injection, list[bool]] = {
    "deep": [False, False, True, True],
    "all": [True, True, True, True],
    "bottleneck": [False, False, False, True],
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def unet(injection: Injection = "deep") -> LatentUNet:
    torch.manual_seed(0)
    return LatentUNet(replace(CONFIG, injection=injection))


def moved(tensor: Tensor | None) -> bool:
    return tensor is not None and bool(tensor.abs().max() > 0)


def test_the_full_size_is_as_documented() -> None:
    with torch.device("meta"):
        model = LatentUNet(LatentUNetConfig())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == pytest.approx(90.5e6, rel=0.01)


@pytest.mark.parametrize("injection", LEVELS)
def test_the_mixture_enters_at_these_levels_of_encoder_and_decoder(injection: Injection) -> None:
    model = unet(injection)
    latents = noise(2, 5, 32, seed=1).requires_grad_()
    model(noise(2, 6, 32), torch.tensor([0.2, 0.7]), Features((latents,))).sum().backward()
    assert moved(latents.grad)
    for side in (model.unet.encoder, model.unet.decoder):
        heard = [
            level.merge is not None and moved(level.merge.weight.grad[:, width:])
            for level, width in zip(side, CONFIG.widths, strict=True)
        ]
        assert heard == LEVELS[injection]


def test_an_unknown_place_of_injection_fails() -> None:
    with pytest.raises(KeyError):
        LatentUNet(replace(CONFIG, injection="shallow"))  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 50])
def test_any_length_is_padded_with_zeros_on_the_right(frames: int) -> None:
    model, t = unet(), torch.tensor([0.4])
    x_t, latents = noise(1, 6, frames), noise(1, 5, frames, seed=1)
    velocity = model(x_t, t, Features((latents,)))
    padded = model(pad_right(x_t, 8), t, Features((pad_right(latents, 8),)))
    assert velocity.shape == (1, 6, frames)
    torch.testing.assert_close(velocity, padded[..., :frames])


def test_prepared_features_and_any_batch_give_the_same_velocity() -> None:
    model = unet()
    x_t, latents, t = noise(3, 6, 20), noise(3, 5, 20, seed=1), torch.tensor([0.1, 0.5, 0.9])
    together = model(x_t, t, Features((latents,)))
    prepared = model.prepare(Features((latents,)))
    assert model.prepare(prepared) is prepared
    assert torch.equal(model(x_t, t, prepared), together)
    for i in range(3):
        item = slice(i, i + 1)
        alone = model(x_t[item], t[item], Features((latents[item],)))
        torch.testing.assert_close(alone, together[item])


def test_the_velocity_depends_on_time() -> None:
    model, x_t, features = unet(), noise(1, 6, 16), Features((noise(1, 5, 16, seed=1),))
    early, late = (model(x_t, torch.tensor([t]), features) for t in (0.2, 0.8))
    assert not torch.allclose(early, late)


class Encoder(nn.Module):
    """Stands for a codec's encoder: [batch, 2, samples] to [batch, 5, samples / 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 5, 4, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, audio: Tensor) -> Tensor:
        latents: Tensor = self.dropout(self.conv(audio))
        return latents


def test_the_encoder_learns_in_the_second_stage_only() -> None:
    conditioner, model = LatentConditioner(Encoder()), unet()
    mixture, x_t, t = noise(1, 2, 64), noise(1, 6, 16), torch.tensor([0.5])

    conditioner.freeze()
    conditioner.train()
    features = conditioner(mixture)
    assert features.estimate is None
    assert torch.equal(features.embeddings[0], conditioner(mixture).embeddings[0])  # no dropout
    model(x_t, t, features).sum().backward()
    assert all(parameter.grad is None for parameter in conditioner.parameters())
    assert all(moved(match.weight.grad) for match in model.match)

    conditioner.unfreeze()
    assert conditioner.encoder.training
    model(x_t, t, conditioner(mixture)).sum().backward()
    assert moved(conditioner.encoder.conv.weight.grad)
