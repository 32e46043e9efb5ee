"""H x = b: block conjugate gradients, the preconditioners and the dense factor."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import DIRECT, KINDS, make_objective, make_oracle, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX

from influence_cli.core.rows import design
from influence_cli.core.solvers import choice, cholesky, preconditioners
from influence_cli.core.solvers.cg import Status, conjugate_gradient
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.solvers.factor import WORTH_MEASURING, contraction, solve_by_factor
from influence_cli.core.solvers.preconditioners import PerColumn, for_columns
from influence_cli.errors import NotConvergedError

TOL = 1e-10
"""What every solve is asked for, and the relative residual that it must have."""
P = 30


def symmetric(condition: float, *, size: int = P, seed: int = 0) -> np.ndarray:
    """A positive definite matrix with eigenvalues from 1 down to 1 / condition."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return (Q * np.geomspace(1.0, 1.0 / condition, size)) @ Q.T


class Counted:
    """V -> H V, which also counts its calls and records the columns it was asked for."""

    def __init__(self, H: np.ndarray):
        self.H = H
        self.asked: list[np.ndarray | None] = []

    def __call__(self, V, columns=None):
        self.asked.append(None if columns is None else columns.copy())
        return self.H @ V


def solve(H, rhs, **options):
    product = Counted(H)
    options.setdefault("preconditioner", np.copy)
    return conjugate_gradient(product, rhs, tol=options.pop("tol", TOL), **options), product


def true_residual(H, x, rhs) -> np.ndarray:
    return np.linalg.norm(rhs - H @ x, axis=0) / np.linalg.norm(rhs, axis=0)


# Conjugate gradients


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
def test_cg_solves_every_column_to_its_tolerance(condition):
    H, rhs = symmetric(condition), np.random.default_rng(1).normal(size=(P, 5))
    solution, _ = solve(H, rhs)
    assert solution.converged.all()
    assert true_residual(H, solution.x, rhs).max() <= TOL * 1.01
    assert relative_error(solution.x, np.linalg.solve(H, rhs)) < TOL * condition
    assert [solution.why(g) for g in range(5)] == ["ok"] * 5


def test_a_column_that_is_done_leaves_the_block():
    H = symmetric(1e3)
    easy, hard = np.linalg.eigh(H)[1][:, :1], np.random.default_rng(1).normal(size=(P, 1))
    solution, product = solve(H, np.hstack([hard, easy, hard]))
    assert solution.iterations[1] == 1
    assert solution.iterations[0] == solution.iterations[2] > 10
    assert list(product.asked[0]) == [0, 1, 2]
    assert list(product.asked[1]) == [0, 2]
    alone, _ = solve(H, hard)
    assert relative_error(solution.x[:, :1], alone.x) < DIRECT


def test_each_column_may_have_its_own_tolerance():
    H, rhs = symmetric(1e3), np.random.default_rng(1).normal(size=(P, 1))
    solution, _ = solve(H, np.hstack([rhs, rhs]), tol=np.array([1e-2, TOL]))
    assert solution.converged.all()
    assert solution.iterations[0] < solution.iterations[1]
    assert TOL < solution.residual[0] <= 1e-2


@pytest.mark.parametrize("scales", [[0.0, 0.0], [], [0.0, 1.0]], ids=["all", "no", "one"])
def test_a_zero_right_hand_side_is_solved_by_zero(scales):
    rhs = np.ones((P, len(scales))) * scales
    solution, _ = solve(symmetric(10.0), rhs)
    assert solution.converged.all()
    zero = ~rhs.any(axis=0)
    assert not solution.x[:, zero].any()
    assert not solution.iterations[zero].any()
    assert solution.residual.shape == (rhs.shape[1],)


@pytest.mark.parametrize("kind", ["cg", "cholesky"])
def test_a_solver_takes_blocks_of_zeros_and_empty_ones(kind):
    objective = make_objective(make_oracle(SOFTMAX))
    solver = make_solver(objective, np.zeros((objective.size, 1)), kind)
    for count in (0, 2):
        solution = solver.solve(np.zeros((objective.size, count)))
        assert solution.x.shape == (objective.size, count)
        assert solution.converged.all()
        assert not solution.x.any()


def test_right_hand_sides_of_any_scale_are_solved_alike():
    H, rhs = symmetric(1e3), np.random.default_rng(1).normal(size=(P, 1))
    scales = np.array([1e-12, 1.0, 1e12])
    solution, _ = solve(H, rhs * scales)
    assert solution.converged.all()
    assert relative_error(solution.x / scales, np.repeat(solution.x[:, 1:2], 3, axis=1)) < DIRECT


