"""Columns that are combinations of others, without a penalty: predictions are unique, and answered."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.models.rank import independent_columns

RNG = np.random.default_rng(5)
M = 80
SITE = RNG.integers(0, 3, M)
X = np.c_[np.eye(3)[SITE], RNG.normal(size=M).round(3)]
Y = (2 * SITE + X[:, 3] + RNG.normal(0, 0.5, M)).round(3)
DIED = np.where(X[:, 3] + (SITE == 1) + RNG.logistic(size=M) > 0.5, "yes", "no")
GROUP = np.arange(10)


def least_squares(rows, test):
    """NumPy's solution of least norm, its prediction."""
    design = np.c_[X, np.ones(M)]
    return design[test] @ np.linalg.lstsq(design[rows], Y[rows], rcond=None)[0]


def check(record, before, after, tolerance=1e-6):
    assert record["base"] == pytest.approx(before, abs=tolerance)
    assert record["actual"] == pytest.approx(after - before, abs=tolerance)


@pytest.mark.parametrize("frame", [False, True])
def test_least_squares_on_a_full_set_of_dummies(frame):
    own = pd.DataFrame(X, columns=list("abcx")) if frame else X
    model = GroupInfluence.from_sklearn(LinearRegression().fit(own, Y), own, Y)
    assert "are not unique" in model.note and ("c" if frame else "x2") in model.note
    record = model.groundtruth([GROUP], own[:1], quantity="prediction").records()[0]
    check(record, least_squares(np.arange(M), 0), least_squares(np.arange(10, M), 0))


def test_a_pipeline_that_makes_a_full_set_of_dummies():
    table = pd.DataFrame({"site": np.array(list("ABC"))[SITE]})
    model = make_pipeline(OneHotEncoder(), LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000))
    fitted = model.fit(table, DIED)
    record = (
        GroupInfluence.from_sklearn(fitted, table, DIED).groundtruth([GROUP], table[:1], quantity="prob").records()[0]
    )
    shares = [np.mean(DIED[10 * kept :][SITE[10 * kept :] == SITE[0]] == "yes") for kept in (0, 1)]
    predicted = shares if fitted.predict(table[:1])[0] == "yes" else [1 - share for share in shares]
    check(record, *predicted, tolerance=1e-5)


def test_a_model_of_ones_own_in_python():
    model = GroupInfluence.fit(X, Y, estimator="linear", l2=0.0)
    record = model.groundtruth([GROUP], X[:1], quantity="prediction").records()[0]
    check(record, least_squares(np.arange(M), 0), least_squares(np.arange(10, M), 0))


