"""Networks: every derivative against finite differences and a dense oracle, for blocks, and what is built on them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from core_cases import DIFFERENCE, ROUNDING, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX, central_difference

from influence_cli.core import mlp
from influence_cli.core.estimators import estimate
from influence_cli.core.families.gaussian import Gaussian
from influence_cli.core.families.logistic import Logistic
from influence_cli.core.families.softmax import Softmax
from influence_cli.core.glm import Glm
from influence_cli.core.lbfgs import lbfgs
from influence_cli.core.minimize import newton_cg
from influence_cli.core.mlp import GAUSS_NEWTON, HESSIAN, Mlp
from influence_cli.core.removal import removal
from influence_cli.core.retraining import COLD, PROXIMAL, WARM, retrain_by
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.cholesky import factorize
from influence_cli.core.training import train
from influence_cli.errors import NotConvergedError

ROWS, GROUPS = 150, 3
FAMILIES = {SOFTMAX: (lambda: Softmax(3), 3), LOGISTIC: (Logistic, 2), LINEAR: (Gaussian, 0)}
CASES = [
    (kind, hidden, activation)
    for kind in FAMILIES
    for hidden, activation in (((4,), "tanh"), ((4, 3), "sigmoid"), ((3, 4, 2), "tanh"))
]
each_case = pytest.mark.parametrize(("kind", "hidden", "activation"), CASES)
each_curvature = pytest.mark.parametrize("curvature", (HESSIAN, GAUSS_NEWTON))


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    """Passes of 64 rows, and of 40 for the dense matrix: every sum crosses block borders."""
    monkeypatch.setattr(mlp, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(mlp, "DENSE_ROWS", 40)


def make(kind: str, hidden: tuple[int, ...] = (4, 3), activation: str = "tanh", *, rows: int = ROWS, **options) -> Mlp:
    rng = np.random.default_rng(3)
    family, classes = FAMILIES[kind]
    X = rng.normal(size=(rows, 3))
    scores = np.sin(X @ rng.normal(size=(3, max(classes, 1)))) + 0.3 * rng.normal(size=(rows, max(classes, 1)))
    y = scores.argmax(axis=1) if classes else scores[:, 0]
    return Mlp(X, y, family(), hidden=hidden, activation=activation, **{"l2": 0.02, **options})


def draw(objective: Mlp, rng: np.random.Generator, count: int) -> np.ndarray:
    return 0.7 * rng.normal(size=(objective.size, count))


def broadcasts(objective: Mlp, rng: np.random.Generator):
    """theta and weights, shared and per group in every combination; the weights of both signs."""
    weights = rng.normal(size=(len(objective.y), GROUPS)) / len(objective.y)
    for shared_theta, shared_weights in itertools.product((True, False), repeat=2):
        yield draw(objective, rng, 1 if shared_theta else GROUPS), weights[:, 0] if shared_weights else weights


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
        assert relative_error(objective.value(theta, w), plain) < ROUNDING
        value, gradient = objective.value_and_gradient(theta, w)
        assert relative_error(value, plain) < ROUNDING
        assert relative_error(gradient, objective.gradient(theta, w)) < ROUNDING


@each_case
def test_each_derivative_is_the_finite_difference_of_the_one_before(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation), np.random.default_rng(1)
    theta, u = draw(objective, rng, 1), draw(objective, rng, 1)
    w = rng.random(ROWS) / ROWS
    slope = central_difference(lambda t: objective.value(t, w), theta, u)
    assert relative_error((objective.gradient(theta, w) * u).sum(axis=0), slope) < DIFFERENCE
    turned = central_difference(lambda t: objective.gradient(t, w), theta, u)
    assert relative_error(objective.curvature(theta, w)(u), turned) < DIFFERENCE
    bent = central_difference(lambda t: objective.curvature(t, w)(u), theta, u)
    assert relative_error(objective.third(theta, w, u), bent) < DIFFERENCE


@each_case
def test_gauss_newton_products_are_those_of_the_dense_jacobian(kind, hidden, activation):
    objective, rng = make(kind, hidden, activation, curvature=GAUSS_NEWTON), np.random.default_rng(2)
    V = draw(objective, rng, GROUPS)
    for theta, w in broadcasts(objective, rng):
        found = objective.curvature(theta, w)(V)
        expected = [gauss_newton(objective, column(theta, g), column(w, g)) @ V[:, g] for g in range(GROUPS)]
        assert relative_error(found, np.column_stack(expected)) < ROUNDING


def gauss_newton(objective: Mlp, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The dense matrix, row by row from Jacobians, and the penalty."""
    total = objective.penalty.product(np.eye(objective.size))
    for row, weight in zip(objective.X, w, strict=True):
        X = row[None].repeat(objective.outputs, axis=0)
        J = objective.pull_back(theta, X, np.eye(objective.outputs)).T
        moments = objective.family.moments(objective.predict_outputs(theta, row[None]))
        C = objective.family.curve(np.repeat(moments, objective.outputs, axis=0), np.eye(objective.outputs)[:, :, None])
        total += weight * J.T @ C[:, :, 0] @ J
    return total


