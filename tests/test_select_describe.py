"""Causes in words: described groups against refits of every group, and how they are asked for and shown."""

import json
import shlex
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli_tools import train, values_of
from pass_counter import counted_passes
from sklearn.linear_model import LogisticRegression, Ridge

from influence_cli.api import GroupInfluence
from influence_cli.cli import run
from influence_cli.core.selection.causes import RowEffects, describe
from influence_cli.core.selection.second_order import Expansion
from influence_cli.errors import UsageError
from influence_cli.specs.cells import cut_columns
from influence_cli.specs.columns import parse_conditions, rows_where

L2 = 0.02


def table(m: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Five columns and a response, whose sign is turned about where site is E and age at least 50."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.integers(20, 80, m), "dose": rng.normal(size=m).round(2)})
    for name, values in (("site", ["N", "S", "E"]), ("sex", ["f", "m"]), ("arm", ["a", "b", "c"])):
        frame[name] = rng.choice(values, m)
    signal = (frame["age"] - 50) / 15 + frame["dose"] - (frame["sex"] == "f")
    turned = (frame["site"] == "E") & (frame["age"] >= 50)
    return frame, (np.where(turned, -signal, signal) + rng.logistic(size=m)).astype(float)


def refitted_loss(kind: str, X: np.ndarray, y: np.ndarray, rows: np.ndarray, x: np.ndarray, own: float) -> float:
    """The loss of a test row without the rows, by scikit-learn."""
    kept = np.delete(np.arange(len(y)), rows)
    if kind == "linear":
        fit = Ridge(alpha=L2 * len(kept)).fit(X[kept], y[kept])
        return 0.5 * float(own - fit.predict(x)[0]) ** 2
    fit = LogisticRegression(C=1 / (L2 * len(kept)), solver="newton-cholesky", tol=1e-8).fit(X[kept], y[kept])
    return -float(fit.predict_log_proba(x)[0, int(own)])


def apart(groups: list[np.ndarray], most: int) -> list[np.ndarray]:
    """The first groups that share at most half of the smaller one's rows with each other."""
    kept: list[np.ndarray] = []
    for rows in groups:
        if all(len(np.intersect1d(rows, one)) <= 0.5 * min(len(rows), len(one)) for one in kept):
            kept.append(rows)
    return kept[:most]


@pytest.mark.parametrize(("kind", "direction"), [("linear", "increase"), ("logistic", "decrease")])
def test_nine_of_the_true_top_ten(kind, direction):
    """Every group of up to two conditions is refitted by scikit-learn."""
    frame, signal = table(301, 3)
    y = signal if kind == "linear" else (signal > 0).astype(int)
    model = GroupInfluence.fit(frame[:300], y[:300], estimator=kind, l2=L2)
    asked = "age:4,dose:4,site,sex,arm"
    how = {"support": 20, "columns": asked, "direction": direction, "verify": True}
    found = model.describe(2, frame[300:], y[300:], **how).records()
    sign = 1.0 if direction == "increase" else -1.0
    alone = model.describe(1, frame[300:], y[300:], **(how | {"columns": "site,sex,arm", "top": 8})).records()
    assert 0 < len(alone) < 8  # the others move it the other way
    assert all(sign * record["actual"] > 0 for record in alone)
    columns, X = model.model.dataset.columns_train, model.model.dataset.X_train
    conditions = [[one.text for one in cut.conditions] for cut in cut_columns(columns, asked, 20)]
    texts = [text for own in conditions for text in own]
    texts += [f"{one},{two}" for first, second in combinations(conditions, 2) for one in first for two in second]
    groups, size, tried = {}, {"": 300}, 0
    for text in texts:
        try:
            rows = rows_where(columns, parse_conditions(text))
        except UsageError:
            continue
        size[text] = len(rows)
        if 20 <= len(rows) <= 150:
            groups[rows.tobytes()] = rows
            tried += all(len(rows) < size[part] for part in (text.split(",") if "," in text else [""]))
    x, own = model.made.with_tests(frame[300:], None)[0].X_test, y[300]
    base = refitted_loss(kind, X, y[:300], np.array([], dtype=int), x, own)
    change = {key: refitted_loss(kind, X, y[:300], rows, x, own) - base for key, rows in groups.items()}
    ordered = sorted(groups.values(), key=lambda rows: -sign * change[rows.tobytes()] / len(rows))
    true = {rows.tobytes() for rows in apart(ordered, 10)}
    assert len(found) == 10
    assert len(groups) > 200
    assert {record["tried"] for record in found} == {tried}
    assert max(record["size"] for record in found) <= 150
    mine = [np.array(record["rows"]).tobytes() for record in found]
    assert len(true & set(mine)) >= 9
    for key, record in zip(mine, found, strict=True):
        actual = change[key]
        assert record["actual"] == pytest.approx(actual, rel=1e-4)
        assert abs(record["estimate"] - actual) <= record["error"] + 1e-6
        assert record["error"] <= 0.002 * abs(record["estimate"])
        assert record["per_percent"] == pytest.approx(record["estimate"] / record["size"] * 3.0)


def test_one_parameter_is_its_newton_step():
    """Of a linear regression through the origin on one feature that is the truth."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(size=40)
    for l2, scaling in ((0.0, "per-mean"), (0.0, "per-sum"), (0.7, "per-mean"), (0.7, "per-sum")):
        model = GroupInfluence.fit(x[:, None], y, estimator="linear", l2=l2, fit_intercept=False)
        problem = problem_of(model, scaling)
        effects = RowEffects(Expansion(problem))
        for rows in ([0], [3, 8, 9], list(range(20))):
            kept = np.delete(np.arange(40), rows)
            of = len(kept) if scaling == "per-mean" else 40
            actual = (x[kept] @ y[kept]) / (x[kept] @ x[kept] + l2 * of) - (x @ y) / (x @ x + l2 * 40)
            assert effects.worth(effects.rows[:, rows].sum(axis=1)) == pytest.approx(actual / len(rows), rel=1e-9)


def problem_of(model: GroupInfluence, scaling: str):
    from influence_cli.core.quantities import ParameterTarget
    from influence_cli.core.selection.problem import Problem

    own = model.model
    rows = np.arange(own.dataset.rows)
    return Problem(own.objective, own.theta, model.solver, ParameterTarget(0), 5, scaling, rows)


def test_passes_do_not_depend_on_the_number_of_groups(monkeypatch):
    frame, y = table(400, 1)
    model = GroupInfluence.fit(frame, y, estimator="linear", l2=L2)
    seen = []
    for bins in (2, 20):
        columns = cut_columns(model.model.dataset.columns_train, f"age:{bins},dose:{bins},site", 5)
        problem = problem_of(model, "per-mean")
        with counted_passes(monkeypatch, 1, rows=400) as counted:
            found = describe(Expansion(problem), [one.cells for one in columns], 2, 5)
        seen.append((counted.passes, found.tried))
    assert 0 < seen[1][0] <= seen[0][0] < 10
    assert seen[1][1] > 20 * seen[0][1]


def test_a_third_condition():
    """A group of three conditions whose labels are turned about is named, and what holds it is not named beside it."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({name: rng.choice(list("uvw"), 900) for name in "abcd"})
    x = rng.normal(size=900)
    bad = (frame["a"] == "u") & (frame["b"] == "v") & (frame["c"] == "w")
    frame["x"] = x
    y = np.where(bad, -3.0, 1.0) * x + 0.1 * rng.normal(size=900)
    model = GroupInfluence.fit(frame[["x"]], y, estimator="linear", l2=1e-6)
    dataset = model.model.dataset
    object.__setattr__(dataset, "columns_train", {name: frame[name].to_numpy(object) for name in "abcd"})
    found = model.describe(3, quantity="param:x", support=20, top=3).records()
    assert found[0]["group"] == "column:a=u,b=v,c=w"
    assert found[0]["size"] == bad.sum()
    shares = [len(np.intersect1d(found[0]["rows"], other["rows"])) / bad.sum() for other in found[1:]]
    assert max(shares) <= 0.5
    every = model.describe(3, quantity="param:x", support=5, columns="a,b,c").records()
    assert every[0]["tried"] == 9 + 27 + 27
    object.__setattr__(dataset, "columns_train", {name: frame["a"].to_numpy(object) for name in "ae"})
    assert model.describe(2, quantity="param:x", support=5).records()[0]["tried"] == 3 + 3  # both say the same


def test_conditions_read_back_as_their_rows():
    rng = np.random.default_rng(2)
    days = np.array([f"2024-01-{day:02d}" for day in range(1, 29)], dtype=object)
    columns = {
        'a "b",c=d': rng.choice(np.array(["x,y=z", "p&q", '"r"', "1..2", " s ", None], dtype=object), 300),
        "n": rng.choice([-2.5, -1.0, 0.0, 1e-7, np.nan], 300),
        "k": rng.integers(-50, 50, 300),
        "day": rng.choice(days, 300),
        "name": np.array([f"row{row}" for row in range(300)], dtype=object),
        "same": np.array(["s"] * 300, dtype=object),
    }
    cut = cut_columns(columns, None, 10)
    assert [one.name for one in cut] == ['a "b",c=d', "n", "k", "day"]
    for one in cut:
        for at, condition in enumerate(one.conditions):
            rows = np.flatnonzero(one.cells.mask(at))
            assert len(rows) >= 10
            np.testing.assert_array_equal(rows_where(columns, parse_conditions(condition.text)), rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("describe")
    frame, signal = table(400, 3)
    frame.assign(ill=np.where(signal > 0, "yes", "no")).to_csv(folder / "t.csv", index=False)
    train(str(folder / "t.csv"), folder / "t.h5", "--label", "ill", "--l2", str(L2))
    return folder


def test_a_found_group_can_be_asked_for(folder, capsys):
    model = ["--model", str(folder / "t.h5"), "--quiet", "--test", "3"]
    saved = str(folder / "found.h5")
    assert run(["select", *model, "--describe", "2", "--verify", "--top", "3", "-o", saved, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 3
    keys = list(found[0])
    assert keys[:6] == ["strategy", "size", "test", "predicted_first", "predicted_second", "actual"]
    assert keys[keys.index("status") :][1:6] == ["group", "estimate", "error", "per_percent", "tried"]
    assert run(["groundtruth", *model, "--group", found[0]["group"], "--format", "csv"]) == 0
    assert values_of(capsys.readouterr().out, "actual") == pytest.approx([found[0]["actual"]], rel=1e-6)
    assert run(["influence", *model, "--groups", saved, "--format", "csv"]) == 0
    assert values_of(capsys.readouterr().out, "refined") == pytest.approx([one["estimate"] for one in found], rel=0.05)
    assert run(["report", str(folder / "t.h5"), saved, "-o", str(folder / "page.md"), "--quiet"]) == 0
    page = (folder / "page.md").read_text()
    assert "--describe 2" in page and "--top 3" in page
    assert run(["select", *model, "--describe", "2", "--verify", "--top", "3", "--format", "table"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert f"--group {shlex.quote(found[0]['group'])}" in text
    assert run(["select", *model, "--describe", "1", "--format", "rows"]) == 0
    assert len(capsys.readouterr().out.split()) >= 20


def test_steps_that_are_made_again(tmp_path, capsys):
    """Where imputed values and scales change with the group, estimates and curves know it, and the label describes
    nothing unless asked."""
    frame, signal = table(300, 4)
    frame["dose"] = frame["dose"].mask(np.arange(300) % 9 == 0)
    frame.assign(ill=np.where(signal > 0, "yes", "no")).to_csv(tmp_path / "t.csv", index=False)
    train(str(tmp_path / "t.csv"), tmp_path / "t.h5", "--label", "ill", "--impute", "median", "--standardize")
    model = ["--model", str(tmp_path / "t.h5"), "--test", "2", "--verify", "--format", "json"]
    for line in (["--describe", "1", "--top", "4"], ["--sizes", "5%,10%", "--draws", "2"]):
        capsys.readouterr()
        assert run(["select", *model, *line]) == 0
        found = json.loads(capsys.readouterr().out)
        for record in found:
            assert abs(record["estimate"] - record["actual"]) <= record["error"] + 1e-6
            assert "ill" not in record.get("group", "")
    assert run(["select", *model, "--describe", "2", "--columns", "ill,sex"]) == 0
    assert "ill=" in json.loads(capsys.readouterr().out)[0]["group"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--describe", "2", "--size", "5"], "--describe and --size exclude each other"),
        (["--describe", "2", "--flip"], "--describe and --flip exclude each other"),
        (["--describe", "9"], "expected 1 to 6 conditions"),
        (["--support", "5"], "--support is for described groups"),
        (["--describe", "2", "--support", "320"], "320 rows are all of them"),
        (["--describe", "2", "--support", "161"], "at most half of the 320 rows, 160, and at least 161"),
        (["--describe", "2", "--columns", "ages"], "found 'ages'"),
        (["--describe", "2", "--columns", "zzz"], "For example: --columns "),
        (["--describe", "1", "--support", "45%", "--columns", "arm"], "no column has values or ranges"),
    ],
)
def test_refused(folder, capsys, options, sentence):
    assert run(["select", "--model", str(folder / "t.h5"), "--test", "3", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_data_without_columns_and_nothing_found(tmp_path, capsys):
    model = GroupInfluence.fit(np.random.default_rng(0).normal(size=(50, 2)), np.arange(50) % 2, l2=0.1)
    with pytest.raises(UsageError, match="no named columns"):
        model.describe(2, np.zeros((1, 2)), [0])