@pytest.mark.parametrize("condition", [1e3, 1e9, 1e12])
def test_the_reported_residual_is_the_true_one(condition):
    """With an exact preconditioner the recursion forgets its rounding at once: it must not be believed."""
    H, rhs = symmetric(condition), np.random.default_rng(1).normal(size=(P, 3))
    H = (H + H.T) / 2
    solution, _ = solve(H, rhs, preconditioner=lambda r: np.linalg.solve(H, r))
    actual = true_residual(H, solution.x, rhs)
    assert (solution.residual <= 10 * actual).all()
    assert (actual <= 10 * solution.residual).all()
    assert (solution.converged == (actual <= TOL * 1.01)).all()
    assert solution.converged.all() == (condition == 1e3)


def test_a_column_that_rounding_stops_ends_and_says_so():
    H, rhs = symmetric(1e12), np.random.default_rng(1).normal(size=(P, 2))
    solution, _ = solve(H, rhs)
    assert not solution.converged.any()
    assert solution.iterations.max() <= 400
    assert "solve stopped at relative residual" in solution.why(0)
    assert "--solver cholesky" in solution.why(0)
    assert "--l2" in solution.why(0)


def test_max_iterations_ends_it_and_the_text_has_the_residual():
    H, rhs = symmetric(1e4), np.random.default_rng(1).normal(size=(P, 2))
    solution, product = solve(H, rhs, max_iterations=3)
    assert not solution.converged.any()
    assert len(product.asked) == 3
    assert list(solution.iterations) == [3, 3]
    np.testing.assert_allclose(solution.residual, true_residual(H, solution.x, rhs), rtol=DIRECT)
    assert f"{solution.residual[1]:.1e}" in solution.why(1)


@pytest.mark.parametrize("lowest", [-0.5, 0.0])
def test_negative_and_vanishing_curvature_is_noticed(lowest):
    values, basis = np.linspace(1.0, 2.0, P), np.linalg.eigh(symmetric(2.0))[1]
    values[0] = lowest
    H = (basis * values) @ basis.T
    along, rest = basis[:, :1], basis[:, 1:2]
    solution, _ = solve(H, np.hstack([along + rest, rest]))
    assert list(solution.indefinite) == [True, False]
    assert list(solution.converged) == [False, True]
    before, _ = solve(H, along + rest, max_iterations=int(solution.iterations[0]) - 1)
    assert relative_error(solution.x[:, :1], before.x) < DIRECT
    assert "negative curvature" in solution.why(0)
    assert "--damping" in solution.why(0)


def test_curvature_that_is_only_rounding_is_no_curvature():
    """Along it a solution would be as large as rounding is small."""
    solution, _ = solve(np.diag([1.0, 2.0, 1e-17]), np.ones((3, 1)))
    assert list(solution.status) == [Status.INDEFINITE]
    assert np.abs(solution.x).max() < 1e3


def test_the_true_residual_is_computed_now_and_then_whatever_the_tolerance():
    H, rhs = symmetric(1e5, size=400), np.random.default_rng(1).normal(size=(400, 1))
    solution, product = solve(H, rhs, tol=1e-4)
    iterations = int(solution.iterations[0])
    assert iterations > 100
    assert len(product.asked) == iterations + iterations // 50


def test_a_first_direction_without_curvature_ends_the_column_at_zero_and_warns_of_nothing():
    rhs = np.ones((4, 2))
    solution = conjugate_gradient(
        lambda V, columns=None: V * [-1.0, 1.0] if V.shape[1] == 2 else V, rhs, preconditioner=lambda r: r
    )
    assert list(solution.indefinite) == [True, False] and list(solution.converged) == [False, True]
    assert not solution.x[:, 0].any() and np.allclose(solution.x[:, 1], rhs[:, 1])


def test_each_column_may_have_a_preconditioner_of_its_own():
    """Three systems side by side, of which the easiest leaves first: each is preconditioned by what is its own."""
    H = [symmetric(10.0**g, seed=g) for g in range(3)]

    def product(V, columns=None):
        at = range(3) if columns is None else columns
        return np.column_stack([H[g] @ v for g, v in zip(at, V.T, strict=True)])

    inverses = [np.linalg.inv(one) for one in H]
    own = PerColumn((lambda r: inverses[0] @ r, np.copy, lambda r: inverses[2] @ r))
    rhs = np.random.default_rng(2).normal(size=(P, 3))
    solution = conjugate_gradient(product, rhs, preconditioner=own, tol=TOL)
    assert solution.converged.all() and solution.iterations[[0, 2]].max() <= 3 < solution.iterations[1]
    for g in range(3):
        assert relative_error(solution.x[:, g], np.linalg.solve(H[g], rhs[:, g])) < TOL * 10.0**g
    twice = for_columns(own, np.array([2, 0, 2]))
    assert (
        relative_error(twice(rhs), np.column_stack([inverses[g] @ rhs[:, at] for at, g in enumerate((2, 0, 2))])) < TOL
    )
    assert for_columns(np.copy, np.array([1])) is np.copy


