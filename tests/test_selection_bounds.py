"""What no group of k rows can do: never less than what enumeration and refits find."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from influence_cli import GroupInfluence
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import Loss, Margin, ParameterTarget, Prediction, Probability, RowTarget
from influence_cli.core.selection.bounds import fewest_rows, largest_change
from influence_cli.core.selection.problem import Problem
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

FAMILIES = {"linear": Gaussian, "logistic": Logistic, "poisson": Poisson}


def problem(kind: str, quantity: str, size: int, *, m=20, l2=0.1, scaling="per-mean", seed=0, weights=None) -> Problem:
    rng = np.random.default_rng(seed)
    X, x, family = rng.normal(size=(m, 2)), rng.normal(size=(1, 2)), FAMILIES[kind]()
    eta = np.vstack([X, x]) @ [0.6, -0.4] + 0.3
    if kind == "linear":
        y = eta + rng.normal(size=m + 1)
    elif kind == "logistic":
        y = (eta + rng.logistic(size=m + 1) > 0).astype(np.int64)
    else:
        y = rng.poisson(np.exp(eta)).astype(float)
    objective = Glm(X, y[:m], family, l2=l2, weights=weights)
    theta = train(objective, tol=1e-11).theta
    quantities = {"loss": Loss, "prediction": Prediction, "margin": Margin, "prob": Probability}
    target = ParameterTarget(1) if quantity == "param" else RowTarget(objective, quantities[quantity](family), x, y[m:])
    return Problem(objective, theta, make_solver(objective, theta, "cholesky"), target, size, scaling, np.arange(m))


def refitted(case: Problem, rows: tuple[int, ...]) -> np.ndarray:
    """The minimiser without the rows: closed form, or Newton's method written out here."""
    objective = case.objective
    X = np.column_stack([objective.design.X, np.ones(case.rows)])
    w = objective.weights.copy()
    w[list(rows)] = 0.0
    w /= w.sum() if case.scaling == "per-mean" else 1.0
    ridge, y = objective.penalty.ridge, objective.y
    if isinstance(objective.family, Gaussian):
        return np.linalg.solve(X.T * w @ X + np.diag(ridge), X.T @ (w * y))
    theta = case.theta[:, 0]
    for _ in range(12):  # Newton's method, from nearby
        mean = np.exp(X @ theta) if isinstance(objective.family, Poisson) else 1 / (1 + np.exp(-X @ theta))
        bent = mean if isinstance(objective.family, Poisson) else mean * (1 - mean)
        gradient = X.T @ (w * (mean - y)) + ridge * theta
        theta = theta - np.linalg.solve(X.T * (w * bent) @ X + np.diag(ridge), gradient)
    assert np.abs(gradient).max() < 1e-12
    return theta


CASES = [
    *(
        ("linear", quantity, 2, {"scaling": scaling})
        for quantity in ("loss", "prediction")
        for scaling in ("per-mean", "per-sum")
    ),
    ("linear", "param", 3, {"l2": 0.0, "m": 24}),
    ("linear", "prediction", 1, {"l2": 0.0, "weights": "some"}),
    ("linear", "loss", 2, {"scaling": "per-sum", "weights": "some"}),
    ("logistic", "loss", 1, {"l2": 0.2, "m": 40}),
    ("logistic", "margin", 2, {"l2": 0.3, "m": 24, "scaling": "per-sum"}),
    ("logistic", "prob", 1, {"l2": 0.2, "m": 40}),
    ("poisson", "loss", 1, {"m": 40}),
    ("poisson", "prediction", 2, {"m": 25}),
]


@pytest.mark.parametrize(("kind", "quantity", "size", "how"), CASES)
def test_no_group_exceeds_it(kind, quantity, size, how):
    finite = 0
    for seed in range(3):
        if how.get("weights") is not None:
            weights = np.random.default_rng(seed).uniform(0.5, 2.0, how.get("m", 20))
            how = how | {"weights": weights / weights.sum()}
        case = problem(kind, quantity, size, seed=seed, **how)
        smaller = [rows for k in range(1, size) for rows in combinations(range(case.rows), k)]
        own = list(combinations(range(case.rows), size))
        value = {rows: case.target.value(refitted(case, rows)[:, None])[0, 0] - case.base for rows in own + smaller}
        for direction, sign in (("increase", 1.0), ("decrease", -1.0)):
            asked = replace(case, direction=direction)
            bound = largest_change(asked)
            if np.isfinite(bound):
                best = max(sign * value[rows] for rows in own)
                assert sign * bound >= best
                finite += 1
                if kind == "linear" and quantity != "loss":
                    assert sign * bound < 8.0 * best
            at_most = largest_change(asked, at_most=True)
            assert not sign * at_most < max(sign * value[rows] for rows in own + smaller)
            if case.scaling == "per-sum" or not case.objective.penalty.ridge.any():
                assert np.isnan(bound) == np.isnan(at_most)
            else:
                assert np.isnan(at_most)  # smaller groups leave another penalty
    assert finite >= 2


@pytest.mark.parametrize("quantity", ["param", "prediction"])
@pytest.mark.parametrize(("scaling", "l2"), [("per-mean", 0.1), ("per-sum", 0.1), ("per-mean", 0.0)])
def test_of_one_row_it_is_the_change_of_a_linear_regression(quantity, scaling, l2):
    """With one candidate every inequality is an equality: whatever is smaller proves nothing."""
    case = problem("linear", quantity, 1, m=6, scaling=scaling, l2=l2)
    for row in range(case.rows):
        change = case.target.value(refitted(case, (row,))[:, None])[0, 0] - case.base
        direction = "increase" if change > 0 else "decrease"
        bound = largest_change(replace(case, candidates=np.array([row]), direction=direction))
        assert 1.0 <= bound / change < 1.0 + 1e-4


