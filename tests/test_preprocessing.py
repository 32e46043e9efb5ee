"""Preprocessing is part of the question: whole pipelines refitted without the rows, by scikit-learn, are the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from influence_cli import GroupInfluence
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import Form, Mlp
from influence_cli.core.removal import PER_MEAN, PER_SUM, removal
from influence_cli.core.rescaling import Restandardising, Standardised, group_penalty
from influence_cli.core.training import train
from influence_cli.errors import UsageError

pandas = pytest.importorskip("pandas")


def logistic(**settings):
    return LogisticRegression(solver="newton-cholesky", tol=1e-12, **settings)


def cancer():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y, {"large": X["mean radius"] > 20, "coarse": X["mean texture"] > 25}


def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return X, y, {"strong": X.alcohol > 13.8, "sour": X.malic_acid > 4}


def diabetes():
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    return X, y, {"heavy": X.bmi > 32, "young": X.age < 30}


def clinic():
    """Numbers with gaps, and text; one site's rows alone have a category."""
    rng = np.random.default_rng(3)
    m = 120
    site = rng.choice(["North", "South", "East"], m)
    X = pandas.DataFrame(
        {
            "age": np.where(rng.random(m) < 0.1, np.nan, rng.normal(60, 9, m) + 12 * (site == "East")),
            "dose": rng.gamma(2.0, 3.0, m),
            "site": site,
            "form": np.where(site == "East", "drops", rng.choice(["pill", "syrup"], m)),
        }
    )
    X.loc[rng.random(m) < 0.1, "form"] = np.nan
    y = pandas.Series((rng.random(m) < 1 / (1 + np.exp(2 - 0.2 * X.dose - (site == "East")))).astype(int))
    return X, y, {"East": X.site == "East", "old": X.age > 70}


def refits(pipeline, X, y, groups, X_test, y_test):
    """Changes (G, T) of the prediction, by refitting everything without each group."""

    def predicted(one):
        if not hasattr(one, "predict_proba"):
            return one.predict(X_test)
        own = np.searchsorted(one.classes_, y_test)
        return one.predict_proba(X_test)[np.arange(len(own)), own]

    kept = [~np.asarray(mask) for mask in groups.values()]
    return np.array([predicted(clone(pipeline).fit(X[rows], y[rows])) for rows in kept]) - predicted(pipeline)


def columns(*, scaler=StandardScaler, **encoder):
    numbers = make_pipeline(SimpleImputer(strategy="median"), scaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(**encoder))
    return ColumnTransformer([("n", numbers, ["age", "dose"]), ("t", texts, ["site", "form"])])


