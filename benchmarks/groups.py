"""Many groups times many test rows with the factor cached, beside plain conjugate gradients with two-pass products.

    python benchmarks/groups.py --data PATH_TO_MNIST --methods first,second --repeats 1
    python benchmarks/groups.py --data PATH_TO_MNIST --methods newton --repeats 1

The peer solves once for a test row and twice for a group (once for newton), to 1e-6, as the paper describes; it is
timed on a few of each and counted up.
"""

from statistics import median

import numpy as np
from harness import Report, options, problem, seconds

from influence_cli.analysis.influence import influence
from influence_cli.analysis.question import TestRows, ask
from influence_cli.analysis.reliability import Estimation
from influence_cli.core.estimators import removed_gradient
from influence_cli.core.removal import removal
from influence_cli.core.solvers.choice import make_solver
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import TrainedModel, fit
from influence_cli.results import Provenance
from influence_cli.specs.from_python import train_rows
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import plan_groups

RANDOM = ("1.6%", "5%", "10%", "20%", "36%", "50%", "60%")
COHERENT = ("1.6%", "5%", "8%")


def plain_cg(product, b, tol=1e-6):
    """Hestenes and Stiefel's iteration without a preconditioner, one right-hand side; its number of products."""
    x, r = np.zeros_like(b), b.copy()
    d, rho, target = r.copy(), r @ r, tol * np.linalg.norm(b)
    count = 0
    while np.sqrt(rho) > target:
        Hd = product(d)
        count += 1
        step = rho / (d @ Hd)
        x += step * d
        r -= step * Hd
        fresh = r @ r
        d = r + fresh / rho * d
        rho = fresh
    return x, count


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--methods", default="first,second")
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--sample", type=int, default=10, help="solves of each sort that the peer is timed on")
    chosen = parser.parse_args()
    methods = chosen.methods.split(",")
    dataset, objective = problem(chosen)
    report = Report(f"{chosen.groups} groups x {chosen.tests} test rows, {chosen.methods}", chosen)
    settings = ModelSettings("logistic", chosen.l2, "per-mean", True, False, 1e-8)
    model: TrainedModel = fit(dataset, settings)
    solver = make_solver(model.objective, model.theta, "cholesky")
    each = chosen.groups // (len(RANDOM) + len(COHERENT))
    specs = [f"random:{size}x{each}" for size in RANDOM] + [f"coherent:*:{size}x{each}" for size in COHERENT]
    plan = plan_groups([parse_group(s) for s in specs], train_rows(dataset))
    question = ask(model, TestRows(np.arange(chosen.tests)), "loss")

    how = Estimation(methods, "linear")

    def ours():
        influence(question, solver, plan, how, provenance=Provenance("", "", {}))

    spent = median(seconds(ours) for _ in range(chosen.repeats))
    report.memory(dataset.X_train)

    X = np.hstack([dataset.X_train, np.ones((len(dataset.X_train), 1))])
    K, m = model.objective.outputs, len(X)
    p = model.objective.family.curvature_state((X @ model.theta.reshape(K, -1).T).T[None])[0].T
    ridge = np.append(np.full(X.shape[1] - 1, chosen.l2), 0.0)

    def product(w):
        def apply(v):
            e = X @ v.reshape(K, -1).T
            a = p * (e - (p * e).sum(axis=1, keepdims=True))
            return ((X.T @ (w[:, None] * a)).T + ridge * v.reshape(K, -1)).ravel()

        return apply

    picked = np.linspace(0, len(plan) - 1, chosen.sample).astype(int)
    weights = removal(np.full(m, 1 / m), [plan.rows(index) for index in picked], "per-mean")
    right = removed_gradient(model.objective, model.theta, weights)
    uniform = product(np.full(m, 1 / m))

    def peer():
        for g in range(chosen.sample):
            if methods == ["newton"]:
                plain_cg(product(weights.removed[:, g]), right[:, g])
            else:
                for _ in range(3):
                    plain_cg(uniform, right[:, g])

    each = seconds(peer) / (chosen.sample * (1 if methods == ["newton"] else 3))
    if methods == ["newton"]:
        target, solves = ">= 8", len(plan)
    else:
        target, solves = ">= 300, under 40 s", 2 * len(plan) + chosen.tests
    report.add(chosen.methods, spent, each * solves, f"plain CG, from {chosen.sample} of each", target)
    report.finish()
