"""Solves with few parameters go by the Hessian itself: as right as products over the rows, and without them."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import CASES, make_objective, make_oracle, relative_error

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.rows import design
from influence_cli.core.rows.design import Design
from influence_cli.core.solvers import choice
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_the_product_is_that_of_the_rows(kind, intercept, solver, monkeypatch):
    objective = make_objective(make_oracle(kind, intercept))
    theta = train(objective, tol=1e-12).theta
    rhs = np.random.default_rng(0).normal(size=(objective.size, 5))
    own = make_solver(objective, theta, solver)
    monkeypatch.setattr(choice, "HESSIAN_UP_TO", 0)
    by_rows = make_solver(objective, theta, solver)
    assert relative_error(own.product(rhs), by_rows.product(rhs)) < 1e-13
    found = own.solve(rhs)
    assert found.converged.all()
    assert relative_error(by_rows.product(found.x), rhs) < 1e-9


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_groups_of_few_rows_read_no_others(scaling, monkeypatch):
    # As if Python's part of a group were nothing beside so few rows.
    monkeypatch.setattr(design, "GROUP_OVERHEAD_FLOPS", 0.0)
    rng = np.random.default_rng(1)
    objective = Glm(rng.normal(size=(4000, 5)), (rng.random(4000) > 0.5).astype(int), Logistic(), l2=0.01)
    theta = train(objective).theta
    solver = make_solver(objective, theta, "cholesky")
    methods = ("first-koh", "first", "second", "newton")

    def groups(first):
        return removal(objective.weights, [np.arange(10 * g, 10 * g + 10) for g in range(first, first + 4)], scaling)

    estimate(objective, theta, solver, groups(0), methods)  # makes H and the gradient of all rows
    read = []
    forward = Design.forward

    def watched(self, W, rows):
        read.append(rows.stop - rows.start if isinstance(rows, slice) else len(rows))
        return forward(self, W, rows)

    def refused(self, *arguments):
        raise AssertionError("a pass over all rows")

    monkeypatch.setattr(Design, "forward", watched)
    monkeypatch.setattr(Design, "sweep", refused)
    found = estimate(objective, theta, solver, groups(7), methods)
    assert set(found) == set(methods)
    assert max(read, default=0) <= 10
