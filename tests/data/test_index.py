"""Each layout is recognised and read exactly; each fault is one line that names the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from songs_on_disk import RATE, noise, write, write_stem_file

from solovox.data.index import (
    Song,
    find_songs,
    read_accompaniment,
    read_pair,
    read_stem,
)
from solovox.errors import DataError


def only(songs: list[Song]) -> Song:
    assert len(songs) == 1
    return songs[0]


def test_pairs_give_the_mixture_less_the_vocals(tmp_path: Path) -> None:
    vocals = write(tmp_path / "S" / "vocals.wav", noise(0))
    mixture = write(tmp_path / "S" / "mixture.wav", noise(1))
    song = only(find_songs(tmp_path))
    assert (song.name, song.frames, song.sample_rate, song.paired) == ("S", RATE, RATE, True)
    got_vocals, got_rest = read_pair(song, 100, 500)
    np.testing.assert_array_equal(got_vocals, vocals[:, 100:600])
    np.testing.assert_array_equal(got_rest, (mixture - vocals)[:, 100:600])
    np.testing.assert_array_equal(read_accompaniment(song, 100, 500), got_rest)


def test_the_rest_of_the_stems_is_the_accompaniment(tmp_path: Path) -> None:
    stems = {
        stem: write(tmp_path / "train" / "S" / f"{stem}.wav", noise(seed))
        for seed, stem in enumerate(("vocals", "drums", "bass", "other", "mixture"))
    }
    song = only(find_songs(tmp_path))
    assert song.name == "train/S"
    _, rest = read_pair(song, 0, RATE)
    expected = stems["drums"] + stems["bass"] + stems["other"]
    np.testing.assert_allclose(rest, expected, atol=1e-6)
    np.testing.assert_array_equal(read_stem(song, "mixture", 0, RATE), stems["mixture"])


@pytest.mark.parametrize("name", ["accompaniment", "instrumental"])
def test_a_whole_accompaniment_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    write(tmp_path / "S" / "vocals.wav", noise(0))
    rest = write(tmp_path / "S" / f"{name}.wav", noise(1))
    write(tmp_path / "S" / "drums.wav", noise(2))
    np.testing.assert_array_equal(read_pair(only(find_songs(tmp_path)), 7, 50)[1], rest[:, 7:57])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_random_access_equals_a_slice_of_the_whole(tmp_path: Path, suffix: str) -> None:
    for seed, stem in enumerate(("vocals", "mixture")):
        write(tmp_path / "S" / f"{stem}.{suffix}", noise(seed, 5 * RATE))
    song = only(find_songs(tmp_path))
    whole = read_stem(song, "vocals", 0, song.frames)
    for start, frames in ((0, 10), (12345, 4096), (4 * RATE + 99, 5000), (5 * RATE - 1, 1)):
        part = read_stem(song, "vocals", start, frames)
        np.testing.assert_allclose(part, whole[:, start : start + frames], atol=1e-6)


def test_mono_is_doubled_and_the_end_is_padded_with_zeros(tmp_path: Path) -> None:
    vocals = write(tmp_path / "S" / "vocals.wav", noise(0, channels=1))
    write(tmp_path / "S" / "mixture.wav", noise(1, channels=1))
    part = read_stem(only(find_songs(tmp_path)), "vocals", RATE - 5, 20)
    assert part.shape == (2, 20) and part.dtype == np.float32
    np.testing.assert_array_equal(part[0], part[1])
    np.testing.assert_array_equal(part[0, :5], vocals[0, -5:])
    assert not part[:, 5:].any()


def test_stem_files_give_their_streams_at_any_place(tmp_path: Path) -> None:
    rate, frames = 44100, 44100
    time = np.arange(frames) / rate
    tones = [0.1 * np.sin(2 * np.pi * hz * time) for hz in (300, 500, 700, 900, 1100)]
    write_stem_file(tmp_path / "S.stem.mp4", [np.float32([tone, -tone]) for tone in tones])
    song = only(find_songs(tmp_path))
    assert song.sample_rate == rate and abs(song.frames - frames) <= 2048
    vocals, rest = read_pair(song, 10000, 20000)
    place = slice(10000, 30000)
    for got, tone in ((vocals, tones[4]), (rest, tones[1] + tones[2] + tones[3])):
        error = got - np.float32([tone[place], -tone[place]])
        assert np.mean(error**2) < 1e-3 * np.mean(got**2)
    whole = read_stem(song, "vocals", 0, song.frames)
    np.testing.assert_allclose(vocals, whole[:, place], atol=1e-6)


def test_a_folder_a_stem_is_unpaired(tmp_path: Path) -> None:
    write(tmp_path / "vocals" / "v.wav", noise(0))
    write(tmp_path / "other" / "o.wav", noise(1, 2 * RATE))
    songs = find_songs(tmp_path)
    assert [(song.name, *song.stems, song.paired) for song in songs] == [
        ("other/o.wav", "other", False),
        ("vocals/v.wav", "vocals", False),
    ]
    with pytest.raises(DataError, match=r"o\.wav.*no vocals"):
        read_pair(songs[0], 0, 10)


@pytest.mark.parametrize("file", [False, True])
def test_lists_name_their_files(tmp_path: Path, file: bool) -> None:
    write(tmp_path / "x" / "a.wav", noise(0))
    drums = write(tmp_path / "x" / "b.wav", noise(1))
    table = tmp_path / "list.csv"
    table.write_text(f"instrum,path\nvocals,x/a.wav\ndrums,{tmp_path / 'x' / 'b.wav'}\n")
    songs = find_songs(table if file else tmp_path)
    assert [(song.name, *song.stems) for song in songs] == [
        ("x/a.wav", "vocals"),
        ("x/b.wav", "drums"),
    ]
    np.testing.assert_array_equal(read_stem(songs[1], "drums", 0, RATE), drums)


def test_music_without_a_voice_may_stand_among_the_songs(pairs: Path) -> None:
    write(pairs / "D" / "accompaniment.wav", noise(5))
    assert [song.paired for song in find_songs(pairs)] == [True, True, True, False]


def test_weights_are_read_in_the_folder_or_above(pairs: Path) -> None:
    assert [song.weight for song in find_songs(pairs)] == [1.0, 1.0, 1.0]
    above = pairs.parent / "weights.json"
    above.write_text(json.dumps({f"{pairs.name}/B": 3, "elsewhere/Z": 9}))
    try:
        assert [song.weight for song in find_songs(pairs)] == [1.0, 3.0, 1.0]
        (pairs / "weights.json").write_text('{"A": 0.5}')
        assert [song.weight for song in find_songs(pairs)] == [0.5, 1.0, 1.0]
    finally:
        above.unlink()


def fault_empty(root: Path) -> str:
    return "no songs found"


def fault_missing(root: Path) -> str:
    root.rmdir()
    return "no such folder"


def fault_rates_within(root: Path) -> str:
    write(root / "S" / "vocals.wav", noise(0), 16000)
    write(root / "S" / "mixture.wav", noise(1))
    return r"S/mixture\.wav: 8000 Hz"


def fault_rates_between(root: Path) -> str:
    for name, rate in (("A", RATE), ("B", 16000)):
        for stem in ("vocals", "mixture"):
            write(root / name / f"{stem}.wav", noise(0), rate)
    return r"B/vocals\.wav: 16000 Hz"


def fault_lengths(root: Path) -> str:
    write(root / "S" / "vocals.wav", noise(0))
    write(root / "S" / "mixture.wav", noise(1, RATE - 1))
    return r"S/mixture\.wav: 7999 samples"


def fault_no_vocals(root: Path) -> str:
    write(root / "S" / "drums.wav", noise(0))
    write(root / "S" / "mixture.wav", noise(1))
    return r"S: no vocals \(found drums\.wav, mixture\.wav\)"


def fault_instrumentals_only(root: Path) -> str:
    write(root / "S" / "accompaniment.wav", noise(0))
    return "no vocals among 1"


def fault_vocals_alone(root: Path) -> str:
    write(root / "S" / "vocals.wav", noise(0))
    return r"S/vocals\.wav: nothing to sing over"


def fault_vocals_folder_alone(root: Path) -> str:
    write(root / "vocals" / "v.wav", noise(0))
    return "vocals only"


def fault_twice(root: Path) -> str:
    for suffix in ("flac", "wav"):
        write(root / "S" / f"vocals.{suffix}", noise(0))
    return r"S/vocals\.wav: a second file"


def fault_not_audio(root: Path) -> str:
    write(root / "S" / "mixture.wav", noise(0))
    (root / "S" / "vocals.wav").write_text("no sound")
    return r"S/vocals\.wav: cannot be read as audio"


def fault_not_a_stem_file(root: Path) -> str:
    (root / "S.stem.mp4").write_text("no sound")
    return r"S\.stem\.mp4: cannot be read as audio"


def fault_few_streams(root: Path) -> str:
    write_stem_file(root / "S.stem.mp4", [noise(0, 4096)] * 2, 44100)
    return r"S\.stem\.mp4: 2 streams"


def fault_no_samples(root: Path) -> str:
    for stem in ("vocals", "mixture"):
        write(root / "S" / f"{stem}.wav", noise(0, 0))
    return r"S/vocals\.wav: no samples"


def fault_channels(root: Path) -> str:
    for stem in ("vocals", "mixture"):
        write(root / "S" / f"{stem}.wav", noise(0, channels=6))
    return r"S/.*\.wav: 6 channels"


def fault_listed_file_missing(root: Path) -> str:
    (root / "list.csv").write_text("instrum,path\nvocals,gone.wav\n")
    return r"gone\.wav: no such file"


def fault_list_without_a_path(root: Path) -> str:
    (root / "list.csv").write_text("instrum,path\nvocals\n")
    return r"list\.csv: line 2 has no stem or no path"


def fault_weights_of_nobody(root: Path) -> str:
    fault_vocals_alone(root)
    write(root / "S" / "mixture.wav", noise(1))
    (root / "weights.json").write_text('{"Q": 1}')
    return r"weights\.json: a weight for Q"


def fault_weights_negative(root: Path) -> str:
    fault_weights_of_nobody(root)
    (root / "weights.json").write_text('{"S": -1}')
    return r"weights\.json: the weight of S is -1"


def fault_weights_zero(root: Path) -> str:
    fault_weights_of_nobody(root)
    (root / "weights.json").write_text('{"S": 0}')
    return r"weights\.json: every song has the weight 0"


def fault_weights_not_json(root: Path) -> str:
    fault_weights_of_nobody(root)
    (root / "weights.json").write_text("S = 1")
    return r"weights\.json: not of the form"


@pytest.mark.parametrize(
    "fault", [value for name, value in sorted(globals().items()) if name.startswith("fault_")]
)
def test_faults_are_one_line_that_names_the_file(tmp_path: Path, fault) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "set"
    root.mkdir()
    message = fault(root)
    with pytest.raises(DataError, match=message) as caught:
        find_songs(root)
    assert len(str(caught.value).splitlines()) == 1


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="instrum,path"):
        find_songs(table)


def test_a_file_that_breaks_later_is_named(pairs: Path) -> None:
    song = find_songs(pairs)[0]
    (pairs / "A" / "vocals.wav").unlink()
    with pytest.raises(DataError, match=r"A/vocals\.wav: no such file"):
        read_pair(song, 0, 10)
