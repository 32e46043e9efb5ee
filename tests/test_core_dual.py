"""Fewer rows than columns: the inverse Hessian by a matrix of the rows' size, held against dense algebra."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import PER_MEAN, removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import choose_solver, make_solver
from influence_cli.core.solvers.dual import is_wide
from influence_cli.core.training import train
from influence_cli.core.weights import GroupPenalty, as_weights
from influence_cli.errors import UsageError
from influence_cli.memory import limited

M, D = 12, 40
RNG = np.random.default_rng(5)
X = RNG.normal(size=(M, D))
RESPONSES = {
    Logistic(): RNG.integers(2, size=M),
    Softmax(3): np.arange(M) % 3,
    Signed(3): np.arange(M) % 3,
    Gaussian(): RNG.normal(size=M),
    Poisson(): RNG.poisson(2.0, size=M).astype(float),
}


def dense(model: Glm, theta: np.ndarray, w: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """sum_i w_i A_i (x) x_i x_i' + penalty, from the rows; ``own`` (D, D) is a group's penalty of each output."""
    K, features = model.outputs, np.hstack([X, np.ones((M, model.design.columns - D))])
    state = model.family.curvature_state(model.passes.outputs(theta, slice(0, M)))
    out = np.zeros((model.size, model.size))
    for i in range(M):
        A = np.array([[model.family.pair(state, max(j, k), min(j, k))[0, i] for k in range(K)] for j in range(K)])
        out += w[i] * np.kron(A, np.outer(features[i], features[i]))
    gauge = np.kron(np.full((K, K), 1.0 / K), np.diag(model.penalty.gauge))
    return out + gauge + np.kron(np.eye(K), np.diag(model.penalty.ridge) if own is None else own)


@pytest.mark.parametrize("family", RESPONSES, ids=lambda family: type(family).__name__)
@pytest.mark.parametrize("penalized", [None, False, True], ids=["none", "free", "penalised"])
@pytest.mark.parametrize("refit", [False, True])
def test_it_is_the_inverse_hessian(family, penalized, refit):
    theta_rng = np.random.default_rng(0)
    for rows in (X, csr_array(X)):
        options = {"intercept": penalized is not None, "penalize_intercept": bool(penalized)}
        model = Glm(rows, RESPONSES[family], family, l2=0.01, **options)
        theta = 0.1 * theta_rng.normal(size=(model.size, 1))
        w = np.where(np.arange(M) < 3, 0.0, 1.0 / (M - 3))
        weights, own = as_weights(w), None
        if refit:
            scaling = np.exp(0.3 * theta_rng.normal(size=(model.design.columns, 1)))
            scaling[D:] = 0.0 if penalized else 1.0
            along = None
            if penalized:
                along = 0.1 * np.append(theta_rng.normal(size=D), 1.0)[:, None]
            own = np.diag(model.penalty.ridge * scaling[:, 0]) + (0.0 if along is None else along @ along.T)
            penalty = GroupPenalty(np.tile(scaling, (model.outputs, 1)), along)
            weights = weights.scaled(weights.kept, weights.taken, penalty)
        inverse = np.linalg.inv(dense(model, theta, w, own))
        dual, r = model.dual(theta, weights), theta_rng.normal(size=(model.size, 4))
        assert dual(r[:, :0]).shape == (model.size, 0)
        assert np.abs(dual(r) - inverse @ r).max() <= 1e-10 * np.abs(inverse @ r).max()
        features = np.hstack([X[:5], np.ones((5, model.design.columns - D))])
        blocks = inverse.reshape(model.outputs, model.design.columns, model.outputs, model.design.columns)
        leverages = np.einsum("nd,kdle,ne->nkl", features, blocks, features)
        assert np.abs(dual.leverages(features) - leverages).max() <= 1e-10 * np.abs(leverages).max()


@pytest.mark.parametrize("family", RESPONSES, ids=lambda family: type(family).__name__)
def test_estimates_are_those_of_the_dense_factor(family):
    model = Glm(X, RESPONSES[family], family, l2=0.01)
    theta = train(model, tol=1e-12).theta
    groups = removal(model.weights, [np.array([1, 4]), np.array([0]), np.arange(5)], PER_MEAN)
    methods = ("first", "second", "newton", "rif")
    found = {}
    for kind in ("dual", "cholesky"):
        solver = make_solver(model, theta, kind)
        assert solver.kind == kind and solver.exact
        singles = SingleRemovals(model, theta, solver, PER_MEAN)
        made = estimate(model, theta, solver, groups, methods, singles)
        found[kind] = [made[method].solved(solver).change for method in methods]
    for one, other in zip(found["dual"], found["cholesky"], strict=True):
        assert np.abs(one - other).max() <= 1e-8 * np.abs(other).max()


def test_wide_models_choose_it_and_narrow_ones_do_not():
    assert choose_solver("auto", size=7130, outputs=1, rows=72, cached=False, wide=is_wide(72, 1, 7130)).kind == "dual"
    for rows, columns in ((72, 60), (5000, 7130), (60_000, 785), (20, 400)):
        assert not is_wide(rows, 1, columns)


def test_the_matrix_of_the_rows_is_not_made_where_there_is_no_room_for_it():
    assert is_wide(5_000, 1, 100_000)
    assert not is_wide(40_000, 1, 100_000)  # 12.8 GB, whatever X takes
    with limited(400e6):
        assert not is_wide(5_000, 1, 100_000)  # 200 MB, and its factor
    model = Glm(X, RNG.integers(2, size=M), Logistic(), l2=0.0)
    with pytest.raises(UsageError, match="with a penalty on every slope"):
        make_solver(model, np.zeros((model.size, 1)), "dual")


def test_no_matrix_of_the_columns_size_is_ever_made():
    rows, columns = 30, 2000
    wide = np.random.default_rng(1).normal(size=(rows, columns))
    tracemalloc.start()
    model = Glm(wide, np.arange(rows) % 3, Softmax(3), l2=1e-3)
    assert model.wide
    theta = train(model).theta
    solution = make_solver(model, theta, "dual").solve(model.gather(model.residuals(theta), model.weights))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert solution.converged.all()
    assert peak < 8 * columns**2 / 3


def test_a_penalty_that_is_next_to_nothing_is_not_taken_for_exact():
    model = Glm(1e4 * X, RESPONSES[family := next(iter(RESPONSES))], family, l2=1e-18)
    assert not make_solver(model, np.zeros((model.size, 1)), "dual").exact
