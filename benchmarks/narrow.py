"""Retraining of narrow tables without 1% of the rows, beside scikit-learn's newton-cholesky from the trained model.

python benchmarks/narrow.py

Processor seconds of one thread, a group.  The peer starts from the trained coefficients and takes the two or three
steps that it needs to a gradient norm of its tol; ours ends at a relative Newton decrement of 1e-8.
"""

from time import process_time

import numpy as np
from harness import Report, options
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth
from influence_cli.analysis.question import TestRows, ask
from influence_cli.core.removal import PER_MEAN
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.dataset import Dataset
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import fit
from influence_cli.results import Provenance
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import TrainRows, plan_groups

PEER_TOL = 1e-6


def synthetic(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, features))
    return X, (X @ rng.normal(size=features) + rng.logistic(size=rows) > 0).astype(np.int64)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y.astype(np.int64)


def measure(X, y, spec: str, count: int, peers: int, repeats: int, l2: float) -> tuple[float, float, float, float]:
    """Ours and the peer's seconds a group, and the largest relative difference of the parameters."""
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    dataset = Dataset("narrow", X, y, X[:10], y[:10], names, ("0", "1"))
    model = fit(dataset, ModelSettings("logistic", l2, PER_MEAN, True, False, 1e-8))
    solver = make_solver(model.objective, model.theta, "cholesky")
    solver.product(np.ones((solver.size, 1)))  # H, once a model
    question = ask(model, TestRows(np.arange(10)), "loss")
    plan = plan_groups([parse_group(f"{spec}x{count}")], TrainRows(X, y, tuple(dataset.classes)))
    begun = start_truth(question, plan, Provenance("", "", {}))
    ours, theirs, off = [], [], 0.0

    def refit(rows):
        kept = np.delete(np.arange(len(X)), rows)
        peer = LogisticRegression(
            C=1 / (l2 * len(kept)), tol=PEER_TOL, solver="newton-cholesky", max_iter=100, warm_start=True
        )
        peer.classes_ = np.array([0, 1])
        peer.coef_, peer.intercept_ = model.theta[None, :-1, 0].copy(), model.theta[-1].copy()
        Xk, yk = X[kept], y[kept]
        start = process_time()
        peer.fit(Xk, yk)
        return process_time() - start, peer

    for _ in range(repeats):
        start = process_time()
        found = groundtruth(question, solver, plan, begun, Retraining(1e-8))
        ours.append((process_time() - start) / count)
        assert set(found.status) == {"ok"}
        for g in range(peers):
            seconds, peer = refit(plan.rows(g))
            theirs.append(seconds)
            eta = X[:10] @ peer.coef_[0] + peer.intercept_
            change = np.logaddexp(0, (1 - 2 * y[:10]) * eta) - begun.base
            off = max(off, float(np.abs(change - found.actual[g]).max()))
    steps = float(np.mean(found.iterations))
    return float(np.median(ours)), float(np.median(theirs)), off, steps


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--peers", type=int, default=3, help="groups that scikit-learn refits, each time")
    chosen = parser.parse_args()
    report = Report("Retraining of narrow tables, a group, one thread", chosen)
    cases = (
        ("breast cancer, 569 x 30, without 6 rows", breast_cancer(), "random:6", 1000, 30),
        ("20,000 x 20, without 1%", synthetic(20_000, 20), "random:1%", 128, 15),
        ("20,000 x 20, without 10%", synthetic(20_000, 20), "random:10%", 64, 15),
        ("100,000 x 50, without 1%", synthetic(100_000, 50), "random:1%", 64, 30),
        ("100,000 x 50, without 10%", synthetic(100_000, 50), "random:10%", 64, 15),
    )
    with threadpool_limits(1):
        for what, (X, y), spec, count, target in cases:
            ours, theirs, off, steps = measure(X, y, spec, count, chosen.peers, chosen.repeats, chosen.l2)
            what += f" (changes agree to {off:.0e}; {steps:.1f} iterations)"
            report.add(what, ours, theirs, "newton-cholesky warm", f">= {target}", off=off)
            print(f"{what}: {ours * 1e3:.3g} ms, {theirs * 1e3:.3g} ms, {theirs / ours:.3g}", flush=True)
    report.finish()
