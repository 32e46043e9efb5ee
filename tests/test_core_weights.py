"""Weights as a value, and penalties that differ from group to group, against dense arrays and refits."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import CASES, ROUNDING, dense_weights, make_objective, make_oracle, relative_error
from network_cases import make
from oracle import LINEAR, LOGISTIC, SOFTMAX, central_difference

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train
from influence_cli.core.weights import (
    TOGETHER,
    GroupPenalty,
    Weights,
    as_weights,
    members,
    relaxed_members,
    together,
)
from influence_cli.memory import limited

ROWS = [np.array([1, 4, 17]), np.array([], dtype=np.int64), np.arange(20, 60)]
REFIT = 1e-7
"""Relative error beside a refit, which was trained to a gradient of 1e-12."""


def some_weights(rng: np.random.Generator) -> tuple[Weights, np.ndarray]:
    """Weights of three groups in general position and the same as an array, (60, 3)."""
    base, shares = rng.dirichlet(np.ones(60)), tuple(rng.normal(size=len(rows)) for rows in ROWS)
    kept, taken = np.array([1.2, 0.0, 0.7]), np.array([0.0, 1.0, -0.3])
    dense = np.empty((60, 3))
    for g, (rows, share) in enumerate(zip(ROWS, shares, strict=True)):
        s = np.zeros(60)
        s[rows] = share
        dense[:, g] = base * (kept[g] * (1 - s) + taken[g] * s)
    return Weights(base, tuple(ROWS), kept, taken, shares), dense


@pytest.mark.parametrize("rows", [1 << 20, 5])
def test_any_part_of_the_weights_is_that_of_the_formula(rows, monkeypatch):
    monkeypatch.setattr("influence_cli.core.weights.TOGETHER", rows)
    w, dense = some_weights(np.random.default_rng(0))
    assert relative_error(dense_weights(w), dense) < ROUNDING
    assert relative_error(w.block(slice(15, 31)), dense[15:31].T) < ROUNDING
    assert relative_error(w.take(np.array([2, 0])).block(slice(0, 25)), dense[:25, [2, 0]].T) < ROUNDING
    assert relative_error(w.inside(2), dense[20:60, 2]) < ROUNDING
    both = w.joined(members(w.base, ROWS[:1]))
    assert relative_error(dense_weights(both)[:, :3], dense) < ROUNDING
    assert relative_error(both.column(3)[ROWS[0]], w.base[ROWS[0]]) < ROUNDING
    plain = members(w.base, ROWS).scaled(np.array([1.1, 0.0, 0.9]), np.array([0.0, 1.0, 0.2]))
    assert relative_error(plain.squares(), (dense_weights(plain) ** 2).sum(axis=0)) < ROUNDING


def test_groups_given_out_of_order_or_twice_are_sets_of_rows():
    w = members(np.ones(9), [np.array([5, 2, 5, 0])])
    assert w.rows[0].tolist() == [0, 2, 5]
    assert w.sums(np.arange(9.0))[0] == 7.0


def test_relaxed_groups_sum_their_shares():
    rng = np.random.default_rng(1)
    shares, values = rng.normal(size=(3, 20)) * (rng.random((3, 20)) < 0.4), rng.normal(size=20)
    w = relaxed_members(np.full(20, 0.05), shares)
    assert relative_error(w.sums(values), shares @ values) < ROUNDING
    assert relative_error(dense_weights(w), 0.05 * shares.T) < ROUNDING


def test_shared_weights_are_one_group_without_rows_and_serve_all():
    base = np.arange(5.0)
    w = as_weights(base)
    assert w.whole and w.take(np.array([3, 1])) is w and as_weights(w) is w
    assert np.shares_memory(w.block(slice(1, 3)), base)
    with pytest.raises(ValueError, match=r"an array \(m,\); found one of shape \(5, 2\)"):
        as_weights(np.ones((5, 2)))


@pytest.mark.parametrize("rows", [1 << 20, 2])
def test_a_kind_is_present_while_one_of_its_rows_has_a_weight(rows, monkeypatch):
    monkeypatch.setattr("influence_cli.core.weights.TOGETHER", rows)
    base = np.array([0.2, 0.3, 0.0, 0.5])
    kinds, counts = np.array([0, 1, 1, 2]), np.array([1, 1, 1])
    member = members(base, [np.array([1]), np.array([2]), np.array([0, 3])])
    removed = member.scaled(np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(removed.present(kinds, counts), [[1, 0, 1], [1, 1, 1], [0, 1, 0]])
    np.testing.assert_array_equal(member.present(kinds, counts), [[0, 1, 0], [0, 0, 0], [1, 0, 1]])


def test_rows_that_are_looked_at_together_take_a_share_of_the_memory():
    assert together() == TOGETHER
    with limited(320e6):
        assert together() == pytest.approx(320e6 / 32 / 50)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    "base", [np.broadcast_to(1 / 60, 60), np.full(60, 1 / 60), np.random.default_rng(0).uniform(size=60)]
)
def test_weights_over_what_all_rows_have_are_those_of_the_formula(base, groups):
    kept, taken = np.array([1.2, 0.8, 0.7]), np.array([0.0, 0.0, -0.3])
    w = members(base, ROWS).scaled(kept, taken).take(np.arange(groups))
    R = np.random.default_rng(1).normal(size=(3, 2, 16))
    found = w.over_kept(R.copy(), slice(15, 31), w.alike) * w.kept[:, None, None] * w.alike
    assert (w.alike == 1.0) == (base.strides != (0,))
    weights = dense_weights(w)[15:31].T[:, None]
    np.testing.assert_allclose(found, R * weights, rtol=1e-14, atol=0)


@pytest.mark.parametrize("step", (1, 7, 100))
def test_pieces_visit_every_row_that_has_a_weight_once(step):
    w, dense = some_weights(np.random.default_rng(2))
    assert [part.tolist() for part in w.parts()] == [[1], [0, 2]]
    few = members(w.base, ROWS[:1])
    for one, expected in ((w, dense), (few, dense_weights(few))):
        found = np.zeros((60, one.groups))
        for piece in one.pieces(step):
            found[piece.rows] += piece.weights().T
            assert piece.count == piece.weights().shape[1]
        assert relative_error(found, expected) < ROUNDING
    assert sum(piece.count for piece in few.pieces(step)) == 3


# Penalties of groups


def group_penalty(objective: Objective, units: int, columns: int, rng: np.random.Generator) -> GroupPenalty:
    scaling = np.ones((objective.size, 3))
    scaling[: units * columns] = np.tile(rng.uniform(0.5, 2.0, size=(columns, 3)), (units, 1))
    return GroupPenalty(scaling, 0.3 * rng.normal(size=(columns, 3)))


def matrices(objective: Objective, ridge: np.ndarray, penalty: GroupPenalty, units: int) -> list[np.ndarray]:
    """What the groups' penalties add to the objective's own, (P, P) each."""
    out = []
    for scaling, direction in zip(penalty.scaling.T, penalty.direction.T, strict=True):
        added = np.diag(ridge * (scaling - 1.0))
        for k in range(units):
            at = slice(k * len(direction), (k + 1) * len(direction))
            added[at, at] += np.outer(direction, direction)
        out.append(added)
    return out


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_a_groups_penalty_is_in_the_value_its_slope_and_its_curvature(kind, intercept):
    objective, rng = make_objective(make_oracle(kind, intercept)), np.random.default_rng(3)
    K, D = objective.outputs, objective.design.columns
    penalty = group_penalty(objective, K, D, rng)
    plain = removal(objective.weights, ROWS, "per-mean").removed
    w = removal(objective.weights, ROWS, "per-mean", penalty).removed
    added = matrices(objective, np.tile(objective.penalty.ridge, K), penalty, K)
    V, some = rng.normal(size=(objective.size, 3)), np.array([2, 0])
    for theta in (rng.normal(size=(objective.size, 3)), rng.normal(size=(objective.size, 1))):
        pull = np.column_stack([added[g] @ theta[:, g % theta.shape[1]] for g in range(3)])
        held = 0.5 * (theta * pull).sum(axis=0)
        assert relative_error(objective.value(theta, w), objective.value(theta, plain) + held) < ROUNDING
        assert relative_error(objective.gradient(theta, w), objective.gradient(theta, plain) + pull) < ROUNDING
        value, gradient = objective.value_and_gradient(theta, w)
        assert relative_error(value, objective.value(theta, w)) < ROUNDING
        assert relative_error(gradient, objective.gradient(theta, w)) < ROUNDING
        curved = np.column_stack([added[g] @ V[:, g] for g in range(3)])
        product, without = objective.curvature(theta, w), objective.curvature(theta, plain)
        assert relative_error(product(V), without(V) + curved) < ROUNDING
        assert relative_error(product(V[:, some], some), product(V)[:, some]) < ROUNDING
    for g in range(3):
        own, theta = w.take(np.array([g])), rng.normal(size=(objective.size, 1))
        dense = np.tril(objective.dense_curvature(theta, own, np.dtype(float)))
        assert relative_error(dense, np.tril(objective.curvature(theta, own)(np.eye(objective.size)))) < ROUNDING


def test_the_preconditioner_of_squared_errors_inverts_the_hessian_with_the_groups_penalty():
    objective, rng = make_objective(make_oracle(LINEAR, "penalised")), np.random.default_rng(4)
    w = removal(objective.weights, ROWS, "per-sum", group_penalty(objective, 1, 4, rng)).removed
    theta, r = rng.normal(size=(4, 1)), rng.normal(size=(4, 2))
    for g in range(3):
        own = w.take(np.array([g]))
        assert relative_error(objective.curvature(theta, own)(objective.preconditioner(theta, own)(r)), r) < 1e-9


def test_a_networks_groups_may_have_their_own_decay_of_the_first_layer():
    objective, rng = make(SOFTMAX, (4, 3), penalize_intercept=True), np.random.default_rng(5)
    penalty = group_penalty(objective, 4, 4, rng)
    w = removal(objective.weights, ROWS, "per-mean", penalty).removed
    plain = removal(objective.weights, ROWS, "per-mean").removed
    added = matrices(objective, objective.penalty.ridge, penalty, 4)
    theta, V = (0.5 * rng.normal(size=(objective.size, 3)) for _ in range(2))
    held = [0.5 * theta[:, g] @ added[g] @ theta[:, g] for g in range(3)]
    assert relative_error(objective.value(theta, w), objective.value(theta, plain) + held) < ROUNDING
    proximal = objective.proximal(theta[:, :1])
    for one in (objective, proximal):
        slope = central_difference(lambda t, one=one: one.value(t, w), theta, V)
        assert relative_error((one.gradient(theta, w) * V).sum(axis=0), slope) < 1e-6
    turned = central_difference(lambda t: objective.gradient(t, w), theta, V)
    assert relative_error(objective.curvature(theta, w)(V), turned) < 1e-6
    own = w.take(np.array([2]))
    dense = np.tril(objective.dense_curvature(theta[:, :1], own, np.dtype(float)))
    exact = objective.curvature(theta[:, :1], own)(np.eye(objective.size))
    gauss_newton = make(SOFTMAX, (4, 3), penalize_intercept=True, curvature="gauss-newton")
    other = gauss_newton.curvature(theta[:, :1], own)(np.eye(objective.size))
    assert min(relative_error(dense, np.tril(matrix)) for matrix in (exact, other)) < 1e-10


def refit(rows: np.ndarray, X: np.ndarray, mean: np.ndarray, scale: np.ndarray, l2: float, intercept: bool):
    """The penalty of training on features standardised again without ``rows``, in the coefficients of before."""
    kept = np.delete(X, rows, axis=0)
    ratio, shift = kept.std(axis=0) / scale, (kept.mean(axis=0) - mean) / scale
    scaling = np.append(ratio**2, 0.0 if intercept else 1.0)[:, None]
    return scaling, np.sqrt(l2) * np.append(shift, 1.0)[:, None] if intercept else None


@pytest.mark.parametrize("penalize_intercept", (False, True))
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_standardising_again_is_another_penalty(scaling, penalize_intercept):
    """The Newton step of squared errors, and retraining, against ridge regression on features made again."""
    rng = np.random.default_rng(6)
    raw = rng.normal(size=(40, 3)) * [1.0, 5.0, 0.2] + [3.0, -1.0, 0.5]
    y, l2 = raw @ [1.0, -0.3, 4.0] + rng.normal(size=40), 0.3
    mean, scale = raw.mean(axis=0), raw.std(axis=0)
    objective = Glm((raw - mean) / scale, y, Gaussian(), l2=l2, penalize_intercept=penalize_intercept)
    theta = train(objective, tol=1e-12).theta
    solver = make_solver(objective, theta, "cholesky")
    rows = [np.flatnonzero(raw[:, 1] > 2.0), np.array([3, 8])]
    parts = [refit(one, raw, mean, scale, l2, penalize_intercept) for one in rows]
    scalings = np.hstack([part[0] for part in parts])
    penalty = GroupPenalty(scalings, np.hstack([part[1] for part in parts]) if penalize_intercept else None)
    groups = removal(objective.weights, rows, scaling, penalty)
    found = {
        "newton": theta + estimate(objective, theta, solver, groups, ("newton",))["newton"].change,
        "retrained": retrain(objective, theta, groups.removed, preconditioner=solver.preconditioner, tol=1e-11).theta,
    }
    for g, one in enumerate(rows):
        kept = np.delete(raw, one, axis=0)
        Z = np.column_stack([(kept - kept.mean(axis=0)) / kept.std(axis=0), np.ones(len(kept))])
        share = len(kept) / 40 if scaling == "per-sum" else 1.0
        R = np.diag([1.0, 1.0, 1.0, float(penalize_intercept)])
        own = np.linalg.solve(share * Z.T @ Z / len(kept) + l2 * R, share * Z.T @ np.delete(y, one) / len(kept))
        predicted = Z @ own
        design = np.column_stack([(kept - mean) / scale, np.ones(len(kept))])
        for name, thetas in found.items():
            assert relative_error(design @ thetas[:, g], predicted) < REFIT, name


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", (LOGISTIC, SOFTMAX))
def test_estimates_follow_the_path_to_another_penalty(kind, scaling):
    oracle = make_oracle(kind, "penalised")
    objective, rng = make_objective(oracle), np.random.default_rng(7)
    theta = train(objective, tol=1e-12).theta
    solver = make_solver(objective, theta, "cholesky")
    K, D = objective.outputs, objective.design.columns
    penalty = group_penalty(objective, K, D, rng)
    groups = removal(objective.weights, ROWS, scaling, penalty)
    singles = SingleRemovals(objective, theta, solver, scaling)
    found = estimate(objective, theta, solver, groups, ("first", "second", "newton", "rif"), singles)
    changes = {name: one.solved(solver).change for name, one in found.items()}
    plain = removal(objective.weights, ROWS, scaling)
    before = estimate(objective, theta, solver, plain, ("rif",), singles)["rif"].solved(solver).change
    H = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    for g, added in enumerate(matrices(objective, np.tile(objective.penalty.ridge, K), penalty, K)):
        after = oracle.hessian(theta[:, 0], plain.removed.column(g)) + added
        slope = oracle.gradient(theta[:, 0], plain.removed.column(g)) + added @ theta[:, 0]
        u = -np.linalg.solve(H, slope)
        assert relative_error(changes["first"][:, g], u) < 1e-8
        assert relative_error(changes["second"][:, g], u + np.linalg.solve(H, (H - after) @ u)) < 1e-8
        assert relative_error(changes["newton"][:, g], -np.linalg.solve(after, slope)) < 1e-8
        moved = before[:, g] - np.linalg.solve(H, added @ theta[:, 0])
        assert relative_error(changes["rif"][:, g], moved) < 1e-8
