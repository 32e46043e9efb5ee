"""Growth with rows: binary logistic regression with 100 features, 1e4 to 1e6 rows; train, factor and 10 groups.

python benchmarks/growth.py
"""

import numpy as np
from harness import Report, options, seconds

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import removal
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

FEATURES, GROUPS = 100, 10


def work(rows: int) -> float:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, FEATURES))
    y = (X @ rng.normal(size=FEATURES) + rng.logistic(size=rows) > 0).astype(np.int64)
    groups = [rng.choice(rows, rows // 10, replace=False) for _ in range(GROUPS)]

    def run():
        objective = Glm(X, y, Logistic(), l2=1e-3)
        theta = train(objective).theta
        solver = make_solver(objective, theta, "cholesky")
        weights = removal(objective.weights, groups, "per-mean")
        estimate(objective, theta, solver, weights, ("first", "second", "newton"))

    return min(seconds(run) for _ in range(3 if rows < 500_000 else 1))


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", default="10000,30000,100000,300000,1000000")
    chosen = parser.parse_args()
    sizes = [int(text) for text in chosen.rows.split(",")]
    times = [work(rows) for rows in sizes]
    slope = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    report = Report("Growth with rows, 100 features, binary", chosen)
    for rows, time in zip(sizes, times, strict=True):
        report.add(f"{rows:,} rows", time, times[0], f"{sizes[0]:,} rows", "-")
    report.add("slope of log time on log rows", slope, slope, "itself", "<= 1.05", unit="")
    report.finish()