@pytest.mark.parametrize("link", [[], ["--link-data"]])
def test_a_table_with_a_full_set_of_dummies_of_its_own(tmp_path, monkeypatch, capsys, link):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(X, columns=["a", "b", "c", "x"]).assign(y=Y, twice=2 * X[:, 3], one=7).to_csv("d.csv", index=False)
    options = ["--label", "y", "--estimator", "linear", "--l2", "0", "--test-fraction", "0", "-o", "m.h5", *link]
    assert run(["train", "--data", "d.csv", *options]) == 0
    said = capsys.readouterr().err
    assert "c, twice are combinations of the other columns and left out; every prediction is the same" in said
    assert "column one: left out as a feature: it has one value in all training rows" in said
    rows = ",".join(map(str, GROUP))
    ask = ["--model", "m.h5", "--group", f"rows:{rows}", "--test", "0", "--quantity", "prediction", "--quiet"]
    assert run(["groundtruth", *ask, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)[0]
    check(record, least_squares(np.arange(M), 0), least_squares(np.arange(10, M), 0))


def test_which_columns_are_independent_whatever_their_units():
    Z = RNG.normal(size=(50, 4))
    for scale in (1e-12, 1.0, 1e12):
        columns = np.c_[Z[:, 0], np.full(50, 3.0), Z[:, 1], Z[:, 0] + 2 * Z[:, 1], np.zeros(50), Z[:, 2]] * scale
        assert independent_columns(columns, True).tolist() == [0, 2, 5]
        assert independent_columns(columns, False).tolist() == [0, 1, 2, 5]
    near = np.c_[Z[:, 0], Z[:, 0] + 1e-7 * Z[:, 1]]
    assert independent_columns(near, True).tolist() == [0, 1]
    assert len(independent_columns(RNG.normal(size=(6, 9)), True)) == 5


def test_features_far_from_0_are_told_of_and_their_truth_is_right():
    """Centring is no change without a penalty on the intercept; 1e6 beside a spread of 1 leaves 4 of 16 digits."""
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(60, 3)), [list(range(5)), list(range(20, 50))]
    y = X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=60)
    tests = rng.normal(size=(2, 3))
    for estimator, labels in (("linear", y), ("logistic", (y + rng.logistic(size=60) > 0).astype(int))):
        near = GroupInfluence.fit(X, labels, estimator=estimator, l2=0.0)
        far = GroupInfluence.fit(X + 1e6, labels, estimator=estimator, l2=0.0)
        right = [row["actual"] for row in near.groundtruth(groups, tests, labels[:2]).records()]
        found = far.groundtruth(groups, tests + 1e6, labels[:2]).records()
        assert [row["actual"] for row in found] == pytest.approx(right, rel=1e-6, abs=1e-8)
        rows = far.influence(groups, tests + 1e6, labels[:2], methods=["first", "refined"]).records()
        assert [row["refined"] for row in rows] == pytest.approx(right, rel=0.05)
        assert all("condition number of about" in row["status"] for row in rows)
        assert all(row["status"] == "ok" for row in near.influence(groups, tests, labels[:2]).records())


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("encoder", [{"drop": "if_binary"}, {"min_frequency": 4}])
@pytest.mark.parametrize("intercept", [True, False])
def test_an_encoder_that_drops_or_joins_other_categories_without_the_group(encoder, intercept):
    """Columns that were combinations of the others no longer are: left out all the same, two sites were one."""
    sites = np.where(SITE == 2, np.where(np.arange(M) % 8 < 3, "D", "C"), np.array(list("ABC"))[SITE])
    table = pd.DataFrame({"site": sites, "ward": np.array(list("xyz"))[np.arange(M) % 3]})
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", **encoder)
    pipeline = make_pipeline(encoder, LinearRegression(fit_intercept=intercept)).fit(table, Y)
    model = GroupInfluence.from_sklearn(pipeline, table, Y)
    assert "left out" in model.note
    groups = {"ward": table.ward == "z", "sites": table.site.isin(["A", "B"]), "most": np.arange(M) >= 12}
    kept = [~np.asarray(mask) for mask in groups.values()]
    test = table[kept[0] & kept[1] & kept[2]]
    before = pipeline.predict(test)
    found = model.groundtruth(groups, test, quantity="prediction")
    assert set(found.statuses()) == {"ok"}
    for change, rows in zip(found.actual, kept, strict=True):
        after = clone(pipeline).fit(table[rows], Y[rows]).predict(test)
        assert change == pytest.approx(after - before, abs=1e-7)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_category_that_no_row_has_any_more_is_determined_no_more(sparse):
    table = pd.DataFrame({"x": X[:, 3], "site": np.array(list("ABC"))[SITE]})
    steps = [("x", MaxAbsScaler(), ["x"]), ("site", OneHotEncoder(handle_unknown="ignore"), ["site"])]
    encoder = ColumnTransformer(steps, sparse_threshold=float(sparse))
    pipeline = make_pipeline(encoder, LinearRegression()).fit(table, Y)
    kept, before = table.site != "A", pipeline.predict(table[:20])
    found = GroupInfluence.from_sklearn(pipeline, table, Y).groundtruth({"A": ~kept}, table[:20], quantity="prediction")
    after = clone(pipeline).fit(table[kept], Y[kept]).predict(table[:20])
    for row, record in enumerate(found.records()):
        assert record["status"].startswith("unbounded: ") == (not kept[row])
        assert record["actual"] == (pytest.approx(after[row] - before[row], abs=1e-4) if kept[row] else None)


def is_determined(kept: np.ndarray, row: np.ndarray, intercept: bool) -> bool:
    """Whether a row's features are a combination of those of the rows that are kept."""
    kept, row = (np.c_[one, np.ones(len(one))] if intercept else one for one in (kept, row[None]))
    _, sizes, directions = np.linalg.svd(kept, full_matrices=False)
    held = directions[sizes > 1e-9 * sizes[0]]
    return bool(np.linalg.norm(row[0] - held.T @ (held @ row[0])) < 1e-9)


