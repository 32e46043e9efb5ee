"""Retraining without groups against the dense oracle: large groups, whole classes, and what has no finite optimum."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from core_cases import CASES, make_objective, make_oracle, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle

from influence_cli.core import estimators, recession, retraining, separation
from influence_cli.core.estimators import newton_step, removed_gradient
from influence_cli.core.newton_steps import is_finite
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.optimise import restarts
from influence_cli.core.optimise.anderson import anderson
from influence_cli.core.removal import PENALTY_SCALINGS, PER_MEAN, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

TOL = 1e-10
STATIONARY = 1e-7
"""Relative distance of two points whose gradient norms are both at most TOL."""


@cache
def trained(kind: str, intercept: str = "free") -> tuple[Oracle, np.ndarray]:
    oracle = make_oracle(kind, intercept)
    return oracle, oracle.minimise(oracle.uniform())


def groups_of(oracle: Oracle) -> list[np.ndarray]:
    """One row, a tenth, half, and all but five rows (p > 0.9), every class keeping a row."""
    order = np.random.default_rng(4).permutation(len(oracle.X))
    if oracle.kind != LINEAR:
        first = [np.flatnonzero(oracle.y[order] == k)[0] for k in range(oracle.classes)]
        order = np.append(np.delete(order, first), order[first])
    return [order[:1], order[:6], order[:30], order[:55]]


def without(oracle: Oracle, theta: np.ndarray, groups, scaling=PER_MEAN, *, solver="cholesky", **settings):
    """Retrained by the core: (Minimum, weights)."""
    objective = make_objective(oracle)
    preconditioner = make_solver(objective, theta[:, None], solver).preconditioner
    w = removal(objective.weights, groups, scaling).removed
    return retrain(objective, theta[:, None], w, preconditioner=preconditioner, **{"tol": TOL, **settings}), w


@pytest.mark.parametrize("solver", ["cholesky", "cg", "own"])
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_retraining_ends_where_the_oracle_does(kind, intercept, scaling, solver, monkeypatch):
    if solver == "own":  # every group's own Hessian from the first step on, which small tables get
        solver = "cholesky"
    else:
        monkeypatch.setattr(retraining, "SMALL_TABLE", 0)
    oracle, theta = trained(kind, intercept)
    groups = groups_of(oracle)
    minimum, _ = without(oracle, theta, groups, scaling, solver=solver)
    assert minimum.converged.all()
    for g, group in enumerate(groups):
        w = oracle.weights_without(group, scaling)
        assert relative_error(minimum.theta[:, g], oracle.minimise(w, start=theta)) < STATIONARY
        norm = np.linalg.norm(oracle.gradient(minimum.theta[:, g], w))
        assert norm <= TOL
        assert minimum.grad_norm[g] == pytest.approx(norm, abs=1e-14)


@pytest.mark.parametrize("intercept", ["none", "penalised"])
@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_a_whole_class_has_a_finite_optimum_where_everything_is_penalised(kind, intercept):
    oracle, theta = trained(kind, intercept)
    groups = [np.flatnonzero(oracle.y == k) for k in range(oracle.classes)]
    minimum, w = without(oracle, theta, groups)
    assert minimum.converged.all()
    for g, group in enumerate(groups):
        expected = oracle.minimise(oracle.weights_without(group, PER_MEAN), start=theta)
        assert relative_error(minimum.theta[:, g], expected) < STATIONARY
    assert not make_objective(oracle).recession(w).any()


def test_without_a_class_and_with_a_free_intercept_the_others_are_a_model_of_their_own():
    oracle, theta = trained(SOFTMAX)
    groups = [np.flatnonzero(oracle.y == k) for k in range(3)]
    minimum, _ = without(oracle, theta, groups)
    assert minimum.converged.all()
    for k, group in enumerate(groups):
        rest = np.delete(np.arange(len(oracle.X)), group)
        others = np.delete(np.arange(3), k)
        alone = Oracle(SOFTMAX, oracle.X[rest], np.searchsorted(others, oracle.y[rest]), 2, oracle.l2)
        expected = alone.losses(alone.minimise(alone.uniform()), alone.X, alone.y)
        found = oracle.losses(minimum.theta[:, k], oracle.X[rest], oracle.y[rest])
        assert np.abs(found - expected).max() < 1e-8
        # the class that is gone costs at least 20 nats, a few more runaway steps would cost a few more
        assert oracle.losses(minimum.theta[:, k], oracle.X[group], oracle.y[group]).min() > 20


@pytest.mark.parametrize("gone", [0, 1])
def test_one_class_of_two_alone_is_certain(gone):
    oracle, theta = trained(LOGISTIC)
    group = np.flatnonzero(oracle.y == gone)
    minimum, _ = without(oracle, theta, [group])
    losses = oracle.losses(minimum.theta[:, 0], oracle.X, oracle.y)
    assert minimum.converged[0]
    assert losses[oracle.y != gone].max() < 1e-9
    assert losses[oracle.y == gone].min() > 20


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX, LINEAR])
def test_newton_steps_take_over_where_mixing_has_not_ended(kind, monkeypatch):
    monkeypatch.setattr(retraining, "SMALL_TABLE", 0)
    oracle, theta = trained(kind)
    groups = groups_of(oracle)
    full, _ = without(oracle, theta, groups)
    monkeypatch.setattr(retraining, "MIXING_PASSES", 2)
    cut, _ = without(oracle, theta, groups)
    assert cut.converged.all()
    assert (cut.iterations >= 2).all()
    assert cut.iterations[3] > 2
    assert relative_error(cut.theta, full.theta) < STATIONARY


def test_columns_whose_hessian_is_another_are_led_by_their_own(monkeypatch):
    """All but a few rows of a class at a small lambda: the trained model's curvature is of no use without them."""
    oracle = make_oracle(SOFTMAX, "penalised", m=600, d=40, l2=1e-5)
    objective = make_objective(oracle)
    theta = train(objective, tol=1e-10).theta
    groups = [np.flatnonzero(oracle.y == k)[3:] for k in range(3)]
    w = removal(objective.weights, groups, PER_MEAN).removed
    preconditioner = make_solver(objective, theta, "cholesky").preconditioner
    products = counted(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(retraining, "SERVED", 10_000)
        without_own = retrain(objective, theta, w, preconditioner=preconditioner, tol=1e-9)
    assert without_own.converged.all()
    most = 0.5 * products[0]
    for memory in (restarts.OWN_BYTES, 1.0):  # all columns at a time, and one
        monkeypatch.setattr(restarts, "OWN_BYTES", memory)
        products[0] = 0
        found = retrain(objective, theta, w, preconditioner=preconditioner, tol=1e-9)
        assert found.converged.all()
        assert relative_error(found.theta, without_own.theta) < 1e-4
        assert products[0] < most
        for g, group in enumerate(groups):
            gradient = oracle.gradient(found.theta[:, g], oracle.weights_without(group, PER_MEAN))
            assert np.linalg.norm(gradient) <= 1e-9


def test_a_newton_step_is_solved_by_whichever_curvature_leads_to_it(monkeypatch):
    oracle, theta = trained(SOFTMAX)
    objective = make_objective(oracle)
    groups = groups_of(oracle)
    gone = removal(objective.weights, groups, PER_MEAN)
    solver = make_solver(objective, theta[:, None], "cholesky")
    g = removed_gradient(objective, theta[:, None], gone)
    exact = newton_step(objective, theta[:, None], solver, gone, g)
    monkeypatch.setattr(estimators, "PATIENCE", 2)
    step = newton_step(objective, theta[:, None], solver, gone, g)
    assert exact.converged.all() and step.converged.all()
    assert (step.iterations > 2).any()
    for at, group in enumerate(groups):
        expected = oracle.changes(theta, group, PER_MEAN)["newton"]
        assert relative_error(exact.x[:, at], expected) < STATIONARY
        assert relative_error(step.x[:, at], expected) < STATIONARY


def counted(monkeypatch) -> list[int]:
    """Columns of products so far, of all models."""
    products = [0]
    curvature = Glm.loss_curvature

    def counting(self, theta, w):
        product = curvature(self, theta, w)

        def counted_product(V, columns=None):
            products[0] += V.shape[1]
            return product(V, columns)

        return counted_product

    monkeypatch.setattr(Glm, "loss_curvature", counting)
    return products


def test_mixing_alone_serves_random_groups(monkeypatch):
    monkeypatch.setattr(retraining, "newton_cg", None)
    monkeypatch.setattr(restarts, "CHEAP_FACTOR", 0.0)
    oracle, theta = trained(SOFTMAX)
    minimum, _ = without(oracle, theta, groups_of(oracle)[:3])
    assert minimum.converged.all()
    assert minimum.iterations.max() <= 25


def test_mixing_takes_the_last_step_without_a_pass_to_look_at_it(monkeypatch):
    monkeypatch.setattr(retraining, "SMALL_TABLE", 0)
    monkeypatch.setattr(retraining, "has_cheap_factor", lambda objective: False)
    oracle, theta = trained(SOFTMAX, "penalised")
    tol, groups = 1e-6, [np.arange(start, start + 6) for start in range(0, 54, 6)]
    minimum, _ = without(oracle, theta, groups, tol=tol)
    assert minimum.converged.all()
    unseen = 0
    for g, group in enumerate(groups):
        w = oracle.weights_without(group, PER_MEAN)
        end = oracle.minimise(w, start=theta)
        H = oracle.hessian(end, w)

        def length(step, H=H):
            return np.sqrt(step @ H @ step)

        off, left = end - minimum.theta[:, g], minimum.left[:, g]
        assert length(off) <= 2 * tol * length(end - theta)
        assert length(off) <= 2 * length(left)  # what is said to be left
        gradient = np.linalg.norm(oracle.gradient(minimum.theta[:, g], w))
        unseen += gradient < 0.7 * minimum.grad_norm[g]  # that was seen one step before
    assert unseen >= 5


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_what_rounding_leaves_is_a_minimum_whatever_was_asked_for(kind):
    oracle, theta = trained(kind)
    groups = groups_of(oracle)
    minimum, w = without(oracle, theta, groups, tol=1e-30)
    assert minimum.converged.all()
    for g in range(len(groups)):
        norm = np.linalg.norm(oracle.gradient(minimum.theta[:, g], w.column(g)))
        assert norm < 1e-13
        assert minimum.grad_norm[g] == pytest.approx(norm, abs=1e-14)


def test_one_stalled_column_leaves_the_others_as_they_are():
    """The preconditioner of one column points uphill; its neighbours end where they would alone."""
    oracle, theta = trained(SOFTMAX)
    objective = make_objective(oracle)
    w = removal(objective.weights, groups_of(oracle)[:2], PER_MEAN).removed
    exact = make_solver(objective, theta[:, None], "cholesky").preconditioner
    start = np.column_stack([theta, theta + 1e6])

    def broken(r):
        return np.where(np.abs(r).max(axis=0) > 1.0, np.nan, exact(r))

    found, _ = anderson(objective, theta[:, None], start, w, preconditioner=broken, tol=TOL, max_iterations=100)
    assert list(found.converged) == [True, False]
    alone, _ = without(oracle, theta, groups_of(oracle)[:1])
    assert relative_error(found.theta[:, 0], alone.theta[:, 0]) < STATIONARY
    assert (found.theta[:, 1] == start[:, 1]).all()


def test_neighbours_in_a_block_change_a_column_by_rounding_only():
    oracle, theta = trained(SOFTMAX)
    groups = groups_of(oracle)
    block, _ = without(oracle, theta, groups)
    for g, group in enumerate(groups):
        alone, _ = without(oracle, theta, [group])
        assert relative_error(block.theta[:, g], alone.theta[:, 0]) < STATIONARY
    again, _ = without(oracle, theta, groups)
    assert (again.theta == block.theta).all()


@pytest.mark.parametrize("separable", [False, True])
def test_linear_programs_are_for_groups_that_may_leave_no_minimum(separable, monkeypatch):
    """A group of 40% that takes what opposed a feature moves the minimum far, but there is one: Newton's steps show it.
    Where no row is left that opposes it the feature is open, which a linear program must say."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    rows = np.arange(80)
    rare = np.zeros(200)
    rare[70:90] = 1.0
    y = (X[:, 0] + rng.logistic(size=200) > 0).astype(int)
    y[70:80], y[80:90] = 0, 1
    y[89] = int(separable)
    objective = Glm(np.column_stack([X, rare]), y, Logistic(), l2=0.0, intercept=True)
    theta = train(objective).theta
    w = removal(objective.weights, [rows], PER_MEAN).removed
    assert not is_finite(objective, theta, w)
    programs = []
    monkeypatch.setattr(separation, "_program", lambda rows, run=separation._program: programs.append(1) or run(rows))
    found = recession.recession(objective, theta, w)
    assert (found is not None, bool(programs)) == (separable, separable)
    if found is not None:
        assert found.settled[0].open.shape == (5, 1)
        # what a group keeps is of the rows that are separated alone, not of all
        assert found.settled[0].separation._grows.shape[1] == 10


def test_a_column_that_only_the_group_fills_needs_no_linear_program(monkeypatch):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(200, 3)), np.arange(200) < 20])
    y = (X[:, 0] + rng.logistic(size=200) > 0).astype(int)
    objective = Glm(X, y, Logistic(), l2=0.0, intercept=True)
    monkeypatch.setattr(separation, "_program", None)
    found = recession.recession(
        objective, train(objective).theta, removal(objective.weights, [np.arange(20)], PER_MEAN).removed
    )
    assert found is not None
    along = found.settled[0].open[:, 0]
    assert found.settled[0].converged and along[3] != 0.0 and np.allclose(along[[0, 1, 2, 4]], 0.0)
    # what is left is the model of the other rows and columns
    rest = Glm(X[20:, :3], y[20:], Logistic(), l2=0.0, intercept=True)
    assert np.allclose(found.settled[0].theta[[0, 1, 2, 4]], train(rest).theta, atol=1e-7)


def test_what_takes_too_long_to_decide_is_not_known(monkeypatch):
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0).astype(int)
    y[:6] = 1 - y[:6]
    objective = Glm(X, y, Logistic(), l2=0.0, intercept=True)
    w, theta = removal(objective.weights, [np.arange(6)], PER_MEAN).removed, train(objective).theta
    found = recession.recession(objective, theta, w)
    assert found is not None and found.settled[0].open.shape == (3, 3)
    monkeypatch.setattr(separation, "WORK", 0.0)
    unknown = recession.recession(objective, theta, w)
    assert unknown is not None and not unknown.settled[0].converged and not unknown.settled[0].near
