"""Curves of trainings as one PNG, from their `metrics.jsonl`: losses, fixed losses, learning rate, gradient norm."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videopainter.errors import InputError
from videopainter.files import check_target, replacing
from videopainter.flags import check_installed, check_ranges, flag
from videopainter.training.tracking.trackers import METRICS_FILE, read_metrics

# Panels and the metrics each shows; panels without any are left out.
PANELS: Mapping[str, Sequence[str]] = {
    "training loss": ("loss_full", "loss_masked"),
    "loss on fixed noise and timesteps": ("validation/loss", "validation/masked_loss"),
    "learning rate": ("lr",),
    "gradient norm": ("grad_norm",),
}
_EXACT = "learning rate"  # neither smoothed nor on a logarithmic scale
_LINE_STYLES = ("-", "--", ":", "-.")
_PANEL_INCHES = (5.2, 3.2)


@dataclass(kw_only=True)
class CurveOptions:
    """Which trainings are drawn, and how."""

    _argument_group_name: ClassVar[str] = "curves"

    runs: list[str] = flag(  # noqa: RUF009
        None, "Output folders of trainings (or their metrics.jsonl); each is a colour, named as NAME=FOLDER if given."
    )
    output: str = flag("curves.png", "The picture, a .png.")
    metrics: list[str] | None = flag(  # noqa: RUF009
        None, "Metrics to draw instead, one panel each, such as `loss` or `validation/loss_t500`."
    )
    smoothing: float = flag(
        0.02, "Window of the running mean, as a share of each curve; 0 draws the values alone.", least=0, most=1
    )
    dpi: int = flag(110, "Dots per inch of the picture.", least=20, most=1200)

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("runs: expected at least one folder of a training, got none")
        if Path(self.output).suffix.lower() != ".png":
            raise InputError(f"output: expected a .png, got {self.output}")
        check_ranges(self)


@dataclass(frozen=True)
class LoggedRun:
    """The curves of one training: metric -> its steps (n,) and values (n,), steps rising."""

    name: str
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def read(cls, argument: str) -> LoggedRun:
        """From a folder, a `metrics.jsonl` or `NAME=` in front of either.

        Raises:
            InputError: where it is not there, cannot be read, or holds no number yet.
        """
        name, _, place = argument.rpartition("=")
        path = Path(place)
        path = path / METRICS_FILE if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"runs: expected a training's output folder or its {METRICS_FILE}, found none at {place}")
        curves = _curves(read_metrics(path))
        if not curves:
            raise InputError(f"{path}: expected numbers of a training, got none yet")
        return cls(name or path.resolve().parent.name, curves)


def _curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metrics as curves; a step that was logged twice counts as the second time said."""
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and abs(value) <= sys.float_info.max:
                points.setdefault(name, {})[int(row["step"])] = float(value)
    ordered = {name: sorted(values.items()) for name, values in points.items()}
    return {name: (np.array([s for s, _ in v]), np.array([x for _, x in v])) for name, v in ordered.items()}


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` values around each (fewer at the ends); (n,) -> (n,)."""
    if window <= 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    start = np.maximum(place - (window - 1) // 2, 0)
    stop = np.minimum(place + window // 2 + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def check_matplotlib() -> None:
    """InputError, in one line, where matplotlib is missing."""
    check_installed("curves", "matplotlib")


def plot_curves(options: CurveOptions) -> Path:
    """Draw and write the picture; returns its path.

    Raises:
        InputError: for runs that cannot be read, metrics that no run has, or a missing matplotlib.
    """
    check_matplotlib()
    check_target(options.output, "--output")
    runs = [LoggedRun.read(argument) for argument in options.runs]
    panels = _panels(runs, options.metrics)
    figure = importlib.import_module("matplotlib.figure").Figure  # the object alone: no display, no global state
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width, height = _PANEL_INCHES
    picture = figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = picture.subplots(rows, columns, squeeze=False).flatten()
    for axis, (title, names) in zip(axes, panels.items()):
        _draw_panel(axis, title, names, runs, options.smoothing)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return _save(picture, Path(options.output), options.dpi)


def _panels(runs: Sequence[LoggedRun], wanted: Sequence[str] | None) -> dict[str, list[str]]:
    present = {name for run in runs for name in run.curves}
    if wanted is None:
        found = {title: [name for name in names if name in present] for title, names in PANELS.items()}
        panels = {title: names for title, names in found.items() if names}
        wanted = [name for names in PANELS.values() for name in names]
    else:
        missing = [name for name in wanted if name not in present]
        panels = {} if missing else {name: [name] for name in wanted}
    if not panels:
        raise InputError(f"curves: expected one of {', '.join(wanted)}; the runs have {', '.join(sorted(present))}")
    return panels


def _draw_panel(axis: Any, title: str, names: Sequence[str], runs: Sequence[LoggedRun], smoothing: float) -> None:
    """One panel: a colour per run, a line style per metric; values faint, their running mean on top."""
    drawn: list[np.ndarray] = []
    for number, run in enumerate(runs):
        for style, name in zip(_LINE_STYLES, names):
            if name not in run.curves:
                continue
            steps, values = run.curves[name]
            window = 1 if title == _EXACT else round(smoothing * len(values))
            look = {"color": f"C{number}", "linestyle": style}
            label = _label(run, name, several_runs=len(runs) > 1, several_names=len(names) > 1)
            if window > 1:
                axis.plot(steps, values, alpha=0.25, linewidth=0.6, **look)
            marker = "o" if len(values) < 40 else None
            axis.plot(steps, running_mean(values, window), label=label, linewidth=1.4, marker=marker, ms=3, **look)
            drawn.append(values)
    every = np.concatenate(drawn)
    if title != _EXACT and every.min() > 0 and every.max() / every.min() > 20:
        axis.set_yscale("log")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("optimizer step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    if len(drawn) > 1:
        axis.legend(fontsize=7, frameon=False)


def _label(run: LoggedRun, name: str, *, several_runs: bool, several_names: bool) -> str:
    parts = [run.name] * several_runs + [name] * (several_names or not several_runs)
    return " ".join(parts)


def _save(picture: Any, path: Path, dpi: int) -> Path:
    """Under its own name only when it is whole; without the date, so that the same curves give the same file."""
    with replacing(path) as partial:
        picture.savefig(partial, dpi=dpi, metadata={"Software": None})
    return path
