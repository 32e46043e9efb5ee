"""Flips and unions of given groups, against refits by the oracle and enumeration."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from core_cases import family
from oracle import LINEAR, LOGISTIC, SOFTMAX
from selection_cases import Case, make_case

from influence_cli.core.quantities import Margin, Prediction, RowTarget
from influence_cli.core.selection import flip as flips
from influence_cli.core.selection.evaluate import NEWTON, RETRAINED
from influence_cli.core.selection.flip import flip
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.unions import Pool, exact_union, greedy_union, swap_union
from influence_cli.errors import UsageError


def margin_case(kind: str, seed: int, size: int = 25, shift: float = 0.0) -> Case:
    """The question whether the predicted class (or the sign of the prediction) of a row changes."""
    case = make_case(kind, m=50, size=size, seed=seed)
    objective, problem = case.problem.objective, case.problem
    x = case.x + shift
    if kind == LINEAR:
        target = RowTarget(objective, Prediction(family(case.oracle)), x, np.zeros(1))
    else:
        label = objective.family.predict(objective.predict_outputs(problem.theta, x))[0]
        target = RowTarget(objective, Margin(family(case.oracle)), x, label)
    problem = replace(problem, target=target)
    return Case(problem, Expansion(problem), case.oracle, x, np.zeros(1, dtype=int))


def sign_without(case: Case, rows: np.ndarray) -> int:
    """The class, or the sign of the prediction, when the oracle refits without the rows."""
    theta = case.problem.theta[:, 0]
    eta = case.oracle.eta(theta + case.oracle.refit_change(theta, rows, "per-mean"), case.x)[0]
    return int(eta.argmax()) if len(eta) > 1 else int(eta[0] > 0)


@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC, SOFTMAX])
def test_flips_are_real_and_minimal(kind):
    found_some = 0
    for seed in range(3):
        case = margin_case(kind, seed)
        found = flip(case.problem)
        if found.selection is None:
            assert found.status == "no group of at most 25 rows was found that flips"
            continue
        found_some += 1
        rows = found.selection.rows
        before = sign_without(case, np.empty(0, dtype=int))
        assert sign_without(case, rows) != before
        assert found.minimal
        assert all(sign_without(case, np.delete(rows, at)) == before for at in range(len(rows)))
        assert found.before * found.after < 0
        assert found.after - found.before == pytest.approx(found.selection.realised)
    assert found_some


def test_beside_the_boundary_one_row_is_enough():
    case = margin_case(LOGISTIC, 0)
    theta = case.problem.theta[:-1, 0]
    eta = case.oracle.eta(case.problem.theta[:, 0], case.x)[0, 0]
    near = case.x - (eta - 1e-3) * theta / (theta @ theta)
    target = RowTarget(case.problem.objective, Margin(family(case.oracle)), near, np.array([1]))
    case = replace(case, problem=replace(case.problem, target=target), x=near)
    found = flip(case.problem)
    assert len(found.selection.rows) == 1
    assert found.minimal
    assert sign_without(case, found.selection.rows) == 0


def test_minimality_is_not_claimed_unchecked(monkeypatch):
    case = next(case for seed in range(9) if len(_rows(case := margin_case(LOGISTIC, seed))) > 2)
    monkeypatch.setattr(flips, "CHECKED", 1)
    found = flip(case.problem)
    assert not found.minimal
    assert "minimality is not shown: 1 of " in found.status


def _rows(case: Case) -> np.ndarray:
    found = flip(case.problem).selection
    return np.empty(0) if found is None else found.rows


def test_nothing_flips_within_few_rows():
    found = flip(margin_case(LINEAR, 0, size=1, shift=30.0).problem)
    assert found.selection is None
    assert np.isnan(found.after)
    assert not found.minimal


def pool_of(kind: str = LOGISTIC, limit: int = 2, direction: str = "increase") -> tuple[Case, Pool]:
    """Seven groups, two of which overlap."""
    case = make_case(kind, m=40, size=1, direction=direction)
    rng = np.random.default_rng(5)
    groups = tuple(np.sort(rng.choice(40, size, replace=False)) for size in (3, 4, 5, 6, 4, 3, 8))
    return case, Pool(case.problem, groups, limit)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_exact_union(direction):
    case, pool = pool_of(direction=direction)
    found = exact_union(pool)
    choices = [(one,) for one in range(7)] + list(combinations(range(7), 2))
    values = [case.problem.sign * case.realised(pool.rows(choice)) for choice in choices]
    assert found.members == choices[int(np.argmax(values))]
    np.testing.assert_array_equal(found.rows, pool.rows(found.members))
    assert found.predicted_second == pytest.approx(case.second(found.rows), rel=1e-7)


@pytest.mark.parametrize("merit", [NEWTON, RETRAINED, "second"])
def test_swap_union_ends_where_no_move_gains(merit):
    _, pool = pool_of(limit=3)
    found = swap_union(pool, merit=merit)
    best = pool.worth(merit, [found.members])[0]
    for size in (1, 2, 3):
        near = [c for c in combinations(range(7), size) if len(set(c) ^ set(found.members)) <= 2]
        near = [c for c in near if len(c) <= 3 and abs(len(c) - len(found.members)) <= 1]
        assert (pool.worth(merit, near) <= best * (1 + 1e-6)).all()


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_singles_are_ranked_and_greedy_takes_the_first(direction):
    case, pool = pool_of(direction=direction)
    most_first = direction == "increase"
    seconds = [union.predicted_second for union in pool.singles]
    assert seconds == sorted(seconds, reverse=most_first)
    np.testing.assert_allclose(seconds, [case.second(union.rows) for union in pool.singles], rtol=1e-7)
    by_first = sorted(pool.singles, key=lambda union: union.predicted_first, reverse=most_first)[:2]
    assert set(greedy_union(pool).members) == {union.members[0] for union in by_first}


def test_unions_of_everything_are_left_out():
    case = make_case(LINEAR, m=12, size=1)
    pool = Pool(case.problem, (np.arange(6), np.arange(6, 12), np.array([1, 2])), 2)
    assert pool.worth(RETRAINED, [(0, 1)])[0] == -np.inf
    assert set(exact_union(pool).members) != {0, 1}
    assert len(greedy_union(pool).rows) < 12
    assert all(len(pool.rows(members)) < 12 for members in pool.draw(20))


def test_too_many_unions_are_refused():
    case = make_case(LINEAR, m=60, size=1)
    pool = Pool(case.problem, tuple(np.array([row]) for row in range(60)), 5)
    with pytest.raises(UsageError, match="5,985,197 of at most 5 of 60 groups, and at most 100,000"):
        exact_union(pool)
