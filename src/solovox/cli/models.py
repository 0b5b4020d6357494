"""`solovox models`: what there is to separate with."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

# A model's system by the kind of its codec; every other codec is Diff-DMX's waveform in disguise.
SYSTEMS = {"encodec": "LDM-dmx", "encodec-small": "LDM-dmx"}


@dataclass(frozen=True)
class Row:
    """A model as the list shows it."""

    name: str
    system: str
    parameters: int
    licence: str
    weights: str


@click.command()
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(names: tuple[str, ...], as_json: bool) -> None:
    """List models: those that ship, those to be trained, and any MODEL (a folder or a hub id)."""
    rows = [row_of(name) for name in names] if names else known_rows()
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "system", "parameters", "licence", "weights"):
        right = heading == "parameters"
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        millions = f"{row.parameters / 1e6:.1f} M" if row.parameters else "-"
        table.add_row(row.name, row.system, millions, row.licence, row.weights)
    Console().print(table)


def known_rows() -> list[Row]:
    """The models that ship, then the presets that have no weights yet."""
    import torch

    from solovox.checkpoint import list_models
    from solovox.presets import PRESETS, build_model, config_to_json

    rows = [row_of(info.name) for info in list_models()]
    for name in PRESETS:
        if name not in {row.name for row in rows}:
            config = config_to_json(PRESETS[name])
            parameters = 0
            if config["codec"]["kind"] != "encodec":  # that takes transformers, seconds to import
                with torch.device("meta"):  # counts, without the memory
                    parameters = sum(p.numel() for p in build_model(name).parameters())
            system = SYSTEMS.get(config["codec"]["kind"], "Diff-DMX")
            if config["generator"]["kind"] == "none":
                system += ", codec alone"
            rows.append(Row(name, system, parameters, "-", f"none: solovox train --preset {name}"))
    return rows


def row_of(name: str) -> Row:
    """What a model's folder says of it.

    Raises:
        ModelError: if there is no such model.
    """
    from solovox.checkpoint import CARD, CONFIG, WEIGHTS, find_model
    from solovox.errors import ModelError

    folder = find_model(name)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        system = SYSTEMS.get(config["codec"]["kind"], "Diff-DMX")
        parameters = _count(folder / WEIGHTS)
        size = (folder / WEIGHTS).stat().st_size / 1e6
        title = str(config["name"])
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(f"{folder} is not a model folder, or is broken: {error}") from error
    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    licence = re.search(r"^licen[cs]e:\s*(.+)$", text, re.M | re.I)
    where = f"{folder} ({size:.1f} MB)"
    return Row(title, system, parameters, licence[1].strip() if licence else "-", where)


def _count(weights: Path) -> int:
    """The number of values in a safetensors file, from its header alone."""
    with weights.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 1 << 26:
            raise ValueError(f"{weights.name} has an absurd header")
        header = json.loads(file.read(length))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