@each_curvature
@pytest.mark.parametrize("kind", FAMILIES)
def test_blocks_are_their_columns_and_products_of_some_columns_are_those_of_all(kind, curvature):
    objective, rng = make(kind, curvature=curvature), np.random.default_rng(4)
    V, some = draw(objective, rng, GROUPS), np.array([2, 0])
    for theta, w in broadcasts(objective, rng):
        product = objective.curvature(theta, w)
        alone = [objective.curvature(one(theta, g), column(w, g))(V[:, [g]])[:, 0] for g in range(GROUPS)]
        assert relative_error(product(V), np.column_stack(alone)) < ROUNDING
        assert relative_error(product(V[:, some], some), product(V)[:, some]) < ROUNDING
        bent = [objective.third(one(theta, g), column(w, g), V[:, [g]])[:, 0] for g in range(GROUPS)]
        assert relative_error(objective.third(theta, w, V), np.column_stack(bent)) < ROUNDING
        slopes = [objective.gradient(one(theta, g), column(w, g))[:, 0] for g in range(GROUPS)]
        found = objective.gradient(theta, w)
        assert relative_error(found, np.column_stack(slopes)[:, : found.shape[1]]) < ROUNDING


@each_curvature
def test_products_without_a_tape_are_the_same(curvature, monkeypatch):
    objective, rng = make(SOFTMAX, curvature=curvature), np.random.default_rng(5)
    V = draw(objective, rng, GROUPS)
    theta, w = list(broadcasts(objective, rng))[-1]
    kept = objective.curvature(theta, w)(V, np.arange(GROUPS))
    monkeypatch.setattr(mlp, "TAPE_BYTES", 0)
    assert np.array_equal(objective.curvature(theta, w)(V), kept)


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
        dense = objective.dense_curvature(theta, w, np.dtype(dtype))
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
    picked = np.zeros((ROWS, 4))
    picked[[0, 70, 149, 99], range(4)] = 1.0
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
    curved = (V * objective.loss_curvature(theta, w)(U)).sum(axis=0)
    assert relative_error(w @ objective.row_curvatures(theta, V, U), curved) < ROUNDING
    single = w @ objective.row_curvatures(theta, V[:, :1], U)
    assert relative_error(single, V[:, 0] @ objective.loss_curvature(theta, w)(U)) < ROUNDING


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
        assert relative_error(network.value(theta, w)[:1], glm.value(theta, w)[:1]) < ROUNDING
        assert relative_error(network.gradient(theta, w), glm.gradient(theta, w)) < ROUNDING
        assert relative_error(network.curvature(theta, w)(V), glm.curvature(theta, w)(V)) < ROUNDING
        assert relative_error(network.third(theta, w, V) + 1, glm.third(theta, w, V) + 1) < ROUNDING
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
    shifted = objective.loss(theta, w) - objective.loss(theta, objective.weights)
    constant = objective.loss(center, objective.weights)[0] - (objective.weights * (residual * at[2])).sum()
    assert relative_error(proximal.value(theta, w), bregman + shifted + held + constant) < 1e-9
    slope = central_difference(lambda t: proximal.value(t, w), theta, way)
    assert relative_error((proximal.gradient(theta, w) * way).sum(axis=0), slope) < DIFFERENCE
    if curvature == HESSIAN:
        turned = central_difference(lambda t: proximal.gradient(t, w), theta, way)
        assert relative_error(proximal.curvature(theta, w)(way), turned) < DIFFERENCE
    else:
        same = proximal.curvature(center, w)(way) - objective.curvature(center, w)(way)
        assert np.linalg.norm(same) < 1e-12


