"""The paper's two pictures of agreement with retraining, and what all pictures share.

Colours are those of Okabe and Ito, which colour-blind readers can distinguish; every method also has a marker and a
dash pattern, for print without colour.  The same input gives the same bytes: no date, no random identifiers, and no
style file of the user.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.errors import UsageError
from influence_cli.present.plot_names import name_points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = ("png", "svg", "pdf")
EXACT = " exact"

_STYLES: dict[str, tuple[str, str, Any]] = {
    "first-koh": ("#000000", "v", (0, (1, 1.2))),
    "first": ("#E69F00", "o", (0, (4, 1.5))),
    "second": ("#0072B2", "s", "-"),
    "second-full": ("#56B4E9", "D", (0, (6, 1.5, 1, 1.5))),
    "newton": ("#009E73", "^", "-"),
    "rif": ("#CC79A7", "P", (0, (2, 1))),
    "refined": ("#D55E00", "X", (0, (3, 1, 1, 1))),
}
"""Colour, marker and dashes; the same method looks the same in every picture."""
_OTHERS = (("#D55E00", "X", "-"), ("#7F7F7F", "*", (0, (3, 1, 1, 1))), ("#000000", "<", (0, (5, 3))))
_RC = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.hashsalt": "ginf",
    "pdf.fonttype": 42,
}
_UNDATED: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_DPI = 200
LETTERS_AN_INCH = 13.0
"""Characters per inch of a label at 9 points, if they are wide."""
PANEL_INCHES = 2.5
"""Width of a panel with its axis, into which its title is wrapped."""
_LOG_FROM = 12.0
"""Ratio of the largest to the smallest group above which the axis of sizes is logarithmic."""
_MANY_POINTS = 20_000
"""Points beyond which a vector file stores them as an image."""
NEAREST = 1e-12
"""Smallest distance of a correlation from 1 on a logarithmic axis: less is rounding."""
NAMED, NAMED_FROM = 5, 0.05
"""Number of points of a panel that are named, those farthest from agreement, and their smallest distance from it as a
share of the axis."""
_TICK_RATIO, _TICK_GAP = 1.22, 0.07
"""Distance of ticks below which their labels touch, as a ratio on a logarithmic axis or a share of a linear one."""


@dataclass(frozen=True)
class Cloud:
    """One method in a panel of ``scatter``: estimates, true values, the correlation to state (None: none), and the
    names of the points (empty: they have none)."""

    estimate: np.ndarray
    truth: np.ndarray
    pearson: float | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One method in a panel of ``curve``: correlations (S,) at group sizes in per cent, with their intervals."""

    percent: np.ndarray
    pearson: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def from_one(self) -> Line:
        """The distances of the correlations from 1."""
        far = (np.maximum(1.0 - values, NEAREST) for values in (self.pearson, self.high, self.low))
        return Line(self.percent, *far)


