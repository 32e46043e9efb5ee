"""Helpers of networks.sh: a subset of the rows, and all comparisons in one table and one picture.

    python benchmarks/networks.py rows DATA ROWS OUT.npz      the first ROWS training rows, all test rows
    python benchmarks/networks.py table RESULTS               RESULTS/*.csv of ginf compare to table.md and networks.svg
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

STRATEGIES = ("proximal", "warm", "cold")


def rows(source: str, count: str, target: str) -> None:
    from influence_cli.data.sources import load

    data = load(source, task="classification")
    keep = slice(0, int(count))
    np.savez(
        target, X_train=data.X_train[keep], y_train=data.y_train[keep], X_test=data.X_test, y_test=data.y_test
    )


def gather(folder: Path) -> list[dict]:
    """The records pooled over test rows; a file is named STRATEGY_CURVATURE_DAMPING_EVALUATION.csv."""
    found = []
    for path in sorted(folder.glob("*_*_*_*.csv")):
        strategy, curvature, damping, evaluation = path.stem.split("_")
        setting = {"strategy": strategy, "curvature": curvature, "damping": float(damping), "evaluation": evaluation}
        with path.open() as lines:
            found += [row | setting for row in csv.DictReader(lines) if row["kind"] and not row["test"]]
    return found


def number(text: str | None) -> float:
    return float(text) if text else float("nan")


def table(name: str) -> None:
    folder = Path(name)
    records = gather(folder)
    cells = sorted({(row["kind"], int(row["size"])) for row in records}, key=lambda cell: (cell[0] != "random", cell))
    heading = ["curvature", "damping", "evaluated", "method", "against", *(f"{kind} {size}" for kind, size in cells)]
    lines = ["| " + " | ".join(heading) + " |"]
    lines.append("|---" * (5 + len(cells)) + "|")
    keys = ("curvature", "damping", "evaluation", "method", "strategy")
    entries: dict[tuple, dict] = {}
    for row in records:
        entries.setdefault(tuple(row[key] for key in keys), {})[row["kind"], int(row["size"])] = row
    order = {strategy: place for place, strategy in enumerate(STRATEGIES)}
    for key in sorted(entries, key=lambda key: (order[key[4]], key[0], -key[1], key[2], key[3])):
        curvature, damping, evaluation, method, strategy = key
        figures = [
            f"{number(row['pearson']):.3f} ({number(row['slope']):.2f})" if row and row["pearson"] else "-"
            for row in (entries[key].get(cell) for cell in cells)
        ]
        lines.append("| " + " | ".join([curvature, f"{damping:g}", evaluation, method, strategy, *figures]) + " |")
    ceilings = {(row["kind"], int(row["size"])): number(row["ceiling"]) for row in records if row.get("ceiling")}
    if ceilings:
        bounds = [f"{ceilings[cell]:.3f}" if cell in ceilings else "-" for cell in cells]
        lines.append("| | | | ceiling | cold | " + " | ".join(bounds) + " |")
    text = "Pearson correlation, mean over the test rows (slope of truth on estimate)\n\n" + "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text)
    print(text)
    picture(folder / "networks.svg", records, ceilings)


def picture(path: Path, records: list[dict], ceilings: dict) -> None:
    """Correlation by damping, one panel a strategy, one line a curvature and method; pooled over the cells."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    shown = [strategy for strategy in STRATEGIES if any(row["strategy"] == strategy for row in records)]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.5 * len(shown), 4), sharey=True, squeeze=False)
    for axis, strategy in zip(axes[0], shown, strict=True):
        own = [row for row in records if row["strategy"] == strategy and row["evaluation"] == "linear"]
        for curvature in sorted({row["curvature"] for row in own}):
            for method, dash in (("first", ":"), ("second", "--"), ("newton", "-")):
                points: dict[float, list[float]] = {}
                for row in own:
                    if row["curvature"] == curvature and row["method"] == method:
                        points.setdefault(row["damping"], []).append(number(row["pearson"]))
                x = sorted(points)
                color = "C0" if curvature == "hessian" else "C1"
                height = [np.nanmean(points[at]) if np.isfinite(points[at]).any() else np.nan for at in x]
                label = f"{curvature} {method}"
                axis.plot([max(at, 1e-5) for at in x], height, dash, marker="o", color=color, label=label)
        if strategy == "cold" and ceilings:
            axis.axhline(np.nanmean(list(ceilings.values())), color="0.5", label="ceiling")
        axis.set(xscale="log", xlabel="damping (0 drawn at 1e-5)", title=f"against {strategy} retraining")
    axes[0][0].set_ylabel("Pearson correlation, mean over cells")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    commands = {"rows": rows, "table": table}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
