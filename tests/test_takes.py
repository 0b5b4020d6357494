"""The settings file: everything comes back, nothing else is taken, and it repeats every bit."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from solovox.audio import read_audio, write_audio
from solovox.checkpoint import config_digest, find_model
from solovox.cli import main
from solovox.errors import ModelError, SolovoxError
from solovox.separator import Separator
from solovox.takes import Redo, Settings, Take, read_take, take_from_json, take_to_json

MODEL = "diff-dmx-small"


def settings(**changes):
    known = Settings(
        model=MODEL, steps=2, start=0.3, eta=0.0, cutoff=5000.0, sampler="ddim", seed=0,
        stems="exact", precision="fp32",
    )  # fmt: skip
    return replace(known, **changes)


def plain(take):
    return json.loads(json.dumps(take_to_json(take)))


def test_a_take_comes_back_from_json():
    take = Take(
        settings(weights="abc"), (Redo(1.5, 2.25, settings(seed=7, eta=0.5)),), 2, device="cpu"
    )
    assert take_from_json(plain(take)) == take
    assert take_from_json(plain(Take(settings()))) == Take(settings())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("steps",), "2", "steps must be a whole number, not 2"),
        (("steps",), 2.5, "steps must be a whole number"),
        (("seed",), True, "seed must be a whole number"),
        (("eta",), float("nan"), "eta must be a number"),
        (("model",), 3, "model must be a text"),
        (("speed",), 3, "unknown setting of the separation: speed"),
    ],
)
def test_settings_of_another_kind_are_refused(path, value, message):
    values = plain(Take(settings()))
    values["settings"][path[0]] = value
    with pytest.raises(SolovoxError, match=message):
        take_from_json(values)


@pytest.mark.parametrize(
    "change",
    [
        {"redone": 3},
        {"redone": [3]},
        {"redone": [{"start": 2, "end": 1, "settings": {}}]},
        {"threads": 0},
        {"threads": "two"},
        {"device": 1},
        {"settings": None},
        {"settings": {"model": MODEL}},
        {"colour": "blue"},
    ],
)
def test_what_is_no_settings_file_is_refused(change, tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(plain(Take(settings())) | change))
    with pytest.raises(SolovoxError, match=r"settings\.json: "):
        read_take(file)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null"])
def test_broken_files_are_told_in_one_line(text, tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(text)
    with pytest.raises(SolovoxError, match=r"settings\.json: ") as caught:
        read_take(file)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(SolovoxError, match="No such file"):
        read_take(tmp_path / "nothing.json")


def test_other_weights_are_refused():
    with pytest.raises(ModelError, match="other weights"):
        settings(weights="0" * 64).arguments()
    assert settings().arguments()["seed"] == 0


def test_another_configuration_of_the_same_weights_is_refused(tmp_path):
    folder = shutil.copytree(find_model(MODEL), tmp_path / "model")
    take = Take.of(Separator(folder, steps=1), str(folder))
    assert take.settings.config == config_digest(MODEL)
    values = json.loads((folder / "config.json").read_text())

    def with_changes(**changes):
        (folder / "config.json").write_text(json.dumps(values | changes))
        return take.settings.arguments()

    default = {**values["sampling"], "steps": 3}
    assert with_changes(name="mine", sampling=default, stems="wiener", precision="fp32")
    for change in ({"overlap": 0.2}, {"chunk": 400_000}, {"normalise": False}, {"give_back": True}):
        with pytest.raises(ModelError, match="other config"):
            with_changes(**change)
        assert replace(take.settings, config=None).arguments()  # an older file

    file = tmp_path / "settings.json"
    file.write_text(json.dumps(take_to_json(take)))
    assert read_take(file).with_model(MODEL).settings.config is None


def test_the_command_repeats_a_take_bit_for_bit(tmp_path):
    noise = np.random.default_rng(0).standard_normal((2, 44_100))
    song = tmp_path / "song.wav"
    write_audio(song, 0.1 * noise, 44_100)
    audio, rate = read_audio(song)
    threads = torch.get_num_threads()
    first = Separator(MODEL, steps=1, seed=3)
    second = Separator(first.model, steps=1, seed=4, eta=0.5, start=0.8, stems="wiener")
    stems = second.redo(audio, rate, first.separate(audio, rate), 0.2, 0.4)
    take = Take.of(first, MODEL)
    take = Take(
        take.settings, (Redo(0.2, 0.4, Settings.of(second, MODEL)),), take.threads, take.device
    )
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(take_to_json(take)))

    def run(*words):
        told = CliRunner().invoke(
            main, ["separate", str(song), "-o", str(tmp_path), "--settings", str(file), *words]
        )
        assert torch.get_num_threads() == threads
        return told

    assert run().exit_code == 0
    for name, stem in stems.items():
        found, _ = read_audio(tmp_path / MODEL / "song" / f"{name}.wav")
        np.testing.assert_array_equal(found, stem)

    # An option given beside it wins over what the file says of the song; regions keep theirs.
    assert run("--seed", "5").exit_code == 0
    found, _ = read_audio(tmp_path / MODEL / "song" / "vocals.wav")
    assert not np.array_equal(found[:, :5000], stems["vocals"][:, :5000])
    np.testing.assert_array_equal(found[:, 8820:17640], stems["vocals"][:, 8820:17640])

    piped = CliRunner().invoke(
        main, ["separate", "-", "--settings", str(file)], input=song.read_bytes()
    )
    assert piped.exit_code == 1
    assert "has regions to redo; give a file, not a pipe" in piped.stderr
