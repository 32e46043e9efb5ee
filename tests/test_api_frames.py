"""``GroupInfluence`` with frames: columns of text, saved models, searches, reports, and errors that name arguments."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import FileError, GinfError, UsageError


def frames():
    rng = np.random.default_rng(0)
    columns = {"age": rng.normal(50, 9, 50), "dose": rng.integers(0, 4, 50), "smoker": rng.random(50) < 0.4}
    y = np.where(columns["age"] + rng.normal(0, 9, 50) > 50, "ill", "well")
    return columns, y


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_go_in_and_come_out(library):
    frame_of = pytest.importorskip(library).DataFrame
    columns, y = frames()
    frame, array = frame_of(columns), np.column_stack(list(columns.values())).astype(float)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, y)
    own = GroupInfluence.from_sklearn(pipeline, frame, pytest.importorskip(library).Series(y))
    plain = GroupInfluence.from_sklearn(make_pipeline(StandardScaler(), LogisticRegression()).fit(array, y), array, y)
    assert own.model.dataset.feature_names == ("age", "dose", "smoker")
    assert own.model.parameter_names == ("age", "dose", "smoker", "intercept")
    groups = ["column:dose=2", "by:smoker"]
    found = own.influence(groups, frame[:2], y[:2])
    masks = {"dose": columns["dose"] == 2, "no": ~columns["smoker"], "yes": columns["smoker"]}
    expected = plain.influence(masks, array[:2], y[:2])
    assert found.columns()["size"].tolist() == expected.columns()["size"].tolist()
    assert found.values["second"] == pytest.approx(expected.values["second"], rel=1e-6)
    out = found.to_pandas() if library == "pandas" else found.to_polars()
    assert list(out.columns) == list(found.columns())
    assert np.asarray(out["second"]) == pytest.approx(found.columns()["second"])


@pytest.fixture(scope="module")
def loans():
    """A frame of numbers and texts, and its labels."""
    rng = np.random.default_rng(5)
    site, age = rng.choice(["North", "South", "West"], size=80), rng.integers(20, 70, size=80)
    y = np.where(age / 25 + (site == "North") + rng.normal(size=80) > 2.2, "yes", "no")
    return {"site": site.tolist(), "age": age.tolist(), "income": rng.normal(size=80).tolist()}, y


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_texts_in_a_frame_become_features_as_in_scikit_learn(loans, library):
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    columns, y = loans
    frame = pytest.importorskip(library).DataFrame(columns)
    model = GroupInfluence.fit(frame[:70], y[:70], C=0.5)
    assert model.predict(frame[70:]).tolist() == model.predict(frame)[70:].tolist()
    import pandas

    own = pandas.DataFrame(columns)

    def refitted(rows):
        coded = ColumnTransformer([("site", OneHotEncoder(handle_unknown="ignore"), ["site"])], remainder="passthrough")
        last = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000, solver="newton-cg")
        return make_pipeline(coded, last).fit(own.iloc[rows], y[rows])

    kept = np.flatnonzero(own.site[:70] != "West")
    before, after = (refitted(rows).predict_proba(own[70:72])[:, 1] for rows in (np.arange(70), kept))
    found = model.groundtruth("column:site=West", frame[70:72], quantity="prob:yes").records()
    assert [one["base"] for one in found] == pytest.approx(before, abs=1e-6)
    assert [one["actual"] for one in found] == pytest.approx(after - before, abs=1e-6)


def test_a_saved_model_answers_the_same_by_its_own_rows_and_by_given_ones(loans, tmp_path, capsys):
    import pandas

    columns, y = loans
    frame, path = pandas.DataFrame(columns), str(tmp_path / "m.h5")
    model = GroupInfluence.fit(frame[:70], y[:70], l2=0.01)
    model.save(path, frame[70:], y[70:])
    loaded = GroupInfluence.load(path)
    asked = [model.influence("by:site", frame[70:71], y[70:71]), loaded.influence("by:site", frame[70:71], y[70:71])]
    asked.append(loaded.influence("by:site", "0"))
    figures = [[one["refined"] for one in result.records()] for result in asked]
    assert figures[1] == pytest.approx(figures[0], rel=1e-9) and figures[2] == pytest.approx(figures[0], rel=1e-9)
    assert run(["influence", "--model", path, "--group", "by:site", "--test", "0", "--format", "json"]) == 0
    of_command = json.loads(capsys.readouterr().out)
    assert [one["refined"] for one in of_command] == pytest.approx(figures[0], rel=1e-9)


def test_select_flips_and_ranks_candidates(loans):
    import pandas

    columns, y = loans
    frame = pandas.DataFrame(columns)
    model = GroupInfluence.fit(frame[:70], y[:70], l2=0.01)
    test, label = frame[70:71], y[70:71]
    (flipped,) = model.select(None, test, flip=True, preprocessing="frozen").records()
    kept = np.setdiff1d(np.arange(70), flipped["rows"])
    again = GroupInfluence.fit(frame.iloc[kept], y[kept], l2=0.01)
    assert again.predict(test)[0] == flipped["class_after"] != model.predict(test)[0]
    ranked = model.select(1, test, label, candidates="by:site", verify=True).records()
    truth = {one["group"]: one["actual"] for one in model.groundtruth("by:site", test, label).records()}
    for one in ranked:
        assert one["actual"] == pytest.approx(truth[one["groups"][0]], abs=1e-7)
    inside = np.flatnonzero(frame.site[:70] == "West")
    swapped = model.select(3, test, label, strategies="swap", merit="newton", within="column:site=West").records()[0]
    assert set(swapped["rows"]) <= set(inside.tolist())
    assert model.select(3, test, label, strategies="pgd", constraint="capped").records()[0]["size"] == 3
    for wrong, message in (
        ({"merit": "best"}, "merit must be one of"),
        ({"flip": True, "direction": "decrease"}, "leave strategies and direction out"),
        ({"candidates": "by:site", "within": "by:site"}, "use one of them"),
    ):
        with pytest.raises(UsageError, match=message):
            model.select(2, test, label, **wrong)
    with pytest.raises(TypeError, match="'nothing'"):
        model.select(2, test, label, nothing=1)


def test_results_are_compared_and_reported(loans, tmp_path):
    import pandas

    columns, y = loans
    frame = pandas.DataFrame(columns)
    model = GroupInfluence.fit(frame[:70], y[:70], l2=0.01)
    test, label = frame[70:72], y[70:72]
    found = model.influence("random:5x10", test, label, verify=True)
    last = model.compare(found).records()[-1]
    truth, guess = found.actual.ravel(), found.values["refined"].ravel()
    assert last["method"] == "refined"
    assert last["relative_error"] == pytest.approx(np.linalg.norm(guess - truth) / np.linalg.norm(truth))
    model.report(str(tmp_path / "r.html"), found, model.select(3, test, label))
    page = (tmp_path / "r.html").read_text()
    assert "How well the estimates agree with retraining" in page and "Selected rows" in page
    other = model.influence("random:5x10", frame[72:74], y[72:74])
    with pytest.raises(FileError, match="result 1 and result 2 do not belong together"):
        model.report(str(tmp_path / "s.html"), found, other)
    with pytest.raises(UsageError, match=r"expected the ending \.html or \.md") as caught:
        model.report(str(tmp_path / "r.pdf"), found)
    assert str(caught.value).startswith(f"path {tmp_path / 'r.pdf'}: ")
    flipped = [model.select(*size, X_test=test, y_test=label, flip=True).records()[0] for size in ((), (None,))]
    assert [list(map(int, one["rows"])) for one in flipped] == [list(map(int, flipped[0]["rows"]))] * 2
    assert {one["size"] for one in model.select(X_test=test, y_test=label, candidates="random:5x3").records()} == {5}


def test_errors_name_the_arguments(loans):
    import pandas

    columns, y = loans
    frame = pandas.DataFrame(columns)
    model = GroupInfluence.fit(frame[:70], y[:70], l2=0.01)
    test = frame[70:71]
    for call, words in (
        (lambda: model.influence("by:site", test, y[70:71], quantity="prob:x"), "^quantity prob:x: no class"),
        (lambda: model.influence("by:site", test), "^quantity loss needs the label"),
        (lambda: GroupInfluence.fit(frame.where(frame.age > 30), y), "missing"),
        (lambda: GroupInfluence.fit(frame, y, l2=-1.0), "^l2 "),
        (lambda: model.groundtruth("by:site", test, y[70:71], tol=0.0), "^tol must be a number greater than 0"),
    ):
        with pytest.raises(GinfError, match=words) as caught:
            call()
        assert "--" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("sites", [["z"], ["z", "w", "x"]])
def test_a_category_that_only_test_rows_have_is_told(sites):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"dose": rng.normal(size=60), "site": np.array(["x", "y"])[rng.integers(0, 2, 60)]})
    model = GroupInfluence.fit(frame, np.where(frame["dose"] > 0, "p", "q"))
    with pytest.warns(UserWarning, match="holds .*'z', which no training row has: all its features are 0 there"):
        model.predict(pandas.DataFrame({"dose": np.full(len(sites), 0.1), "site": sites}))


OBJECTS = {
    "whole": [1, None, 4] * 20,
    "decimal": [Decimal(at % 7) / 4 for at in range(60)],
    "numpy": [np.int64(at % 5) for at in range(60)],
}


@pytest.mark.parametrize("case", OBJECTS)
def test_numbers_that_a_frame_holds_as_objects_are_numbers(case):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = np.where(x + rng.normal(size=60) > 0, "a", "b")
    numbers = np.array([np.nan if one is None else float(one) for one in OBJECTS[case]])
    frame = pandas.DataFrame({"x": x, "c": pandas.Series(OBJECTS[case], dtype=object)})
    made = GroupInfluence.fit(frame, y, l2=0.1, impute="mean")
    plain = GroupInfluence.fit(pandas.DataFrame({"x": x, "c": numbers}), y, l2=0.1, impute="mean")
    assert made.model.dataset.feature_names == ("x", "c")
    assert np.array_equal(made.model.dataset.X_train, plain.model.dataset.X_train)
    assert made.predict(frame[:5]).tolist() == plain.predict(pandas.DataFrame({"x": x, "c": numbers})[:5]).tolist()


def test_what_is_neither_number_nor_text_is_refused_by_name():
    pandas = pytest.importorskip("pandas")
    days = [datetime.date(2020, 1, 1 + at % 28) for at in range(60)]
    columns = {
        "dates": [days, pandas.period_range("2020", periods=60, freq="M"), pandas.to_timedelta(np.arange(60), "D")],
        "values of the type": [[[1]] * 60, [{}] * 60, [b"a"] * 60],
    }
    for words, kinds in columns.items():
        for column in kinds:
            for name in ("c", 7):
                frame = pandas.DataFrame({"x": np.arange(60.0), name: column})
                with pytest.raises(FileError, match=f"^X: column {name} holds ({words}|times)"):
                    GroupInfluence.fit(frame, ["a", "b"] * 30)


def test_missing_categories_of_numbers_are_missing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": np.arange(60.0) % 7, "c": pandas.Categorical([1, None, 3] * 20)})
    with pytest.raises(FileError, match="values are missing: c in 20 rows"):
        GroupInfluence.fit(frame, ["a", "b"] * 30, l2=0.1)
    model = GroupInfluence.fit(frame, ["a", "b"] * 30, l2=0.1, impute="most-frequent")
    assert model.model.dataset.feature_names == ("x", "c=1", "c=3")
    assert model.predict(frame.assign(c=pandas.Categorical([1, 1, 3] * 20))).tolist() == model.predict(frame).tolist()
    with pytest.raises(FileError, match="sample_weight must be numbers"):
        GroupInfluence.fit(frame[["x"]], ["a", "b"] * 30, sample_weight=["heavy"] * 60)
