"""Helpers of networks.sh: a subset of the rows, what kind of minimum training found, and one table and one picture.

python benchmarks/networks.py rows DATA ROWS OUT.npz      the first ROWS training rows, all test rows
python benchmarks/networks.py minimum MODEL               least and largest eigenvalue of the exact Hessian
python benchmarks/networks.py table RESULTS               RESULTS/*.csv of ginf compare to table.md and networks.svg
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

STRATEGIES = ("proximal", "warm", "cold")
METHODS = ("first", "second", "newton")
STYLES = {"first": ":", "second": "--", "newton": "-"}
BLOCK, STEPS = 4, 300
"""Of LOBPCG, whose values approach the least eigenvalues from above."""
ENOUGH = 2e-5
"""Residual norm of an eigenvector at which it is taken for one."""


def rows(source: str, count: str, target: str) -> None:
    from influence_cli.data.load import load

    data = load(source, task="classification")
    keep = slice(0, int(count))
    np.savez(target, X_train=data.X_train[keep], y_train=data.y_train[keep], X_test=data.X_test, y_test=data.y_test)


def minimum(name: str) -> None:
    """A small gradient is a minimum only where the exact Hessian, undamped, is definite."""
    from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

    from influence_cli.commands.options import Common, Network
    from influence_cli.commands.session import open_model

    model = open_model(name, Common(quiet=True), network=Network("hessian", 0.0)).model
    objective, theta, size = model.objective, model.theta, model.objective.size
    product, inverse = (
        objective.curvature(theta, objective.weights),
        objective.preconditioner(theta, objective.weights),
    )
    hessian, guide = (
        LinearOperator((size, size), matvec=lambda v, A=A: A(v.reshape(size, 1))[:, 0], matmat=A, dtype=float)
        for A in (product, inverse)
    )
    start = np.random.default_rng(0).normal(size=(size, BLOCK))
    low, vectors = lobpcg(hessian, start, M=guide, largest=False, tol=ENOUGH, maxiter=STEPS)
    at = int(np.argmin(low))
    off = np.linalg.norm(product(vectors[:, [at]])[:, 0] - low[at] * vectors[:, at])
    top = eigsh(hessian, k=1, which="LA", return_eigenvectors=False, tol=1e-2)[0]
    print(
        f"{size:,} parameters, gradient norm {model.grad_norm:.1e}, exact Hessian from {low[at]:.1e} (residual"
        f" {off:.0e}) to {top:.2g}; accuracy {model.score('train'):.3f} on the training rows,"
        f" {model.score('test'):.3f} on the test rows"
    )


def gather(folder: Path) -> list[dict]:
    """The records pooled over test rows; a file is named STRATEGY[-...]_CURVATURE_DAMPING_EVALUATION.csv."""
    found = []
    for path in sorted(folder.glob("*_*_*_*.csv")):
        strategy, curvature, damping, evaluation = path.stem.split("_")
        setting = {"strategy": strategy.split("-")[0], "curvature": curvature}
        setting |= {"damping": float(damping), "evaluation": evaluation}
        with path.open() as lines:
            found += [
                row | setting | {"method": row["method"].split()[0], "cell": (row["kind"], int(row["size"]))}
                for row in csv.DictReader(lines)
                if row["kind"] and not row["test"]
            ]
    return found


def number(text: str | None) -> float:
    return float(text) if text else float("nan")


def table(name: str) -> None:
    folder = Path(name)
    records = gather(folder)
    cells = sorted({row["cell"] for row in records}, key=lambda cell: (cell[0] != "random", cell))
    heading = ["against", "curvature", "damping", "evaluated", "method", *(f"{kind} {size}" for kind, size in cells)]
    lines = ["| " + " | ".join(heading) + " |", "|---" * len(heading) + "|"]
    entries: dict[tuple, dict] = {}
    for row in records:
        key = (row["strategy"], row["curvature"], row["damping"], row["evaluation"], row["method"])
        entries.setdefault(key, {})[row["cell"]] = row
    ceilings = {row["cell"]: number(row["ceiling"]) for row in records if row.get("ceiling")}

    def place(key: tuple) -> tuple:
        strategy, curvature, damping, evaluation, method = key
        return STRATEGIES.index(strategy), curvature, -damping, evaluation != "linear", METHODS.index(method)

    for key in sorted(entries, key=place):
        strategy, curvature, damping, evaluation, method = key
        figures = [
            f"{number(row['pearson']):.3f} ({number(row['slope']):.2f})" if row and row["pearson"] else "-"
            for row in (entries[key].get(cell) for cell in cells)
        ]
        lines.append("| " + " | ".join([strategy, curvature, f"{damping:g}", evaluation, method, *figures]) + " |")
    if ceilings:
        bounds = [f"{ceilings[cell]:.3f}" if cell in ceilings else "-" for cell in cells]
        lines.append("| cold | | | | ceiling | " + " | ".join(bounds) + " |")
    text = "Pearson correlation, mean over the test rows (slope of the retrained on the estimated change)\n\n"
    text += "\n".join(lines) + "\n"
    told = folder / "minimum.txt"
    if told.exists():
        text = told.read_text() + "\n" + text
    (folder / "table.md").write_text(text)
    print(text)
    picture(folder / "networks.svg", records, ceilings)


def picture(path: Path, records: list[dict], ceilings: dict) -> None:
    """Correlation by group size: a column of panels for each strategy, a row for each kind of group."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    strategies = [strategy for strategy in STRATEGIES if any(row["strategy"] == strategy for row in records)]
    kinds = [kind for kind in ("random", "coherent") if any(row["cell"][0] == kind for row in records)]
    settings = sorted({(row["curvature"], row["damping"]) for row in records}, key=lambda s: (s[0], -s[1]))
    figure, axes = plt.subplots(
        len(kinds),
        len(strategies),
        figsize=(3.6 * len(strategies) + 2.2, 2.9 * len(kinds)),
        sharex="row",
        sharey=True,
        squeeze=False,
    )
    for down, kind in enumerate(kinds):
        for along, strategy in enumerate(strategies):
            axis = axes[down][along]
            own = [row for row in records if row["strategy"] == strategy and row["evaluation"] == "linear"]
            for color, setting in enumerate(settings):
                for method in METHODS:
                    points = sorted(
                        (100 * number(row["fraction"]), number(row["pearson"]))
                        for row in own
                        if (row["curvature"], row["damping"]) == setting
                        and row["method"] == method
                        and row["cell"][0] == kind
                    )
                    if points:
                        label = f"{setting[0]} {setting[1]:g}, {method}"
                        x, y = zip(*points, strict=True)
                        axis.plot(x, y, STYLES[method], marker="o", ms=3.5, color=f"C{color}", label=label)
            if strategy == "cold":
                shares = {row["cell"]: 100 * number(row["fraction"]) for row in records}
                bounds = sorted((shares[cell], bound) for cell, bound in ceilings.items() if cell[0] == kind)
                if bounds:
                    axis.plot(*zip(*bounds, strict=True), "_", ms=16, mew=2, color="0.4", label="ceiling")
            axis.grid(axis="y", color="0.9", linewidth=0.8)
            axis.set_title(f"{strategy} retraining, {kind} groups", fontsize=9)
            axis.set_xlabel("rows removed, %", fontsize=8)
            axis.tick_params(labelsize=8)
        axes[down][0].set_ylabel("Pearson correlation", fontsize=8)
    entries = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="center right", fontsize=8, title="curvature, damping, method")
    figure.tight_layout(rect=(0, 0, 1 - 2.1 / figure.get_figwidth(), 1))
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    commands = {"rows": rows, "minimum": minimum, "table": table}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
