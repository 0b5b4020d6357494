"""Model folders: what is written comes back, and what is broken is one line."""

import json
from dataclasses import replace

import pytest
import torch

from solovox.checkpoint import find_model, list_models, load_model, save_model
from solovox.codecs.waveform import WaveformConfig
from solovox.errors import ModelError
from solovox.networks.band_split import BandSplitConditionerConfig, BandSplitGeneratorConfig
from solovox.presets import (
    DIFF_DMX_SMALL,
    PRESETS,
    QUALITIES,
    ModelConfig,
    build_model,
    config_from_json,
    config_to_json,
)

TINY = replace(
    DIFF_DMX_SMALL,
    name="tiny",
    conditioner=BandSplitConditionerConfig(bands=20, widths=(8, 16), heads=2),
    generator=BandSplitGeneratorConfig(bands=20, widths=(8, 16), heads=2, condition_widths=(8, 16)),
)


@pytest.fixture
def folder(tmp_path):
    return save_model(build_model(TINY), tmp_path / "Modell ü", card="# tiny\n")


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_survive_json(name):
    text = json.dumps(config_to_json(PRESETS[name]))
    assert config_from_json(json.loads(text)) == PRESETS[name]


@pytest.mark.parametrize(("dtype", "error"), [("fp32", 0.0), ("bf16", 2**-8)])
def test_a_saved_model_comes_back(tmp_path, dtype, error):
    model = build_model(TINY)
    loaded = load_model(save_model(model, tmp_path, dtype=dtype))
    assert loaded.config == TINY and not loaded.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-6, rtol=error)


@pytest.mark.parametrize("info", list_models(), ids=lambda info: info.name)
def test_bundled_models_have_every_quality(info):
    config = load_model(info.folder).config
    for quality in QUALITIES:
        assert config.sampling_of(quality) == PRESETS[info.name].sampling_of(quality)


def test_saving_leaves_whole_files_only(folder):
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_unknown_model_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="no model 'nonsense'") as caught:
        find_model("nonsense")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(tmp_path)


def test_changed_weights_are_refused(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not the file that"):
        load_model(folder)


def rewrite(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["generator"].update(kind="pickle"), "unknown kind of generator"),
        (lambda c: c["generator"].update(layers=3), "unknown setting of the generator: layers"),
        (lambda c: c.update(exec="rm"), "unknown setting of the model: exec"),
        (lambda c: c.pop("codec"), "unknown kind of codec"),
        (lambda c: c.pop("name"), "do not fit"),
        (lambda c: c["conditioner"].update(widths=[8, 24]), "does not fit"),
        (lambda c: c["conditioner"].update(bands="many"), "does not fit"),
    ],
)
def test_a_wrong_configuration_is_one_line(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_broken_json_is_one_line(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(folder)


def test_unknown_preset_is_one_line():
    with pytest.raises(ModelError, match="no preset 'x'"):
        build_model("x")


def test_a_part_of_the_wrong_kind_is_refused():
    wrong = ModelConfig("wrong", WaveformConfig(), WaveformConfig(), WaveformConfig())
    with pytest.raises(ModelError, match="no conditioner takes"):
        build_model(wrong)


def test_paper_presets_have_the_papers_counts():
    with torch.device("meta"):
        full, plain = build_model("diff-dmx"), build_model("diff-dmx-plain")

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(full.generator) == pytest.approx(15.9e6, rel=0.01)
    assert count(full.conditioner) == pytest.approx(82.9e6, rel=0.01)
    assert count(plain) == pytest.approx(71e6, rel=0.01)


def test_bundled_models_are_small_and_load():
    for info in list_models():
        assert info.megabytes <= 25
        assert load_model(info.name).config.name == info.name


def test_hub_ids_are_fetched_at_their_revision(folder, monkeypatch):
    asked = {}

    def snapshot(repository, revision, allow_patterns):
        asked.update(repository=repository, revision=revision, files=allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_model("somebody/tiny@v1").config == TINY
    assert asked["repository"] == "somebody/tiny" and asked["revision"] == "v1"
    assert set(asked["files"]) == {"config.json", "model.safetensors", "README.md"}


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot fetch 'somebody/tiny'") as caught:
        load_model("somebody/tiny")
    assert "\n" not in str(caught.value)
