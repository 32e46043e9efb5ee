"""Selection where training rows have weights: against enumeration, dense algebra and refits by the oracle."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from cli_tools import train
from core_cases import family, relative_error
from oracle import LINEAR, LOGISTIC, SOFTMAX
from selection_cases import Case, draw, every_group, make_case, neighbours
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence
from influence_cli.artifacts.model import load_model
from influence_cli.cli import run
from influence_cli.core.quantities import Margin, RowTarget
from influence_cli.core.removal import PENALTY_SCALINGS
from influence_cli.core.selection.evaluate import RETRAINED, SECOND
from influence_cli.core.selection.exact import exact
from influence_cli.core.selection.flip import flip
from influence_cli.core.selection.greedy import greedy
from influence_cli.core.selection.pgd import CONSTRAINTS, _values, pgd
from influence_cli.core.selection.problem import DIRECTIONS
from influence_cli.core.selection.random import random
from influence_cli.core.selection.relinearize import relinearize
from influence_cli.core.selection.swap import swap
from influence_cli.core.selection.unions import Pool, exact_union
from influence_cli.errors import UsageError

KINDS = [LINEAR, LOGISTIC, SOFTMAX]
SLACK = 1e-6


def weighted_case(kind: str, m: int, size: int, **more) -> Case:
    """Weights from 0 to 6, so that what a group takes depends on its rows."""
    weights = np.random.default_rng(9).choice([0.0, 0.5, 1.0, 1.0, 2.0, 6.0], m)
    weights[:2] = 0.0, 6.0
    return make_case(kind, m=m, size=size, weights=weights, **more)


def spread_of(case: Case, groups: list[np.ndarray]) -> np.ndarray:
    return np.array([case.oracle.training()[rows].sum() for rows in groups])


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_form_is_the_estimator(kind, scaling):
    case = weighted_case(kind, 30, 7, scaling=scaling)
    groups = draw(case, 6)
    assert np.ptp(spread_of(case, groups)) > 0.05
    s = case.problem.members(groups)
    np.testing.assert_allclose(case.expansion.share(s), spread_of(case, groups))
    assert relative_error(case.expansion.second(s), np.array([case.second(rows) for rows in groups])) < 1e-8
    theta = case.problem.theta[:, 0]
    gradient = case.oracle.quantity_gradient("loss", theta, case.x, case.y)[0]
    first = np.array([gradient @ case.oracle.changes(theta, rows, scaling)["first"] for rows in groups])
    assert relative_error(case.expansion.first(s), first) < 1e-8


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_and_exchanges(kind, scaling):
    """Off the groups as well, where the share is what the definition says: the slopes by central differences."""
    case = weighted_case(kind, 30, 5, scaling=scaling)
    expansion, rng = case.expansion, np.random.default_rng(3)
    s, way, step = rng.uniform(size=30), rng.normal(size=30), 1e-5
    value, slope = expansion.second_and_slope(case.problem.relaxed(s[None]))
    ends = case.problem.relaxed(np.stack([s + step * way, s - step * way]))
    ahead, behind = expansion.second(ends)
    assert value == pytest.approx(expansion.second(case.problem.relaxed(s[None]))[0], rel=1e-10)
    assert slope @ way == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    ahead, behind = expansion.first(ends)
    assert expansion.first_slope(case.problem.relaxed(s[None])) @ way == pytest.approx(
        (ahead - behind) / (2 * step), rel=1e-6
    )
    _, _, B = case.dense_form()
    w = case.oracle.training()
    dense = w[:, None] * (B + B.T) * w
    assert relative_error(expansion.pairs(np.array([3, 8, 29])), dense[:, [3, 8, 29]]) < 1e-8


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_enumerated_first_order(kind, direction, scaling):
    case = weighted_case(kind, 13, 4, direction=direction, scaling=scaling, seed=1)
    every = every_group(case.problem.candidates, 4)
    values = case.problem.sign * case.expansion.first(case.problem.members(every))
    found = greedy(case.problem, case.expansion)
    assert case.problem.sign * found.predicted_first == pytest.approx(values.max(), rel=1e-9)


def test_ranking_rows_by_themselves_would_not_do():
    """What dividing by the kept weight changes: the group of highest w_i v' grad l_i is not the best one."""
    worse = 0
    for seed in range(6):
        case = weighted_case(LOGISTIC, 13, 6, seed=seed)
        naive = case.problem.top(case.oracle.training() * case.expansion.row_influence)
        best = greedy(case.problem, case.expansion).predicted_first
        worse += float(case.expansion.first(case.problem.members([naive]))[0]) < best - 1e-9
    assert worse


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_pgd_is_at_least_greedy(direction, scaling, constraint):
    gained = 0
    for seed in range(6):
        case = weighted_case(LOGISTIC, 40, 12, direction=direction, scaling=scaling, seed=seed)
        base = case.problem.sign * greedy(case.problem, case.expansion).predicted_second
        found = pgd(case.problem, case.expansion, constraint=constraint)
        assert len(np.unique(found.rows)) == 12
        assert found.predicted_second == pytest.approx(case.second(found.rows), rel=1e-7)
        assert case.problem.sign * found.predicted_second >= base - 1e-12
        gained += case.problem.sign * found.predicted_second > base + 1e-9
    assert gained


