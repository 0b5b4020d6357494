"""What a step does, and how a run fails."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import (
    BANDS,
    TINY,
    WAVES,
    assert_same_state,
    log_of,
    tiny_run,
    train,
    write_songs,
)

from solovox.checkpoint import save_model
from solovox.errors import DataError, ModelError, SolovoxError
from solovox.networks.features import Features
from solovox.presets import ModelConfig, build_model
from solovox.training.config import Stage
from solovox.training.loop import Trainer
from solovox.training.losses import SeparationLoss
from solovox.training.run import read_run

MODELS = pytest.mark.parametrize("model", [BANDS, WAVES], ids=lambda model: model.name)


@MODELS
def test_the_loss_falls(songs: Path, tmp_path: Path, model: ModelConfig) -> None:
    run = tiny_run(songs, model, max_steps=30, learning_rate=1e-2, log_every=5, validate_every=99)
    train(run, tmp_path)
    log = [line for line in log_of(tmp_path) if "diffusion" in line]
    assert log[-1]["diffusion"] < 0.9 * log[0]["diffusion"]
    assert log[-1]["estimate0"] < 0.9 * log[0]["estimate0"]


@MODELS
@pytest.mark.parametrize("frozen", ["conditioner", "generator"])
def test_frozen_part_does_not_move_and_has_no_loss(
    songs: Path, tmp_path: Path, model: ModelConfig, frozen: str
) -> None:
    run = tiny_run(songs, model, max_steps=4, stages=(Stage(2, (frozen,)), Stage()), log_every=1)
    torch.manual_seed(run.training.seed)
    fresh = build_model(model).state_dict()
    trainer = Trainer(run, tmp_path, workers=0)
    trainer.resume()
    save, moved = trainer._save, {}

    def look(name: str) -> None:
        state = load_file(tmp_path / name)
        for kind in ("model", "ema"):
            moved[trainer.step, kind] = {
                key.split(".")[0]
                for key, value in fresh.items()
                if not torch.equal(state[f"{kind}.{key}"], value)
            }

    trainer._save = lambda name: (save(name), look(name))  # type: ignore[method-assign]
    trainer.config = replace(trainer.config, save_every=2, validate_every=100)
    trainer.run()
    both = {"conditioner", "generator"}
    assert moved[2, "model"] == moved[2, "ema"] == both - {frozen}
    assert moved[4, "model"] == moved[4, "ema"] == both
    losses = [line.keys() & {"diffusion", "estimate0"} for line in log_of(tmp_path)[:4]]
    present = {"diffusion"} if frozen == "conditioner" else {"estimate0"}
    assert losses == [present, present, {"diffusion", "estimate0"}, {"diffusion", "estimate0"}]


def test_frozen_conditioner_is_not_in_training_mode_and_keeps_no_graph() -> None:
    model = build_model(BANDS)
    loss = SeparationLoss(model, TINY.loss, "fp32", ("conditioner",)).train()
    seen = []

    def look(part: torch.nn.Module, _: object, features: Features) -> None:
        assert features.estimate is not None
        seen.append((part.training, features.estimate.requires_grad))

    model.conditioner.register_forward_hook(look)
    audio = torch.randn(1, 2, BANDS.chunk)
    shape = (1, model.codec.channels, model.codec.frames(BANDS.chunk))
    total = sum(loss(audio, audio, torch.rand(1), torch.randn(shape)).values())
    total.backward()
    assert seen == [(False, False)]
    assert model.generator.training
    assert all(p.grad is None and not p.requires_grad for p in model.conditioner.parameters())
    assert all(p.grad is not None for p in model.generator.parameters())


@MODELS
def test_accumulated_gradients_are_the_large_batch(
    songs: Path, tmp_path: Path, model: ModelConfig
) -> None:
    run = tiny_run(songs, model, max_steps=1, clip=1e9, weight_decay=0.0)
    gradients, logs = [], []
    for accumulate in (1, 2, 4):
        config = replace(run.training, accumulate=accumulate, log_every=1)
        train(replace(run, training=config), tmp_path / str(accumulate))
        state = load_file(tmp_path / str(accumulate) / "last.safetensors")
        moments = [value.flatten() for key, value in state.items() if key.endswith("exp_avg")]
        gradients.append(torch.cat(moments))
        logs.append(log_of(tmp_path / str(accumulate))[0])
    for gradient, log in zip(gradients[1:], logs[1:], strict=True):
        assert log == pytest.approx(logs[0], rel=1e-4)
        assert (gradient - gradients[0]).norm() < 1e-4 * gradients[0].norm()


def test_batch_of_one(songs: Path, tmp_path: Path) -> None:
    run = tiny_run(songs, batch_size=1, max_steps=3)
    assert train(run, tmp_path, workers=1).step == 3


def test_data_made_beside_or_in_the_step_is_the_same(songs: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        train(tiny_run(songs), tmp_path / str(workers), workers=workers)
    assert_same_state(tmp_path / "0/last.safetensors", tmp_path / "2/last.safetensors")


def test_nan_stops_with_the_batch_saved(songs: Path, tmp_path: Path) -> None:
    run = tiny_run(songs, save_every=1)
    trainer = Trainer(run, tmp_path, workers=0)
    take = trainer._train

    def poison(*args: object) -> bool:
        if trainer.step == 2:
            with torch.no_grad():
                next(trainer.model.generator.parameters()).fill_(torch.nan)
        return take(*args)  # type: ignore[arg-type]

    trainer._train = poison  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"not finite at step 2; its batch is in .*nan-step2"):
        trainer.run()
    batch = load_file(tmp_path / "nan-step2-process0.safetensors")
    expected = trainer.steps[2]
    assert batch["indices"].tolist() == [8, 9, 10, 11]
    for name, tensor in expected._asdict().items():  # type: ignore[union-attr]
        assert torch.equal(batch[name], tensor)
    saved = load_file(tmp_path / "last.safetensors")
    assert all(value.isfinite().all() for value in saved.values())


def test_best_is_kept_by_the_kind_of_score(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 9.0, 1.0, 2.0, 0.5])
    monkeypatch.setattr("solovox.training.loop.mean_scores", lambda _: {"usdr": next(scores)})
    run = tiny_run(songs, max_steps=5, validate_every=1, stages=(Stage(2, ("generator",)), Stage()))
    trainer = Trainer(run, tmp_path, workers=0)
    saved = []
    trainer._save = lambda name: saved.append((name, trainer.step))  # type: ignore[method-assign]
    trainer.run()
    best = [step for name, step in saved if name == "best.safetensors"]
    assert best == [1, 2, 3, 4]  # 3: the first score of samples; what estimates had does not count


def test_without_songs_to_validate_on_nothing_is_best(songs: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train").symlink_to(songs / "train")
    train(tiny_run(tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out/best.safetensors").exists()
    (tmp_path / "data/valid").mkdir()
    with pytest.raises(DataError, match="valid: no songs found"):
        Trainer(tiny_run(tmp_path / "data"), tmp_path / "out")
    with pytest.raises(SolovoxError, match="nowhere: no such folder"):
        Trainer(replace(tiny_run(songs), valid=str(tmp_path / "nowhere")), tmp_path / "out")


def test_error_of_a_worker_is_one_line(tmp_path: Path) -> None:
    write_songs(tmp_path / "train", 2)
    trainer = Trainer(tiny_run(tmp_path), tmp_path / "out", workers=1)
    for path in (tmp_path / "train").glob("*/vocals.wav"):
        path.write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"vocals\.wav: cannot be read") as error:
        trainer.run()
    assert "\n" not in str(error.value)


def test_killed_worker_is_one_line(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_run(songs), tmp_path, workers=1)
    monkeypatch.setattr(
        trainer.steps.chunks, "pools", lambda index: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(SolovoxError, match="was killed, maybe for lack of memory") as error:
        trainer.run()
    assert "\n" not in str(error.value)


def test_full_device_is_one_line(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny_run(songs), tmp_path, workers=0)

    def fill(*args: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate everything")

    monkeypatch.setattr(trainer, "_train", fill)
    with pytest.raises(SolovoxError, match="--accumulate 2"):
        trainer.run()


def test_batch_that_does_not_divide(songs: Path, tmp_path: Path) -> None:
    with pytest.raises(SolovoxError, match="4 does not divide into 1 processes x 3 parts"):
        Trainer(tiny_run(songs, accumulate=3), tmp_path)


@pytest.mark.parametrize("name", ["last.safetensors", "run.json", "log.jsonl"])
def test_what_cannot_be_written_is_one_line(songs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / f".{name}.part").mkdir()  # a folder where a file must go
    with pytest.raises(SolovoxError, match=f"{name} cannot be written") as error:
        train(tiny_run(songs), tmp_path)
    assert "\n" not in str(error.value)


def test_no_room_on_the_disk_keeps_the_last_checkpoint(songs: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    trainer = Trainer(tiny_run(songs), tmp_path, workers=0)
    trainer._save("last.safetensors")
    before = (tmp_path / "last.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(SolovoxError, match=r"last\.safetensors cannot be written"):
            trainer._save("last.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_checkpoint_of_another_model_is_told(songs: Path, tmp_path: Path) -> None:
    train(tiny_run(songs, max_steps=1), tmp_path)
    with pytest.raises(ModelError, match="checkpoint of another model"):
        Trainer(tiny_run(songs, WAVES), tmp_path).resume()
    (tmp_path / "last.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint that can be read"):
        Trainer(tiny_run(songs), tmp_path).resume()


def test_fine_tuning_starts_from_a_models_weights(songs: Path, tmp_path: Path) -> None:
    model = build_model(BANDS)
    save_model(model, tmp_path / "model")
    run = replace(tiny_run(songs), init=str(tmp_path / "model"))
    started = Trainer(run, tmp_path / "out").model.state_dict()
    assert all(torch.equal(started[key], value) for key, value in model.state_dict().items())
    with pytest.raises(ModelError, match="does not fit the preset tiny-waves"):
        Trainer(replace(tiny_run(songs, WAVES), init=run.init), tmp_path / "out")


def test_teachers_are_loaded_and_written_down(songs: Path, tmp_path: Path) -> None:
    save_model(build_model(BANDS), tmp_path / "teacher")
    alone = train(tiny_run(songs), tmp_path / "alone")
    run = replace(tiny_run(songs), teachers=(str(tmp_path / "teacher"),))
    taught = train(run, tmp_path / "taught")
    assert read_run(tmp_path / "taught") == run
    key = next(key for key in alone.model.state_dict() if key.startswith("conditioner."))
    assert not torch.equal(alone.model.state_dict()[key], taught.model.state_dict()[key])


def test_log_and_settings_are_json(songs: Path, tmp_path: Path) -> None:
    train(tiny_run(songs), tmp_path)
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["training"]["batch_size"] == 4
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines if "norm" in line] == [2, 4, 6, 8]
    scores = [line for line in lines if "songs" in line]
    assert [line["step"] for line in scores] == [4, 8]
    mean = sum(song["usdr"] for song in scores[0]["songs"].values()) / 2
    assert scores[0]["usdr"] == pytest.approx(mean)
    assert list(tmp_path.glob("events.*"))