ENCODERS = {
    "the rest are a level of their own": ({"max_categories": 3, "handle_unknown": "ignore"}, True),
    "a lost level is of the rest": ({"min_frequency": 4, "handle_unknown": "infrequent_if_exist"}, True),
    "no rest is left": ({"max_categories": 3, "handle_unknown": "infrequent_if_exist"}, False),
    "as many as there are": ({"min_frequency": 9, "handle_unknown": "infrequent_if_exist"}, False),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("case", ENCODERS)
def test_rows_of_a_lost_level_are_what_the_encoder_makes_of_them_and_null_where_that_is_not_determined(case, sparse):
    """Whichever of the columns that it makes now had been left out as combinations of the others."""
    how, intercept = ENCODERS[case]
    rng = np.random.default_rng(7)
    counts = {"A": 20, "B": 14, "C": 9, "D": 4, "E": 3}
    site = rng.permutation(np.repeat(list(counts), list(counts.values())))
    table = pd.DataFrame({"x": rng.normal(size=len(site)), "site": site, "ward": rng.choice(list("yz"), len(site))})
    y = table.x + (site == "A") + rng.normal(size=len(site))
    steps = [("x", MaxAbsScaler(), ["x"]), ("sites", OneHotEncoder(**how), ["site", "ward"])]
    pipeline = make_pipeline(
        ColumnTransformer(steps, sparse_threshold=float(sparse)), LinearRegression(fit_intercept=intercept)
    ).fit(table, y)
    groups = {one: site == one for one in counts} | {"A and z": (site == "A") | (table.ward == "z").to_numpy()}
    found = GroupInfluence.from_sklearn(pipeline, table, y).groundtruth(groups, table[:25], quantity="prediction")
    before, determined = pipeline.predict(table[:25]), 0
    for (name, group), record in zip(groups.items(), zip(*[iter(found.records())] * 25, strict=True), strict=True):
        again = clone(pipeline).fit(table[~group], y[~group])
        kept, rows = (again[0].transform(one) for one in (table[~group], table[:25]))
        kept, rows = (one.toarray() if hasattr(one, "toarray") else one for one in (kept, rows))
        after = again.predict(table[:25])
        for at, one in enumerate(record):
            assert one["group"] == name
            if is_determined(kept, rows[at], intercept):
                determined += group[at]
                assert (one["actual"], one["status"]) == (pytest.approx(after[at] - before[at], abs=1e-6), "ok")
            else:
                assert one["actual"] is None and one["status"].startswith("unbounded: ")
    assert determined or how["handle_unknown"] == "ignore"


def test_compressed_columns_are_judged_as_dense_ones_are():
    """Dependence on 0/1 columns is exact, and told from products of columns it would drown in their rounding."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows = int(rng.integers(30, 300))
        columns = [rng.normal(size=rows) * 10.0 ** rng.integers(-3, 4) for _ in range(rng.integers(0, 3))]
        for _ in range(rng.integers(1, 4)):
            levels = int(rng.integers(2, 6))
            codes = rng.integers(0, levels, rows)
            columns += [(codes == level) * 1.0 for level in range(levels)]
        if rng.random() < 0.4:
            columns.append(columns[0] + columns[-1])
        X = np.array(columns).T[:, rng.permutation(len(columns))]
        for intercept in (True, False):
            assert independent_columns(csr_array(X), intercept).tolist() == independent_columns(X, intercept).tolist()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    "final",
    [LinearRegression(fit_intercept=False), LogisticRegression(C=np.inf, tol=1e-12, fit_intercept=False)],
    ids=["linear", "logistic"],
)
def test_without_an_intercept_a_row_of_lost_categories_is_predicted_by_its_other_features(sparse, final):
    rng = np.random.default_rng(3)
    site = rng.choice(["east", "west", "north"], 300)
    form = np.where(site == "east", "drops", rng.choice(["pill", "syrup"], 300))
    X = pd.DataFrame({"site": site, "form": form, "dose": rng.normal(size=300)})
    y = (X.dose + (site == "east") + rng.normal(size=300) > 0.3).astype(int).to_numpy()
    steps = [("c", OneHotEncoder(handle_unknown="ignore"), ["site", "form"]), ("n", "passthrough", ["dose"])]
    pipeline = make_pipeline(ColumnTransformer(steps, sparse_threshold=float(sparse)), final).fit(X, y)
    lost, tests = X.site == "east", [*np.flatnonzero(site == "east")[:3], *np.flatnonzero(site != "east")[:3]]

    def predicted(one):
        rows = X.iloc[tests]
        return one.predict_proba(rows)[:, 1] if hasattr(one, "predict_proba") else one.predict(rows)

    truth = predicted(clone(pipeline).fit(X[~lost], y[~lost])) - predicted(pipeline)
    model = GroupInfluence.from_sklearn(pipeline, X, y)
    asked = {"X_test": X.iloc[tests], "y_test": y[tests]}
    asked["quantity"] = "prob:1" if isinstance(final, LogisticRegression) else "prediction"
    assert model.groundtruth({"east": lost}, **asked).actual[0] == pytest.approx(truth, abs=1e-6)
    assert model.influence({"east": lost}, **asked).values["refined"][0] == pytest.approx(truth, rel=0.05, abs=1e-6)
