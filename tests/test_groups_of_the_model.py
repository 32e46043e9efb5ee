"""Groups that the fitted model decides: the rows of largest loss, and rows with like gradients."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import UsageError
from influence_cli.specs.draws import seed_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + RNG.logistic(size=120) > 0).astype(int)


@pytest.fixture(scope="module")
def fitted():
    """scikit-learn's model with the same penalty: residuals (m,) and losses (m,)."""
    model = LogisticRegression(C=1 / (0.01 * len(X)), tol=1e-12, max_iter=1000).fit(X, Y)
    p = model.predict_proba(X)
    return p[:, 1] - Y, -np.log(p[np.arange(len(Y)), Y])


def test_the_tail_is_the_rows_of_largest_loss(fitted):
    model = GroupInfluence.fit(X, Y, l2=0.01)
    plan = model._plan("tail:5%", 0)
    assert plan.rows(0).tolist() == sorted(np.argsort(-fitted[1])[:6].tolist())
    (found,) = model.influence("tail:5%", X[:1], Y[:1]).records()
    assert (found["group"], found["kind"], found["size"]) == ("tail:5%", "tail", 6)


def test_gradients_are_clusters_of_the_gradients_of_the_loss(fitted):
    model = GroupInfluence.fit(X, Y, l2=0.01)
    plan = model._plan("gradients:4", 3)
    gradients = fitted[0][:, None] * np.c_[X, np.ones(len(X))]
    members = KMeans(4, n_init=1, random_state=seed_of(3, "gradients:4", 0) % 2**32).fit_predict(gradients)
    expected = sorted(np.flatnonzero(members == one).tolist() for one in range(4))
    assert sorted(plan.rows(index).tolist() for index in range(4)) == expected
    assert plan.label == tuple(f"gradients:4#{number}" for number in range(4))


@pytest.mark.parametrize("estimator", ["linear", "mlp"])
def test_every_kind_of_model_has_them(estimator):
    options = {"hidden": (4,)} if estimator == "mlp" else {}
    model = GroupInfluence.fit(X, Y if estimator == "mlp" else X[:, 0] + Y, estimator=estimator, **options)
    sizes = [record["size"] for record in model.influence(["tail:7", "gradients:3"], X[:1], Y[:1]).records()]
    assert sizes[0] == 7 and sum(sizes[1:]) == len(X)


def test_on_the_command_line_and_in_files_that_ginf_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(X, columns=list("abc")).assign(y=Y).to_csv("d.csv", index=False)
    assert run(["train", "--data", "d.csv", "--label", "y", "-o", "m.h5", "--quiet"]) == 0
    ask = ["influence", "-m", "m.h5", "--test", "0", "--method", "first", "--quiet", "--format", "json"]
    capsys.readouterr()
    assert run([*ask, "--group", "gradients:3", "--group", "tail:4", "-o", "i.h5"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run([*ask, "--groups", "i.h5"]) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("tail:5%x3", "nothing is random in the rows of largest loss"),
        ("tail:", "expected tail:SIZE, found nothing"),
        ("tail:100%", "nothing would be left to train on"),
        ("gradients:1", "expected a number of clusters of at least 2"),
        ("gradients:500", "expected at most 120 clusters"),
        ("tial:5%", "found 'tial'"),
    ],
)
def test_mistakes_are_told(group, says):
    with pytest.raises(UsageError) as failure:
        GroupInfluence.fit(X, Y).influence(group, X[:1], Y[:1])
    assert says in str(failure.value)
