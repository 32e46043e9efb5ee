"""Retraining without groups, many at a time, beside scikit-learn's lbfgs refits without the same groups, cold and warm.

    python benchmarks/retraining.py                          digits, in seconds
    python benchmarks/retraining.py --data PATH_TO_MNIST --groups 26 --peers 2

Both gradient norms are those of our objective without the group; ours must be the lower one.  The peer takes long: it
is timed on the first few groups of each kind (--peers), cold from zero and warm from the trained coefficients.
"""

import os
import warnings
from functools import partial
from time import perf_counter

import numpy as np
from harness import Report, options, problem, seconds
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth, truth_blocks
from influence_cli.analysis.question import TestRows, ask
from influence_cli.core.removal import PER_MEAN, removal
from influence_cli.core.solvers.choice import make_solver
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import fit
from influence_cli.results import Provenance
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import TrainRows, plan_groups


def refit(X, y, C, tol, theta=None):
    """scikit-learn's model; ``theta`` (P, 1), class-major, is where it starts."""
    model = LogisticRegression(C=C, tol=tol, solver="lbfgs", max_iter=100_000, warm_start=theta is not None)
    if theta is not None:
        stack = theta.reshape(-1, X.shape[1] + 1)
        model.classes_, model.coef_, model.intercept_ = np.unique(y), stack[:, :-1].copy(), stack[:, -1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def parameters(model):
    return np.column_stack([model.coef_, model.intercept_]).ravel()[:, None]


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--specs", nargs="+", default=["random:10%", "random:36%", "random:60%", "coherent:*:5%"])
    parser.add_argument("--groups", type=int, default=13, help="groups of each spec")
    parser.add_argument("--peers", type=int, default=1, help="groups of each spec that scikit-learn refits")
    parser.add_argument("--tol", type=float, default=1e-8, help="our gradient norm")
    parser.add_argument("--peer-tol", type=float, default=1e-5, help="scikit-learn's tol")
    chosen = parser.parse_args()
    dataset, objective = problem(chosen)
    X, y = dataset.X_train, dataset.y_train
    settings = ModelSettings("logistic", chosen.l2, PER_MEAN, True, False, 1e-8)
    model = fit(dataset, settings)
    solver = make_solver(model.objective, model.theta, "cholesky")
    question = ask(model, TestRows(np.arange(min(20, len(dataset.X_test)))), "loss")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    report = Report(f"retraining without groups, {chosen.groups} of each kind", chosen)

    measured = {}
    for spec in chosen.specs:
        plan = plan_groups([parse_group(f"{spec}x{chosen.groups}")], TrainRows(X, y, tuple(dataset.classes)))
        begun = start_truth(question, plan, Provenance("", "", {}))
        jobs = min(threads, len(truth_blocks(model, len(plan))))
        kept = [begun]
        with threadpool_limits(threads // jobs):
            work = partial(
                groundtruth,
                question,
                solver.preconditioner,
                plan,
                begun,
                Retraining(chosen.tol, jobs=jobs),
                keep=kept.append,
            )
            spent = seconds(work) / len(plan)
        measured[spec] = plan, kept[-1], spent
    report.memory(X)

    for spec, (plan, truth, spent) in measured.items():
        times, norms = {"cold": [], "warm": []}, []
        for number in range(chosen.peers):
            rows = plan.rows(number)
            w = removal(objective.weights, [rows], PER_MEAN).removed
            kept_rows = np.delete(np.arange(len(X)), rows)
            left, labels, C = X[kept_rows], y[kept_rows], 1 / (chosen.l2 * len(kept_rows))
            for name, start in (("cold", None), ("warm", model.theta)):
                began = perf_counter()
                peer_model = refit(left, labels, C, chosen.peer_tol, start)
                times[name].append(perf_counter() - began)
                norms.append(float(np.linalg.norm(objective.gradient(parameters(peer_model), w))))
        ours = float(np.max(truth.grad_norm))
        assert ours <= min(norms), f"{spec}: our gradient norm {ours:.1e} is above scikit-learn's {min(norms):.1e}"
        beside = f"gradient norms up to {ours:.0e} and {max(norms):.0e}"
        for name, target in (("cold", ">= 60"), ("warm", ">= 30")):
            peer = float(np.mean(times[name]))
            more = {"grad_norm": ours, "peer_grad_norms": norms}
            report.add(f"{spec}, a group", spent, peer, f"lbfgs {name} ({beside})", target, **more)
    report.finish()
