"""The same option has the same names in every command."""

from __future__ import annotations

import click
import pytest

from solovox.cli import COMMANDS, main

ALIKE = {"--out": "-o", "--device": "-d", "--jobs": "-j"}


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_named_alike(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for parameter in command.params:
        for long in parameter.opts:
            if long in ALIKE:
                assert ALIKE[long] in parameter.opts
