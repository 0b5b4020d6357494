"""BSS-Eval through museval: equality with uSDR, shapes, silence, and its JSON."""

from __future__ import annotations

import builtins
import importlib.util
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from solovox.errors import DataError, SolovoxError
from solovox.evaluation import bss
from solovox.evaluation.bss import bss_eval, museval_json
from solovox.evaluation.metrics import usdr

RATE = 8_000  # the filters' 512 samples make a second of it as hard as of any rate

needs_museval = pytest.mark.skipif(
    importlib.util.find_spec("museval") is None, reason="museval is not installed"
)


MUSEVAL = """
import json, sys
import museval, numpy as np
folder, rate = sys.argv[1], int(sys.argv[2])
stems = np.load(folder + "/stems.npz")
true, guessed = (
    np.stack([stems[kind + "_" + stem].T for stem in ("vocals", "accompaniment")])
    for kind in ("true", "guessed")
)
frames = museval.evaluate(true, guessed, win=rate, hop=rate)
store = museval.EvalStore()
store.add_eval_dir(folder)
stored = {" ".join(key): value for key, value in store.agg_frames_tracks_scores().items()}
print(json.dumps({"frames": [scores.tolist() for scores in frames], "stored": stored}))
"""


def stems(seconds: float = 3.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (2, round(seconds * RATE))
    return {name: 0.1 * rng.standard_normal(shape) for name in bss.STEMS}


def estimates(true: dict[str, np.ndarray], leak: float = 0.2) -> dict[str, np.ndarray]:
    moved = leak * true["accompaniment"]
    return {"vocals": true["vocals"] + moved, "accompaniment": true["accompaniment"] - moved}


@needs_museval
class TestMuseval:
    def test_an_infinite_window_gives_usdr(self) -> None:
        true = stems(1.0)
        guessed = {
            name: audio + 0.03 * stems(1.0, seed=1)["vocals"]
            for name, audio in estimates(true).items()
        }
        scores = bss_eval(true, guessed, RATE, window=math.inf)
        for name in bss.STEMS:
            assert scores[name].frames["SDR"].shape == (1,)
            assert scores[name].frames["SDR"][0] == pytest.approx(
                usdr(true[name], guessed[name]), abs=1e-5
            )

    def test_leakage_is_interference_and_not_artefact(self) -> None:
        true = stems(2.0)
        medians = bss_eval(true, estimates(true), RATE)["vocals"].medians()
        assert medians["SIR"] == pytest.approx(-20 * math.log10(0.2), abs=1.0)
        assert medians["SAR"] > medians["SIR"] + 5

    def test_frames_with_a_silent_stem_have_no_score(self) -> None:
        true = stems(3.0)
        true["vocals"][:, RATE : 2 * RATE] = 0
        scores = bss_eval(true, estimates(true), RATE)["vocals"]
        np.testing.assert_array_equal(np.isnan(scores.frames["SDR"]), [False, True, False])
        assert all(math.isfinite(value) for value in scores.medians().values())

    def test_a_silent_song_has_no_score(self) -> None:
        true = stems(2.0)
        true["vocals"][:] = 0
        scores = bss_eval(true, estimates(true), RATE)["vocals"]
        assert len(scores.frames["SDR"]) == 2
        assert all(math.isnan(value) for value in scores.medians().values())

    def test_a_song_under_a_second_is_one_frame(self) -> None:
        true = stems(0.5)
        scores = bss_eval(true, estimates(true), RATE)["vocals"]
        assert len(scores.frames["SDR"]) == 1
        assert scores.window == 0.5

    def test_the_json_satisfies_musevals_own_schema(self) -> None:
        true = stems(2.0)
        true["vocals"][:, RATE:] = 0
        written = json.loads(json.dumps(museval_json(bss_eval(true, estimates(true), RATE))))
        jsonschema = pytest.importorskip("jsonschema")
        package = importlib.util.find_spec("museval")
        assert package is not None and package.submodule_search_locations
        schema = Path(package.submodule_search_locations[0]) / "musdb.schema.json"
        jsonschema.validate(written, json.loads(schema.read_text("utf-8")))
        assert [target["name"] for target in written["targets"]] == list(bss.STEMS)
        assert len(written["targets"][0]["frames"]) == 2

    @pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="museval's package needs ffmpeg")
    def test_musevals_package_gives_the_same_and_reads_our_files(self, tmp_path: Path) -> None:
        true = stems(2.0)
        guessed = estimates(true)
        scores = bss_eval(true, guessed, RATE)
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "Aria.json").write_text(json.dumps(museval_json(scores)))
        np.savez(tmp_path / "stems.npz", **{f"true_{k}": v for k, v in true.items()},
                 **{f"guessed_{k}": v for k, v in guessed.items()})  # fmt: skip
        # By itself: importing museval looks for ffmpeg and warns of its own age.
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", MUSEVAL, str(tmp_path), str(RATE)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        theirs = json.loads(done.stdout.splitlines()[-1])
        for index, stem in enumerate(bss.STEMS):
            for place, name in enumerate(("SDR", "ISR", "SIR", "SAR")):  # museval's order
                ours = scores[stem].frames[name]
                np.testing.assert_allclose(ours, theirs["frames"][place][index], rtol=1e-6)
                stored = theirs["stored"][f"{stem} {name}"]
                assert stored == pytest.approx(scores[stem].medians()[name], abs=1e-4)


