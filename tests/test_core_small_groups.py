"""The Hessians after removal of small groups, and what retraining makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import make_objective, make_oracle, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX

from influence_cli.core import small_groups
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.optimise.anderson import anderson
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.small_groups import hessians_after
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train
from influence_cli.core.weights import GroupPenalty, batches

GROUPS = [np.array([3]), np.array([0, 7, 20, 21]), np.arange(40, 46)]
ALIKE = [np.array([0, 7]), np.array([3, 20]), np.arange(40, 42)]


def case(kind, intercept="free"):
    objective = make_objective(make_oracle(kind, intercept))
    theta = train(objective, tol=1e-12).theta
    return objective, theta, make_solver(objective, theta, "cholesky")


@pytest.mark.parametrize("penalty", ["same", "own"])
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("low_rank", [0.0, 9.0])
@pytest.mark.parametrize(
    ("kind", "rows", "together"), [(LINEAR, GROUPS, 1), (LOGISTIC, GROUPS, 30), (LOGISTIC, ALIKE, 99)]
)
@pytest.mark.parametrize("intercept", ["none", "free", "penalised"])
def test_the_inverses_are_those_of_the_hessians_after_removal(
    monkeypatch, kind, intercept, scaling, penalty, rows, together, low_rank
):
    monkeypatch.setattr(small_groups, "BATCH_NUMBERS", together)
    monkeypatch.setattr(small_groups, "LOW_RANK", low_rank)
    objective, theta, solver = case(kind, intercept)
    own = None
    if penalty == "own":
        own = GroupPenalty(np.random.default_rng(0).uniform(0.5, 2.0, size=(objective.size, len(GROUPS))))
    groups = removal(objective.weights, rows, scaling, own)
    found = hessians_after(objective, theta, solver, groups)
    assert found is not None
    r = np.random.default_rng(1).normal(size=(objective.size, len(GROUPS)))
    for g in range(len(GROUPS)):
        one = groups.removed.take(np.array([g]))
        hessian = objective.curvature(theta, one)(np.eye(objective.size))
        assert relative_error(found(r)[:, g], np.linalg.solve(hessian, r[:, g])) < 1e-9
    np.testing.assert_allclose(found.take(np.array([2]))(r[:, 2:])[:, 0], found(r)[:, 2], rtol=1e-12)


def test_other_models_and_groups_have_none(monkeypatch):
    objective, theta, solver = case(LOGISTIC)
    groups = removal(objective.weights, GROUPS, "per-mean")
    half = removal(objective.weights, [np.arange(len(objective.weights) // 2)], "per-mean")
    assert hessians_after(objective, theta, solver, half) is None
    assert hessians_after(objective, theta, make_solver(objective, theta, "cg"), groups) is None
    monkeypatch.setattr(small_groups, "HESSIAN_UP_TO", 1)
    assert hessians_after(objective, theta, solver, groups) is None
    monkeypatch.undo()
    assert hessians_after(*case(SOFTMAX), groups) is None


@pytest.mark.parametrize("low_rank", [0.0, 9.0])
def test_rows_that_alone_determine_a_parameter_leave_it_to_the_other_ways(monkeypatch, low_rank):
    monkeypatch.setattr(small_groups, "LOW_RANK", low_rank)
    X = np.zeros((40, 2))
    X[:, 0] = np.random.default_rng(0).normal(size=40)
    X[5, 1] = 1.0
    objective = Glm(X, X[:, 0] + 0.1, Gaussian(), l2=0.0)
    theta = train(objective).theta
    groups = removal(objective.weights, [np.array([1]), np.array([5])], "per-sum")
    assert hessians_after(objective, theta, make_solver(objective, theta, "cholesky"), groups) is None


def test_retraining_by_them_reads_all_rows_a_few_times_and_ends_at_the_minimum():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(5000, 6))
    y = (X[:, 0] + rng.logistic(size=5000) > 0).astype(int)
    objective = Glm(X, y, Logistic(), l2=1e-3)
    theta = train(objective).theta
    solver = make_solver(objective, theta, "cholesky")
    groups = removal(objective.weights, [np.sort(rng.choice(5000, 50, replace=False)) for _ in range(5)], "per-mean")
    near = hessians_after(objective, theta, solver, groups)
    found = retrain(objective, theta, groups.removed, preconditioner=solver.preconditioner, nearer=near, tol=1e-8)
    assert found.converged.all()
    assert found.iterations.max() <= 4
    for g in range(5):
        own = groups.removed.take(np.array([g]))
        point = found.theta[:, g : g + 1]
        for _ in range(3):  # Newton's method to rounding
            hessian = objective.curvature(point, own)(np.eye(objective.size))
            point = point - np.linalg.solve(hessian, objective.gradient(point, own))
        moved = found.theta[:, g : g + 1] - theta
        left = point - found.theta[:, g : g + 1]
        assert left.T @ hessian @ left <= (1e-8) ** 2 * (moved.T @ hessian @ moved)
        assert left.T @ hessian @ left <= (found.decrement[g] + 1e-15) ** 2


@pytest.mark.parametrize("near", [0.5, 0.02])
def test_a_column_ends_where_the_hessian_at_hand_surely_allows_it(monkeypatch, near):
    monkeypatch.setattr("influence_cli.core.optimise.anderson.NEAR", near)
    objective, theta, solver = case(LOGISTIC)
    groups = removal(objective.weights, GROUPS, "per-mean")
    inverse = hessians_after(objective, theta, solver, groups)
    mixed, goal = anderson(objective, theta, theta, groups.removed, preconditioner=inverse, tol=1e-8, max_iterations=30)
    far = objective.self_concordance(mixed.theta - theta)
    assert (mixed.converged == (far <= near)).all()
    for g in range(len(GROUPS)):
        own = groups.removed.take(np.array([g]))
        point = mixed.theta[:, g : g + 1]
        r, hessian = objective.gradient(point, own), objective.curvature(point, own)(np.eye(objective.size))
        decrement = float(np.sqrt(r.T @ np.linalg.solve(hessian, r))[0, 0])
        assert not mixed.converged[g] or decrement <= min(1e-8 * goal.scale[g], mixed.decrement[g] * np.exp(far[g] / 2))


def test_a_change_of_the_gradient_tells_how_far_outputs_moved():
    objective, theta, _ = case(LOGISTIC)
    w = removal(objective.weights, GROUPS, "per-mean").removed
    V, farthest = np.random.default_rng(0).normal(size=(objective.size, 2)), np.empty(2)
    change = objective.departure(theta, w).change(V, np.array([2, 0]), farthest)
    np.testing.assert_array_equal(change, objective.departure(theta, w).change(V, np.array([2, 0])))
    features = np.hstack([objective.design.X, np.ones((len(objective.y), int(objective.design.intercept)))])
    np.testing.assert_allclose(farthest, np.abs(features @ V).max(axis=0), rtol=1e-12)


def test_groups_in_a_row_go_together_up_to_so_many_rows():
    sizes = np.array([3, 4, 5, 20, 1, 1])
    assert batches(sizes, 8) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 6)]
    assert batches(sizes, 100) == [slice(0, 6)]
    assert batches(sizes, 1) == [slice(g, g + 1) for g in range(4)] + [slice(4, 5), slice(5, 6)]
