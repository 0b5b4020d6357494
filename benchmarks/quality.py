"""Quality against time of a model's settings: where `--quality` comes from.

    python benchmarks/quality.py SONGS                       # the bundled model, songs' middle 12 s
    python benchmarks/quality.py SONGS -n FOLDER --seconds 60
    python benchmarks/quality.py SONGS --most 6 --excerpts 3 # three places in each of six songs

SONGS holds songs in any layout of `solovox.data.index`; none of them may have been trained on. A
row is a setting: passes of the generator a chunk, uSDR, LSD and multi-resolution STFT distance of
the vocals (mean over excerpts; a higher uSDR and lower distances are better), CPU seconds a minute
of audio on one thread, and how far the vocals in bf16 are from those in fp32 (at least 40 dB) and
what bf16 changes of the uSDR (at most 0.05 dB), the worst excerpt of each: a model beyond that has
"precision": "fp32" in its configuration. All rows are compared, so each is computed twice;
`--no-precision` leaves that out. The worst of all rows stands below the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from solovox import Separator
from solovox.allocation import keep_memory
from solovox.data.index import Audio, Song, find_songs, read_pair
from solovox.errors import SolovoxError
from solovox.evaluation.metrics import as_16_bit, is_silent, lsd, multi_resolution_stft, usdr
from solovox.precision import resolve
from solovox.presets import QUALITIES

NOISE = {"start": 1.0, "eta": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"quality {name}": {"quality": name} for name in QUALITIES},
    "the estimate alone": {"steps": 0},
    **{
        f"from the estimate, start {start:g}, {steps} steps": {"start": start, "steps": steps}
        for start, steps in ((0.1, 1), (0.3, 1), (0.3, 2), (0.3, 5), (0.5, 2), (0.5, 5))
    },
    "the same, 0.5, dpmpp-2m, 5 steps": {"start": 0.5, "steps": 5, "sampler": "dpmpp-2m"},
    "mean of 2 takes, start 0.3, 2 steps": {"start": 0.3, "steps": 2, "takes": 2},
    "mean of 4 takes, start 0.3, 1 step": {"start": 0.3, "steps": 1, "takes": 4},
    "mean of 4 takes, start 0.3, 2 steps": {"start": 0.3, "steps": 2, "takes": 4},
    "from noise, 5 steps": {"steps": 5, **NOISE},
    "from noise, 20 steps": {"steps": 20, **NOISE},
    "from noise, 50 steps": {"steps": 50, **NOISE},
}


def excerpts(song: Song, seconds: float, count: int) -> Iterator[tuple[Audio, Audio]]:
    """(vocals, mixture) of places evenly spread over a song, as files of 16 bits would hold them.

    One place is the middle. A song that is shorter is taken whole.
    """
    frames = min(song.frames, round(seconds * song.sample_rate))
    for number in range(count):
        middle = song.frames * (number + 1) / (count + 1)
        start = min(max(0, round(middle - frames / 2)), song.frames - frames)
        vocals, accompaniment = (as_16_bit(stem) for stem in read_pair(song, start, frames))
        yield vocals, vocals + accompaniment


def sung(vocals: Audio, rate: int) -> bool:
    """Whether there is a voice, loud enough for an LSD (-60 dB)."""
    return not is_silent(vocals) and not math.isnan(lsd(vocals, vocals, rate))


@click.command()
@click.argument("songs", type=click.Path(exists=True, path_type=Path))
@click.option("-n", "--name", "model", default="diff-dmx-small", show_default=True)
@click.option("--seconds", default=12.0, show_default=True, help="Of each excerpt.")
@click.option("--excerpts", "places", default=1, show_default=True, help="Of each song.")
@click.option("--most", type=int, help="Songs, evenly spread over the names  [default: all].")
@click.option("--only", multiple=True, help="Rows whose names have this.")
@click.option("--precision/--no-precision", default=True, help="Compare bf16 with fp32.")
def main(
    songs: Path,
    model: str,
    seconds: float,
    places: int,
    most: int | None,
    only: tuple[str, ...],
    precision: bool,
) -> None:
    """Print a table of settings."""
    keep_memory()
    torch.set_num_threads(1)
    found = [song for song in find_songs(songs) if song.paired]
    count = min(most or len(found), len(found))
    taken = []
    for song in (found[number * len(found) // count] for number in range(count)):
        for number, (vocals, mixture) in enumerate(excerpts(song, seconds, places), 1):
            if sung(vocals, song.sample_rate):
                taken.append((vocals, mixture, song.sample_rate))
            else:
                print(f"{song.name}, excerpt {number}: nobody is heard to sing; left out")
    if not taken:
        raise click.ClickException(f"{songs}: there are no excerpts with a voice")
    minutes = sum(vocals.shape[1] / rate for vocals, _, rate in taken) / 60
    print(f"\n{model}, {len(taken)} excerpts of {count} songs, {60 * minutes:.0f} s in all\n")
    more = " bf16, dB off | change |" if precision else ""
    print(f"| setting | passes | uSDR dB | LSD | MR-STFT | CPU s a minute |{more}")
    print("|---|---|---|---|---|---|" + "---|---|" * precision)
    compared: list[tuple[str, float, float]] = []  # setting, dB apart, change of uSDR
    for name, settings in SETTINGS.items():
        if only and not any(part in name for part in only):
            continue
        try:
            separator = Separator(model, device="cpu", **settings)
        except SolovoxError as error:
            print(f"| {name} | {error} |")
            continue
        scores, cpu, apart, change = [], 0.0, [], []
        for vocals, mixture, rate in taken:
            start = time.process_time()
            estimate = separator.separate(mixture, rate)["vocals"]
            cpu += time.process_time() - start
            scores.append(
                (
                    usdr(vocals, estimate),
                    lsd(vocals, estimate, rate),
                    multi_resolution_stft(vocals, estimate),
                )
            )
            if precision:
                fp32, bf16 = (
                    estimate
                    if resolve(separator.device, separator.precision) == asked
                    else Separator(
                        separator.model, device="cpu", precision=asked, **settings
                    ).separate(mixture, rate)["vocals"]
                    for asked in ("fp32", "bf16")
                )
                apart.append(usdr(fp32, bf16))
                change.append(usdr(vocals, bf16) - usdr(vocals, fp32))
        passes = separator.sampling.steps * separator.sampling.takes
        cells = [str(passes), *(f"{score:.2f}" for score in np.mean(scores, axis=0))]
        cells.append(f"{cpu / minutes:.1f}")
        if precision:
            compared.append((name, min(apart), max(change, key=abs)))
            cells += [f"{compared[-1][1]:.1f}", f"{compared[-1][2]:+.3f}"]
        print(f"| {' | '.join((name, *cells))} |", flush=True)
    if compared:
        near = min(compared, key=lambda row: row[1])
        far = max(compared, key=lambda row: abs(row[2]))
        print(
            f"\nbf16 against fp32 in {len(compared)} settings: at least {near[1]:.1f} dB apart "
            f"({near[0]}), uSDR changed by {far[2]:+.3f} dB at most ({far[0]})"
        )


if __name__ == "__main__":
    main()
