"""``--test removed``: each group's own rows by a model without them, against scikit-learn's refits and closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_tools import rows_of, save_blobs, save_regression, train
from pass_counter import counted_passes
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influence_cli import GroupInfluence
from influence_cli.artifacts.results import load_influence, load_truth
from influence_cli.cli import run
from influence_cli.errors import UsageError

M = 90


def rows(seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(M, 3))
    score = X @ [1.0, -0.5, 0.8] + 0.8 * rng.normal(size=M)
    return X, np.digitize(score, [-0.3, 0.7]), score, np.arange(M) % 4


def logistic():
    return LogisticRegression(C=0.5, solver="newton-cg", tol=1e-12, max_iter=10_000)


def losses(fitted, X: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(fitted.predict_proba(X)[np.arange(len(y)), y]).mean())


def test_leave_one_out_of_a_ridge_is_its_closed_form():
    X, _, y, _ = rows()
    fitted = Ridge(alpha=2.0).fit(X, y)
    model = GroupInfluence.from_sklearn(fitted, X, y)
    centred = X - X.mean(axis=0)
    hat = 1.0 / M + np.einsum("ij,ij->i", centred @ np.linalg.inv(centred.T @ centred + 2.0 * np.eye(3)), centred)
    residual = y - fitted.predict(X)
    found = model.influence("rows:each", "removed", methods=["first", "rif"])
    assert found.base[:, 0] == pytest.approx(0.5 * residual**2, rel=1e-9)
    assert found.base + found.values["rif"] == pytest.approx((0.5 * (residual / (1.0 - hat)) ** 2)[:, None], rel=1e-9)
    assert set(found.columns()["test"]) == {"removed"}
    predicted = model.influence("rows:each", "removed", methods=["rif"], quantity="prediction").values["rif"][:, 0]
    assert predicted == pytest.approx(-residual * hat / (1.0 - hat), rel=1e-8, abs=1e-10)


def test_leave_one_out_is_linear_in_the_rows(monkeypatch):
    # Small tables are read whole where that takes less time than Python's overhead for a group.
    monkeypatch.setattr("influence_cli.core.rows.design.GROUP_OVERHEAD_FLOPS", 0.0)
    read = []
    for m in (256, 1024):
        X, y, _, _ = (np.tile(part, (12, 1)[: part.ndim])[:m] for part in rows())
        model = GroupInfluence.fit(X + 0.1 * np.arange(m)[:, None] / m, y)
        model.solver.preconditioner(model.model.theta)
        with counted_passes(monkeypatch, 3, m) as counted:
            model.influence("rows:each", "removed", methods=["first", "rif"])
        read.append(counted.passes * m)
    assert read[1] < 4.5 * read[0]


@pytest.mark.parametrize("per", ["mean", "sum"])
def test_leave_group_out_is_that_of_refits(per):
    X, y, _, part = rows()
    C = 0.5
    groups = {f"part {k}": np.flatnonzero(part == k) for k in range(4)}
    model = GroupInfluence.from_sklearn(logistic().fit(X, y), X, y, penalty_scaling=f"per-{per}")
    expected, accuracy = [], []
    for own in groups.values():
        kept = np.setdiff1d(np.arange(M), own)
        scaled = C * M / len(kept) if per == "mean" else C
        refit = logistic().set_params(C=scaled).fit(X[kept], y[kept])
        expected.append(losses(refit, X[own], y[own]))
        accuracy.append(accuracy_score(y[own], refit.predict(X[own])))
    found = model.influence(groups, "removed", verify=True, errors=True)
    truth = model.groundtruth(groups, "removed")
    assert found.base.shape == (4, 1)
    assert truth.base + truth.actual == pytest.approx(np.array(expected)[:, None], abs=1e-7)
    assert found.actual == pytest.approx(truth.actual, abs=1e-12)
    off = np.abs(found.values["refined"] - truth.actual)
    assert (off <= found.errors["refined"]).all() and (off < 0.05 * np.abs(truth.actual)).all()
    assert (np.abs(found.values["second"] - truth.actual) <= found.errors["second"]).all()
    assert GroupInfluence.compare(found, truth).records()[-1]["pearson"] > 0.999
    scored = model.groundtruth(groups, "removed", quantity="score:accuracy")
    assert (scored.base + scored.actual)[:, 0].tolist() == pytest.approx(accuracy)


def test_the_whole_pipeline_is_fitted_without_the_rows():
    X, y, _, part = rows()
    X = X * [1.0, 30.0, 0.1] + [0.0, 7.0, 0.0]
    X[::7, 1] = np.nan
    X[part == 2] += [2.0, 0.0, 0.0]

    def pipeline():
        return make_pipeline(SimpleImputer(), StandardScaler(), logistic())

    model = GroupInfluence.from_sklearn(pipeline().fit(X, y), X, y)
    groups = [np.flatnonzero(part == k) for k in range(4)]
    truth, found = model.groundtruth(groups, "removed"), model.influence(groups, "removed")
    for at, own in enumerate(groups):
        kept = np.setdiff1d(np.arange(M), own)
        expected = losses(pipeline().fit(X[kept], y[kept]), X[own], y[own])
        assert truth.base[at, 0] + truth.actual[at, 0] == pytest.approx(expected, abs=1e-6)
        assert found.values["refined"][at, 0] == pytest.approx(truth.actual[at, 0], rel=0.06, abs=1e-4)


def test_a_lost_class_has_a_limit_or_none():
    X, y, _, _ = rows()
    model = GroupInfluence.from_sklearn(logistic().fit(X, y), X, y)
    groups = {"class 0": np.flatnonzero(y == 0), "others": np.arange(5)}
    for quantity, limit in (("loss", None), ("prob", 0.0)):
        estimated = model.influence(groups, "removed", quantity=quantity).records()
        measured = model.groundtruth(groups, "removed", quantity=quantity).records()
        for record, key in ((estimated[0], "refined"), (measured[0], "actual")):
            assert record["status"].startswith("unbounded:")
            assert record[key] is None if limit is None else record["base"] + record[key] == pytest.approx(limit)
        assert estimated[1]["status"] == measured[1]["status"] == "ok"
        assert estimated[1]["refined"] == pytest.approx(measured[1]["actual"], rel=0.06)


def test_rows_of_one_class_have_no_such_score():
    X, y, _, _ = rows()
    y = (y > 0).astype(int)
    model = GroupInfluence.fit(X, y)
    groups = {"one class": np.flatnonzero(y == 1)[:5], "both": np.arange(30)}
    for result in (
        model.influence(groups, "removed", quantity="score:roc_auc"),
        model.groundtruth(groups, "removed", quantity="score:roc_auc"),
    ):
        first, second = result.records()
        assert first["base"] is None and first["status"].startswith("undefined: the rows of the group have no such")
        assert second["status"] == "ok" and 0.5 < second["base"] < 1.0


def test_the_commands_tell_in_sample_estimated_and_retrained(tmp_path, capsys):
    model = train(save_blobs(tmp_path / "b.npz"), tmp_path / "m.h5")
    capsys.readouterr()
    asked = ["--model", model, "--group", "rows:0,3,6,9", "--group", "rows:1,2,4,5,7", "--test", "removed", "--quiet"]
    i, t = str(tmp_path / "i.h5"), str(tmp_path / "t.h5")
    assert run(["influence", *asked, "--verify", "-o", i]) == 0
    first = rows_of(capsys.readouterr().out)
    assert run(["groundtruth", *asked, "-o", t]) == 0
    capsys.readouterr()
    assert load_influence(i).records()[0]["base"] == float(first[0]["base"]) != float(first[1]["base"])
    assert load_truth(t).base.shape == (2, 1)
    assert run(["compare", i, t, "--format", "table"]) == 0
    assert "loss of each group's own rows" in " ".join(capsys.readouterr().out.split())
    assert run(["show", i, "--format", "table"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("in-sample", "estimated", "retrained", "mean over 9 rows of 2 groups"):
        assert word in text
    pooled = sum(len(own.split(",")) * (float(one["base"]) + float(one["actual"])) for own, one in zip(
        ("0,3,6,9", "1,2,4,5,7"), first, strict=True)) / 9  # fmt: skip
    assert f"retrained {pooled:.4g}" in text
    page = tmp_path / "page.md"
    assert run(["report", i, "-o", str(page), "--quiet"]) == 0
    for word in ("in-sample", "own rows", "mean over 9 rows of 2 groups"):
        assert word in page.read_text()
    assert run(["groundtruth", *asked, "-o", t, "--resume", "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [one["actual"] for one in again] == pytest.approx([float(one["actual"]) for one in first])


def test_single_rows_are_evaluated_exactly_unless_asked(tmp_path, capsys):
    model = train(save_regression(tmp_path / "r.npz"), tmp_path / "r.h5", "--estimator", "linear", "--l2", "0")
    capsys.readouterr()
    assert run(["influence", "--model", model, "--group", "rows:each", "--test", "removed"]) == 0
    done = capsys.readouterr()
    assert "--method first,rif --evaluate exact" in done.err and "mean over 50 rows of 50 groups" in done.err
    data = np.load(tmp_path / "r.npz")
    X, y = data["X_train"], data["y_train"]
    for at, record in enumerate(rows_of(done.out)[:5]):
        kept = np.arange(50) != at
        error = LinearRegression().fit(X[kept], y[kept]).predict(X[[at]])[0] - y[at]
        assert float(record["base"]) + float(record["rif"]) == pytest.approx(0.5 * error**2, rel=1e-8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["influence", "--group", "rows:1", "--evaluate", "linear"], "--test removed is evaluated exactly"),
        (["influence", "--group", "rows:1", "--quantity", "gap:x0"], "does not go with --test removed"),
        (["influence", "--group", "rows:1", "--quantity", "param:x0"], "does not go with --test removed"),
        (["influence", "--group", "rows:1", "--explain"], "is about one group and one test row"),
        (["select", "--size", "2"], "--test removed is about given groups"),
        (["select", "--flip"], "--flip changes the class of one test row at a time"),
        (["select", "--flip", "--quantity", "margin"], "--test removed is about given groups"),
        (["groundtruth", "--group", "rows:1", "--credit", "shapley"], "--credit divides one figure"),
    ],
)
def test_what_does_not_go_with_it_is_said(tmp_path, capsys, options, sentence):
    model = train(save_blobs(tmp_path / "b.npz"), tmp_path / "m.h5")
    assert run([*options, "--model", model, "--test", "removed"]) == 2
    assert sentence in capsys.readouterr().err


def test_mislabelled_rows_come_first_under_their_own_names(tmp_path, capsys):
    y, wrong = np.arange(60) % 2, [3, 20, 41]
    X = np.random.default_rng(0).normal(size=(60, 3)) + 3.0 * y[:, None]
    labels = np.where(np.isin(np.arange(60), wrong), 1 - y, y)
    lines = [f"P{at},{','.join(map(str, row))},c{label}" for at, (row, label) in enumerate(zip(X, labels, strict=True))]
    names = ",".join(["id", *(f"x{at}" for at in range(X.shape[1])), "y"])
    (tmp_path / "d.csv").write_text("\n".join([names, *lines]) + "\n")
    options = ["--label", "y", "--id", "id", "--test-fraction", "0"]
    model = train(tmp_path / "d.csv", tmp_path / "m.h5", *options)
    asked = ["influence", "--model", model, "--group", "rows:each", "--test", "removed"]
    capsys.readouterr()
    assert run([*asked, "--format", "json", "-o", str(tmp_path / "i.h5")]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["record"], one["true"]) for one in records] == [
        (f"P{at}", at + 1, f"c{label}") for at, label in enumerate(labels)
    ]
    first = sorted(records, key=lambda one: -one["rif"])[:3]
    assert {one["id"] for one in first} == {f"P{at}" for at in wrong}
    assert run(["show", str(tmp_path / "i.h5"), "--top", "1", "--format", "table"]) == 0
    assert f"(id {first[0]['id']}, true {first[0]['true']})" in " ".join(capsys.readouterr().out.split())
    assert run(["report", str(tmp_path / "i.h5"), "-o", str(tmp_path / "r.md"), "--top", "1"]) == 0
    assert f"id {first[0]['id']}" in (tmp_path / "r.md").read_text()


def test_python_says_so_too():
    X, y, _, _ = rows()
    model = GroupInfluence.fit(X, y)
    with pytest.raises(UsageError, match="X_test removed is about given groups"):
        model.select(3, "removed")
