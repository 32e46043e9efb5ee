"""Shapley and Banzhaf values of groups: against orders one by one, and coalitions refitted by scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest
from scipy.stats import sem
from sklearn.linear_model import LogisticRegression, Ridge

from influence_cli import GroupInfluence
from influence_cli.artifacts.results import load_truth, save_truth
from influence_cli.cli import run
from influence_cli.core.credit import BANZHAF, BY_LIMITS, FINE, MISSING, SHAPLEY, coalitions, credit
from influence_cli.errors import ExitCode, UsageError

KINDS = (SHAPLEY, BANZHAF)
PEER = 1e-6


def subsets(players):
    return [frozenset(some) for size in range(players + 1) for some in combinations(range(players), size)]


def enumerated(kind, value, players):
    """From the definitions, with ``value`` of a set: orders one by one, or all sets."""
    out = []
    for g in range(players):
        if kind == SHAPLEY:
            orders = list(permutations(range(players)))
            before = [frozenset(order[: order.index(g)]) for order in orders]
        else:
            before = [own for own in subsets(players) if g not in own]
        out.append(np.mean([value(own) - value(own | {g}) for own in before], axis=0))
    return np.array(out)


def table(found, value):
    return np.array([value(frozenset(np.flatnonzero(own).tolist())) for own in found.member])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("players", [1, 2, 4, 5])
def test_values_are_the_means_of_the_definitions(kind, players):
    rng = np.random.default_rng(players)
    numbers = {own: rng.normal(size=2) for own in subsets(players)}
    found = coalitions(kind, players, 50, 0)
    values = table(found, numbers.__getitem__)
    got = credit(found, values, np.full(values.shape, 1e-3), np.zeros(values.shape, bool))
    np.testing.assert_allclose(got.value, enumerated(kind, numbers.__getitem__, players), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.off, 2e-3)
    assert (got.state == FINE).all()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_come_as_close_as_their_errors_say(kind):
    players = 14
    rng = np.random.default_rng(1)
    own, both = rng.normal(size=players), rng.normal(size=(players, players)) / 4

    def value(some):
        """A game with pairs: worth what its members have, and what each two have together."""
        at = sorted(some)
        return np.array([own[at].sum() + sum(both[i, j] for i, j in combinations(at, 2)), own[at].sum()])

    pairs = np.triu(both, 1)
    exact = -(own + 0.5 * (pairs.sum(axis=0) + pairs.sum(axis=1)))  # of such a game, of either kind
    found = coalitions(kind, players, 400, 3)
    values = table(found, value)
    got = credit(found, values, np.zeros(values.shape), np.zeros(values.shape, bool))
    # Of a game of pairs a draw and its opposite together are exact.
    np.testing.assert_allclose(got.value, np.column_stack([exact, -own]), atol=1e-12)
    np.testing.assert_allclose(got.off, 0.0, atol=1e-12)
    cubed = values[:, :1] ** 3
    got = credit(found, cubed, np.zeros(cubed.shape), np.zeros(cubed.shape, bool))
    gains = cubed[found.pairs[:, 5, 0], 0] - cubed[found.pairs[:, 5, 1], 0]
    assert got.off[5, 0] == pytest.approx(sem(gains.reshape(-1, 2).mean(axis=1)))
    larger = coalitions(kind, players, 4000, 4)
    truth = credit(
        larger,
        table(larger, value)[:, :1] ** 3,
        np.zeros((len(larger.member), 1)),
        np.zeros((1, 1), bool).repeat(len(larger.member), 0),
    )
    assert (np.abs(got.value - truth.value) <= 4 * got.off).all()
    assert (got.off > 0).all()
    if kind == SHAPLEY:
        full, none = found.member.all(axis=1), ~found.member.any(axis=1)
        assert got.value.sum() == pytest.approx(float((cubed[none] - cubed[full]).item()))
    again = coalitions(kind, players, 400, 3)
    assert np.array_equal(again.pairs, found.pairs)


def test_what_has_no_figure_is_missing_where_it_counts():
    found = coalitions(SHAPLEY, 3, 50, 0)
    values = found.member.sum(axis=1, keepdims=True).astype(float) @ np.ones((1, 3))
    along = np.zeros(values.shape, bool)
    values[3, 1], values[5, 2], along[5, 2] = np.nan, np.nan, True
    along[6, 0] = True
    got = credit(found, values, np.zeros(values.shape), along)
    assert (got.state[:, 0] == BY_LIMITS).all()
    np.testing.assert_allclose(got.value[:, 0], -1.0)
    assert (got.state[:, 1] == MISSING).all()
    assert (got.state[:, 2] == BY_LIMITS).all()
    assert np.isnan(got.value[:, 1:]).all()


# --- models ---


def rows_of(m=90, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 3))
    scores = X @ rng.normal(size=(3, classes)) + rng.gumbel(size=(m, classes))
    return X, scores.argmax(axis=1), rng.integers(4, size=m)


def log_loss_after(X, y, test, kept, l2):
    """Of the logistic model with a penalised intercept on the rows kept; of none, of parameters 0."""
    if not kept.any():
        return np.full(len(test[1]), np.log(2.0))
    one = np.column_stack([X, np.ones(len(X))])
    peer = LogisticRegression(C=1 / (l2 * kept.sum()), fit_intercept=False, tol=1e-12, max_iter=10_000)
    peer.fit(one[kept], y[kept])
    logs = peer.predict_log_proba(np.column_stack([test[0], np.ones(len(test[0]))]))
    return -logs[np.arange(len(test[1])), test[1]]


@pytest.mark.parametrize("kind", KINDS)
def test_logistic_models_of_all_coalitions_are_as_scikit_learn_refits_them(kind):
    X, y, source = rows_of()
    test = X[:4] + 0.1, y[:4]
    model = GroupInfluence.fit(X, y, l2=0.05, penalize_intercept=True)
    found = model.groundtruth({f"s{g}": source == g for g in range(4)}, *test, credit=kind)

    def value(some):
        return log_loss_after(X, y, test, np.isin(source, list(some)), 0.05)

    expected = enumerated(kind, value, 4)
    np.testing.assert_allclose(found.credit[kind], expected, atol=PEER)
    assert (found.credit[f"{kind}_error"] < 1e-6).all()
    one_out = np.array([value(frozenset(range(4)) - {g}) - value(frozenset(range(4))) for g in range(4)])
    np.testing.assert_allclose(found.actual, one_out, atol=PEER)
    records = found.records()
    assert list(records[0])[-2:] == [kind, f"{kind}_error"]
    assert {record["status"] for record in records} == {"ok"}


def test_without_a_penalty_on_the_intercept_nobody_is_the_best_constant_and_rows_outside_stay():
    rng = np.random.default_rng(5)
    X, source = rng.normal(size=(60, 2)), np.arange(60) % 3
    y = X @ [1.0, -2.0] + 3.0 + rng.normal(size=60)

    def value(kept):
        if not kept.any():
            return np.full(1, y.mean())
        return Ridge(alpha=0.1 * kept.sum()).fit(X[kept], y[kept]).predict([[0.5, 0.5]])

    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.1)
    whole = model.groundtruth(
        [source == 0, source == 1, source == 2], [[0.5, 0.5]], quantity="prediction", credit="shapley"
    )
    expected = enumerated(SHAPLEY, lambda some: value(np.isin(source, list(some))), 3)
    np.testing.assert_allclose(whole.credit["shapley"], expected, atol=PEER)
    assert whole.credit["shapley"].sum() == pytest.approx(y.mean() - whole.base[0], abs=1e-9)
    part = model.groundtruth([source == 0, source == 1], [[0.5, 0.5]], quantity="prediction", credit="shapley")
    expected = enumerated(SHAPLEY, lambda some: value(np.isin(source, [*some, 2])), 2)
    np.testing.assert_allclose(part.credit["shapley"], expected, atol=PEER)


def test_coalitions_without_a_class_count_by_their_limits():
    X, y, _ = rows_of(classes=3)
    model = GroupInfluence.fit(X, y, l2=0.05)
    point, label = X[:1], y[:1]
    groups = [y == 0, y == 1, y == 2]

    def probability(some):
        """Of a softmax of the classes that are there; of two, in scikit-learn's parametrisation by their difference."""
        if not some:
            return np.array([(y == label[0]).mean()])
        if label[0] not in some:
            return np.zeros(1)
        if len(some) == 1:
            return np.ones(1)
        kept = np.isin(y, list(some))
        peer = LogisticRegression(C=(2 if len(some) == 2 else 1) / (0.05 * kept.sum()), tol=1e-12, max_iter=10_000)
        peer.fit(X[kept], y[kept])
        return peer.predict_proba(point)[:, list(peer.classes_).index(label[0])]

    found = model.groundtruth(groups, point, label, quantity="prob", credit="shapley")
    np.testing.assert_allclose(found.credit["shapley"], enumerated(SHAPLEY, probability, 3), atol=PEER)
    assert all(status.startswith("unbounded:") for status in found.statuses())
    loss = model.groundtruth(groups, point, label, credit="shapley")
    assert np.isnan(loss.credit["shapley"]).any()
    assert all(status.startswith("unbounded:") for status in loss.statuses())


