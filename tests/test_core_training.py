"""Training: to the point that scikit-learn also finds, to the asked norm, or with an error that says why not."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import INTERCEPTS, KINDS, make_objective, make_oracle, relative_error, weights_of
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.optimise.minimum import Goal
from influence_cli.core.optimise.newton_cg import newton_cg
from influence_cli.core.training import train
from influence_cli.errors import ExitCode, NotConvergedError

TOL = 1e-8
"""The default bound on the gradient norm."""
PEER = 1e-6
"""Relative distance to scikit-learn's parameters at the tightest tolerance that its solvers reach."""
STATIONARY = 1e-7
"""Relative distance of two points whose gradient norms are both at most TOL."""
NO_MINIMUM = "the training loss has no finite minimum"


def peer(oracle: Oracle, l2: float) -> np.ndarray:
    """scikit-learn's parameters, class-major and the intercept last."""
    m, (intercept, _) = len(oracle.X), INTERCEPTS["free" if oracle.intercept else "none"]
    if oracle.kind == LINEAR:
        plain = LinearRegression(fit_intercept=intercept)
        model = Ridge(alpha=l2 * m, fit_intercept=intercept, solver="cholesky") if l2 else plain
    else:
        strength = {"C": 1 / (l2 * m)} if l2 else {"C": np.inf}
        model = LogisticRegression(fit_intercept=intercept, tol=1e-12, solver="newton-cg", max_iter=10_000, **strength)
    model.fit(oracle.X, oracle.y)
    coefficients = np.atleast_2d(model.coef_)
    if not intercept:
        return coefficients.ravel()
    return np.column_stack([coefficients, np.atleast_1d(model.intercept_)]).ravel()


