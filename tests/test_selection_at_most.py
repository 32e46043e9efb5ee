"""Groups of at most k rows, and what is said to be optimal: enumeration is the oracle."""

import json
from itertools import combinations

import numpy as np
import pytest
from cli_tools import save_regression, train
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influence_cli.api import GroupInfluence
from influence_cli.cli import run

ROWS = 14


def data(seed: int, features: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(ROWS, features))
    signal = X[:, 0] + rng.normal(size=ROWS)
    return X, (signal > 0).astype(int) if kind == "logistic" else signal


def best_by_enumeration(model: GroupInfluence, sizes: range, sign: float, **asked) -> float:
    groups = [list(rows) for size in sizes for rows in combinations(range(ROWS), size)]
    return max(sign * record["actual"] for record in model.groundtruth(groups, **asked).records())


@pytest.mark.parametrize("kind", ["linear", "logistic"])
@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_one_regressor_is_optimal(kind, scaling):
    for seed in range(2):
        X, y = data(seed, 1, kind)
        model = GroupInfluence.fit(X, y, estimator=kind, l2=0.05, penalty_scaling=scaling, fit_intercept=False)
        for direction, sign in (("increase", 1.0), ("decrease", -1.0)):
            how = {"quantity": "param:x0", "direction": direction, "verify": True}
            (found,) = model.select(3, strategies="relinearize", **how).records()
            best = best_by_enumeration(model, range(3, 4), sign, quantity="param:x0")
            assert found["optimal"] is True
            assert sign * found["actual"] == pytest.approx(best, rel=1e-6)
            (found,) = model.select(3, at_most=True, strategies="relinearize", **how).records()
            best = best_by_enumeration(model, range(1, 4), sign, quantity="param:x0")
            assert found["optimal"] is True
            assert sign * found["actual"] == pytest.approx(best, rel=1e-6)
            assert found["size"] <= found["at_most"] == 3


def test_what_is_not_shown_to_be_optimal():
    """A loss falls and rises with the parameter, sizes are left out of 13, a round is too few, and what is made again
    without the group has another optimum and another bound."""
    rng = np.random.default_rng(3)
    X, x = rng.normal(size=(40, 1)), np.ones((1, 1))
    y = X[:, 0] + rng.normal(size=40)
    one = {"strategies": "relinearize", "quantity": "param:x0"}
    how = {"estimator": "linear", "l2": 0.05, "fit_intercept": False}
    model = GroupInfluence.fit(X, y, **how)
    assert model.select(13, **one).records()[0]["optimal"] is True
    assert model.select(13, at_most=True, **one).records()[0]["optimal"] is None
    assert model.select(3, x, [0.5], strategies="relinearize").records()[0]["optimal"] is None
    few = model.select(13, rounds=1, **one).records()[0]
    assert few["status"].startswith("stopped after 1 rounds") and few["optimal"] is None
    assert few["bound"] is not None
    pipeline = make_pipeline(StandardScaler(), Ridge(alpha=2.0, fit_intercept=False)).fit(X, y)
    made_again = GroupInfluence.from_sklearn(pipeline, X, y).select(3, **one).records()[0]
    assert made_again["optimal"] is None and made_again["bound"] is None


def test_at_most_finds_what_enumeration_finds():
    """Where removing another row harms, fewer are taken; where the loss is not monotone, nothing is called optimal."""
    fewer, hits = 0, 0
    for seed in range(3):
        X, y = data(seed, 2, "linear")
        model = GroupInfluence.fit(X[:, :2], y, estimator="linear", l2=0.05)
        asked = {"X_test": np.array([[0.2, -0.3]]), "y_test": [0.1]}
        best = best_by_enumeration(model, range(1, 4), -1.0, **asked)
        (found,) = model.select(3, at_most=True, direction="decrease", verify=True, **asked).records()
        assert found["optimal"] is None
        assert -found["actual"] <= best * (1 + 1e-9)
        hits += -found["actual"] > 0.999 * best
        fewer += found["size"] < 3
    assert hits >= 2
    assert fewer >= 1


def test_exact_is_optimal():
    X, y = data(1, 2, "linear")
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.05)
    found = model.select(2, np.zeros((1, 2)), [0.5], strategies=("greedy", "exact")).records()
    assert [record["optimal"] for record in found] == [None, True]


def test_command(tmp_path, capsys):
    train(save_regression(tmp_path / "line.npz"), tmp_path / "line.h5", "--estimator", "linear", "--l2", "0.01")
    capsys.readouterr()
    line = ["select", "--model", str(tmp_path / "line.h5"), "--quiet", "--test", "1", "--size", "6", "--at-most"]
    one = ["--strategy", "relinearize"]
    assert run([*line, "--direction", "decrease", "--verify", "--format", "json", *one]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["size"] <= found["at_most"] == 6
    assert len(found["rows"]) == found["size"]
    assert run([*line, *one, "--format", "table"]) == 0
    assert "relinearize" in capsys.readouterr().out
    within = ["--within", "rows:0,1,2,3,4,5,6,7,8,9,10,11"]
    assert run([*line, *one, *within, "--format", "table"]) == 0
    assert "which holds for what is proven as well" in " ".join(capsys.readouterr().out.split())
    assert run([*line, "--flip"]) == 2
    assert "--at-most is for --size of rows" in capsys.readouterr().err
