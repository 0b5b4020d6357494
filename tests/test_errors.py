"""Whatever a message is made of, one short printable line comes out, and the same one again."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solovox.audio import read_audio
from solovox.errors import LONGEST, AudioError, ModelError, SolovoxError, one_line, reason


@given(
    st.text(st.characters(exclude_categories=())) | st.text("é\n\x1b", min_size=900, max_size=1100)
)
def test_any_text_becomes_one_short_line(text: str) -> None:
    line = str(ModelError(text))
    assert len(line.splitlines()) <= 1
    assert len(line) <= LONGEST
    assert one_line(line) == line
    line.encode()  # no lone surrogates
    again = pickle.loads(pickle.dumps(ModelError(text)))  # as between processes
    assert str(again) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Lied 『夜明け』\u3000ü.wav: empty", "Lied 『夜明け』\u3000ü.wav: empty"),
        ("a\nb", r"a\nb"),
        ("\x1b[2Ja", r"\x1b[2Ja"),
        ("a\u202eb", r"a\u202eb"),
        ("a\udcffb", r"a\udcffb"),
        ("  a\n", "a"),
    ],
)
def test_what_stays_and_what_is_escaped(text: str, line: str) -> None:
    assert str(SolovoxError(text)) == line


def test_of_a_long_message_the_middle_is_left_out() -> None:
    line = str(SolovoxError("song: " + "x" * 5000 + "; export it again"))
    assert line.startswith("song: xxx")
    assert " … " in line
    assert line.endswith("xxx; export it again")


def test_a_file_with_an_evil_name_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[2J.wav"
    path.write_bytes(b"no sound")
    with pytest.raises(AudioError, match=r"a\\n\\x1b\[2J\.wav: "):
        read_audio(path)


def test_the_reason_of_an_error_that_says_nothing_is_its_kind() -> None:
    assert reason(ValueError("one\ntwo")) == "one"
    assert reason(MemoryError()) == "MemoryError"
