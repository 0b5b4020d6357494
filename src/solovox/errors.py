"""Failures that a user can act on.

Each carries one short line: what is wrong, with which file, and what to do. The command line prints
that line and exits with a non-zero status; the API raises it.

Names of files and values of settings come from anywhere, so the line is made safe here, once: what
a terminal would act on or not show is escaped, and the middle of what is too long is left out.
"""

import unicodedata

LONGEST = 1000  # characters of a message


class SolovoxError(Exception):
    """Any failure that the user, not the programmer, can mend."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class AudioError(SolovoxError):
    """An audio file or array that cannot be read, used or written."""


class ModelError(SolovoxError):
    """A model name, folder or hub id that cannot be loaded."""


class DataError(SolovoxError):
    """A data set that cannot be trained on or evaluated with."""


def one_line(message: str) -> str:
    """A message as one line of at most `LONGEST` characters; one that is already comes back."""
    line = printable(message.strip())
    if len(line) > LONGEST:
        end = LONGEST // 3  # what to do stands at the end
        line = f"{line[: LONGEST - end - 3]} … {line[-end:]}"
    return line


def printable(text: str) -> str:
    """A text with controls, line breaks, marks of direction and lone surrogates escaped."""
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text
    )


def reason(error: BaseException) -> str:
    """What an error of a library or of the system says: its first line, or else its kind."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
