import os
from pathlib import Path

import pytest

from solovox.catalogue.storage import Folder, clear_scratch
from solovox.errors import SolovoxError


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> Folder:
    return Folder(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path}")


def test_small_files(folder: Folder) -> None:
    assert folder.read("a/b.json") is None
    assert folder.names("a") == []
    folder.write("a/b.json", b"one")
    folder.write("a/b.json", b"two")
    assert folder.read("a/b.json") == b"two"
    assert folder.create("a/c.json", b"three")
    assert not folder.create("a/c.json", b"four")
    assert list(folder.read_many(folder.names("a"))) == [b"two", b"three"]
    assert folder.digest("a/c.json") != folder.digest("a/b.json")
    folder.remove("a/c.json")
    folder.remove("a/c.json")
    assert folder.names("a") == ["a/b.json"]
    assert folder.digest("a/c.json") is None


def test_large_files(folder: Folder, tmp_path: Path) -> None:
    beats: list[int] = []
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    content = file.read_bytes()
    folder.upload(file, "x/y [1]*.bin", lambda: beats.append(1))
    assert not file.exists()
    copy, digest = folder.fetch("x/y [1]*.bin", tmp_path / "copy", lambda: beats.append(1))
    assert copy.read_bytes() == content
    assert digest == folder.digest("x/y [1]*.bin")
    assert beats


def test_walk_finds_all_but_hidden_files_and_other_catalogues(folder: Folder) -> None:
    for name in (
        "a.wav",
        "b/c.wav",
        "b/.d.wav",
        ".e/f.wav",
        "old/catalogue.json",
        "old/stems/g.wav",
    ):
        folder.write(name, b"12345")
    clear_scratch(folder, folder.owner)
    assert sorted(folder.walk()) == [("a.wav", 5), ("b/c.wav", 5)]
    assert list(folder.walk(Folder(f"{folder.url}/b"))) == [("a.wav", 5)]


def test_walk_does_not_go_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "song.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "a" / "song.wav")
    assert sorted(Folder(str(tmp_path)).walk()) == [("a/song.wav", 0), ("b.wav", 0)]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()
    folder = Folder(str(tmp_path))
    real = folder.fs.ls

    def refuse(path, detail=True):
        if path.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path, detail=detail)

    monkeypatch.setattr(folder.fs, "ls", refuse)
    with pytest.raises(SolovoxError, match=r"/a: cannot be listed \(Permission denied\)"):
        list(folder.walk())


def test_an_address_that_nothing_opens_is_one_line() -> None:
    with pytest.raises(SolovoxError, match="cannot be opened"):
        Folder("nonsense://here")


def test_what_is_not_finished_is_cleared_for_its_owner_alone(tmp_path: Path) -> None:
    mine, worker, other = (Folder(str(tmp_path), name) for name in ("h-1", "h-1.0", "h-12"))
    for folder in (mine, worker, other):
        folder.scratch.mkdir(parents=True)
    clear_scratch(mine, "h-1")
    assert [path.name for path in (tmp_path / ".scratch").iterdir()] == ["h-12"]
    clear_scratch(mine, "h-12")
    assert list(tmp_path.iterdir()) == []
