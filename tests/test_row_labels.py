"""pandas objects name rows by label, arrays by position; whatever could be read in two ways is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influence_cli import GroupInfluence
from influence_cli.errors import FileError, GinfError, UsageError

pandas = pytest.importorskip("pandas")
M = 60
FEATURES = ["a", "b"]


def site_table():
    """Rows in order 0..59, twenty of them of the site N, which is what their labels depend on."""
    rng = np.random.default_rng(0)
    data = pandas.DataFrame({"a": rng.normal(size=M), "b": rng.normal(size=M), "site": np.repeat(["N", "S"], [20, 40])})
    data["y"] = (data.a + 2 * (data.site == "N") + rng.normal(0, 1, M) > 0.5).astype(int)
    return data


INDEXES = {
    "shuffled": lambda data: data.sample(frac=1, random_state=1),
    "text": lambda data: data.sample(frac=1, random_state=2).set_axis([f"r{i}" for i in range(M)], axis=0),
    "levels": lambda data: data.sample(frac=1, random_state=3).set_index([data.index % 7, data.index], drop=True),
    "dates": lambda data: data.set_axis(pandas.date_range("2024-01-01", periods=M)[::-1], axis=0),
}


def fitted(data):
    return LogisticRegression(tol=1e-10, solver="newton-cholesky").fit(data[FEATURES], data.y)


def truth(data, asked, test):
    """By refitting without the site's rows."""
    estimator = fitted(data)
    rest = data[data.site != asked]
    after = clone(estimator).fit(rest[FEATURES], rest.y)
    here, there = (one.predict_proba(test[FEATURES])[0, test.y.iloc[0]] for one in (estimator, after))
    return there - here


@pytest.mark.parametrize("how", list(INDEXES))
def test_labels_go_to_the_rows_that_have_them(how):
    data = INDEXES[how](site_table())
    test = data.iloc[:1]
    model = GroupInfluence.from_sklearn(fitted(data), data[FEATURES], data.y)
    shuffled = data.sample(frac=1, random_state=9)
    ways = {
        "groups": dict(data.groupby("site").groups),
        "groupby": data.groupby("site"),
        "an Index": {"N": data.index[data.site == "N"], "S": shuffled.index[shuffled.site == "S"]},
        "masks in another order": {"N": shuffled.site == "N", "S": shuffled.site == "S"},
        "masks as arrays": {"N": (data.site == "N").to_numpy(), "S": (data.site == "S").to_numpy()},
        "positions": dict(data.groupby("site").indices),
        "columns of a frame": pandas.DataFrame({"N": shuffled.site == "N", "S": shuffled.site == "S"}),
    }
    wanted = {name: truth(data, name, test) for name in "NS"}
    for way, groups in ways.items():
        found = model.groundtruth(groups, test[FEATURES], test.y, quantity="prob").records()
        assert {one["group"]: one["actual"] for one in found} == pytest.approx(wanted, abs=1e-6), way


def test_a_single_index_or_mask_is_one_group():
    data = INDEXES["shuffled"](site_table())
    model = GroupInfluence.from_sklearn(fitted(data), data[FEATURES], data.y)
    wanted = np.flatnonzero(data.site == "N").tolist()
    for one in (data.index[data.site == "N"], data.site == "N", [data.site == "N"]):
        assert model._plan(one, 0).rows(0).tolist() == wanted
    assert (
        model.select(2, data[FEATURES][:1], data.y[:1], within=data.index[data.site == "N"]).records()[0]["size"] == 2
    )
    assert model._plan(data.groupby(["site", "y"]), 0).label == ("N,0", "N,1", "S,0", "S,1")


def test_a_mask_of_the_whole_table_serves_a_part_of_it():
    data = site_table()
    part = data.sample(frac=0.5, random_state=4)
    model = GroupInfluence.from_sklearn(fitted(part), part[FEATURES], part.y)
    rows = model._plan({"N": data.site == "N"}, 0).rows(0)
    assert (part.site.iloc[rows] == "N").all()
    assert len(rows) == (part.site == "N").sum()
    renumbered = part.reset_index(drop=True)
    model = GroupInfluence.from_sklearn(fitted(part), renumbered[FEATURES], renumbered.y)
    with pytest.raises(UsageError, match="it has 60 rows and X 30 with the default labels"):
        model._plan({"N": data.site == "N"}, 0)


def test_responses_weights_and_test_labels_go_by_label():
    data = INDEXES["shuffled"](site_table())
    weight = pandas.Series(np.random.default_rng(5).uniform(0.5, 2.0, M), index=data.index)
    estimator = LogisticRegression(tol=1e-10, solver="newton-cholesky").fit(data[FEATURES], data.y, weight)
    straight = GroupInfluence.from_sklearn(estimator, data[FEATURES], data.y, weight)
    mixed = GroupInfluence.from_sklearn(estimator, data[FEATURES], data.y.sort_index(), weight.sort_index())
    assert mixed.model.dataset.digest == straight.model.dataset.digest
    test = data.iloc[:5]
    columns = [test.y, test.y.sort_index(), data.y.sort_index()]
    bases = [mixed.influence("random:3", test[FEATURES], y, quantity="prob").base for y in columns]
    assert bases[0].tolist() == bases[1].tolist() == bases[2].tolist()
    own = GroupInfluence.fit(data[FEATURES], data.y.sort_index(), sample_weight=weight.sort_index())
    assert own.model.dataset.y_train.tolist() == data.y.tolist()


