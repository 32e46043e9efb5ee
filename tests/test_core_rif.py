"""``rif``: the sum of single-removal Newton steps, against those steps one by one with dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import CASES, dense_weights, family, make_objective, make_oracle, relative_error, worst_error
from oracle import LINEAR, SOFTMAX

from influence_cli.core import rif as module
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import Form, Mlp
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.removal import PENALTY_SCALINGS, PER_MEAN, PER_SUM, removal
from influence_cli.core.rif import UNDETERMINED, SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver, make_solver
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.core.training import train
from influence_cli.errors import UsageError

IDENTITY = 1e-9
GROUPS = [[3], [0, 1, 2, 3], list(range(0, 60, 2)), list(range(60))[5:]]


def trained(objective: Objective) -> tuple[np.ndarray, HessianSolver]:
    theta = train(objective, tol=1e-13).theta
    return theta, make_solver(objective, theta, "cholesky")


def single_newton_steps(objective: Objective, theta: np.ndarray, scaling: str) -> np.ndarray:
    """-(hess J)^-1 grad J under the weights without each row, from matrices made of products: (P, m)."""
    m, P = len(objective.weights), objective.size
    without = removal(objective.weights, [np.array([row]) for row in range(m)], scaling).removed
    steps = []
    for w in dense_weights(without).T:
        hessian = objective.curvature(theta, w)(np.eye(P))
        steps.append(-np.linalg.solve(hessian, objective.gradient(theta, w)[:, 0]))
    return np.column_stack(steps)


def rif(objective: Objective, theta: np.ndarray, solver: HessianSolver, groups, scaling: str) -> np.ndarray:
    rows = [np.array(group) for group in groups]
    singles = SingleRemovals(objective, theta, solver, scaling)
    rhs, problems = singles.sums(removal(objective.weights, rows, scaling))
    assert set(problems) == {"ok"}
    return solver.solve(rhs).x


def poisson(weights: np.ndarray | None) -> Glm:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, 3))
    return Glm(X, rng.poisson(np.exp(0.5 * X[:, 0] + 0.3)).astype(float), Poisson(), l2=0.03, weights=weights)


def weighted(uneven: bool) -> np.ndarray | None:
    if not uneven:
        return None
    w = np.random.default_rng(1).uniform(0.2, 3.0, size=60)
    return w / w.sum()


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(("kind", "intercept"), [*CASES, ("poisson", "free")])
def test_rif_is_the_sum_of_each_rows_own_newton_step(kind, intercept, uneven):
    w = weighted(uneven)
    objective = poisson(w) if kind == "poisson" else make_objective(make_oracle(kind, intercept), w)
    theta, solver = trained(objective)
    for scaling in PENALTY_SCALINGS:
        steps = single_newton_steps(objective, theta, scaling)
        expected = np.column_stack([steps[:, group].sum(axis=1) for group in GROUPS])
        found = rif(objective, theta, solver, GROUPS, scaling)
        if scaling == PER_SUM:
            assert worst_error(found.T, expected.T) < IDENTITY
            continue
        # per-mean leaves w_i P out of a Hessian, and of what it adds a row's step at most w_i / (1 - w_i)
        top = objective.weights.max()
        assert worst_error(found.T, expected.T) < top / (1.0 - top)
        assert worst_error(found.T, expected.T) > 1e-6, "else the bound above were no test"


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_without_a_penalty_rif_of_one_row_is_its_newton_step_and_of_a_linear_model_its_refit(scaling):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 3))
    objective = Glm(X, X @ [1.0, 2.0, 3.0] + rng.normal(size=30), Gaussian(), l2=0.0)
    theta, solver = trained(objective)
    groups = [[row] for row in range(30)]
    found = theta + rif(objective, theta, solver, groups, scaling)
    features = np.column_stack([X, np.ones(30)])
    for row in range(30):
        kept = np.arange(30) != row
        refit = np.linalg.lstsq(features[kept], objective.y[kept], rcond=None)[0]
        assert relative_error(found[:, row], refit) < IDENTITY


def test_a_row_that_alone_determines_a_parameter_is_told():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 2))
    X[:, 1] = np.arange(30) == 7
    objective = Glm(X, rng.normal(size=30), Gaussian(), l2=0.0)
    theta, solver = trained(objective)
    rows = [np.array(group) for group in ([7, 8], [8, 9], [0, 7])]
    rhs, problems = SingleRemovals(objective, theta, solver, PER_MEAN).sums(removal(objective.weights, rows, PER_MEAN))
    assert problems == (UNDETERMINED, "ok", UNDETERMINED)
    assert np.isfinite(rhs).all()


def test_rows_are_corrected_once_whatever_the_groups(monkeypatch):
    objective = make_objective(make_oracle(LINEAR))
    theta, solver = trained(objective)
    asked = []
    original = module.corrected_residuals

    def spy(model, theta, rows, inverse, along):
        asked.append(rows.tolist())
        return original(model, theta, rows, inverse, along)

    monkeypatch.setattr(module, "corrected_residuals", spy)
    singles = SingleRemovals(objective, theta, solver, PER_MEAN)
    for groups in ([[3, 4]], [[4, 5], [3]], [[5]]):
        singles.sums(removal(objective.weights, [np.array(group) for group in groups], PER_MEAN))
    assert asked == [[3, 4], [5]]


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_a_factor_in_single_precision_gives_the_leverages_to_its_rounding(kind):
    objective = make_objective(make_oracle(kind))
    theta, solver = trained(objective)
    assert solver.factor is not None
    rough = CholeskyFactor(np.asfortranarray(solver.factor.lower.astype(np.float32)))
    less = HessianSolver(solver.product, rough, rough, solver.tol, solver.size)
    one, other = (rif(objective, theta, use, GROUPS, PER_MEAN) for use in (solver, less))
    assert worst_error(other.T, one.T) < 1e-5


def test_what_rif_needs_is_said():
    objective = make_objective(make_oracle(LINEAR))
    theta, _ = trained(objective)
    with pytest.raises(UsageError, match="rif needs the leverage of every row in a group") as failure:
        SingleRemovals(objective, theta, make_solver(objective, theta, "cg"), PER_MEAN)
    assert failure.value.hint == "use --solver cholesky, or another method"
    oracle = make_oracle("softmax")
    network = Mlp(oracle.X, oracle.y, family(oracle), Form((2,), 0.1), damping=1.0)
    theta = network.initial(0)
    with pytest.raises(UsageError, match="outputs are linear in the parameters") as failure:
        SingleRemovals(network, theta, make_solver(network, theta, "cholesky"), PER_MEAN)
    assert "newton" in failure.value.hint


def test_a_solve_that_failed_is_told():
    objective = make_objective(make_oracle(LINEAR))
    theta, solver = trained(objective)
    rows = [np.array(group) for group in GROUPS]
    singles = SingleRemovals(objective, theta, replace(solver, tol=0.0), PER_MEAN)
    _, problems = singles.sums(removal(objective.weights, rows, PER_MEAN))
    assert all("solve stopped at relative residual" in problem for problem in problems)


@pytest.mark.parametrize("times", [2.0, 0.5, 1.01, 0.0])
def test_a_factor_of_another_hessian_is_made_again(times):
    objective = make_objective(make_oracle(SOFTMAX))
    theta, solver = trained(objective)
    foreign = CholeskyFactor(np.asfortranarray(times * solver.factor.lower))
    other = make_solver(objective, theta, "cholesky", factor=foreign)
    assert solver.factor_error() < 1e-10 < other.factor_error()
    groups = removal(objective.weights, [np.array(group) for group in GROUPS], PER_SUM)
    expected, _ = SingleRemovals(objective, theta, solver, PER_SUM).sums(groups)
    found, problems = SingleRemovals(objective, theta, other, PER_SUM).sums(groups)
    assert set(problems) == {"ok"}
    assert relative_error(found, expected) < 1e-12
