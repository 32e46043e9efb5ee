"""Weighted rows: training, estimates and retraining against scikit-learn with sample_weight, in both conventions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from artifact_examples import example_model
from cli_tools import train, values_of
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.utils.class_weight import compute_sample_weight

from influence_cli.artifacts.model import load_model, save_model
from influence_cli.cli import run
from influence_cli.core.removal import removal
from influence_cli.errors import FileError, UsageError
from influence_cli.models.sample_weights import balance

M, GROUP = 60, np.arange(7)
PEER = 1e-5
METHODS = "first-koh,second-full,newton"


def problem(kind: str, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(M + 6, 3)) + 0.2
    score = X @ [1.0, -0.5, 0.3]
    if kind == "poisson":
        y = rng.poisson(np.exp(0.5 * score)).astype(float)
    elif kind == "linear":
        y = score + rng.normal(size=M + 6)
    else:
        y = np.digitize(score + rng.normal(size=M + 6), [0.4] if kind == "binary" else [-0.3, 1.2])
    weights = rng.integers(0, 5, M).astype(float)
    weights[:3] = [2.5, 0.0, 4.0]
    return X[:M], y[:M], X[M:], y[M:], weights


def save(path, kind: str) -> str:
    X, y, X_test, y_test, weights = problem(kind)
    np.savez(path, X_train=X, y_train=y, X_test=X_test, y_test=y_test, sample_weight=weights)
    return str(path)


def peer(kind: str, penalty: float):
    """scikit-learn's estimator with its own penalty: C, alpha on the sum, or alpha on the mean."""
    if kind == "linear":
        return Ridge(alpha=penalty, solver="cholesky")
    if kind == "poisson":
        return PoissonRegressor(alpha=penalty, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return LogisticRegression(C=penalty, solver="newton-cg", tol=1e-12, max_iter=10_000)


def native(kind: str, l2: float, total: float) -> float:
    """lambda as that estimator has it, for rows whose weights sum to ``total``."""
    return {"linear": l2 * total, "poisson": l2}.get(kind, 1.0 / (l2 * total))


def predicted(kind: str, model, X) -> np.ndarray:
    return model.predict(X) if kind in ("linear", "poisson") else model.predict_proba(X)


def asked(kind: str) -> str:
    return "prediction" if kind in ("linear", "poisson") else "prob"


def of_true(kind: str, values: np.ndarray, y: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else values[np.arange(len(y)), y]


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
@pytest.mark.parametrize("kind", ["binary", "softmax", "linear", "poisson"])
def test_retraining_equals_weighted_refits_and_newton_comes_close(tmp_path, capsys, kind, scaling):
    X, y, X_test, y_test, weights = problem(kind)
    estimator = {"linear": "linear", "poisson": "poisson"}.get(kind, "logistic")
    options = ["--estimator", estimator, "--l2", "0.02", "--sample-weight", "sample_weight"]
    model = train(save(tmp_path / "d.npz", kind), tmp_path / "m.h5", *options, "--penalty-scaling", scaling)
    capsys.readouterr()
    kept = np.setdiff1d(np.arange(M), GROUP)
    before = peer(kind, native(kind, 0.02, weights.sum())).fit(X, y, sample_weight=weights)
    # per-sum: the kept rows keep s_i / sum s, so that lambda counts sum s / (what is left of it) times as much
    left = weights[kept].sum()
    strength = 0.02 * (weights.sum() / left if scaling == "per-sum" else 1.0)
    after = peer(kind, native(kind, strength, left)).fit(X[kept], y[kept], sample_weight=weights[kept])
    truth = of_true(kind, predicted(kind, after, X_test) - predicted(kind, before, X_test), y_test)
    ask = ["--model", model, "--group", "rows:" + ",".join(map(str, GROUP)), "--test", "all", "--quantity", asked(kind)]
    assert run(["groundtruth", *ask, "--quiet"]) == 0
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx(truth, abs=PEER)
    methods = ["first-koh", "first", "second", "second-full", "newton"]
    assert run(["influence", *ask, "--quiet", "--method", ",".join(methods), "--evaluate", "exact"]) == 0
    output = capsys.readouterr().out
    error = {method: np.linalg.norm(values_of(output, method) - truth) for method in methods}
    assert error["newton"] < 0.1 * np.linalg.norm(truth)
    assert max(error.values()) < 0.6 * np.linalg.norm(truth)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_c_means_what_scikit_learn_means_by_it(tmp_path, capsys, kind):
    X, y, X_test, y_test, weights = problem(kind)
    model = train(save(tmp_path / "d.npz", kind), tmp_path / "m.h5", "--C", "0.7", "--sample-weight", "sample_weight")
    loaded = load_model(model)
    assert loaded.settings["l2"] == pytest.approx(1 / (0.7 * weights.sum()))
    assert loaded.settings["penalty_scaling"] == "per-sum"
    own = peer(kind, 0.7).fit(X, y, sample_weight=weights)
    theta = np.column_stack([own.coef_, own.intercept_]).ravel()
    assert loaded.theta == pytest.approx(theta, abs=PEER)
    kept = np.setdiff1d(np.arange(M), GROUP)
    after = peer(kind, 0.7).fit(X[kept], y[kept], sample_weight=weights[kept])
    capsys.readouterr()
    ask = ["--group", "rows:" + ",".join(map(str, GROUP)), "--test", "all", "--quantity", "prob", "--quiet"]
    run(["groundtruth", "--model", model, *ask])
    truth = of_true(kind, after.predict_proba(X_test) - own.predict_proba(X_test), y_test)
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx(truth, abs=PEER)


@pytest.mark.parametrize("own", [True, False])
def test_balanced_is_scikit_learns_and_made_again_or_frozen_on_removal(tmp_path, capsys, own):
    X, y, X_test, y_test, weights = problem("softmax")
    weights = weights if own else np.ones(M)
    options = ["--C", "0.7", "--class-weight", "balanced", *(["--sample-weight", "sample_weight"] if own else [])]
    model = train(save(tmp_path / "d.npz", "softmax"), tmp_path / "m.h5", *options)
    fixed = weights * np.array([weights.sum() / (3 * weights[y == k].sum()) for k in range(3)])[y]
    if not own:
        assert fixed == pytest.approx(compute_sample_weight("balanced", y))
    before = peer("softmax", 0.7).fit(X, y, sample_weight=fixed)
    kept = np.setdiff1d(np.arange(M), GROUP)
    again = [weights[kept].sum() / (3 * weights[kept][y[kept] == k].sum()) for k in range(3)]
    refit = weights * np.array(again)[y]
    ask = ["--group", "rows:" + ",".join(map(str, GROUP)), "--test", "all", "--quantity", "prob", "--quiet"]
    for options, after_weights in (([], refit), (["--preprocessing", "frozen"], fixed)):
        after = peer("softmax", 0.7).fit(X[kept], y[kept], sample_weight=after_weights[kept])
        capsys.readouterr()
        run(["groundtruth", "--model", model, *ask, *options])
        truth = of_true("softmax", after.predict_proba(X_test) - before.predict_proba(X_test), y_test)
        assert values_of(capsys.readouterr().out, "actual") == pytest.approx(truth, abs=PEER)


def test_balanced_classes_weigh_the_same():
    y, raw = np.array([0, 0, 0, 1, 2, 2]), np.array([1.0, 2.0, 0.0, 5.0, 1.0, 1.0])
    own = np.bincount(y, weights=balance(y, 3, raw))
    assert own == pytest.approx(np.full(3, raw.sum() / 3))


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_whole_weights_are_copies_of_rows(tmp_path, capsys, scaling):
    """A weight of 3 is a row that is there three times: the two models agree on every estimate."""
    X, y, X_test, y_test, weights = problem("binary")
    weights = np.ceil(weights)
    copies = np.repeat(np.arange(M), weights.astype(int))
    np.savez(tmp_path / "w.npz", X_train=X, y_train=y, X_test=X_test, y_test=y_test, sample_weight=weights)
    np.savez(tmp_path / "c.npz", X_train=X[copies], y_train=y[copies], X_test=X_test, y_test=y_test)
    group = "rows:" + ",".join(map(str, GROUP))
    places = "rows:" + ",".join(map(str, np.flatnonzero(np.isin(copies, GROUP))))
    found = []
    for data, own, options in (("w", group, ["--sample-weight", "sample_weight"]), ("c", places, [])):
        model = train(str(tmp_path / f"{data}.npz"), tmp_path / f"{data}.h5", "--penalty-scaling", scaling, *options)
        capsys.readouterr()
        run(["influence", "--model", model, "--group", own, "--test", "all", "--method", METHODS])
        output = capsys.readouterr().out
        found.append([values_of(output, method) for method in METHODS.split(",")])
    assert np.array(found[0]) == pytest.approx(np.array(found[1]), rel=1e-6)


def test_a_table_names_the_column_and_keeps_it_out_of_the_features(tmp_path, capsys):
    pytest.importorskip("polars")
    X, y, _, _, weights = problem("binary")
    np.savetxt(tmp_path / "t.csv", np.column_stack([X, weights, y]), "%g", ",", header="a,b,c,trust,y", comments="")
    options = ["--label", "y", "--sample-weight", "trust", "--no-standardize"]
    loaded = load_model(train(str(tmp_path / "t.csv"), tmp_path / "m.h5", *options))
    assert loaded.dataset.feature_names == ("a", "b", "c")
    raw = loaded.dataset.columns_train["trust"]
    assert loaded.dataset.weights == pytest.approx(raw / raw.sum())
    assert run(["train", "--data", str(tmp_path / "t.csv"), "--label", "y", "--sample-weight", "trus", "--force"]) == 2
    assert "did you mean trust?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (lambda w, y: np.where(np.arange(M) == 4, -1.0, w), "found -1 in training row 4"),
        (lambda w, y: np.where(np.arange(M) == 4, np.nan, w), "found nan in training row 4"),
        (lambda w, y: 0 * w, "all weights are 0"),
        (lambda w, y: np.where(y == 1, 0.0, w), "class 1 have the weight 0"),
        (lambda w, y: w[:-1], "one number a row"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path, capsys, weights, sentence):
    X, y, X_test, y_test, own = problem("binary")
    arrays = {"X_train": X, "y_train": y, "X_test": X_test, "y_test": y_test, "sample_weight": weights(own, y)}
    np.savez(tmp_path / "d.npz", **arrays)
    options = ["--sample-weight", "sample_weight", "-o", str(tmp_path / "m.h5")]
    assert run(["train", "--data", str(tmp_path / "d.npz"), *options]) == 3
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sample-weight", "trust"], "'trust' is no column of the data"),
        (["--class-weight", "even"], "--class-weight must be one of"),
        (["--class-weight", "balanced", "--estimator", "linear"], "is for classifications"),
    ],
)
def test_options_that_do_not_suit_are_refused(tmp_path, capsys, options, sentence):
    data = save(tmp_path / "d.npz", "linear" if "linear" in options else "binary")
    assert run(["train", "--data", data, "-o", str(tmp_path / "m.h5"), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_group_with_all_the_weight_is_refused():
    with pytest.raises(UsageError, match="all rows with a weight over 0"):
        removal(np.array([0.5, 0.5, 0.0]), [np.array([0, 1])], "per-mean")
    with pytest.raises(UsageError, match="takes all rows: nothing would be left") as caught:
        removal(np.array([0.5, 0.5]), [np.array([0, 1])], "per-mean")
    assert "--sample-weight" not in (caught.value.hint or "")


def test_weights_are_part_of_the_file_and_of_its_digest(tmp_path):
    plain = example_model()
    m = len(plain.dataset.X_train)
    weights = np.arange(1.0, m + 1) / np.arange(1.0, m + 1).sum()
    artifact = replace(plain, dataset=replace(plain.dataset, weights=weights))
    assert artifact.dataset.digest != plain.dataset.digest
    save_model(tmp_path / "m.h5", artifact)
    loaded = load_model(tmp_path / "m.h5")
    assert (loaded.dataset.weights == weights).all()
    assert loaded.digest == artifact.digest


def test_weights_that_do_not_sum_to_one_are_damage(tmp_path):
    plain = example_model()
    weights = np.full(len(plain.dataset.X_train), 1.0)
    save_model(tmp_path / "m.h5", replace(plain, dataset=replace(plain.dataset, weights=weights)))
    with pytest.raises(FileError, match="sum to 1"):
        load_model(tmp_path / "m.h5")


def test_linear_regression_without_penalty_is_weighted_least_squares(tmp_path):
    X, y, _, _, weights = problem("linear")
    options = ["--estimator", "linear", "--l2", "0", "--sample-weight", "sample_weight"]
    loaded = load_model(train(save(tmp_path / "d.npz", "linear"), tmp_path / "m.h5", *options))
    own = LinearRegression().fit(X, y, sample_weight=weights)
    assert loaded.theta == pytest.approx(np.append(own.coef_, own.intercept_), rel=1e-7)
