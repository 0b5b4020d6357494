"""Failures that a user can act on.

Each carries one line: what is wrong, with which file, and what to do. The command line prints that
line and exits with a non-zero status; the API raises it.
"""


class SolovoxError(Exception):
    """Any failure that the user, not the programmer, can mend."""


class AudioError(SolovoxError):
    """An audio file or array that cannot be read, used or written."""


class ModelError(SolovoxError):
    """A model name, folder or hub id that cannot be loaded."""


class DataError(SolovoxError):
    """A data set that cannot be trained on or evaluated with."""
