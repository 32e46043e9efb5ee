"""Linear figures from row-wise sums: the same as group by group, for every row, for partitions, with what is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from cli_tools import save_blobs, save_regression

from influence_cli import GroupInfluence
from influence_cli.analysis import by_rows, question
from influence_cli.analysis import influence as module
from influence_cli.analysis.influence import influence
from influence_cli.analysis.question import TestRows
from influence_cli.analysis.reliability import Estimation
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.row_changes import BY_ROWS
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.load import load
from influence_cli.errors import UsageError
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import fit
from influence_cli.results import OK, UNCERTAIN, Provenance
from influence_cli.specs.from_python import train_rows
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import plan_groups

NOWHERE = Provenance("", "", {})


def model_of(kind, folder):
    if kind == "softmax":
        data = load(save_blobs(folder / "b.npz"), task="classification")
        return fit(data, ModelSettings("logistic", 0.05, "per-mean", True, False, 1e-12))
    data = load(save_regression(folder / "r.npz"), task="regression")
    return fit(data, ModelSettings("linear", 0.05, "per-sum", True, False, 1e-12))


def plan_of(model, *specs):
    data = model.dataset
    return plan_groups([parse_group(spec) for spec in specs], train_rows(data), seed=0)


def run(model, plan, tests, methods=BY_ROWS):
    solver = make_solver(model.objective, model.theta, "cholesky")
    asked = question.ask(model, TestRows(np.array(tests)), "loss")
    return influence(asked, solver, plan, Estimation(methods, "linear"), provenance=NOWHERE)


@pytest.mark.parametrize("specs", [("rows:each",), ("rows:each", "random:20%x3"), ("random:20%x7", "random:1x3")])
@pytest.mark.parametrize("kind", ["softmax", "regression"])
@pytest.mark.parametrize("pieces", ["whole", "small"])
def test_the_figures_are_those_of_group_by_group(kind, specs, pieces, tmp_path, monkeypatch):
    model, tests = model_of(kind, tmp_path), [3, 0, 7, 5]
    plan = plan_of(model, *specs)
    with monkeypatch.context() as patch:
        patch.setattr(module, "serves", lambda *arguments: False)
        expected = run(model, plan, tests)
    if pieces == "small":
        monkeypatch.setattr(by_rows, "BYTES", 1.0)
        monkeypatch.setattr(by_rows, "TOGETHER", 30)
    found = run(model, plan, tests)
    for method in BY_ROWS:
        scale = np.abs(expected.values[method]).max()
        np.testing.assert_allclose(found.values[method], expected.values[method], rtol=1e-9, atol=1e-12 * scale)
    assert found.status == expected.status == (OK,) * len(plan)
    assert list(found.groups.digest) == list(expected.groups.digest)
    assert (found.groups.label, found.groups.kind) == (expected.groups.label, expected.groups.kind)
    assert found.base.tobytes() == expected.base.tobytes()


def test_every_row_is_named_as_a_group_of_one_row(tmp_path):
    model = model_of("regression", tmp_path)
    plan = plan_of(model, "rows:each")
    single = plan_of(model, "rows:17")
    assert plan.each_row and not single.each_row
    assert len(plan) == model.dataset.rows
    assert (plan.label[17], plan.kind[17], plan.size[17]) == (single.label[0], single.kind[0], single.size[0])
    assert plan.rows(17).tolist() == [17]
    assert plan.group(17).digest == hashlib.sha256((17).to_bytes(8, "little")).hexdigest()
    assert [group.label for group in plan.groups[2:4]] == ["rows:2", "rows:3"]
    with pytest.raises(UsageError, match="asked for by 'rows:each' and by 'rows:17'"):
        plan_of(model, "rows:each", "rows:17")


def test_one_pass_serves_all_groups(tmp_path, monkeypatch):
    model, seen = model_of("softmax", tmp_path), []
    original = Glm.row_products

    def counted(self, theta, V):
        seen.append(V.shape[1])
        return original(self, theta, V)

    monkeypatch.setattr(Glm, "row_products", counted)
    run(model, plan_of(model, "rows:each"), [1, 2, 3], methods=("first",))
    assert seen == [3]


@pytest.mark.parametrize("penalize", [False, True])
def test_standardising_again_without_each_row_is_taken_in(penalize):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    X = rng.normal(3.0, [1.0, 20.0, 0.1], size=(60, 3))
    y = (X[:, 0] + rng.normal(size=60) > 3.0).astype(int)
    model = GroupInfluence.from_sklearn(make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, y), X, y)
    options = {"methods": ["first-koh", "first", "rif"], "evaluate": "linear"}
    if penalize:
        options["preprocessing"] = "frozen"
    every = model.influence("rows:each", X[:2], y[:2], **options)
    single = model.influence([[4], [59]], X[:2], y[:2], **options)
    for method in options["methods"]:
        np.testing.assert_allclose(every.values[method][[4, 59]], single.values[method], rtol=1e-9)


def test_a_row_of_leverage_one_and_a_class_of_one_row_are_told():
    rng = np.random.default_rng(1)
    X = np.zeros((30, 3))
    X[:, :2] = rng.normal(size=(30, 2))
    X[11, 2] = 1.0  # the only row with this feature
    y = X[:, 0] + rng.normal(size=30)
    line = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
    found = line.influence("rows:each", X[:1], y[:1], methods=["first", "rif"], quantity="loss", evaluate="linear")
    assert np.flatnonzero(np.isnan(found.values["rif"][:, 0])).tolist() == [11]
    assert [row for row, status in enumerate(found.status) if status != OK] == [11]
    assert "leverage 1" in found.status[11]
    assert np.isfinite(found.values["first"]).all()

    y = (X[:, 0] > 0).astype(int)
    y[5] = 2
    classes = GroupInfluence.fit(X[:, :2], y, l2=0.1)
    found = classes.influence("rows:each", X[:1, :2], y[:1], methods=["first"], quantity="logit:2", evaluate="linear")
    assert np.flatnonzero(found.ends[:, 0]).tolist() == [5]


@pytest.mark.parametrize("kind", ["softmax", "regression"])
def test_a_linear_change_of_the_loss_that_training_minimised_is_uncertain(kind, tmp_path):
    known = model_of(kind, tmp_path)
    data = replace(known.dataset, X_test=known.dataset.X_train, y_test=known.dataset.y_train)
    model = fit(data, known.settings)
    plan, solver = plan_of(model, "rows:each"), make_solver(model.objective, model.theta, "cholesky")

    def statuses(model, rows, evaluate="linear"):
        asked = question.ask(model, TestRows(rows, mean=True), "loss")
        return set(influence(asked, solver, plan, Estimation(("first",), evaluate), provenance=NOWHERE).status)

    every = np.arange(data.rows)
    (said,) = statuses(model, every)
    assert said.startswith(UNCERTAIN) and "ask for --evaluate exact" in said
    assert statuses(model, every, "exact") == {OK}
    assert statuses(model, every[1:]) == {OK}
    assert statuses(known, np.arange(len(known.dataset.y_test))) == {OK}