PIPELINES = {
    "standardised": (cancer, [StandardScaler()], logistic()),
    "not centred": (cancer, [StandardScaler(with_mean=False)], logistic(C=0.1)),
    "not scaled": (diabetes, [StandardScaler(with_std=False)], Ridge(50.0)),
    "ranges": (cancer, [MinMaxScaler()], logistic()),
    "clipped": (cancer, [MinMaxScaler(clip=True)], logistic()),
    "quartiles": (wine, [RobustScaler()], logistic()),
    "largest": (wine, [MaxAbsScaler()], logistic(C=10.0)),
    "three classes": (wine, [StandardScaler()], logistic()),
    "balanced": (cancer, [StandardScaler()], logistic(class_weight="balanced")),
    "balanced only": (wine, [FunctionTransformer()], logistic(class_weight="balanced", C=1e-3)),
    "regression": (diabetes, [StandardScaler()], Ridge(2.0)),
    "no intercept": (diabetes, [StandardScaler()], Ridge(2.0, fit_intercept=False)),
    "poisson": (diabetes, [StandardScaler()], PoissonRegressor(alpha=0.1, solver="newton-cholesky", tol=1e-12)),
    "no learning before": (diabetes, [PolynomialFeatures(2, include_bias=False), StandardScaler()], Ridge(2.0)),
    "imputed, encoded": (clinic, [columns(handle_unknown="ignore")], logistic()),
    "imputed ranges": (clinic, [columns(scaler=MinMaxScaler, handle_unknown="ignore")], logistic(C=5.0)),
    "a level left out": (clinic, [columns(drop="first", handle_unknown="ignore")], logistic()),
    "pca": (cancer, [StandardScaler(), PCA(5, svd_solver="full")], logistic()),
    "selected": (diabetes, [SelectKBest(k=4), StandardScaler()], Ridge(2.0)),
}
FOREIGN = ("pca", "selected")


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.filterwarnings("ignore:estimates keep the preprocessing")
@pytest.mark.parametrize("name", list(PIPELINES))
def test_refit_is_the_refit_of_the_whole_pipeline(name):
    data, steps, estimator = PIPELINES[name]
    X, y, groups = data()
    pipeline = make_pipeline(*steps, estimator).fit(X, y)
    X_test, y_test = X[:: len(X) // 8], y[:: len(X) // 8]
    quantity = "prob" if hasattr(pipeline, "predict_proba") else "prediction"
    truth = refits(pipeline, X, y, groups, X_test, y_test)
    scale = np.abs(truth).max()
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    ask = {"groups": groups, "X_test": X_test, "y_test": y_test, "quantity": quantity}
    found = model.groundtruth(**ask)
    assert set(found.status) == {"ok"}
    assert found.actual == pytest.approx(truth, abs=1e-6 * max(1.0, scale))
    frozen = model.groundtruth(**ask, preprocessing="frozen").actual
    assert (np.abs(frozen - truth).max() > 1e-3 * scale) == (name != "not scaled")  # there the intercept takes it up
    methods = ["first-koh", "first", "second", "second-full", "newton", "rif"]
    exact = model.influence(**ask, methods=methods, evaluate="exact")
    assert set(exact.status) == {"ok"}
    newton = np.abs(exact.values["newton"] - truth).max()
    if isinstance(estimator, Ridge) and name not in FOREIGN:
        assert newton < 1e-6 * scale  # of a quadratic a Newton step is the truth
        first, second = (np.linalg.norm(exact.values[method] - truth) for method in ("first", "second"))
        assert second < first
    elif name not in FOREIGN:
        stays = model.influence(**ask, methods=["newton"], evaluate="exact", preprocessing="frozen").values["newton"]
        assert newton < max(np.abs(stays - truth).max(), 0.1 * scale)


def test_breast_cancer_without_large_tumours_has_the_other_sign_when_frozen():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    large = {"radius over 20": X["mean radius"] > 20}
    tests = [197, 514, 205]
    ask = {"groups": large, "X_test": X.loc[tests], "y_test": y.loc[tests], "quantity": "prob"}
    actual = {how: model.groundtruth(**ask, preprocessing=how).actual[0] for how in ("refit", "frozen")}
    assert actual["refit"] == pytest.approx([0.071, 0.059, 0.032], abs=0.002)
    assert (actual["frozen"] < 0).all() and (actual["frozen"] > -0.001).all()
    estimated = model.influence(**ask, methods=["newton"], evaluate="exact").values["newton"][0]
    assert estimated == pytest.approx(actual["refit"], rel=0.15)
    tight = clone(pipeline).set_params(logisticregression__tol=1e-10, logisticregression__solver="newton-cholesky")
    truth = refits(tight.fit(X, y), X, y, large, X.loc[tests], y.loc[tests])
    assert actual["refit"] == pytest.approx(truth[0], abs=1e-6)


def test_foreign_steps_are_refitted_for_the_truth_and_said_of_estimates():
    X, y, groups = cancer()
    model = GroupInfluence.from_sklearn(make_pipeline(StandardScaler(), PCA(5), logistic()).fit(X, y), X, y)
    with pytest.warns(UserWarning, match="estimates keep the preprocessing as it was fitted"):
        found = model.influence(groups, X[:2], y[:2])
    frozen = model.influence(groups, X[:2], y[:2], preprocessing="frozen")
    assert (found.values["second"] == frozen.values["second"]).all()
    name = model.model.parameter_names[0]
    lost = model.groundtruth(groups, quantity=f"param:{name}").records()[0]
    assert lost["actual"] is None and "the features are others" in lost["status"]


def test_transformers_that_were_fitted_on_other_rows_stay_and_are_told():
    X, y, groups = cancer()
    scaler = StandardScaler().fit(X[:200])
    fitted = logistic().fit(scaler.transform(X), y)
    fitted.feature_names_in_ = X.columns.to_numpy()
    pipeline = make_pipeline(scaler, fitted)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    with pytest.warns(UserWarning, match="stays as it was fitted: its transformers were fitted on other rows"):
        found = model.groundtruth(groups, X[:2], y[:2])
    assert (found.actual == model.groundtruth(groups, X[:2], y[:2], preprocessing="frozen").actual).all()
    with pytest.raises(UsageError, match="preprocessing must be one of refit, frozen"):
        model.groundtruth(groups, X[:2], y[:2], preprocessing="none")


def test_nothing_changes_where_nothing_was_learnt_from_the_rows():
    X, y, groups = wine()
    model = GroupInfluence.from_sklearn(logistic().fit(X, y), X, y)
    both = [model.groundtruth(groups, X[:3], y[:3], preprocessing=how).actual for how in ("refit", "frozen")]
    assert (both[0] == both[1]).all()


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("gaps", [False, True])
def test_without_a_penalty_and_with_columns_left_out(gaps):
    """Scales have no effect, all categories beside an intercept are one too many, and imputed values still matter."""
    X, _, groups = clinic()
    X["cost"] = 2 * X.dose + np.random.default_rng(0).normal(size=len(X)) + (X.site == "South")
    y = X.pop("cost")
    if not gaps:
        X = X.fillna({"age": 60.0, "form": "pill"})
    pipeline = make_pipeline(columns(handle_unknown="ignore"), LinearRegression()).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    assert "left out" in model.note
    ask = {"groups": {"old": groups["old"]}, "X_test": X[:8], "quantity": "prediction"}
    truth = refits(pipeline, X, y, ask["groups"], X[:8], None)
    assert model.groundtruth(**ask).actual == pytest.approx(truth, abs=1e-7)
    newton = model.influence(**ask, methods=["newton"], evaluate="exact")
    assert newton.values["newton"] == pytest.approx(truth, abs=1e-7)
    frozen = model.groundtruth(**ask, preprocessing="frozen").actual
    assert (np.abs(frozen - truth).max() > 1e-4) == gaps
    lost = model.groundtruth(**ask | {"groups": {"East": groups["East"]}}).columns()["status"]
    assert [one.startswith("unbounded: ") for one in lost] == list(groups["East"][:8])  # determined no more


def test_verified_selections_are_refitted():
    X, y, _ = diabetes()
    pipeline = make_pipeline(StandardScaler(), Ridge(2.0)).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    ask = {"quantity": "prediction", "strategies": "greedy", "verify": True}
    (found,) = model.select(40, X[:1], **ask).records()
    mask = np.zeros(len(X), dtype=bool)
    mask[found["rows"]] = True
    assert found["actual"] == pytest.approx(refits(pipeline, X, y, {"": mask}, X[:1], None)[0, 0], rel=1e-6)
    (frozen,) = model.select(40, X[:1], **ask, preprocessing="frozen").records()
    assert frozen["rows"] == found["rows"] and frozen["actual"] != pytest.approx(found["actual"], rel=1e-3)


# --- core: standardising again is a penalty ---


@pytest.mark.parametrize("penalized", [False, True])
@pytest.mark.parametrize("scaling", [PER_MEAN, PER_SUM])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_penalty_of_the_group_is_standardising_again(classes, scaling, penalized):
    rng = np.random.default_rng(0)
    m, d = 60, 4
    raw = rng.normal(3.0, 2.0, (m, d)) * [1, 10, 0.1, 1]
    raw[:, 3] = 7.0
    raw[:5, 3] = 8.0  # constant without the group
    group = np.concatenate([np.arange(5), np.argsort(raw[5:, 0])[-10:] + 5])
    group.sort()
    y = rng.normal(size=m) if classes == 1 else rng.integers(0, classes, m)
    family = Gaussian() if classes == 1 else Softmax(classes)
    scaler = StandardScaler().fit(raw)
    kept = np.setdiff1d(np.arange(m), group)
    again = StandardScaler().fit(raw[kept])
    every = np.ones(d, dtype=bool)
    X = scaler.transform(raw)
    how = Standardised(every, scaler.mean_, scaler.scale_, every)
    ratio, shift = Restandardising(X, how).without([group, np.array([40])])
    assert ratio[:, 0] == pytest.approx(again.scale_ / scaler.scale_, rel=1e-9)
    assert shift[:, 0] == pytest.approx((again.mean_ - scaler.mean_) / scaler.scale_, rel=1e-9)
    settings = {"l2": 0.05, "penalize_intercept": penalized}
    objective = Glm(X, y, family, **settings)
    size, units = objective.size, classes
    held = 0.05 if penalized else None
    penalty = group_penalty(ratio, shift, size=size, units=units, intercept=True, penalized=held)
    w = removal(objective.weights, [group, np.array([40])], scaling, penalty).removed.take(np.array([0]))
    share = len(group) / m if scaling == PER_SUM else 0.0
    direct = Glm(again.transform(raw[kept]), y[kept], family, l2=0.05 / (1 - share), penalize_intercept=penalized)
    theta = train(direct, tol=1e-12).theta
    outputs = direct.predict_outputs(theta, again.transform(raw[kept]))
    # The same model in the old units: no gradient there, and the same value of J.
    W = theta.reshape(units, d + 1)
    slopes = W[:, :d] / ratio[:, 0]
    old = np.column_stack([slopes, W[:, d] - slopes @ shift[:, 0]]).reshape(-1, 1)
    assert objective.predict_outputs(old, X[kept]) == pytest.approx(outputs, abs=1e-9)
    assert np.abs(objective.gradient(old, w)).max() < 1e-9
    value = objective.value(old, w)[0] if not objective.penalty.gauge.any() else None
    if value is not None:
        assert value == pytest.approx(direct.value(theta, direct.weights)[0] * (1 - share), rel=1e-9)


@pytest.mark.parametrize("penalized", [False, True])
def test_a_network_on_features_standardised_again_is_one_with_another_decay(penalized):
    rng = np.random.default_rng(4)
    raw, y = rng.normal(3.0, 2.0, (40, 3)), rng.integers(0, 2, 40)
    group = np.sort(np.argsort(raw[:, 0])[-10:])
    kept = np.setdiff1d(np.arange(40), group)
    scaler, again = StandardScaler().fit(raw), StandardScaler().fit(raw[kept])
    every = np.ones(3, dtype=bool)
    how = Standardised(every, scaler.mean_, scaler.scale_, every)
    ratio, shift = Restandardising(scaler.transform(raw), how).without([group])
    form = Form((4, 2), 0.03, penalize_intercept=penalized)
    old = Mlp(scaler.transform(raw), y, Logistic(), form)
    new = Mlp(again.transform(raw[kept]), y[kept], Logistic(), form)
    held = 0.03 if penalized else None
    penalty = group_penalty(ratio, shift, size=old.size, units=4, intercept=True, penalized=held)
    w = removal(old.weights, [group], PER_MEAN, penalty).removed
    theta = rng.normal(size=(new.size, 1))
    first = theta[:16].reshape(4, 4)  # of four units, the bias last
    slopes = first[:, :3] / ratio[:, 0]
    moved = np.column_stack([slopes, first[:, 3] - slopes @ shift[:, 0]])
    there = np.concatenate([moved.reshape(-1, 1), theta[16:]])
    assert old.value(there, w) == pytest.approx(new.value(theta, new.weights), rel=1e-12)


def test_sparse_rows_are_scaled_again_without_a_shift():
    rng = np.random.default_rng(1)
    raw = np.where(rng.random((50, 6)) < 0.6, 0.0, rng.gamma(2.0, 1.0, (50, 6)))
    scaler = StandardScaler(with_mean=False).fit(raw)
    X = csr_array(scaler.transform(raw))
    every = np.ones(6, dtype=bool)
    how = Standardised(every, np.zeros(6), scaler.scale_, ~every)
    group = np.arange(12)
    ratio, shift = Restandardising(X, how).without([group])
    assert ratio[:, 0] == pytest.approx(StandardScaler().fit(raw[12:]).scale_ / scaler.scale_, rel=1e-12)
    assert (shift == 0).all()


def test_digits_lost_to_cancellation_are_taken_from_the_rows():
    rng = np.random.default_rng(2)
    raw = np.concatenate([rng.normal(1e6, 1e-3, 40), rng.normal(-1e6, 1.0, 10)])[:, None]
    scaler = StandardScaler().fit(raw)
    one = np.ones(1, dtype=bool)
    how = Standardised(one, scaler.mean_, scaler.scale_, one)
    ratio, _ = Restandardising(scaler.transform(raw), how).without([np.arange(40, 50)])
    assert ratio[0, 0] * scaler.scale_[0] == pytest.approx(raw[:40].std(), rel=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
def test_encoded_sparse_features_are_made_again(sparse):
    X, y, groups = clinic()
    X = X.fillna({"age": 60.0, "form": "pill"})
    steps = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["site", "form"]),
        (MaxAbsScaler(), ["dose"]),
        sparse_threshold=1.0 if sparse else 0.0,
    )
    pipeline = make_pipeline(steps, logistic()).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    assert isinstance(model.model.dataset.X_train, csr_array) == sparse
    truth = refits(pipeline, X, y, groups, X[:5], y[:5])
    ask = {"groups": groups, "X_test": X[:5], "y_test": y[:5], "quantity": "prob"}
    assert model.groundtruth(**ask).actual == pytest.approx(truth, abs=1e-6)
    newton = model.influence(**ask, methods=["newton"], evaluate="exact")
    assert set(newton.status) == {"ok"}
    assert np.abs(newton.values["newton"] - truth).max() < 0.3 * np.abs(truth).max()


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), RobustScaler()], ids=str)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("sparse", [False, True])
def test_imputed_cells_of_sparse_rows_are_made_again(sparse, intercept, scaler):
    X, y, groups = clinic()
    steps = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["form"]),
        (OneHotEncoder(handle_unknown="ignore"), ["site"]),
        (make_pipeline(SimpleImputer(), scaler), ["age", "dose"]),
        sparse_threshold=1.0 if sparse else 0.0,
    )
    pipeline = make_pipeline(steps, logistic().set_params(fit_intercept=intercept)).fit(X, y)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    assert isinstance(model.model.dataset.X_train, csr_array) == sparse
    ask = {"groups": groups, "X_test": X[:5], "y_test": y[:5], "quantity": "prob"}
    truth = refits(pipeline, X, y, groups, X[:5], y[:5])
    assert model.groundtruth(**ask).actual == pytest.approx(truth, abs=1e-6)
    estimated = model.influence(**ask, methods=["refined"])
    assert set(estimated.status) == {"ok"}
    assert (np.abs(estimated.values["refined"] - truth) <= estimated.errors["refined"] + 1e-6).all()