# --- training, retraining, estimates ---


@pytest.fixture(scope="module")
def trained():
    """A small network at a stationary point; BLOCK_ELEMENTS has its own value here."""
    objective = make(SOFTMAX, (4,), "tanh", damping=0.05, curvature=GAUSS_NEWTON)
    return objective, train(objective, tol=1e-8, max_iterations=20_000).theta


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
        found = lbfgs(glm, start, w, preconditioner=preconditioner, tol=1e-10, max_iterations=500)
        exact = newton_cg(glm, start, w, preconditioner=own, tol=1e-12)
        assert found.converged.all()
        assert relative_error(found.theta, exact.theta) < 1e-7


@pytest.mark.parametrize("strategy", (WARM, COLD, PROXIMAL))
def test_retraining_ends_at_a_stationary_point_of_what_the_strategy_minimises(trained, strategy):
    objective, theta = trained
    w = groups_of(objective, (3, 20)).removed
    found = retrain_by(strategy, objective, theta, w, preconditioner=factorize(objective, theta), tol=1e-7)
    minimised = objective.proximal(theta) if strategy == PROXIMAL else objective
    assert found.converged.all()
    assert np.linalg.norm(minimised.gradient(found.theta, w), axis=0).max() <= 1e-7


def test_cold_retraining_without_a_group_of_no_rows_is_training(trained):
    objective, theta = trained
    w = objective.weights[:, None]
    found = retrain_by(COLD, objective, theta, w, preconditioner=factorize(objective, theta), tol=1e-8)
    assert relative_error(found.theta, theta) < 1e-5  # the block size of the fixture's sums was another


def test_estimates_are_the_linear_response_of_the_proximal_objective(trained):
    objective, theta = trained
    rows = removal(objective.weights, [np.array([4])], "per-mean")
    small = replace(rows, delta=1e-4 * rows.delta, removed=objective.weights[:, None] - 1e-4 * rows.delta)
    solver = make_solver(objective, theta, "cholesky")
    factor = factorize(objective, theta)
    moved = retrain_by(PROXIMAL, objective, theta, small.removed, preconditioner=factor, tol=1e-13).theta - theta
    for method, found in estimate(objective, theta, solver, small, ("first", "second", "newton")).items():
        assert relative_error(found.solved(solver).change, moved) < 1e-3, method


@pytest.mark.parametrize("kind", ("cholesky", "cg"))
@each_curvature
def test_both_solvers_and_both_curvatures_solve_the_damped_system(trained, kind, curvature):
    _, theta = trained
    objective = make(SOFTMAX, (4,), "tanh", damping=0.05, curvature=curvature)
    solver = make_solver(objective, theta, kind)
    g = objective.loss_gradient(theta, groups_of(objective, (3, 20)).delta)
    solution = solver.solve(g)
    dense = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    assert solution.converged.all()
    assert relative_error(solution.x, np.linalg.solve(dense, g)) < 1e-7


def test_negative_curvature_is_noticed_and_named():
    objective = make(SOFTMAX, (4, 3), "tanh", l2=1e-6)
    theta = 2.0 * draw(objective, np.random.default_rng(16), 1)
    dense = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    assert np.linalg.eigvalsh(dense).min() < -1e-3
    solver = make_solver(objective, theta, "cg")
    found = estimate(objective, theta, solver, groups_of(objective, (3, 20)), ("second", "newton"))
    for method in found.values():
        assert all("negative curvature met: raise --damping" in problem for problem in method.problems)
