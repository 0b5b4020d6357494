"""A run's losses and validation scores as a picture: python -m solovox.training.picture RUN PNG."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from solovox.errors import SolovoxError
from solovox.training.journal import Line, read_log
from solovox.training.run import read_run

LOSSES = ("diffusion", "estimate0", "estimate1", "coefficients", "few_step")


def draw_run(run: Path, picture: Path) -> None:
    """Draw a run's losses, smoothed over 20 records, and its validation uSDR, by step.

    Raises:
        SolovoxError: if there is no run, or it has logged nothing.
    """
    stages = read_run(run).training.stages
    lines = read_log(run, sys.maxsize)
    if not lines:
        raise SolovoxError(f"{run} has no log yet; train for longer")
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name in LOSSES:
        steps, values = _series(lines, name)
        if len(steps):
            smooth = [values[max(0, i - 19) : i + 1].mean() for i in range(len(values))]
            above.plot(steps, smooth, label=name)
    above.set(ylabel="loss", yscale="log")
    above.legend()
    for name, style in (("usdr", "o-"), ("mixture_usdr", "--")):
        below.plot(*_series(lines, name), style, label=name)
    below.set(xlabel="step", ylabel="validation uSDR of the vocals, dB")
    below.legend()
    for axes in (above, below):
        for stage in stages[:-1]:
            axes.axvline(stage.until, color="grey", linewidth=0.5)
    figure.savefig(picture, dpi=120)


def _series(lines: list[Line], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


if __name__ == "__main__":
    draw_run(Path(sys.argv[1]), Path(sys.argv[2]))
