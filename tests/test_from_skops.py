"""``ginf train --from``: a fitted pipeline from a file, its table, and what is refused with which sentence."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
from cli_tools import values_of
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from influence_cli.artifacts.model import load_model
from influence_cli.cli import run

skops_io = pytest.importorskip("skops.io")
polars = pytest.importorskip("polars")

M, T = 80, 6
TIGHT = {"solver": "newton-cg", "tol": 1e-12, "max_iter": 10_000}


def table(seed: int = 0):
    rng = np.random.default_rng(seed)
    columns = {
        "age": rng.normal(60, 10, M + T).round(1),
        "site": np.array(["North", "South", "East"])[rng.integers(0, 3, M + T)],
        "smoker": rng.random(M + T) < 0.4,
        "visits": rng.integers(0, 9, M + T),
        "trust": rng.integers(1, 4, M + T).astype(float),
    }
    score = 0.1 * (columns["age"] - 60) + columns["smoker"] + rng.normal(size=M + T)
    return polars.DataFrame({**columns, "outcome": np.where(score > 0.5, "ill", "well"), "cost": score})


def split(folder, frame):
    frame[:M].write_csv(folder / "train.csv")
    frame[M:].write_csv(folder / "test.csv")
    return frame[:M], frame[M:]


def pipeline(estimator):
    columns = [("numbers", StandardScaler(), ["age", "visits"]), ("texts", OneHotEncoder(), ["site"])]
    return make_pipeline(ColumnTransformer(columns, remainder="drop"), estimator)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


FEATURES = ["age", "site", "smoker", "visits"]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_pipeline_on_a_table_answers_as_its_refits_do(folder, capsys, weighted):
    train, test = split(folder, table())
    weights = train["trust"].to_numpy() if weighted else None
    model = pipeline(LogisticRegression(C=0.5, class_weight="balanced", **TIGHT))
    model.fit(train[FEATURES], train["outcome"].to_numpy(), logisticregression__sample_weight=weights)
    skops_io.dump(model, "m.skops")
    options = ["--data", "train.csv", "--test-data", "test.csv", "--label", "outcome", "--format", "json"]
    options += ["--sample-weight", "trust"] if weighted else []
    assert run(["train", "--from", "m.skops", *options, "-o", "m.h5"]) == 0
    told = capsys.readouterr()
    record = json.loads(told.out)[0]
    assert (record["rows"], record["test_rows"], record["features"]) == (M, T, 5)
    assert (record["from"], record["penalty_scaling"], record["estimator"]) == ("m.skops", "per-sum", "logistic")
    assert record["from_grad_norm"] < 1e-8
    assert "ColumnTransformer -> LogisticRegression: gradient norm" in told.err
    loaded = load_model("m.h5")
    assert loaded.dataset.feature_names[0] == "numbers__age"
    assert loaded.dataset.preparation["features"][0]["step"] == "columntransformer"
    ask = ["--model", "m.h5", "--group", "column:site=South", "--test", "all", "--quantity", "prob"]
    assert run(["groundtruth", *ask, "--preprocessing", "frozen"]) == 0
    made = model[:-1].transform(train[FEATURES])
    kept = (train["site"] != "South").to_numpy()
    raw = np.ones(M) if weights is None else weights
    y = train["outcome"].to_numpy()
    balance = [raw.sum() / (2 * raw[y == one].sum()) for one in ("ill", "well")]
    fixed = raw * np.array(balance)[(y == "well").astype(int)]
    after = LogisticRegression(C=0.5, **TIGHT).fit(made[kept], y[kept], sample_weight=fixed[kept])
    own = (test["outcome"] == "well").to_numpy().astype(int)
    X_test = model[:-1].transform(test[FEATURES])
    both = [one.predict_proba(X_test)[np.arange(T), own] for one in (after, model[-1])]
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx(both[0] - both[1], abs=1e-6)
    assert run(["groundtruth", *ask]) == 0
    again = clone(model)[:-1].set_params(columntransformer__texts__handle_unknown="ignore")
    whole = make_pipeline(*(step for _, step in again.steps), clone(model[-1]))
    rest = train.filter(polars.Series(kept))
    whole.fit(rest[FEATURES], y[kept], logisticregression__sample_weight=None if weights is None else raw[kept])
    after = whole.predict_proba(test[FEATURES])[np.arange(T), own]
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx(after - both[1], abs=1e-6)


def test_without_test_data_the_test_rows_are_the_training_rows(folder, capsys):
    train, _ = split(folder, table())
    skops_io.dump(pipeline(Ridge(alpha=2.0)).fit(train[FEATURES], train["cost"].to_numpy()), "m.skops")
    assert run(["train", "--from", "m.skops", "--data", "train.csv", "--label", "cost", "-o", "m.h5"]) == 0
    assert "the test rows are the training rows" in capsys.readouterr().err
    data = load_model("m.h5").dataset
    assert (data.X_train == data.X_test).all() and len(data.X_train) == M


def test_missing_values_are_the_pipelines_affair(folder):
    train, _ = split(folder, table().with_columns(age=polars.Series(np.where(np.arange(M + T) % 7, 50.0, np.nan))))
    train.with_columns(polars.col("age").fill_nan(None)).write_csv("train.csv")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    model = make_pipeline(ColumnTransformer([("n", numbers, ["age", "visits"])]), Ridge(alpha=2.0))
    skops_io.dump(model.fit(train[FEATURES], train["cost"].to_numpy()), "m.skops")
    assert run(["train", "--from", "m.skops", "--data", "train.csv", "--label", "cost", "--quiet", "-o", "m.h5"]) == 0
    assert load_model("m.h5").dataset.X_train == pytest.approx(model[:-1].transform(train[FEATURES]))


def test_a_bare_estimator_on_arrays_and_on_a_table_of_numbers(folder):
    train, test = split(folder, table())
    X, y = train[["age", "visits"]].to_numpy(), train["visits"].to_numpy().astype(float)
    X_test = test[["age", "visits"]].to_numpy()
    scaled = PoissonRegressor(alpha=0.3, tol=1e-10, max_iter=5000).fit(X / 60, y)
    skops_io.dump(scaled, "p.skops")
    np.savez("p.npz", X_train=X / 60, y_train=y, X_test=X_test / 60, y_test=test["visits"].to_numpy())
    assert run(["train", "--from", "p.skops", "--data", "p.npz", "--quiet", "-o", "p.h5"]) == 0
    loaded = load_model("p.h5")
    assert loaded.theta == pytest.approx(np.append(scaled.coef_, scaled.intercept_), abs=1e-4)
    assert (loaded.settings["l2"], loaded.settings["penalty_scaling"]) == (0.3, "per-mean")
    ridge = Ridge(alpha=2.0).fit(train[["visits", "smoker"]], train["cost"].to_numpy())
    skops_io.dump(ridge, "r.skops")
    assert run(["train", "--from", "r.skops", "--data", "train.csv", "--label", "cost", "--quiet", "-o", "r.h5"]) == 0
    loaded = load_model("r.h5")
    assert loaded.dataset.feature_names == ("visits", "smoker")
    assert loaded.theta == pytest.approx(np.append(ridge.coef_, ridge.intercept_), abs=1e-9)


@pytest.mark.parametrize("labels", [[False, True], [0, 1], [1.0, 2.0], ["b", "a"]])
def test_classes_keep_the_estimators_order_whatever_their_type(folder, labels):
    train, _ = split(folder, table())
    y = np.array(labels)[(train["outcome"] == "ill").to_numpy().astype(int)]
    train.with_columns(y=polars.Series(y)).write_csv("train.csv")
    model = LogisticRegression(**TIGHT).fit(train[["age", "visits"]], y)
    skops_io.dump(model, "m.skops")
    assert run(["train", "--from", "m.skops", "--data", "train.csv", "--label", "y", "--quiet", "-o", "m.h5"]) == 0
    loaded = load_model("m.h5")
    assert loaded.dataset.classes == tuple(str(one).removesuffix(".0") for one in model.classes_.tolist())
    assert loaded.dataset.y_train.tolist() == (y == model.classes_[1]).astype(int).tolist()


def test_a_loose_model_is_polished_or_refused(folder, capsys):
    train, _ = split(folder, table())
    model = pipeline(LogisticRegression()).fit(train[FEATURES], train["outcome"].to_numpy())
    skops_io.dump(model, "m.skops")
    options = ["--from", "m.skops", "--data", "train.csv", "--label", "outcome", "-o", "m.h5", "--format", "json"]
    assert run(["train", *options, "--no-polish"]) == 4
    error = capsys.readouterr().err
    assert "is not at a stationary point: gradient norm" in error
    assert run(["train", *options]) == 0
    told = capsys.readouterr()
    record = json.loads(told.out)[0]
    assert record["grad_norm"] <= 1e-8 < record["from_grad_norm"]
    assert 0 < record["from_moved"] < 0.1
    assert "polished; outputs moved by" in told.err


def refused(capsys, *options: str) -> str:
    code = run(["train", *options, "-o", "m.h5"])
    told = capsys.readouterr().err
    assert code in (2, 3), told
    return told


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.pickle", "M.PKL"])
def test_pickles_are_refused_unread(folder, capsys, name):
    with open(name, "wb") as file:  # noqa: PTH123
        pickle.dump(Ridge(), file)
    told = refused(capsys, "--from", name, "--data", "digits")
    assert "runs whatever code it holds as it is read" in told
    assert "skops.io.dump" in told


def test_files_that_are_no_models_are_refused(folder, capsys):
    assert "no such file" in refused(capsys, "--from", "none.skops")
    (folder / "text.skops").write_text("not a model")
    assert "a whole .skops file was expected" in refused(capsys, "--from", "text.skops")
    with zipfile.ZipFile("empty.skops", "w") as archive:
        archive.writestr("a", "b")
    assert "a whole .skops file was expected" in refused(capsys, "--from", "empty.skops")
    skops_io.dump({"a": 1}, "dict.skops")
    assert "expected a fitted LogisticRegression" in refused(capsys, "--from", "dict.skops")
    skops_io.dump(Ridge(), "new.skops")
    assert "this Ridge is not fitted" in refused(capsys, "--from", "new.skops")
    train, _ = split(folder, table())
    skops_io.dump(Lasso().fit(train[["age"]], train["cost"].to_numpy()), "lasso.skops")
    assert "found Lasso" in refused(capsys, "--from", "lasso.skops")


def shout(X):
    raise AssertionError("code of the file was run")


def test_only_types_of_scikit_learn_are_loaded(folder, capsys):
    train, _ = split(folder, table())
    model = make_pipeline(FunctionTransformer(np.log1p), Ridge()).fit(train[["age"]], train["cost"].to_numpy())
    model.steps[0][1].func = shout
    skops_io.dump(model, "m.skops")
    told = refused(capsys, "--from", "m.skops", "--data", "train.csv", "--label", "cost")
    assert "only scikit-learn's own types are read" in told
    assert "shout" in told


def test_tables_that_are_not_the_models_are_refused(folder, capsys):
    train, _ = split(folder, table())
    skops_io.dump(pipeline(Ridge()).fit(train[FEATURES], train["cost"].to_numpy()), "m.skops")
    ask = ["--from", "m.skops", "--label", "cost", "--data"]
    train.rename({"visits": "visit"}).write_csv("renamed.csv")
    told = refused(capsys, *ask, "renamed.csv")
    assert "but the table has no visits" in told and "did you mean visit?" in told
    train.with_columns(site=polars.lit("West")).write_csv("west.csv")
    assert "step columntransformer (ColumnTransformer) refuses these rows" in refused(capsys, *ask, "west.csv")
    train.with_columns(cost=-polars.col("cost")).write_csv("other.csv")
    assert "not the rows that the Ridge was fitted on" in refused(capsys, *ask, "other.csv")
    y = np.array(["a", "b"])[train["smoker"].to_numpy().astype(int)]
    skops_io.dump(LogisticRegression().fit(train[["age"]], y), "l.skops")
    told = refused(capsys, "--from", "l.skops", "--data", "train.csv", "--label", "outcome")
    assert "fitted on the classes a, b, but the labels of the rows are ill, well" in told
    skops_io.dump(Ridge().fit(train[["age", "visits"]].to_numpy(), train["cost"].to_numpy()), "plain.skops")
    told = refused(capsys, "--from", "plain.skops", "--data", "train.csv", "--label", "cost", "--drop", "outcome,site")
    assert "fitted on 2 columns, but 4 are left: age, smoker, visits, trust" in told


@pytest.mark.parametrize(
    "options", [["--C", "2"], ["--l2", "1"], ["--estimator", "linear"], ["--impute", "mean"], ["--no-intercept"]]
)
def test_options_that_the_model_answers_itself_are_refused(folder, capsys, options):
    assert f"{options[0]} and --from exclude each other" in refused(capsys, "--from", "m.skops", *options)


def test_no_polish_needs_a_model(folder, capsys):
    assert "--no-polish is for a model of --from" in refused(capsys, "--no-polish")


def test_an_estimator_that_lacks_what_every_one_has_is_named(folder, capsys):
    train, _ = split(folder, table())
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train[["age", "visits"]], train["outcome"])
    del model.steps
    skops_io.dump(model, "m.skops")
    assert run(["train", "--from", "m.skops", "--data", "train.csv", "--label", "outcome"]) == 3
    expected = "a fitted Pipeline was expected, but parts of it are not as scikit-learn makes them"
    assert expected in capsys.readouterr().err
