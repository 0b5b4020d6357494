"""The command line: one module a command, imported when the command is called.

So `solovox --version` starts at once. `solovox --help` imports all modules for the first lines of
their commands: heavy imports are better kept inside the command's function.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from solovox.errors import SolovoxError

COMMANDS = {
    "ablate": "solovox.cli.ablate:ablate",
    "catalogue": "solovox.cli.catalogue:catalogue",
    "compare": "solovox.cli.compare:compare",
    "data": "solovox.cli.data:data",
    "demo": "solovox.cli.demo:demo",
    "evaluate": "solovox.cli.evaluate:evaluate",
    "export": "solovox.cli.export:export",
    "listen": "solovox.cli.listen:listen",
    "models": "solovox.cli.models:models",
    "refine": "solovox.cli.refine:refine",
    "separate": "solovox.cli.separate:separate",
    "studio": "solovox.cli.studio:studio",
    "study": "solovox.cli.study:study",
    "train": "solovox.cli.train:train",
}
"""Name of the command → "module:function"."""


class LazyGroup(click.Group):
    """Commands imported when asked for; what the user can mend is one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or one that tells what is missing to run it."""
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        try:
            command: click.Command = getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("solovox"):
                raise
            return _Unavailable(cmd_name, error.name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a SolovoxError becomes one line on stderr and exit status 1."""
        try:
            return super().invoke(ctx)
        except SolovoxError as error:
            raise click.ClickException(str(error)) from error


class _Unavailable(click.Command):
    """Stands for a command whose packages are not installed."""

    def __init__(self, name: str, package: str) -> None:
        message = f"Needs the package {package}, which is not installed."
        super().__init__(
            name,
            short_help=message,
            context_settings={"ignore_unknown_options": True, "help_option_names": []},
            params=[click.Argument(["arguments"], nargs=-1)],
        )
        self.message = f"'solovox {name}' needs the package {package}: run `pip install {package}`"

    def invoke(self, ctx: click.Context) -> Any:
        raise SolovoxError(self.message)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="solovox")
def main() -> None:
    """Separate the singing voice from songs by generating it."""
