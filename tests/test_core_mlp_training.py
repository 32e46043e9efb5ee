"""Networks trained, retrained and estimated on the solvers and descents that they share with the other models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from core_cases import relative_error
from network_cases import draw, each_curvature, make, short_blocks
from oracle import SOFTMAX

from influence_cli.core.estimators import estimate, removed_gradient
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import GAUSS_NEWTON, Form, Mlp
from influence_cli.core.optimise import restarts
from influence_cli.core.optimise.lbfgs import lbfgs
from influence_cli.core.optimise.minimum import Goal
from influence_cli.core.optimise.newton_cg import newton_cg
from influence_cli.core.optimise.restarts import descend
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.retraining import COLD, PROXIMAL, WARM, retrain, retrain_cold
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.cholesky import factorize
from influence_cli.core.solvers.preconditioners import PerColumn
from influence_cli.core.training import train
from influence_cli.core.weights import as_weights
from influence_cli.errors import NotConvergedError


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    short_blocks(monkeypatch)


@pytest.fixture(scope="module")
def trained():
    """A small network at a stationary point; SIGNAL_NUMBERS has its own value here."""
    objective = make(SOFTMAX, (4,), "tanh", damping=0.05, curvature=GAUSS_NEWTON)
    return objective, train(objective, tol=1e-9, max_iterations=20_000).theta


def groups_of(objective: Mlp, sizes: tuple[int, ...]):
    rng = np.random.default_rng(15)
    rows = [rng.choice(len(objective.y), size, replace=False) for size in sizes]
    return removal(objective.weights, rows, "per-mean")


def test_training_ends_where_the_gradient_does_and_says_so_where_it_cannot(trained):
    objective, theta = trained
    assert np.linalg.norm(objective.gradient(theta, objective.weights)) <= 1e-8
    with pytest.raises(NotConvergedError, match=r"training stopped at gradient norm .* after 5 iterations"):
        train(objective, tol=1e-8, max_iterations=5)


def test_lbfgs_finds_the_minimum_of_a_convex_objective_in_every_column():
    network = make(SOFTMAX, ())
    glm = Glm(network.X, network.y, network.family, l2=network.l2)
    w = groups_of(network, (10, 60, 30)).removed
    start = np.zeros((glm.size, 3))
    own = glm.preconditioner(start[:, :1], glm.weights)
    for preconditioner in (None, own):
        found = lbfgs(glm, start, w, preconditioner=preconditioner, goal=Goal(1e-10, np.ones(3)), max_iterations=500)
        exact = newton_cg(glm, start, w, preconditioner=own, goal=Goal(1e-12, np.ones(3)))
        assert found.converged.all()
        assert relative_error(found.theta, exact.theta) < 1e-7


def test_descent_takes_every_column_to_its_own_minimum_in_legs(monkeypatch):
    monkeypatch.setattr(restarts, "DESCENT", restarts.Method(lbfgs, 4))
    network = make(SOFTMAX, ())
    glm = Glm(network.X, network.y, network.family, l2=network.l2)
    w = groups_of(network, (10, 60, 30)).removed
    start = np.zeros((network.size, 3))
    seen = []
    found = descend(network, start, w, tol=1e-10, max_iterations=500, watch=lambda step, norm: seen.append(step))
    exact = newton_cg(
        glm, start, w, preconditioner=glm.preconditioner(start[:, :1], glm.weights), goal=Goal(1e-12, np.ones(3))
    )
    assert found.converged.all() and relative_error(found.theta, exact.theta) < 1e-7
    assert seen == sorted(set(seen)) and len(seen) == found.iterations.max() > 2 * 4
    short = descend(network, start, w, tol=1e-10, max_iterations=6)
    assert not short.converged.any() and (short.iterations <= 6).all()


def test_lbfgs_asks_for_the_preconditioner_of_the_columns_that_still_move():
    network = make(SOFTMAX, ())
    w = groups_of(network, (10, 60, 30)).removed
    start = np.zeros((network.size, 3))
    ends = newton_cg(network, start, w, preconditioner=lambda r: r, goal=Goal(1e-12, np.ones(3))).theta
    start[:, [0]] = ends[:, [0]]  # has arrived, and is asked about once
    own = PerColumn(tuple(partial(np.multiply, scale) for scale in (2.0, 1.0, 0.5)))
    found = lbfgs(network, start, w, preconditioner=own, goal=Goal(1e-9, np.ones(3)), max_iterations=500)
    assert found.converged.all() and found.iterations[0] <= 1 < found.iterations[1]
    assert relative_error(found.theta, ends) < 1e-6


@pytest.mark.parametrize("strategy", (WARM, COLD, PROXIMAL))
def test_retraining_ends_at_a_stationary_point_of_what_the_strategy_minimises(trained, strategy):
    objective, theta = trained
    w = groups_of(objective, (3, 20)).removed
    minimised = objective.proximal(theta) if strategy == PROXIMAL else objective
    by = retrain_cold if strategy == COLD else retrain
    found = by(minimised, theta, w, preconditioner=factorize(objective, theta), tol=1e-7)
    assert found.converged.all()
    assert np.linalg.norm(minimised.gradient(found.theta, w), axis=0).max() <= 5e-7


def test_cold_retraining_without_a_group_of_no_rows_is_training(trained):
    objective, theta = trained
    w = as_weights(objective.weights)
    found = retrain_cold(objective, theta, w, preconditioner=factorize(objective, theta), tol=1e-8)
    assert relative_error(found.theta, theta) < 1e-5  # the block size of the fixture's sums was another


def test_estimates_are_the_linear_response_of_the_proximal_objective(trained):
    objective, theta = trained
    rows = removal(objective.weights, [np.array([4])], "per-mean")
    # w - 1e-4 delta: of the others 1 + 1e-4 offset times w, of the group's rows 1 - 1e-4 (scale - offset) times w.
    removed = rows.member.scaled(1 + 1e-4 * rows.offset, 1 - 1e-4 * (rows.scale - rows.offset))
    small = replace(rows, removed=removed, scale=1e-4 * rows.scale, offset=1e-4 * rows.offset)
    solver = make_solver(objective, theta, "cholesky")
    factor = factorize(objective, theta)
    moved = retrain(objective.proximal(theta), theta, small.removed, preconditioner=factor, tol=1e-13).theta - theta
    for method, found in estimate(objective, theta, solver, small, ("first", "second", "newton")).items():
        assert relative_error(found.solved(solver).change, moved) < 1e-3, method


@pytest.mark.parametrize("kind", ("cholesky", "cg"))
@each_curvature
def test_both_solvers_and_both_curvatures_solve_the_damped_system(trained, kind, curvature):
    _, theta = trained
    objective = make(SOFTMAX, (4,), "tanh", damping=0.05, curvature=curvature)
    solver = make_solver(objective, theta, kind)
    g = removed_gradient(objective, theta, groups_of(objective, (3, 20)))
    solution = solver.solve(g)
    dense = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    assert solution.converged.all()
    assert relative_error(solution.x, np.linalg.solve(dense, g)) < 1e-7


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@each_curvature
def test_damped_estimates_are_those_of_the_dense_matrices(curvature, scaling):
    """At 20 to 40% of the rows, where a term left out of ``second`` is seen."""
    objective = make(SOFTMAX, (4,), "tanh", l2=0.1, damping=0.05, curvature=curvature)
    theta = train(objective, tol=1e-8).theta
    order = np.random.default_rng(3).permutation(len(objective.y))
    groups = removal(objective.weights, [order[:30], order[30:90]], scaling)
    solver, unit = make_solver(objective, theta, "cholesky"), np.eye(objective.size)
    estimates = estimate(objective, theta, solver, groups, ("second", "newton"))
    H = objective.curvature(theta, objective.weights)(unit)
    of_all = objective.loss_curvature(theta, objective.weights)(unit)
    for g in range(2):
        member = groups.member.take(np.array([g])).column()
        D = groups.scale[g] * objective.loss_curvature(theta, member)(unit) - groups.offset[g] * of_all
        slope = -objective.gradient(theta, groups.removed.take(np.array([g])))[:, 0]
        slope += objective.gradient(theta, objective.weights)[:, 0]
        u = np.linalg.solve(H, slope)
        expected = {"second": u + np.linalg.solve(H, D @ u), "newton": np.linalg.solve(H - D, slope)}
        for method, change in expected.items():
            assert relative_error(estimates[method].solved(solver).change[:, g], change) < 1e-7, method


def test_negative_curvature_is_noticed_and_named():
    objective = make(SOFTMAX, (4, 3), "tanh", l2=1e-6)
    theta = 2.0 * draw(objective, np.random.default_rng(16), 1)
    dense = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    assert np.linalg.eigvalsh(dense).min() < -1e-3
    solver = make_solver(objective, theta, "cg")
    found = estimate(objective, theta, solver, groups_of(objective, (3, 20)), ("second", "newton"))
    for method in found.values():
        assert all("negative curvature met: raise --damping" in problem for problem in method.problems)


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_overflow_is_told_or_survived(size, activation):
    X, y = np.random.default_rng(0).normal(size=(60, 3)) * size, np.arange(60) % 3
    network = Mlp(X, y, Softmax(3), Form((3,), 1e-3, activation))
    with np.errstate(all="ignore"):
        try:
            minimum = train(network, tol=1e-6, max_iterations=50)
        except NotConvergedError as error:
            assert "training stopped at gradient norm" in error.message
        else:  # every unit is saturated, and its weights have no gradient
            gradient = network.gradient(minimum.theta, network.weights)
            assert np.linalg.norm(gradient) <= 1e-6
