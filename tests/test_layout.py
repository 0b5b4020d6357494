"""The direction of imports, and what holds for the source as a whole; see docs/architecture.md."""

import ast
import json
import pickletools
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from safetensors.torch import load

import solovox
from solovox.cli import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "solovox"
BASE = {"errors", "files"}  # for everyone

# What each part may import of solovox besides itself and BASE. `diffusion` is the ground floor:
# pure formulas, on which codecs and networks may stand. Parts that are not listed compose these
# and may import any but the surfaces.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "precision": set(),
    "settings": set(),
    "stereo": set(),
    "suffixes": set(),
    "averaging": set(),
    "uncertainty": set(),
    "diffusion": set(),
    "decoding": set(),
    "audio": {"decoding"},
    "chunking": set(),
    "redo": set(),
    "resume": set(),
    "stems": set(),
    "codecs": {"diffusion", "stereo"},
    "networks": {"diffusion", "stereo"},
    "model": {"codecs", "diffusion", "networks"},
    "presets": {"codecs", "networks", "model", "settings"},
    "hub": set(),
    "checkpoint": {"hub", "model", "presets"},
    "backends": {"model", "networks"},
}
SURFACES = {"__main__", "cli", "studio", "catalogue"}
# Inside of the machine: surfaces come to it through Separator, load_model and their like.
INSIDE = {"chunking", "codecs", "diffusion", "model", "networks", "resume", "stems", "stereo"}
# The one reader of a checkpoint that is not ours: a peer's, with nothing but arrays let through.
FOREIGN_CHECKPOINT = "evaluation/peers.py"

FILES = sorted(SOURCE.rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def _part(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _at_run_time(node)


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """(part, name) of each import from solovox in a file; "" is the part of solovox itself."""
    for node in _at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}: relative import; write the full name"
            module = (node.module or "").split(".")
            if module[0] == "solovox":
                inside = [alias.name for alias in node.names]
                for name in inside:
                    a_module = len(module) == 1 and name not in solovox.__all__
                    yield (name if a_module else ".".join(module[1:2])), name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name.split(".")
                if module[0] == "solovox":
                    yield ".".join(module[1:2]), module[-1]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_inwards(path: Path) -> None:
    part = _part(path)
    imported = {other for other, _ in _imports(path)} - {part, ""} - BASE
    if part in ALLOWED:
        assert imported <= ALLOWED[part]
    elif part not in SURFACES:
        assert not imported & SURFACES


@pytest.mark.parametrize("path", [p for p in FILES if _part(p) in SURFACES], ids=_name)
def test_surfaces_use_public_names_only(path: Path) -> None:
    for part, name in _imports(path):
        assert part not in INSIDE, f"{part} is not for {_name(path)}"
        assert not name.startswith("_") or name == "__version__"


def test_every_listed_part_exists() -> None:
    parts = {_part(path) for path in FILES}
    assert ALLOWED.keys() <= parts


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_nothing_is_pickled(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called != "torch.save"
            assert given.get("allow_pickle", "False") == "False"
            if called == "torch.load":
                assert _name(path) == FOREIGN_CHECKPOINT
                assert given["weights_only"] == "True"


BUNDLED = sorted(
    path
    for path in SOURCE.rglob("*")
    if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
)
TEXT = (".html", ".css", ".js", ".svg", ".md", ".txt", ".typed")
OPENED = {".json": json.loads, ".safetensors": load} | dict.fromkeys(TEXT, bytes.decode)


@pytest.mark.parametrize("path", BUNDLED, ids=_name)
def test_what_ships_beside_the_code_is_what_it_is_called_and_no_pickle(path: Path) -> None:
    data = path.read_bytes()
    OPENED[path.suffix](data)
    with pytest.raises(ValueError, match=r"."):
        list(pickletools.genops(data))


def _loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_solovox_loads_no_libraries() -> None:
    assert not _loaded_by("import solovox") & {"torch", "numpy", "av", "soundfile"}


def test_the_command_line_starts_without_torch() -> None:
    assert not _loaded_by("from solovox.cli import main") & {"torch", "numpy"}


def test_public_names_are_there() -> None:
    for name in solovox.__all__:
        assert getattr(solovox, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        solovox.nothing  # noqa: B018


def test_commands_are_there() -> None:
    for name, place in COMMANDS.items():
        module, function = place.split(":")
        assert getattr(import_module(module), function).name == name
