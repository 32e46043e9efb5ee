"""Passes in single precision: close to those in double, and never what an answer rests on."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from core_cases import CASES, KINDS, make_objective, make_oracle, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX
from scipy.sparse import csr_array

from influence_cli.core import retraining
from influence_cli.core.estimators import newton_step, removed_gradient
from influence_cli.core.objectives import glm
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.optimise.anderson import anderson
from influence_cli.core.removal import PER_MEAN, PER_SUM, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.rows.design import Design
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.training import train
from influence_cli.core.weights import Weights

ROUGH = 1e-5
"""Relative error of sums in single precision."""


@pytest.fixture(autouse=True)
def single_everywhere(monkeypatch):
    """Of families whose derivatives are not faster in float32 too, and of small tables, which are retrained without it:
    what is checked does not depend on either."""
    monkeypatch.setattr(retraining, "SMALL_TABLE", 0.0)
    monkeypatch.setattr(glm, "SINGLE_FROM_FLOPS", 0.0)
    for one in (Logistic, Gaussian):
        monkeypatch.setattr(one, "single_precision", True)


class Lying(Glm):
    """Its single precision is of another scale altogether."""

    def single(self, columns):
        twin = copy(self)
        twin.__class__ = _Lie
        return twin

    def departure(self, theta, w):
        true = super().departure(theta, w)
        lie = lambda V, columns=None: 1.02 * true.change(V, columns) + 0.01 * np.roll(V, 1, axis=0)  # noqa: E731
        return replace(true, rough=lie)


class _Lie(Glm):
    def gradient(self, theta, w):
        return 1e-12 * super().gradient(theta, w)

    def curvature(self, theta, w):
        product = super().curvature(theta, w)
        return lambda V, columns=None: 7.0 * product(V, columns) + 0.3 * np.roll(V, 1, axis=0)


def lying(objective: Glm) -> Glm:
    out = copy(objective)
    out.__class__ = Lying
    return out


def groups_of(objective: Glm, sizes=(1, 6, 20, 30)) -> list[np.ndarray]:
    order = np.random.default_rng(4).permutation(len(objective.y))
    return [order[:size] for size in sizes]


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_gradients_and_products_are_those_of_double_precision_rounded(kind, intercept):
    objective = make_objective(make_oracle(kind, intercept))
    rng = np.random.default_rng(1)
    theta, V = rng.normal(size=(2, objective.size, 4))
    w = removal(objective.weights, groups_of(objective), PER_MEAN).removed
    single = objective.single(4)
    assert single is not objective and single.single(4) is single
    columns = np.array([2, 0])
    for found, expected in (
        (single.gradient(theta, w), objective.gradient(theta, w)),
        (single.gradient(theta[:, :1], w), objective.gradient(theta[:, :1], w)),
        (single.curvature(theta, w)(V), objective.curvature(theta, w)(V)),
        (single.curvature(theta, w)(V[:, :2], columns), objective.curvature(theta, w)(V[:, :2], columns)),
        (single.curvature(theta, objective.weights)(V), objective.curvature(theta, objective.weights)(V)),
    ):
        assert found.dtype == np.float64
        assert 0 < relative_error(found, expected) < ROUGH


def test_what_float32_does_not_hold_or_speed_up_stays_in_double_precision(monkeypatch):
    objective = make_objective(make_oracle(SOFTMAX))
    X, y = objective.design.X, objective.y
    counts = Glm(X, y.astype(float), Poisson(), l2=0.1)
    few = np.where(np.random.default_rng(0).random(X.shape) < 0.05, X, 0.0)
    sparse = Glm(csr_array(few), y, objective.family, l2=0.1)
    huge = Glm(X * 1e13, y, objective.family, l2=0.1)
    for one in (counts, sparse, huge):
        assert one.single(4) is one
    monkeypatch.undo()
    for kind in (SOFTMAX, LOGISTIC, LINEAR):
        small = make_objective(make_oracle(kind))
        assert small.single(4) is small
    monkeypatch.setattr(glm, "SINGLE_FROM_FLOPS", 0.0)
    assert [make_objective(make_oracle(kind)).single(4).design.dtype for kind in (SOFTMAX, LOGISTIC, LINEAR)] == [
        np.float32, np.float64, np.float64]  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, 1e-2])
@pytest.mark.parametrize("lie", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_solutions_are_those_of_the_dense_hessian(kind, lie, scale):
    """With columns of sizes 1 and 1e-2 its condition of 1e7 is past what single precision carries."""
    oracle = make_oracle(kind, "penalised", l2=1e-3)
    oracle = type(oracle)(**{**vars(oracle), "X": oracle.X * [1.0, scale, 1.0], "l2": 1e-3 * scale**2})
    objective = lying(make_objective(oracle)) if lie else make_objective(oracle)
    rng = np.random.default_rng(2)
    theta, rhs = rng.normal(size=(objective.size, 1)), rng.normal(size=(objective.size, 5))
    rhs[:, 3] = 0.0
    solution = refined_conjugate_gradient(
        HessianAt(objective, theta, objective.weights), rhs, preconditioner=lambda r: np.array(r), tol=1e-10
    )
    H = oracle.hessian(theta[:, 0], oracle.uniform())
    assert solution.converged.all() and not solution.indefinite.any()
    unit = objective.units[:, None]
    left, length = (np.linalg.norm(part / unit, axis=0) for part in (rhs - H @ solution.x, rhs))
    residual = left / np.maximum(length, 1e-300)
    rounding = 1e-15 * np.linalg.norm(H / unit / unit.T, 2) * np.linalg.norm(solution.x * unit, axis=0).max()
    assert (residual <= 1e-10 + rounding).all()
    np.testing.assert_allclose(solution.residual, residual, atol=1e-11 + rounding)
    assert (solution.x[:, 3] == 0).all() and solution.iterations[3] == 0


@pytest.mark.parametrize("lie", [False, True])
def test_a_solution_that_is_begun_ends_where_it_would_from_zero(lie):
    objective = make_objective(make_oracle(SOFTMAX))
    objective = lying(objective) if lie else objective
    rng = np.random.default_rng(3)
    theta, rhs = rng.normal(size=(objective.size, 1)), rng.normal(size=(objective.size, 3))
    options = {"preconditioner": lambda r: np.array(r), "tol": 1e-10}
    whole = refined_conjugate_gradient(HessianAt(objective, theta, objective.weights), rhs, **options)
    near = whole.x * [1.0, 1.0 + 1e-6, 0.0]
    again = refined_conjugate_gradient(HessianAt(objective, theta, objective.weights), rhs, start=near, **options)
    assert again.converged.all() and again.iterations[0] == 0 < again.iterations[1]
    assert relative_error(again.x, whole.x) < 1e-8


FAMILIES = (Logistic(), Softmax(4), Gaussian(), Poisson(), Signed(3))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("size", [1e-9, 1e-3, 0.3, 5.0])
def test_changes_of_residuals_are_as_precise_as_the_move(family, size):
    rng = np.random.default_rng(3)
    # In extended precision the difference of two residuals keeps the digits of a small move.
    eta = rng.normal(size=(1, family.outputs, 400)) * np.linspace(0.1, 9.0, 400)
    a = (size * rng.normal(size=(3, family.outputs, 400))).astype(np.float32).astype(float)
    if family.shift_invariant:
        a[:, -1] = 0.0
    free = slice(family.outputs - family.shift_invariant)

    def residual(outputs):
        outputs = outputs.astype(np.longdouble)
        if isinstance(family, Softmax):
            e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        return {Logistic: lambda x: 1 / (1 + np.exp(-x)), Poisson: np.exp}.get(type(family), lambda x: x)(outputs)

    expected = (residual(eta + a.astype(np.longdouble)) - residual(eta)).astype(float)[:, free]
    if isinstance(family, Poisson):
        expected *= np.isfinite(expected)
    # Far out the softmax keeps half of its digits, and says NaN where it would lose more.
    double = 1e-8 if size > 1.0 else 1e-12 + 1e-17 / size
    for dtype, rounding in ((np.float64, double), (np.float32, 1e-3 if size > 1.0 else 2e-5)):
        found = family.residual_change(eta, a.astype(dtype)[:, free])
        assert found.dtype == dtype
        told = np.isfinite(found)
        assert told.mean() > 0.9
        assert np.abs(found - expected)[told].max() <= rounding * np.abs(expected).max()


@pytest.mark.parametrize(("kind", "intercept"), CASES)
@pytest.mark.parametrize("sparse", [False, True])
def test_changes_of_gradients_are_differences_of_gradients(kind, intercept, sparse):
    oracle = make_oracle(kind, intercept)
    objective = make_objective(replace(oracle, X=csr_array(oracle.X)) if sparse else oracle)
    rng = np.random.default_rng(1)
    theta, V = rng.normal(size=(objective.size, 1)), rng.normal(size=(objective.size, 4))
    for w in (
        removal(objective.weights, groups_of(objective), PER_MEAN).removed,
        removal(objective.weights, groups_of(objective), PER_SUM).removed,
        Weights(objective.weights, tuple(np.sort(g) for g in groups_of(objective)), np.full(4, 1.2), np.full(4, 0.3)),
        removal(objective.weights, groups_of(objective)[2:3], PER_MEAN).removed,
    ):
        begun = objective.departure(theta, w)
        assert sparse or (begun.rough is not None) == (w.groups == 4)
        assert relative_error(begun.gradient, objective.gradient(theta, w)) < 1e-12
        np.testing.assert_allclose(begun.value, objective.value(theta, w), rtol=1e-12)
        for columns in (None, np.array([2, 0])):
            own = np.arange(4) if columns is None else columns
            expected = objective.gradient(theta + V[:, own], w.take(own)) - objective.gradient(theta, w.take(own))
            assert relative_error(begun.change(V[:, own], columns), expected) < 1e-12
            assert begun.rough is None or relative_error(begun.rough(V[:, own], columns), expected) < ROUGH


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_too_far_to_be_told_is_a_difference_of_gradients(kind):
    objective = make_objective(make_oracle(kind))
    w = removal(objective.weights, groups_of(objective), PER_MEAN).removed
    theta = np.zeros((objective.size, 1))
    V = np.random.default_rng(2).normal(size=(objective.size, 4)) * [1.0, 500.0, 1e-3, 1e4]
    expected = objective.gradient(theta + V, w) - objective.gradient(theta, w)
    for change in (objective.departure(theta, w).change, objective.departure(theta, w).rough):
        found = change(V)
        assert np.isfinite(found).all()
        for g in range(4):
            assert relative_error(found[:, g], expected[:, g]) < ROUGH


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_training_newton_and_retraining_end_where_the_oracle_does(kind, intercept):
    oracle = make_oracle(kind, intercept)
    objective = make_objective(oracle)
    trained = train(objective, tol=1e-11)
    theta = oracle.minimise(oracle.uniform())
    assert relative_error(trained.theta[:, 0], theta) < 1e-7
    groups = groups_of(objective)
    solver = make_solver(objective, trained.theta, "cholesky")
    gone = removal(objective.weights, groups, PER_MEAN)
    step = newton_step(objective, trained.theta, solver, gone, removed_gradient(objective, trained.theta, gone))
    minimum = retrain(objective, trained.theta, gone.removed, preconditioner=solver.preconditioner, tol=1e-10)
    assert step.converged.all() and minimum.converged.all()
    for g, group in enumerate(groups):
        w = oracle.weights_without(group, PER_MEAN)
        assert relative_error(step.x[:, g], oracle.changes(theta, group, PER_MEAN)["newton"]) < 1e-7
        assert relative_error(minimum.theta[:, g], oracle.minimise(w, start=theta)) < 1e-6
        assert minimum.grad_norm[g] == pytest.approx(np.linalg.norm(oracle.gradient(minimum.theta[:, g], w)), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_group_counts_as_retrained_by_a_rough_gradient(kind):
    oracle = make_oracle(kind)
    objective = lying(make_objective(oracle))
    theta = oracle.minimise(oracle.uniform())[:, None]
    w = removal(objective.weights, groups_of(objective), PER_MEAN).removed
    preconditioner = make_solver(objective, theta, "cholesky").preconditioner
    for passes in (1, 30):
        mixed, goal = anderson(
            objective, theta, theta, w, preconditioner=preconditioner, tol=1e-9, max_iterations=passes
        )
        for g in np.flatnonzero(mixed.converged):
            r = oracle.gradient(mixed.theta[:, g], w.column(g))
            decrement = np.sqrt(r @ np.linalg.pinv(oracle.hessian(mixed.theta[:, g], w.column(g)), rcond=1e-10) @ r)
            assert decrement <= 1e-7 * goal.scale[g]
        assert mixed.converged.all() == (passes == 30)


def test_one_group_that_starts_elsewhere_is_told_so_from_its_first_step():
    objective = make_objective(make_oracle(LOGISTIC))
    theta = train(objective, tol=1e-11).theta
    start = theta + np.array([[0.3], [-0.2], [0.5], [0.1]])
    options = {
        "preconditioner": make_solver(objective, theta, "cholesky").preconditioner,
        "tol": 1e-9,
        "max_iterations": 30,
    }
    groups = groups_of(objective)[1:2]
    alone, goal = anderson(objective, theta, start, removal(objective.weights, groups, PER_MEAN).removed, **options)
    twice = removal(objective.weights, groups * 2, PER_MEAN).removed
    block, of_block = anderson(objective, theta, np.repeat(start, 2, axis=1), twice, **options)
    assert goal.scale[0] == pytest.approx(of_block.scale[0], rel=1e-6)
    assert relative_error(alone.theta[:, 0], block.theta[:, 0]) < 1e-7


def test_most_passes_are_in_single_precision(monkeypatch):
    objective = make_objective(make_oracle(SOFTMAX, "penalised", m=400, l2=0.05))
    theta = train(objective, tol=1e-11).theta
    gone = removal(objective.weights, groups_of(objective, (210, 220, 230, 240)), PER_MEAN)
    solver = make_solver(objective, theta, "cholesky")
    passes = {np.dtype(np.float32): 0, np.dtype(np.float64): 0}
    sweep = Design.sweep

    def counted(self, W, rowwise, outputs):
        passes[self.dtype] += 1
        return sweep(self, W, rowwise, outputs)

    monkeypatch.setattr(Design, "sweep", counted)
    for work in (
        lambda: retrain(objective, theta, gone.removed, preconditioner=solver.preconditioner, tol=1e-9),
        lambda: train(objective, tol=1e-9),
    ):
        passes.update(dict.fromkeys(passes, 0))
        assert work().converged.all()
        assert passes[np.dtype(np.float32)] > 0.8 * passes[np.dtype(np.float64)] > 0


def test_blocks_that_depart_from_one_point_compute_its_outputs_once(monkeypatch):
    oracle = make_oracle(SOFTMAX, m=400)
    objective = make_objective(oracle)
    theta = train(objective, tol=1e-11).theta
    gone = removal(objective.weights, groups_of(objective, (210, 220, 230, 240)), PER_MEAN)
    first = objective.departure(theta, gone.removed.take(np.array([0, 1])))
    assert first.gradient.shape == (objective.size, 2)
    calls = []
    forward = Design.forward
    monkeypatch.setattr(Design, "forward", lambda self, W, rows: calls.append(rows) or forward(self, W, rows))
    block = objective.departure(theta, gone.removed.take(np.array([2, 3])))
    assert not calls
    for column, g in enumerate((2, 3)):
        w = gone.removed.column(g)
        assert relative_error(block.gradient[:, column], oracle.gradient(theta[:, 0], w)) < 1e-9
        assert block.value[column] == pytest.approx(oracle.value(theta[:, 0], w), rel=1e-12)
    elsewhere = 1.1 * theta
    other = objective.departure(elsewhere, gone.removed.take(np.array([0, 1])))
    assert calls
    assert other.value[0] == pytest.approx(oracle.value(elsewhere[:, 0], gone.removed.column(0)), rel=1e-12)
