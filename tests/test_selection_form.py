"""The quadratic form of Eq. 18, its slopes and pairs, and the projections, against dense algebra and bisection."""

import numpy as np
import pytest
from core_cases import CASES, ROUNDING, make_objective, make_oracle, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX
from selection_cases import draw, make_case

from influence_cli.core.estimators import estimate, linear_change
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.selection.projection import onto_capped, onto_l1_ball


@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_row_curvatures(kind, intercept):
    """v' hess l_i u of every row."""
    oracle = make_oracle(kind, intercept)
    objective = make_objective(oracle)
    rng = np.random.default_rng(1)
    theta, V, U = (rng.normal(size=(objective.size, columns)) for columns in (1, 2, 2))
    expected = np.einsum("pg,ipq,qg->ig", V, oracle.row_hessians(theta[:, 0]), U)
    assert relative_error(objective.row_curvatures(theta, V, U), expected) < ROUNDING


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize(("kind", "intercept"), CASES)
def test_predictions_are_those_of_the_estimators(kind, intercept, scaling):
    case = make_case(kind, intercept, size=7, scaling=scaling)
    problem, groups = case.problem, draw(case, 6)
    found = estimate(
        problem.objective,
        problem.theta,
        problem.solver,
        removal(problem.objective.weights, groups, scaling),
        ["first", "second"],
    )
    gradient = problem.target.gradient(problem.theta)
    adjoint = problem.solver.solve(gradient).x
    s = problem.members(groups)
    for name, values in (("first", case.expansion.first(s)), ("second", case.expansion.second(s))):
        assert relative_error(values, linear_change(found[name], gradient, adjoint)[:, 0]) < 1e-8, name
    dense = np.array([case.second(rows) for rows in groups])
    assert relative_error(case.expansion.second(s), dense) < 1e-8


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC, SOFTMAX])
def test_without_a_penalty_it_is_the_papers_eq_18(kind, scaling):
    case = make_case(kind, "none", size=6, scaling=scaling, l2=0.0, m=60)
    m, p = 60, 0.1
    c1 = (1 - 2 * p) / ((1 - p) ** 2 * m) if scaling == "per-mean" else 1 / m
    c2 = 1 / ((1 - p) ** 2 * m**2) if scaling == "per-mean" else 1 / m**2
    _, a, B = case.dense_form()
    for rows in draw(case, 4):
        w = case.problem.mask(rows).astype(float)
        assert case.expansion.second(case.problem.members([rows]))[0] == pytest.approx(
            c1 * w @ a + c2 * w @ B @ w, rel=1e-7
        )


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC, SOFTMAX])
def test_slopes_and_pairs(kind, scaling):
    """The form is quadratic, so a central difference of any width is its slope; W = Q + Q' is (B + B') / m^2."""
    case = make_case(kind, size=5, scaling=scaling)
    expansion, rng = case.expansion, np.random.default_rng(3)
    s, way = rng.uniform(size=30), rng.normal(size=30)
    value, slope = expansion.second_and_slope(case.problem.relaxed(s[None]))
    ahead, behind = expansion.second(case.problem.relaxed(np.stack([s + way, s - way])))
    assert value == pytest.approx(expansion.second(case.problem.relaxed(s[None]))[0], rel=1e-10)
    assert slope @ way == pytest.approx((ahead - behind) / 2, rel=1e-9)
    _, _, B = case.dense_form()
    assert relative_error(expansion.pairs(np.array([3, 8, 29])), (B + B.T)[:, [3, 8, 29]] / 30**2) < 1e-8


def test_removal_is_never_up_weighting():
    """The sign: the predicted change of a small group has the sign of the change when it is really removed."""
    case = make_case(LINEAR, size=1, m=60)
    predicted = case.expansion.second(case.problem.relaxed(np.eye(60)))
    realised = np.array([case.realised([row]) for row in range(60)])
    assert np.corrcoef(predicted, realised)[0, 1] > 0.98


def _bisect(x: np.ndarray, weight, total: float) -> float:
    """tau >= 0 with sum weight(x - tau) = total."""
    low, high = 0.0, float(np.abs(x).max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if weight(middle) > total else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("total", [0.3, 2.0, 7.5])
@pytest.mark.parametrize("seed", range(5))
def test_projection_onto_the_l1_ball(seed, total):
    x = np.random.default_rng(seed).normal(scale=2.0, size=40)
    tau = _bisect(x, lambda t: np.maximum(np.abs(x) - t, 0).sum(), total)
    found = onto_l1_ball(x, total)
    np.testing.assert_allclose(found, np.sign(x) * np.maximum(np.abs(x) - tau, 0), atol=1e-12)
    assert np.abs(found).sum() == pytest.approx(total)


@pytest.mark.parametrize("total", [1.0, 5.0, 12.0])
@pytest.mark.parametrize("seed", range(5))
def test_projection_onto_the_capped_simplex(seed, total):
    x = np.random.default_rng(seed).normal(loc=0.5, scale=2.0, size=40)
    tau = _bisect(x, lambda t: np.clip(x - t, 0, 1).sum(), total)
    found = onto_capped(x, total)
    np.testing.assert_allclose(found, np.clip(x - tau, 0, 1), atol=1e-10)
    assert found.sum() == pytest.approx(total)


def test_points_inside_stay_where_they_are():
    x = np.array([0.2, -0.3, 0.0])
    np.testing.assert_array_equal(onto_l1_ball(x, 0.5), x)
    np.testing.assert_array_equal(onto_capped(x, 2.0), [0.2, 0.0, 0.0])
    np.testing.assert_allclose(onto_capped(np.array([1.0, 1.0, 1.0]), 2.0), np.full(3, 2 / 3))


def test_ties_are_projected_alike():
    np.testing.assert_allclose(onto_l1_ball(np.array([1.0, 1.0, -1.0, 0.5]), 1.5), [0.5, 0.5, -0.5, 0.0])
    np.testing.assert_allclose(onto_capped(np.array([5.0, 2.0, 2.0, 0.0]), 2.0), [1.0, 0.5, 0.5, 0.0])
