"""Build the open training set: vocals-mixture pairs in the layout of MUSDB18-HQ, by one command.

    python recipes/open-singing/build.py --out DIR --songs FOLDER_WITH_CC0_SONGS

Writes OUT/{train,valid,test}/SONG/{vocals,mixture}.wav, OUT/{split}/weights.json,
OUT/manifest.json and OUT/licences/. What is finished is never made again, so the command can be
stopped and repeated, or repeated with more hours. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import bands
import formants
import numpy as np
import singing
import sources
import soxr
from mixing import RATE, Audio, Rng, activity, balance, biquad, db, equalise, pair, read, write
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sources import TEST, TRAIN, VALID, Track
from voices import Bank, Mono, make_bank, open_bank, produce, roughen, speak

SEED = 20260
HOURS = {"sung": 3.0, "speech": 3.0, "inst": 1.4, "psola": 3.0, "midi": 4.0, "world": 1.6}
# Short held-out songs of each group: (valid, test).
HELD_OUT = {"sung": (2, 0), "speech": (3, 6), "psola": (2, 4), "world": (1, 2)}
# Parts of all draws in training: real singing is little, and heard often.
SHARES = {"cc0": 0.22, "formants": 0.22, "sung": 0.2}


@dataclass(frozen=True)
class Item:
    """One song to build: everything about it follows from these fields and the packages.

    Attributes:
        group: the kind of song, a key of MAKERS.
        name: name of its folder.
        split: train, valid or test.
        seconds: length (0: as long as its source).
        track: files, start (s): the accompaniment, where it is recorded music.
        package: where the accompaniment comes from.
        licence: licence of the accompaniment.
    """

    group: str
    name: str
    split: str
    seconds: float
    files: tuple[str, ...] = ()
    start: float = 0.0
    package: str = ""
    licence: str = ""


@dataclass
class Song:
    """A finished pair and its sources."""

    vocals: Audio
    mixture: Audio
    sources: list[dict[str, str]] = field(default_factory=list)


# ---------------------------------------------------------------- the plan


def _rng(*key: object) -> Rng:
    return np.random.default_rng([SEED, zlib.crc32("/".join(map(str, key)).encode())])


def _segments(pool: list[Track], group: str, split: str) -> list[tuple[Track, float, float]]:
    """Returns (track, start, seconds) pieces of the music of a split, shuffled for the group."""
    low, high = (80.0, 150.0) if split == TRAIN else (32.0, 58.0)
    shares = {s.package: s.share for s in sources.MUSIC}
    pieces = []
    for track in (t for t in pool if t.split == split):
        rng = _rng("segments", group, track.files[0])
        at, end = 0.0, track.seconds
        while end - at >= min(low / 2, 25.0):
            length = min(float(rng.uniform(low, high)), end - at)
            if rng.random() < shares[track.package]:
                pieces.append((track, at, length))
            at += length
    order = _rng("order", group, split).permutation(len(pieces))
    return [pieces[i] for i in order]


def plan(pool: list[Track], hours: dict[str, float]) -> list[Item]:
    """Returns all songs of the set; a longer set begins with the songs of a shorter one."""
    items: list[Item] = []
    for split, names in sources.REAL_SONGS.items():
        items += [Item("cc0", f"cc0-{n}", split, 0.0) for n in names]
    items += [
        Item("formants", f"formants-{name}-{k}", TRAIN, 0.0)
        for name in sources.REAL_SONGS[TRAIN]
        for k in range(len(formants.TRACTS))
    ]
    for group, wanted in hours.items():
        for split, limit in zip((VALID, TEST), HELD_OUT.get(group, (0, 0)), strict=True):
            items += _take(group, split, _segments(pool, group, split), limit, float("inf"))
        if group == "midi":
            count, total = 0, 0.0
            while total < wanted * 3600:
                seconds = float(_rng("midi", count).uniform(80, 150))
                items.append(Item("midi", f"midi-{count:04d}", TRAIN, seconds))
                count, total = count + 1, total + seconds
        else:
            segments = _segments(pool, group, TRAIN)
            items += _take(group, TRAIN, segments, 10**6, wanted * 3600)
    return items


def _take(
    group: str, split: str, segments: list[tuple[Track, float, float]], limit: int, seconds: float
) -> list[Item]:
    items, total = [], 0.0
    for k, (t, start, length) in enumerate(segments[:limit]):
        if total >= seconds:
            break
        name = f"{group}-{k:04d}"
        items.append(Item(group, name, split, length, t.files, start, t.package, t.licence))
        total += length
    return items


# ---------------------------------------------------------------- the songs


@dataclass(frozen=True)
class Place:
    """Where things are on this machine."""

    out: Path
    work: Path
    songs: Path | None


@cache
def _bank(name: str, work: Path) -> Bank:
    return open_bank(work / "voices" / f"{name}.npy")


def _cast(
    rng: Rng,
    split: str,
    count: int,
    work: Path,
    voices: tuple[sources.VoiceSource, ...] = sources.VOICES,
) -> list[sources.VoiceSource]:
    """Returns `count` voices of a split, different where it has so many."""
    pool = [v for v in voices if v.split == split and len(_bank(v.name, work)) >= 8]
    weights = np.array([v.weight * min(_bank(v.name, work).seconds / 30, 1.0) for v in pool])
    picks = rng.choice(len(pool), min(count, len(pool)), replace=False, p=weights / weights.sum())
    return [pool[picks[k % len(picks)]] for k in range(count)]


def _credit(voice: sources.VoiceSource, role: str) -> dict[str, str]:
    return {
        "role": role,
        "voice": voice.name,
        "package": voice.package,
        "licence": voice.licence,
    }


def _music(item: Item, place: Place, rng: Rng) -> Audio:
    """Returns the recorded accompaniment of a song, its tone varied a little."""
    parts = [read(place.work / f, item.start, item.seconds) for f in item.files]
    x = np.sum([p[:, : min(q.shape[1] for q in parts)] for p in parts], axis=0)
    x = equalise(x, [biquad("highpass", 20)])  # some games' music has an offset
    if rng.random() < 0.5:
        x = equalise(
            x,
            [
                biquad("low", rng.uniform(100, 300), rng.uniform(-3, 3)),
                biquad("peak", rng.uniform(400, 4000), rng.uniform(-3, 2), 0.8),
                biquad("high", rng.uniform(4000, 9000), rng.uniform(-3, 4)),
            ],
        )
    fade = min(2205, x.shape[1] // 4)
    x[:, :fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    x[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    level = np.sqrt((x**2).mean()) + 1e-6
    return (x * min(db(-18) / level, 20.0)).astype(np.float32)


def _spoken(item: Item, place: Place, rng: Rng, n: int) -> tuple[Audio, list[dict[str, str]]]:
    """Returns unprocessed real speech as a vocal track of n samples, and its sung_by."""
    seconds = n / RATE
    cast = _cast(rng, item.split, 3, place.work)
    active = float(rng.uniform(0.45, 0.75))
    lead = speak(_bank(cast[0].name, place.work), rng, seconds, active)
    sung_by = [_credit(cast[0], "lead, spoken")]
    doubles: list[Mono] = []
    others: list[Mono] = []
    if rng.random() < 0.45:
        doubles = [roughen(lead, rng) for _ in range(int(rng.integers(1, 3)))]
    if rng.random() < 0.25:
        others.append(speak(_bank(cast[1].name, place.work), rng, seconds, 0.3))
        sung_by.append(_credit(cast[1], "second voice, spoken"))
    return produce(lead[:n], doubles, others, rng, dry=rng.random() < 0.35)[:, :n], sung_by


def _sung(
    item: Item, place: Place, rng: Rng, n: int, setting: singing.Setting, method: str
) -> tuple[Audio, list[dict[str, str]]]:
    """Returns real voices made to sing as a vocal track of n samples, and their sung_by."""
    cast = _cast(rng, item.split, 2, place.work)
    takes = singing.sing(_bank(cast[0].name, place.work), setting, rng, method)
    sung_by = [_credit(cast[0], f"lead, sung by {method}")]
    if rng.random() < 0.2:  # an unprocessed voice now and then
        takes.harmonies.append(speak(_bank(cast[1].name, place.work), rng, setting.seconds, 0.15))
        sung_by.append(_credit(cast[1], "second voice, spoken"))

    def fit(x: Mono) -> Mono:
        return np.pad(x, (0, max(0, n - len(x))))[:n]

    doubles, harmonies = [fit(x) for x in takes.doubles], [fit(x) for x in takes.harmonies]
    return produce(fit(takes.lead), doubles, harmonies, rng), sung_by


def _real(
    item: Item, place: Place, rng: Rng, n: int, key: int
) -> tuple[Audio, list[dict[str, str]]]:
    """Returns recorded singing as a vocal track of n samples in a key, and its sung_by."""
    cast = _cast(rng, item.split, 2, place.work, sources.SINGERS)

    def take(voice: sources.VoiceSource, active: float) -> Mono:
        x = speak(_bank(voice.name, place.work), rng, 1.3 * n / RATE, active, vary=0.0)
        step = singing.transposition(singing.find_key(x[None])[0], key)
        return np.asarray(soxr.resample(x, RATE * 2 ** (step / 12), RATE))[:n]

    lead = take(cast[0], float(rng.uniform(0.5, 0.8)))
    sung_by = [_credit(cast[0], "lead, recorded singing")]
    doubles: list[Mono] = []
    others: list[Mono] = []
    if rng.random() < 0.45:
        doubles = [roughen(lead, rng) for _ in range(int(rng.integers(1, 3)))]
    if rng.random() < 0.35:
        others.append(take(cast[1], 0.35))
        sung_by.append(_credit(cast[1], "second voice, recorded singing"))
    return produce(lead, doubles, others, rng, dry=rng.random() < 0.3)[:, :n], sung_by


def _finish(vocals: Audio, music: Audio, rng: Rng) -> tuple[Audio, Audio]:
    n = min(vocals.shape[1], music.shape[1])
    v, a = vocals[:, :n], music[:, :n]
    v = balance(v, a, float(np.clip(rng.normal(-0.5, 3.2), -8, 6)))
    return pair(v, a, float(rng.uniform(0.8, 0.98)))


def make_real(item: Item, place: Place, rng: Rng) -> Song:
    """A real song as its artist made it: true vocals, true mixture."""
    if place.songs is None:
        raise SystemExit("the real songs need --songs; see recipes/open-singing/README.md")
    folder = place.songs / item.split / item.name.removeprefix("cc0-")
    vocals = read(folder / "vocals.ogg")
    music = read(folder / "accompaniment.ogg")
    n = min(vocals.shape[1], music.shape[1])
    v, m = vocals[:, :n], vocals[:, :n] + music[:, :n]
    top = float(np.abs(m).max())
    gain = np.float32(0.99 / top if top > 0.99 else 1.0)
    credit = {
        "role": "song",
        "package": sources.REAL_SONGS_ORIGIN,
        "licence": sources.REAL_SONGS_LICENCE,
    }
    return Song(v * gain, m * gain, [credit])


def make_formants(item: Item, place: Place, rng: Rng) -> Song:
    """A real song, its voice another: the formants moved."""
    _, name, singer = item.name.split("-")
    song = make_real(replace(item, name=f"cc0-{name}"), place, rng)
    vocals = formants.another_singer(song.vocals, formants.TRACTS[int(singer)], rng)
    return Song(*pair(vocals, song.mixture - song.vocals, 0.9), song.sources)


def make_speech(item: Item, place: Place, rng: Rng) -> Song:
    """Real speech, unprocessed by any vocoder, over recorded music."""
    music = _music(item, place, rng)
    vocals, sung_by = _spoken(item, place, rng, music.shape[1])
    return Song(*_finish(vocals, music, rng), [*sung_by, _music_credit(item)])


def make_real_singing(item: Item, place: Place, rng: Rng) -> Song:
    """Recorded singing, transposed to the key of recorded music."""
    music = _music(item, place, rng)
    key = singing.find_key(music)[0]
    vocals, sung_by = _real(item, place, rng, music.shape[1], key)
    return Song(*_finish(vocals, music, rng), [*sung_by, _music_credit(item)])


def make_sung(item: Item, place: Place, rng: Rng) -> Song:
    """A real voice singing a melody in the key of recorded music; the group names the method."""
    music = _music(item, place, rng)
    n = music.shape[1]
    root, minor = singing.find_key(music)
    setting = singing.Setting(root, minor, float(rng.uniform(72, 140)), n / RATE)
    vocals, sung_by = _sung(item, place, rng, n, setting, item.group)
    return Song(*_finish(vocals, music, rng), [*sung_by, _music_credit(item)])


def make_band(item: Item, place: Place, rng: Rng) -> Song:
    """A band made by rule and FluidSynth, with a voice that keeps its key, chords and tempo."""
    score = bands.write_score(rng, item.seconds)
    music, names = bands.play(score, rng, item.seconds, bands.soundfont(place.work))
    n = music.shape[1]
    music_credit = {
        "role": f"accompaniment, made by rule: {score.style}",
        "file": ", ".join(names),
        "package": bands.SOUNDFONT_PACKAGE,
        "licence": bands.SOUNDFONT_LICENCE,
    }
    way = str(rng.choice(["psola", "world", "spoken", "none"], p=[0.48, 0.2, 0.25, 0.07]))
    if way == "none":
        vocals, mixture = pair(np.zeros_like(music), music, float(rng.uniform(0.7, 0.98)))
        return Song(vocals, mixture, [music_credit])
    if way == "spoken":
        vocals, sung_by = _spoken(item, place, rng, n)
    else:
        chords = tuple(chord for _, chord in score.bars)
        setting = singing.Setting(score.root, score.minor, score.tempo, n / RATE, 0.0, chords)
        vocals, sung_by = _sung(item, place, rng, n, setting, way)
    return Song(*_finish(vocals, music, rng), [*sung_by, music_credit])


def make_instrumental(item: Item, place: Place, rng: Rng) -> Song:
    """Recorded music without any voice: the vocals are digital silence."""
    music = _music(item, place, rng)
    vocals, mixture = pair(np.zeros_like(music), music, float(rng.uniform(0.7, 0.98)))
    return Song(vocals, mixture, [_music_credit(item)])


def _music_credit(item: Item) -> dict[str, str]:
    name = " + ".join(Path(f).name for f in item.files)
    return {
        "role": "accompaniment",
        "file": f"{name} from {item.start:.1f} s",
        "package": item.package,
        "licence": item.licence,
    }


Maker = Callable[[Item, Place, Rng], Song]
MAKERS: dict[str, Maker] = {
    "cc0": make_real,
    "formants": make_formants,
    "sung": make_real_singing,
    "speech": make_speech,
    "inst": make_instrumental,
    "psola": make_sung,
    "world": make_sung,
    "midi": make_band,
}


def build_item(item: Item, place: Place) -> tuple[str, float]:
    """Makes one song and moves it into place whole; returns its name and length in seconds."""
    song = MAKERS[item.group](item, place, _rng("song", item.group, item.split, item.name))
    folder = place.out / item.split / item.name
    part = place.out / ".part" / f"{item.split}-{item.name}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part / "vocals.wav", song.vocals)
    write(part / "mixture.wav", song.mixture)
    seconds = song.mixture.shape[1] / RATE
    record = {
        "song": item.name,
        "split": item.split,
        "group": item.group,
        "seconds": round(seconds, 3),
        "vocals_active": round(activity(song.vocals), 3) if song.vocals.any() else 0.0,
        "sources": song.sources,
    }
    note = _record(place.out, item)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(record, ensure_ascii=False))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part.rename(folder)
    return item.name, seconds


def _record(out: Path, item: Item) -> Path:
    return out / ".records" / item.split / f"{item.name}.json"


def finished(item: Item, out: Path) -> bool:
    """Returns whether the song is already in place."""
    return (out / item.split / item.name).is_dir() and _record(out, item).is_file()


# ---------------------------------------------------------------- the papers of the set


def write_papers(place: Place) -> dict[str, Any]:
    """Writes manifest.json, weights.json of each split and licences/; returns the manifest."""
    records = [json.loads(p.read_text()) for p in sorted(place.out.glob(".records/*/*.json"))]
    records = [r for r in records if (place.out / r["split"] / r["song"]).is_dir()]
    for source in (s for r in records for s in r["sources"]):  # the tables have the last word
        licence = sources.licence_of(source["package"], source.get("voice"))
        source["licence"] = licence or source["licence"]
    hours: dict[str, dict[str, float]] = {}
    for r in records:
        per = hours.setdefault(r["split"], {})
        per[r["group"]] = round(per.get(r["group"], 0.0) + r["seconds"] / 3600, 3)
    manifest = {"hours": hours, "songs": records}
    _write_json(place.out / "manifest.json", manifest)
    for split in (TRAIN, VALID, TEST):
        if (place.out / split).is_dir():
            own = [r for r in records if r["split"] == split]
            _write_json(place.out / split / "weights.json", sampling_weights(own, split))
    licences = place.out / "licences"
    licences.mkdir(exist_ok=True)
    used = {s["package"] for r in records for s in r["sources"]}
    for package in sorted(used):
        file = sources.copyright_file(package, place.work)
        if file:
            shutil.copyfile(file, licences / f"{package}.copyright")
    for repository in (r for r in sources.REPOSITORIES if r.name in used):
        (licences / f"{repository.name}.txt").write_text(f"{repository.credit}\n{repository.url}\n")
    if place.songs and (place.songs / "LICENSE.md").is_file():
        shutil.copyfile(place.songs / "LICENSE.md", licences / "cc0-songs.md")
    return manifest


def sampling_weights(records: list[dict[str, Any]], split: str) -> dict[str, float]:
    """Returns {song: weight}: 1, and in train what gives the groups of SHARES their part.

    A song is drawn by weight times length.
    """
    weights = dict.fromkeys((r["group"] for r in records), 1.0)
    seconds = {g: sum(r["seconds"] for r in records if r["group"] == g) for g in weights}
    shares = {group: share for group, share in SHARES.items() if group in weights}
    rest = sum(length for group, length in seconds.items() if group not in shares)
    if split == TRAIN and rest:
        for group, share in shares.items():
            part = share / (1 - sum(shares.values()))
            weights[group] = round(part * rest / seconds[group], 2)
    return {r["song"]: weights[r["group"]] for r in records}


def _write_json(path: Path, content: object) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    temporary.replace(path)


# ---------------------------------------------------------------- the command


Task = tuple[Callable[..., Any], tuple[Any, ...]]


def _run(
    jobs: int,
    title: str,
    tasks: Iterable[Task],
    now_and_then: Callable[[], object] = lambda: None,
) -> int:
    """Runs all tasks in processes with a progress bar; returns how many failed.

    Calls `now_and_then` after every tenth task, so that a stopped build leaves good papers.
    """
    tasks = list(tasks)
    failed = 0
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar, ProcessPoolExecutor(jobs) as pool:
        work = bar.add_task(title, total=len(tasks))
        futures = {pool.submit(f, *a): a for f, a in tasks}
        for count, future in enumerate(as_completed(futures), 1):
            try:
                future.result()
            except Exception as e:  # one bad source must not stop a build of hours
                failed += 1
                bar.console.print(f"failed: {futures[future][0]}: {type(e).__name__}: {e}")
            bar.advance(work)
            if count % 10 == 0:
                now_and_then()
    return failed


def _arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, required=True, help="folder of the data set")
    p.add_argument("--songs", type=Path, help="folder with train/ and valid/ of the CC0 songs")
    p.add_argument("--work", type=Path, help="downloads and voice banks (default: OUT/.work)")
    p.add_argument("--jobs", type=int, default=2, help="processes")
    p.add_argument("--hours", type=float, help="hours of made songs in train (default: 15)")
    p.add_argument("--groups", help="only these groups, comma-separated: cc0,speech,inst,...")
    return p.parse_args()


def main() -> None:
    args = _arguments()
    begun = time.time()
    place = Place(args.out, args.work or args.out / ".work", args.songs)
    place.out.mkdir(parents=True, exist_ok=True)
    place.work.mkdir(parents=True, exist_ok=True)
    factor = (args.hours or sum(HOURS.values())) / sum(HOURS.values())
    hours = {g: h * factor for g, h in HOURS.items() if g in MAKERS}
    groups = args.groups.split(",") if args.groups else list(MAKERS)
    tasks: list[Task] = [(sources.fetch, (p, place.work)) for p in sources.packages()]
    voices = sources.VOICES
    if "sung" in groups:
        tasks += [(sources.clone, (r, place.work)) for r in sources.REPOSITORIES]
        voices += sources.SINGERS
    failed = _run(args.jobs, "packages", tasks)
    if failed:
        raise SystemExit(f"{failed} packages could not be fetched; run the command again")
    _run(args.jobs, "voices  ", ((make_bank, (v, place.work)) for v in voices))
    items = plan(sources.tracks(place.work), hours)
    items = [i for i in items if i.group in groups]
    todo = [i for i in items if not finished(i, place.out)]
    songs = ((build_item, (i, place)) for i in todo)
    failed = _run(args.jobs, "songs   ", songs, lambda: write_papers(place))
    manifest = write_papers(place)
    shutil.rmtree(place.out / ".part", ignore_errors=True)
    size = sum(f.stat().st_size for f in place.out.glob("*/*/*.wav")) / 1e9
    for split, per in manifest["hours"].items():
        text = ", ".join(f"{g} {h:.2f} h" for g, h in sorted(per.items()))
        print(f"{split}: {sum(per.values()):.2f} h ({text})")
    print(f"{size:.1f} GB of pairs, {(time.time() - begun) / 60:.1f} min")
    if failed:
        raise SystemExit(f"{failed} songs failed; run the command again")


if __name__ == "__main__":
    main()
