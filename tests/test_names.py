"""Whatever a song is called, its stems lie below the output folder, and can be made there."""

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solovox.audio import read_audio, write_audio
from solovox.cli.separate import Song, name_songs
from solovox.errors import SolovoxError
from solovox.names import LONGEST, RESERVED, below
from solovox.separator import Separator

ODD = st.sampled_from(
    ["..", ".", "/", "\\", "\0", "\n", "CON", "nul.txt", "LPT1 ", "com¹", "C:", "~", " ", "é", "é"]
)
NAMES = st.lists(st.one_of(ODD, st.text(max_size=4)), max_size=12).map("".join)


@settings(max_examples=400, deadline=None)
@given(NAMES, st.booleans())
def test_a_name_stays_below_and_can_be_made(name, windows):
    safe = below(name, windows)
    kind = PureWindowsPath if windows else PurePosixPath
    path = kind("out") / safe
    assert safe and not kind(safe).is_absolute() and not kind(safe).anchor
    assert path.parts[0] == "out" and len(path.parts) > 1
    for part in safe.split("/"):
        assert part not in ("", ".", "..")
        assert not RESERVED.match(part)
        assert not any(ord(c) < 32 for c in part)
        assert len(part.encode("utf-8", "surrogatepass")) <= LONGEST
        if windows:
            assert not set(part) & set('<>:"|?*') and part[-1] not in ". "
    assert below(safe, windows) == safe


@settings(max_examples=100, deadline=None)
@given(NAMES)
def test_a_name_can_be_written_to(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("out")
    path = folder / below(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x", encoding="utf-8")
    assert path.resolve().is_relative_to(folder.resolve())


def test_honest_names_are_left_alone():
    for name in ("Şarkı 歌 [live]", "AC/DC/T.N.T.", "What? (take 2)", "console", "a" * LONGEST):
        assert below(name, windows=False) == name


def test_long_names_stay_different():
    one, other = below("é" * 300 + "a"), below("é" * 300 + "b")
    assert one != other
    assert len(one.encode()) <= LONGEST


def test_long_names_keep_their_suffix():
    name = below("é" * 300 + "_vocals.flac")
    assert name.endswith(".flac")
    assert len(name.encode()) <= LONGEST


@pytest.mark.parametrize(
    "names",
    [
        ["é", "é"],  # composed and decomposed
        ["Song", "song", "SONG"],
        ["a" * 300 + "x", "a" * 300 + "X"],
        ["straße", "STRASSE"],
        ["..", ".", "__", "_"],
    ],
)  # fmt: skip
def test_no_two_songs_share_a_file(oracle, tmp_path, names):
    separator = Separator(oracle())
    songs = [Song(Path(f"{number}.wav"), name) for number, name in enumerate(names)]
    named = name_songs(
        songs, ["vocals"], lambda song, stem, track: separator.path_of(song, stem, track=track)
    )
    paths = [separator.path_of(song.path, "vocals", tmp_path, track=song.track) for song in named]
    folded = {unicodedata.normalize("NFC", str(path)).casefold() for path in paths}
    assert len(folded) == len(names)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{track}/{stem}.{ext}", "oracle/song/vocals.wav"),
        ("{{model}}/{stem}.{ext}", "oracle/{model}/vocals.wav"),
        ("{track}_({stem})_{model}.{ext}", "song_(vocals)_oracle.wav"),
        ("{stem}/{model}/{track}.{ext}", "vocals/oracle/song.wav"),
    ],
)
def test_the_model_has_a_folder_unless_the_template_places_it(oracle, template, expected):
    path = Separator(oracle()).path_of("song.mp3", "vocals", "out", filename=template)
    assert path == Path("out") / expected


@pytest.mark.parametrize(
    "template",
    ["../{track}.{ext}", "/tmp/{stem}.{ext}", "a/..{trackext}/../{stem}", "\\x\\{stem}",
     "{track:99999999999}", "{track!r}", "{track.__class__}", "{track[0]}", "{0}", "{", "}"],
)  # fmt: skip
def test_a_template_cannot_lead_out_or_fill_memory(oracle, template):
    with pytest.raises(SolovoxError, match="file name") as error:
        Separator(oracle()).path_of("song", "vocals", filename=template)
    assert "\n" not in str(error.value)


def test_stems_extension_and_model_name_cannot_lead_out(oracle, tmp_path):
    out = tmp_path / "out"
    write_audio(tmp_path / "a.wav", [[0.1, 0.2, 0.3]], 8000)
    with pytest.raises(SolovoxError, match="stems are"):
        Separator(oracle()).separate_file(tmp_path / "a.wav", out, stems=["../x"])
    with pytest.raises(SolovoxError):
        Separator(oracle()).separate_file(tmp_path / "a.wav", out, extension="../../x.wav")
    Separator(oracle(name="../CON")).separate_file(tmp_path / "a.wav", out, track="\0/../nul")
    assert {p.name for p in tmp_path.iterdir()} == {"a.wav", "out"}
    assert [p.as_posix() for p in out.rglob("vocals.wav")] == [
        (out / "__/_CON/_/__/_nul/vocals.wav").as_posix()
    ]
    placed = Separator(oracle(name="../CON")).path_of("a", "vocals", out, filename="{model}")
    assert placed == out / "__/_CON"


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
def test_a_song_whose_name_is_no_text_is_separated(oracle, tmp_path):
    song = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe" + b"x" * 240 + b".wav"))
    write_audio(tmp_path / "a.wav", [[0.1] * 900], 8000)
    (tmp_path / "a.wav").rename(song)
    for resume in (False, True):
        paths = Separator(oracle()).separate_file(song, tmp_path / "out", resume=resume)
        assert read_audio(paths["vocals"])[0].shape == (1, 900)