def test_a_solution_goes_on_where_others_ended():
    H, rhs = symmetric(1e4), np.random.default_rng(1).normal(size=(P, 3))
    short, _ = solve(H, rhs, max_iterations=4)
    assert not short.converged.any()
    rest, _ = solve(H, rhs[:, 1:], start=short.x[:, 1:])
    whole = short.continue_with(np.array([1, 2]), rest)
    assert list(whole.converged) == [False, True, True] and not short.converged.any()
    assert (whole.iterations[1:] == 4 + rest.iterations).all() and whole.iterations[0] == 4
    assert true_residual(H, whole.x[:, 1:], rhs[:, 1:]).max() <= TOL * 1.01


# Preconditioners


def badly_scaled(kind: str):
    """Columns three orders of magnitude apart, and parameters away from zero."""
    oracle = make_oracle(kind, m=200, d=12, l2=1e-3)
    scales = np.geomspace(0.02, 20.0, 12)
    objective = make_objective(type(oracle)(**{**vars(oracle), "X": oracle.X * scales}))
    theta = np.random.default_rng(2).normal(size=(objective.size, 1)) * 0.02
    return objective, theta


@pytest.mark.parametrize("jacobi", [False, True], ids=["kronecker", "jacobi"])
@pytest.mark.parametrize("kind", KINDS)
def test_preconditioners_are_positive_definite_and_save_iterations(kind, jacobi, monkeypatch):
    if jacobi:
        monkeypatch.setattr(preconditioners, "FACTOR_NUMBERS", 0)
    objective, theta = badly_scaled(kind)
    M = objective.preconditioner(theta, objective.weights)
    assert type(M).__name__ == ("Jacobi" if jacobi else "Kronecker")
    dense = M(np.eye(objective.size))
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-12 * np.abs(dense).max())
    assert np.linalg.eigvalsh((dense + dense.T) / 2)[0] > 0
    product = objective.curvature(theta, objective.weights)
    rhs = np.random.default_rng(3).normal(size=(objective.size, 2))
    plain = conjugate_gradient(product, rhs, preconditioner=np.copy, tol=1e-8)
    helped = conjugate_gradient(product, rhs, preconditioner=M, tol=1e-8)
    assert helped.converged.all()
    assert (helped.iterations < (0.8 if jacobi else 0.6) * plain.iterations).all()


def test_the_kronecker_preconditioner_is_exact_where_every_row_curves_alike(monkeypatch):
    monkeypatch.setattr(design, "BLOCK_NUMBERS", 1)
    oracle = make_oracle(LINEAR, m=150, l2=0.3)
    objective = make_objective(oracle)
    theta = np.zeros((objective.size, 1))
    inverse = objective.preconditioner(theta, objective.weights)(np.eye(objective.size))
    expected = np.linalg.inv(oracle.hessian(theta[:, 0], oracle.uniform()))
    assert relative_error(inverse, expected) < DIRECT
    softmax = make_objective(make_oracle(SOFTMAX))
    flat = np.zeros((softmax.size, 1))
    M = softmax.preconditioner(flat, softmax.weights)
    unit = np.eye(softmax.size)
    assert relative_error(softmax.curvature(flat, softmax.weights)(M(unit)), unit) < DIRECT


# The dense factor


