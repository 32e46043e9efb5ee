"""Each strategy finds what it says: against enumeration, single exchanges and refits by the oracle."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from oracle import LINEAR, LOGISTIC, SOFTMAX
from selection_cases import Case, every_group, make_case, neighbours

from influence_cli.core.selection import exact as enumeration
from influence_cli.core.selection.evaluate import NEWTON, RETRAINED, SECOND, evaluate
from influence_cli.core.selection.exact import exact
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.pgd import CONSTRAINTS, pgd
from influence_cli.core.selection.problem import DIRECTIONS
from influence_cli.core.selection.random import random
from influence_cli.core.selection.relinearize import relinearize
from influence_cli.core.selection.second_order import Expansion
from influence_cli.core.selection.swap import follow, swap
from influence_cli.errors import UsageError

KINDS = [LINEAR, LOGISTIC, SOFTMAX]
SLACK = 1e-6
"""Relative error that two retrainings to a gradient of 1e-9 may leave in f."""


def sign_of(case: Case) -> float:
    return case.problem.sign


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_maximises_the_first_order(kind, direction):
    case = make_case(kind, m=12, size=3, direction=direction)
    found = greedy(case.problem, case.expansion)
    every = every_group(case.problem.candidates, 3)
    values = sign_of(case) * case.expansion.first(case.problem.members(every))
    np.testing.assert_array_equal(found.rows, every[int(np.argmax(values))])
    assert sign_of(case) * found.predicted_first == pytest.approx(values.max())


def test_greedy_takes_the_lower_row_of_equal_ones():
    case = make_case(m=10, size=3)
    scores = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(case.problem.top(scores), [1, 2, 5])


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC])
def test_exact_is_the_best_refit(kind, direction, scaling):
    case = make_case(kind, m=11, size=2, direction=direction, scaling=scaling, seed=2)
    found = exact(case.problem, case.expansion)
    every = every_group(case.problem.candidates, 2)
    values = np.array([case.realised(rows) for rows in every])
    best = int(np.argmax(sign_of(case) * values))
    np.testing.assert_array_equal(found.rows, every[best])
    assert found.realised == pytest.approx(values[best], rel=1e-6)
    assert found.rounds == len(every)


def test_exact_refuses_more_than_it_says():
    case = make_case(m=60, size=20)
    with pytest.raises(UsageError, match=r"about 1e15 of 20 of 60 rows, and at most 100,000 are tried"):
        exact(case.problem, case.expansion)


def test_exact_leaves_out_groups_without_a_value(monkeypatch):
    case = make_case(m=8, size=2)

    def some(problem, merit, groups, *rest):
        found = evaluate(problem, merit, groups, *rest)
        return replace(found, change=np.where([0 in rows for rows in groups], np.nan, found.change))

    monkeypatch.setattr(enumeration, "evaluate", some)
    found = exact(case.problem, case.expansion)
    assert 0 not in found.rows
    assert found.status == "7 of 28 groups have no finite value and were left out"


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_pgd_is_at_least_greedy_in_the_second_order(kind, direction, constraint):
    gained = 0
    for seed in range(6):
        case = make_case(kind, m=40, size=10, direction=direction, seed=seed)
        base = sign_of(case) * greedy(case.problem, case.expansion).predicted_second
        found = pgd(case.problem, case.expansion, constraint=constraint)
        assert sign_of(case) * found.predicted_second >= base - 1e-12
        assert len(np.unique(found.rows)) == 10
        gained += sign_of(case) * found.predicted_second > base + 1e-9
    assert gained > 0


def test_swap_on_the_form_ends_where_no_exchange_gains():
    case = make_case(SOFTMAX, m=40, size=6)
    found = swap(case.problem, case.expansion, merit=SECOND)
    near = case.problem.members(neighbours(found.rows, case.problem.candidates))
    assert case.expansion.second(near).max() <= found.predicted_second * (1 + SLACK)
    assert case.second(found.rows) == pytest.approx(found.predicted_second, rel=1e-8)


@pytest.mark.parametrize(("kind", "merit"), [(LINEAR, NEWTON), (LINEAR, RETRAINED), (LOGISTIC, RETRAINED)])
def test_swap_ends_where_no_exchange_gains_when_refitted(kind, merit):
    """For a linear regression a Newton step is the truth."""
    case = make_case(kind, m=16, size=3, seed=4)
    found = swap(case.problem, case.expansion, merit=merit)
    best = case.realised(found.rows)
    assert all(case.realised(rows) <= best + SLACK for rows in neighbours(found.rows, case.problem.candidates))


def test_swap_starts_from_the_best_set_so_far():
    case = make_case(LOGISTIC, m=60, size=12)
    start = relinearize(case.problem, case.expansion).rows
    found = swap(case.problem, case.expansion, merit=RETRAINED, starts=[start])
    assert case.realised(found.rows) >= case.realised(start) - SLACK


@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC])
def test_the_best_strategy_finds_the_optimum_of_small_problems(kind):
    hits = 0
    for seed in range(4):
        case = make_case(kind, m=14, size=3, seed=seed)
        best = exact(case.problem, case.expansion).realised
        start = relinearize(case.problem, case.expansion).rows
        found = swap(case.problem, case.expansion, starts=[start])
        hits += case.realised(found.rows) >= best * (1 - SLACK) or (np.isinf(best) and found.realised == best)
    assert hits == 4


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_relinearize_beats_greedy_when_refitted(kind, direction):
    case = make_case(kind, m=60, size=12, direction=direction)
    base = sign_of(case) * case.realised(greedy(case.problem, case.expansion).rows)
    seen = []
    for rounds in (1, 2, 50):
        found = relinearize(case.problem, case.expansion, rounds=rounds)
        assert found.realised == pytest.approx(case.realised(found.rows), rel=1e-5)
        seen.append(sign_of(case) * found.realised)
    assert base - SLACK <= seen[0] <= seen[1] <= seen[2]
    assert found.status == "ok"


def test_relinearize_says_when_it_was_stopped():
    case = make_case(LOGISTIC, m=60, size=20)
    assert (
        "stopped after 1 rounds: more may gain (--rounds)" in relinearize(case.problem, case.expansion, rounds=1).status
    )


def test_scores_are_the_slope_of_the_refit():
    """Moving a little weight from row i to row j at the retrained parameters moves f by the scores' difference, which
    are of the training weights 1/20."""
    case = make_case(LOGISTIC, m=20, size=4)
    problem, oracle = case.problem, case.oracle
    w = oracle.weights_without(np.array([1, 2, 3, 4]), "per-mean")
    theta = oracle.minimise(w)
    scores = problem.scores_at(theta[:, None], w)
    step = 1e-5
    for i, j in ((0, 9), (7, 12)):
        ends = []
        for sign in (1, -1):
            moved = w.copy()
            moved[[i, j]] += sign * step * np.array([-1, 1])
            ends.append(case.loss(oracle.minimise(moved, start=theta)))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(20 * (scores[i] - scores[j]), rel=1e-4)


def test_random_groups():
    case = make_case(LOGISTIC, m=40, size=5, candidates=np.arange(10, 30))
    few, many = (random(case.problem, case.expansion, draws) for draws in (3, 8))
    assert all((one == other).all() for one, other in zip(few.groups, many.groups, strict=False))
    assert all(set(rows) <= set(range(10, 30)) and len(set(rows)) == 5 for rows in many.groups)
    np.testing.assert_allclose(many.predicted_second, [case.second(rows) for rows in many.groups], rtol=1e-7)
    other = random(replace(case.problem, seed=1), case.expansion, 3)
    assert any((one != another).any() for one, another in zip(few.groups, other.groups, strict=True))


@pytest.mark.parametrize("strategy", [greedy, pgd, relinearize, swap, exact])
def test_only_candidates_are_removed(strategy):
    allowed = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    case = make_case(LOGISTIC, m=24, size=3, candidates=allowed)
    assert set(strategy(case.problem, case.expansion).rows) <= set(allowed)


@pytest.mark.parametrize("strategy", [greedy, pgd, relinearize, swap, exact])
def test_decrease_is_the_other_way(strategy):
    up, down = (make_case(LINEAR, m=20, size=3, direction=way) for way in DIRECTIONS)
    highest, lowest = (case.realised(strategy(case.problem, case.expansion).rows) for case in (up, down))
    assert lowest < highest
    assert lowest < 0 < highest


@pytest.mark.parametrize("strategy", [pgd, relinearize, swap, exact])
def test_all_candidates_is_one_group(strategy):
    case = make_case(LOGISTIC, m=24, size=4, candidates=np.array([0, 5, 9, 20]))
    np.testing.assert_array_equal(strategy(case.problem, case.expansion).rows, [0, 5, 9, 20])


def test_impossible_sizes_are_refused():
    with pytest.raises(UsageError, match="a group of 9 rows was asked for and 4 rows may be removed"):
        make_case(size=9, candidates=np.arange(4))
    with pytest.raises(UsageError, match="a group of 30 of the 30 training rows leaves nothing to train on"):
        make_case(size=30)


@pytest.mark.parametrize("strategy", [pgd, relinearize, swap])
def test_no_m_by_m_matrix(strategy):
    """4,000 rows: B would be 128 MB."""
    case = make_case(LOGISTIC, m=4000, size=400)
    Expansion(case.problem)
    tracemalloc.start()
    strategy(case.problem, case.expansion, rounds=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_the_default_search_finds_nearly_every_optimum(kind):
    shares = []
    for seed in range(5):
        case = make_case(kind, m=13, size=3, seed=seed)
        problem, expansion = case.problem, case.expansion
        found = follow(problem, expansion, relinearize(problem, expansion))
        best = exact(problem, expansion).realised
        assert case.realised(found.rows) == pytest.approx(found.realised, rel=1e-5)
        shares.append(found.realised / best)
    assert np.mean(shares) >= 0.99
    assert sum(share > 1 - 1e-6 for share in shares) >= 4
