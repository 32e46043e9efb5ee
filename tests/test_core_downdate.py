"""Newton steps by products with the groups' rows alone: the same steps, and hardly a pass."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pass_counter import counted_passes

from influence_cli.core.estimators import newton_step, removed_gradient
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.core.training import train

CLASSES, ROWS, FEATURES = 5, 3000, 40


@cache
def problem():
    """A softmax with enough rows that a group's own are visited alone, its parameters and solver."""
    rng = np.random.default_rng(1)
    centres = 1.5 * rng.normal(size=(CLASSES, FEATURES))
    y = rng.integers(0, CLASSES, ROWS)
    objective = Glm(0.3 * centres[y] + rng.normal(size=(ROWS, FEATURES)), y, Softmax(CLASSES), l2=1e-4)
    theta = train(objective).theta
    return objective, theta, make_solver(objective, theta, "cholesky")


def groups_of(y: np.ndarray) -> list[np.ndarray]:
    """A row, 2% and 5% at random, 5% of one class, and 60%."""
    order = np.random.default_rng(2).permutation(ROWS)
    return [order[:1], order[:60], order[:150], np.flatnonzero(y == 2)[:150], order[:1800]]


def dense_step(objective, theta, w, g) -> np.ndarray:
    """(H - D)^-1 g with the dense Hessian under one group's weights."""
    lower = np.tril(objective.dense_curvature(theta, w, np.dtype(float)))
    hessian = lower + np.tril(lower, -1).T
    return np.linalg.solve(hessian, g)


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_the_step_is_the_dense_one(scaling):
    objective, theta, solver = problem()
    groups = removal(objective.weights, groups_of(objective.y), scaling)
    g = removed_gradient(objective, theta, groups)
    found = newton_step(objective, theta, solver, groups, g)
    assert found.converged.all()
    for column in range(len(groups.share)):
        expected = dense_step(objective, theta, groups.removed.take(np.array([column])), g[:, column])
        assert np.linalg.norm(found.x[:, column] - expected) <= 1e-8 * np.linalg.norm(expected)


def test_five_percent_of_the_rows_take_no_pass_a_group(monkeypatch):
    objective, theta, solver = problem()
    order = np.random.default_rng(3).permutation(ROWS)
    parts = [order[150 * part : 150 * (part + 1)] for part in range(16)]
    groups = removal(objective.weights, parts, "per-mean")
    g = removed_gradient(objective, theta, groups)
    by_products = replace(solver, factor=None)
    with counted_passes(monkeypatch, CLASSES - 1) as light:
        found = newton_step(objective, theta, solver, groups, g)
    with counted_passes(monkeypatch, CLASSES - 1) as full:
        expected = newton_step(objective, theta, by_products, groups, g)
    assert np.linalg.norm(found.x - expected.x) <= 1e-8 * np.linalg.norm(expected.x)
    assert light.passes < 0.7 * len(parts) < 6 * len(parts) < full.passes


def test_a_factor_of_another_hessian_is_noticed():
    objective, theta, solver = problem()
    other = CholeskyFactor(np.asfortranarray(1.01 * solver.factor.lower))
    wrong = replace(solver, factor=other, preconditioner=other)
    groups = removal(objective.weights, groups_of(objective.y)[:3], "per-mean")
    g = removed_gradient(objective, theta, groups)
    found, expected = (newton_step(objective, theta, one, groups, g) for one in (wrong, solver))
    assert found.converged.all()
    assert np.linalg.norm(found.x - expected.x) <= 1e-8 * np.linalg.norm(expected.x)


def test_no_step_where_nothing_pulls():
    objective, theta, solver = problem()
    groups = removal(objective.weights, groups_of(objective.y)[:2], "per-mean")
    found = newton_step(objective, theta, solver, groups, np.zeros((objective.size, 2)))
    assert found.converged.all()
    assert not found.x.any()
