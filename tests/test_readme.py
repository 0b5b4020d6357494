"""What the pages name is there: commands, files, names. Numbers are not tested here."""

import ast
import re
from pathlib import Path

import pytest

import solovox
from solovox.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _name(path: Path) -> str:
    return path.name


def _code(text: str) -> list[str]:
    """Fenced blocks, indented lines and inline code."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return fenced + re.findall(r"^ {4}\S.*$", rest, re.M) + re.findall(r"`([^`\n]+)`", rest)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for code in _code(page.read_text(encoding="utf-8")):
        for line in code.splitlines():
            words = line.split()
            if words[:1] == ["solovox"] and len(words) > 1 and words[1][0].islower():
                assert words[1] in COMMANDS, line
            if words[:1] == ["make"] and len(words) > 1 and words[1].islower():
                assert re.search(rf"^{words[1]}:", makefile, re.M), line
            for script in re.findall(r"\bpython3? ((?:\w[\w-]*/)+\w+\.py)\b", line):
                assert (ROOT / script).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_examples_use_public_names(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "solovox":
                assert {alias.name for alias in node.names} <= set(solovox.__all__)


def test_readme_fits_a_screen() -> None:
    assert len(README.splitlines()) <= 60


def test_readme_has_one_test_command() -> None:
    block = re.search(r"^## Test.*?^```\w*\n(.*?)^```", README, re.M | re.S)
    assert block and block[1].strip() == "make test"  # .ci/run takes it from there
