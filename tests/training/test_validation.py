"""Validation is what the metrics say of what the public Separator returns, for whole songs."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_runs import RATE, tiny_run, train, write_songs

from solovox.data.chunks import whole_songs
from solovox.errors import DataError, SolovoxError
from solovox.evaluation.metrics import multi_resolution_stft, usdr
from solovox.model import SeparationModel
from solovox.separator import Separator
from solovox.training.journal import Journal, read_log, spectrogram
from solovox.training.picture import draw_run
from solovox.training.validation import METRICS, mean_scores, validate

Oracle = Callable[..., SeparationModel]


def test_scores_of_whole_songs(tmp_path: Path, oracle: Oracle) -> None:
    write_songs(tmp_path, 2, seconds=1.7)
    scores, excerpt = validate(Separator(oracle(0.5)), tmp_path)
    assert list(scores) == ["song0", "song1"]
    for name, mixture, vocals in whole_songs(tmp_path, RATE):
        half = 0.5 * mixture.numpy()
        assert scores[name]["usdr"] == pytest.approx(usdr(vocals.numpy(), half), abs=1e-4)
        expected = multi_resolution_stft(vocals.numpy(), mixture.numpy())
        assert scores[name]["mixture_multi_resolution_stft"] == pytest.approx(expected)
    assert excerpt is not None and excerpt.sample_rate == RATE
    np.testing.assert_allclose(excerpt.estimate, 0.5 * excerpt.mixture, atol=1e-5)


def test_processes_share_the_songs(tmp_path: Path, oracle: Oracle) -> None:
    write_songs(tmp_path, 3)
    separator = Separator(oracle(0.5))
    whole, _ = validate(separator, tmp_path)
    tables: list[torch.Tensor] = []
    excerpts = []
    for rank in range(2):  # first each on its own, to have what the other adds
        validate(separator, tmp_path, rank, 2, lambda table: tables.append(table) or table)
    for rank in range(2):
        scores, excerpt = validate(separator, tmp_path, rank, 2, lambda table: sum(tables))
        assert scores == whole
        excerpts.append(excerpt is not None)
    assert excerpts == [True, False]


@pytest.mark.parametrize("left", [0.0, 1e-5])  # silence, and what a codec leaves of it
def test_song_without_a_voice_does_not_count(tmp_path: Path, oracle: Oracle, left: float) -> None:
    write_songs(tmp_path, 2)
    silence = left * np.random.default_rng(0).standard_normal((RATE, 2))
    soundfile.write(tmp_path / "song1/vocals.wav", silence, RATE, subtype="FLOAT")
    scores, _ = validate(Separator(oracle(0.5)), tmp_path)
    assert all(math.isnan(scores["song1"][metric]) for metric in METRICS)
    assert mean_scores(scores) == scores["song0"]
    assert all(math.isnan(mean) for mean in mean_scores({"song1": scores["song1"]}).values())


def test_nothing_to_validate_on_is_told(tmp_path: Path, oracle: Oracle) -> None:
    with pytest.raises(DataError, match="no songs found"):
        validate(Separator(oracle(0.5)), tmp_path)


def test_journal_drops_what_the_resumed_run_takes_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    for step in (2, 4, 6):
        journal.record(step, {"loss": float(step), "nothing": math.nan})
    journal.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "songs": {}')  # killed while it wrote
    Journal(tmp_path, 4).close()
    assert read_log(tmp_path, 100) == [
        {"step": step, "loss": float(step), "nothing": None} for step in (2, 4)
    ]


def test_excerpt_is_shown_to_ears_and_eyes(tmp_path: Path, oracle: Oracle) -> None:
    write_songs(tmp_path / "songs", 1)
    _, excerpt = validate(Separator(oracle(0.5)), tmp_path / "songs")
    assert excerpt is not None
    journal = Journal(tmp_path, 0)
    journal.show(3, excerpt)
    journal.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert len(events.Tags()["audio"]) == 3 and len(events.Tags()["images"]) == 1


def test_spectrogram_shows_a_tone_at_its_height() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    picture = spectrogram(np.stack((tone, tone)))
    brightest = int(picture[:, 5].sum(axis=1).argmax())
    assert picture.shape[0] == 256
    assert brightest == pytest.approx(255 - 256 * 1000 / (RATE / 2), abs=2)  # low ones are below


def test_log_is_drawn(songs: Path, tmp_path: Path) -> None:
    train(tiny_run(songs), tmp_path)
    draw_run(tmp_path, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(SolovoxError, match="no log yet"):
        draw_run(tmp_path, tmp_path / "curve.png")
