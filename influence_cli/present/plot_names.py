"""Names beside the points of a picture, which neither leave the axes nor overlap each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LONGEST_NAME = 28
"""Characters of a name beside a point; the middle of a longer one is left out."""
_BESIDE = tuple((side, lines) for lines in (1, -1, 0, 2, -2, 3, -3) for side in (1, -1))
"""Positions of a name beside its point: to the right or left, and how many lines above or below."""


def name_points(named: Sequence[tuple[Any, Sequence[tuple[float, float, str]]]], *, size: float = 7.0) -> None:
    """Place names beside points of each of a figure's axes, in order, each where it neither leaves the axes nor
    overlaps another; a name without such a place is left out.  The limits of the axes must be set before."""
    named[0][0].figure.draw_without_rendering()  # computes the positions of the axes
    for ax, points in named:
        _name(ax, points, size)


def _name(ax: Any, points: Sequence[tuple[float, float, str]], size: float) -> None:
    from matplotlib.text import Text

    frame, taken = ax.get_window_extent(), list[Any]()
    for x, y, name in points:
        half = (LONGEST_NAME - 1) // 2
        short = name if len(name) <= LONGEST_NAME else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
        for side, lines in _BESIDE:
            label = ax.annotate(
                short,
                (x, y),
                (6 * side, 1.25 * size * lines),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=size,
                zorder=4,
                arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
            )
            label.set_in_layout(False)
            label.get_window_extent()  # moves the text beside its point
            text = Text.get_window_extent(label)
            if frame.x0 <= text.x0 and text.x1 <= frame.x1 and not any(text.overlaps(other) for other in taken):
                taken.append(text)
                break
            label.remove()
