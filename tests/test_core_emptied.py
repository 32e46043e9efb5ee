"""Groups that take a whole class: where their way begins, by dense minimisation along the intercepts, and what it
costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import make_objective, make_oracle
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle
from pass_counter import counted_passes
from scipy.optimize import minimize_scalar

from influence_cli.core.emptied import raised_where_emptied, without_classes
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.recession import FAR_OUT
from influence_cli.core.refined import Goal, refine
from influence_cli.core.removal import removal
from influence_cli.core.retraining import retrain
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.preconditioners import for_columns
from influence_cli.core.training import train


def trained(kind: str, l2: float, penalised: bool) -> tuple[Oracle, np.ndarray, list[np.ndarray]]:
    oracle = replace(make_oracle(kind, m=200, d=5, l2=l2), penalize_intercept=penalised)
    theta = oracle.minimise(oracle.uniform())
    return oracle, theta, [np.flatnonzero(oracle.y == k) for k in range(oracle.classes)]


def ruling_out(kind: str, lost: int, classes: int) -> np.ndarray:
    """Changes of the outputs (K,) that leave nothing to a class."""
    if kind == LOGISTIC:
        return np.array([1.0 - 2.0 * lost])
    return 1.0 / classes - (np.arange(classes) == lost)


@pytest.mark.parametrize("l2", [1e-2, 1e-4])
@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_the_way_begins_where_penalised_intercepts_rest(kind, l2):
    oracle, theta, rows = trained(kind, l2, penalised=True)
    objective = make_objective(oracle)
    w = removal(objective.weights, [*rows, np.arange(10)], "per-mean").removed
    start = without_classes(objective, theta[:, None], w)
    assert (start[:, -1] == theta).all()
    for g, lost in enumerate(rows):
        after = oracle.weights_without(lost, "per-mean")
        along = np.zeros((oracle.outputs, 6))
        along[:, -1] = ruling_out(kind, g, oracle.classes)
        here, least = (
            oracle.value(theta, after),
            minimize_scalar(lambda t, along=along, after=after: oracle.value(theta + t * along.ravel(), after)).fun,
        )
        gone = (start[:, g] - theta) @ along.ravel() / (along**2).sum()
        assert np.allclose(start[:, g], theta + gone * along.ravel(), atol=1e-12)
        assert oracle.value(start[:, g], after) - least <= 0.1 * (here - least)


def test_free_intercepts_begin_far_out():
    oracle, theta, rows = trained(SOFTMAX, 1e-3, penalised=False)
    objective = make_objective(oracle)
    w = removal(objective.weights, rows, "per-mean").removed
    start = without_classes(objective, theta[:, None], w)
    assert np.allclose(start - theta[:, None], FAR_OUT * objective.recession(w))


def test_the_raised_diagonal_knows_what_curvature_a_lost_class_keeps():
    oracle, theta, rows = trained(SOFTMAX, 1e-4, penalised=True)
    objective = make_objective(oracle)
    w = removal(objective.weights, rows, "per-mean").removed
    M = make_solver(objective, theta[:, None], "cholesky").preconditioner
    start = without_classes(objective, theta[:, None], w)
    raised = raised_where_emptied(objective, w, M, start)
    for g, lost in enumerate(rows):
        H = oracle.hessian(start[:, g], oracle.weights_without(lost, "per-mean"))
        bare = np.linalg.eigvals(M(np.eye(18)) @ H).real
        own = np.linalg.eigvals(for_columns(raised, np.full(18, g))(np.eye(18)) @ H).real
        assert bare.min() < 0.01
        assert own.min() > 0.1 and own.max() < 10.0


@pytest.mark.parametrize("l2", [1e-3, 1e-4])
@pytest.mark.parametrize("penalised", [True, False])
def test_whole_classes_take_few_passes(monkeypatch, penalised, l2):
    """With M alone refining takes 17 to 99 a group, retraining 64 to 118; without a penalty on the intercepts others
    hold the figures to a softmax of the classes that are left."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 600)
    X = 0.3 * (1.5 * rng.normal(size=(5, 20)))[y] + rng.normal(size=(600, 20))
    oracle = Oracle(SOFTMAX, X, y, 5, l2, penalize_intercept=penalised)
    objective = make_objective(oracle)
    theta = train(objective, tol=1e-10).theta
    lost = [np.flatnonzero(y == k) for k in range(5)]
    w = removal(objective.weights, lost, "per-mean").removed
    target = RowTarget(objective, Loss(objective.family), X[:8] + 0.1, y[:8])
    base, counts = target.value(theta)[:, 0], np.ones((8, 5), dtype=bool) & (penalised | (y[:8, None] != np.arange(5)))
    M = make_solver(objective, theta, "cholesky").preconditioner
    with counted_passes(monkeypatch, 4) as refining:
        found = refine(objective, theta, w, M, Goal(target, base, 0.01, counts))
    with counted_passes(monkeypatch, 4) as retraining:
        end = retrain(objective, theta, w, preconditioner=M)
    assert refining.passes <= 5 * 14
    assert retraining.passes <= 5 * 30 and end.converged.all()
    for g, rows in enumerate(lost[:2] if penalised else ()):
        least = oracle.minimise(oracle.weights_without(rows, "per-mean"), start=theta[:, 0])
        assert np.allclose(end.theta[:, g], least, rtol=1e-6, atol=1e-6)
        truth = oracle.losses(least, X[:8] + 0.1, y[:8]) - base
        asked = counts[:, g]
        assert found.met[asked, g].all()
        assert (np.abs(found.change[:, g] - truth) <= 0.01 * np.abs(truth) + 1e-9)[asked].all()


