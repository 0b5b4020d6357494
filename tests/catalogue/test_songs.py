import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from solovox.catalogue.songs import Song, find_songs, shard_of
from solovox.catalogue.storage import Folder


class Names:
    """A folder that holds files of these names."""

    def __init__(self, names):
        self.names = names

    def walk(self, leave_out=None):
        return ((name, len(name)) for name in self.names)


def all_songs(names, shards=1):
    found = find_songs(Names(names), shards, range(shards))
    return [song for songs in found.values() for song in songs]


names = st.lists(
    st.text(st.sampled_from("abeAB/. é\\\u0301\udcff\ud800\0\n"), max_size=9)
    .map(lambda name: f"{name}.wav")
    .flatmap(lambda name: st.sampled_from([name, 300 * "x" + name])),
    unique=True,
)


@given(names, st.integers(1, 9))
def test_each_song_is_in_one_shard_and_shards_need_not_know_each_other(names, shards):
    apart = [find_songs(Names(names), shards, [shard])[shard] for shard in range(shards)]
    assert sorted(song.path for songs in apart for song in songs) == sorted(names)
    for shard, songs in enumerate(apart):
        assert all(shard_of(song.path, shards) == shard for song in songs)
        assert songs == find_songs(Names(names), shards, range(shards))[shard]


@given(names)
@example(["é.wav", "e\u0301.wav"])
def test_stems_of_two_songs_never_meet_nor_leave_their_folder(names):
    songs = all_songs(names)
    alike = {unicodedata.normalize("NFC", song.track).casefold() for song in songs}
    assert len(alike) == len(songs)
    assert len({song.key for song in songs}) == len(songs)
    for song in songs:
        parts = song.stem("vocals", "wav").split("/")
        assert parts[0] == "stems"
        assert not {"", ".", ".."} & set(parts)
        assert all(len(part.encode("utf-8", "surrogatepass")) <= 255 for part in parts)
        assert "\0" not in song.track


def test_songs_that_are_added_move_no_others():
    before = all_songs([f"{number}.wav" for number in range(50)], 7)
    after = all_songs([f"{number}.wav" for number in range(100)], 7)
    assert set(before) <= set(after)


def test_shards_are_of_even_size():
    sizes = [0] * 10
    for number in range(10_000):
        sizes[shard_of(f"album/{number}.mp3", 10)] += 1
    assert max(sizes) - min(sizes) < 200  # six standard deviations


def test_the_place_of_stems(tmp_path):
    for name in ("a/x.wav", "a/x.mp3", "a/notes.txt"):
        Folder(str(tmp_path)).write(name, b"1234")
    songs = find_songs(Folder(str(tmp_path)), 1, [0])[0]
    assert songs == [Song("a/x.mp3", 4, "a/x.mp3"), Song("a/x.wav", 4, "a/x.wav")]
    assert songs[0].stem("vocals", "flac") == "stems/a/x.mp3/vocals.flac"