def test_more_than_twelve_groups_are_drawn():
    rng = np.random.default_rng(2)
    m, players = 130, 13
    X, source = rng.normal(size=(m, 2)), np.arange(m) % players
    y = X @ [1.0, -2.0] + 0.3 * source + rng.normal(size=m)
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.1, penalize_intercept=True)
    groups = [source == g for g in range(players)]
    ask = {"quantity": "prediction", "credit": "shapley", "draws": 60}
    found = model.groundtruth(groups, [[0.5, 0.5]], **ask)
    one = np.column_stack([X, np.ones(m)])
    grams = np.array([one[source == g].T @ one[source == g] for g in range(players)])
    sides = np.array([one[source == g].T @ y[source == g] for g in range(players)])
    every = (np.arange(1 << players)[:, None] >> np.arange(players) & 1).astype(float)
    count = 10.0 * every.sum(axis=1)[:, None, None]
    hessians = np.tensordot(every, grams, 1) + np.maximum(0.1 * count, 1e-9) * np.eye(3)
    values = np.linalg.solve(hessians, (every @ sides)[:, :, None])[:, :, 0] @ [0.5, 0.5, 1.0]
    sizes = every.sum(axis=1).astype(int)
    weights = np.array(
        [
            factorial(s) * factorial(players - s - 1) / factorial(players) if s < players else 0
            for s in range(players + 1)
        ]
    )
    for g in range(players):
        without = np.flatnonzero(every[:, g] == 0)
        exact = weights[sizes[without]] @ (values[without] - values[without + (1 << g)])
        assert abs(found.credit["shapley"][g, 0] - exact) <= 4 * found.credit["shapley_error"][g, 0]
    assert found.credit["shapley_error"].max() < 0.2 * np.abs(found.credit["shapley"]).max()
    assert found.credit["shapley"].sum() == pytest.approx(-found.base[0], abs=1e-9)
    other = model.groundtruth(groups, [[0.5, 0.5]], **ask, seed=1)
    assert not np.array_equal(other.credit["shapley"], found.credit["shapley"])