def check_plot(path: str) -> str:
    """The format that a path's ending names.  UsageError for another ending, or where Matplotlib is missing."""
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        ending_found = f"found .{ending}" if ending else "found no ending"
        raise UsageError(f"--plot {path}: expected a name ending in .png, .svg or .pdf, {ending_found}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError("--plot needs Matplotlib, which is not installed", hint="pip install 'ginf[plot]'") from error
    return ending


def scatter(panels: Mapping[str, Mapping[str, Cloud]], ending: str, *, change: str, note: str, columns: int) -> bytes:
    """Figure 1: truth against estimate, one panel per size with one cloud per method, and the line on which both agree.

    ``change`` names the change and its condition; ``note`` is the small print.
    """
    from matplotlib.figure import Figure

    with style():
        columns = min(columns, len(panels))
        lines = -(-len(panels) // columns)
        figure = Figure(figsize=(max(2.55 * columns, 4.2) + 0.4, 2.6 * lines + 1.0), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax, (title, clouds) in zip(axes, panels.items(), strict=False):
            _scatter_panel(ax, title, clouds)
        methods = list(dict.fromkeys(method for clouds in panels.values() for method in clouds))
        handles = [_marker(method) for method in methods]
        handles.append(_agreement_line())
        legend(figure, handles, [*methods, "estimate = actual"], columns + 2)
        width, height = figure.get_size_inches()
        figure.supxlabel("\n".join(fitted(text, width) for text in (f"estimated {change}", note)), fontsize=9)
        figure.supylabel(fitted(f"actual {change}", height - 0.6), fontsize=9)
        shown = zip(axes, panels.values(), strict=False)
        name_points([(ax, _farthest(clouds, np.ptp(ax.get_xlim()))) for ax, clouds in shown])
        return rendered(figure, ending)


def curve(panels: Mapping[str, Mapping[str, Line]], ending: str, *, note: str, from_one: bool = False) -> bytes:
    """Figure 2: correlation with the truth against group size, one panel per kind of group with one line per method.

    ``from_one`` draws 1 - r on a logarithmic axis, on which .995 and .9999 differ visibly.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(max(3.3 * len(panels), 4.2) + 0.3, 3.9), layout="constrained")
        # a panel with a single size is a column of points
        widths = [1 + 2 * any(len(line.percent) > 1 for line in lines.values()) for lines in panels.values()]
        shape: Any = {"width_ratios": widths}
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, gridspec_kw=shape).ravel()
        if from_one:
            panels = {kind: {name: line.from_one() for name, line in lines.items()} for kind, lines in panels.items()}
            axes[0].set_yscale("log")
        sizes = np.concatenate([line.percent for lines in panels.values() for line in lines.values()])
        for ax, (kind, lines) in zip(axes, panels.items(), strict=True):
            _curve_panel(ax, kind, lines, logarithmic=sizes.max() / sizes.min() >= _LOG_FROM)
        if not from_one:
            low, high = axes[0].get_ylim()
            axes[0].set_ylim(max(low, -1.03), min(high, 1.03))
        axes[0].set_ylabel(
            "1 - Pearson correlation (lower is better)" if from_one else "Pearson correlation with retraining"
        )
        methods = list(dict.fromkeys(method for lines in panels.values() for method in lines))
        legend(figure, [_marker(method, line=True) for method in methods], methods, 2 * len(panels) + 1)
        width = float(figure.get_size_inches()[0])
        figure.supxlabel(f"group size (% of the training rows)\n{fitted(note, width)}", fontsize=9)
        return rendered(figure, ending)


def fitted(text: str, inches: float) -> str:
    """A label in as many lines as its length needs."""
    return "\n".join(wrap(text, max(20, int(LETTERS_AN_INCH * inches))))


def _farthest(clouds: Mapping[str, Cloud], axis: float) -> list[tuple[float, float, str]]:
    """The points farthest from agreement, at most one for each name."""
    points = [
        (abs(estimate - truth), float(estimate), float(truth), name)
        for cloud in clouds.values()
        for estimate, truth, name in zip(cloud.estimate, cloud.truth, cloud.names, strict=False)
        if abs(estimate - truth) >= NAMED_FROM * axis
    ]
    first: dict[str, tuple[float, float, str]] = {}
    for _, estimate, truth, name in sorted(points, reverse=True):
        first.setdefault(name, (estimate, truth, name))
    return list(first.values())[:NAMED]


def _scatter_panel(ax: Any, title: str, clouds: Mapping[str, Cloud]) -> None:
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate([part for cloud in clouds.values() for part in (cloud.estimate, cloud.truth)])
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    limits = (low - pad, high + pad)
    ax.plot(limits, limits, color="0.55", linewidth=0.9, zorder=1)
    for method, cloud in clouds.items():
        colour, marker, hollow, _ = _look(method)
        many = len(cloud.truth)
        ax.scatter(
            cloud.estimate,
            cloud.truth,
            s=16 if many <= 100 else 9 if many <= 1000 else 4,
            marker=marker,
            facecolors="none" if hollow else colour,
            edgecolors=colour if hollow else "white",
            linewidths=0.9 if hollow else 0.25,
            alpha=0.85 if many <= 1000 else 0.5,
            zorder=2,
            rasterized=many > _MANY_POINTS,
        )
    ax.set(xlim=limits, ylim=limits, aspect="equal", title=fitted(title, PANEL_INCHES))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    ax.ticklabel_format(style="sci", scilimits=(-2, 3), useMathText=True)
    stated = [(method, cloud.pearson) for method, cloud in clouds.items() if cloud.pearson is not None]
    if stated:
        ax.legend(
            [_marker(method) for method, _ in stated],
            [f"{pearson:.3f}" for _, pearson in stated],
            title="correlation",
            title_fontsize=7.0,
            fontsize=7.0,
            loc="best",
            handletextpad=0.1,
            borderpad=0.2,
            labelspacing=0.15,
            frameon=True,
            framealpha=0.75,
            edgecolor="none",
        )


def _curve_panel(ax: Any, kind: str, lines: Mapping[str, Line], *, logarithmic: bool) -> None:
    for method, line in lines.items():
        colour, marker, hollow, dashes = _look(method)
        look = {
            "color": colour,
            "marker": marker,
            "markersize": 4.5,
            "markerfacecolor": "white" if hollow else colour,
            "linewidth": 1.4,
            "linestyle": dashes,
            "clip_on": False,
        }
        ax.plot(line.percent, line.pearson, zorder=3, **look)
        if len(line.percent) > 1:
            ax.fill_between(line.percent, line.low, line.high, color=colour, alpha=0.12, linewidth=0, zorder=1)
            for edge in (line.low, line.high):  # bands remain identifiable without colour
                ax.plot(line.percent, edge, color=colour, linestyle=dashes, linewidth=0.5, alpha=0.6, zorder=2)
        elif np.isfinite(line.low).all():
            spread = np.abs(np.stack([line.pearson - line.low, line.high - line.pearson]))
            ax.errorbar(line.percent, line.pearson, spread, color=colour, capsize=2.5, linewidth=1.0, zorder=2)
    ax.set_title(fitted(kind, PANEL_INCHES))
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    size_axis(ax, np.unique(np.concatenate([line.percent for line in lines.values()])), logarithmic)


def size_axis(ax: Any, percent: np.ndarray, logarithmic: bool) -> None:
    """Ticks at the given sizes, as far as their labels do not touch; all panels have the same scale."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if logarithmic:
        ax.set_xscale("log")
        ax.set_xlim(percent[0] / 1.25, percent[-1] * 1.25)
    else:
        ax.set_xlim(0, 1.06 * percent[-1])
    ticks: list[float] = []
    for size in percent[::-1].tolist():  # the large sizes matter most
        near = ticks and (ticks[-1] < _TICK_RATIO * size if logarithmic else ticks[-1] - size < _TICK_GAP * percent[-1])
        if not near:
            ticks.append(size)
    ax.xaxis.set_major_locator(FixedLocator(ticks[::-1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:.0f}"))


def _look(method: str) -> tuple[str, str, bool, Any]:
    """Colour, marker, whether it is hollow, and dashes; exact evaluation is hollow and dotted."""
    name = method.removesuffix(EXACT)
    colour, marker, dashes = _STYLES.get(name) or _OTHERS[sum(name.encode()) % len(_OTHERS)]
    return colour, marker, name != method, (0, (1.5, 1)) if name != method else dashes


def _marker(method: str, *, line: bool = False) -> Any:
    from matplotlib.lines import Line2D

    colour, marker, hollow, dashes = _look(method)
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        markersize=5,
        markerfacecolor="white" if hollow else colour,
        linestyle=dashes if line else "none",
        linewidth=1.4,
    )


def _agreement_line() -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="0.55", linewidth=0.9)


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    lines = -(-len(labels) // columns)
    figure.legend(handles, labels, loc="outside upper center", ncols=-(-len(labels) // lines), handlelength=2.6)


@contextmanager
def style() -> Iterator[None]:
    import matplotlib

    settings: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    settings.update(_RC)
    with matplotlib.rc_context(settings):
        yield


def rendered(figure: Figure, ending: str) -> bytes:
    figure.draw_without_rendering()  # an axis' power of ten shifts the title, so that the layout needs a first pass
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending, dpi=_DPI, metadata=_UNDATED[ending])
    return buffer.getvalue()