def test_pgd_tries_no_share_that_no_group_can_have():
    """Weights of 12 in all on the heaviest rows: second grows without bounds towards a share of 1."""
    case = weighted_case(LOGISTIC, 40, 12)
    heaviest = np.argsort(-case.oracle.training())
    trials = np.zeros((3, 40))
    trials[0, heaviest[:12]] = 1.0
    trials[1, heaviest[:3]] = 6.0
    trials[2] = 12 / 40
    shares = case.expansion.share(case.problem.relaxed(trials))
    assert shares[1] > 0.9 and shares[0] == pytest.approx(case.problem.largest_share)
    values = _values(case.problem, case.expansion, trials, [np.sort(heaviest[:12])], {})
    assert np.isfinite(values[[0, 2]]).all() and values[1] == -np.inf


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", [LINEAR, LOGISTIC])
def test_exact_is_the_best_refit_and_swap_finds_it(kind, direction, scaling):
    case = weighted_case(kind, 11, 2, direction=direction, scaling=scaling, seed=2)
    every = every_group(case.problem.candidates, 2)
    values = case.problem.sign * np.array([case.realised(rows) for rows in every])
    for found in (exact(case.problem, case.expansion), swap(case.problem, case.expansion)):
        assert case.problem.sign * case.realised(found.rows) == pytest.approx(values.max(), rel=1e-6)
        assert case.problem.sign * found.realised == pytest.approx(values.max(), rel=1e-6)


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_swap_ends_where_no_exchange_gains(scaling):
    case = weighted_case(SOFTMAX, 16, 4, scaling=scaling)
    found = swap(case.problem, case.expansion, merit=SECOND)
    near = neighbours(found.rows, case.problem.candidates)
    assert max(case.second(rows) for rows in near) <= found.predicted_second * (1 + SLACK)
    small = weighted_case(LOGISTIC, 12, 3, scaling=scaling, seed=4)
    found = swap(small.problem, small.expansion, merit=RETRAINED)
    best = small.realised(found.rows)
    assert all(small.realised(rows) <= best + SLACK for rows in neighbours(found.rows, small.problem.candidates))


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_relinearize_beats_greedy_when_refitted(kind, direction, scaling):
    case = weighted_case(kind, 60, 12, direction=direction, scaling=scaling)
    base = case.problem.sign * case.realised(greedy(case.problem, case.expansion).rows)
    found = relinearize(case.problem, case.expansion)
    assert found.status == "ok"
    assert found.realised == pytest.approx(case.realised(found.rows), rel=1e-5)
    assert case.problem.sign * found.realised >= base - SLACK


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_scores_are_the_slope_of_the_refit(scaling):
    """Moving a little of row i into the group and of row j out of it; one factor for every pair."""
    case = weighted_case(LOGISTIC, 20, 4, scaling=scaling)
    problem, oracle, training = case.problem, case.oracle, case.oracle.training()
    group = np.array([1, 2, 3, 4])
    w = oracle.weights_without(group, scaling)
    theta = oracle.minimise(w)
    scores = problem.scores_at(theta[:, None], w)
    s, step, ratios = problem.mask(group).astype(float), 1e-5, []
    for i, j in ((1, 9), (7, 12), (3, 15)):
        ends = []
        for sign in (1, -1):
            moved = s.copy()
            moved[[i, j]] += sign * step * np.array([1, -1])
            kept = training * (1 - moved)
            kept = kept / kept.sum() if scaling == "per-mean" else kept
            ends.append(case.loss(oracle.minimise(kept, start=theta)))
        ratios.append((ends[0] - ends[1]) / (2 * step) / (scores[i] - scores[j]))
    factor = 1 / (1 - training[group].sum()) if scaling == "per-mean" else 1.0
    np.testing.assert_allclose(ratios, factor, rtol=1e-4)


def test_random_groups_are_predicted_by_the_estimators():
    case = weighted_case(LOGISTIC, 40, 5)
    drawn = random(case.problem, case.expansion, 6)
    np.testing.assert_allclose(drawn.predicted_second, [case.second(rows) for rows in drawn.groups], rtol=1e-7)


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
def test_unions(scaling):
    case = weighted_case(LOGISTIC, 24, 1, scaling=scaling)
    groups = tuple(np.sort(part) for part in np.array_split(np.random.default_rng(0).permutation(24), 6))
    found = exact_union(Pool(case.problem, groups, 2))
    choices = [choice for size in (1, 2) for choice in combinations(range(6), size)]
    values = [case.realised(np.concatenate([groups[member] for member in choice])) for choice in choices]
    assert found.members == choices[int(np.argmax(values))]
    assert found.predicted_second == pytest.approx(case.second(found.rows), rel=1e-7)


