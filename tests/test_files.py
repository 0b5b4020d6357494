"""Files that appear whole or not at all."""

import os
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
            with written_whole(path) as part, part.open("w") as file:
                for _ in range(20):
                    file.write(letter)
                    file.flush()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert path.read_text() in {letter * 20 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_tensors_come_back_and_are_read_by_whom_the_user_lets(
    tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "a.safetensors"
    before = os.umask(umask)
    try:
        with written_whole(path) as part:
            write_tensors(part, {"a": torch.arange(6.0).view(2, 3).T}, {"step": "1"})
    finally:
        os.umask(before)
    assert load_file(path)["a"].tolist() == torch.arange(6.0).view(2, 3).T.tolist()
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for _ in range(2):
        child = os.fork()
        if not child:
            with written_whole(path, alone=True) as part:
                part.write_text("half")
                os._exit(0)
        os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with written_whole(path, alone=True) as part:
        part.write_text("whole")
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_says_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.safetensors"
    with pytest.raises(SolovoxError) as error, explained(path), written_whole(path) as part:
        write_tensors(part, {"a": torch.zeros(1)})
    told = "cannot be written (No such file or directory); make room or choose another folder"
    assert str(error.value) == f"{path} {told}"
