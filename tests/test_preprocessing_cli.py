"""``--preprocessing refit|frozen`` on the command line: what is made again, and what is said where that cannot be."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from time import sleep

import numpy as np
import pytest
from cli_tools import train, values_of
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import dump_svmlight_file, load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from influence_cli.artifacts.model import load_model
from influence_cli.artifacts.results import load_influence, load_truth
from influence_cli.cli import run
from influence_cli.commands import preprocessing
from influence_cli.data.options import TableOptions
from influence_cli.models.preprocessing import Refit, as_table, own_refit
from influence_cli.models.remade import Made, remake, table_source
from influence_cli.models.settings import ModelSettings

polars = pytest.importorskip("polars")
pandas = pytest.importorskip("pandas")
skops_io = pytest.importorskip("skops.io")

M, N = 90, 12
TIGHT = {"solver": "newton-cholesky", "tol": 1e-12}
COLUMNS = ["age", "dose", "site", "smoker"]


def clinic(*, gaps: bool):
    """90 rows of training and 12 of test, whose site East is older and has more than its share of the ill."""
    rng = np.random.default_rng(5)
    rows = M + N
    site = rng.choice(["North", "South", "East"], rows)
    data = pandas.DataFrame(
        {
            "age": (rng.normal(60, 9, rows) + 15 * (site == "East")).round(1),
            "dose": rng.gamma(2.0, 3.0, rows).round(2),
            "site": site,
            "smoker": np.where(rng.random(rows) < 0.4, "yes", "no"),
        }
    )
    data["cost"] = data.age + 3 * data.dose + rng.normal(0, 5, rows)
    data["ill"] = np.where(rng.random(rows) < 1 / (1 + np.exp(8 - 0.12 * data.age)), "ill", "well")
    if gaps:
        data.loc[rng.random(rows) < 0.15, "age"] = np.nan
        data.loc[rng.random(rows) < 0.15, "smoker"] = None
    return data


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(data) -> None:
    data[:M].to_csv("train.csv", index=False)
    data[M:].to_csv("test.csv", index=False)


def told(capsys, *args: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert run(list(args)) == code
    return capsys.readouterr()


def prepared(*, gaps: bool):
    """ginf's own preparation of the table, in scikit-learn's words."""
    numbers = [SimpleImputer(strategy="median"), StandardScaler()] if gaps else [StandardScaler()]
    texts = [SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")]
    return make_column_transformer(
        (make_pipeline(*numbers), ["age", "dose"]), (make_pipeline(*texts[0 if gaps else 1 :]), ["site", "smoker"])
    )


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("kind", ["logistic", "linear"])
def test_a_table_is_prepared_again_without_the_group(folder, capsys, kind, gaps):
    data = clinic(gaps=gaps)
    write(data)
    label, other = ("ill", "cost") if kind == "logistic" else ("cost", "ill")
    options = ["--test-data", "test.csv", "--label", label, "--drop", other, "--estimator", kind]
    model = train("train.csv", folder / "m.h5", *options, *(["--impute", "median"] if gaps else []), "--C", "0.4")
    estimator = LogisticRegression(C=0.4, **TIGHT) if kind == "logistic" else Ridge(alpha=1 / 0.4)
    whole = make_pipeline(prepared(gaps=gaps), estimator)
    kept = (data.site[:M] != "East").to_numpy()
    fits = [clone(whole).fit(data[COLUMNS][:M][rows], data[label][:M][rows]) for rows in (slice(None), kept)]
    test = data[COLUMNS][M:]

    def figure(one):
        if kind == "linear":
            return one.predict(test)
        return one.predict_proba(test)[np.arange(N), (data.ill[M:] == "well").to_numpy().astype(int)]

    before, after = map(figure, fits)
    ask = ["--model", model, "--group", "column:site=East", "--test", "all"]
    ask += ["--quantity", "prob" if kind == "logistic" else "prediction"]
    out = told(capsys, "groundtruth", *ask).out
    assert values_of(out, "base") == pytest.approx(before, abs=1e-6 * np.abs(before).max())
    assert values_of(out, "actual") == pytest.approx(after - before, abs=1e-6 * np.abs(before).max())
    frozen = values_of(told(capsys, "groundtruth", *ask, "--preprocessing", "frozen").out, "actual")
    assert np.abs(frozen - (after - before)).max() > 0.01 * np.abs(after - before).max()
    newton = values_of(told(capsys, "influence", *ask, "--method", "newton", "--evaluate", "exact").out, "newton")
    if kind == "linear":
        assert newton == pytest.approx(after - before, abs=1e-6 * np.abs(before).max())
    else:
        assert np.linalg.norm(newton - (after - before)) < np.linalg.norm(frozen - (after - before))


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_a_penalised_intercept_takes_the_shift_up(folder, capsys, scaling):
    rng = np.random.default_rng(0)
    X = rng.normal(5.0, 2.0, (60, 3))
    y = X @ [1.0, -1.0, 0.5] + rng.normal(size=60)
    np.savez("d.npz", X_train=X, y_train=y, X_test=X[:4], y_test=y[:4])
    options = ["--estimator", "linear", "--l2", "0.2", "--penalize-intercept", "--standardize"]
    model = train("d.npz", folder / "m.h5", *options, "--penalty-scaling", scaling)
    group = np.argsort(X[:, 0])[-15:]
    kept = np.setdiff1d(np.arange(60), group)

    def prediction(rows, l2):
        scaler = StandardScaler().fit(X[rows])
        Z = np.column_stack([scaler.transform(X[rows]), np.ones(len(rows))])
        weights = np.linalg.solve(Z.T @ Z / len(rows) + l2 * np.eye(4), Z.T @ y[rows] / len(rows))
        return np.column_stack([scaler.transform(X[:4]), np.ones(4)]) @ weights

    truth = prediction(kept, 0.2 if scaling == "per-mean" else 0.2 * 60 / 45) - prediction(np.arange(60), 0.2)
    ask = ["--model", model, "--group", "rows:" + ",".join(map(str, group)), "--test", "all"]
    ask += ["--quantity", "prediction"]
    assert values_of(told(capsys, "groundtruth", *ask).out, "actual") == pytest.approx(truth, abs=1e-7)
    exact = told(capsys, "influence", *ask, "--method", "newton", "--evaluate", "exact").out
    assert values_of(exact, "newton") == pytest.approx(truth, abs=1e-7)


@pytest.mark.parametrize("impute", ["mean", "median", "most-frequent"])
@pytest.mark.parametrize("intercept", [True, False])
def test_imputed_cells_alone_are_made_again(folder, impute, intercept):
    """The short way to the features without a group is the long one, which fits the whole preparation again."""
    data = clinic(gaps=True)
    data["sober"] = np.where(data.index % 3 == 0, None, data.age > 60)
    data.loc[data.site == "East", "smoker"] = "sometimes"
    write(data)
    named = ["--test-data", "test.csv", "--label", "cost", "--drop", "ill", "--estimator", "linear"]
    options = ["--impute", impute, *([] if intercept else ["--no-intercept"])]
    loaded = load_model(train("train.csv", folder / "m.h5", *named, *options))
    data = loaded.dataset
    settings = ModelSettings.from_dict(loaded.settings)
    refit = own_refit(data, settings, loaded.settings)
    without_columns = own_refit(replace(data, columns_train={}), settings, loaded.settings)
    assert without_columns.reason == "the model's file does not hold the columns that it was made of"
    states = data.preparation["features"]
    train_table, test_table = (as_table(own, states) for own in (data.columns_train, data.columns_test))
    columns = [state["column"] for state in states]
    source = table_source(columns, train_table, test_table, TableOptions(impute=impute, standardize=True))
    old = Made(data.X_train, data.X_test, data.feature_names)
    complete = ~np.any([train_table.columns[key].missing for key in columns], axis=0)
    for rows in (np.flatnonzero(data.columns_train["site"] == "East"), np.arange(0, M, 2), np.array([3])):
        short = refit.remake(rows)
        long = remake(source, rows, old, complete, align=True, centred=intercept)
        assert long.aligned
        kept = np.setdiff1d(np.arange(M), rows)
        assert short.X_train[kept] == pytest.approx(long.X_train[kept], abs=1e-9)
        assert short.X_test == pytest.approx(long.X_test, abs=1e-9)
        varies = np.ptp(short.X_train[kept], axis=0) > 0
        assert short.ratio[varies] == pytest.approx(long.ratio[varies], rel=1e-9)
        assert short.shift[varies] == pytest.approx(long.shift[varies], abs=1e-9)


def test_sparse_rows_are_scaled_again(folder, capsys):
    rng = np.random.default_rng(1)
    X = np.where(rng.random((60, 5)) < 0.5, 0.0, rng.gamma(2.0, 1.0, (60, 5)))
    y = (X[:, 0] + rng.normal(size=60) > 1).astype(int)
    dump_svmlight_file(csr_array(X), y, "d.svm")
    dump_svmlight_file(csr_array(X[:4]), y[:4], "t.svm")
    model = train("d.svm", folder / "m.h5", "--test-data", "t.svm", "--standardize", "--C", "0.5")
    group = np.argsort(X[:, 0])[-12:]
    kept = np.setdiff1d(np.arange(60), group)
    fits = [
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression(C=0.5, **TIGHT)).fit(X[rows], y[rows])
        for rows in (np.arange(60), kept)
    ]
    before, after = (one.predict_proba(X[:4])[np.arange(4), y[:4]] for one in fits)
    rows = ["--group", "rows:" + ",".join(map(str, group)), "--test", "all", "--quantity", "prob"]
    out = told(capsys, "groundtruth", "--model", model, *rows).out
    assert values_of(out, "actual") == pytest.approx(after - before, abs=1e-6)


def brought(data, *steps, estimator=None, target: str = "ill"):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "dose"]),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["site"]),
    )
    fitted = make_pipeline(columns, *steps, estimator or LogisticRegression(**TIGHT, class_weight="balanced"))
    fitted.fit(data[COLUMNS][:M], data[target][:M])
    skops_io.dump(fitted, "m.skops")
    return fitted


@pytest.mark.parametrize("linked", [False, True])
def test_a_brought_pipeline_is_in_the_models_file(folder, capsys, linked):
    data = clinic(gaps=True)
    write(data)
    read = pandas.concat([pandas.read_csv("train.csv"), pandas.read_csv("test.csv")], ignore_index=True)
    fitted = brought(read)
    options = ["--from", "m.skops", "--test-data", "test.csv", "--label", "ill", *(["--link-data"] if linked else [])]
    model = train("train.csv", folder / "m.h5", *options)
    if not linked:
        (folder / "m.skops").unlink()
    kept = (read.site[:M] != "East").to_numpy()
    again = clone(fitted).fit(read[COLUMNS][:M][kept], read.ill[:M][kept])
    own = (read.ill[M:] == "well").to_numpy().astype(int)
    before, after = (one.predict_proba(read[COLUMNS][M:])[np.arange(N), own] for one in (fitted, again))
    ask = ["--model", model, "--group", "column:site=East", "--test", "all", "--quantity", "prob"]
    assert values_of(told(capsys, "groundtruth", *ask).out, "actual") == pytest.approx(after - before, abs=1e-6)
    newton = values_of(told(capsys, "influence", *ask, "--method", "newton", "--evaluate", "exact").out, "newton")
    assert np.linalg.norm(newton - (after - before)) < 0.5 * np.linalg.norm(after - before)


@pytest.mark.parametrize("texts", [{"dtype_exclude": "number"}, {"dtype_include": object}, {"dtype_include": "str"}])
def test_columns_chosen_by_their_type_are_chosen_again(folder, capsys, texts):
    data = clinic(gaps=False)
    write(data)
    read = pandas.read_csv("train.csv")
    chosen = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", drop="first"), make_column_selector(**texts)),
    )
    try:
        fitted = make_pipeline(chosen, Ridge()).fit(read[COLUMNS], read.cost)
    except TypeError:
        pytest.skip("this pandas has no such type")
    skops_io.dump(fitted, "m.skops")
    model = train("train.csv", folder / "m.h5", "--from", "m.skops", "--label", "cost")
    kept = (read.site != "East").to_numpy()
    again = clone(fitted).fit(read[COLUMNS][kept], read.cost[kept])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = (again.predict(read[COLUMNS]) - fitted.predict(read[COLUMNS]))[:9]
    ask = ["--model", model, "--group", "column:site=East", "--test", "0:9", "--quantity", "prediction"]
    out = told(capsys, "groundtruth", *ask)
    assert values_of(out.out, "actual") == pytest.approx(truth, abs=1e-6 * np.abs(truth).max())
    assert "stays as it was" not in out.err


def test_other_steps_are_refitted_for_the_truth_and_said_of_estimates(folder, capsys):
    data = clinic(gaps=False)
    write(data)
    fitted = brought(data, PCA(3, svd_solver="full"), estimator=Ridge(), target="cost")
    model = train("train.csv", folder / "m.h5", "--from", "m.skops", "--test-data", "test.csv", "--label", "cost")
    kept = (data.site[:M] != "East").to_numpy()
    again = clone(fitted).fit(data[COLUMNS][:M][kept], data.cost[:M][kept])
    truth = again.predict(data[COLUMNS][M:]) - fitted.predict(data[COLUMNS][M:])
    ask = ["--model", model, "--group", "column:site=East", "--test", "all", "--quantity", "prediction"]
    out = told(capsys, "groundtruth", *ask, "-o", "t.h5").out
    assert values_of(out, "actual") == pytest.approx(truth, abs=1e-6 * np.abs(truth).max())
    both = told(capsys, "influence", *ask, "-o", "i.h5")
    assert "estimates keep the preprocessing as it was fitted" in both.err
    assert "without column:site=East the mean or scale of pca" in both.err
    frozen = told(capsys, "influence", *ask, "--preprocessing", "frozen")
    assert frozen.out == both.out and "estimates keep" not in frozen.err
    refused = told(capsys, "influence", *ask, "--certify", "10%", code=2).err
    assert "estimates keep this model's preprocessing as it was fitted" in refused
    assert "low" in told(capsys, "influence", *ask, "--certify", "10%", "--preprocessing", "frozen").out
    one = told(capsys, "influence", "--model", model, "--group", "rows:0", "--test", "0", "--quantity", "prediction")
    assert (
        "estimates keep the preprocessing as it was fitted" in one.err
    )  # one row hardly moves a mean, but a bin's edge
    assert load_truth("t.h5").provenance.config["preprocessing"] == "refit"
    assert load_influence("i.h5").provenance.config["preprocessing"] == "frozen"
    assert (
        "t.h5 made the preprocessing again without each group, i.h5 kept it"
        in told(capsys, "compare", "i.h5", "t.h5").err
    )


@pytest.mark.parametrize("form", ["table", "arrays"])
def test_without_an_intercept_the_features_move(folder, capsys, form):
    data = clinic(gaps=False)
    write(data)
    options = ["--estimator", "linear", "--no-intercept", "--C", "0.5", "--standardize"]
    X = data[["age", "dose"]].to_numpy()
    kept = (data.site[:M] != "East").to_numpy()
    if form == "table":
        named = ["--test-data", "test.csv", "--label", "cost", "--features", "age,dose"]
        model = train("train.csv", folder / "m.h5", *options, *named)
    else:
        np.savez("d.npz", X_train=X[:M], y_train=data.cost[:M], X_test=X[M:], y_test=data.cost[M:])
        model = train("d.npz", folder / "m.h5", *options)
    fits = [
        make_pipeline(StandardScaler(), Ridge(alpha=2.0, fit_intercept=False)).fit(X[:M][rows], data.cost[:M][rows])
        for rows in (slice(None), kept)
    ]
    before, after = (one.predict(X[M:]) for one in fits)
    group = "rows:" + ",".join(map(str, np.flatnonzero(~kept)))
    ask = ["--model", model, "--group", group, "--test", "all", "--quantity", "prediction"]
    assert values_of(told(capsys, "groundtruth", *ask).out, "actual") == pytest.approx(after - before, rel=1e-6)
    newton = told(capsys, "influence", *ask, "--method", "newton", "--evaluate", "exact").out
    assert values_of(newton, "newton") == pytest.approx(after - before, rel=1e-6)


def test_what_cannot_be_made_again_is_told_once_or_refused(folder, capsys):
    data = clinic(gaps=False)
    write(data)
    numbers = data[["age", "dose"]]
    scaler = StandardScaler().fit(numbers[:M] + 1.0)
    skops_io.dump(make_pipeline(scaler, Ridge().fit(scaler.transform(numbers[:M]), data.cost[:M])), "m.skops")
    model = train("train.csv", folder / "m.h5", "--from", "m.skops", "--test-data", "test.csv", "--label", "cost")
    ask = ["--model", model, "--group", "column:site=East", "--test", "0"]
    both = told(capsys, "influence", *ask)
    (line,) = (line for line in both.err.splitlines() if "preprocessing" in line)
    assert "stays as it was fitted (its transformers were fitted on other rows)" in line
    assert "without column:site=East the mean or scale of age moves by" in line
    few = told(capsys, "influence", "--model", model, "--group", "rows:1", "--test", "0")
    assert "preprocessing" not in few.err
    refused = told(capsys, "influence", *ask, "--preprocessing", "refit", code=2).err
    assert "m.h5 cannot be made again: its transformers were fitted on other rows" in refused
    assert "hint: --preprocessing frozen keeps it as it was fitted" in refused
    unknown = told(capsys, "influence", *ask, "--preprocessing", "fit", code=2).err
    assert "--preprocessing must be one of refit, frozen; found 'fit'" in unknown


def test_what_takes_long_is_said_beforehand(folder, capsys, monkeypatch):
    write(clinic(gaps=True))
    options = ["--test-data", "test.csv", "--label", "cost", "--drop", "ill", "--estimator", "linear"]
    model = train("train.csv", folder / "m.h5", *options, "--impute", "mean")
    monkeypatch.setattr(preprocessing, "LONG", 0.0)
    ask = ["--model", model, "--group", "by:site", "--test", "0"]
    note = "the preprocessing is made again for each of 3 groups, which takes about"
    assert note in told(capsys, "influence", *ask).err
    assert note not in told(capsys, "influence", *ask, "--preprocessing", "frozen").err
    calls, changed = [], Refit.changed

    def loading(self, rows):
        calls.append(rows)
        sleep(1.0 if len(calls) == 1 else 0.0)
        return changed(self, rows)

    monkeypatch.setattr(Refit, "changed", loading)
    monkeypatch.setattr(preprocessing, "LONG", 2.9)
    assert note not in told(capsys, "influence", *ask).err and len(calls) > 1, "the first group alone is slow"


def test_the_sign_that_frozen_scales_get_wrong(folder, capsys):
    """Breast cancer, rows with a radius over 20, as the README tells it."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X.columns = [name.replace(" ", "_") for name in X.columns]
    X.assign(finding=np.where(y == 1, "benign", "malignant")).to_csv("d.csv", index=False)
    model = train("d.csv", folder / "m.h5", "--label", "finding", "--test-data", "d.csv")
    ask = ["--model", model, "--group", "column:mean_radius=20..99", "--test", "mean", "--quantity", "loss"]
    refit, frozen = (
        values_of(told(capsys, "groundtruth", *ask, "--preprocessing", how).out, "actual")[0]
        for how in ("refit", "frozen")
    )
    estimated = values_of(told(capsys, "influence", *ask, "--method", "newton", "--evaluate", "exact").out, "newton")[0]
    assert abs(frozen - refit) > 0.3 * abs(refit)
    assert abs(estimated - refit) < abs(frozen - refit)


def test_selections_are_ranked_frozen_and_verified_refitted(folder, capsys):
    data = clinic(gaps=False)
    write(data)
    options = ["--test-data", "test.csv", "--label", "cost", "--drop", "ill", "--estimator", "linear"]
    model = train("train.csv", folder / "m.h5", *options)
    ask = ["--model", model, "--test", "0", "--size", "15", "--strategy", "greedy", "--verify", "--quantity"]
    ask += ["prediction", "--format", "json"]
    both = told(capsys, "select", *ask)
    assert "groups are ranked with the preprocessing as it was fitted" in both.err
    (record,) = json.loads(both.out)
    rows = "rows:" + ",".join(map(str, record["rows"]))
    out = told(capsys, "groundtruth", "--model", model, "--test", "0", "--group", rows, "--quantity", "prediction").out
    assert record["actual"] == pytest.approx(values_of(out, "actual")[0], rel=1e-6)
    frozen = told(capsys, "select", *ask, "--preprocessing", "frozen")
    assert "groups are ranked" not in frozen.err
    assert json.loads(frozen.out)[0]["actual"] != pytest.approx(record["actual"], rel=1e-4)