def test_flips_are_real_and_minimal():
    found_some = 0
    for seed in range(3):
        case = weighted_case(LOGISTIC, 30, 12, seed=seed)
        objective, problem, oracle = case.problem.objective, case.problem, case.oracle
        label = objective.family.predict(objective.predict_outputs(problem.theta, case.x))[0]
        problem = replace(problem, target=RowTarget(objective, Margin(family(oracle)), case.x, label))
        found = flip(problem)
        if found.selection is None:
            continue
        found_some += 1

        def predicted(rows, oracle=oracle, x=case.x):
            eta = oracle.eta(oracle.minimise(oracle.weights_without(rows, "per-mean")), x)[0]
            return int(eta.argmax()) if len(eta) > 1 else int(eta[0] > 0)

        rows = found.selection.rows
        before = predicted(np.empty(0, dtype=int))
        assert predicted(rows) != before
        assert found.minimal
        assert all(predicted(np.delete(rows, at)) == before for at in range(len(rows)))
    assert found_some


def test_equal_weights_are_no_weights():
    plain, equal = make_case(LOGISTIC, m=40, size=8), make_case(LOGISTIC, m=40, size=8, weights=np.full(40, 3.0))
    for strategy in (greedy, pgd, relinearize, swap):
        one, other = (strategy(case.problem, case.expansion) for case in (plain, equal))
        np.testing.assert_array_equal(one.rows, other.rows)
        assert one.predicted_second == pytest.approx(other.predicted_second, rel=1e-9)


def test_a_group_may_not_take_all_the_weight():
    weights = np.r_[np.ones(4), np.zeros(26)]
    with pytest.raises(UsageError, match="of the 4 training rows with a weight over 0 leaves nothing"):
        make_case(size=4, weights=weights)
    case = make_case(size=4, weights=weights, candidates=np.arange(1, 30))
    assert set(greedy(case.problem, case.expansion).rows) <= set(range(1, 30))
    with pytest.raises(UsageError, match="leaves nothing to train on"):
        GroupInfluence.fit(
            np.arange(30.0)[:, None], np.arange(30.0), estimator="linear", l2=0.1, sample_weight=weights
        ).select(5, [[1.0]], quantity="prediction")


@pytest.mark.parametrize("options", [["--l2", "0.02"], ["--C", "0.5", "--class-weight", "balanced"]])
def test_the_command_agrees_with_scikit_learn(tmp_path, capsys, options):
    """--verify, and the rows of --format rows given to ginf groundtruth, beside a weighted refit."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(70, 3))
    y = (X[:, 0] + rng.normal(size=70) > 0.5).astype(int)
    raw = rng.integers(0, 5, 60).astype(float)
    data = str(tmp_path / "d.npz")
    np.savez(data, X_train=X[:60], y_train=y[:60], X_test=X[60:], y_test=y[60:], sample_weight=raw)
    model = train(data, tmp_path / "m.h5", "--sample-weight", "sample_weight", *options)
    capsys.readouterr()
    # The peer keeps the weights that "balanced" had on all rows.
    ask = ["--model", model, "--test", "3", "--quiet", "--preprocessing", "frozen"]
    assert (
        run(
            [
                "select",
                *ask,
                "--size",
                "6",
                "--strategy",
                "greedy,pgd,relinearize,swap",
                "--verify",
                "--format",
                "json",
            ]
        )
        == 0
    )
    records = json.loads(capsys.readouterr().out)
    actual, groups = [record["actual"] for record in records], [record["rows"] for record in records]
    loaded = load_model(model)
    total = float(raw.sum())
    weights = loaded.dataset.weights * total
    per_sum = loaded.settings["penalty_scaling"] == "per-sum"

    def loss(gone: list[int]) -> float:
        kept = np.setdiff1d(np.arange(60), gone)
        left = total if per_sum else weights[kept].sum()
        peer = LogisticRegression(C=1 / (loaded.settings["l2"] * left), solver="newton-cg", tol=1e-12, max_iter=10_000)
        peer.fit(X[kept], y[kept], sample_weight=weights[kept])
        return -peer.predict_log_proba(X[63:64])[0, y[63]]

    assert len(groups) == 4
    assert actual == pytest.approx([loss(rows) - loss([]) for rows in groups], abs=1e-5)
    assert run(["select", *ask, "--size", "6", "--format", "rows"]) == 0
    printed = capsys.readouterr().out.split()
    assert len(printed) == 6
    assert run(["groundtruth", *ask, "--group", "rows:" + ",".join(printed), "--format", "json"]) == 0
    (truth,) = json.loads(capsys.readouterr().out)
    assert truth["actual"] == pytest.approx(loss([int(row) for row in printed]) - loss([]), abs=1e-5)
