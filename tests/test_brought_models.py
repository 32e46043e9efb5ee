"""Brought models are the models: other rows are refused with what differs, and what holds a linear model is opened."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
from cli_tools import values_of
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_svmlight_file
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import RFE, SelectKBest, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import FileError, UsageError
from influence_cli.models.skops import is_trusted
from influence_cli.models.transformers import text_columns

skops_io = pytest.importorskip("skops.io")
pandas = pytest.importorskip("pandas")

TIGHT = {"solver": "newton-cholesky", "tol": 1e-10}


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bases(model, X, y, **ask):
    return model.influence([[0]], X, y, methods=["first-koh"], **ask).base


# --- the rows that it was fitted on ---


def test_rows_that_are_a_part_of_the_models_are_refused(cancer):
    X, y = cancer
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    with pytest.raises(FileError, match="not the rows that the LogisticRegression was") as failure:
        GroupInfluence.from_sklearn(fitted, X[:455], y[:455])
    assert "the StandardScaler was fitted on 569 rows, and these are 455" in str(failure.value)
    with pytest.raises(FileError, match="not the rows"):  # one row less, of a fit to the end
        whole = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT)).fit(X, y)
        row = np.argmax(whole.predict_proba(X)[np.arange(len(y)), 1 - y])  # one that matters
        GroupInfluence.from_sklearn(whole, X.drop(index=row), y.drop(index=row))
    numbers, response = load_diabetes(return_X_y=True)
    half = LinearRegression().fit(numbers[::2], response[::2])
    with pytest.raises(FileError, match="not the rows that the LinearRegression was fitted on"):
        GroupInfluence.from_sklearn(half, numbers[1::2], response[1::2])
    with pytest.raises(FileError, match="not the rows that the Ridge was fitted on"):
        GroupInfluence.from_sklearn(Ridge().fit(numbers, response), numbers[1:], response[1:])


def test_an_early_stop_is_polished_and_the_base_stays_the_models(cancer):
    X, y = cancer
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    model = GroupInfluence.from_sklearn(fitted, X, y)
    assert "polished; outputs moved by" in model.note
    own = fitted.predict_proba(X)[np.arange(len(y)), y]
    assert np.abs(bases(model, X, y, quantity="prob") - own).max() < 5e-3
    with pytest.raises(FileError, match="its fit ended early") as failure:  # 100 iterations on raw features
        with pytest.warns(UserWarning):
            raw = LogisticRegression().fit(X, y)
        GroupInfluence.from_sklearn(raw, X, y)
    assert "more max_iter or a smaller tol" in str(failure.value.hint)


def test_what_differs_is_named():
    rng = np.random.default_rng(0)
    data = pandas.DataFrame({"age": rng.normal(60, 9, 80), "site": rng.choice(["N", "S"], 80)})
    y = (data.age + rng.normal(0, 9, 80) > 60).astype(int)
    encoder = OneHotEncoder(handle_unknown="ignore")
    fitted = make_pipeline(
        make_column_transformer((encoder, ["site"]), (StandardScaler(), ["age"])), LogisticRegression(**TIGHT)
    ).fit(data, y)
    with pytest.raises(FileError, match=r"column site has 80 values of 80 that the OneHotEncoder does not know \('n'"):
        GroupInfluence.from_sklearn(fitted, data.assign(site=data.site.str.lower()), y)
    with pytest.raises(FileError, match="the StandardScaler knows column age with mean_ 6"):
        GroupInfluence.from_sklearn(fitted, data.assign(age=data.age + 3.0 * (data.site == "N")), y)


def test_transformers_that_fit_and_transform_differently_are_named():
    rng = np.random.default_rng(0)
    data = pandas.DataFrame({"a": rng.normal(size=200), "site": rng.choice(list("ABCDEFGH"), 200)})
    y = (data.a + (data.site < "D") + rng.normal(size=200) > 0.5).astype(int)
    fitted = make_pipeline(
        make_column_transformer((TargetEncoder(random_state=0), ["site"]), remainder="passthrough"),
        LogisticRegression(**TIGHT),
    ).fit(data, y)
    with pytest.raises(FileError, match=r"the step targetencoder \(TargetEncoder\) gives its own training rows other"):
        GroupInfluence.from_sklearn(fitted, data, y)
    X = rng.normal(size=(600, 501))
    approximate = make_pipeline(PCA(5, svd_solver="randomized", random_state=0), LinearRegression()).fit(X, X[:, 0])
    with pytest.raises(FileError, match="the step pca "):
        GroupInfluence.from_sklearn(approximate, X, X[:, 0])


# --- what holds a linear model ---


@pytest.mark.parametrize(
    ("estimator", "note"),
    [
        (GridSearchCV(LogisticRegression(**TIGHT), {"C": [0.1, 1.0]}), "the best_estimator_ of the GridSearchCV"),
        (
            GridSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression(**TIGHT)), {"logisticregression__C": [0.1, 1.0]}
            ),
            "no parameter is chosen again",
        ),
        (
            make_pipeline(StandardScaler(), RandomizedSearchCV(LogisticRegression(**TIGHT), {"C": [0.1, 1]}, n_iter=2)),
            "the best_estimator_ of the RandomizedSearchCV",
        ),
        (make_pipeline(StandardScaler(), RFE(LogisticRegression(**TIGHT), n_features_to_select=3)), ""),
        (
            LogisticRegressionCV(Cs=3, **TIGHT, l1_ratios=(0,), use_legacy_attributes=False),
            "LogisticRegressionCV chose",
        ),
    ],
)
def test_the_linear_model_inside_is_taken(cancer, estimator, note):
    X, y = cancer[0].iloc[::3, :6] / cancer[0].iloc[:, :6].std(), cancer[1][::3]
    model = GroupInfluence.from_sklearn(estimator.fit(X, y), X, y)
    assert bases(model, X, y, quantity="prob") == pytest.approx(
        estimator.predict_proba(X)[np.arange(len(y)), y], abs=1e-6
    )
    assert note in model.note


def test_regressions_with_a_chosen_penalty_and_frozen_ones_are_taken():
    X, y = load_diabetes(return_X_y=True)
    for estimator in (RidgeCV([0.1, 1.0]), FrozenEstimator(Ridge().fit(X, y)), TransformedTargetRegressor(Ridge())):
        model = GroupInfluence.from_sklearn(estimator.fit(X, y), X, y)
        assert bases(model, X[:9], None, quantity="prediction") == pytest.approx(estimator.predict(X[:9]), rel=1e-9)


@pytest.mark.parametrize(
    ("estimator", "sentence"),
    [
        (CalibratedClassifierCV(LogisticRegression()), "found CalibratedClassifierCV: its probabilities are those"),
        (
            TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
            "TransformedTargetRegressor: its predictions pass through an inverse transformation",
        ),
        (GridSearchCV(Ridge(), {"alpha": [1, 2]}, refit=False), "refit=False and holds no fitted model"),
    ],
)
def test_what_is_no_linear_model_is_named(cancer, estimator, sentence):
    X, y = cancer[0].iloc[:60, :3], cancer[1][:60]
    with pytest.raises(UsageError, match=sentence):
        GroupInfluence.from_sklearn(estimator.fit(X, y), X, y)


# --- .skops files ---


def brought(*options) -> int:
    return run(["train", "--from", "m.skops", "--label", "y", "--quiet", "--force", "-o", "m.h5", *options])


def asked(capsys, tests: str = "0:5") -> list[float]:
    capsys.readouterr()
    ask = ["--group", "rows:0", "--test", tests, "--quantity", "prob", "--method", "first-koh"]
    assert run(["influence", "--model", "m.h5", *ask]) == 0
    return values_of(capsys.readouterr().out, "base")


def numbers(rows: int = 60):
    rng = np.random.default_rng(0)
    data = pandas.DataFrame(np.abs(rng.normal(size=(rows, 3))).round(3), columns=list("abc"))
    return data, (data.a + rng.normal(0, 1, rows) > 0.7).astype(int)


@pytest.mark.parametrize(
    "steps",
    [
        [make_column_transformer((StandardScaler(), make_column_selector(dtype_include="number")))],
        [make_column_transformer((StandardScaler(), make_column_selector(dtype_include=[np.number, np.bool_])))],
        [FunctionTransformer(np.clip, kw_args={"a_min": 0.2, "a_max": 2.0})],
        [make_column_transformer((StandardScaler(), make_column_selector(pattern="a|b", dtype_exclude=object)))],
        [SelectKBest(f_classif, k=2)],
        [SplineTransformer()],
        [KBinsDiscretizer(encode="onehot-dense", quantile_method="averaged_inverted_cdf")],
        [FunctionTransformer(np.log1p), StandardScaler()],
    ],
)
def test_types_of_scikit_learns_own_are_read(folder, capsys, steps):
    data, y = numbers()
    data.assign(y=y).to_csv("d.csv", index=False)
    fitted = make_pipeline(*steps, LogisticRegression(**TIGHT)).fit(data, y)
    skops_io.dump(fitted, "m.skops")
    assert brought("--data", "d.csv") == 0
    assert asked(capsys) == pytest.approx(fitted.predict_proba(data)[np.arange(5), y[:5]], abs=1e-6)


def test_only_what_scikit_learn_defines_is_trusted():
    for name in ("sklearn.metrics._ranking.roc_auc_score", "sklearn.model_selection._split.KFold", "numpy.dtype"):
        assert is_trusted(name)
    for name in (
        *("os.system", "builtins.eval", "sklearn.utils._testing.subprocess", "sklearn.datasets._base.load_files"),
        *("sklearn.utils.fixes.platform", "sklearn.nothing.there", "numpy.load", "sklearn.datasets._base.Path"),
    ):
        assert not is_trusted(name), name


@pytest.mark.parametrize("written", ["decimal commas", "Latin-1", "a title", "thousands"])
def test_dialects_that_pandas_was_told_of_are_read(folder, capsys, written):
    data, y = numbers()
    data = (1000 * data.abs()).round(1)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT)).fit(data, y)
    skops_io.dump(fitted, "m.skops")
    table = data.assign(y=y)
    if written == "decimal commas":
        table.to_csv("d.csv", index=False, sep=";", decimal=",")
    elif written == "thousands":
        table.assign(b=[f"{one:,.1f}" for one in data.b]).to_csv("d.csv", index=False)
    else:
        text = table.assign(town="Orl\xe9ans").to_csv(index=False)
        text = text if written == "Latin-1" else "Stays of 2024\n" + text.replace("\xe9", "e")
        (folder / "d.csv").write_bytes(text.encode("latin-1"))
    assert brought("--data", "d.csv") == 0
    assert asked(capsys) == pytest.approx(fitted.predict_proba(data)[np.arange(5), y[:5]], abs=1e-6)
    ask = ["--group", "rows:0,3", "--test", "0:5", "--quantity", "prob"]
    assert run(["groundtruth", "--model", "m.h5", *ask]) == 0
    kept = np.setdiff1d(np.arange(60), [0, 3])
    again = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT)).fit(data.iloc[kept], y.iloc[kept])
    change = (again.predict_proba(data) - fitted.predict_proba(data))[np.arange(5), y[:5]]
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx(change, abs=1e-6)


@pytest.mark.parametrize("word", ["None", "<NA>", "n/a", "NULL"])
def test_tables_are_read_as_pandas_reads_them(folder, capsys, word):
    rng = np.random.default_rng(0)
    data = pandas.DataFrame({"a": rng.normal(size=60).round(2), "kind": rng.choice([word, " Brick", "Stone"], 60)})
    data.assign(y=np.where(data.a + (data.kind == "Stone") + rng.normal(size=60) > 0.5, "hi", "lo")).to_csv(
        "d.csv", index=False
    )
    read = pandas.read_csv("d.csv")
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((texts, ["kind"]), remainder="passthrough")
    fitted = make_pipeline(columns, LogisticRegression(**TIGHT)).fit(read[["a", "kind"]], read.y)
    assert set(columns.named_transformers_["pipeline"][-1].categories_[0]) == {" Brick", "Stone"}
    skops_io.dump(fitted, "m.skops")
    assert brought("--data", "d.csv") == 0
    own = [list(fitted.classes_).index(label) for label in read.y[:5]]
    assert asked(capsys) == pytest.approx(fitted.predict_proba(read[:5])[np.arange(5), own], abs=1e-6)


def test_codes_that_the_encoder_knows_as_texts_are_read_as_texts(folder, capsys):
    rng = np.random.default_rng(0)
    zips = rng.choice(["01234", "02139", "90210"], 60)
    data = pandas.DataFrame({"zip": zips, "open": rng.choice(["True", "False"], 60), "x": rng.normal(size=60).round(3)})
    y = np.where(data.x + (zips == "02139") + rng.normal(size=60) > 0.5, "01", "02")
    data.assign(y=y).to_csv("d.csv", index=False)
    columns = ColumnTransformer([("texts", OneHotEncoder(), ["zip", "open"])], remainder="passthrough")
    fitted = make_pipeline(columns, LogisticRegression(**TIGHT)).fit(data, y)
    assert text_columns(fitted.steps[:-1]) == {"zip", "open"}
    skops_io.dump(fitted, "m.skops")
    assert brought("--data", "d.csv") == 0
    own = (y[:5] == "02").astype(int)
    assert asked(capsys) == pytest.approx(fitted.predict_proba(data[:5])[np.arange(5), own], abs=1e-6)
    assert run(["influence", "--model", "m.h5", "--group", "column:zip=02139", "--test", "0"]) == 0


def test_labels_that_are_the_texts_true_and_false(folder, capsys):
    data, y = numbers()
    for labels in (np.where(y, "True", "False"), y.astype(bool), np.where(y, "TRUE", "FALSE")):
        data.assign(y=labels).to_csv("d.csv", index=False)
        fitted = LogisticRegression(**TIGHT).fit(data, labels)
        skops_io.dump(fitted, "m.skops")
        assert brought("--data", "d.csv") == 0
        assert asked(capsys) == pytest.approx(fitted.predict_proba(data)[np.arange(5), y[:5]], abs=1e-6)


def test_a_pipeline_that_begins_with_texts(folder, capsys):
    rng = np.random.default_rng(0)
    text = [" ".join(rng.choice(["free", "win", "call", "meet", "lunch", "home"], 4)) for _ in range(60)]
    y = np.array(["spam" if "free" in one else "ham" for one in text])
    data = pandas.DataFrame({"text": text, "day": range(60), "y": y})
    data.to_csv("d.csv", index=False)
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression(**TIGHT)).fit(text, y)
    skops_io.dump(fitted, "m.skops")
    assert brought("--data", "d.csv", "--drop", "day") == 0
    assert asked(capsys) == pytest.approx(
        fitted.predict_proba(text[:5])[np.arange(5), (y[:5] == "spam").astype(int)], abs=1e-6
    )
    assert brought("--data", "d.csv") == 3
    assert "begins with TfidfVectorizer, which takes one column of texts, but 2 are left" in capsys.readouterr().err
    assert brought("--data", "d.csv", "--drop", "text") == 3
    assert "but column day holds whole numbers" in capsys.readouterr().err
    data.assign(text=[None, *text[1:]]).to_csv("d.csv", index=False)
    assert brought("--data", "d.csv", "--drop", "day") == 3
    assert "column text has none in 1 of 60 rows" in capsys.readouterr().err


def svmlight(path, rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for row in range(rows):
            x = rng.random(width) > 0.5
            x[-1] |= row == 0
            label = "+1" if x[:3].sum() + rng.normal() > 1.5 else "-1"
            file.write(f"{label} " + " ".join(f"{column + 1}:1" for column in np.flatnonzero(x)) + "\n")


@pytest.mark.parametrize(("width", "test"), [(6, 8), (8, 8), (8, 6), (6, 4)])
def test_svmlight_files_have_the_models_features(folder, capsys, width, test):
    svmlight(folder / "train.svm", 60, 6, 0)
    svmlight(folder / "test.svm", 10, test, 1)
    X, y = load_svmlight_file("train.svm", n_features=width)
    fitted = LogisticRegression(**TIGHT).fit(X.toarray(), y)
    skops_io.dump(fitted, "m.skops")
    ask = ["train", "--from", "m.skops", "--data", "train.svm", "--test-data", "test.svm", "-o", "m.h5"]
    assert run(ask) == 0
    left_out = f"test.svm: the model knows {width} features and the file has {test}"
    assert (left_out in capsys.readouterr().err) == (test > width)
    X_test, y_test = load_svmlight_file("test.svm", n_features=8)
    own = (y_test[:5] > 0).astype(int)
    expected = fitted.predict_proba(X_test.toarray()[:5, :width])[np.arange(5), own]
    assert asked(capsys) == pytest.approx(expected, abs=1e-6)
    skops_io.dump(LogisticRegression().fit(X.toarray()[:, :5], y), "m.skops")
    assert run([*ask, "--force"]) == 3
    assert "train.svm: the model was fitted on 5 features, but the rows have 6" in capsys.readouterr().err


def test_the_files_of_emnist_are_found(folder, capsys):
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        images = rng.integers(0, 255, (count, 2, 2)).astype(np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 2
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"emnist-letters-{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    assert run(["train", "--data", str(folder), "-o", "m.h5", "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)[0]
    assert (record["rows"], record["test_rows"], record["features"]) == (40, 10, 4)


def test_every_refused_estimator_has_something_to_do():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import GammaRegressor, TweedieRegressor
    from sklearn.svm import LinearSVC

    data, y = numbers()
    hints = {
        RandomForestClassifier(2): "fit one of these to the same rows",
        LinearSVC(): "fit a LogisticRegression",
        GammaRegressor(): "fit a Ridge to the logarithm of the responses",
        TweedieRegressor(power=1, link="log"): "it is a PoissonRegressor: fit one",
    }
    for estimator, hint in hints.items():
        responses = y + 1 if "Regressor" in type(estimator).__name__ else y
        with pytest.raises(UsageError, match=f"found {type(estimator).__name__}") as caught:
            GroupInfluence.from_sklearn(estimator.fit(data, responses), data, responses)
        assert hint in str(caught.value.hint)
