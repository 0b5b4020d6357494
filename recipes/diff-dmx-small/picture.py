"""The picture of the model card: mixture, true vocals and generated vocals of ten seconds.

    python recipes/diff-dmx-small/picture.py MODEL PICTURE.jpg --songs songs

The song is Francium (CC0), which no training hears.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from solovox import Separator
from solovox.cli.demo import draw
from solovox.data.index import find_songs, read_pair

RATE = 44_100
START, SECONDS = 68, 8
QUALITY = 72


def main() -> None:
    """Separate and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a name of `solovox models` or a folder")
    parser.add_argument("picture", type=Path, help="the file to write, JPEG")
    parser.add_argument("--songs", type=Path, default=Path("songs"), help="the real songs")
    given = parser.parse_args()
    song = next(song for song in find_songs(given.songs / "valid") if song.name == "Francium")
    # Separated with what comes before and after, as in the whole song.
    around = slice(3 * RATE, (3 + SECONDS) * RATE)
    vocals, band = read_pair(song, (START - 3) * RATE, (SECONDS + 6) * RATE)
    generated = Separator(given.model).separate(vocals + band, RATE)["vocals"]
    signals = {
        "Mixture": vocals + band,
        "True vocals": vocals,
        "Generated vocals": generated,
    }
    cut = {name: np.ascontiguousarray(audio[:, around]) for name, audio in signals.items()}
    draw(cut, RATE, given.picture)
    with Image.open(given.picture) as picture:
        flat = picture.convert("RGB")
    flat.save(given.picture, format="JPEG", quality=QUALITY, optimize=True)
    print(f"{given.picture}: {given.picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
