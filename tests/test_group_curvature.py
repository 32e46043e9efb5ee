"""What groups take of the Hessian by few rows, against dense algebra."""

import numpy as np
import pytest

from influence_cli.core.group_curvature import TrainedHessian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.refined import Goal, refine
from influence_cli.core.removal import PER_MEAN, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.rows.design import Design
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

M, D, L2 = 60, 4, 1e-3
GROUPS = [np.array([3]), np.arange(5, 9), np.arange(0, 58), np.arange(10, 50), np.array([3, 20, 59])]


def model(family, seed=0, l2=L2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(M, D)) * [1.0, 3.0, 0.1, 1.0]
    return Glm(X, rng.integers(0, family.classes, M), family, l2=l2)


def curvature(objective, theta, weights):
    """sum_i w_i hess l_i, (P, P), a row at a time."""
    K = objective.outputs
    rows = np.c_[objective.design.X, np.ones(M)]
    eta = rows @ theta.reshape(K, D + 1).T
    out = np.zeros((K * (D + 1),) * 2)
    for x, scores, weight in zip(rows, eta, weights, strict=True):
        if K == 1:
            p = 1.0 / (1.0 + np.exp(-scores))
            A = (p * (1.0 - p))[:, None]
        else:
            p = np.exp(scores - scores.max())
            p /= p.sum()
            A = np.diag(p) - np.outer(p, p)
        out += weight * np.kron(A, np.outer(x, x))
    return out


@pytest.mark.parametrize("family", [Logistic(), Softmax(3)])
@pytest.mark.parametrize("known", ["factor", "factor of other rows", "nothing"])
def test_products_by_few_rows_are_those_of_dense_matrices(family, known):
    objective = model(family)
    theta = train(objective, tol=1e-10).theta
    w = removal(objective.weights, GROUPS, PER_MEAN).removed
    other = model(family, seed=1) if known == "factor of other rows" else objective
    factor = make_solver(other, theta, "cholesky" if known != "nothing" else "cg").preconditioner
    hessian = TrainedHessian(objective, w, theta, factor)
    assert (hessian.loss_product is not None) == (known == "factor")
    seen = []
    for part in hessian.parts(np.arange(len(GROUPS))):
        at = np.repeat(np.arange(len(part.groups)), 2)
        V = np.random.default_rng(3).normal(size=(objective.size, len(at)))
        taken = part.taken(V, at)
        left = part.left(V, taken, at)
        for column, group in enumerate(part.groups[at]):
            inside = np.isin(np.arange(M), GROUPS[group]) / M
            own = curvature(objective, theta, inside)
            after = curvature(objective, theta, (inside == 0) / (M - len(GROUPS[group]))) + objective.penalty.dense()
            np.testing.assert_allclose(taken[:, column], own @ V[:, column], rtol=1e-7, atol=1e-10)
            np.testing.assert_allclose(left[:, column], after @ V[:, column], rtol=1e-7, atol=1e-10)
            np.testing.assert_allclose(part.dense(int(at[column]), 1000), own, rtol=1e-7, atol=1e-10)
            assert part.dense(int(at[column]), 0) is None
        seen += part.groups.tolist()
    assert sorted(seen) == list(range(len(GROUPS)))


def test_a_look_at_small_groups_reads_few_rows(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6))
    y = (X[:, 0] + rng.normal(size=400) > 0) * 1
    objective = Glm(X, y, Logistic(), l2=1e-2)
    theta = train(objective, tol=1e-10).theta
    M = make_solver(objective, theta, "cholesky").preconditioner
    w = removal(objective.weights, [np.array([g]) for g in range(10)], PER_MEAN).removed
    target = RowTarget(objective, Loss(Logistic()), X[:5], y[:5])
    base = target.value(theta)[:, 0]
    read, sweep = [0.0], Design.sweep

    def counted(self, W, rowwise, count):
        read[0] += self.rows / 400 * count
        return sweep(self, W, rowwise, count)

    monkeypatch.setattr(Design, "sweep", counted)
    goal = Goal(target, base, 0.05, np.ones((5, 10), dtype=bool), steps=2)
    refine(objective, theta, w, M, goal, gradient=objective.gradient(theta, w))
    assert read[0] / 10 <= 3.2  # the gradient, two steps, and a look


@pytest.mark.parametrize("seed", range(4))
def test_all_directions_to_which_the_trained_hessian_is_blind_are_put_right(seed):
    """Levels of several factors at once, beside features of other sizes."""
    rng = np.random.default_rng(seed)
    m, factors = 300, [rng.integers(0, k, 300) for k in (5, 4, 3)]
    dummies = [np.eye(one.max() + 1)[one][:, 1:] for one in factors]
    X = np.hstack([*dummies, rng.normal(size=(m, 3)) * [0.1, 1.0, 10.0]])
    y = rng.integers(0, 4, m)
    objective = Glm(X, y, Softmax(4), l2=1e-5)
    theta = train(objective, tol=1e-11).theta
    M = make_solver(objective, theta, "cholesky").preconditioner
    first = [one == 0 for one in factors]
    groups = [
        np.flatnonzero(first[0] | first[1]),
        np.flatnonzero(first[1] | first[2]),
        np.flatnonzero(first[0] | first[2]),
    ]
    groups += [np.flatnonzero(first[0] | first[1] | first[2]), np.flatnonzero(first[0] | (factors[1] == 1))]
    w = removal(objective.weights, groups, PER_MEAN).removed
    target = RowTarget(objective, Loss(Softmax(4)), X[:20], y[:20])
    base = target.value(theta)[:, 0]
    found = refine(objective, theta, w, M, Goal(target, base, 0.05, np.ones((20, 5), dtype=bool)))
    right = target.value(retrain(objective, theta, w, preconditioner=M, tol=1e-11).theta) - base[:, None]
    assert (np.abs(found.change - right) <= 0.05 * np.abs(right) + 1e-7).all()
