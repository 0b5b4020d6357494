"""Model folders: what is written comes back, and what is broken is one line."""

import hashlib
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

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
        (lambda c: c["conditioner"].update(bands="many"), "bands must be a whole number"),
        (lambda c: c["conditioner"].update(bands=10**9), "does not fit"),
        (lambda c: c["conditioner"].update(widths=[10**9, 8]), "does not fit"),
        (lambda c: c["conditioner"].update(widths=[2**20, 2**20]), "does not fit"),
        (lambda c: c["conditioner"].update(blocks=2**20), "does not fit"),
        (lambda c: c["conditioner"].update(widths=[8] * 65), "does not fit"),
        (lambda c: c["conditioner"].update(heads=0), "does not fit"),
        (lambda c: c["codec"].update(bands=2**20), "does not fit"),
        (lambda c: c["codec"].update(scale=float("nan")), "scale must be a number"),
        (lambda c: c.update(chunk=10**12), "a chunk must be"),
        (lambda c: c.update(overlap=float("nan")), "overlap must be a number"),
        (lambda c: c.update(overlap=3), "overlap by"),
        (lambda c: c.update(name=["x"]), "name must be a text"),
        (lambda c: c.update(name=""), "1 to 100 letters"),
        (lambda c: c.update(codec="lapped"), "unknown kind of codec"),
        (lambda c: c["codec"].update(kind=["lapped"]), "unknown kind of codec"),
        (lambda c: c.update(sampling=3), "must have named settings"),
        (lambda c: c["sampling"].update(steps="x" * 10**5), "steps must be a whole number"),
        (lambda c: c.update(qualities={"x": {}}), "qualities must be named"),
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


COMMIT, LATER = "0123456789abcdef" * 2 + "01234567", "f" * 40


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A repository in the form of the hub's own cache, without a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for commit in (COMMIT, LATER):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in folder.iterdir():
            blob = repository / "blobs" / f"{commit[:4]}{file.name}"
            blob.write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(blob)
    for name, commit in (("main", COMMIT), ("v1", COMMIT)):
        (repository / "refs" / name).write_text(commit)
    return repository


def test_a_name_of_the_hub_is_held_to_its_first_commit(hub):
    assert load_model("somebody/tiny").config == TINY
    assert find_model("somebody/tiny@v1").name == COMMIT
    for name in ("main", "v1"):
        (hub / "refs" / name).write_text(LATER)  # somebody moves the branch and the tag
    assert find_model("somebody/tiny").name == COMMIT
    assert find_model("somebody/tiny@v1").name == COMMIT
    assert find_model(f"somebody/tiny@{LATER}").name == LATER
    assert find_model("somebody/tiny", LATER).name == LATER


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_files_of_the_hub_that_changed_are_refused(hub, file):
    load_model("somebody/tiny")
    blob = (hub / "snapshots" / COMMIT / file).resolve()
    data = bytearray(blob.read_bytes())
    data[-3] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ModelError, match=r"not what was fetched first|not the file that"):
        load_model("somebody/tiny")


def test_the_hub_is_asked_for_three_files_and_a_commit(hub, tmp_path, monkeypatch):
    asked = {}

    def snapshot(repository, revision, allow_patterns):
        asked.update(repository=repository, revision=revision, files=allow_patterns)
        return str(hub / "snapshots" / LATER)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load_model("somebody/tiny@v2").config == TINY
    assert asked["repository"] == "somebody/tiny" and asked["revision"] == "v2"
    assert set(asked["files"]) == {"config.json", "model.safetensors", "README.md"}
    with pytest.raises(ModelError, match="is not commit"):
        load_model(f"somebody/tiny@{COMMIT}")
    (pin,) = (tmp_path / "cache" / "solovox" / "hub").glob("*v2*")
    pin.write_text("[]")
    with pytest.raises(ModelError, match="cannot be read"):
        load_model("somebody/tiny@v2")


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="cannot fetch 'somebody/tiny'") as caught:
        load_model("somebody/tiny")
    assert "\n" not in str(caught.value)


# Weights that are not what they should be, with a configuration that vouches for them


def replace_weights(folder, tensors):
    weights = folder / "model.safetensors"
    if isinstance(tensors, bytes):
        weights.write_bytes(tensors)
    else:
        save_file(tensors, weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    rewrite(folder, lambda c: c.update(sha256=digest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, n: t.update({n: t[n].to(torch.int32)}), "is of type I32"),
        (lambda t, n: t.update({n: t[n].double()}), "is of type F64"),
        (lambda t, n: t.update({n: t[n][..., None]}), "has shape"),
        (lambda t, n: t.pop(n), "lacks"),
        (lambda t, n: t.update({"../x": t[n].clone()}), "has besides"),
        (lambda t, n: t[n].fill_(float("nan")), "NaN or infinite weights"),
        (lambda t, n: t.clear(), "does not fit"),
    ],
)
def test_wrong_weights_are_one_line(folder, change, message):
    tensors = load_file(folder / "model.safetensors")
    change(tensors, next(iter(tensors)))
    replace_weights(folder, tensors)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def header(entries):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 60) + b"{}",
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}) + bytes(12),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
        header([1, 2]),
        b"\x80\x04cos\nsystem\n",  # a pickle
    ],
)  # fmt: skip
def test_headers_that_lie_are_one_line(folder, data):
    replace_weights(folder, data)
    with pytest.raises(ModelError, match="does not fit") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_pipes_and_devices_in_place_of_files_do_not_hang(folder, file):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(ModelError):
        load_model(folder)
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    with pytest.raises(ModelError):
        load_model(folder)


@pytest.mark.parametrize("name", ["diff-dmx-small", "ldm-dmx-small"])
def test_loading_leaves_torchs_compiler_alone(name):
    """Importing it takes longer than all else; arithmetic on the meta device would."""
    code = "import sys; from solovox.checkpoint import load_model; load_model(sys.argv[1]); "
    code += "sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, name], check=True)
