"""Certificates against the truth's own certified interval, its dense minimiser, and the exact norms."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from core_cases import INTERCEPTS, KINDS, make_objective, make_oracle
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle

from influence_cli import GroupInfluence
from influence_cli.core.certificate import RowGeometry, certify, no_certificate
from influence_cli.core.intervals import intervals
from influence_cli.core.lost_classes import proven
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import MeanTarget, ParameterTarget, RowTarget, row_quantity
from influence_cli.core.refined import Goal, refine
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

QUANTITIES = {
    LOGISTIC: ("loss", "prob", "margin", "logit:0"),
    SOFTMAX: ("loss", "prob", "margin", "logit:2"),
    LINEAR: ("loss", "prediction"),
    "poisson": ("loss", "prediction"),
}


@cache
def problem(kind: str, intercept: str, l2: float):
    """An objective, its parameters and solver, and test rows."""
    rng = np.random.default_rng(7)
    if kind == "poisson":
        X = rng.normal(size=(120, 4)) * 0.5
        y = rng.poisson(np.exp(X[:, 0] + 0.5)).astype(float)
        own, penalised = INTERCEPTS[intercept]
        objective = Glm(X, y, Poisson(), l2=l2, intercept=own, penalize_intercept=penalised)
    else:
        objective = make_objective(make_oracle(kind, intercept, m=120, d=4, l2=l2))
        y = objective.y
    theta = train(objective, tol=1e-10).theta
    X = rng.normal(size=(5, 4)) * 0.7
    labels = rng.choice(y, 5)
    return objective, theta, make_solver(objective, theta, "cholesky"), X, labels


def groups_of(y: np.ndarray) -> list[np.ndarray]:
    m = len(y)
    order = np.random.default_rng(4).permutation(m)
    return [order[:1], order[: m // 20], order[: m // 5], order[: m // 2], np.argsort(y, kind="stable")[: m // 8]]


def targets(kind: str, objective: Glm, X: np.ndarray, y: np.ndarray):
    names = tuple(str(k) for k in range(objective.family.classes))
    rows = [RowTarget(objective, row_quantity(name, objective.family, names), X, y) for name in QUANTITIES[kind]]
    return [*rows, MeanTarget(rows[0]), ParameterTarget(1), ParameterTarget(objective.size - 1)]


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("l2", [1e-1, 1e-3])
@pytest.mark.parametrize("intercept", INTERCEPTS)
@pytest.mark.parametrize("kind", [*KINDS, "poisson"])
def test_no_interval_contradicts_the_truths_own(kind, intercept, l2, scaling):
    objective, theta, solver, X, y = problem(kind, intercept, l2)
    w = removal(objective.weights, groups_of(objective.y), scaling).removed
    geometry = RowGeometry.of(objective)
    assert no_certificate(objective) == ""
    loss = targets(kind, objective, X, y)[0]
    base = loss.value(theta)[:, 0]
    goal = Goal(loss, base, 0.05, np.ones((len(base), w.groups), dtype=bool))
    end = retrain(objective, theta, w, preconditioner=solver.preconditioner, tol=1e-12).theta
    points = [
        np.repeat(theta, w.groups, axis=1),
        *(refine(objective, theta, w, solver.preconditioner, replace(goal, steps=k)).theta for k in (1, 2, 4)),
        refine(objective, theta, w, solver.preconditioner, goal).theta,
    ]
    truth = certify(objective, end, w, solver.preconditioner, geometry)
    assert np.isfinite(truth.radius).all()
    finite = 0
    for theta_hat in points:
        found = certify(objective, theta_hat, w, solver.preconditioner, geometry)
        # The proven radius holds for the distance to the truth, in the norm of the Hessian at theta_hat.
        away = end - theta_hat
        curved = objective.curvature(theta_hat, w)(away)
        assert (np.sqrt((away * curved).sum(axis=0)) <= found.radius + truth.radius + 1e-12).all()
        for target in targets(kind, objective, X, y):
            before = target.value(theta)[:, 0]
            low, high = intervals(found, target, before)
            true_low, true_high = intervals(truth, target, before)
            value = target.value(end) - before[:, None]
            assert low.shape == high.shape == value.shape
            assert (low <= true_high).all()
            assert (true_low <= high).all()
            assert (true_low <= value).all()
            assert (value <= true_high).all()
            assert (true_high - true_low <= 1e-6 * (1 + np.abs(value))).all()
            finite += np.isfinite(low).sum()
    assert finite > 50


@pytest.mark.parametrize("kind", [*KINDS, "poisson"])
def test_norms_bound_the_exact_ones(kind):
    objective, theta, solver, X, _ = problem(kind, "free", 1e-2)
    w = removal(objective.weights, groups_of(objective.y), "per-mean").removed
    found = certify(objective, np.repeat(theta, w.groups, axis=1), w, solver.preconditioner, RowGeometry.of(objective))
    K, D = objective.outputs, objective.design.columns
    rng = np.random.default_rng(0)
    for g, bound in enumerate(found.bounds):
        lower = np.tril(objective.dense_curvature(theta, w.take(np.array([g])), np.dtype(float)))
        inverse = np.linalg.inv(lower + np.tril(lower, -1).T)
        for _ in range(20):
            b = rng.normal(size=(K, D))
            b[:, -1] -= b[:, -1].mean() if K > 1 else 0.0
            exact = np.sqrt(b.ravel() @ inverse @ b.ravel())
            assert bound.norm(b) >= exact
            c = rng.normal(size=(1, K))
            c -= c.mean() if K > 1 else 0.0
            rows = np.column_stack([X, np.ones(len(X))])
            kron = np.array([np.kron(c[0], row) for row in rows])
            exact = np.sqrt(np.einsum("tp,pq,tq->t", kron, inverse, kron))
            assert (bound.norms(c, X)[:, 0] >= exact).all()
            np.testing.assert_allclose(bound.norms_by_row(np.repeat(c, len(X), 0), X), bound.norms(c, X)[:, 0])


def test_a_linear_model_is_exact():
    """Squared errors: the certificate at a Newton step is as narrow as its residual and rounding."""
    objective, theta, solver, X, y = problem(LINEAR, "free", 1e-3)
    w = removal(objective.weights, groups_of(objective.y), "per-mean").removed
    lower = [np.tril(objective.dense_curvature(theta, w.take(np.array([g])), np.dtype(float))) for g in range(w.groups)]
    gradient = objective.gradient(theta, w)
    steps = [np.linalg.solve(one + np.tril(one, -1).T, gradient[:, g]) for g, one in enumerate(lower)]
    found = certify(objective, theta - np.array(steps).T, w, solver.preconditioner, RowGeometry.of(objective))
    target = targets(LINEAR, objective, X, y)[1]
    low, high = intervals(found, target, target.value(theta)[:, 0])
    assert (high - low <= 1e-7 * np.abs(high).max()).all()


def test_intervals_close_as_fast_as_the_gradient_falls():
    objective, theta, solver, X, y = problem(SOFTMAX, "free", 1e-2)
    w = removal(objective.weights, groups_of(objective.y), "per-mean").removed
    target = targets(SOFTMAX, objective, X, y)[0]
    base = target.value(theta)[:, 0]
    goal = Goal(target, base, 0.05, np.ones((5, w.groups), dtype=bool))
    geometry, widths, lengths = RowGeometry.of(objective), [], []
    for steps in (4, 6, 8):
        theta_hat = refine(objective, theta, w, solver.preconditioner, replace(goal, steps=steps)).theta
        low, high = intervals(certify(objective, theta_hat, w, solver.preconditioner, geometry), target, base)
        widths.append(high - low)
        lengths.append(np.sqrt((objective.gradient(theta_hat, w) ** 2).sum(axis=0)))
    known = np.isfinite(widths[0]) & (widths[2] > 1e-9)  # under that the rounding shows
    assert known.mean() > 0.5
    fell = (widths[2] / widths[0])[known] / np.broadcast_to(lengths[2] / lengths[0], widths[0].shape)[known]
    assert (fell < 20).all()
    assert np.median(widths[2][known]) < 0.02 * np.median(widths[0][known])


def test_where_there_is_no_proof_it_is_said():
    oracle = Oracle(LINEAR, np.ones((9, 1)), np.arange(9.0), 0, 0.0)
    objective = make_objective(oracle)
    assert "train with --l2 greater than 0" in no_certificate(objective)


def test_a_whole_class_is_certified_as_the_softmax_of_the_others():
    oracle = make_oracle(SOFTMAX, m=150, d=4, l2=1e-2)
    objective = make_objective(oracle)
    theta = oracle.minimise(oracle.uniform())[:, None]
    solver = make_solver(objective, theta, "cholesky")
    X = np.random.default_rng(5).normal(size=(6, 4))
    y = np.array([0, 1, 2, 0, 1, 0])
    w = removal(objective.weights, [np.flatnonzero(oracle.y == 2), np.arange(20)], "per-mean").removed
    kept = oracle.y != 2
    two = Oracle(SOFTMAX, oracle.X[kept], oracle.y[kept], 2, oracle.l2)
    after = two.minimise(two.uniform())
    for name in ("loss", "prob", "margin"):
        target = RowTarget(objective, row_quantity(name, objective.family, ("0", "1", "2")), X, y)
        base = target.value(theta)[:, 0]
        goal = Goal(target, base, 1e-4, np.array([[label != 2, True] for label in y]))
        theta_hat = refine(objective, theta, w, solver.preconditioner, goal).theta
        low, high = proven(objective, theta_hat, w, solver.preconditioner, RowGeometry.of(objective), [(target, base)])
        own = y != 2
        truth = two.quantity(name, after, X[own], y[own]) - base[own]
        assert (low[own, 0] <= truth + 1e-10).all()
        assert (truth - 1e-10 <= high[own, 0]).all()
        assert ((high - low)[own, 0] <= 0.02 * np.abs(truth)).all()
        assert np.isinf(low[~own, 0]).all()
        assert np.isfinite(low[:, 1]).all()


def test_the_last_class_is_certain():
    oracle = make_oracle(LOGISTIC, m=60, d=3, l2=1e-2)
    objective = make_objective(oracle)
    theta = oracle.minimise(oracle.uniform())[:, None]
    solver = make_solver(objective, theta, "cholesky")
    X, y = np.zeros((2, 3)), np.array([0, 1])
    w = removal(objective.weights, [np.flatnonzero(oracle.y == 1)], "per-mean").removed
    target = RowTarget(objective, row_quantity("loss", objective.family, ("0", "1")), X, y)
    base = target.value(theta)[:, 0]
    low, high = proven(objective, theta, w, solver.preconditioner, RowGeometry.of(objective), [(target, base)])
    assert low[0, 0] == high[0, 0] == -base[0]
    assert np.isinf(low[1, 0])


@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC])
def test_intervals_have_no_unit(kind):
    """Features and response in other units: the same intervals relative to the effect, to their own rounding."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) + 1
    line = X @ [1, 2, -1, 0.5] + 3 + rng.normal(size=200)
    found = []
    for features, response in ((1.0, 1.0), (1e-9, 1e9), (1e9, 1e-9), (1.0, 1e6)):
        y = line * response if kind == LINEAR else (line > 5).astype(int)
        whole = GroupInfluence.fit(X * features, y, estimator=kind, l2=1e-2 * features**2)
        asked = {"quantity": "prediction"} if kind == LINEAR else {"y_test": [0, 1]}
        rows = whole.influence([np.arange(20)], X[:2] * features, certify=0.01, **asked).records()
        unit = response if kind == LINEAR else 1.0
        found.append([[row[key] / unit for row in rows] for key in ("low", "high")])
    widths = np.diff(found, axis=1)
    assert (widths < 0.01 * np.abs(np.array(found)[:, :1])).all()
    np.testing.assert_allclose(widths, np.broadcast_to(widths[:1], widths.shape), rtol=1e-3)
