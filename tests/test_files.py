"""Files that appear whole or not at all."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from solovox.errors import SolovoxError
from solovox.files import explained, write_tensors, written_whole


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with written_whole(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_writers_one_is_left_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    def write(letter: str) -> None:
        for _ in range(50):
            with written_whole(path, shared=True) as part, part.open("w") as file:
                for _ in range(20):
                    file.write(letter)
                    file.flush()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert path.read_text() in {letter * 20 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_come_back_and_others_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(6.0).view(2, 3).T}, {"step": "1"})
    assert load_file(path)["a"].tolist() == torch.arange(6.0).view(2, 3).T.tolist()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_the_system_says_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.safetensors"
    with pytest.raises(SolovoxError) as error, explained(path):
        write_tensors(path, {"a": torch.zeros(1)})
    assert "a.safetensors cannot be written (" in str(error.value)
    assert "make room or choose another folder" in str(error.value)
    with pytest.raises(SolovoxError, match=r"\(No such file or directory\)"), explained(path):
        path.write_text("a")
