"""The sources of the open training set: what each package gives, its licence, its split.

The split is a property of the source and is written here once. A package of music belongs to one
split; so does a voice. `test` takes its voices from packages and languages that no other split
touches, so a score on it shares neither music nor singers with training.

Audio is fetched from the Debian archive with `apt-get download` and unpacked with `dpkg -x`, and
recorded singing from public Git repositories: nothing is installed, and no right beyond writing to
the work folder is needed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import soundfile as sf

TRAIN, VALID, TEST = "train", "valid", "test"


@dataclass(frozen=True)
class MusicSource:
    """Instrumental music of one Debian package.

    Attributes:
        package: name of the Debian package.
        globs: where its music is, below usr/share.
        licence: as its copyright file says; the whole file is kept beside the data.
        split: the one split it belongs to.
        skip: patterns of names to leave out (sung, narrated, or not music).
        share: part of its minutes that may be used, so that no style drowns the others.
        summed: the files of a folder are parts of one song, to be added up.
    """

    package: str
    globs: tuple[str, ...]
    licence: str
    split: str = TRAIN
    skip: tuple[str, ...] = ()
    share: float = 1.0
    summed: bool = False


@dataclass(frozen=True)
class VoiceSource:
    """One speaker (or one group of speakers that belongs together) of one Debian package.

    Attributes:
        name: unique name of the voice.
        package: name of the Debian package.
        globs: where the clips are, below usr/share.
        licence: as the copyright file says.
        split: the one split it belongs to.
        skip: patterns of names of clips to leave out.
        weight: how often a song takes it as its lead, relative to the others.
        top: where a coder cut its highs off (Hz); 0: nowhere below half its rate.
        excerpt: seconds used of each file, so that no piece drowns the others; 0: all.
    """

    name: str
    package: str
    globs: tuple[str, ...]
    licence: str
    split: str = TRAIN
    skip: tuple[str, ...] = ()
    weight: float = 1.0
    top: float = 0.0
    excerpt: float = 0.0


@dataclass(frozen=True)
class Repository:
    """A public Git repository of recorded singing, at one commit.

    Attributes:
        name: what VoiceSource.package calls it.
        url: where to clone it from.
        commit: what to check out.
        folders: the only folders to check out.
        credit: who sang, and under which licence: the attribution that goes with the set.
    """

    name: str
    url: str
    commit: str
    folders: tuple[str, ...]
    credit: str


MUSIC: tuple[MusicSource, ...] = (
    MusicSource(
        "warzone2100-music",
        ("games/warzone2100/music/albums/*/*.opus",),
        "GPL-2+, CC-BY-SA-3.0, CC0",
    ),
    MusicSource(
        "ufoai-music",
        ("games/ufoai/base/0music/music/*.ogg",),
        "GPL-2+, CC-BY-SA-3.0, CC-BY-3.0, public domain",
        skip=("PsymongN2.ogg",),
    ),
    MusicSource("hedgewars-data", ("games/hedgewars/Data/Music/*.ogg",), "GPL-2"),
    MusicSource(
        "nexuiz-music",
        ("games/nexuiz/data/music/sound/cdtracks/*.ogg",),
        "GPL-2+",
        skip=("digital-pursuit.ogg",),
    ),
    MusicSource("colobot-common-sounds", ("games/colobot/music/*.ogg",), "GPL-3+"),
    MusicSource(
        "marsshooter-data",
        ("games/marsshooter/audio/music/*.ogg", "games/marsshooter/audio/menu.ogg"),
        "CC-BY-3.0, CC-BY-SA-3.0, CC0",
    ),
    MusicSource("planetblupi-music-ogg", ("planetblupi/music/*.ogg",), "GPL-3+", share=0.6),
    MusicSource("hyperrogue-music", ("hyperrogue/music/*.ogg",), "CC-BY-SA-3.0"),
    MusicSource(
        "supertuxkart-data",
        ("games/supertuxkart/data/music/*.ogg",),
        "CC-BY-SA-3.0, CC-BY-SA-4.0, GPL",
    ),
    MusicSource("supertux-data", ("games/supertux2/music/**/*.ogg",), "GPL-2+"),
    MusicSource("freedroidrpg-data", ("freedroidrpg/data/sound/music/*.ogg",), "GPL-2+"),
    MusicSource(
        "naev-data",
        ("naev/dat/snd/music/*.ogg",),
        "public domain, CC-BY-3.0, CC-BY-SA-3.0, GPL-3",
        skip=("collective1.ogg",),
    ),
    MusicSource("widelands-data", ("games/widelands/data/music/*.ogg",), "GPL-2+", share=0.5),
    MusicSource(
        "wesnoth-1.16-music",
        ("games/wesnoth/*/data/core/music/*.ogg",),
        "GPL-2+",
        share=0.3,
    ),
    MusicSource(
        "fretsonfire-songs-sectoid",
        ("games/fretsonfire/data/songs/sectoid/*/*.ogg",),
        "MIT",
        summed=True,
    ),
    MusicSource(
        "fretsonfire-songs-muldjord",
        ("games/fretsonfire/data/songs/muldjord/[!m]*/*.ogg",),  # not mutilated_mime: sung
        "CC-BY-SA-3.0",
        summed=True,
    ),
    MusicSource(
        "unknown-horizons", ("unknown-horizons/content/audio/music/**/*.ogg",), "CC-BY-SA-3.0"
    ),
    MusicSource("pushover-data", ("pushover/themes/*.ogg",), "GPL-2+, GPL-3+", VALID),
    MusicSource(
        "singularity-music",
        ("games/singularity/music/**/*.ogg",),
        "CC-BY-SA-3.0",
        TEST,
    ),
    MusicSource("drascula-music", ("scummvm/drascula/audio/*.ogg",), "BSD-like", TEST),
    MusicSource("openclonk-data", ("games/openclonk/Music.ocg/*.ogg",), "CC-BY-3.0 or CC0", TEST),
)


def _tuxpaint(language: str, weight: float = 1.0) -> VoiceSource:
    return VoiceSource(
        f"tuxpaint-{language}",
        "tuxpaint-stamps-default",
        (f"tuxpaint/stamps/**/*_desc_{language}.ogg",),
        "GPL-2",
        weight=weight,
    )


def _klettres(language: str, split: str = TRAIN, weight: float = 1.0) -> VoiceSource:
    return VoiceSource(
        f"klettres-{language}",
        "klettres-data",
        (f"klettres/{language}/*/*.*",),
        "GPL-2+",
        split,
        weight=weight,
    )


def _ktuberling(language: str) -> VoiceSource:
    return VoiceSource(
        f"ktuberling-{language}",
        "ktuberling-data",
        (f"ktuberling/sounds/{language}/*.*",),
        "GPL-2+",
        TEST,
    )


def _fillets(language: str, who: str, split: str, weight: float = 1.0) -> VoiceSource:
    return VoiceSource(
        f"fillets-{language}-{who}",
        f"fillets-ng-data-{language}",
        (f"games/fillets-ng/sound/*/{language}/*-{who}-*.ogg",),
        "GPL-2",
        split,
        weight=weight,
    )


def _hedgewars(name: str) -> VoiceSource:
    return VoiceSource(
        f"hedgewars-{name}",
        "hedgewars-data",
        (f"games/hedgewars/Data/Sounds/voices/{name}/*.ogg",),
        "GFDL-1.3",
        weight=0.4,
    )


KLETTRES = (
    *("cs", "da", "de", "en", "en_GB", "es", "fr", "he"),
    *("it", "lt", "ml", "nds", "pt_BR", "ru", "tn"),
)
# Only languages that no voice of train or valid speaks: some people recorded for several games.
KTUBERLING = ("gl", "nn", "sl", "wa")
HEDGEWARS = (  # not Robot
    *("British", "Classic", "Default", "Default_es", "Default_pl", "Default_ru", "Default_uk"),
    *("HillBilly", "Mobster", "Pirate", "Russian", "Russian_pl", "Singer", "Surfer"),
)

VOICES: tuple[VoiceSource, ...] = (
    *(_tuxpaint(x, 2.0) for x in ("ro", "es", "ru", "fr", "bg", "el", "be", "ca")),
    *(_tuxpaint(x) for x in ("da", "lt")),
    *(_fillets("cs", who, TRAIN, 2.0) for who in ("m", "v")),
    *(_klettres(x) for x in KLETTRES),
    VoiceSource("gcin-female", "gcin-voice", ("gcin-voice/ogg/*/5.ogg",), "CC-BY-3.0", weight=2.0),
    VoiceSource(
        "gcin-male", "gcin-voice", ("gcin-voice/ogg/*/3.ogg",), "GPL-3 or LGPL-3", weight=2.0
    ),
    *(_hedgewars(x) for x in HEDGEWARS),
    *(_klettres(x, VALID) for x in ("hu", "uk")),
    *(_ktuberling(x) for x in KTUBERLING),
    *(_fillets("nl", who, TEST) for who in ("m", "v")),
)

# Sung phrases of two sample packs, by key: (name, folders).
PHRASES = (
    *(
        (f"trance-{key}", (f"etv_{key}_136_adlib", f"etv_{key}_136_phrase"))
        for key in ("am", "cm", "dm", "ebj", "ebm", "em", "fm", "gm")
    ),
    *(
        (f"house-{key}", (f"shv_{key}",))
        for key in ("ab_124", "c_126", "e_125", "e_128", "f_124", "fs_122")
    ),
)

REPOSITORIES: tuple[Repository, ...] = (
    Repository(
        "PocketTorah",
        "https://github.com/rneiss/PocketTorah",
        "8a23287221dd535966ee9914de9a03e71769a469",
        ("data/audio",),
        "PocketTorah by Russel Neiss and Charlie Schwartz (pockettorah.com), CC BY-SA 3.0, "
        "https://creativecommons.org/licenses/by-sa/3.0/; sung by Etta Abramson, Joshua Foster, "
        "Eitan Konigsberg, Eytan Kurshan, Ari Lucas, Ita Paskind, Rebecca Russo, Joshua Schwartz "
        "and Abigail Teller. Changed: cut into phrases, cleaned, transposed, mixed with music.",
    ),
    Repository(
        "ALYS-jpn-plus",
        "https://github.com/oxygen-dioxide/ALYS-jpn-plus",
        "9ec7d48198c045999ccf3328db69967f240b58a8",
        ("C4",),
        "ALYS-DB-001-JPN by Phundrak (VoxWave), port by oxygen-dioxide, GPL-3.0 "
        "(LICENSE.md of the repository). Changed: cleaned, transposed, mixed with music.",
    ),
    Repository(
        "solfege-samples",
        "https://github.com/wcgbg/solfege-samples",
        "5929af86329852f8e1d06e6f0643470a06c08c63",
        ("samples/chengu/notes", "samples/jennifer/notes"),
        "solfege-samples by Chengu Wang, GPL-3.0 (LICENSE of the repository); sung by Chengu and "
        "Jennifer. Changed: cleaned, transposed, mixed with music.",
    ),
    Repository(
        "strudel-producer-space-samples",
        "https://github.com/neshanjo/strudel-producer-space-samples",
        "a117eab0fb5d52872a158ae28dbc23544d664f0f",
        tuple(folder for _, folders in PHRASES for folder in folders),
        "Euphoric Trance Vocals and Soulful House Vocals by Producer Space (producerspace.com), "
        "CC0 1.0 (LICENSE.txt of the repository); the singers are not named. Changed: cleaned, "
        "transposed, mixed with music.",
    ),
)


def _reader(name: str, top: float, portions: str, split: str = TRAIN) -> VoiceSource:
    """One reader of PocketTorah, told from the others by pitch, timbre and recording."""
    globs = tuple(f"data/audio/{p}-?.mp3" for p in portions.split())
    return VoiceSource(
        f"reader-{name}", "PocketTorah", globs, "CC-BY-SA-3.0", split, top=top, excerpt=60.0
    )


def _phrases(name: str, folders: tuple[str, ...]) -> VoiceSource:
    """One key of a sample pack, whose phrases belong together; what is beaten or spoken is not."""
    globs = tuple(f"{folder}/*.wav" for folder in folders)
    skip = ("*Percussion*", "*Monologue*")
    return VoiceSource(name, "strudel-producer-space-samples", globs, "CC0-1.0", skip=skip)


# Left out: files coded at 16 or 32 kHz, and the readers of Exodus, whose room is too loud.
SINGERS: tuple[VoiceSource, ...] = (
    VoiceSource("alys", "ALYS-jpn-plus", ("C4/*.wav",), "GPL-3", weight=2.0),
    VoiceSource("chengu", "solfege-samples", ("samples/chengu/notes/*.wav",), "GPL-3", weight=0.5),
    VoiceSource(
        "jennifer", "solfege-samples", ("samples/jennifer/notes/*.wav",), "GPL-3", weight=0.5
    ),
    *(_phrases(*named) for named in PHRASES),
    _reader("tzav", 8500, "AchreiMot KiTisa Metzora Pekudei Shmini Tetzaveh Tzav Vayakhel Vayikra"),
    _reader("emor", 8300, "Bamidbar Behaalotcha Behar Emor Shlach"),
    _reader("kedoshim", 8100, "Kedoshim"),
    _reader("vayetzei", 5650, "Vayeshev Vayetzei Vayishlach"),
    _reader("noach", 5650, "Bereshit ChayeiSara Lech-Lecha Noach Toldot Vayera"),
    _reader("pinchas", 5650, "KiTavo KiTeitzei Pinchas"),
    _reader("korach", 5450, "Balak Chukat Haazinu Korach Nasso"),
    _reader("devarim", 5650, "Devarim Eikev Reeh Shoftim Vaethanan", VALID),
)

REAL_SONGS = {TRAIN: ("Hydrogen", "Lithium", "Potassium", "Rubidium"), VALID: ("Francium",)}
REAL_SONGS_LICENCE = "CC0-1.0"
REAL_SONGS_ORIGIN = (
    'album "Everything is Free" by Software-Entwicklungskit, '
    "github.com/ichbinsoftware/everythingisremixed"
)


def packages() -> list[str]:
    """Returns the names of all Debian packages used, each once, in the order of the tables."""
    return list(dict.fromkeys(s.package for s in (*MUSIC, *VOICES)))


def clone(repository: Repository, work: Path) -> Path:
    """Returns the folder of a repository, after cloning what is used of it if it is not there yet.

    Raises:
        SystemExit: git cannot fetch it; the message says how to go on without.
    """
    folder = work / "packages" / repository.name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    advice = "put a clone there yourself, or leave the group `sung` out (--groups)"
    partial = ["git", "clone", "--quiet", "--filter=blob:none", "--sparse", repository.url]
    _run([*partial, str(part.resolve())], folder.parent, repository.name, advice)
    git = ["git", "-C", str(part.resolve())]
    _run([*git, "sparse-checkout", "set", *repository.folders], part, repository.name, advice)
    _run([*git, "checkout", "--quiet", repository.commit], part, repository.name, advice)
    part.rename(folder)
    return folder


def fetch(package: str, work: Path) -> Path:
    """Returns the folder of an unpacked package, after downloading it if it is not there yet.

    Raises:
        SystemExit: the package cannot be downloaded or unpacked; the message says which.
    """
    folder = work / "packages" / package
    if folder.is_dir():
        return folder
    debs = work / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        _run(["apt-get", "download", "-q", package], debs, package)
    deb = sorted(debs.glob(f"{package}_*.deb"))[-1]
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    _run(["dpkg", "-x", str(deb.resolve()), str(part.resolve())], debs, package)
    for archive in part.glob("**/*.pk3"):  # a game archive: a zip file
        with zipfile.ZipFile(archive) as z:
            z.extractall(archive.with_suffix("").with_name(archive.stem), _sounds(z))
    part.rename(folder)
    return folder


def _sounds(archive: zipfile.ZipFile) -> list[str]:
    return [n for n in archive.namelist() if n.endswith(".ogg")]


def _run(
    command: list[str], folder: Path, package: str, advice: str = "try: apt-get update"
) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise SystemExit(f"{package}: {command[0]} failed ({lines[-1]}); {advice}")


def copyright_file(package: str, work: Path) -> Path | None:
    """Returns the package's copyright file, or None where it ships none."""
    name = Path("usr/share/doc") / package / "copyright"
    places = (work / "packages" / package / name, "/" / name)  # unpacked, or installed
    return next((p for p in places if p.is_file()), None)


