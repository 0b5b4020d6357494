"""Settings: schedules as formulas, and nothing unknown passes."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from solovox.errors import ModelError
from solovox.presets import PRESETS
from solovox.training.config import (
    RECIPES,
    Stage,
    TrainingConfig,
    learning_rate,
    parse_stages,
    recipe,
    recipe_of,
    shortened,
    stage_at,
    steps_trained,
    training_from_json,
)

TWO = (Stage(600, ("conditioner",)), Stage())


def test_learning_rate_warms_up_in_each_stage_and_falls_along_a_cosine() -> None:
    config = TrainingConfig(max_steps=1000, warmup=100, learning_rate=0.5, stages=TWO)
    rates = [learning_rate(config, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.5 / 100)
    assert rates[500] == pytest.approx(0.25)  # half-way down
    assert rates[999] < 2e-6 and rates[1000] == 0
    assert all(a < b for a, b in pairwise(rates[:100]))
    assert all(a > b for a, b in pairwise(rates[100:600]))
    assert rates[600] == pytest.approx(rates[599] / 100, rel=0.01)  # a new stage
    assert rates[700] == pytest.approx(learning_rate(replace(config, stages=(Stage(),)), 700))


def test_stages() -> None:
    assert [stage_at(TWO, step) for step in (0, 599, 600, 10**6)] == [TWO[0], TWO[0], *TWO[1:] * 2]
    assert steps_trained(TWO, "generator", 700) == 700
    assert steps_trained(TWO, "conditioner", 599) == 0
    assert steps_trained(TWO, "conditioner", 700) == 100
    back = (Stage(10, ("generator",)), Stage(30, ("conditioner",)), Stage())
    assert [steps_trained(back, "conditioner", step) for step in (5, 20, 40)] == [5, 10, 20]


def test_stages_as_text() -> None:
    assert parse_stages("conditioner:600,none") == TWO
    assert parse_stages("none") == (Stage(),)
    for text in ("", "decoder:5,none", "conditioner:x", "conditioner:-1"):
        with pytest.raises(ModelError, match="FROZEN:UNTIL"):
            parse_stages(text)


def test_shorter_run_keeps_the_stages_shares() -> None:
    short = shortened(TrainingConfig(max_steps=1000, stages=TWO), 10)
    assert short.max_steps == 10
    assert short.stages == (Stage(6, ("conditioner",)), Stage())


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name: str) -> None:
    values = json.loads(json.dumps(asdict(RECIPES[name])))
    assert training_from_json(values) == RECIPES[name]
    del values["log_every"]  # of an older version
    assert training_from_json(values) == RECIPES[name]


def test_every_preset_has_a_recipe() -> None:
    for name in PRESETS:
        assert recipe(name) in RECIPES.values(), name
    assert recipe("diff-dmx-plain") is RECIPES["diff-dmx"]
    assert recipe("diff-dmx-smaller") is RECIPES["diff-dmx"]


def test_a_model_of_another_name_has_the_recipe_of_the_preset_that_it_was() -> None:
    for name, preset in PRESETS.items():
        assert recipe_of(preset) is recipe(name)
        assert recipe_of(replace(preset, name="my-model")) == recipe(name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 3}, "unknown setting of the training: batchsize"),
        ({"loss": {"l1": 1}}, "training's loss: l1"),
        ({"augment": {"reverb": 1}}, "training's augment: reverb"),
        ({"stages": [{"freeze": []}]}, "training's stages: freeze"),
        ({"stages": [{}, {}]}, "one after the other"),
        ({"stages": [{"until": 5}, {"until": 5}, {}]}, "one after the other"),
        ({"stages": []}, "one after the other"),
        ({"stages": [{"frozen": ["codec"]}]}, "conditioner or generator"),
        ({"stages": [{"frozen": ["conditioner", "generator"]}]}, "conditioner or generator"),
        ({"loss": {"estimate_kind": "l3"}}, "l2 or spectral or rms, not l3"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"batch_size": "8"}, "do not fit"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_wrong_settings_are_told(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        training_from_json(values)
    assert "\n" not in str(error.value)
