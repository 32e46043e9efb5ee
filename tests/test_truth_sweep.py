"""Truth over random problems beside a dense Newton method, in several units; the benchmark takes hundreds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from oracle import LOGISTIC, Oracle
from truth_sweep import by_dense_newton, by_the_core, draw

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import NotConvergedError

AGREES = 1e-6
SEEDS = 12


@pytest.mark.parametrize("start", range(0, 4 * SEEDS, SEEDS))
def test_truth_is_that_of_a_dense_method_in_every_unit(start):
    agreed = 0
    for seed in range(start, start + SEEDS):
        problem = draw(seed)
        found, right = by_the_core(problem), by_dense_newton(problem)
        if found is None or found.status != "ok" or right.status != "ok":
            continue
        length = abs(right.change)
        assert abs(found.change - right.change) <= AGREES * length + found.error, seed
        assert found.error <= 1e-5 * length + 1e-9 * abs(right.base), seed
        agreed += 1
        if problem.intercept == "penalised" and problem.l2 > 0:
            continue
        features, response = ((1e-9, 1e9), (1e9, 1e-9))[seed % 2]
        other = by_the_core(problem.scaled(features, response))
        size = response if problem.kind == "linear" else 1.0
        assert other is not None and other.status == "ok", seed
        assert abs(other.change / size - found.change) <= AGREES * length, seed
    assert agreed >= SEEDS * 0.7


@pytest.mark.parametrize("seed", [55, 175])
def test_the_linear_algebra_library_writes_nothing(seed, capfd):
    """Groups that leave every direction open: LAPACK complains of an empty matrix on the file descriptor itself."""
    by_the_core(draw(seed))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", [3, 4])
def test_what_is_left_covers_groups_of_whose_curvature_the_trained_model_knows_little(seed):
    """Without 95% of the rows a step by the trained model's Hessian is a ninth of what is left to go."""
    rng, m = np.random.default_rng(seed), 400
    X = rng.normal(size=(m + 8, 60))
    y = (X @ rng.normal(size=(60, 2)) / 4 + rng.gumbel(size=(m + 8, 2))).argmax(axis=1)
    oracle = Oracle(LOGISTIC, X[:m], y[:m], 2, 1e-3)
    groups = [np.sort(rng.choice(m, size, replace=False)) for size in (1, 5, 40, int(0.95 * m))]
    found = GroupInfluence.fit(X[:m], y[:m], l2=1e-3).groundtruth(groups, X[m:], y[m:])
    theta = oracle.minimise(oracle.uniform())
    before = oracle.losses(theta, X[m:], y[m:])
    for change, error, group in zip(found.actual, found.actual_error, groups, strict=True):
        least = oracle.minimise(oracle.weights_without(group, "per-mean"), start=theta)
        truth = oracle.losses(least, X[m:], y[m:]) - before
        assert (np.abs(change - truth) <= error).all()
        assert (error <= 1e-6 * np.abs(truth).max()).all()


def model(m=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], m // 3)
    X = rng.normal(size=(m, 2)) + np.array([[0, 0], [2, 0], [0, 2]])[y]
    return X, y


@pytest.mark.parametrize("how", ["warm", "cold"])
def test_a_lost_class_of_a_network_is_at_its_limit(how):
    X, y = model()
    network = GroupInfluence.fit(X, y, estimator="mlp", hidden=(3,), l2=1e-2, damping=0.01)
    asked = ({"class 2": y == 2}, np.array([[0.0, 2.0]]), np.array([2]))
    (loss,) = network.groundtruth(*asked, retrain=how).records()
    assert loss["actual"] is None and loss["status"].startswith("unbounded: a class ")
    (prob,) = network.groundtruth(*asked, retrain=how, quantity="prob").records()
    assert prob["actual"] == pytest.approx(-prob["base"], abs=1e-12)
    assert prob["status"].startswith("unbounded: a class ")


