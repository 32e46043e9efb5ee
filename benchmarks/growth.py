"""Growth with rows of what the commands do: binary logistic regression with 50 features; exponents of seconds in rows.

python benchmarks/growth.py
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from harness import Report, options, seconds

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.fused import glm_of
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.removal import removal
from influence_cli.core.removed_hessian import small_groups
from influence_cli.core.retraining import retrain
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train
from influence_cli.data.load import load

FEATURES, GROUPS, FIXED = 50, 16, 10
TARGETS = {
    "load": "<= 1.05",
    "train": "<= 1.05",
    "influence, groups of 10 rows": "<= .1",
    "influence, groups of 1%": "<= 1.05",
    "groundtruth, groups of 1%": "<= 1.05",
    "select, 10 rows": "<= 1.05",
}


def works(rows: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; what a model's file keeps is made before."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, FEATURES))
    y = (X @ rng.normal(size=FEATURES) / 7 + rng.logistic(size=rows) > 0).astype(np.int64)
    path = folder / "rows.npz"
    np.savez(path, X_train=X, y_train=y, X_test=X[:10], y_test=y[:10])
    objective = glm_of(X, y, Logistic(), l2=1e-3)
    theta = train(objective).theta
    objective.summed(theta, hessian=True, kronecker=False)
    solver = make_solver(objective, theta, "cholesky")
    few, many = (
        removal(objective.weights, [rng.choice(rows, size, replace=False) for _ in range(GROUPS)], "per-mean")
        for size in (FIXED, rows // 100)
    )
    target = RowTarget(objective, Loss(objective.family), X[:1], y[:1])
    problem = Problem(objective, theta, solver, target, FIXED, "per-mean", np.arange(rows))
    methods = ("first", "second", "newton")
    near = small_groups(objective, theta, solver, many)
    made: tuple[Callable[[], Any], ...] = (
        lambda: load(str(path), task="classification"),
        lambda: train(glm_of(X, y, Logistic(), l2=1e-3)),
        lambda: estimate(objective, theta, solver, few, methods),
        lambda: estimate(objective, theta, solver, many, methods),
        lambda: retrain(objective, theta, many.removed, preconditioner=solver.preconditioner, nearer=near),
        lambda: greedy(problem, Expansion(problem)),
    )
    return dict(zip(TARGETS, made, strict=True))


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", default="10000,30000,100000,300000,1000000")
    chosen = parser.parse_args()
    sizes = [int(text) for text in chosen.rows.split(",")]
    times: dict[str, list[float]] = {name: [] for name in TARGETS}
    for rows in sizes:
        with TemporaryDirectory() as folder:
            for name, run in works(rows, Path(folder)).items():
                run()  # what is made once a model
                times[name].append(min(seconds(run) for _ in range(chosen.repeats)))
    report = Report(f"Growth from {sizes[0]:,} to {sizes[-1]:,} rows, {FEATURES} features, binary", chosen)
    for name, target in TARGETS.items():
        report.add(f"{name}: {sizes[-1]:,} rows", times[name][-1], times[name][0], f"{sizes[0]:,} rows", "-")
        slope = float(np.polyfit(np.log(sizes), np.log(times[name]), 1)[0])
        report.add(f"{name}: slope of log time on log rows", slope, slope, "itself", target, unit="")
    report.finish()