def licence_of(package: str, voice: str | None) -> str | None:
    """Returns the licence the tables give for the music of a package, or for one of its voices."""
    if voice:
        return next((v.licence for v in (*VOICES, *SINGERS) if v.name == voice), None)
    return next((m.licence for m in MUSIC if m.package == package), None)


@dataclass(frozen=True)
class Track:
    """One piece of music: the files that are summed to make it, and how long it lasts."""

    package: str
    files: tuple[str, ...]  # relative to the work folder
    seconds: float
    licence: str
    split: str


def files_of(source: MusicSource | VoiceSource, work: Path) -> list[Path]:
    """Returns the files of a source, in a fixed order."""
    folder = work / "packages" / source.package
    share = folder / "usr/share" if (folder / "usr/share").is_dir() else folder
    found = {p for g in source.globs for p in share.glob(g) if p.is_file()}
    return sorted(p for p in found if not any(fnmatch(p.name, skip) for skip in source.skip))


def tracks(work: Path, shortest: float = 25.0) -> list[Track]:
    """Returns every usable piece of music of the unpacked packages, in a fixed order.

    Args:
        work: folder that holds packages/.
        shortest: pieces below this many seconds are left out (stings, jingles).
    """
    cache = work / "tracks.json"
    if cache.is_file():
        return [Track(**{**t, "files": tuple(t["files"])}) for t in json.loads(cache.read_text())]
    found = []
    for source in MUSIC:
        groups: dict[Path, list[Path]] = {}
        for p in files_of(source, work):
            groups.setdefault(p.parent if source.summed else p, []).append(p)
        for parts in groups.values():
            try:
                seconds = min(sf.info(str(p)).duration for p in parts)
            except sf.LibsndfileError:
                continue
            if seconds < shortest:
                continue
            names = tuple(str(p.relative_to(work)) for p in parts)
            found.append(Track(source.package, names, seconds, source.licence, source.split))
    temporary = cache.with_suffix(".part")
    temporary.write_text(json.dumps([asdict(t) for t in found], indent=0))
    temporary.replace(cache)
    return found
