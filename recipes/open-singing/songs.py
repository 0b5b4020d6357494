"""Sum the public stems of the real CC0 songs into {train,valid}/SONG/{vocals,accompaniment}.ogg.

    git clone --filter=blob:none --sparse https://github.com/ichbinsoftware/everythingisremixed
    git -C everythingisremixed sparse-checkout set src/1.Hydrogen src/2.Lithium \
        src/4.Potassium src/5.Rubidium src/7.Francium
    python recipes/open-singing/songs.py everythingisremixed songs

Stems with VOX in their names are vocals, all others accompaniment; both sums are scaled by the one
gain that puts the mixture's peak at 0.9. The album's other two songs are kept for judging: this
never reads them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import soundfile as sf
from mixing import RATE, Audio
from sources import REAL_SONGS


def decode(path: Path) -> Audio:
    """Returns a file as [2, samples] at 44.1 kHz."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        blocks = [
            frame.to_ndarray()
            for packet in (*container.decode(audio=0), None)
            for frame in resampler.resample(packet)
        ]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def stems(folder: Path) -> dict[str, Path]:
    """Returns {stem name: file}, the full-rate file where there is one beside its small copy."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*_Stem_*.m4a")):  # "X.m4a" sorts before "X_mobile.m4a"
        name = path.stem.split("_Stem_")[1].removesuffix("_mobile")
        found.setdefault(name, path)
    return found


def add_up(files: list[Path]) -> Audio:
    """Returns the sum of the files, the short ones padded."""
    total = np.zeros((2, 0), np.float32)
    for file in files:
        x = decode(file)
        n = max(total.shape[1], x.shape[1])
        total = np.pad(total, ((0, 0), (0, n - total.shape[1])))
        total[:, : x.shape[1]] += x
    return total


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: songs.py CLONE OUT")
    clone, out = Path(sys.argv[1]), Path(sys.argv[2])
    for split, names in REAL_SONGS.items():
        for song in names:
            folders = list(clone.glob(f"src/*.{song}"))
            if not folders:
                raise SystemExit(f"{clone}: no folder src/*.{song}")
            files = stems(folders[0])
            voices = add_up([f for n, f in files.items() if "VOX" in n])
            rest = add_up([f for n, f in files.items() if "VOX" not in n])
            n = max(voices.shape[1], rest.shape[1])
            voices, rest = (np.pad(x, ((0, 0), (0, n - x.shape[1]))) for x in (voices, rest))
            gain = 0.9 / np.abs(voices + rest).max()
            target = out / split / song
            target.mkdir(parents=True, exist_ok=True)
            for name, x in (("vocals", voices), ("accompaniment", rest)):
                with sf.SoundFile(str(target / f"{name}.ogg"), "w", RATE, 2) as f:
                    for a in range(0, n, RATE):  # the encoder overflows its stack on one long write
                        f.write((gain * x[:, a : a + RATE]).T)
            print(f"{split}/{song}: {len(files)} stems, {n / RATE:.0f} s")


if __name__ == "__main__":
    main()
