"""Every estimator against the dense oracle, the paper's own formulas, and retraining."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from core_cases import (
    CASES,
    DIRECT,
    KINDS,
    dense_weights,
    family,
    make_objective,
    make_oracle,
    relative_error,
    worst_error,
)
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle, inverse

from influence_cli.core.estimators import METHODS, Estimate, estimate, exact_change, linear_change
from influence_cli.core.quantities import MeanTarget, ParameterTarget, RowTarget, row_quantity
from influence_cli.core.removal import PENALTY_SCALINGS, PER_MEAN, Removal, removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver, make_solver
from influence_cli.core.weights import Weights
from influence_cli.errors import UsageError

ITERATIVE = 1e-7
"""Relative error of what plain CG solved to a residual of 1e-10: the condition of these problems is under 1000."""
IDENTITY = 1e-10
"""Relative difference of two forms of one formula."""
SOLVERS = {"cholesky": DIRECT, "cg": ITERATIVE}
QUANTITIES = {
    LOGISTIC: ("loss", "prob", "margin", "logit:0", "logit:1"),
    SOFTMAX: ("loss", "prob", "margin", "logit:2"),
    LINEAR: ("loss", "prediction"),
}


@cache
def trained(kind: str, intercept: str = "free") -> tuple[Oracle, np.ndarray]:
    oracle = make_oracle(kind, intercept)
    return oracle, oracle.minimise(oracle.uniform())


def groups_of(oracle: Oracle) -> list[np.ndarray]:
    """One row, a tenth, a third, and the half with the largest responses or classes."""
    m = len(oracle.X)
    order = np.random.default_rng(4).permutation(m)
    return [order[:1], order[: m // 10], order[: m // 3], np.argsort(oracle.y, kind="stable")[m // 2 :]]


def rows_to_test(oracle: Oracle, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(count, oracle.X.shape[1]))
    return X, rng.normal(size=count) if oracle.kind == LINEAR else rng.integers(0, oracle.classes, count)


def target_of(oracle: Oracle, objective, quantity: str) -> RowTarget:
    names = tuple(str(k) for k in range(oracle.classes))
    return RowTarget(objective, row_quantity(quantity, family(oracle), names), *rows_to_test(oracle))


@dataclass
class Core:
    """The core on an oracle's problem at the oracle's parameters."""

    oracle: Oracle
    theta: np.ndarray
    kind: str = "cholesky"
    scaling: str = PER_MEAN
    groups: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self):
        self.groups = self.groups or groups_of(self.oracle)
        self.objective = make_objective(self.oracle)
        self.solver = make_solver(self.objective, self.theta[:, None], self.kind)
        self.removal = removal(self.objective.weights, self.groups, self.scaling)

    def estimates(self, methods=None):
        """By default all that the solver allows."""
        methods = methods or (METHODS if self.solver.factor is not None else METHODS[:-1])
        theta, singles = self.theta[:, None], None
        if "rif" in methods:
            singles = SingleRemovals(self.objective, theta, self.solver, self.scaling)
        return estimate(self.objective, theta, self.solver, self.removal, methods, singles)

    def changes(self, methods=None) -> dict[str, np.ndarray]:
        """Changes of theta, (P, G)."""
        solved = {method: found.solved(self.solver) for method, found in self.estimates(methods).items()}
        assert all(set(found.problems) == {"ok"} for found in solved.values())
        return {method: found.change for method, found in solved.items() if found.change is not None}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_every_estimate_equals_the_oracle_in_theta_and_in_every_quantity(kind, intercept, scaling, solver):
    oracle, theta = trained(kind, intercept)
    core = Core(oracle, theta, solver, scaling)
    by_group = [oracle.changes(theta, group, scaling) for group in core.groups]
    expected = {method: np.column_stack([changes[method] for changes in by_group]) for method in METHODS}
    for method, change in core.changes().items():
        assert worst_error(change.T, expected[method].T) < SOLVERS[solver], method
    X, y = rows_to_test(oracle)
    for quantity in QUANTITIES[kind]:
        target = target_of(oracle, core.objective, quantity)
        base = target.value(theta[:, None])[:, 0]
        before = oracle.quantity(quantity, theta, X, y)
        assert relative_error(base, before) < SOLVERS[solver]
        slopes = oracle.quantity_gradient(quantity, theta, X, y)
        gradients = target.gradient(theta[:, None])
        adjoints = core.solver.solve(gradients).x
        for method, found in core.estimates().items():
            linear = np.array([slopes @ change for change in expected[method].T])
            assert worst_error(linear_change(found, gradients, adjoints), linear) < SOLVERS[solver]
            moved = np.array([oracle.quantity(quantity, theta + change, X, y) for change in expected[method].T])
            solved = found.solved(core.solver)
            changed = exact_change(solved, target, theta[:, None], base)
            assert worst_error(changed, moved - before) < SOLVERS[solver]
            assert solved.change is not None
            assert worst_error(solved.change.T, expected[method].T) < SOLVERS[solver]


def test_the_methods_differ_by_far_more_than_the_tolerances():
    """Else the test above would not tell them apart."""
    for kind in KINDS:
        oracle, theta = trained(kind)
        for scaling in PENALTY_SCALINGS:
            changes = oracle.changes(theta, groups_of(oracle)[2], scaling)
            for one, other in pairwise(METHODS):
                alike = (one, other) in same_by_definition(kind, scaling)
                assert (relative_error(changes[one], changes[other]) > 1e-3) != alike, (kind, scaling, one, other)


def same_by_definition(kind: str, scaling: str) -> set[tuple[str, str]]:
    """per-sum keeps the first order as it is in Koh's form; a quadratic has no third derivative."""
    same = {("first-koh", "first")} if scaling != PER_MEAN else set()
    return same | ({("second", "second-full")} if kind == LINEAR else set())


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_higher_orders_come_closer_to_the_refit_at_their_rate(kind, scaling):
    """As the share p of the group shrinks, errors fall as p^2 (first), p^3 (second-full); halving p shows the power."""
    oracle, theta = trained(kind)
    before = oracle.uniform()
    after = oracle.weights_without(groups_of(oracle)[2], scaling)

    def errors(eps: float) -> dict[str, float]:
        w = before + eps * (after - before)
        actual = oracle.minimise(w, start=theta) - theta
        parts = core_path(oracle, theta, (before - after) * eps)
        return {method: float(np.linalg.norm(change[:, 0] - actual)) for method, change in parts.items()}

    whole, half = errors(0.02), errors(0.01)
    powers = {method: np.log2(whole[method] / half[method]) for method in whole}
    assert powers["first"] == pytest.approx(2, abs=0.1)
    assert powers["second-full"] == pytest.approx(3, abs=0.1)
    assert kind == LINEAR or powers["second"] == pytest.approx(2, abs=0.1)


