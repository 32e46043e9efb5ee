"""M^-1 for the penalties of features that are standardised again, and refined estimates that rest on it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from core_cases import relative_error

from influence_cli.cli import run
from influence_cli.core.solvers.preconditioners import for_columns, with_terms

ROWS, COLUMNS = 72, 2500


def test_terms_are_those_of_the_dense_inverse():
    rng = np.random.default_rng(0)
    K, D, G = 3, 5, 4
    root = rng.normal(size=(K * D, K * D))
    M = root @ root.T + np.eye(K * D)
    along = rng.normal(size=(2, D, G)) * np.array([9.0, 0.3])[:, None, None]
    found = with_terms(lambda r: np.linalg.solve(M, r), along, np.array([1.0, -1.0]), K)
    r = rng.normal(size=(K * D, G))
    for columns in (np.arange(G), np.array([3, 1])):
        expected = np.empty((K * D, len(columns)))
        for at, g in enumerate(columns):
            terms = np.outer(along[0, :, g], along[0, :, g]) - np.outer(along[1, :, g], along[1, :, g])
            expected[:, at] = np.linalg.solve(M + np.kron(np.eye(K), terms), r[:, g])
        assert relative_error(for_columns(found, columns)(r[:, columns]), expected) < 1e-10


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Far more columns than rows, of which a few tell three classes apart."""
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=ROWS)
    X = rng.normal(size=(ROWS, COLUMNS)) + (rng.normal(size=(3, COLUMNS)) * (rng.random(COLUMNS) < 0.05))[label]
    path = tmp_path_factory.mktemp("wide") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow([*(f"g{j}" for j in range(COLUMNS)), "label"])
        out.writerows([*row, f"c{code}"] for row, code in zip(X.round(4).tolist(), label.tolist(), strict=True))
    return path


@pytest.mark.parametrize("strength", ["1", "0.01"])
def test_a_penalised_intercept_of_features_standardised_again_is_not_given_up_too_early(table, strength, capsys):
    model = str(table.with_name(f"m{strength}.h5"))
    asked = ("--label", "label", "--C", strength, "--penalize-intercept", "-o", model)
    assert run(["train", "--data", str(table), *asked, "--quiet"]) == 0
    capsys.readouterr()
    groups = ("--group", "coherent:*", "--group", "random:30%x6")
    given = ("--test", "0:6", "--method", "refined", "--verify", "--format", "csv", "--quiet")
    assert run(["influence", "--model", model, *groups, *given]) == 0
    records = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    pairs = [(float(one["refined"]), float(one["actual"])) for one in records if one["status"] == "ok"]
    assert len(pairs) > 20
    off = np.array([abs(refined - actual) / abs(actual) for refined, actual in pairs])
    assert (off <= 0.05).mean() >= 0.95 and off.max() <= 0.2, np.sort(off)[-8:]