@pytest.mark.parametrize("penalised", [True, False])
@pytest.mark.parametrize("kind", [LINEAR, SOFTMAX])
def test_a_feature_that_becomes_a_constant_is_held_by_the_penalty_alone(kind, penalised):
    """Without the rows of one value a column is a multiple of the intercept, of which M knows nothing: what refining
    left behind was taken for a thousandth of what it was."""
    made = replace(make_oracle(kind, m=300, d=4, l2=1e-5), penalize_intercept=penalised)
    made.X[:, 1] = 2.0 + 0.5 * (np.arange(300) % 5 == 0)
    oracle = replace(made, y=made.y + made.X[:, 1] if kind == LINEAR else made.y)
    objective, group = make_objective(oracle), np.flatnonzero(oracle.X[:, 1] == 2.0)
    theta = oracle.minimise(oracle.uniform())
    w = removal(objective.weights, [group, np.arange(9)], "per-mean").removed
    M = make_solver(objective, theta[:, None], "cholesky").preconditioner
    after = oracle.weights_without(group, "per-mean")
    H, P = oracle.hessian(theta, after), len(theta)
    raised = raised_where_emptied(objective, w, M, theta[:, None])
    bare = np.sort(np.abs(np.linalg.eigvals(M(np.eye(P)) @ H)))
    own = np.sort(np.abs(np.linalg.eigvals(for_columns(raised, np.zeros(P, dtype=int))(np.eye(P)) @ H)))
    gauge = 0 if kind == LINEAR or penalised else 1
    assert bare[gauge] < 0.01
    assert own[gauge] > 0.1 and own[-1] < 10.0
    x = oracle.X[:8] + 0.1
    target = RowTarget(objective, Loss(objective.family), x, oracle.y[:8])
    base = target.value(theta[:, None])[:, 0]
    found = refine(objective, theta[:, None], w, M, Goal(target, base, 0.01, np.ones((8, 2), dtype=bool)))
    truth = oracle.losses(oracle.minimise(after), x, oracle.y[:8]) - base
    assert (np.abs(found.change[:, 0] - truth) <= np.maximum(found.error[:, 0], 1e-9)).all()
