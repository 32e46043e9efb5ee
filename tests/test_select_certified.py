"""What ``select --certify`` says to be proven, against dense refits and scikit-learn's."""

import json
from itertools import pairwise

import numpy as np
import pytest
from cli_tools import save_blobs, train
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence
from influence_cli.artifacts.selection import load_selection
from influence_cli.cli import run
from influence_cli.errors import UsageError


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(1)
    X, at = rng.normal(size=(60, 3)), rng.normal(size=(8, 3))
    y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    return X, y, at, GroupInfluence.fit(X, y, estimator="logistic", C=1.0)


def score(X, y, at, without):
    """Log-odds of class 1 at one row."""
    kept = np.setdiff1d(np.arange(len(X)), without)
    return LogisticRegression(C=1.0, tol=1e-12, max_iter=1000).fit(X[kept], y[kept]).decision_function(at)[0]


def test_a_winner_is_proven_where_it_is_the_best(problem):
    X, y, at, model = problem
    pool = [list(range(first, first + 5)) for first in range(0, 60, 5)]
    for direction, sign in (("increase", 1.0), ("decrease", -1.0)):
        asked = {"quantity": "margin", "direction": direction, "verify": True, "certify": 0.01}
        found = model.select(1, at[:1], [1], candidates=pool, strategies="greedy", **asked).records()
        before = score(X, y, at[:1], [])
        changes = [score(X, y, at[:1], rows) - before for rows in pool]
        best = int(np.argmax(sign * np.array(changes)))
        winners = [record["rows"] for record in found if record["proven"]]
        assert winners == [pool[best]] * 2  # by itself, and as the union of one that greedy finds
        assert [record["proven"] for record in found].count(None) == len(pool) - 1
        for record in found:
            change = score(X, y, at[:1], record["rows"]) - before
            assert record["low"] - 1e-5 <= change <= record["high"] + 1e-5
            assert record["high"] - record["low"] <= 0.01 * abs(record["actual"])


def test_intervals_that_overlap_prove_nothing(problem):
    """Two copies of a row have one effect, so that neither is the best."""
    X, y, at, _ = problem
    X, y = np.vstack([X, X[:1]]), np.append(y, y[0])
    model = GroupInfluence.fit(X, y, estimator="logistic", C=1.0)
    asked = {"quantity": "margin", "verify": True, "certify": 0.01, "strategies": "greedy"}
    found = model.select(1, at[:1], [int(y[0])], candidates=[[0], [60]], direction="decrease", **asked).records()
    assert False in {record["proven"] for record in found}
    assert True not in {record["proven"] for record in found}


def test_a_group_alone_is_compared_with_nothing(problem):
    _, _, at, model = problem
    (found,) = model.select(2, at[:1], [1], strategies="greedy", verify=True, certify=0.01).records()
    assert found["proven"] is None and found["low"] <= found["actual"] <= found["high"]
    with pytest.raises(UsageError, match="certify proves what retraining found"):
        model.select(2, at[:1], [1], certify=0.01)


def test_a_flip_is_proven(problem):
    X, y, at, model = problem
    found = model.select(None, at, quantity="margin", flip=True, certify=0.5).records()
    assert any(record["flips"] for record in found)
    for record in found:
        if not record["flips"]:
            assert record["proven"] is None and record["low"] is None
            continue
        row = at[record["test"] : record["test"] + 1]
        before, after = score(X, y, row, []), score(X, y, row, record["rows"])
        assert before * after < 0 and record["proven"] is True
        sign = np.sign(before)  # the margin is that of the class that is predicted
        assert record["base"] + record["low"] - 1e-5 <= sign * after <= record["base"] + record["high"] + 1e-5
        assert record["base"] + record["high"] < 0 < record["base"]


def test_nothing_is_proven_without_a_penalty():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    model = GroupInfluence.fit(X, X[:, 0] + rng.normal(size=30), estimator="linear", l2=0)
    (found,) = model.select(None, quantity="t:x0", flip=True, flip_of="significance", certify=0.1).records()
    assert found["low"] is None and found["proven"] is (False if found["flips"] else None)


def test_the_command_says_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(save_blobs(tmp_path / "b.npz"), tmp_path / "b.h5", "--l2", "0.01")
    asked = ["select", "-m", "b.h5", "-t", "0", "--size", "5", "--strategy", "random,greedy", "--verify"]
    capsys.readouterr()
    assert run([*asked, "--certify", "1%", "--draws", "4", "-o", "s.h5", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [record["proven"] for record in found] == [None, True]
    keys = list(found[0])
    assert [(a, b) for a, b in pairwise(keys) if a in ("low", "high")] == [("low", "high"), ("high", "proven")]
    assert [record["proven"] for record in load_selection("s.h5").entries] == [None, True]
    assert run(["show", "s.h5", "--format", "table"]) == 0
    shown = capsys.readouterr().out
    assert "greedy: best by retraining of the groups compared, which is proven" in " ".join(shown.split())
    assert run(["report", "s.h5", "-o", "s.md"]) == 0
    assert "which is proven" in (tmp_path / "s.md").read_text()
    capsys.readouterr()
    for wrong, said in (
        (["--size", "5", "--certify", "1%"], "--certify proves what retraining found\nhint: add --verify"),
        (["--size", "5", "--verify", "--certify", "2"], "--certify must be a share over 0 and below 1, found '2'"),
        (["--describe", "1", "--verify", "--certify", "1%"], "--describe and --certify exclude each other"),
        (["--sizes", "5,10", "--verify", "--certify", "1%"], "--sizes and --certify exclude each other"),
    ):
        assert run(["select", "-m", "b.h5", "-t", "0", *wrong]) == 2
        assert said in capsys.readouterr().err