def test_other_shapes_are_named() -> None:
    true = stems(1.0)
    short = {name: audio[:, 1:] for name, audio in true.items()}
    with pytest.raises(DataError, match="one shape"):
        bss_eval(true, short, RATE)


def test_a_missing_museval_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(bss.sys.modules, "solovox._museval_metrics", raising=False)
    with pytest.raises(SolovoxError, match=r"pip install 'solovox\[bss\]'"):
        bss_eval(stems(1.0), stems(1.0), RATE)


def test_missing_speech_metrics_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from solovox.evaluation.speech import pesq, stoi

    real = builtins.__import__

    def broken(name: str, *args: object) -> object:
        if name in ("pesq", "pystoi"):
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("importlib.import_module", lambda name: broken(name))
    for metric in (pesq, stoi):
        with pytest.raises(SolovoxError, match=r"pip install 'solovox\[speech\]'"):
            metric(np.zeros((2, RATE)), np.zeros((2, RATE)), RATE)


@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_speech_metrics_fall_with_noise(name: str) -> None:
    pytest.importorskip({"pesq": "pesq", "stoi": "pystoi"}[name])
    from solovox.evaluation import speech

    metric = getattr(speech, name)
    time = np.arange(3 * 16_000) / 16_000
    # A buzz with syllables: enough of a voice for both.
    voice = sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20))
    voice = 0.1 * voice * (np.sin(2 * np.pi * 2 * time) > 0)
    voice = np.stack([voice, voice])
    hiss = np.random.default_rng(0).standard_normal(voice.shape)
    clean, little, much = (metric(voice, voice + g * hiss, 16_000) for g in (0, 0.01, 0.3))
    assert clean > little > much
    assert math.isnan(metric(0 * voice, voice, 16_000))
    with pytest.raises(DataError, match="one shape"):
        metric(voice, voice[:, 1:], 16_000)


@pytest.mark.parametrize("name", ["pesq", "stoi"])
def test_what_holds_no_utterance_has_no_speech_score(name: str) -> None:
    pytest.importorskip({"pesq": "pesq", "stoi": "pystoi"}[name])
    from solovox.evaluation import speech

    shout = np.zeros((2, 48_000))
    shout[:, 24_000:24_800] = 0.5 * np.sin(2 * np.pi * 300 * np.arange(800) / 16_000)
    assert math.isnan(getattr(speech, name)(shout, shout, 16_000))


def test_dither_is_noise_at_its_share_of_each_references_level(monkeypatch):
    class Museval:
        @staticmethod
        def bss_eval(references, estimates, **settings):
            heard.append(references)
            return (np.zeros((2, 1)),) * 4

    heard: list[np.ndarray] = []
    monkeypatch.setattr(bss, "_museval", lambda: Museval)
    time = np.arange(4 * RATE) / RATE
    stems = {
        name: level * np.sin(2 * np.pi * 440 * np.stack((time, time)))
        for name, level in (("vocals", 1.0), ("accompaniment", 0.01))
    }
    for dither in (0.0, 1e-3):
        bss_eval(stems, stems, RATE, window=math.inf, dither=dither)
    plain, dithered = heard
    np.testing.assert_array_equal(plain[0].T, stems["vocals"])
    share = (dithered - plain).std(axis=(1, 2)) / plain.std(axis=(1, 2))
    np.testing.assert_allclose(share, 1e-3, rtol=0.02)
