"""Pictures of selections: influence against group size (the paper's Figure 3), and the most influential images.

Styles and rules are those of ``plots``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.present.plots import PANEL_INCHES, fitted, legend, rendered, size_axis, style

_STYLES: dict[str, tuple[str, str, Any]] = {
    "random": ("#7F7F7F", "x", (0, (1, 1.2))),
    "greedy": ("#E69F00", "o", (0, (4, 1.5))),
    "pgd": ("#0072B2", "s", "-"),
    "relinearize": ("#009E73", "^", "-"),
    "swap": ("#CC79A7", "D", (0, (6, 1.5, 1, 1.5))),
    "exact": ("#000000", "*", (0, (2, 1))),
}
"""Colour, marker and dashes of each strategy."""
_PREDICTED: dict[str, Any] = {"linestyle": (0, (4, 1.5)), "markerfacecolor": "white"}
"""The style of predictions, in contrast to retrained changes, in any colour."""
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
    """Pixels (height, width) and the caption beneath them."""

    pixels: np.ndarray
    caption: str


def sizes(panels: Mapping[str, Mapping[str, Curve]], ending: str, *, change: str) -> bytes:
    """Figure 3: one panel per test row, with predicted and (where known) realised influence on one axis; for a single
    size the strategies are bars."""
    from matplotlib.figure import Figure

    curves = [curve for curves_of in panels.values() for curve in curves_of.values()]
    realised = any(np.isfinite(curve.actual).any() for curve in curves)
    every = np.unique(np.concatenate([curve.percent for curve in curves]))
    names = list(dict.fromkeys(name for curves_of in panels.values() for name in curves_of))
    labels = {name: f"{name} (mean, spread)" if name == "random" else name for name in names}
    lone = len(every) == 1
    with style():
        height = max(1.4, 0.32 * len(names)) if lone else 2.8
        figure = Figure(figsize=(max(3.1 * len(panels), 4.4) + 0.3, height + 1.0), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=lone).ravel()
        for ax, (title, curves_of) in zip(axes, panels.items(), strict=True):
            ax.set_title(fitted(title, PANEL_INCHES))
            if lone:
                _bars(ax, curves_of, labels)
                continue
            for name, curve in curves_of.items():
                _line(ax, name, curve, realised=realised)
            ax.axhline(0.0, color="0.7", linewidth=0.7, zorder=0)
            ax.grid(axis="y", color="0.9", linewidth=0.6)
            ax.set_axisbelow(True)
            size_axis(ax, every, logarithmic=every[-1] / every[0] >= _LOG_FROM)
        handles = [] if lone else [_key(**_look(name)) for name in names]
        labels_shown = [] if lone else list(labels.values())
        if realised:
            grey = {"color": "0.35", "linestyle": "none"} if lone else {"color": "0.35"}
            marker = "s" if lone else "o"
            handles += [_key(marker=marker, **look) for look in (_PREDICTED | grey, grey)]
            labels_shown += ["predicted (second order)", "retrained"]
        if handles:
            legend(figure, handles, labels_shown, 2 * len(panels) + 1)
        size = f"groups of {every[0]:.2g}% of the training rows" if lone else "group size (% of the training rows)"
        if not realised:
            change += ", predicted (second order)"
        width = float(figure.get_size_inches()[0])
        figure.supxlabel(f"{fitted(change, width)}\n{size}" if lone else f"{size}\n{fitted(change, width)}", fontsize=9)
        return rendered(figure, ending)


def images(lines: Sequence[tuple[Image, Sequence[Image]]], ending: str, *, note: str) -> bytes:
    """One line per test row: its image, framed, and the images of training rows, each with its caption."""
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


def _line(ax: Any, name: str, curve: Curve, *, realised: bool) -> None:
    look = _look(name)
    if np.isfinite(curve.predicted).any():
        # dashed and hollow, to differ from the truth
        ax.plot(curve.percent, curve.predicted, zorder=3, **(look | (_PREDICTED if realised else {})))
    if np.isfinite(curve.actual).any():
        ax.plot(curve.percent, curve.actual, zorder=3, **(look | {"linestyle": "-"}))
    if np.isfinite(curve.spread).any():
        low, high = curve.predicted - curve.spread, curve.predicted + curve.spread
        ax.fill_between(curve.percent, low, high, color=look["color"], alpha=0.15, linewidth=0, zorder=1)


def _bars(ax: Any, curves: Mapping[str, Curve], labels: Mapping[str, str]) -> None:
    """One pair of bars per strategy: hollow for the prediction, filled for the change by retraining."""
    realised = any(np.isfinite(curve.actual).any() for curve in curves.values())
    thick = 0.36 if realised else 0.6
    for at, (name, curve) in enumerate(curves.items()):
        colour = _look(name)["color"]
        parts = [(curve.predicted, "none" if realised else colour), *([(curve.actual, colour)] if realised else [])]
        for place, (values, fill) in enumerate(parts):
            if np.isfinite(values[-1]):
                y = at + (place - 0.5) * thick if realised else at
                error = curve.spread[-1] if place == 0 and np.isfinite(curve.spread[-1]) else None
                ax.barh(y, values[-1], thick, xerr=error, facecolor=fill, edgecolor=colour, linewidth=1.2)
    ax.set_yticks(range(len(curves)), [labels[name] for name in curves])
    ax.margins(y=0.15)
    ax.invert_yaxis()
    ax.axvline(0.0, color="0.7", linewidth=0.7, zorder=0)


def _key(**look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def _look(name: str) -> dict[str, Any]:
    colour, marker, dashes = _STYLES.get(name, ("#D55E00", "X", "-"))
    return {"color": colour, "marker": marker, "linestyle": dashes, "linewidth": 1.4, "markersize": 4.5}


@dataclass(frozen=True)
class Removal:
    """A removal curve at sizes in per cent (S,): the chosen groups' estimates with their errors and changes by
    retraining, and the means and the spread over random groups; NaN where unknown."""

    percent: np.ndarray
    estimate: np.ndarray
    error: np.ndarray
    actual: np.ndarray
    random: np.ndarray
    spread: np.ndarray
    random_actual: np.ndarray


def removals(panels: Mapping[str, Removal], ending: str, *, change: str, chosen: str, draws: int) -> bytes:
    """Change of f against the share of rows removed, one panel per test row: the ``chosen`` rows and random ones."""
    import textwrap

    from matplotlib.figure import Figure

    with style():
        columns = min(3, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(max(3.0 * columns, 6.2) + 0.4, 2.7 * lines + 0.9), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax, (title, curve) in zip(axes, panels.items(), strict=False):
            _removal(ax, curve)
            ax.set_title(title)
        handles = {name: line for line in axes[0].get_lines() if not (name := str(line.get_label())).startswith("_")}
        names = {
            "chosen": f"rows chosen by {chosen}, estimated",
            "chosen, retrained": "retrained",
            "random": f"random rows, mean and spread of {draws}",
            "random, retrained": "random, retrained",
        }
        legend(figure, list(handles.values()), [names[name] for name in handles], 2)
        figure.supxlabel("rows removed (% of the training rows)", fontsize=9)
        figure.supylabel("\n".join(textwrap.wrap(change, 40 * lines)), fontsize=9)
        return rendered(figure, ending)


def _removal(ax: Any, curve: Removal) -> None:
    chosen, random = _STYLES["pgd"][0], _STYLES["random"][0]
    for mean, off, colour in ((curve.estimate, curve.error, chosen), (curve.random, curve.spread, random)):
        ax.fill_between(curve.percent, mean - off, mean + off, color=colour, alpha=0.18, linewidth=0, zorder=1)
    ax.plot(curve.percent, curve.estimate, color=chosen, linewidth=1.6, label="chosen", zorder=3)
    if np.isfinite(curve.actual).any():
        look = {"color": chosen, "marker": "o", "markersize": 4.0, "markerfacecolor": "none", "linestyle": "none"}
        ax.plot(curve.percent, curve.actual, label="chosen, retrained", zorder=4, **look)
    ax.plot(curve.percent, curve.random, color=random, linewidth=1.4, linestyle=(0, (4, 1.5)), label="random", zorder=2)
    if np.isfinite(curve.random_actual).any():
        look = {"color": random, "marker": "x", "markersize": 4.0, "linestyle": "none"}
        ax.plot(curve.percent, curve.random_actual, label="random, retrained", zorder=2, **look)
    ax.axhline(0.0, color="0.7", linewidth=0.7, zorder=0)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    size_axis(ax, np.unique(curve.percent), logarithmic=False)
