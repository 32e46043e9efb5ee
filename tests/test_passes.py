"""Cost without a clock: passes over the rows that a group takes, under upper bounds.

A pass is a forward and a backward product of one parameter vector with every row.  The bounds are what the program
needed when they were written and a tenth more: a change that needs more passes has to raise them, and say why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pass_counter import counted_passes

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.removal import Removal, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.problem import Problem
from influence_cli.core.selection.relinearize import relinearize
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.solvers import cholesky
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

ROWS, CLASSES, GROUPS = 3000, 5, 32
SHARES = (0.05, 0.36)


@cache
def problem() -> tuple[Glm, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 20))
    y = (X @ rng.normal(size=(20, CLASSES)) + rng.gumbel(size=(ROWS, CLASSES))).argmax(axis=1)
    objective = Glm(X, y, Softmax(CLASSES), l2=1e-3)
    return objective, train(objective, tol=1e-11).theta


@pytest.fixture(params=(np.float64, np.float32), ids=("float64", "float32"))
def solver(request, monkeypatch):
    """With a factor in that precision."""
    monkeypatch.setattr(cholesky, "DOUBLE_UP_TO", 3000 if request.param == np.float64 else 0)
    made = make_solver(*problem(), "cholesky")
    assert made.factor.lower.dtype == request.param
    made.contraction  # noqa: B018  (measured once a model, by passes that no group takes)
    return made


def groups_of(share: float) -> Removal:
    rng = np.random.default_rng(1)
    rows = [np.sort(rng.choice(ROWS, int(share * ROWS), replace=False)) for _ in range(GROUPS)]
    return removal(problem()[0].weights, rows, "per-mean")


def passes_of(monkeypatch, work: Callable[[], object]) -> float:
    with counted_passes(monkeypatch, CLASSES - 1, ROWS) as counted:
        work()
    return counted.passes


@pytest.mark.parametrize(
    ("methods", "bounds"),
    [
        (("first",), {"float64": (0.6, 0.6), "float32": (0.6, 0.6)}),
        (("first", "second"), {"float64": (1.8, 2.8), "float32": (1.8, 2.8)}),
        (("newton",), {"float64": (1.1, 13.8), "float32": (10.2, 15.5)}),
    ],
    ids=("first", "second", "newton"),
)
def test_estimates(solver, methods, bounds, monkeypatch):
    objective, theta = problem()
    for share, bound in zip(SHARES, bounds[str(solver.factor.lower.dtype)], strict=True):
        groups = groups_of(share)
        found = passes_of(monkeypatch, lambda groups=groups: estimate(objective, theta, solver, groups, methods))
        assert 0.0 < found / GROUPS <= bound, (share, found / GROUPS)


def test_warm_retraining(solver, monkeypatch):
    objective, theta = problem()
    for share, bound in zip(SHARES, (7.2, 10.8), strict=True):
        w = groups_of(share).removed
        work = lambda w=w: retrain(objective, theta, w, preconditioner=solver.preconditioner, tol=1e-8)  # noqa: E731
        found = passes_of(monkeypatch, work)
        assert 0.0 < found / GROUPS <= bound, (share, found / GROUPS)


@pytest.mark.parametrize(("strategy", "bounds"), [(greedy, (13, 16)), (relinearize, (200, 1550))])
def test_selection(strategy, bounds, monkeypatch):
    objective, theta = problem()
    solver = make_solver(objective, theta, "cholesky")
    target = RowTarget(objective, Loss(objective.family), objective.design.X[:1], objective.y[:1])
    whole = Problem(objective, theta, solver, target, 1, "per-mean", np.arange(ROWS))
    for share, bound in zip(SHARES, bounds, strict=True):
        asked = replace(whole, size=int(share * ROWS))
        found = passes_of(monkeypatch, lambda asked=asked: strategy(asked, Expansion(asked)))
        assert 0.0 < found <= bound, (share, found)
