"""The sparse design against the dense one and plain algebra: every method, both kernels, spans and threads."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import CASES, ROUNDING, family, make_oracle, relative_error, weights_of
from oracle import LOGISTIC, SOFTMAX
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from influence_cli.core import parallel
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.rows import design, sparse_design
from influence_cli.core.rows.design import Design
from influence_cli.core.rows.sparse_design import SparseDesign, design_of
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.preconditioners import Jacobi
from influence_cli.core.training import train

ROWS, COLUMNS = 203, 9


def rows(m: int = ROWS, d: int = COLUMNS, seed: int = 0) -> np.ndarray:
    """A third of the numbers are there; column 2 and rows 0, 100 and the last have none."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, d)) * (rng.random((m, d)) < 0.33)
    X[:, 2] = 0.0
    X[[0, m // 2, m - 1]] = 0.0
    return X


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of 64 rows, so that every sum crosses their borders, and groups of few rows by themselves."""
    monkeypatch.setattr(design, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(parallel, "SPREAD_FROM", 0)
    monkeypatch.setattr(sparse_design, "GROUP_OVERHEAD_NS", 0.0)
    monkeypatch.setattr(design, "GROUP_OVERHEAD_FLOPS", 0.0)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_method_gives_what_the_dense_design_gives(intercept, threads):
    X, rng = rows(), np.random.default_rng(1)
    sparse, dense = design_of(csr_array(X), intercept), design_of(X, intercept)
    assert isinstance(sparse, SparseDesign) and not isinstance(dense, SparseDesign)
    assert (sparse.rows, sparse.columns) == (dense.rows, dense.columns) == (ROWS, COLUMNS + intercept)
    used = sparse.used_columns()
    np.testing.assert_array_equal(used, [True, True, False, *[True] * (COLUMNS - 3)])
    with threadpool_limits(limits=threads, user_api="blas"):
        for outputs in (1, 3, 40):
            covered = np.concatenate([np.arange(part.start, part.stop) for part in sparse.blocks(outputs)])
            np.testing.assert_array_equal(covered, np.arange(ROWS))
            W, R = rng.normal(size=(outputs, sparse.columns)), rng.normal(size=(outputs, ROWS))
            for part in (slice(0, ROWS), slice(3, 150), slice(70, 71)):
                assert relative_error(sparse.forward(W, part), dense.forward(W, part)) < ROUNDING

            def rowwise(eta, part, R=R):
                return R[:, part] * np.tanh(eta)

            swept = sparse.sweep(W, rowwise, outputs)
            assert relative_error(swept, dense.sweep(W, rowwise, outputs)) < ROUNDING
            np.testing.assert_array_equal(sparse.sweep(W, rowwise, outputs), swept)
    w = rng.normal(size=ROWS)
    assert relative_error(sparse.squares(w), dense.squares(w)) < ROUNDING
    w = np.abs(w)
    assert relative_error(sparse.gram(w), dense.gram(w)) < ROUNDING
    assert relative_error(dense.squares(w), np.diag(dense.gram(w))) < ROUNDING
    np.testing.assert_array_equal(sparse.dense(slice(60, 140), used), X[60:140, used])
    cotangent = rng.normal(size=(3, ROWS))
    np.testing.assert_array_equal(sparse.outer(cotangent), dense.outer(cotangent))
    assert sparse.stored == np.count_nonzero(X)


def test_fewer_outputs_than_inputs_and_the_other_way_round():
    X, rng = rows(), np.random.default_rng(2)
    sparse, dense = SparseDesign(csr_array(X), True), Design(X, True)
    for inputs, outputs in ((1, 6), (6, 1)):
        W = rng.normal(size=(inputs, sparse.columns))

        def rowwise(eta, part, outputs=outputs):
            return np.repeat(eta.sum(axis=0, keepdims=True), outputs, axis=0)

        assert relative_error(sparse.sweep(W, rowwise, outputs), dense.sweep(W, rowwise, outputs)) < ROUNDING


def test_passes_over_groups_rows_give_what_the_dense_design_gives():
    X, rng = rows(), np.random.default_rng(3)
    sparse, dense = SparseDesign(csr_array(X), True), Design(X, True)
    W, chosen = rng.normal(size=(2, 20, sparse.columns)), [np.array([3, 50, 199]), np.arange(150)]
    found, expected = (d.sweep_chosen(W, lambda eta, part, g: np.tanh(eta), chosen, 20) for d in (sparse, dense))
    assert relative_error(found, expected) < ROUNDING
    assert (
        relative_error(sparse.forward(W[0], chosen[0]), W[0] @ np.hstack([X, np.ones((ROWS, 1))])[chosen[0]].T)
        < ROUNDING
    )
    assert sparse.single(40) is sparse


def test_rows_beyond_the_last_are_none():
    """A slice past the end ends there, as of an array: low-level sums would read memory that is not theirs."""
    X = rows()
    every = np.ones(COLUMNS, dtype=bool)
    np.testing.assert_array_equal(design_of(csr_array(X), True).dense(slice(190, 260), every), X[190:260])


def test_explicit_zeros_are_no_numbers():
    X = csr_array(rows())
    stuffed = X.copy()
    stuffed.data[::5] = 0.0
    dense = stuffed.toarray()
    W = np.random.default_rng(4).normal(size=(5, COLUMNS))
    assert relative_error(SparseDesign(stuffed, False).forward(W, slice(0, ROWS)), W @ dense.T) < ROUNDING
    np.testing.assert_array_equal(SparseDesign(stuffed, False).used_columns(), dense.any(axis=0))


def test_no_pass_over_the_rows_makes_a_dense_copy():
    import tracemalloc

    m, d = 20_000, 2_000
    rng = np.random.default_rng(5)
    at = np.sort(rng.integers(0, d, size=(m, 5)), axis=1)
    X = csr_array((np.ones(5 * m), at.ravel(), np.arange(0, 5 * m + 1, 5)), shape=(m, d))
    X.sum_duplicates()
    objective = Glm(X, rng.integers(0, 2, m), Logistic(), l2=1e-3)
    theta = rng.normal(size=(objective.size, 4))
    tracemalloc.start()
    try:
        objective.value_and_gradient(theta, objective.weights)
        objective.curvature(theta, objective.weights)(theta)
        objective.preconditioner(theta[:, :1], objective.weights)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * 8 * m * d


def pair(kind: str, intercept: str = "free"):
    """A model on dense rows and the same on sparse ones."""
    oracle = make_oracle(kind, intercept, m=ROWS, d=COLUMNS)
    X, weights = rows(), np.random.default_rng(6).random(ROWS)
    options = {
        "l2": oracle.l2,
        "intercept": oracle.intercept,
        "penalize_intercept": oracle.penalize_intercept,
        "weights": weights / weights.sum(),
    }
    return tuple(Glm(one, oracle.y, family(oracle), **options) for one in (X, csr_array(X)))


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_everything_a_model_offers_is_the_same_on_sparse_rows(kind, intercept):
    dense, sparse = pair(kind, intercept)
    rng = np.random.default_rng(7)
    theta, V, U = (rng.normal(size=(dense.size, 3)) for _ in range(3))
    w = rng.normal(size=(ROWS, 3)) / ROWS
    few = np.where(np.arange(ROWS)[:, None] % (1, 31, ROWS) == 0, w, 0.0)
    one = theta[:, :1]
    both = [
        lambda m: m.value(theta, weights_of(w)),
        lambda m: m.value_and_gradient(theta, weights_of(w))[0],
        lambda m: m.value_and_gradient(theta, weights_of(w))[1],
        lambda m: m.curvature(theta, weights_of(w))(V),
        lambda m: m.curvature(theta, weights_of(w))(V[:, 1:2], np.array([1])),
        lambda m: m.loss_gradient(one, weights_of(few)),
        lambda m: m.loss_curvature(one, weights_of(few))(V),
        lambda m: m.third(theta, weights_of(w), U),
        lambda m: np.tril(m.dense_curvature(one, m.weights, np.float64)),
        lambda m: m.preconditioner(one, m.weights)(V),
        lambda m: m.row_products(one, V),
        lambda m: m.row_curvatures(one, V, U),
        lambda m: m.self_concordance(V),
        lambda m: m.residuals(one),
        lambda m: m.predict_outputs(theta, m.design.X[5:9]),
        lambda m: m.pull_back(one, m.design.X[5:9], np.ones((m.outputs, 4))),
    ]
    for compute in both:
        assert relative_error(compute(sparse), compute(dense)) < 10 * ROUNDING


def test_more_features_than_rows_train_to_the_dense_minimum_by_jacobi(monkeypatch):
    X = rows(m=60, d=300, seed=8)
    y = np.random.default_rng(8).integers(0, 2, 60)
    dense, sparse = (Glm(one, y, Logistic(), l2=0.01) for one in (X, csr_array(X)))
    expected = train(dense).theta
    monkeypatch.setattr("influence_cli.core.objectives.glm.kronecker_fits", lambda *sizes: False)
    assert isinstance(sparse.preconditioner(expected, sparse.weights), Jacobi)
    found = train(sparse)
    assert found.converged[0] and relative_error(found.theta, expected) < 1e-5
    rhs = np.random.default_rng(9).normal(size=(sparse.size, 2))
    solved = make_solver(sparse, expected, "cg").solve(rhs)
    exact = np.linalg.solve(_symmetric(dense.dense_curvature(expected, dense.weights, np.float64)), rhs)
    assert solved.converged.all() and relative_error(solved.x, exact) < 1e-8


def test_the_jacobi_preconditioner_is_the_diagonal_of_the_average_curvature(monkeypatch):
    monkeypatch.setattr("influence_cli.core.objectives.glm.kronecker_fits", lambda *sizes: False)
    for kind in (LOGISTIC, SOFTMAX):
        dense, sparse = pair(kind)
        r = np.random.default_rng(10).normal(size=(dense.size, 2))
        theta = np.zeros((dense.size, 1))
        assert (
            relative_error(
                sparse.preconditioner(theta, sparse.weights)(r), dense.preconditioner(theta, dense.weights)(r)
            )
            < ROUNDING
        )
        if kind == LOGISTIC:
            hessian = dense.dense_curvature(theta, dense.weights, np.float64)
            assert relative_error(sparse.preconditioner(theta, sparse.weights)(r), r / np.diag(hessian)[:, None]) < 1e-9


def _symmetric(lower: np.ndarray) -> np.ndarray:
    return np.tril(lower) + np.tril(lower, -1).T
