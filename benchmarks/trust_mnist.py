"""MNIST, all 60,000 rows: second order, steps of refined and retraining, by error and by processor seconds a group."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import process_time

import numpy as np

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.refined import Goal, first_gradient, refine
from influence_cli.core.removal import PER_MEAN, Removal, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train
from influence_cli.data.load import load

TESTS = 20


def groups_of(y: np.ndarray, count: int) -> dict[str, list[np.ndarray]]:
    rng, m = np.random.default_rng(0), len(y)
    classes = [np.flatnonzero(y == k) for k in range(10)]
    return {
        "random 36%": [np.sort(rng.choice(m, int(0.36 * m), replace=False)) for _ in range(count)],
        "coherent 5%": [np.sort(rng.choice(classes[g % 10], m // 20, replace=False)) for g in range(count)],
        "whole class": classes[: max(2, count // 4)],
    }


def timed(work: Callable[[], np.ndarray], groups: int) -> tuple[np.ndarray, float]:
    """What it gives, and processor seconds a group."""
    begun = process_time()
    found = work()
    return found, (process_time() - begun) / groups


def compare(objective: Glm, theta: np.ndarray, solver, target: RowTarget, groups: Removal) -> dict[str, tuple]:
    """Changes (T, G) and seconds a group of each way."""
    base, G = target.value(theta)[:, 0], groups.removed.groups
    counts = np.ones((TESTS, G), dtype=bool)

    def second() -> np.ndarray:
        found = estimate(objective, theta, solver, groups, ("second",))["second"].solved(solver)
        return target.value(theta + found.change) - base[:, None]

    def refined(rel: float, steps: int | None = None) -> np.ndarray:
        goal = Goal(target, base, rel, counts, steps)
        gradient = first_gradient(objective, theta, groups)
        return refine(objective, theta, groups.removed, solver.preconditioner, goal, gradient=gradient).change

    def retrained() -> np.ndarray:
        end = retrain(objective, theta, groups.removed, preconditioner=solver.preconditioner)
        return target.value(end.theta) - base[:, None]

    return {
        "second": timed(second, G),
        "two steps": timed(lambda: refined(0.05, 2), G),
        "refined 10%": timed(lambda: refined(0.1), G),
        "refined 5%": timed(lambda: refined(0.05), G),
        "refined 1%": timed(lambda: refined(0.01), G),
        "retraining": timed(retrained, G),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="mnist", help="as ginf train --data")
    parser.add_argument("--l2", type=float, default=1e-3)
    parser.add_argument("--groups", type=int, default=16)
    chosen = parser.parse_args()
    data = load(chosen.data, task="classification")
    # The intercepts are penalised, so that the loss stays finite without a class.
    objective = Glm(data.X_train, data.y_train, Softmax(10), l2=chosen.l2, penalize_intercept=True)
    theta = train(objective).theta
    solver = make_solver(objective, theta, "cholesky")
    guess = objective.predict_outputs(theta, data.X_test)[0].argmax(axis=0)
    wrong = np.flatnonzero(guess != data.y_test)[:TESTS]
    target = RowTarget(objective, Loss(Softmax(10)), data.X_test[wrong], data.y_test[wrong])
    print(f"MNIST, {data.rows:,} rows, lambda {chosen.l2:g}: relative error (processor seconds a group)\n")
    print(
        "| groups | "
        + " | ".join(("second", "two steps", "refined 10%", "refined 5%", "refined 1%", "retraining"))
        + " |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, rows in groups_of(data.y_train, chosen.groups).items():
        found = compare(objective, theta, solver, target, removal(objective.weights, rows, PER_MEAN))
        truth = found["retraining"][0]
        cells = [
            f"{np.linalg.norm(change - truth) / np.linalg.norm(truth):.2g} ({spent:.2f})"
            for change, spent in found.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