def test_a_column_that_only_the_group_fills_leaves_the_other_rows_their_value():
    """Without a penalty: its coefficient is open, and rows in which it is 0 do not depend on it."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=40), np.arange(40) < 6]).astype(float)
    y = X @ [1.0, 2.0] + rng.normal(size=40)
    whole = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
    group, test = np.arange(6), np.array([[0.5, 0.0], [0.5, 1.0]])
    without, within = whole.groundtruth([group], test, quantity="prediction").records()
    slope, intercept = np.polyfit(X[6:, 0], y[6:], 1)
    assert without["base"] + without["actual"] == pytest.approx(0.5 * slope + intercept, rel=1e-9)
    assert within["actual"] is None and within["status"].startswith(
        "unbounded: without the group the rows leave 1 of 3"
    )
    assert without["status"] == "ok"
    estimates = whole.influence([group], test, quantity="prediction").records()
    assert [row["status"].partition(":")[0] for row in estimates] == ["ok", "unbounded"]
    assert estimates[0]["refined"] == pytest.approx(without["actual"], rel=1e-6) and estimates[1]["refined"] is None


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_single_rows_that_hold_the_minimum_are_found(kind):
    """Row 7 alone fills the second column; without a penalty no other row leaves anything open."""
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.normal(size=60), np.arange(60) == 7]).astype(float)
    y = X @ [1.0, 2.0] + rng.normal(size=60)
    if kind == "logistic":  # two rows fill it, of both classes: without either the other one is separated
        X[9, 1], y = 1.0, (y > 0).astype(int)
        y[7], y[9] = 1, 0
    whole = GroupInfluence.fit(X, y, estimator=kind, l2=0.0)
    asked = {"quantity": "prediction" if kind == "linear" else "logit:1", "methods": ["first"], "evaluate": "linear"}
    tests = np.array([[0.5, 0.0], [0.5, 1.0]])
    labels = None if kind == "linear" else [1, 1]
    rows = whole.influence([[row] for row in range(60)], tests, labels, **asked).records()
    told = {(row["group"], row["test"]) for row in rows if row["status"].startswith("unbounded: ")}
    assert {test for _, test in told} == {1}
    assert len(told) == (1 if kind == "linear" else 2)


def test_rows_that_can_be_separated_without_the_group_leave_nothing_to_say():
    x = np.r_[np.linspace(-2, -0.5, 10), np.linspace(0.5, 2, 10), 1.0, -1.0][:, None]
    y = np.r_[np.zeros(10), np.ones(10), 0, 1].astype(int)
    whole = GroupInfluence.fit(x, y, l2=0.0)
    for test, labels, quantity in ((np.array([[0.2]]), [1], "loss"), (None, None, "param:x0")):
        (truth,) = whole.groundtruth([[20, 21]], test, labels, quantity=quantity).records()
        assert truth["actual"] is None and truth["status"].startswith("unbounded: ")
        (estimate,) = whole.influence(
            [[20, 21]], test, labels, quantity=quantity, methods=["first", "newton"]
        ).records()
        assert estimate["status"].startswith("unbounded: ")


def test_scores_that_clip_probabilities_have_no_value_without_a_class():
    X, y = model(90)
    whole = GroupInfluence.fit(X, y, l2=1e-2)
    group, test = [np.flatnonzero(y == 2)], (X[::8], y[::8])
    (clipped,) = whole.groundtruth(group, *test, quantity="score:neg_log_loss").records()
    assert clipped["actual"] is None and clipped["status"].startswith("unbounded: ")
    (accuracy,) = whole.groundtruth(group, *test, quantity="score:accuracy").records()
    assert accuracy["actual"] is not None


def test_the_rows_that_empty_a_class_flip_its_prediction():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(60, 2)), rng.normal(size=(3, 2)) * 0.3 + 4])
    y = np.r_[np.zeros(60, int), np.ones(3, int)]
    whole = GroupInfluence.fit(X, y)
    (found,) = whole.select(3, [[4.0, 4.0]], [1], strategies=["relinearize"]).records()
    assert sorted(found["rows"]) == [60, 61, 62]
    assert found["status"].startswith("unbounded: ")


def test_features_whose_squares_are_no_numbers_are_standardised_or_refused(tmp_path, capsys):
    """Squares of 1e-300 are 0: the feature passed for a constant, and was left out of every figure."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=60)
    data, model, found = str(tmp_path / "small.npz"), str(tmp_path / "m.h5"), []
    for size in (1.0, 1e-160, 1e-300):
        small = X * [size, 1.0, 1.0]
        if size < 1:
            with pytest.raises(NotConvergedError, match="squares of feature 0 of 3"):
                GroupInfluence.fit(small, y, estimator="linear", l2=0.0)
        np.savez(data, X=small, y=y)
        options = ("--data", data, "--estimator", "linear", "--standardize", "--l2", "0.1", "-o", model, "--force")
        assert run(["train", *options, "--quiet"]) == 0
        capsys.readouterr()
        asked = ("--model", model, "--group", "rows:0,1,2", "--group", "random:50%", "--test", "all")
        assert run(["groundtruth", *asked, "--format", "json", "--quiet"]) == 0
        found.append([row["actual"] for row in json.loads(capsys.readouterr().out)])
    assert found[1] == pytest.approx(found[0], rel=1e-9) and found[2] == pytest.approx(found[0], rel=1e-9)
