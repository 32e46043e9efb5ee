"""Groups that the features tell from all other rows: what a dummy coding leaves out, without which dummies add up."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence

L2 = 1e-4


def dummies(seed: int, classes: int):
    """A factor of four levels, one of three and a number, both without their first level; y; and the factors."""
    rng = np.random.default_rng(seed)
    level, other = rng.choice(4, 300, p=[0.3, 0.05, 0.4, 0.25]), rng.integers(0, 3, 300)
    X = np.c_[np.eye(4)[level][:, 1:], np.eye(3)[other][:, 1:], rng.normal(size=300)]
    utility = np.c_[np.zeros(300), X @ rng.normal(size=(6, classes - 1))]
    return X, np.argmax(utility + rng.gumbel(size=utility.shape), axis=1), level, other


def without(X, y, group, tests):
    """Probabilities of the classes at the tests, by scikit-learn, without the group."""
    kept = np.setdiff1d(np.arange(len(X)), group)
    model = LogisticRegression(C=1 / (L2 * len(kept)), tol=1e-12, solver="newton-cholesky", max_iter=1000)
    return model.fit(X[kept], y[kept]).predict_proba(tests)


def groups_of(level, other):
    return {
        "reference": np.flatnonzero(level == 0),
        "reference of the other": np.flatnonzero(other == 0),
        "reference and a level": np.flatnonzero(level <= 1),
        "all but one of the reference": np.flatnonzero(level == 0)[:-1],
        "random": np.arange(30),
    }


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refined_knows_what_is_left_where_the_features_tell_the_group_apart(seed, classes):
    X, y, level, other = dummies(seed, classes)
    tests = np.r_[X[:5], X[np.flatnonzero(level == 0)[:5]]]
    labels = np.r_[y[:5], y[np.flatnonzero(level == 0)[:5]]]
    groups = list(groups_of(level, other).values())
    model = GroupInfluence.fit(X, y, l2=L2)
    found = model.influence(groups, tests, labels, methods=["refined"], quantity="prob")
    change, error = (np.reshape([row[key] for row in found.records()], (5, 10)) for key in ("refined", "error"))
    now = without(X, y, [], tests)[np.arange(10), labels]
    right = np.array([without(X, y, group, tests)[np.arange(10), labels] for group in groups]) - now
    assert (np.abs(change - right) <= 0.05 * np.abs(right) + 1e-7).all()
    assert (np.abs(change - right) <= error + 1e-7).mean() >= 0.9


def ridge(X, y, group, tests, l2):
    """Predictions at the tests of a linear model without the group, its intercept unpenalised, in closed form."""
    kept = np.setdiff1d(np.arange(len(X)), group)
    A, mean = X[kept] - X[kept].mean(axis=0), y[kept].mean()
    slopes = np.linalg.solve(A.T @ A / len(kept) + l2 * np.eye(X.shape[1]), A.T @ (y[kept] - mean) / len(kept))
    return mean + (tests - X[kept].mean(axis=0)) @ slopes


@pytest.mark.parametrize("l2", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_of_linear_regression(seed, l2):
    X, _, level, other = dummies(seed, 2)
    y = X @ [1.0, -2.0, 0.5, 1.0, 0.0, 0.3] + np.random.default_rng(seed).normal(size=300)
    tests, groups = np.r_[X[:5], X[np.flatnonzero(level == 0)[:5]]], list(groups_of(level, other).values())
    model = GroupInfluence.fit(X, y, estimator="linear", l2=l2)
    found = model.influence(groups, tests, methods=["refined"], quantity="prediction")
    change = np.reshape([row["refined"] for row in found.records()], (5, 10))
    right = np.array([ridge(X, y, group, tests, l2) for group in groups]) - ridge(X, y, [], tests, l2)
    assert (np.abs(change - right) <= 0.05 * np.abs(right) + 1e-7).all()


@pytest.mark.parametrize("estimator", ["linear", "logistic"])
def test_a_group_may_be_told_apart_but_for_some_of_its_rows(estimator):
    X, y, level, other = dummies(3, 2)
    drawn = np.random.default_rng(5).choice(300, 60, replace=False)
    groups = [np.union1d(np.flatnonzero(level == 0), drawn[:8]), np.union1d(np.flatnonzero(level == 0), drawn)]
    groups.append(np.flatnonzero((level == 0) | (other == 0)))
    tests, quantity = np.r_[X[:5], X[np.flatnonzero(level == 0)[:5]]], "prediction"
    if estimator == "linear":
        y = X @ [1.0, -2.0, 0.5, 1.0, 0.0, 0.3] + np.random.default_rng(3).normal(size=300)
        right = np.array([ridge(X, y, group, tests, L2) - ridge(X, y, [], tests, L2) for group in groups])
    else:
        quantity = "prob:1"
        right = np.array([(without(X, y, group, tests) - without(X, y, [], tests))[:, 1] for group in groups])
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=L2)
    found = model.influence(groups, tests, methods=["refined"], quantity=quantity)
    change = np.reshape([row["refined"] for row in found.records()], right.shape)
    assert (np.abs(change - right) <= 0.05 * np.abs(right) + 1e-7).all()