# --- on the command line ---


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("credit")
    X, y, source = rows_of()
    lines = [f"{'NESW'[s]},{a},{b},{c},{'no' if t else 'yes'}" for (a, b, c), t, s in zip(X, y, source, strict=True)]
    (folder / "d.csv").write_text("source,a,b,c,label\n" + "\n".join(lines) + "\n")
    path = str(folder / "m.h5")
    options = ["--label", "label", "--drop", "source", "--penalize-intercept", "--quiet"]
    assert run(["train", "--data", str(folder / "d.csv"), *options, "-o", path]) == ExitCode.OK
    return path


def test_the_command_writes_values_keeps_them_and_says_what_they_add_up_to(model, tmp_path, capsys):
    capsys.readouterr()
    kept = str(tmp_path / "t.h5")
    asked = ["groundtruth", "--model", model, "--group", "by:source", "--credit", "shapley", "--test", "mean"]
    assert run([*asked, "--format", "json", "-o", kept]) == ExitCode.OK
    told = capsys.readouterr()
    records = json.loads(told.out)
    assert len(records) == 4
    total = sum(record["shapley"] for record in records)
    assert total == pytest.approx(np.log(2) - records[0]["base"], abs=1e-9)
    assert "14 models were trained for shapley; the values add up to" in told.err
    assert run(["show", kept, "--format", "json"]) == ExitCode.OK
    assert [record["shapley"] for record in json.loads(capsys.readouterr().out)] == [r["shapley"] for r in records]
    assert run([*asked, "--format", "table"]) == ExitCode.OK
    page = capsys.readouterr().out
    assert "Shapley value" in page
    assert max(map(len, page.splitlines())) <= 80
    assert run(["report", model, kept, "-o", str(tmp_path / "r.md")]) == ExitCode.OK
    page = (tmp_path / "r.md").read_text()
    assert "Shapley value" in page
    assert "on average over all orders in which groups join" in page
    assert "--credit shapley" in page


def test_a_run_that_was_cut_off_before_the_coalitions_goes_on(model, tmp_path, capsys):
    kept = str(tmp_path / "t.h5")
    asked = ["groundtruth", "--model", model, "--group", "by:source", "--test", "mean", "-o", kept]
    asked += ["--credit", "banzhaf"]
    assert run(asked) == ExitCode.OK
    whole = load_truth(kept)
    save_truth(kept, replace(whole, credit={}, credit_state=None), force=True)
    assert run([*asked, "--resume"]) == ExitCode.OK
    again = load_truth(kept)
    assert np.array_equal(again.credit["banzhaf"], whole.credit["banzhaf"])
    assert np.array_equal(again.actual, whole.actual)
    assert run([*asked[:-1], "shapley", "--resume"]) == ExitCode.FILE
    assert "it was made with credit 'banzhaf', not 'shapley'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--group", "by:source", "--group", "random:5%", "--credit", "shapley"), "groups that share no row"),
        (("--group", "by:source", "--credit", "shap"), "did you mean shapley"),
        (("--group", "by:source", "--credit", "shapley", "--test", "removed"), "--credit divides one figure"),
        (("--group", "by:source", "--credit", "banzhaf", "--draws", "7"), "expected an even number of at least 4"),
    ],
)
def test_what_cannot_be_divided_is_refused(model, options, said, capsys):
    assert run(["groundtruth", "--model", model, "--test", "0", *options]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_python_names_its_arguments(model):
    loaded = GroupInfluence.load(model)
    with pytest.raises(UsageError, match="credit"):
        loaded.groundtruth("by:source", "0", credit="shap")