def core_path(oracle: Oracle, theta: np.ndarray, delta: np.ndarray) -> dict[str, np.ndarray]:
    """The core's estimates for any direction delta (m,), not only for a group's."""
    core = Core(oracle, theta)
    w = core.objective.weights
    rows, one, none = (np.arange(len(w)),), np.ones(1), np.zeros(1)
    member = Weights(w, rows, kept=none, taken=one, membership=(delta / w,))
    core.removal = Removal(member, member.scaled(kept=one, taken=none), share=none, scale=one, offset=none)
    return core.changes(("first", "second", "second-full"))


# The paper's own formulas, with the penalty folded into each row's loss


def papers_terms(oracle: Oracle, theta: np.ndarray, group: np.ndarray):
    """p, H^-1, and the sums over the group of folded gradients and Hessians."""
    gradients = oracle.row_gradients(theta) + oracle.penalty @ theta
    hessians = oracle.row_hessians(theta) + oracle.penalty
    return len(group) / len(oracle.X), inverse(hessians.mean(axis=0)), gradients[group].sum(0), hessians[group].sum(0)


def papers_theorem_1(oracle: Oracle, theta: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """I(1) of Eq. 12 and I' of Theorem 1."""
    p, H_inverse, gradients, hessians = papers_terms(oracle, theta, group)
    first = -1 / (1 - p) / len(oracle.X) * H_inverse @ gradients
    return first, p / (1 - p) * (first - H_inverse @ (hessians / len(group)) @ first)


def papers_equation_17(oracle: Oracle, theta: np.ndarray, group: np.ndarray) -> np.ndarray:
    """What stands in its braces."""
    p, H_inverse, gradients, hessians = papers_terms(oracle, theta, group)
    m = len(oracle.X)
    term_1 = (1 - 2 * p) / (1 - p) ** 2 / m * H_inverse @ gradients
    return term_1 + 1 / (1 - p) ** 2 / m**2 * H_inverse @ hessians @ H_inverse @ gradients


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_theorem_1_at_eps_minus_1_and_equation_17_are_the_path_form(kind, intercept):
    oracle, theta = trained(kind, intercept)
    core = Core(oracle, theta)
    changes = core.changes()
    for g, group in enumerate(core.groups):
        first, prime = papers_theorem_1(oracle, theta, group)
        assert relative_error(changes["first"][:, g], -first) < IDENTITY
        assert relative_error(changes["second"][:, g], -first + prime) < IDENTITY
        assert relative_error(changes["second"][:, g], papers_equation_17(oracle, theta, group)) < IDENTITY


@pytest.mark.parametrize("kind", KINDS)
def test_equation_9_taken_literally_does_not_predict_removal(kind):
    """theta1 + theta2 is up-weighting (eps = +1): against retraining its sign is wrong, and Eq. 17's is right."""
    oracle, theta = trained(kind)
    rng = np.random.default_rng(6)
    groups = [rng.permutation(len(oracle.X))[:12] for _ in range(25)]
    X, y = rows_to_test(oracle, 1)
    slope = oracle.quantity_gradient("loss", theta, X, y)[0]
    before = oracle.quantity("loss", theta, X, y)[0]
    refits = [theta + oracle.refit_change(theta, group, PER_MEAN) for group in groups]
    actual = [oracle.quantity("loss", refit, X, y)[0] - before for refit in refits]
    literal = [slope @ sum(papers_theorem_1(oracle, theta, group)) for group in groups]
    second = slope @ Core(oracle, theta, groups=groups).changes()["second"]
    assert np.corrcoef(literal, actual)[0, 1] < -0.9
    assert np.corrcoef(second, actual)[0, 1] > 0.95
    assert np.linalg.norm(second - actual) < 0.5 * np.linalg.norm(actual)


# What is known without any formula


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_removing_the_rows_that_taught_a_prediction_raises_its_loss(kind, method):
    """The one sign of every figure: positive where the group helped."""
    oracle, theta = trained(kind)
    core = Core(oracle, theta, groups=[np.array([row]) for row in range(10)])
    rows = RowTarget(core.objective, row_quantity("loss", family(oracle), ()), oracle.X[:10], oracle.y[:10])
    gradients = rows.gradient(theta[:, None])
    changes = linear_change(core.estimates((method,))[method], gradients, core.solver.solve(gradients).x)
    assert (np.diag(changes) > 0).all()


@pytest.mark.parametrize("size", [1, 30, 55, 58])
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("intercept", ["none", "free", "penalised"])
def test_newton_is_the_refit_of_a_linear_regression_however_large_the_group(intercept, scaling, size):
    oracle, _ = trained(LINEAR, intercept)
    group = np.random.default_rng(8).permutation(60)[:size]
    theta, refit = (least_squares(oracle, w) for w in (oracle.uniform(), oracle.weights_without(group, scaling)))
    change = Core(oracle, theta, scaling=scaling, groups=[group]).changes(("newton",))["newton"][:, 0]
    assert relative_error(theta + change, refit) < IDENTITY


def least_squares(oracle: Oracle, w: np.ndarray) -> np.ndarray:
    """The solution of the normal equations."""
    X = oracle.features(oracle.X)
    return np.linalg.solve(X.T @ (w[:, None] * X) + oracle.penalty, X.T @ (w * oracle.y))


def test_an_estimate_says_which_of_its_groups_were_not_solved():
    oracle, theta = trained(SOFTMAX)
    core = Core(oracle, theta)
    core.solver = replace(core.solver, tol=0.0)
    for method, found in core.estimates().items():
        problems = found.solved(core.solver).problems
        assert len(problems) == len(core.groups)
        assert all("solve stopped at relative residual" in problem for problem in problems), method
    rhs = np.zeros((len(theta), 2))
    assert Estimate(None, rhs, ("an earlier solve failed", "ok")).solved(core.solver).problems == (
        "an earlier solve failed",
        "ok",
    )


# Weights


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_removal_turns_groups_into_the_oracles_weights(scaling):
    oracle = make_oracle(LOGISTIC)
    groups = [*groups_of(oracle), np.array([], dtype=int)]
    found = removal(oracle.uniform(), groups, scaling)
    member, removed, delta = (dense_weights(weights) for weights in (found.member, found.removed, found.delta))
    for g, group in enumerate(groups):
        np.testing.assert_allclose(removed[:, g], oracle.weights_without(group, scaling), rtol=1e-14)
        assert (removed[group, g] == 0).all()
    np.testing.assert_allclose(delta, found.along(member, oracle.uniform()[:, None]), atol=1e-17)
    np.testing.assert_allclose(delta, oracle.uniform()[:, None] - removed, atol=1e-17)
    np.testing.assert_allclose(found.share, [len(group) / 60 for group in groups])
    np.testing.assert_allclose(member.sum(axis=0), found.share)
    assert not delta[:, -1].any()


# Targets


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_target_is_the_mean_and_a_parameter_is_itself(kind):
    oracle, theta = trained(kind)
    core = Core(oracle, theta)
    rows = target_of(oracle, core.objective, "loss")
    stack = theta[:, None] + np.random.default_rng(9).normal(size=(len(theta), 3))
    X, y = rows_to_test(oracle)
    losses = np.array([oracle.losses(column, X, y).mean() for column in stack.T])
    assert relative_error(MeanTarget(rows).value(stack)[0], losses) < DIRECT
    slope = oracle.quantity_gradient("loss", theta, X, y).mean(axis=0)
    assert relative_error(MeanTarget(rows).gradient(theta[:, None])[:, 0], slope) < DIRECT
    parameter = ParameterTarget(1)
    assert (parameter.value(stack) == stack[1:2]).all()
    gradients = parameter.gradient(theta[:, None])
    adjoints = core.solver.solve(gradients).x
    for method, found in core.estimates().items():
        assert relative_error(linear_change(found, gradients, adjoints)[:, 0], core.changes()[method][1]) < DIRECT


@pytest.mark.parametrize(
    ("kind", "quantity", "text"),
    [
        (LOGISTIC, "prediction", "is for regressions"),
        (LINEAR, "prob", "is for classifiers"),
        (LINEAR, "logit:0", "is for classifiers"),
        (SOFTMAX, "logit:7", "no class is named '7'"),
        (SOFTMAX, "accuracy", "unknown --quantity 'accuracy'"),
    ],
)
def test_a_quantity_that_does_not_suit_the_model_is_refused(kind, quantity, text):
    with pytest.raises(UsageError, match=text) as failure:
        row_quantity(quantity, family(make_oracle(kind)), ("0", "1", "2"))
    assert failure.value.hint


# Cost


@dataclass(frozen=True)
class CountingSolver(HessianSolver):
    columns: list[int] = field(default_factory=list)

    def solve(self, rhs):
        self.columns.append(rhs.shape[1])
        return super().solve(rhs)


@pytest.mark.parametrize(
    ("methods", "linear", "exact"),
    [
        (("first-koh",), 0, 1),
        (("first-koh", "first"), 0, 2),
        (("first", "second"), 1, 2),
        (("first-koh", "first", "second", "second-full"), 1, 4),
    ],
)
def test_solves_grow_with_tests_plus_groups_and_never_with_pairs(methods, linear, exact):
    oracle, theta = trained(SOFTMAX)
    core = Core(oracle, theta, groups=[np.arange(start, start + 5) for start in range(0, 55, 5)])
    tests, groups = 4, len(core.groups)
    core.solver = CountingSolver(**vars(core.solver))
    target = target_of(oracle, core.objective, "loss")
    gradients = target.gradient(theta[:, None])
    adjoints = core.solver.solve(gradients).x
    for found in core.estimates(methods).values():
        assert linear_change(found, gradients, adjoints).shape == (groups, tests)
    assert sum(core.solver.columns) == tests + linear * groups
    core.solver.columns.clear()
    for found in core.estimates(methods).values():
        exact_change(found.solved(core.solver), target, theta[:, None], np.zeros(tests))
    assert sum(core.solver.columns) == exact * groups