def test_of_two_opposite_rows_it_is_the_change():
    """Their features point against each other, and their curvatures add up all the same."""
    x, y = np.array([3.0, -3.0, 1.0, 2.0, -1.0, 2.0]), np.array([4.0, -4.0, 0.5, 1.0, -1.0, 2.0])
    objective = Glm(x[:, None], y, Gaussian(), l2=0.0, intercept=False)
    theta = train(objective, tol=1e-12).theta
    solver = make_solver(objective, theta, "cholesky")
    own = Problem(objective, theta, solver, ParameterTarget(0), 2, "per-sum", np.arange(2), "decrease")
    change = x[2:] @ y[2:] / (x[2:] @ x[2:]) - x @ y / (x @ x)
    assert change < 0
    assert 1.0 <= largest_change(own) / change < 1.0 + 1e-4


def test_of_at_most_two_rows_one_may_do_more():
    """The second row's change has the other sign: that of both together is less than that of the first alone."""
    case = problem("linear", "param", 2, m=30, scaling="per-sum")
    alone = np.array([case.target.value(refitted(case, (row,))[:, None])[0, 0] for row in range(30)]) - case.base
    ends = np.array([alone.argmin(), alone.argmax()])
    assert largest_change(replace(case, candidates=np.sort(ends)), at_most=True) >= alone.max()


@pytest.mark.parametrize("weight", [2.0, 8.0])
def test_of_one_row_it_is_nearly_the_change_of_a_rate(weight):
    """A Poisson regression on a constant alone, whose third derivatives are as large as the bound takes them to be."""
    w = np.concatenate([[weight], np.full(9, 0.5)])
    y = np.concatenate([[2.0 + 0.2 * w.sum() / weight], np.tile([1.0, 2.0, 3.0], 3)])  # a rate of 2.2, without it 2
    objective = Glm(np.ones((10, 1)), y, Poisson(), l2=0.0, intercept=False, weights=w)
    theta = train(objective, tol=1e-12).theta
    solver = make_solver(objective, theta, "cholesky")
    own = Problem(objective, theta, solver, ParameterTarget(0), 1, "per-sum", np.array([0]), "decrease")
    change = np.log(w[1:] @ y[1:] / w[1:].sum()) - np.log(w @ y / w.sum())
    assert change == pytest.approx(-np.log(1.1))
    assert 1.0 <= largest_change(own) / change < 1.01


@pytest.mark.parametrize(
    ("kind", "quantity", "how"),
    [("linear", "prediction", {"scaling": "per-sum"}), ("linear", "param", {}), ("logistic", "margin", {"l2": 0.3})],
)
def test_no_smaller_group_flips(kind, quantity, how):
    proven = []
    for seed in range(6):
        case = problem(kind, quantity, 3, m=24, seed=seed, **how)
        asked = replace(case, direction="decrease" if case.base > 0 else "increase")
        fewest = fewest_rows(asked, 4)
        for size in range(1, fewest):
            for rows in combinations(range(case.rows), size):
                assert case.target.value(refitted(case, rows)[:, None])[0, 0] * case.base > 0
        proven.append(fewest)
    assert max(proven) > 1


def test_where_no_group_of_the_size_flips_that_is_proven():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(24, 2))
    y = X @ [1.0, -1.0] + 0.5 * rng.normal(size=24)
    (found,) = GroupInfluence.fit(X, y, estimator="linear", l2=0.0).select(2, flip=True, quantity="param:x0").records()
    assert (found["rows"], found["at_least"]) == (None, 3)
    A = np.column_stack([X, np.ones(24)])
    for rows in combinations(range(24), 2):
        assert np.linalg.lstsq(np.delete(A, rows, axis=0), np.delete(y, rows), rcond=None)[0][0] > 0


def test_units_play_no_part():
    """The bound of a prediction is in the unit of the response, whatever the unit of a feature without a penalty."""
    case = problem("linear", "prediction", 2, l2=0.0)
    bound = largest_change(case)
    for feature, response in ((1e-9, 1.0), (1e9, 1.0), (1.0, 1e-9), (1.0, 1e9)):
        X, y = case.objective.design.X * [feature, 1.0], case.objective.y * response
        objective = Glm(X, y, Gaussian(), l2=0.0)
        theta = train(objective, tol=1e-11).theta
        target = replace(case.target, objective=objective, X=case.target.X * [feature, 1.0])
        other = replace(
            case, objective=objective, theta=theta, solver=make_solver(objective, theta, "cholesky"), target=target
        )
        assert largest_change(other) == pytest.approx(bound * response, rel=1e-4)


def test_none_where_nothing_is_proven():
    """Too many rows for their leverage, several outputs, weights that make the penalty another for every group."""
    assert np.isnan(largest_change(problem("linear", "prediction", 15, l2=0.0)))
    weights = np.arange(1.0, 21.0)
    assert np.isnan(largest_change(problem("linear", "prediction", 2, weights=weights / weights.sum())))
    rng = np.random.default_rng(0)
    objective = Glm(rng.normal(size=(30, 2)), np.arange(30) % 3, Softmax(3), l2=0.1)
    theta = train(objective).theta
    solver = make_solver(objective, theta, "cholesky")
    assert np.isnan(largest_change(Problem(objective, theta, solver, ParameterTarget(0), 2, "per-mean", np.arange(30))))