def test_columns_go_by_name():
    data = site_table()
    model = GroupInfluence.from_sklearn(fitted(data), data[["site", "b", "a"]], data.y)
    straight = GroupInfluence.from_sklearn(fitted(data), data[FEATURES], data.y)
    wanted = straight.influence([[1, 2]], data[FEATURES][:3], data.y[:3]).columns()
    for columns in (FEATURES, FEATURES[::-1], ["site", *FEATURES]):
        found = model.influence([[1, 2]], data[columns][:3], data.y[:3]).columns()
        assert found["first"] == pytest.approx(wanted["first"], rel=1e-12)
    assert model._plan("column:site=N", 0).rows(0).tolist() == list(range(20))  # beside the features
    with pytest.raises(FileError, match="made of the columns a, b, but there is no b among a, site"):
        model.influence([[1]], data[["a", "site"]][:1], data.y[:1])
    piped = make_pipeline(StandardScaler(), LogisticRegression()).fit(data[FEATURES], data.y)
    model = GroupInfluence.from_sklearn(piped, data[["b", "site", "a"]], data.y)
    found = model.influence([[1]], data[["b", "a"]][:1], data.y[:1], quantity="prob").base
    assert found == pytest.approx(piped.predict_proba(data[FEATURES][:1])[0, data.y[0]], abs=1e-4)


def twice(data):
    """Two files read one behind the other, each with labels from 0."""
    return pandas.concat([data[:30].reset_index(drop=True), data[30:].reset_index(drop=True)])


@pytest.mark.parametrize(
    ("prepare", "group", "sentence"),
    [
        (
            twice,
            lambda d: d.groupby("site").groups,
            "the label 0 stands for 2 rows of X, but .* once",
        ),
        (INDEXES["text"], lambda d: pandas.Index(["r1", "x"]), "X has no row with the label 'x'"),
        (INDEXES["text"], lambda d: pandas.Index([1, 2]), "X has no row with the label 1"),
        (INDEXES["shuffled"], lambda d: d.index[[1, 1]], "is listed twice"),
        (INDEXES["shuffled"], lambda d: pandas.Series([1, 2]), "can mean positions or labels"),
        (INDEXES["shuffled"], lambda d: pandas.Series([1.5]), "found a Series of the type float64"),
        (INDEXES["levels"], lambda d: pandas.Index([1, 2]), "its labels have 1 level, but the index of X has 2"),
        (INDEXES["text"], lambda d: (d.site == "N").reset_index(drop=True), "it has no row 'r0', as X has"),
        (INDEXES["shuffled"], lambda d: (d.site == "N")[1:], "1 of 60 rows of X are missing"),
        (INDEXES["shuffled"], lambda d: d[["a", "site"]], "a DataFrame whose columns are not all truth values"),
    ],
)
def test_what_is_ambiguous_is_refused(prepare, group, sentence):
    data = prepare(site_table())
    model = GroupInfluence.from_sklearn(fitted(data), data[FEATURES], data.y)
    with pytest.raises(UsageError, match=sentence):
        model._plan(group(data), 0)


def test_labels_need_rows_with_labels():
    data = site_table()
    shuffled = INDEXES["shuffled"](data)
    model = GroupInfluence.fit(data[FEATURES].to_numpy(), data.y.to_numpy())
    for group in (data.index[:3], shuffled.site == "N"):
        with pytest.raises(UsageError, match="goes by labels, but X has none"):
            model._plan({"N": group}, 0)
    assert len(model._plan({"N": data.site == "N"}, 0).rows(0)) == 20  # the default labels are positions
    by_y = GroupInfluence.fit(shuffled[FEATURES].to_numpy(), shuffled.y)
    assert (shuffled.site.iloc[by_y._plan({"N": shuffled.index[shuffled.site == "N"]}, 0).rows(0)] == "N").all()


def test_a_label_that_stands_for_the_whole_group_names_it():
    data = site_table()
    data = data.set_index("site")
    model = GroupInfluence.fit(data[FEATURES], data.y)
    assert model._plan({"N": data.index[data.index == "N"]}, 0).rows(0).tolist() == list(range(20))
    with pytest.raises(GinfError, match="one label stands for several rows"):
        GroupInfluence.fit(data[FEATURES], data.y[::-1])


def test_responses_with_other_labels_are_refused():
    data = INDEXES["shuffled"](site_table())[:30]
    features = pandas.DataFrame(data[FEATURES].to_numpy(), columns=FEATURES)
    with pytest.raises(UsageError, match="y: a pandas object goes by its labels, but it has no row"):
        GroupInfluence.fit(features, data.y)
    assert GroupInfluence.fit(features, data.y.to_numpy()).model.dataset.rows == 30
