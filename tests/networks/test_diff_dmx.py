"""Diff-DMX's networks: the paper's counts, and who hears whom."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from solovox.networks.conditioner import AuxiliaryConnection, Conditioner, ConditionerConfig
from solovox.networks.features import Features, PreparedFeatures
from solovox.networks.generator import Generator, GeneratorConfig
from solovox.networks.layers import Attention, ImageAttention, TransformerLayer, pad_right, rotate

CONDITIONER = ConditionerConfig(
    widths=(8, 8, 8, 8, 16, 16, 16),
    groups=2,
    attention_heads=2,
    attention_head_width=4,
    transformer_layers=2,
    transformer_width=8,
    transformer_heads=2,
)
GENERATOR = GeneratorConfig(
    widths=(4, 4, 8, 8, 8, 8, 12),
    condition_widths=CONDITIONER.widths,
    groups=2,
    attention_head_width=4,
    time_features=16,
    time_hidden=8,
    time_width=8,
)
PLAIN = {"attention_levels": 0, "transformer_layers": 0}


@pytest.fixture(scope="module")
def networks() -> tuple[Conditioner, Generator]:
    torch.manual_seed(0)
    return Conditioner(CONDITIONER), Generator(GENERATOR)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def moved(tensor: Tensor | None) -> bool:
    return tensor is not None and bool(tensor.abs().max() > 0)


def test_parameters_are_the_papers() -> None:
    with torch.device("meta"):
        generator = count(Generator(GeneratorConfig()))
        conditioner = count(Conditioner(ConditionerConfig()))
        plain = count(Conditioner(ConditionerConfig(**PLAIN)))
    assert generator == pytest.approx(15.9e6, rel=0.01)
    assert conditioner == pytest.approx(82.9e6, rel=0.01)
    assert generator + conditioner == pytest.approx(99e6, rel=0.01)
    assert generator + plain == pytest.approx(71e6, rel=0.01)


@pytest.mark.parametrize("config", [ConditionerConfig(), GeneratorConfig()])
def test_channels_double_where_the_factor_exceeds_one(
    config: ConditionerConfig | GeneratorConfig,
) -> None:
    assert config.factors == (1, 2, 4, 1, 4, 1, 4)
    for above, width, factor in zip(
        config.widths, config.widths[1:], config.factors[1:], strict=False
    ):
        assert width == (2 * above if factor > 1 else above)


def test_the_plain_conditioner_attends_nowhere_and_the_generator_on_four_levels() -> None:
    with torch.device("meta"):
        plain = Conditioner(ConditionerConfig(**PLAIN))
        full = Conditioner(ConditionerConfig())
        generator = Generator(GeneratorConfig())
    assert not [m for m in plain.modules() if isinstance(m, Attention)]
    assert sum(isinstance(m, TransformerLayer) for m in full.modules()) == 6
    for side in (full.encoder, full.decoder, generator.unet.encoder, generator.unet.decoder):
        attends = [any(isinstance(m, ImageAttention) for m in level.modules()) for level in side]
        assert attends == [False] * 3 + [True] * 4


@pytest.mark.parametrize("samples", [1, 127, 128, 129, 1000])
def test_any_length(networks: tuple[Conditioner, Generator], samples: int) -> None:
    conditioner, generator = networks
    features = conditioner(noise(1, 2, samples))
    velocity = generator(noise(1, 2, samples, seed=1), torch.tensor([0.5]), features)
    padded = -(-samples // 128) * 128
    rates = (1, 2, 8, 8, 32, 32, 128)
    assert velocity.shape == (1, 2, samples)
    assert [e.shape for e in features.estimates] == [(1, 2, samples)] * 2
    assert [tuple(e.shape) for e in features.embeddings] == [
        (1, width, padded // rate) for width, rate in zip(CONDITIONER.widths, rates, strict=True)
    ]
    assert torch.isfinite(velocity).all()


def test_padding_is_silence_on_the_right(networks: tuple[Conditioner, Generator]) -> None:
    conditioner, generator = networks
    mixture, x_t, t = noise(1, 2, 300), noise(1, 2, 300, seed=1), torch.tensor([0.3])
    short = generator(x_t, t, conditioner(mixture))
    full = generator(pad_right(x_t, 128), t, conditioner(pad_right(mixture, 128)))
    torch.testing.assert_close(short, full[..., :300])


def test_injection_at_the_four_deepest_levels_of_encoder_and_decoder(
    networks: tuple[Conditioner, Generator],
) -> None:
    conditioner, generator = networks
    features = conditioner(noise(1, 2, 256))
    embeddings = tuple(e.detach().requires_grad_() for e in features.embeddings)
    generator.zero_grad()
    generator(noise(1, 2, 256, seed=1), torch.tensor([0.5]), Features(embeddings)).sum().backward()
    assert [moved(e.grad) for e in embeddings] == [False] * 3 + [True] * 4
    for side in (generator.unet.encoder, generator.unet.decoder):
        heard = [
            level.merge is not None and moved(level.merge.weight.grad[:, width:])
            for level, width in zip(side, GENERATOR.widths, strict=True)
        ]
        assert heard == [False] * 3 + [True] * 4


def test_the_heads_are_outside_the_generators_gradient_path(
    networks: tuple[Conditioner, Generator],
) -> None:
    conditioner, generator = networks
    conditioner.zero_grad()
    features = conditioner(noise(2, 2, 256))
    generator(noise(2, 2, 256, seed=1), torch.rand(2), features).square().mean().backward()
    heads = (conditioner.latent_head, conditioner.reconstruction_head)
    assert all(head.weight.grad is None for head in heads)
    assert moved(conditioner.stem.weight.grad)
    for index, head in enumerate(heads):
        estimate = conditioner(noise(2, 2, 256)).estimates[index]
        assert moved(torch.autograd.grad(estimate.sum(), head.weight)[0])


def test_auxiliary_connections_reach_the_bottleneck_from_every_level() -> None:
    conditioner = Conditioner(CONDITIONER)
    nn.init.zeros_(conditioner.downs[-1].weight)  # cuts the direct way, so that only they are left
    conditioner(noise(1, 2, 512)).estimates[0].square().sum().backward()
    assert len(conditioner.auxiliary) == 6
    for auxiliary, block in zip(conditioner.auxiliary, conditioner.encoder[:-1], strict=True):
        assert moved(auxiliary.conv.weight.grad)
        assert moved(block.branch[2].weight.grad)


def test_an_auxiliary_connection_may_pool_before_its_convolution() -> None:
    connection = AuxiliaryConnection(groups=2, inputs=4, outputs=6, rate=8)
    x = noise(2, 4, 1, 64)
    stated = connection.pool(connection.conv(torch.relu(connection.norm(x))))
    torch.testing.assert_close(connection(x), stated)


def test_the_latent_head_is_unfolded_frame_by_frame(
    networks: tuple[Conditioner, Generator],
) -> None:
    frames = noise(2, 2 * 128, 1, 3)
    audio = networks[0]._unfold(frames)[:, :, 0]
    for channel, sample in [(0, 0), (1, 127), (0, 128), (1, 300)]:
        expected = frames[:, channel * 128 + sample % 128, 0, sample // 128]
        assert torch.equal(audio[:, channel, sample], expected)


def test_an_items_output_does_not_depend_on_its_batch(
    networks: tuple[Conditioner, Generator],
) -> None:
    conditioner, generator = networks
    mixture, x_t, t = noise(3, 2, 500), noise(3, 2, 500, seed=1), torch.tensor([0.1, 0.5, 0.9])
    together = generator(x_t, t, conditioner(mixture))
    for i in range(3):
        item = slice(i, i + 1)
        alone = generator(x_t[item], t[item], conditioner(mixture[item]))
        torch.testing.assert_close(alone, together[item])


def test_prepared_features_give_the_same_velocity(networks: tuple[Conditioner, Generator]) -> None:
    conditioner, generator = networks
    features = conditioner(noise(1, 2, 300))
    prepared = generator.prepare(features)
    assert isinstance(prepared, PreparedFeatures)
    assert len(prepared.embeddings) == 4
    assert prepared.estimate is features.estimate
    assert generator.prepare(prepared) is prepared
    x_t, t = noise(1, 2, 300, seed=1), torch.tensor([0.7])
    assert torch.equal(generator(x_t, t, features), generator(x_t, t, prepared))


def test_both_memory_layouts_and_bfloat16_agree(networks: tuple[Conditioner, Generator]) -> None:
    conditioner, generator = networks
    mixture, x_t, t = noise(2, 2, 500), noise(2, 2, 500, seed=1), torch.tensor([0.2, 0.6])
    trained = generator(x_t, t, conditioner(mixture))
    with torch.inference_mode():
        sampled = generator(x_t, t, generator.prepare(conditioner(mixture)))
        with torch.autocast("cpu", torch.bfloat16):
            short = generator(x_t, t, generator.prepare(conditioner(mixture))).float()
    torch.testing.assert_close(sampled, trained.detach(), rtol=1e-4, atol=1e-5)
    assert (short - sampled).norm() < 0.03 * sampled.norm()


def test_checkpointing_changes_no_gradient(networks: tuple[Conditioner, Generator]) -> None:
    gradients = []
    for again in (False, True):
        conditioner = Conditioner(replace(CONDITIONER, checkpoint_activations=again))
        generator = Generator(replace(GENERATOR, checkpoint_activations=again))
        conditioner.load_state_dict(networks[0].state_dict())
        generator.load_state_dict(networks[1].state_dict())
        features = conditioner(noise(1, 2, 200))
        generator(noise(1, 2, 200, seed=1), torch.tensor([0.4]), features).square().sum().backward()
        gradients.append([p.grad for p in (*conditioner.parameters(), *generator.parameters())])
    torch.testing.assert_close(*gradients)


def test_the_velocity_depends_on_time_and_its_frequencies_are_saved(
    networks: tuple[Conditioner, Generator],
) -> None:
    conditioner, generator = networks
    features, x_t = conditioner(noise(1, 2, 128)), noise(1, 2, 128, seed=1)
    early, late = (generator(x_t, torch.tensor([t]), features) for t in (0.2, 0.8))
    assert not torch.allclose(early, late)
    assert "unet.time.frequencies" in generator.state_dict()
    assert "unet.time.frequencies" not in dict(generator.named_parameters())
    other = Generator(GENERATOR)  # draws other frequencies
    other.load_state_dict(generator.state_dict())
    assert torch.equal(other(x_t, torch.tensor([0.2]), features), early)


def test_rotary_products_depend_on_distance_alone() -> None:
    length, width = 40, 8
    query, key = (noise(1, 1, 1, width, seed=s).expand(1, 1, length, width) for s in (1, 2))
    products = (rotate(query) @ rotate(key).transpose(2, 3))[0, 0]
    for distance in range(-length + 1, length):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert products[0].std() > 0.1
    torch.testing.assert_close(rotate(query).norm(dim=-1), query.norm(dim=-1))
