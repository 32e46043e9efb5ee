"""``GroupInfluence``: the figures of the commands, groups and rows in every form, results out, and what is refused."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cli_tools import save_blobs, train
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import influence_cli
from influence_cli import GroupInfluence, api
from influence_cli.api import asking, finding
from influence_cli.cli import run
from influence_cli.errors import GinfError, UsageError

M = 60


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blobs")
    with np.load(save_blobs(folder / "b.npz")) as arrays:
        return folder, *(arrays[key] for key in ("X_train", "y_train", "X_test", "y_test"))


@pytest.fixture(scope="module")
def model(blobs):
    _, X, y, *_ = blobs
    return GroupInfluence.fit(X, y, l2=0.02)


def test_the_examples_run():
    tried = [doctest.testmod(one, extraglobs={"GroupInfluence": GroupInfluence}) for one in (api, asking, finding)]
    assert all(failed == 0 < attempted for failed, attempted in tried)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, influence_cli; print(sorted({'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = influence_cli.Nothing


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_the_figures_are_those_of_the_commands(blobs, capsys, scaling):
    folder, X, y, X_test, y_test = blobs
    options = ["--l2", "0.02", "--penalty-scaling", scaling]
    path = train(str(folder / "b.npz"), folder / f"{scaling}.h5", *options)
    own = GroupInfluence.fit(X, y, l2=0.02, penalty_scaling=scaling)
    groups = ["coherent:1:5x2", "random:10%", "neighbours:3:6"]
    ask = ["--model", path, "--test", "0:3", "--quiet", "--format", "json", "--seed", "4"]
    for group in groups:
        ask += ["--group", group]
    capsys.readouterr()
    options = ["--method", "first,second,newton", "--evaluate", "exact", "--quantity", "logit:1"]
    assert run(["influence", *ask, *options]) == 0
    told = json.loads(capsys.readouterr().out)
    found = own.influence(
        groups,
        X_test[:3],
        y_test[:3],
        methods=["first", "second", "newton"],
        evaluate="exact",
        quantity="logit:1",
        seed=4,
    ).records()
    assert [list(record) for record in found] == [list(record) for record in told]
    for one, other in zip(found, told, strict=True):
        figures = [key for key, value in other.items() if isinstance(value, float)]
        assert {key: one[key] for key in figures} == pytest.approx({key: other[key] for key in figures}, rel=1e-9)
        assert all(one[key] == other[key] for key in other if key not in figures)
    assert run(["groundtruth", *ask]) == 0
    told = json.loads(capsys.readouterr().out)
    found = own.groundtruth(groups, X_test[:3], y_test[:3], seed=4).records()
    assert [record["group"] for record in found] == [record["group"] for record in told]
    assert [record["actual"] for record in found] == pytest.approx([record["actual"] for record in told], abs=1e-7)


def test_select_is_the_command_and_its_group_is_the_most_influential(blobs, model):
    _, _, y, X_test, y_test = blobs
    found = model.select(1, X_test[:2], y_test[:2], strategies="greedy", verify=True).records()
    truth = model.groundtruth([[row] for row in range(M)], X_test[:2], y_test[:2])
    for column, record in enumerate(found):
        (row,) = record["rows"]
        assert record["actual"] == pytest.approx(truth.actual[row, column], abs=1e-7)
        assert truth.actual[row, column] >= np.sort(truth.actual[:, column])[-3]
    within = model.select([2, 3], X_test[:1], y_test[:1], within=y == 1, strategies=["greedy", "relinearize"])
    assert [record["size"] for record in within.records()] == [2, 2, 3, 3]
    assert all((y[record["rows"]] == 1).all() for record in within.records())
    share = model.select(0.05, X_test[:1], y_test[:1]).records()[0]
    assert (share["size"], share["actual"]) == (3, None)
    with pytest.raises(UsageError, match="expected 1 to 59 rows, found 60"):
        model.select(60, X_test[:1], y_test[:1])
    assert model.select(np.float32(0.05), X_test[:1], y_test[:1]).records()[0]["size"] == 3


@pytest.mark.parametrize("size", [1.5, True, "5%", float("nan"), float("inf"), 2.0000001])
def test_a_size_that_is_no_number_of_rows_and_no_share_is_refused(blobs, model, size):
    _, _, _, X_test, y_test = blobs
    for ask in (
        lambda: model.select(size, X_test[:1], y_test[:1]),
        lambda: model.curve([size], X_test[:1], y_test[:1]),
    ):
        with pytest.raises(UsageError, match="expected a whole number of rows, or a share of them between 0 and 1"):
            ask()


@pytest.mark.parametrize(
    ("groups", "labels", "sizes"),
    [
        (np.array([5, 3]), ["rows:3,5"], [2]),
        ([5, 3], ["rows:3,5"], [2]),
        (np.arange(M) < 20, ["rows#0"], [20]),
        ([True] * 9 + [False] * (M - 9), ["rows#0"], [9]),
        ([[1, 2], np.arange(M) < 20], ["rows:1,2", "rows#1"], [2, 20]),
        ("coherent:2", ["coherent:2"], [20]),
        (["random:4x2", [7]], ["random:4#0", "random:4#1", "rows:7"], [4, 4, 1]),
        ({"a": [1, 2, 3], "b": np.arange(M) > 49, "c": "random:5"}, ["a", "b", "c"], [3, 10, 5]),
        ({"each": "cluster:2"}, ["each#0", "each#1"], None),
        (np.array([[1, 2], [3, 4]]), ["rows:1,2", "rows:3,4"], [2, 2]),
    ],
)
def test_groups_come_in_every_form(blobs, model, groups, labels, sizes):
    _, _, _, X_test, y_test = blobs
    records = model.influence(groups, X_test[:1], y_test[:1]).records()
    assert [record["group"] for record in records] == labels
    assert sizes is None or [record["size"] for record in records] == sizes


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([], "expected at least one group"),
        ({}, "expected at least one group"),
        ([[]], "group 0 is empty"),
        ({"a": [M]}, "group 'a': expected training rows 0..59, found 60"),
        ({"a": [-1]}, "found -1"),
        ({"a": [1, 1]}, "row 1 is listed twice"),
        ({"a": [True, False]}, "expected a mask with 60 truth values, one a training row, found 2"),
        ({"a": [0.5]}, "expected row numbers or a mask"),
        (np.ones(M, dtype=bool), "holds all 60 training rows"),
        (["rows:1", "rows:1"], "asked for twice"),
        ("coheren:1", "expected one of"),
        (7, "expected groups as specs"),
        (None, "expected groups as specs"),
    ],
)
def test_groups_that_are_none_are_refused(blobs, model, groups, sentence):
    _, _, _, X_test, y_test = blobs
    with pytest.raises(UsageError, match=sentence):
        model.influence(groups, X_test[:1], y_test[:1])


def test_hints_show_in_a_traceback(model):
    with pytest.raises(UsageError) as failure:
        model.influence([1])
    assert failure.value.__notes__ == ["give X_test, and y_test for the loss"]


def test_test_rows_need_no_label_where_the_quantity_needs_none(blobs, model):
    _, _, _, X_test, y_test = blobs
    logits = model.influence([1], X_test, quantity="logit:1").columns()["base"]
    assert logits == pytest.approx(model.influence([1], X_test, y_test, quantity="logit:1").columns()["base"])
    with pytest.raises(GinfError, match="label"):
        model.influence([1], X_test, quantity="loss")
    mean = model.influence([1], X_test, y_test, mean=True)
    assert mean.records()[0]["test"] == "mean"
    assert mean.values["first"][0, 0] == pytest.approx(model.influence([1], X_test, y_test).values["first"].mean())
    parameter = model.influence([1], quantity="param:0:intercept").records()[0]
    assert parameter["test"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": ["third"]}, "third"),
        ({"evaluate": "roughly"}, "evaluate must be one of"),
        ({"quantity": "prediction"}, "for regressions"),
        ({"X_test": np.zeros((2, 7)), "y_test": [0, 1]}, "expected 3 features, found 7"),
        ({"y_test": [0, 9]}, "must occur among the training labels"),
        ({"y_test": [0]}, "one label for each of the 2 test rows"),
        ({"X_test": [[np.nan, 0, 0], [0, 0, 0]]}, "must be finite"),
        ({"X_test": [["a", 0, 0], [0, 0, 0]]}, "must be numbers"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(blobs, model, arguments, sentence):
    _, _, _, X_test, y_test = blobs
    with pytest.raises(GinfError, match=sentence):
        model.influence([1, 2], **({"X_test": X_test[:2], "y_test": y_test[:2]} | arguments))


def test_fit_refuses_what_it_cannot_train_on(blobs):
    _, X, y, *_ = blobs
    for arguments, sentence in (
        ({"X": X[:, 0]}, "rows and columns"),
        ({"y": y[:-1]}, "one label for each of the 60 training rows"),
        ({"sample_weight": -np.ones(M)}, "at least 0"),
        ({"estimator": "logit"}, "estimator must be one of"),
        ({"class_weight": "even"}, "class_weight must be one of"),
        ({"estimator": "linear", "class_weight": "balanced"}, "for classifications"),
    ):
        with pytest.raises(GinfError, match=sentence):
            GroupInfluence.fit(**({"X": X, "y": y} | arguments))


def test_weights_reach_the_model(blobs):
    _, X, y, *_ = blobs
    weights = np.arange(1.0, M + 1)
    own = GroupInfluence.fit(X, y, C=0.5, sample_weight=weights, class_weight="balanced").model
    peer = LogisticRegression(C=0.5, class_weight="balanced", solver="newton-cg", tol=1e-12, max_iter=1000)
    other = GroupInfluence.from_sklearn(peer.fit(X, y, sample_weight=weights), X, y, sample_weight=weights).model
    assert own.theta == pytest.approx(other.theta, abs=1e-6)
    assert own.settings.l2 == pytest.approx(other.settings.l2)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_array"])
def test_sparse_matrices_are_taken_and_stay_sparse(blobs, form):
    import scipy.sparse

    _, X, y, X_test, y_test = blobs
    X = np.where(np.abs(X) < 0.5, 0.0, X)
    make = getattr(scipy.sparse, form)
    dense, sparse = (GroupInfluence.fit(rows, y, tol=1e-12) for rows in (X, make(X)))
    assert isinstance(sparse.model.dataset.X_train, scipy.sparse.csr_array)
    groups = {"a": [1, 2], "near": "neighbours:3:5"}
    for ask in ("influence", "groundtruth"):
        own = getattr(sparse, ask)(groups, make(X_test), y_test).columns()
        other = getattr(dense, ask)(groups, X_test, y_test).columns()
        for key in {"second", "actual"} & own.keys():
            assert own[key] == pytest.approx(other[key], rel=1e-7, abs=1e-10)
    best = [
        one.select(3, rows, y_test[:1]).records()[0]["rows"]
        for one, rows in ((dense, X_test[:1]), (sparse, make(X_test[:1])))
    ]
    assert best[0] == best[1]


def test_canonical_rows_are_shared_and_others_are_not_changed(blobs):
    from scipy.sparse import csr_array

    _, X, y, _, _ = blobs
    own = csr_array(X)
    assert np.shares_memory(GroupInfluence.fit(own, y).model.dataset.X_train.data, own.data)
    twice = csr_array((np.repeat(own.data, 2), np.repeat(own.indices, 2), 2 * own.indptr), shape=own.shape)
    before = twice.data.copy()
    made = GroupInfluence.fit(twice, y).model.dataset.X_train
    assert np.array_equal(twice.data, before) and made.has_canonical_format
    assert np.array_equal(made.toarray(), 2 * X)


def test_an_estimator_that_was_fitted_on_sparse_rows_stays_sparse(blobs):
    from scipy.sparse import csr_array
    from sklearn.preprocessing import MaxAbsScaler

    _, X, y, X_test, y_test = blobs
    X = np.where(np.abs(X) < 0.5, 0.0, X)
    fitted = make_pipeline(MaxAbsScaler(), LogisticRegression(C=0.3)).fit(csr_array(X), y)
    dense, sparse = (GroupInfluence.from_sklearn(fitted, rows, y, tol=1e-12) for rows in (X, csr_array(X)))
    assert isinstance(sparse.model.dataset.X_train, csr_array)
    own = sparse.influence("random:5", csr_array(X_test), y_test).columns()["second"]
    assert own == pytest.approx(dense.influence("random:5", X_test, y_test).columns()["second"], rel=1e-7, abs=1e-10)


def test_networks_are_trained_too(blobs):
    _, X, y, X_test, y_test = blobs
    own = GroupInfluence.fit(X, y, estimator="mlp", hidden=(4,), l2=0.05)
    assert own.model.settings.hidden == (4,)
    assert np.isfinite(own.influence([1, 2], X_test[:2], y_test[:2]).values["first"]).all()


def test_records_are_plain_and_have_none_for_nan(blobs, model):
    _, _, _, X_test, y_test = blobs
    records = model.select(2, X_test[:1], y_test[:1]).records()
    assert json.loads(json.dumps(records)) == records
    json.dumps(model.influence([1], X_test, y_test).records(), allow_nan=False)


def test_selection_of_a_weighted_model(blobs):
    _, X, y, X_test, y_test = blobs
    weighted = GroupInfluence.fit(X, y, sample_weight=np.arange(1.0, M + 1))
    (found,) = weighted.select(3, X_test[:1], y_test[:1], verify=True).records()
    (truth,) = weighted.groundtruth([found["rows"]], X_test[:1], y_test[:1]).records()
    assert found["actual"] == pytest.approx(truth["actual"], rel=1e-6)
    assert len({weighted, GroupInfluence.fit(X, y)}) == 2


def test_all_strategies_leave_out_what_is_impossible(blobs, model):
    _, _, _, X_test, y_test = blobs
    every = ["random", "greedy", "pgd", "relinearize", "swap", "exact"]
    for size, names in ((1, every), (M // 3, every[:-1])):
        records = model.select(size, X_test[:1], y_test[:1], strategies="all", draws=5).records()
        assert [record["strategy"] for record in records] == names


def test_a_look_at_an_object_shows_no_row_of_the_data():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(50, 2))
    y = np.where(X[:, 0] + rng.normal(size=50) > 0, "secret-yes", "secret-no")
    model = GroupInfluence.fit(X, y)
    assert repr(model) == "<GroupInfluence: logistic, 50 rows, 2 features, 2 classes>"
    result = model.influence({"<b>first</b>": np.arange(5)}, X[:30], y[:30])
    assert repr(result).startswith("<InfluenceResult: 30 records of group, kind, size")
    assert "\n" not in repr(result)
    page = result._repr_html_()
    assert page.count("<tr>") == 21
    assert "10 more records" in page
    assert "&lt;b&gt;first" in page
    assert "<b>" not in page
    assert "GroupInfluence" in dir(influence_cli)


def test_where_no_strategy_is_named_retrained_exchanges_follow_as_they_do_on_the_command_line():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(40, 3))
    model = GroupInfluence.fit(X, X @ [1, -1, 0.5] + rng.standard_t(2, size=40), estimator="linear", l2=0.0)
    asked = {"X_test": rng.normal(size=(1, 3)), "quantity": "prediction", "verify": True}
    (usual,), (one,) = (model.select(4, **asked, **how).records() for how in ({}, {"strategies": "relinearize"}))
    assert usual["actual"] > 1.03 * one["actual"]


def test_rows_without_labels_are_not_said_to_be_classified_rightly():
    X = np.random.default_rng(0).normal(size=(40, 2))
    model = GroupInfluence.fit(X, np.where(X[:, 0] > 0, "yes", "no"), l2=0.1)
    unlabelled = model.made.with_tests(X[:3], None)[0]
    with pytest.raises(UsageError, match="no test row has a label"):
        replace(model.model, dataset=unlabelled).misclassified()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"quantity": ["param:0", "param:1"]}, "quantity must be a text, found list"),
        ({"evaluate": 1}, "evaluate must be a text, found int"),
        ({"seed": "a"}, "seed must be a whole number, found str"),
        ({"seed": 1.5}, "seed must be a whole number, found float"),
        ({"certify": [0.1]}, "certify must be a number or a text or None, found list"),
    ],
)
def test_arguments_of_another_type_are_refused_in_words(blobs, model, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        model.influence([1], "all", **options)


def test_an_argument_of_the_name_of_an_option_in_capitals():
    with pytest.raises(UsageError, match=r"^C must be a number greater than 0"):
        GroupInfluence.fit(np.eye(4), [0, 1, 0, 1], C=0.0)
