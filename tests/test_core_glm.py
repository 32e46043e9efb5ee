"""The models' derivatives, for blocks of parameters and weights, against the oracle and finite differences."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from core_cases import (
    CASES,
    DIFFERENCE,
    KINDS,
    ROUNDING,
    family,
    make_objective,
    make_oracle,
    relative_error,
    weights_of,
)
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle, central_difference
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from influence_cli.core import parallel
from influence_cli.core.objectives import hessian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.removal import PER_MEAN, removal
from influence_cli.core.rows import design
from influence_cli.core.weights import GroupPenalty, Weights

ROWS = 150
GROUPS = 3
SINGLE_PRECISION = 1e-5

pytestmark = pytest.mark.usefixtures("several_blocks")


@pytest.fixture
def several_blocks(monkeypatch):
    """Passes of 64 rows, and of 40 for the dense Hessian: every sum crosses block borders."""
    monkeypatch.setattr(design, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(hessian, "CHUNK_ROWS", 40)


def case(kind: str, intercept: str):
    oracle = make_oracle(kind, intercept, m=ROWS)
    return oracle, make_objective(oracle), np.random.default_rng(7)


def draw(oracle: Oracle, rng: np.random.Generator, count: int) -> np.ndarray:
    """Parameters (P, count) without a part along the gauge, where the oracle and the core agree."""
    stack = rng.normal(size=(oracle.outputs, len(oracle.penalty) // oracle.outputs, count))
    if oracle.kind == SOFTMAX and oracle.intercept and not oracle.penalize_intercept:
        stack[:, -1] -= stack[:, -1].mean(axis=0)
    return stack.reshape(-1, count)


def broadcasts(oracle: Oracle, rng: np.random.Generator):
    """theta and weights, shared and per group in every combination; the weights of both signs."""
    weights = rng.normal(size=(ROWS, GROUPS)) / ROWS
    for shared_theta, shared_weights in itertools.product((True, False), repeat=2):
        theta = draw(oracle, rng, 1 if shared_theta else GROUPS)
        yield theta, weights[:, 0] if shared_weights else weights


def column(array: np.ndarray, g: int) -> np.ndarray:
    """Column g, or the one that serves all."""
    return array if array.ndim == 1 else array[:, g if array.shape[1] > 1 else 0]


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_value_and_gradient_equal_the_oracle_however_theta_and_weights_broadcast(kind, intercept):
    oracle, objective, rng = case(kind, intercept)
    for theta, w in broadcasts(oracle, rng):
        count = max(theta.shape[1], 1 if w.ndim == 1 else w.shape[1])
        value = np.array([oracle.value(column(theta, g), column(w, g)) for g in range(count)])
        gradient = np.column_stack([oracle.gradient(column(theta, g), column(w, g)) for g in range(count)])
        assert relative_error(objective.value(theta, weights_of(w)), value) < ROUNDING
        assert relative_error(objective.gradient(theta, weights_of(w)), gradient) < ROUNDING


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_curvature_and_third_equal_the_oracle_however_theta_and_weights_broadcast(kind, intercept):
    oracle, objective, rng = case(kind, intercept)
    V = draw(oracle, rng, GROUPS)
    for theta, w in broadcasts(oracle, rng):
        curved = [oracle.hessian(column(theta, g), column(w, g)) @ V[:, g] for g in range(GROUPS)]
        bent = [oracle.third(column(theta, g), column(w, g), V[:, g]) for g in range(GROUPS)]
        assert relative_error(objective.curvature(theta, weights_of(w))(V), np.column_stack(curved)) < ROUNDING
        assert relative_error(objective.third(theta, weights_of(w), V), np.column_stack(bent)) < ROUNDING


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_each_derivative_is_the_finite_difference_of_the_one_before(kind, intercept):
    _, objective, rng = case(kind, intercept)
    theta, u = (rng.normal(size=(objective.size, 1)) for _ in range(2))
    w = rng.random(ROWS) / ROWS
    slope = central_difference(lambda t: objective.value(t, weights_of(w)), theta, u)
    assert relative_error((objective.gradient(theta, weights_of(w)) * u).sum(axis=0), slope) < DIFFERENCE
    turned = central_difference(lambda t: objective.gradient(t, weights_of(w)), theta, u)
    assert relative_error(objective.curvature(theta, weights_of(w))(u), turned) < DIFFERENCE
    bent = central_difference(lambda t: objective.curvature(t, weights_of(w))(u), theta, u)
    assert np.linalg.norm(objective.third(theta, weights_of(w), u) - bent) < DIFFERENCE * max(
        float(np.linalg.norm(bent)), 1e-2
    )
    assert kind == LINEAR or np.linalg.norm(bent) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_of_some_columns_is_those_columns_of_the_product_of_all(kind):
    oracle, objective, rng = case(kind, "free")
    V = draw(oracle, rng, GROUPS)
    some = np.array([2, 0])
    for theta, w in broadcasts(oracle, rng):
        product = objective.curvature(theta, weights_of(w))
        assert relative_error(product(V[:, some], some), product(V)[:, some]) < ROUNDING
        loss_product = objective.loss_curvature(theta, weights_of(w))
        assert relative_error(loss_product(V[:, some], some), loss_product(V)[:, some]) < ROUNDING


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_rows_gradients_in_every_form_equal_the_oracle(kind, intercept):
    oracle, objective, rng = case(kind, intercept)
    theta, V = draw(oracle, rng, GROUPS), draw(oracle, rng, GROUPS)
    of_first = oracle.row_gradients(theta[:, 0])
    own = np.column_stack([oracle.row_gradients(theta[:, g]) @ V[:, g] for g in range(GROUPS)])
    of_one = np.column_stack([oracle.row_gradients(theta[:, g]) @ V[:, 0] for g in range(GROUPS)])
    assert relative_error(objective.row_products(theta[:, :1], V), of_first @ V) < ROUNDING
    assert relative_error(objective.row_products(theta, V), own) < ROUNDING
    assert relative_error(objective.row_products(theta, V[:, :1]), of_one) < ROUNDING
    residuals = objective.residuals(theta[:, :1])
    compact = np.einsum("ik,ij->ikj", residuals, oracle.features(oracle.X)).reshape(ROWS, -1)
    assert relative_error(compact, of_first) < ROUNDING
    pulled = objective.pull_back(theta[:, :1], oracle.X, residuals.T)
    assert relative_error(pulled, of_first.T) < ROUNDING


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_outputs_of_new_rows_equal_the_oracle(kind, intercept):
    oracle, objective, rng = case(kind, intercept)
    theta, X = draw(oracle, rng, GROUPS), rng.normal(size=(5, oracle.X.shape[1]))
    expected = np.array([oracle.eta(theta[:, g], X).T for g in range(GROUPS)])
    assert relative_error(objective.predict_outputs(theta, X), expected) < ROUNDING


@pytest.mark.parametrize("sums", ["of spans", "of bands"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_dense_curvature_is_the_matrix_of_the_product_and_of_the_oracle(kind, intercept, dtype, sums, monkeypatch):
    monkeypatch.setattr(hessian, "CHUNK_ROWS", 7)
    monkeypatch.setattr(hessian, "SMALL_SUMS", 1 << 20 if sums == "of spans" else 0)
    oracle, objective, rng = case(kind, intercept)
    theta, w = draw(oracle, rng, 1), rng.random(ROWS) / ROWS
    dense = objective.dense_curvature(theta, weights_of(w), np.dtype(dtype))
    assert dense.dtype == dtype
    product = objective.curvature(theta, weights_of(w))(np.eye(objective.size))
    gauge = objective.penalty.dense() - oracle.penalty
    tolerance = ROUNDING if dtype == np.float64 else SINGLE_PRECISION
    assert relative_error(np.tril(dense), np.tril(product)) < tolerance
    assert relative_error(np.tril(dense), np.tril(oracle.hessian(theta[:, 0], w) + gauge)) < tolerance
    assert gauge.any() == (kind == SOFTMAX and intercept == "free")


@pytest.mark.parametrize("intercept", ["none", "free"])
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_the_gauge_is_fixed_without_touching_gradients_or_predictions(l2, intercept):
    oracle = make_oracle(SOFTMAX, intercept, m=ROWS, l2=l2)
    objective = make_objective(oracle)
    theta = draw(oracle, np.random.default_rng(3), 1)
    if l2 == 0:
        theta = (theta.reshape(3, -1) - theta.reshape(3, -1).mean(axis=0)).reshape(-1, 1)
    free = np.zeros(objective.size // 3)
    free[-1 if l2 else slice(None)] = float(l2 == 0 or intercept == "free")
    directions = np.tile(np.diag(free)[:, free > 0], (3, 1))
    gradient = objective.gradient(theta, objective.weights)
    assert np.abs(directions.T @ gradient).max(initial=0.0) < ROUNDING
    assert relative_error(gradient[:, 0], oracle.gradient(theta[:, 0], oracle.uniform())) < ROUNDING
    bare = np.linalg.eigvalsh(oracle.hessian(theta[:, 0], oracle.uniform()))
    assert np.sum(bare < 1e-12) == directions.shape[1]
    fixed = np.linalg.eigvalsh(objective.curvature(theta, objective.weights)(np.eye(objective.size)))
    # The gauge's own eigenvalues are on the scale of the others: they spoil no condition number.
    assert fixed[0] > 0.1 * bare[bare > 1e-12][0]
    assert fixed[-1] < 10 * bare[-1]


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_outputs_of_a_thousand_overflow_nothing(kind, sign):
    oracle, objective, _ = case(kind, "none")
    theta = np.zeros((objective.size, 1))
    theta[0] = sign * 1000.0 / oracle.X[:, 0].max()
    loss = objective.loss(theta, objective.weights)
    # With one enormous output the loss is how far the row's own class lags behind the leading one.
    eta = oracle.eta(theta[:, 0], oracle.X)
    scores = np.column_stack([np.zeros(ROWS), eta]) if kind == LOGISTIC else eta
    lag = np.log(np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)) + scores.max(axis=1)
    assert relative_error(loss, np.array([np.mean(lag - scores[np.arange(ROWS), oracle.y])])) < ROUNDING
    assert np.abs(eta).max() > 999
    unit = np.ones((objective.size, 1))
    for array in (
        objective.gradient(theta, objective.weights),
        objective.curvature(theta, objective.weights)(unit),
        objective.third(theta, objective.weights, unit),
        objective.dense_curvature(theta, objective.weights, np.dtype(np.float64)),
        objective.row_products(theta, unit),
    ):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("spread_out", [Logistic(), Softmax(4)], ids=["logistic", "softmax"])
def test_spread_bounds_how_fast_the_curvature_changes(spread_out):
    rng = np.random.default_rng(11)
    eta, a, c = (rng.normal(size=(2, spread_out.outputs, 500)) * 2 for _ in range(3))
    spread = spread_out.self_concordance(a)

    def curvature(t):
        return (c * spread_out.curve(spread_out.curvature_state(t), c)).sum(axis=1)

    change = np.abs(central_difference(curvature, eta, a))
    assert (change <= spread * curvature(eta) * (1 + DIFFERENCE) + 1e-8).all()
    assert (change / (spread * curvature(eta))).max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_reach_is_the_largest_spread_over_the_rows(kind):
    oracle, objective, rng = case(kind, "free")
    V = draw(oracle, rng, GROUPS)
    eta = [oracle.eta(V[:, g], oracle.X) for g in range(GROUPS)]
    spread = {LOGISTIC: lambda e: np.abs(e).max(), SOFTMAX: lambda e: np.ptp(e, axis=1).max(), LINEAR: lambda e: 0.0}
    assert relative_error(objective.self_concordance(V), np.array([spread[kind](e) for e in eta])) < ROUNDING


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_a_row_is_predicted_by_its_most_probable_class(kind):
    oracle, objective, rng = case(kind, "free")
    theta = draw(oracle, rng, GROUPS)
    probabilities = [
        [np.exp(-oracle.losses(theta[:, g], oracle.X, np.full(ROWS, k))) for k in range(oracle.classes)]
        for g in range(GROUPS)
    ]
    predicted = family(oracle).predict(objective.predict_outputs(theta, oracle.X))
    assert (predicted == np.argmax(probabilities, axis=1)).all()
    assert len(np.unique(predicted)) == oracle.classes


@pytest.mark.parametrize(("kind", "computed"), ((SOFTMAX, 2), (LOGISTIC, 1), (LINEAR, 1)))
def test_a_pass_computes_no_output_that_follows_from_the_others(kind, computed, monkeypatch):
    objective = make_objective(make_oracle(kind))
    asked = []
    sweep = design.Design.sweep

    def count(self, W, rowwise, outputs):
        asked.append((len(W), outputs))
        return sweep(self, W, rowwise, outputs)

    monkeypatch.setattr(design.Design, "sweep", count)
    theta = np.random.default_rng(5).normal(size=(objective.size, 4))
    objective.gradient(theta, objective.weights)
    objective.curvature(theta[:, :1], objective.weights)(theta)
    objective.third(theta[:, :1], objective.weights, theta)
    assert asked == [(4 * computed, 4 * computed)] * 3


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_groups_of_few_rows_are_passes_over_their_rows_alone(kind, intercept, threads, monkeypatch):
    monkeypatch.setattr(design, "CHOSEN_NUMBERS", 1)  # 64 rows at a time
    monkeypatch.setattr(design, "GROUP_OVERHEAD_FLOPS", 0.0)
    monkeypatch.setattr(design, "COPY_FLOPS", 1.0)
    monkeypatch.setattr(parallel, "SPREAD_FROM", 0)
    oracle = make_oracle(kind, intercept, m=300, l2=0.1)
    objective = make_objective(oracle)
    rng = np.random.default_rng(6)
    theta = draw(oracle, rng, 2)
    V = draw(oracle, rng, 5)
    w = rng.normal(size=(300, 5))
    for g, kept in enumerate((300, 100, 0, 200, 1)):
        w[rng.permutation(300)[kept:], g] = 0.0
    read = []
    sweep = design.Design.sweep_chosen

    def count(self, W, rowwise, chosen, outputs):
        read.append([len(rows) for rows in chosen])
        return sweep(self, W, rowwise, chosen, outputs)

    monkeypatch.setattr(design.Design, "sweep_chosen", count)
    with threadpool_limits(threads, user_api="blas"):
        gradient = objective.loss_gradient(theta[:, :1], weights_of(w))
        product = objective.loss_curvature(theta[:, :1], weights_of(w))
        curved, some = product(V), product(V[:, 1:3], np.array([1, 2]))
        each = objective.loss_curvature(np.repeat(theta, 3, axis=1)[:, :5], weights_of(w))(V)
    assert read == [[100, 0, 1], [100, 0, 1], [100, 0], [100, 0, 1]]
    bare = replace(oracle, l2=0.0)
    for g in range(5):
        assert relative_error(gradient[:, g], bare.gradient(theta[:, 0], w[:, g])) < ROUNDING
        hessian = bare.hessian(theta[:, 0], w[:, g])
        assert relative_error(curved[:, g], hessian @ V[:, g]) < ROUNDING
        own = bare.hessian(theta[:, int(g >= 3)], w[:, g])
        assert relative_error(each[:, g], own @ V[:, g]) < ROUNDING
    np.testing.assert_array_equal(some, curved[:, 1:3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_has_the_same_bits_on_any_number_of_threads(kind, monkeypatch):
    monkeypatch.setattr(design, "BLOCK_NUMBERS", 1)  # blocks of 64 rows
    monkeypatch.setattr(hessian, "CHUNK_ROWS", 64)
    objective = make_objective(make_oracle(kind, m=500, l2=0.1))
    rng = np.random.default_rng(4)
    theta, V = (rng.normal(size=(objective.size, 3)) for _ in range(2))
    w = rng.random(size=(500, 3))

    def passes():
        value, gradient = objective.value_and_gradient(theta, weights_of(w))
        dense = np.tril(objective.dense_curvature(theta[:, :1], w[:, 0], np.dtype(float)))
        return (
            value,
            gradient,
            objective.curvature(theta, weights_of(w))(V),
            objective.third(theta, weights_of(w), V),
            objective.loss(theta, weights_of(w)),
            objective.residuals(theta[:, :1]),
            objective.row_products(theta, V),
            objective.row_curvatures(theta, V, V),
            objective.self_concordance(V),
            objective.preconditioner(theta[:, :1], w[:, 0])(V),
            dense,
        )

    found = []
    monkeypatch.setattr(parallel, "SPREAD_FROM", 0)
    for threads in (1, 3, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(passes())
    for one, three, two in zip(*found, strict=True):
        assert one.tobytes() == three.tobytes() == two.tobytes()


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_hessians_of_a_block_are_those_of_each_group(kind, intercept, step, monkeypatch):
    oracle = make_oracle(kind, intercept)
    monkeypatch.setattr(hessian, "HESSIAN_NUMBERS", step)
    objective = make_objective(oracle)
    rng = np.random.default_rng(0)
    groups = [np.arange(3), np.arange(5, 30), np.array([len(oracle.y) - 1])]
    penalty = GroupPenalty(rng.uniform(0.5, 2.0, size=(objective.size, 3)))
    removed = removal(objective.weights, groups, PER_MEAN).removed
    theta = rng.normal(size=(objective.size, 3))
    for w in (removed, removed.scaled(removed.kept, removed.taken, penalty)):
        found = objective.dense_curvatures(theta, w)
        for g in range(3):
            dense = objective.dense_curvature(theta[:, [g]], w.take(np.array([g])), np.dtype(float))
            assert np.allclose(found[g], np.tril(dense) + np.tril(dense, -1).T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_that_are_read_together_have_the_gradient_of_each(monkeypatch, kind, sparse):
    oracle, objective, rng = case(kind, "penalised")
    theta = draw(oracle, rng, 1)
    if sparse:
        objective = make_objective(replace(oracle, X=csr_array(oracle.X)))
    groups = [np.arange(3, 5), np.array([9]), np.arange(140), np.array([], dtype=np.int64), np.arange(7, 11)]
    monkeypatch.setattr(design, "CHOSEN_NUMBERS", 1)  # of the largest group 64 rows at a time
    for signs in (np.ones(5), np.array([2.0, -1.0, 0.5, 1.0, 3.0])):
        w = Weights(objective.weights, tuple(groups), np.zeros(5), signs)
        found = objective.passes.over_groups(
            theta, w, lambda eta, rows: objective.family.residual(eta, objective.y[rows])
        )
        for g in range(5):
            expected = oracle.gradient(theta[:, 0], w.column(g)) - oracle.gradient(theta[:, 0], np.zeros(ROWS))
            np.testing.assert_allclose(found[:, g], expected, atol=1e-13)
        curvature = objective.loss_curvature(theta, w)(np.repeat(theta, 5, axis=1))
        for g in range(5):
            hessian = oracle.hessian(theta[:, 0], w.column(g)) - oracle.hessian(theta[:, 0], np.zeros(ROWS))
            np.testing.assert_allclose(curvature[:, g], hessian @ theta[:, 0], atol=1e-13)