@pytest.mark.parametrize("l2", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("intercept", ["none", "free"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_finds_the_parameters_that_scikit_learn_finds(kind, intercept, l2):
    oracle = make_oracle(kind, intercept, m=150, l2=l2)
    minimum = train(make_objective(oracle))
    assert relative_error(minimum.theta[:, 0], peer(oracle, l2)) < PEER


@pytest.mark.parametrize("intercept", INTERCEPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_ends_at_a_stationary_point_of_the_oracle(kind, intercept):
    oracle = make_oracle(kind, intercept)
    objective = make_objective(oracle)
    minimum = train(objective)
    assert minimum.converged[0]
    assert minimum.grad_norm[0] <= TOL
    actual = np.linalg.norm(oracle.gradient(minimum.theta[:, 0], oracle.uniform()))
    assert actual <= TOL
    assert abs(actual - minimum.grad_norm[0]) < 1e-14
    assert relative_error(minimum.theta[:, 0], oracle.minimise(oracle.uniform())) < STATIONARY
    tighter = train(objective, tol=1e-12)
    assert tighter.grad_norm[0] <= 1e-12
    assert 0 < minimum.iterations[0] <= tighter.iterations[0] <= 10


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_softmax_coefficients_sum_to_zero_over_the_classes_where_nothing_penalises_them(l2):
    theta = train(make_objective(make_oracle(SOFTMAX, m=150, l2=l2))).theta.reshape(3, -1)
    # The penalised ones sum to 0 as well: the penalty pulls them there.
    assert np.abs(theta.sum(axis=0)).max() < STATIONARY
    assert np.abs(theta).max() > 0.1


def test_training_weights_count_rows():
    """Weight 2 is a row that is there twice."""
    oracle = make_oracle(LOGISTIC)
    twice = np.r_[np.arange(60), np.arange(20)]
    repeated = Oracle(**{**vars(oracle), "X": oracle.X[twice], "y": oracle.y[twice]})
    w = np.where(np.arange(60) < 20, 2.0, 1.0)
    weighted = train(make_objective(oracle, weights=w / w.sum()))
    assert relative_error(weighted.theta, train(make_objective(repeated)).theta) < STATIONARY


def test_watch_is_told_each_iteration_and_its_norm():
    seen: list[tuple[int, float]] = []
    minimum = train(make_objective(make_oracle(SOFTMAX)), watch=lambda *now: seen.append(now))
    assert [iteration for iteration, _ in seen] == list(range(1, minimum.iterations[0] + 1))
    norms = [norm for _, norm in seen]
    assert norms[0] > 0.01
    assert norms[-1] < 1e-6 * norms[0]


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_too_few_iterations_end_in_an_error_with_the_norm_that_was_reached(kind):
    objective = make_objective(make_oracle(kind, l2=1e-4))
    with pytest.raises(NotConvergedError, match=r"stopped at gradient norm (\S+) after 1 iteration,") as failure:
        train(objective, max_iterations=1)
    assert failure.value.code == ExitCode.NOT_CONVERGED
    assert "1e-08 was asked for" in failure.value.message
    assert {"--max-iterations", "--l2", "--tol"} <= set((failure.value.hint or "").replace(",", "").split())
    start = np.zeros((objective.size, 1))
    once = newton_cg(
        objective,
        start,
        objective.weights,
        preconditioner=objective.preconditioner(start, objective.weights),
        goal=Goal(TOL, np.ones(1)),
        max_iterations=1,
    )
    assert f"{once.grad_norm[0]:.1e}" in failure.value.message


# Whether there is a minimum


def two_sides(m: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a gap between the classes along the first column, and noise in two others."""
    rng = np.random.default_rng(seed)
    y = np.arange(m) % 2
    return np.column_stack([(2 * y - 1) * (1 + rng.random(m)), rng.normal(size=(m, 2))]), y


def flagged_class(m: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, but for a column that is 1 only in some rows of class 1: separable in part."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, m)
    return np.column_stack([rng.normal(size=(m, 2)), (y == 1) & (rng.random(m) < 0.3)]).astype(float), y


def one_class_apart(m: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, of which two overlap and one is far away (as in the iris data)."""
    rng = np.random.default_rng(seed)
    y = np.arange(m) % 3
    return rng.normal(size=(m, 2)) + np.outer(np.where(y == 2, 20.0, -20.0), [1.0, 0.0]), y


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("data", "family"),
    [(two_sides, Logistic()), (two_sides, Softmax(2)), (flagged_class, Logistic()), (one_class_apart, Softmax(3))],
)
def test_classes_that_can_be_separated_wholly_or_in_part_have_no_minimum(data, family, seed, intercept):
    X, y = data(seed=seed)
    with pytest.raises(NotConvergedError, match=NO_MINIMUM) as failure:
        train(Glm(X, y, family, l2=0.0, intercept=intercept))
    assert "--l2" in (failure.value.hint or "")


@pytest.mark.parametrize("l2", [1e-3, 1e-6, 1e-8])
@pytest.mark.parametrize("data", [two_sides, flagged_class])
def test_any_penalty_gives_separable_classes_a_minimum(data, l2):
    X, y = data()
    minimum = train(Glm(X, y, Logistic(), l2=l2))
    assert minimum.converged[0]
    assert minimum.grad_norm[0] <= TOL


@pytest.mark.parametrize("seed", range(5))
def test_overlapping_classes_have_a_minimum_without_a_penalty(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 4))
    for family, classes in ((Logistic(), 2), (Softmax(3), 3)):
        objective = Glm(X, rng.integers(0, classes, 60), family, l2=0.0)
        assert train(objective).grad_norm[0] <= TOL
        # A loose tolerance stops far away, where the Newton step is long, and must not be mistaken for a runaway.
        assert train(objective, tol=0.2).grad_norm[0] <= 0.2


def test_a_regression_that_fits_perfectly_has_a_minimum():
    X = np.random.default_rng(0).normal(size=(30, 3))
    theta = train(Glm(X, X @ [1.0, -2.0, 3.0] + 0.5, Gaussian(), l2=0.0)).theta[:, 0]
    assert relative_error(theta, np.array([1.0, -2.0, 3.0, 0.5])) < STATIONARY


# Blocks


@pytest.mark.parametrize("shared_start", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_minimisations_side_by_side_end_where_single_ones_do(kind, shared_start):
    oracle = make_oracle(kind)
    objective = make_objective(oracle)
    rng = np.random.default_rng(1)
    weights = np.column_stack([oracle.uniform(), *(rng.dirichlet(np.ones(60)) for _ in range(3))])
    trained = oracle.minimise(oracle.uniform())[:, None]
    # The first column starts where it ends, and must stay about there while the others move.
    start = np.tile(trained, (1, 4)) if shared_start else np.hstack([trained, np.zeros((len(trained), 3))])
    preconditioner = objective.preconditioner(trained, objective.weights)
    block = newton_cg(
        objective, start, weights_of(weights), preconditioner=preconditioner, goal=Goal(1e-10, np.ones(4))
    )
    assert block.converged.all()
    assert block.iterations[0] <= 1
    assert (block.iterations[1:] > 1).all()
    assert relative_error(block.theta[:, 0], trained[:, 0]) < STATIONARY
    for g in range(4):
        single = newton_cg(
            objective, start[:, [g]], weights[:, g], preconditioner=preconditioner, goal=Goal(1e-10, np.ones(1))
        )
        assert relative_error(block.theta[:, [g]], single.theta) < STATIONARY
        assert relative_error(block.theta[:, g], oracle.minimise(weights[:, g])) < STATIONARY
        assert np.linalg.norm(oracle.gradient(block.theta[:, g], weights[:, g])) == pytest.approx(
            block.grad_norm[g], abs=1e-14
        )


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX])
def test_steps_that_overshoot_are_halved_column_by_column(kind):
    """Far out the loss is almost flat and Newton's step enormous; beside it stand columns that need no halving."""
    oracle = make_oracle(kind, l2=1e-3)
    objective = make_objective(oracle)
    rng = np.random.default_rng(2)
    weights = rng.dirichlet(np.ones(60), size=4).T
    start = rng.normal(size=(objective.size, 4)) * [0.0, 20.0, 0.0, 20.0]
    preconditioner = objective.preconditioner(0 * start[:, :1], objective.weights)
    block = newton_cg(
        objective, start, weights_of(weights), preconditioner=preconditioner, goal=Goal(1e-10, np.ones(4))
    )
    assert block.converged.all()
    for g in range(4):
        assert relative_error(block.theta[:, g], oracle.minimise(weights[:, g])) < STATIONARY


def test_one_column_that_cannot_finish_does_not_stop_the_others():
    X, y = two_sides()
    objective = Glm(X, y, Logistic(), l2=1e-2)
    w = np.column_stack([objective.weights] * 2)
    start = np.zeros((objective.size, 2))
    start[0, 1] = 1e4
    block = newton_cg(
        objective,
        start,
        weights_of(w),
        preconditioner=objective.preconditioner(start[:, :1], objective.weights),
        goal=Goal(TOL, np.ones(2)),
        max_iterations=9,
    )
    alone = train(objective)
    assert list(block.converged) == [True, False]
    assert relative_error(block.theta[:, 0], alone.theta[:, 0]) < STATIONARY
    assert block.grad_norm[0] <= TOL < block.grad_norm[1]


@pytest.mark.parametrize(
    ("rows", "features", "given", "made"),
    [(80, 3, False, 2), (1500, 1100, False, 1), (80, 1100, False, 2), (80, 3, True, 1)],
)
def test_the_preconditioner_is_made_anew_only_where_that_is_light_and_the_way_is_long(rows, features, given, made):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(rows, features)), np.arange(rows) % 3
    objective, calls = Glm(X + y[:, None], y, Softmax(3), l2=0.1), []
    make = objective.preconditioner
    objective.preconditioner = lambda theta, w: calls.append(theta) or make(theta, w)
    start = train(objective, tol=1e-3).theta if given else None
    calls.clear()
    minimum = train(objective, tol=1e-9, start=start)
    assert minimum.converged.all()
    assert len(calls) == made


def test_a_hessian_that_overflows_is_named():
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    X[7, 1] = 1e300
    with np.errstate(all="ignore"), pytest.raises(NotConvergedError, match="beyond the largest of float64"):
        train(Glm(X, y, Softmax(3), l2=1e-3))
