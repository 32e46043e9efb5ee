"""Estimators of scikit-learn as models: their parameters, their refits without a group, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from influence_cli import GroupInfluence
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.glm import Glm
from influence_cli.errors import FileError, NotConvergedError, UsageError

M, T = 70, 5
GROUP, KEPT = np.arange(9), np.arange(9, M)
PEER = 1e-6


def logistic(**settings):
    return LogisticRegression(solver="newton-cg", tol=1e-12, max_iter=10_000, **settings)


def poisson(alpha=0.1, **settings):
    return PoissonRegressor(alpha=alpha, solver="newton-cholesky", tol=1e-12, max_iter=1000, **settings)


CASES = {
    "logistic": (logistic(C=0.3), 2),
    "logistic, no intercept": (logistic(C=0.3, fit_intercept=False), 2),
    "softmax": (logistic(C=0.3), 3),
    "softmax, no intercept": (logistic(C=2.0, fit_intercept=False), 3),
    "logistic without penalty": (logistic(C=np.inf), 2),
    "softmax without penalty": (logistic(C=np.inf), 3),
    "least squares": (LinearRegression(), 0),
    "least squares, no intercept": (LinearRegression(fit_intercept=False), 0),
    "ridge": (Ridge(alpha=3.0), 0),
    "ridge, no intercept": (Ridge(alpha=3.0, fit_intercept=False), 0),
    "ridge classifier": (RidgeClassifier(alpha=2.0), 2),
    "ridge classifier of three": (RidgeClassifier(alpha=2.0), 3),
    "poisson": (poisson(), -1),
    "poisson, no intercept": (poisson(fit_intercept=False), -1),
}


def rows(classes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(M + T, 3)) + 0.2
    score = X @ [1.0, -0.5, 0.3] + 1.2 * rng.normal(size=M + T)
    if classes == 0:
        y = score
    elif classes < 0:
        y = rng.poisson(np.exp(0.5 * score)).astype(float)
    else:
        y = np.array(["late", "mid", "early"])[np.digitize(score, [0.3] if classes == 2 else [-0.3, 0.7])]
    weights = rng.integers(1, 4, M).astype(float)
    return X[:M], y[:M], X[M:], y[M:], weights


def decision(model, X, y, classes):
    """What ``prediction``, or ``logit:mid``, is: an output that every estimator has."""
    if classes <= 0:
        return model.predict(X)
    scores = model.decision_function(X)
    k = list(model.classes_).index("mid")
    return scores * (1 if k == 1 else -1) if classes == 2 else scores[:, k]


def refit(model, X, y, scale, weights, scaling):
    """The estimator without the group: as it is, or (the other convention) with lambda held on the mean, or the sum.

    ``scale`` is the share of the weight that is left."""
    from sklearn.base import clone

    model = clone(model)
    if isinstance(model, LogisticRegression) and scaling == "per-mean":
        model.set_params(C=model.C / scale)
    elif isinstance(model, Ridge | RidgeClassifier) and scaling == "per-mean":
        model.set_params(alpha=model.alpha * scale)
    elif isinstance(model, PoissonRegressor) and scaling == "per-sum":
        model.set_params(alpha=model.alpha / scale)
    return model.fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scaling", ["per-mean", "per-sum", None])
@pytest.mark.parametrize("name", CASES)
def test_retraining_equals_refits_in_either_convention(name, scaling, weighted):
    estimator, classes = CASES[name]
    X, y, X_test, y_test, weights = rows(classes)
    given = weights if weighted else None
    fitted = refit(estimator, X, y, 1.0, given, None)
    model = GroupInfluence.from_sklearn(fitted, X, y, sample_weight=given, penalty_scaling=scaling)
    scale = (weights[KEPT].sum() / weights.sum()) if weighted else len(KEPT) / M
    after = refit(estimator, X[KEPT], y[KEPT], scale, weights[KEPT] if weighted else None, scaling)
    quantity = "prediction" if classes <= 0 else "logit:mid"
    truth = model.groundtruth(GROUP, X_test, y_test, quantity=quantity)
    assert truth.base == pytest.approx(decision(fitted, X_test, y_test, classes), abs=PEER)
    expected = decision(after, X_test, y_test, classes) - decision(fitted, X_test, y_test, classes)
    assert truth.actual[0] == pytest.approx(expected, abs=1e-5)
    newton = model.influence(GROUP, X_test, y_test, quantity=quantity, methods=["newton"], evaluate="exact")
    within = 1e-7 if classes == 0 or "ridge" in name else np.abs(expected).max() * 0.4
    assert newton.values["newton"][0] == pytest.approx(expected, abs=within)


def test_parameters_penalty_and_class_order_are_the_estimators():
    X, y, *_ = rows(3)
    fitted = logistic(C=0.3).fit(X, y)
    model = GroupInfluence.from_sklearn(fitted, X, y).model
    assert model.dataset.classes == ("early", "late", "mid")
    assert model.settings.l2 == pytest.approx(1 / (0.3 * M))
    theta = model.theta.reshape(3, 4)
    assert theta[:, :3] == pytest.approx(fitted.coef_, abs=PEER)
    assert theta[:, 3] == pytest.approx(fitted.intercept_ - fitted.intercept_.mean(), abs=PEER)
    assert GroupInfluence.from_sklearn(poisson(0.1).fit(X, X[:, 0] ** 2), X, X[:, 0] ** 2).model.settings.l2 == 0.1
    ridge = GroupInfluence.from_sklearn(Ridge(alpha=7.0).fit(X, X[:, 0]), X, X[:, 0]).model
    assert ridge.settings.l2 == pytest.approx(7.0 / M)
    assert (ridge.settings.penalty_scaling, ridge.settings.estimator) == ("per-sum", "linear")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["logistic", "ridge"])
@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_weights_are_the_estimators_and_stay_or_are_made_again(kind, classes, weighted):
    X, y, X_test, y_test, weights = rows(classes)
    given = weights if weighted else None
    make = {"logistic": lambda **s: logistic(C=0.3, **s), "ridge": lambda **s: RidgeClassifier(alpha=2.0, **s)}[kind]
    fitted = make(class_weight="balanced").fit(X, y, sample_weight=given)
    model = GroupInfluence.from_sklearn(fitted, X, y, sample_weight=given)
    fixed = model.model.dataset.weights
    own = weights if weighted else np.ones(M)
    scale = own / (fixed / fixed.max())
    assert len(np.unique(np.round(scale, 9))) == classes
    truth = model.groundtruth(GROUP, X_test, quantity="logit:mid", preprocessing="frozen")
    assert truth.base == pytest.approx(decision(fitted, X_test, y_test, classes), abs=1e-4)
    ratio = 1.0 / (model.model.settings.l2 * (0.3 if kind == "logistic" else 1 / 2.0))  # S, the sum of the raw weights
    after = make().fit(X[KEPT], y[KEPT], sample_weight=(fixed * ratio)[KEPT])
    expected = decision(after, X_test, y_test, classes) - decision(fitted, X_test, y_test, classes)
    assert truth.actual[0] == pytest.approx(expected, abs=1e-4)
    truth = model.groundtruth(GROUP, X_test, quantity="logit:mid")
    again = make(class_weight="balanced").fit(X[KEPT], y[KEPT], sample_weight=None if given is None else given[KEPT])
    expected = decision(again, X_test, y_test, classes) - decision(fitted, X_test, y_test, classes)
    assert truth.actual[0] == pytest.approx(expected, abs=1e-4)
    newton = model.influence(GROUP, X_test, quantity="logit:mid", methods=["newton"], evaluate="exact")
    within = 1e-6 if kind == "ridge" else np.abs(expected).max() * 0.4
    assert newton.values["newton"][0] == pytest.approx(expected, abs=within)


def test_a_pipelines_transformers_stay_as_they_were_fitted_where_asked():
    X, y, X_test, y_test, _ = rows(2)
    pipeline = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), logistic(C=0.3)).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    assert model.model.dataset.feature_names[:4] == ("x0", "x1", "x2", "x0^2")
    truth = model.groundtruth({"nine": GROUP}, X_test, y_test, quantity="prob", preprocessing="frozen")
    made = pipeline[:-1].transform(X)
    after = logistic(C=0.3).fit(made[KEPT], y[KEPT])
    own = [list(after.classes_).index(label) for label in y_test]
    both = [m.predict_proba(pipeline[:-1].transform(X_test))[np.arange(T), own] for m in (after, pipeline[-1])]
    assert truth.actual[0] == pytest.approx(both[0] - both[1], abs=PEER)


def test_a_loose_fit_is_polished_and_said_or_refused():
    X, y, *_ = rows(2)
    loose = LogisticRegression(C=5.0).fit(X, y)
    model = GroupInfluence.from_sklearn(loose, X, y)
    assert model.model.grad_norm <= 1e-8
    assert "polished" in model.note
    theta = np.append(loose.coef_, loose.intercept_)
    codes = (y == loose.classes_[1]).astype(float)
    p = 1 / (1 + np.exp(-(X @ theta[:3] + theta[3])))
    gradient = np.append(X.T @ (p - codes) / M + theta[:3] / (5.0 * M), (p - codes).mean())
    assert f"{np.linalg.norm(gradient):.1e}" in model.note
    with pytest.raises(NotConvergedError, match="not at a stationary point"):
        GroupInfluence.from_sklearn(loose, X, y, polish=False)
    tight = GroupInfluence.from_sklearn(LinearRegression().fit(X, X[:, 0]), X, X[:, 0], polish=False)
    assert "polished" not in tight.note


def test_rows_that_are_not_the_models_are_refused():
    X, y, *_ = rows(2)
    fitted = logistic(C=5.0).fit(X, y)
    with pytest.raises(FileError, match="not the rows that the LogisticRegression was fitted on"):
        GroupInfluence.from_sklearn(fitted, X, np.roll(y, 20))
    with pytest.raises(FileError, match="fitted on 3 features, but the rows have 2"):
        GroupInfluence.from_sklearn(fitted, X[:, :2], y)
    with pytest.raises(FileError, match="no training row is of class"):
        GroupInfluence.from_sklearn(logistic().fit(*rows(3)[:2]), X, np.where(y == "late", "late", "mid"))


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (LogisticRegression(l1_ratio=1, solver="saga", max_iter=5000), "l1 penalty is not supported"),
        (LogisticRegression(l1_ratio=0.5, solver="saga", max_iter=5000), "elastic net penalty is not supported"),
        (LogisticRegression(solver="liblinear"), "liblinear penalises the intercept"),
        (LogisticRegression(class_weight={"late": 2.0}), "only None and balanced"),
        (LinearRegression(positive=True), "positive=True is not supported"),
        (Ridge(positive=True), "positive=True is not supported"),
        (Lasso(), "expected a fitted LogisticRegression"),
        (LogisticRegressionCV(l1_ratios=(1,), solver="saga", use_legacy_attributes=False), "an l1 penalty"),
        (make_pipeline(StandardScaler(), Lasso()), "found Lasso"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_settings_without_a_counterpart_get_a_sentence(estimator, sentence):
    X, y, *_ = rows(2)
    numeric = X[:, 0]
    classifies = "Logistic" in repr(estimator)
    target = y if classifies else numeric
    with pytest.raises(UsageError, match=sentence):
        GroupInfluence.from_sklearn(estimator.fit(X, target), X, target)


def test_several_outputs_several_alphas_and_what_is_not_fitted_get_a_sentence():
    X, y, *_ = rows(0)
    both = np.column_stack([y, 2 * y])
    for estimator in (LinearRegression(), Ridge()):
        with pytest.raises(UsageError, match="2 outputs is not supported"):
            GroupInfluence.from_sklearn(estimator.fit(X, both), X, both)
    with pytest.raises(UsageError, match="2 values of alpha"):
        GroupInfluence.from_sklearn(_ridge_of_two(X, y), X, y)
    with pytest.raises(UsageError, match="is not fitted"):
        GroupInfluence.from_sklearn(Ridge(), X, y)
    binary = rows(2)[1] == "mid"
    liblinear = LogisticRegression(solver="liblinear", fit_intercept=False, tol=1e-6).fit(X, binary)
    assert GroupInfluence.from_sklearn(liblinear, X, binary).model.dataset.classes == ("False", "True")


def _ridge_of_two(X, y):
    fitted = Ridge().fit(X, y)
    fitted.alpha = np.array([1.0, 2.0])
    return fitted


def test_separable_classes_without_a_penalty_have_no_model():
    X, _, *_ = rows(2)
    y = (X[:, 0] > 0).astype(int)
    with pytest.raises(NotConvergedError, match="no finite minimum"):
        GroupInfluence.from_sklearn(LogisticRegression(C=np.inf, max_iter=30).fit(X, y), X, y)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_signed_family_has_the_derivatives_of_its_loss(classes):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.integers(0, classes, 40)
    objective = Glm(X, y, Signed(classes), l2=0.1)
    theta, u = (rng.normal(size=(objective.size, 1)) for _ in range(2))
    w, h = rng.random(40) / 40, 1e-4
    difference = (objective.value(theta + h * u, w) - objective.value(theta - h * u, w)) / (2 * h)
    assert (objective.gradient(theta, w) * u).sum() == pytest.approx(difference[0], rel=1e-8)
    difference = (objective.gradient(theta + h * u, w) - objective.gradient(theta - h * u, w)) / (2 * h)
    assert objective.curvature(theta, w)(u) == pytest.approx(difference, rel=1e-7)
    assert not objective.third(theta, w, u).any()
    with pytest.raises(UsageError, match="no probabilities"):
        from influence_cli.core.quantities import row_quantity

        row_quantity("prob", Signed(classes), ("a", "b", "c"))


@pytest.mark.parametrize("sparse", [False, True])
def test_a_category_that_is_lost_counts_as_an_infrequent_one(sparse):
    X = np.array([["North"]] * 60 + [["East"]] * 20 + [["West"]] * 4, dtype=object)
    y = np.arange(84.0) % 7 + 3 * (X[:, 0] == "West")
    encoder = OneHotEncoder(min_frequency=10, handle_unknown="infrequent_if_exist", sparse_output=sparse)
    pipeline = make_pipeline(encoder, Ridge()).fit(X, y)
    base, kept = pipeline.predict(X[[0, 60, 80]]), X[:, 0] != "East"
    found = GroupInfluence.from_sklearn(pipeline, X, y).groundtruth([~kept], X[[0, 60, 80]], quantity="prediction")
    assert found.actual[0] == pytest.approx(pipeline.fit(X[kept], y[kept]).predict(X[[0, 60, 80]]) - base, abs=1e-9)


def test_estimates_know_that_a_category_is_lost_where_features_are_made_again():
    """Imputed cells make the features of each group anew; its category's column must not look as if never filled."""
    rng = np.random.default_rng(1)
    X = np.c_[rng.integers(0, 4, 300), np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300))]
    y = rng.normal(size=4)[X[:, 0].astype(int)] + np.nan_to_num(X[:, 1]) + rng.normal(size=300)
    steps = [("site", OneHotEncoder(handle_unknown="ignore"), [0]), ("x", SimpleImputer(), [1])]
    pipeline = make_pipeline(ColumnTransformer(steps, sparse_threshold=0.0), Ridge(1e-3)).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    groups = [X[:, 0] == site for site in range(4)]
    found = model.influence(groups, X[:20], quantity="prediction", methods=["refined"], rel_error=0.01)
    for change, error, group in zip(found.values["refined"], found.errors["refined"], groups, strict=True):
        truth = clone(pipeline).fit(X[~group], y[~group]).predict(X[:20]) - pipeline.predict(X[:20])
        assert (np.abs(change - truth) <= error + 1e-9).all()
