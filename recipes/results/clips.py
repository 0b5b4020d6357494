"""Writes the two clips of real singing that docs/studies is about.

    python recipes/results/clips.py --songs songs

writes clips/SONG/{vocals,mixture}.wav: the six seconds of Falcon 69, which come from PyPI, and
60-90 s of Francium, from the songs that recipes/open-singing/songs.py makes.
"""

from __future__ import annotations

from pathlib import Path

import click

from solovox.audio import write_audio
from solovox.cli.demo import fetch_song, read_song
from solovox.data.index import find_songs, read_pair
from solovox.evaluation.metrics import as_16_bit

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--songs", default=Path("songs"), show_default=True, type=PATH, help="Real songs.")
@click.option("--cache", default=Path(".cache"), type=PATH, help="For Falcon 69.")
@click.option("-o", "--out", default=Path("clips"), show_default=True, type=PATH, help="Folder.")
def main(songs: Path, cache: Path, out: Path) -> None:
    """Write the clips in the layout of MUSDB18-HQ: float wav, rounded to 16 bits."""
    clips = {"Falcon 69": read_song(fetch_song(cache / "demo-song"))}
    for song in find_songs(songs / "valid"):
        if song.name == "Francium":
            rate = song.sample_rate
            clips["Francium 60-90"] = (*read_pair(song, 60 * rate, 30 * rate), rate)
    if len(clips) < 2:
        raise click.ClickException(
            f"{songs}/valid has no song Francium: make it with recipes/open-singing/songs.py"
        )
    for name, (vocals, accompaniment, rate) in clips.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        sung, rest = as_16_bit(vocals), as_16_bit(accompaniment)
        write_audio(folder / "vocals.wav", sung, rate)
        write_audio(folder / "mixture.wav", sung + rest, rate)  # beyond full scale in places
        click.echo(folder)


if __name__ == "__main__":
    main()
