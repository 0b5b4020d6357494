"""A mixture's level, and what presets build."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from solovox.codecs.encodec import ENCODEC_24K, ENCODEC_48K
from solovox.presets import (
    GENERATORS,
    LDM_DMX_24K,
    LDM_DMX_48K,
    LDM_DMX_SMALL,
    build_model,
    config_from_json,
    config_to_json,
)
from solovox.separator import generate_takes


def test_zeros_at_the_end_do_not_change_a_chunks_level():
    model = build_model("encodec-small")
    audio = 0.1 * torch.randn(2, 2, 1000, generator=torch.Generator().manual_seed(0))
    rms = audio.square().mean(dim=(1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(model.level(audio), rms)
    torch.testing.assert_close(model.level(F.pad(audio, (0, 5000))), rms)
    assert (model.level(torch.zeros_like(audio)) == 1e-3).all()


@pytest.mark.parametrize("preset", [LDM_DMX_24K, LDM_DMX_48K, LDM_DMX_SMALL], ids=lambda p: p.name)
def test_latent_presets_survive_json(preset):
    assert config_from_json(config_to_json(preset)) == preset


def test_latent_chunks_are_those_of_the_paper():
    for preset, codec in ((LDM_DMX_24K, ENCODEC_24K), (LDM_DMX_48K, ENCODEC_48K)):
        assert preset.codec == codec
        assert preset.chunk / codec.sampling_rate == pytest.approx(13.65, abs=0.01)
    assert LDM_DMX_SMALL.chunk / 44100 == pytest.approx(13.65, abs=0.01)
    with torch.device("meta"):
        model = build_model(LDM_DMX_SMALL)
    assert sum(p.numel() for p in model.parameters()) < 12.5e6  # 25 MB in bf16


def test_generators_say_whether_they_take_the_encoded_mixture():
    needs = {kind: getattr(cls, "needs_mixture", True) for kind, (_, cls) in GENERATORS.items()}
    bands = {kind for kind, needed in needs.items() if needed}
    assert bands == {"band-split", "latent-bands"}


@pytest.mark.parametrize(
    ("needed", "cutoff", "encoded"),
    [(False, 1000.0, 0), (False, "mixture", 1), (True, 1000.0, 1), (True, "mixture", 1)],
)
def test_the_mixture_is_encoded_only_where_it_is_asked_for(oracle, needed, cutoff, encoded):
    model = oracle(estimate=None, formula=lambda x_t, mixture: 0.5 * x_t)
    model.generator.needs_mixture = needed
    encode, asked = model.codec.encode, []
    model.codec.encode = lambda audio: asked.append(audio) or encode(audio)
    mixture = torch.randn(2, 2, 800, generator=torch.Generator().manual_seed(0))
    sampling = replace(model.config.sampling, cutoff=cutoff)
    take = next(generate_takes(model, mixture, [lambda: torch.ones(2, 2, 800)], sampling))
    assert take.isfinite().all()
    assert len(asked) == encoded


@torch.inference_mode()
def test_what_the_codec_loses_of_the_estimate_is_given_back():
    model = build_model(LDM_DMX_SMALL).eval()
    mixture = 0.1 * torch.randn(1, 2, 30_000, generator=torch.Generator().manual_seed(0))
    silence = torch.zeros(1, model.codec.channels, model.codec.frames(30_000))

    def vocals(steps: int) -> torch.Tensor:
        sampling = replace(LDM_DMX_SMALL.sampling, steps=steps)
        return next(generate_takes(model, mixture, [lambda: silence], sampling, "fp32"))

    # Without noise a fresh generator stays at the estimate's latents.
    torch.testing.assert_close(vocals(1), vocals(0), atol=1e-5, rtol=0)
    model.config = replace(LDM_DMX_SMALL, give_back=False)
    assert (vocals(1) - vocals(0)).square().mean() > 0.1 * vocals(0).square().mean()
