"""Signs that hang on a few rows, on published data: found, refitted, and no larger than greedy with refits finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.datasets import load_iris

from influence_cli import GroupInfluence

CLASSICS = Path(__file__).parent.parent / "sample_data" / "classics"


def stars():
    """47 stars of CYG OB1, whose giants turn the slope (Rousseeuw and Leroy 1987)."""
    table = pd.read_csv(CLASSICS / "stars.csv")
    return table[["log_temperature"]], table["log_light"], "log_temperature"


def penguins():
    """342 penguins: deeper bills are longer in every species, and shorter in all together (Horst et al. 2020)."""
    table = pd.read_csv(CLASSICS / "penguins.csv")
    return table[["bill_length_mm"]], table["bill_depth_mm"], "bill_length_mm"


def iris():
    """150 irises, the same of sepals (Fisher 1936)."""
    X = load_iris().data
    return pd.DataFrame({"length": X[:, 0]}), pd.Series(X[:, 1]), "length"


def longley():
    """16 years of American employment, hardly determined (Longley 1967)."""
    table = pd.read_csv(CLASSICS / "longley.csv", index_col="Obs")
    return table.drop(columns="TOTEMP").astype(float), table["TOTEMP"].astype(float), "GNPDEFL"


def one_outlier():
    """1,000 rows of a falling line, and one row far out that makes it rise (after Huang et al. 2024)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    y = -x + rng.normal(size=1000)
    return pd.DataFrame({"x": np.append(x, 1e3)}), pd.Series(np.append(y, 1e3)), "x"


def coefficient(X, y, at, gone=()):
    kept = np.setdiff1d(np.arange(len(y)), gone)
    one = np.column_stack([X, np.ones(len(X))])[kept]
    return float(np.linalg.lstsq(one / np.abs(one).max(axis=0), y[kept], rcond=None)[0][at])


def rows_of_greedy(X, y, at, most):
    """How many rows it takes to drop, each time after a refit, the one whose exact removal moves the sign most."""
    gone, sign = [], np.sign(coefficient(X, y, at))
    one = np.column_stack([X, np.ones(len(X))])
    one = one / np.abs(one).max(axis=0)
    while len(gone) < most:
        kept = np.setdiff1d(np.arange(len(y)), gone)
        inverse = np.linalg.inv(one[kept].T @ one[kept])
        theta = inverse @ (one[kept].T @ y[kept])
        residual = y[kept] - one[kept] @ theta
        moves = one[kept] @ inverse
        changes = -(moves[:, at] * residual) / (1 - (moves * one[kept]).sum(axis=1))
        gone.append(int(kept[np.argmin(sign * changes)]))
        if np.sign(coefficient(X, y, at, gone)) != sign:
            break
    return len(gone)


@pytest.mark.parametrize(
    ("data", "before", "size"),
    [
        (stars, -0.41330, 4),
        (penguins, -0.08502, 64),
        (iris, -0.06188, 11),
        (longley, 15.0619, 1),
        (one_outlier, 0.998, 1),
    ],
    ids=lambda own: getattr(own, "__name__", ""),
)
def test_the_rows_that_turn_a_sign_are_found_and_few(data, before, size):
    X, y, name = data()
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
    at = list(X.columns).index(name)
    values, response = X.to_numpy(float), y.to_numpy(float)
    assert model.model.theta[at, 0] == pytest.approx(before, abs=6e-4)
    (found,) = model.select(None, flip=True, quantity=f"param:{name}").records()
    rows = found["rows"]
    assert len(rows) <= min(size, rows_of_greedy(values, response, at, size))
    sign = np.sign(before)
    assert np.sign(coefficient(values, response, at, rows)) == -sign
    for row in rows:
        assert np.sign(coefficient(values, response, at, np.setdiff1d(rows, [row]))) == sign
    if len(rows) in (2, 3):
        assert all(np.sign(coefficient(values, response, at, [row])) == sign for row in range(len(y)))


def test_two_departments_turn_berkeleys_admissions():
    """4,526 applicants of 1973 (Bickel, Hammel and O'Connell 1975), each cell of the table a weighted row."""
    table = pd.read_csv(CLASSICS / "berkeley.csv")
    male = (table["sex"] == "male").to_numpy(float)[:, None]
    counts = table["applicants"].to_numpy(float)
    model = GroupInfluence.fit(male, table["admitted"], l2=0.0, sample_weight=counts)
    groups = {"A and B": table["department"].isin(["A", "B"]).to_numpy()}
    groups |= {letter: (table["department"] == letter).to_numpy() for letter in "ABCDEF"}
    records = model.influence(groups, quantity="param:x0", verify=True).records()

    def log_odds_ratio(kept):
        rows = table[kept].pivot_table(index="sex", columns="admitted", values="applicants", aggfunc="sum")
        odds = rows["yes"] / rows["no"]
        return float(np.log(odds["male"] / odds["female"]))

    whole = log_odds_ratio(counts > 0)
    assert whole == pytest.approx(0.61035, abs=1e-5)
    for record, gone in zip(records, groups.values(), strict=True):
        assert record["base"] + record["actual"] == pytest.approx(log_odds_ratio(~gone), abs=1e-7)
        assert record["refined"] == pytest.approx(record["actual"], rel=0.05)
    after = [record["base"] + record["actual"] for record in records]
    assert after[0] < 0 < min(after[1:]), "no department alone turns the sign, the two together do"
    peer = sm.GLM(
        (table["admitted"] == "yes").astype(float), sm.add_constant(male), sm.families.Binomial(), freq_weights=counts
    )
    assert model.model.theta[0, 0] == pytest.approx(peer.fit().params.iloc[-1], abs=1e-7)
