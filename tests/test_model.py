"""A mixture's level, and what presets build."""

import pytest
import torch
import torch.nn.functional as F

from solovox.codecs.encodec import ENCODEC_24K, ENCODEC_48K
from solovox.presets import (
    LDM_DMX_24K,
    LDM_DMX_48K,
    LDM_DMX_SMALL,
    build_model,
    config_from_json,
    config_to_json,
)


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
