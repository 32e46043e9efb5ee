"""Networks: every derivative against finite differences and a dense oracle, for blocks, and what is built on them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from core_cases import DIFFERENCE, ROUNDING, relative_error, weights_of
from network_cases import FAMILIES, GROUPS, ROWS, broadcasts, draw, each_case, each_curvature, make, short_blocks
from oracle import LINEAR, SOFTMAX, central_difference

from influence_cli.core.objectives import mlp
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import GAUSS_NEWTON, HESSIAN, Mlp
from influence_cli.core.weights import members


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    short_blocks(monkeypatch)


def column(array: np.ndarray, g: int) -> np.ndarray:
    """Column g, or the one that serves all: (P,) or (m,)."""
    return array if array.ndim == 1 else array[:, g if array.shape[1] > 1 else 0]


def one(theta: np.ndarray, g: int) -> np.ndarray:
    """The same as (P, 1)."""
    return column(theta, g)[:, None]


def plain_outputs(objective: Mlp, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The network once more, a layer at a time and without blocks: (n, K)."""
    sizes = objective.network.sizes
    squash = {"Tanh": np.tanh, "Sigmoid": lambda z: 1 / (1 + np.exp(-z))}[type(objective.network.activation).__name__]
    a, at = X, 0
    for layer, (before, n) in enumerate(itertools.pairwise(sizes)):
        block = theta[at : at + n * (before + 1)].reshape(n, before + 1)
        at += block.size
        z = a @ block[:, :-1].T + block[:, -1]
        a = z if layer == len(sizes) - 2 else squash(z)
    return a


def plain_value(objective: Mlp, theta: np.ndarray, w: np.ndarray) -> float:
    eta = plain_outputs(objective, theta, objective.X).T[None]
    decay = np.concatenate([np.tile([objective.l2] * (D - 1) + [0.0], n) for n, D in objective.network.shapes])
    gauge = 0.0
    if isinstance(objective.family, Softmax):
        gauge = (
            0.5
            * theta.reshape(-1)[-objective.outputs * objective.network.shapes[-1][1] :]
            .reshape(objective.outputs, -1)[:, -1]
            .sum()
            ** 2
            / objective.outputs**2
        )
    return float(w @ objective.family.loss(eta, objective.y)[0] + 0.5 * (decay * theta**2).sum() + gauge)


@each_case
def test_value_is_that_of_a_plain_network(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation), np.random.default_rng(0)
    for theta, w in broadcasts(objective, rng):
        count = max(theta.shape[1], 1 if w.ndim == 1 else w.shape[1])
        plain = np.array([plain_value(objective, column(theta, g), column(w, g)) for g in range(count)])
        assert relative_error(objective.value(theta, weights_of(w)), plain) < ROUNDING
        value, gradient = objective.value_and_gradient(theta, weights_of(w))
        assert relative_error(value, plain) < ROUNDING
        assert relative_error(gradient, objective.gradient(theta, weights_of(w))) < ROUNDING


@each_case
def test_each_derivative_is_the_finite_difference_of_the_one_before(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation), np.random.default_rng(1)
    theta, u = draw(objective, rng, 1), draw(objective, rng, 1)
    w = rng.random(ROWS) / ROWS
    slope = central_difference(lambda t: objective.value(t, weights_of(w)), theta, u)
    assert relative_error((objective.gradient(theta, weights_of(w)) * u).sum(axis=0), slope) < DIFFERENCE
    turned = central_difference(lambda t: objective.gradient(t, weights_of(w)), theta, u)
    assert relative_error(objective.curvature(theta, weights_of(w))(u), turned) < DIFFERENCE
    bent = central_difference(lambda t: objective.curvature(t, weights_of(w))(u), theta, u)
    assert relative_error(objective.third(theta, weights_of(w), u), bent) < DIFFERENCE


@each_case
def test_gauss_newton_products_are_those_of_the_dense_jacobian(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation, curvature=GAUSS_NEWTON), np.random.default_rng(2)
    V = draw(objective, rng, GROUPS)
    for theta, w in broadcasts(objective, rng):
        found = objective.curvature(theta, weights_of(w))(V)
        expected = [gauss_newton(objective, column(theta, g), column(w, g)) @ V[:, g] for g in range(GROUPS)]
        assert relative_error(found, np.column_stack(expected)) < ROUNDING