@pytest.mark.parametrize("limit", [3000, 0], ids=["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_factor_and_refinement_solve_to_double_accuracy(kind, limit, monkeypatch):
    monkeypatch.setattr(cholesky, "DOUBLE_UP_TO", limit)
    oracle = make_oracle(kind, l2=1e-3)
    objective = make_objective(oracle)
    theta = np.random.default_rng(2).normal(size=(objective.size, 1)) * 0.3
    solver = make_solver(objective, theta, "cholesky")
    assert solver.factor is not None
    assert solver.factor.lower.dtype == (np.float32 if limit == 0 else np.float64)
    assert not np.triu(solver.factor.lower, 1).any()
    H = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    square = solver.factor.lower.astype(float) @ solver.factor.lower.T
    assert relative_error(square, H) < (1e-6 if limit == 0 else 1e-14)
    rhs, scales = np.random.default_rng(3).normal(size=(objective.size, 3)), np.array([1e-60, 1.0, 1e60])
    applied = solver.factor(rhs * scales) / scales
    assert relative_error(applied, np.linalg.solve(H, rhs)) < (1e-3 if limit == 0 else DIRECT)
    solution = solver.solve(rhs * scales)
    assert solution.converged.all()
    assert relative_error(solution.x / scales, np.linalg.solve(H, rhs)) < DIRECT
    assert solution.iterations.max() <= (8 if limit == 0 else 1)


def by_factor(H, shift: float, rhs, **options):
    """Solved by the factor of H + shift, and the product that counts."""
    product = Counted(H)
    factor = cholesky.CholeskyFactor(np.asfortranarray(np.linalg.cholesky(H + shift * np.eye(P))))
    return solve_by_factor(product, factor, rhs, **{"tol": TOL, **options}), product, factor


def test_each_correction_shortens_the_residual_by_the_ratio():
    H, rhs = symmetric(1e3), np.random.default_rng(1).normal(size=(P, 5))
    rhs[:, 3] = 0.0
    solution, product, factor = by_factor(H, 1e-6, rhs)
    ratio = contraction(product, factor)
    # H and H + shift commute, so that the ratio is the norm of I - H (H + shift)^-1.
    assert 0.5 * 1e-3 < ratio <= 1e-6 / (1e-3 + 1e-6)
    assert solution.converged.all() and not solution.x[:, 3].any() and solution.iterations[3] == 0
    assert true_residual(H, solution.x[:, [0, 1, 2, 4]], rhs[:, [0, 1, 2, 4]]).max() <= TOL * 1.01
    assert solution.iterations.max() <= np.ceil(np.log(TOL) / np.log(ratio))


def test_a_correction_that_is_sure_to_suffice_ends_without_a_product():
    H, shift = symmetric(1e3), 1e-7
    rhs = np.random.default_rng(1).normal(size=(P, 5))
    plain, asked, _ = by_factor(H, shift, rhs, tol=1e-8)
    assert (len(asked.asked), plain.converged.all()) == (2, True)
    closed, asked, _ = by_factor(H, shift, rhs, tol=1e-8, ratio=shift / (1e-3 + shift))
    assert (len(asked.asked), closed.converged.all()) == (1, True)
    assert (true_residual(H, closed.x, rhs) <= closed.residual * (1 + 1e-6)).all()
    assert closed.residual.max() <= 1e-8
    unsure, asked, _ = by_factor(H, shift, rhs, tol=1e-8, ratio=0.5)
    assert len(asked.asked) == 2
    assert np.array_equal(unsure.x, plain.x)


@pytest.mark.parametrize("shift", [0.05, 50.0])
def test_where_corrections_gain_little_conjugate_gradients_go_on(shift):
    H, rhs = symmetric(1e3), np.random.default_rng(1).normal(size=(P, 3))
    solution, _, factor = by_factor(H, shift, rhs)
    assert solution.converged.all()
    assert true_residual(H, solution.x, rhs).max() <= TOL * 1.01
    plain, _ = solve(H, rhs, preconditioner=factor)
    assert (solution.iterations <= plain.iterations + 2).all()


def test_a_factor_of_a_matrix_that_is_not_definite_says_so():
    values, basis = np.linspace(1.0, 2.0, P), np.linalg.eigh(symmetric(2.0))[1]
    values[0] = -0.5
    H = (basis * values) @ basis.T
    solution, _, _ = by_factor(H, 1.0, basis[:, :1] + basis[:, 1:2])
    assert list(solution.status) == [Status.INDEFINITE]
    assert "negative curvature" in solution.why(0)


def test_numbers_beyond_all_bounds_end_at_once_unsolved():
    rhs = np.ones((P, 2))
    rhs[0, 1] = np.nan
    solution, product = solve(symmetric(10.0), rhs)
    assert list(solution.converged) == [True, False]
    assert len(product.asked) < 50


@pytest.mark.parametrize("l2", [1e-2, 1e-5])
@pytest.mark.parametrize("kind", KINDS)
def test_many_right_hand_sides_are_solved_to_the_tolerance_that_one_is(kind, l2, monkeypatch):
    monkeypatch.setattr(cholesky, "DOUBLE_UP_TO", 0)
    objective = make_objective(make_oracle(kind, m=300, d=20, l2=l2))
    theta = np.random.default_rng(2).normal(size=(objective.size, 1)) * 0.3
    solver = make_solver(objective, theta, "cholesky")
    H = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    rhs = np.random.default_rng(3).normal(size=(objective.size, WORTH_MEASURING))
    solution = solver.solve(rhs)
    assert solution.converged.all()
    assert true_residual(H, solution.x, rhs).max() <= TOL * 1.01
    iteration = np.eye(objective.size) - H @ solver.factor(np.eye(objective.size))
    assert 0.1 * np.abs(np.linalg.eigvals(iteration)).max() < solver.contraction < 2 * np.linalg.norm(iteration, 2)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_float32_hessian_that_rounding_makes_indefinite_is_shifted_further(failures, monkeypatch):
    monkeypatch.setattr(cholesky, "DOUBLE_UP_TO", 0)
    objective = make_objective(make_oracle(SOFTMAX))
    theta, made = np.zeros((objective.size, 1)), []
    honest = type(objective).dense_curvature

    def rounded(self, *arguments):
        hessian = honest(self, *arguments)
        made.append(len(made))
        if len(made) <= failures:
            hessian[0, 0] = -1.0
        return hessian

    monkeypatch.setattr(type(objective), "dense_curvature", rounded)
    if failures == 2:
        with pytest.raises(NotConvergedError, match="the Hessian is singular at parameter 0"):
            cholesky.factorize(objective, theta)
        return
    factor = cholesky.factorize(objective, theta)
    H = objective.curvature(theta, objective.weights)(np.eye(objective.size))
    assert len(made) == failures + 1
    shift = cholesky.SHIFTS[failures] * np.finfo(np.float32).eps * H.diagonal().max()
    assert factor.damping == pytest.approx(shift, rel=1e-5)


def test_a_cached_factor_is_used_and_not_made_again(monkeypatch):
    objective = make_objective(make_oracle(LOGISTIC))
    theta = np.zeros((objective.size, 1))
    factor = cholesky.factorize(objective, theta)
    monkeypatch.setattr(choice, "factorize", None)
    assert make_solver(objective, theta, "cholesky", factor=factor).factor is factor
    assert make_solver(objective, theta, "cg").factor is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flaw", ["a column twice", "a constant column", "more columns than rows"])
def test_a_singular_hessian_is_refused_in_words(kind, flaw):
    oracle = make_oracle(kind, l2=0.0, m=8 if "rows" in flaw else 60, d=12 if "rows" in flaw else 3)
    extra = {"a column twice": oracle.X[:, :1], "a constant column": np.full((len(oracle.X), 1), 2.0)}
    X = np.hstack([oracle.X, extra[flaw]]) if flaw in extra else oracle.X
    objective = make_objective(type(oracle)(**{**vars(oracle), "X": X}))
    theta = np.zeros((objective.size, 1))
    with pytest.raises(NotConvergedError, match=r"the Hessian is singular at parameter \d+ of") as failure:
        make_solver(objective, theta, "cholesky")
    assert "constant or duplicate columns, or more features than rows" in failure.value.message
    assert "--l2" in (failure.value.hint or "")
    regular = make_objective(type(oracle)(**{**vars(oracle), "X": X, "l2": 1e-6}))
    assert make_solver(regular, theta, "cholesky").factor is not None


@pytest.mark.parametrize("scales", [[1e-6, 1.0, 1e6], [1e-9, 1e-9, 1e-9]])
def test_badly_scaled_columns_are_not_taken_for_dependent_ones(scales):
    oracle = make_oracle(LINEAR, "none", l2=0.0)
    objective = make_objective(type(oracle)(**{**vars(oracle), "X": oracle.X * scales}))
    assert cholesky.factorize(objective, np.zeros((3, 1))).lower.shape == (3, 3)


def test_more_right_hand_sides_than_fit_side_by_side_are_solved_block_by_block(monkeypatch):
    objective = make_objective(make_oracle(LOGISTIC))
    solver = make_solver(objective, np.zeros((objective.size, 1)), "cg")
    rhs = np.random.default_rng(3).normal(size=(objective.size, 7))
    whole = solver.solve(rhs)
    monkeypatch.setattr(choice, "SIDE_BY_SIDE", 3)
    parts = solver.solve(rhs)
    assert relative_error(parts.x, whole.x) < DIRECT
    assert list(parts.iterations) == list(whole.iterations)
    assert parts.converged.all() and parts.residual.shape == parts.indefinite.shape == (7,)
    assert solver.solve(rhs[:, :0]).x.shape == (objective.size, 0)
