"""The tables of experiment_synthetic.sh and experiment_mnist.sh as docs/experiments.md shows them, in Markdown.

    python benchmarks/experiment_tables.py RESULTS/table.csv                    one experiment, a line a size
    python benchmarks/experiment_tables.py RESULTS/1e-5 RESULTS/1e-4 ...        several lambdas, a line each

All figures are those pooled over the test rows.  A gain is r(second) - r(first), as a share of r(first); beside it
stands the change of the relative error.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

METHODS = ("first-koh", "first", "second", "second-full", "newton", "newton exact", "refined")
ACROSS = METHODS[1:-1]
CELLS = ("random 36%", "random 50%", "random 60%", "coherent 5%", "coherent 9%", "a whole class")

Cells = dict[str, dict[str, dict[str, str]]]


def read(path: Path) -> Cells:
    """The pooled records by cell and method.  Groups of unequal sizes are the whole classes."""
    found: Cells = {}
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["kind"] and not row["test"]:
                whole = not row["size"] or row["size_min"] != row["size_max"]
                name = "a whole class" if whole else f"{row['kind']} {100 * float(row['fraction']):.2g}%"
                found.setdefault(name, {})[row["method"]] = row
    return found


def correlation(row: dict[str, str], digits: int) -> str:
    return f"{float(row['pearson']):.{digits}f}" if row["pearson"] else "-"


def gain(cell: dict[str, dict[str, str]]) -> str:
    first, second = cell["first"], cell["second"]
    if not (first["pearson"] and second["difference"]):
        return "-"
    shares = [float(second[key]) / float(first["pearson"]) if second[key] else None
              for key in ("difference", "difference_low", "difference_high")]  # fmt: skip
    point, low, high = (None if share is None else f"{100 * share:+.2f}" for share in shares)
    return f"{point}% [{low}, {high}]" if low and high else f"{point}% [no interval]"


def error_change(cell: dict[str, dict[str, str]]) -> str:
    """Relative error of second over that of first, as a change: what a gain in correlation does not show."""
    first, second = (float(cell[method]["relative_error"]) for method in ("first", "second"))
    return f"{100 * (second / first - 1):+.0f}%"


def sizes(cells: Cells) -> str:
    heads = [*(f"`{m}`" for m in METHODS), "gain of `second`, 95% interval", "its change of the error"]
    lines = ["| removed | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, cell in cells.items():
        figures = [f"{correlation(cell[m], 4)} ({float(cell[m]['relative_error']):.2g})" for m in METHODS]
        lines.append(f"| {name} | " + " | ".join(figures) + f" | {gain(cell)} | {error_change(cell)} |")
    return "\n".join(lines)


def lambdas(folders: dict[str, Cells]) -> str:
    shown = [name for name in CELLS if any(name in cells for cells in folders.values())]
    lines = ["| lambda | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    gains = ["| lambda, gain of `second` | " + " | ".join(shown) + " |", lines[1]]
    for l2, cells in folders.items():
        figures = [" / ".join(correlation(cells[name][m], 3) for m in ACROSS) for name in shown]
        lines.append(f"| {l2} | " + " | ".join(figures) + " |")
        figures = [f"{gain(cells[name])}, error {error_change(cells[name])}" for name in shown]
        gains.append(f"| {l2} | " + " | ".join(figures) + " |")
    return "\n".join([*lines, "", *gains])


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths:
        sys.exit(__doc__)
    if paths[0].is_dir():
        print(lambdas({path.name: read(path / "table.csv") for path in paths}))
    else:
        print(sizes(read(paths[0])))
