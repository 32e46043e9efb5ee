"""Pictures of selections: influence against group size (the paper's Figure 3), and the most influential images.

Looks and rules are those of ``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.present.plots import legend, rendered, size_axis, style

_STYLES: dict[str, tuple[str, str, Any]] = {
    "random": ("#7F7F7F", "x", (0, (1, 1.2))),
    "greedy": ("#E69F00", "o", (0, (4, 1.5))),
    "pgd": ("#0072B2", "s", "-"),
    "relinearize": ("#009E73", "^", "-"),
    "swap": ("#CC79A7", "D", (0, (6, 1.5, 1, 1.5))),
    "exact": ("#000000", "*", (0, (2, 1))),
}
"""Colour, marker and dashes of each strategy."""
_LOG_FROM = 12.0


@dataclass(frozen=True)
class Curve:
    """One strategy at sizes in per cent (S,): predicted (second-order) and realised influence, NaN where unknown.

    ``spread`` is the standard deviation of the predicted influence over random draws, NaN for other strategies.
    """

    percent: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class Image:
    """Pixels (height, width) and what stands beneath them."""

    pixels: np.ndarray
    caption: str


def sizes(panels: Mapping[str, Mapping[str, Curve]], ending: str, *, change: str) -> bytes:
    """Figure 3: a column of panels a test row; above predicted influence, below (where known) the realised one."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    curves = [curve for own in panels.values() for curve in own.values()]
    realised = any(np.isfinite(curve.actual).any() for curve in curves)
    every = np.unique(np.concatenate([curve.percent for curve in curves]))
    lines = 2 if realised else 1
    with style():
        figure = Figure(figsize=(max(3.1 * len(panels), 4.4) + 0.3, 2.5 * lines + 1.0), layout="constrained")
        axes = figure.subplots(lines, len(panels), squeeze=False, sharex=True)
        for column, (title, own) in enumerate(panels.items()):
            axes[0, column].set_title(title)
            for ax, key in zip(axes[:, column], ("predicted", "actual"), strict=False):
                for name, curve in own.items():
                    _line(ax, name, curve, key)
                ax.axhline(0.0, color="0.7", linewidth=0.7, zorder=0)
                ax.grid(axis="y", color="0.9", linewidth=0.6)
                ax.set_axisbelow(True)
                size_axis(ax, every, logarithmic=every[-1] / every[0] >= _LOG_FROM)
        axes[0, 0].set_ylabel("predicted (second order)")
        if realised:
            axes[1, 0].set_ylabel("actual (retrained)")
        names = list(dict.fromkeys(name for own in panels.values() for name in own))
        handles = [Line2D([], [], **_look(name)) for name in names]
        labels = [f"{name} (mean, spread)" if name == "random" else name for name in names]
        legend(figure, handles, labels, 2 * len(panels) + 1)
        figure.supxlabel(f"group size (% of the training rows)\n{change}", fontsize=9)
        return rendered(figure, ending)


def images(lines: Sequence[tuple[Image, Sequence[Image]]], ending: str, *, note: str) -> bytes:
    """A line a test row: its image, framed, and the images of training rows, each with its caption."""
    from matplotlib.figure import Figure

    columns = 1 + max(len(rows) for _, rows in lines)
    with style():
        figure = Figure(figsize=(0.95 * columns + 0.8, 1.5 * len(lines) + 0.5), layout="constrained")
        widths = [1.6, *[1.0] * (columns - 1)]
        axes = figure.subplots(len(lines), columns, squeeze=False, gridspec_kw={"width_ratios": widths})
        for line, (test, rows) in zip(axes, lines, strict=True):
            for ax in line:
                ax.set_axis_off()
            for ax, image in zip(line, (test, *rows), strict=False):
                ax.imshow(image.pixels, cmap="gray_r", interpolation="nearest")
                below = {"xytext": (0, -3), "textcoords": "offset points", "ha": "center", "va": "top"}
                ax.annotate(image.caption, (0.5, 0.0), xycoords="axes fraction", fontsize=7, **below)
            line[0].set_axis_on()
            line[0].set(xticks=[], yticks=[])
            for spine in line[0].spines.values():
                spine.set(visible=True, color="#D55E00", linewidth=1.5)
        figure.supxlabel(note, fontsize=7)
        return rendered(figure, ending)


def _line(ax: Any, name: str, curve: Curve, key: str) -> None:
    values = getattr(curve, key)
    if not np.isfinite(values).any():
        return
    look = _look(name)
    ax.plot(curve.percent, values, zorder=3, **look)
    if key == "predicted" and np.isfinite(curve.spread).any():
        low, high = values - curve.spread, values + curve.spread
        ax.fill_between(curve.percent, low, high, color=look["color"], alpha=0.15, linewidth=0, zorder=1)


def _look(name: str) -> dict[str, Any]:
    colour, marker, dashes = _STYLES.get(name, ("#D55E00", "X", "-"))
    return {"color": colour, "marker": marker, "linestyle": dashes, "linewidth": 1.4, "markersize": 4.5}
