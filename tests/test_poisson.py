"""Poisson regression: derivatives by finite differences, parameters and refits by scikit-learn's PoissonRegressor."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_tools import train as ginf_train
from cli_tools import values_of
from scipy.special import xlogy
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance

from influence_cli.cli import run
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import RowTarget, row_quantity
from influence_cli.core.training import train
from influence_cli.errors import NotConvergedError

ROWS, PEER = 80, 1e-6


def counts(seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(ROWS, 3))
    return X, rng.poisson(scale * np.exp(X @ [0.4, -0.3, 0.2] + 0.5)).astype(float)


def refit(X, y, alpha, weights=None, intercept=True) -> np.ndarray:
    peer = PoissonRegressor(alpha=alpha, fit_intercept=intercept, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    peer.fit(X, y, sample_weight=weights)
    return np.append(peer.coef_, peer.intercept_) if intercept else peer.coef_


def test_each_derivative_is_the_finite_difference_of_the_one_before():
    X, y = counts()
    objective, rng = Glm(X, y, Poisson(), l2=0.1), np.random.default_rng(1)
    theta, u, V = (0.5 * rng.normal(size=(4, 1)) for _ in range(3))
    w, h = rng.random(ROWS) / ROWS, 1e-5

    def slope(f):
        return (f(theta + h * u) - f(theta - h * u)) / (2 * h)

    gradient, product = objective.gradient(theta, w), objective.curvature(theta, w)
    assert (gradient * u).sum() == pytest.approx(slope(lambda t: objective.value(t, w))[0], rel=1e-8)
    assert product(u) == pytest.approx(slope(lambda t: objective.gradient(t, w)), rel=1e-7)
    assert objective.third(theta, w, u) == pytest.approx(slope(lambda t: objective.curvature(t, w)(u)), rel=1e-7)
    dense = np.tril(objective.dense_curvature(theta, w, np.dtype(float)))
    dense = dense + np.tril(dense, -1).T
    assert dense @ V == pytest.approx(product(V), rel=1e-12)
    curved = objective.row_curvatures(theta, V, u)
    assert curved[:, 0] == pytest.approx(slope(lambda t: objective.row_products(t, V))[:, 0], rel=1e-6)


def test_the_loss_is_half_the_deviance_of_a_row():
    X, y = counts()
    eta = X @ [0.1, 0.2, 0.3]
    found = Poisson().loss(eta[None, None], y)[0]
    assert 2 * found.mean() == pytest.approx(mean_poisson_deviance(y, np.exp(eta)), rel=1e-12)
    assert Poisson().loss(np.log(np.array([[[2.0]]])), np.array([2.0])) == pytest.approx(0.0, abs=1e-15)
    assert found == pytest.approx(np.exp(eta) - y * eta + xlogy(y, y) - y, rel=1e-12)


def test_the_spread_bounds_the_change_of_the_curvature():
    """|l'''[a, c, c]| <= spread(a) l''[c, c], which is what the proof of a finite minimum needs."""
    family, rng = Poisson(), np.random.default_rng(0)
    eta, a = rng.normal(size=(2, 1, 1, 50))
    moments = family.curvature_state(eta)
    third = np.sqrt(np.abs(family.third(moments, a) * family.third(moments, np.ones_like(a))))
    assert (third <= family.self_concordance(a)[:, None] * family.curve(moments, np.ones_like(a)) + 1e-12).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize(("intercept", "scale"), [(True, 1.0), (False, 1.0), (True, 1e4)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_training_finds_the_parameters_that_scikit_learn_finds(alpha, intercept, scale):
    X, y = counts(scale=scale)
    found = train(Glm(X, y, Poisson(), l2=alpha, intercept=intercept))
    assert found.theta[:, 0] == pytest.approx(refit(X, y, alpha, intercept=intercept), rel=PEER, abs=PEER)


def test_large_counts_without_an_intercept_train_from_far_away():
    """The first step is past all numbers; scikit-learn's solvers overflow here."""
    X, y = counts(scale=1e4)
    objective = Glm(X, y, Poisson(), l2=1e-3, intercept=False)
    theta = train(objective, tol=1e-8).theta
    gradient = X.T @ (np.exp(X @ theta[:, 0]) - y) / ROWS + 1e-3 * theta[:, 0]
    assert np.linalg.norm(gradient) < 1e-6


def test_zeros_that_a_feature_tells_apart_have_no_minimum_without_a_penalty():
    X, y = counts()
    X = np.column_stack([X, (y == 0) & (X[:, 0] > 0)]).astype(float)
    with pytest.raises(NotConvergedError, match="zeros and the rest"):
        train(Glm(X, y, Poisson(), l2=0.0))
    assert train(Glm(X, y, Poisson(), l2=1e-4)).converged[0]


def test_a_prediction_is_the_mean_and_its_gradient_that_of_the_mean():
    X, y = counts()
    objective = Glm(X, y, Poisson(), l2=0.1)
    theta = train(objective).theta
    target = RowTarget(objective, row_quantity("prediction", Poisson(), ()), X[:5], y[:5])
    assert target.value(theta)[:, 0] == pytest.approx(np.exp(X[:5] @ theta[:3, 0] + theta[3, 0]))
    h = 1e-6
    for j in range(4):
        step = h * np.eye(4)[:, [j]]
        difference = (target.value(theta + step) - target.value(theta - step))[:, 0] / (2 * h)
        assert target.gradient(theta)[j] == pytest.approx(difference, rel=1e-6, abs=1e-9)


# The commands


def save(path, seed=0) -> str:
    X, y = counts(seed)
    np.savez(path, X_train=X[:60], y_train=y[:60], X_test=X[60:], y_test=y[60:])
    return str(path)


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_groundtruth_equals_refits_by_scikit_learn_in_both_conventions(tmp_path, capsys, scaling):
    X, y = counts()
    data = save(tmp_path / "counts.npz")
    model = ginf_train(data, tmp_path / "m.h5", "--estimator", "poisson", "--l2", "0.01", "--penalty-scaling", scaling)
    capsys.readouterr()
    ask = ["--model", model, "--group", "rows:0,1,2,3,4,5", "--test", "0:4", "--quiet"]
    assert run(["groundtruth", *ask, "--quantity", "prediction"]) == 0
    found = values_of(capsys.readouterr().out, "actual")
    # per-sum keeps 1/m on each kept row: scikit-learn's mean over 54 rows then weighs alpha 60/54 times as much
    alpha = 0.01 * (60 / 54 if scaling == "per-sum" else 1.0)
    before, after = refit(X[:60], y[:60], 0.01), refit(X[6:60], y[6:60], alpha)

    def mean(theta):
        return np.exp(X[60:64] @ theta[:3] + theta[3])

    assert found == pytest.approx(mean(after) - mean(before), rel=1e-5)
    assert run(["influence", *ask, "--quantity", "prediction", "--method", "first,newton", "--evaluate", "exact"]) == 0
    output = capsys.readouterr().out
    assert values_of(output, "newton") == pytest.approx(found, rel=0.05, abs=0.01)
    errors = [np.abs(values_of(output, method) - found).max() for method in ("first", "newton")]
    assert errors[1] < errors[0]


def test_a_group_with_every_count_over_zero_leaves_a_rate_of_zero(tmp_path, capsys):
    X, y = counts()
    y[:] = 0.0
    y[:5] = 3.0
    np.savez(tmp_path / "c.npz", X_train=X[:60], y_train=y[:60], X_test=X[60:], y_test=y[60:])
    model = ginf_train(str(tmp_path / "c.npz"), tmp_path / "m.h5", "--estimator", "poisson")
    capsys.readouterr()
    run(["groundtruth", "--model", model, "--group", "rows:0,1,2,3,4", "--test", "0", "--quantity", "prediction"])
    found = capsys.readouterr().out
    assert values_of(found, "actual") == pytest.approx(-values_of(found, "base"), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda y: y - 5, "expects responses of at least 0, found -"),
        (lambda y: 0 * y, "expects a response over 0"),
    ],
)
def test_responses_that_are_no_counts_are_refused(tmp_path, capsys, change, sentence):
    X, y = counts()
    np.savez(tmp_path / "c.npz", X_train=X, y_train=change(y), X_test=X[:3], y_test=np.abs(y[:3]))
    command = ["train", "--data", str(tmp_path / "c.npz"), "--estimator", "poisson", "-o", str(tmp_path / "m.h5")]
    assert run(command) == 3
    assert sentence in capsys.readouterr().err


def test_train_reports_the_explained_deviance(tmp_path, capsys):
    X, y = counts()
    data = save(tmp_path / "c.npz")
    command = ["train", "--data", data, "--estimator", "poisson", "--l2", "0.01", "-o", str(tmp_path / "m.h5")]
    assert run([*command, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)[0]
    theta = refit(X[:60], y[:60], 0.01)
    expected = d2_tweedie_score(y[60:], np.exp(X[60:] @ theta[:3] + theta[3]), power=1)
    assert record["test_score"] == pytest.approx(expected, rel=1e-6)