def gauss_newton(objective: Mlp, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The dense matrix, row by row from Jacobians, and the penalty."""
    total = objective.penalty.product(np.eye(objective.size))
    for row, weight in zip(objective.X, w, strict=True):
        X = row[None].repeat(objective.outputs, axis=0)
        J = objective.pull_back(theta, X, np.eye(objective.outputs)).T
        moments = objective.family.curvature_state(objective.predict_outputs(theta, row[None]))
        C = objective.family.curve(np.repeat(moments, objective.outputs, axis=0), np.eye(objective.outputs)[:, :, None])
        total += weight * J.T @ C[:, :, 0] @ J
    return total


@each_curvature
@pytest.mark.parametrize("kind", FAMILIES)
def test_blocks_are_their_columns_and_products_of_some_columns_are_those_of_all(kind, curvature):
    objective, rng = make(kind, curvature=curvature), np.random.default_rng(4)
    V, some = draw(objective, rng, GROUPS), np.array([2, 0])
    for theta, w in broadcasts(objective, rng):
        product = objective.curvature(theta, weights_of(w))
        alone = [objective.curvature(one(theta, g), column(w, g))(V[:, [g]])[:, 0] for g in range(GROUPS)]
        assert relative_error(product(V), np.column_stack(alone)) < ROUNDING
        assert relative_error(product(V[:, some], some), product(V)[:, some]) < ROUNDING
        bent = [objective.third(one(theta, g), column(w, g), V[:, [g]])[:, 0] for g in range(GROUPS)]
        assert relative_error(objective.third(theta, weights_of(w), V), np.column_stack(bent)) < ROUNDING
        slopes = [objective.gradient(one(theta, g), column(w, g))[:, 0] for g in range(GROUPS)]
        found = objective.gradient(theta, weights_of(w))
        assert relative_error(found, np.column_stack(slopes)[:, : found.shape[1]]) < ROUNDING


@each_curvature
def test_products_without_a_tape_are_the_same(curvature, monkeypatch):
    objective, rng = make(SOFTMAX, curvature=curvature), np.random.default_rng(5)
    V = draw(objective, rng, GROUPS)
    theta, w = list(broadcasts(objective, rng))[-1]
    kept = objective.curvature(theta, weights_of(w))(V, np.arange(GROUPS))
    monkeypatch.setattr(mlp, "TAPE_BYTES", 0)
    assert np.array_equal(objective.curvature(theta, weights_of(w))(V), kept)


@each_curvature
@pytest.mark.parametrize("kind", FAMILIES)
def test_damping_is_added_to_the_curvature_and_to_nothing_else(kind, curvature):
    plain, damped = make(kind, curvature=curvature), make(kind, curvature=curvature, damping=0.3)
    rng = np.random.default_rng(6)
    theta, V = draw(plain, rng, 1), draw(plain, rng, 2)
    added = damped.curvature(theta, plain.weights)(V) - plain.curvature(theta, plain.weights)(V)
    assert relative_error(added, 0.3 * V) < 1e-9
    assert np.array_equal(damped.gradient(theta, plain.weights), plain.gradient(theta, plain.weights))
    assert np.array_equal(damped.value(theta, plain.weights), plain.value(theta, plain.weights))


@each_case
def test_dense_curvature_is_the_gauss_newton_matrix(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation, curvature=GAUSS_NEWTON), np.random.default_rng(7)
    theta, w = draw(objective, rng, 1), rng.random(ROWS) / ROWS
    for dtype, bound in ((np.float64, ROUNDING), (np.float32, 1e-5)):
        dense = objective.dense_curvature(theta, weights_of(w), np.dtype(dtype))
        assert dense.dtype == dtype and dense.flags.f_contiguous
        full = np.tril(dense) + np.tril(dense, -1).T
        assert relative_error(full, gauss_newton(objective, theta[:, 0], w)) < bound


@pytest.mark.parametrize(("dtype", "bound"), ((np.float64, 1e-9), (np.float32, 1e-5)))
@each_case
def test_dense_curvature_is_the_hessian_where_that_is_definite_and_gauss_newton_elsewhere(
    kind, hidden, activation, dtype, bound
):
    plain = make(kind, hidden, activation, l2=1e-6)
    theta = 4.0 * draw(plain, np.random.default_rng(16), 1)
    hessian = plain.curvature(theta, plain.weights)(np.eye(plain.size))
    least = np.linalg.eigvalsh(hessian).min()
    assert least < -1e-4
    for damping, expected in (
        (0.5 - least, hessian),
        (0.0, gauss_newton(plain, theta[:, 0], plain.weights)),
    ):
        objective = make(kind, hidden, activation, l2=1e-6, damping=damping)
        dense = np.tril(objective.dense_curvature(theta, objective.weights, np.dtype(dtype)))
        assert relative_error(dense, np.tril(expected)) < bound


@each_case
def test_row_products_residuals_and_pull_back_are_the_rows_gradients(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation), np.random.default_rng(8)
    theta, V = draw(objective, rng, GROUPS), draw(objective, rng, GROUPS)
    slopes = [objective.pull_back(t[:, None], objective.X, objective.residuals(t[:, None]).T) for t in theta.T]
    picked = members(np.ones(ROWS), [np.array([row]) for row in (0, 70, 149, 99)])
    assert relative_error(slopes[0][:, [0, 70, 149, 99]], objective.loss_gradient(theta[:, :1], picked)) < ROUNDING
    own = np.column_stack([slopes[g].T @ V[:, g] for g in range(GROUPS)])
    assert relative_error(objective.row_products(theta, V), own) < ROUNDING
    assert relative_error(objective.row_products(theta[:, :1], V), slopes[0].T @ V) < ROUNDING
    single = np.column_stack([slopes[g].T @ V[:, 0] for g in range(GROUPS)])
    assert relative_error(objective.row_products(theta, V[:, :1]), single) < ROUNDING


@each_curvature
@each_case
def test_row_curvatures_sum_to_the_products(kind, hidden, activation, curvature):
    objective, rng = make(kind, hidden, activation, curvature=curvature), np.random.default_rng(14)
    theta, V, U = draw(objective, rng, 1), draw(objective, rng, GROUPS), 1e4 * draw(objective, rng, GROUPS)
    w = rng.normal(size=ROWS)
    curved = (V * objective.loss_curvature(theta, weights_of(w))(U)).sum(axis=0)
    assert relative_error(w @ objective.row_curvatures(theta, V, U), curved) < ROUNDING
    single = w @ objective.row_curvatures(theta, V[:, :1], U)
    assert relative_error(single, V[:, 0] @ objective.loss_curvature(theta, weights_of(w))(U)) < ROUNDING


def test_outputs_are_those_of_a_plain_network():
    objective, rng = make(SOFTMAX, (4, 3), "sigmoid"), np.random.default_rng(9)
    theta, X = draw(objective, rng, GROUPS), rng.normal(size=(70, 3))
    plain = np.stack([plain_outputs(objective, theta[:, g], X).T for g in range(GROUPS)])
    assert relative_error(objective.predict_outputs(theta, X), plain) < ROUNDING


@pytest.mark.parametrize("intercept", (True, False))
@pytest.mark.parametrize("kind", FAMILIES)
def test_without_hidden_layers_a_network_is_a_glm(kind, intercept):
    network = make(kind, (), intercept=intercept)
    glm = Glm(network.X, network.y, network.family, l2=network.l2, intercept=intercept)
    rng = np.random.default_rng(10)
    V = draw(network, rng, GROUPS)
    for theta, w in broadcasts(network, rng):
        assert relative_error(network.value(theta, weights_of(w))[:1], glm.value(theta, weights_of(w))[:1]) < ROUNDING
        assert relative_error(network.gradient(theta, weights_of(w)), glm.gradient(theta, weights_of(w))) < ROUNDING
        assert (
            relative_error(network.curvature(theta, weights_of(w))(V), glm.curvature(theta, weights_of(w))(V))
            < ROUNDING
        )
        assert (
            relative_error(network.third(theta, weights_of(w), V) + 1, glm.third(theta, weights_of(w), V) + 1)
            < ROUNDING
        )
    dense = (np.tril(m.dense_curvature(V[:, :1], m.weights, np.dtype(float))) for m in (network, glm))
    assert relative_error(*dense) < ROUNDING


def test_kfac_inverts_a_single_layer_whose_curvature_is_a_product():
    objective = make(LINEAR, (), l2=0.1, penalize_intercept=True, damping=0.2)
    rng = np.random.default_rng(11)
    theta, r = draw(objective, rng, 1), draw(objective, rng, 2)
    solved = objective.preconditioner(theta, objective.weights)(r)
    assert relative_error(objective.curvature(theta, objective.weights)(solved), r) < 1e-10


def test_kfac_is_symmetric_and_positive():
    objective = make(SOFTMAX, (4, 3), "sigmoid")
    theta = draw(objective, np.random.default_rng(12), 1)
    M = objective.preconditioner(theta, objective.weights)(np.eye(objective.size))
    assert relative_error(M, M.T) < 1e-10 and np.linalg.eigvalsh(M).min() > 0


def test_initial_weights_differ_by_seed_alone():
    objective = make(SOFTMAX, (4, 3), "sigmoid")
    assert np.array_equal(objective.initial(3), objective.initial(3))
    assert not np.array_equal(objective.initial(3), objective.initial(4))
    biases = [layer.block[:, :, -1] for layer in objective.network.layers(objective.initial(0))]
    assert not any(bias.any() for bias in biases)


@each_curvature
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_proximal_objective_is_the_bregman_divergence_held_at_theta(kind, curvature):
    objective = make(kind, damping=0.05, curvature=curvature)
    rng = np.random.default_rng(13)
    center, theta = draw(objective, rng, 1), draw(objective, rng, 2)
    proximal, w = objective.proximal(center), rng.random((ROWS, 2)) / ROWS
    assert np.linalg.norm(proximal.gradient(center, objective.weights)) < 1e-12
    way = theta - center
    held = 0.5 * (way * (objective.penalty.product(way) + 0.05 * way)).sum(axis=0)
    at = [objective.predict_outputs(t, objective.X)[0] for t in (theta[:, :1], theta[:, 1:], center)]
    residual = objective.residuals(center).T
    bregman = np.array(
        [
            objective.loss(theta[:, g], objective.weights)[0]
            - objective.loss(center, objective.weights)[0]
            - (objective.weights * (residual * (at[g] - at[2])).sum(axis=0)).sum()
            for g in range(2)
        ]
    )
    shifted = objective.loss(theta, weights_of(w)) - objective.loss(theta, objective.weights)
    constant = objective.loss(center, objective.weights)[0] - (objective.weights * (residual * at[2])).sum()
    assert relative_error(proximal.value(theta, weights_of(w)), bregman + shifted + held + constant) < 1e-9
    slope = central_difference(lambda t: proximal.value(t, weights_of(w)), theta, way)
    assert relative_error((proximal.gradient(theta, weights_of(w)) * way).sum(axis=0), slope) < DIFFERENCE
    if curvature == HESSIAN:
        turned = central_difference(lambda t: proximal.gradient(t, weights_of(w)), theta, way)
        assert relative_error(proximal.curvature(theta, weights_of(w))(way), turned) < DIFFERENCE
    else:
        same = proximal.curvature(center, weights_of(w))(way) - objective.curvature(center, weights_of(w))(way)
        assert np.linalg.norm(same) < 1e-12


def test_the_preconditioner_of_a_network_without_decay_is_finite_and_positive():
    """Units that no row tells apart leave K-FAC singular: its floor keeps it a preconditioner."""
    objective, rng = make(SOFTMAX, (4,), l2=0.0), np.random.default_rng(9)
    objective.X[:, 1] = 0.0
    theta = draw(objective, rng, 1)
    inverse = objective.preconditioner(theta, objective.weights)(np.eye(objective.size))
    assert np.isfinite(inverse).all()
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2)[0] > 0
