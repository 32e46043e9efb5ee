"""Diagnostics against statsmodels, and of groups against refits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import GLMInfluence, OLSInfluence

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import ExitCode, UsageError

CLOSE = 1e-8


def data(kind, rows=60, columns=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)) * [1.0, 30.0, 0.2][:columns] + 0.5
    eta = X @ np.array([0.6, 0.02, -2.0])[:columns] + 0.2
    y = {
        "linear": eta + rng.normal(size=rows),
        "logistic": (eta + rng.logistic(size=rows) > 0).astype(int),
        "poisson": rng.poisson(np.exp(np.clip(eta, -3, 2))).astype(float),
    }[kind]
    return X, y


def frame(found, names):
    columns = found.columns()
    last_first = [*names[-1:], *names[:-1]]
    return columns, np.column_stack([columns[f"dfbetas:{name}"] for name in last_first])


@pytest.mark.parametrize("seed", range(3))
def test_linear_regression_is_as_statsmodels_has_it(seed):
    X, y = data("linear", seed=seed)
    found = GroupInfluence.fit(X, y, estimator="linear", l2=0.0, tol=1e-14).diagnostics()
    peer = OLSInfluence(sm.OLS(y, sm.add_constant(X)).fit())
    columns, dfbetas = frame(found, ["x0", "x1", "x2", "intercept"])
    np.testing.assert_allclose(columns["leverage"], peer.hat_matrix_diag, rtol=CLOSE)
    np.testing.assert_allclose(columns["cooks_distance"], peer.cooks_distance[0], rtol=CLOSE)
    np.testing.assert_allclose(columns["studentized"], peer.resid_studentized_external, rtol=CLOSE)
    np.testing.assert_allclose(columns["dffits"], peer.dffits[0], rtol=CLOSE)
    np.testing.assert_allclose(dfbetas, peer.dfbetas, rtol=CLOSE, atol=1e-10)
    assert columns["group"][7] == "rows:7"
    assert set(columns["status"]) == {"ok"}


@pytest.mark.parametrize(("kind", "family"), [("logistic", sm.families.Binomial()), ("poisson", sm.families.Poisson())])
def test_generalised_linear_models_are_as_statsmodels_has_them(kind, family):
    X, y = data(kind, rows=80)
    found = GroupInfluence.fit(X, y, estimator=kind, l2=0.0, tol=1e-14).diagnostics()
    fitted = sm.GLM(y, sm.add_constant(X), family=family).fit(tol=1e-14, maxiter=200)
    peer: GLMInfluence = fitted.get_influence()
    columns, dfbetas = frame(found, ["x0", "x1", "x2", "intercept"])
    np.testing.assert_allclose(columns["leverage"], peer.hat_matrix_diag, rtol=CLOSE)
    np.testing.assert_allclose(columns["cooks_distance"], peer.cooks_distance[0], rtol=CLOSE)
    np.testing.assert_allclose(columns["studentized"], peer.resid_studentized, rtol=CLOSE)
    np.testing.assert_allclose(columns["dffits"], peer.d_linpred_scaled, rtol=CLOSE)
    np.testing.assert_allclose(dfbetas, peer.dfbetas, rtol=CLOSE, atol=1e-10)


def test_weights_are_those_of_weighted_least_squares():
    X, y = data("linear")
    w = np.random.default_rng(3).uniform(0.5, 2.0, size=len(y))
    found = GroupInfluence.fit(X, y, estimator="linear", l2=0.0, sample_weight=w, tol=1e-14).diagnostics().columns()
    root = np.sqrt(w)
    peer = OLSInfluence(sm.OLS(root * y, root[:, None] * sm.add_constant(X)).fit())
    np.testing.assert_allclose(found["leverage"], peer.hat_matrix_diag, rtol=CLOSE)
    np.testing.assert_allclose(found["cooks_distance"], peer.cooks_distance[0], rtol=CLOSE)
    np.testing.assert_allclose(found["studentized"], peer.resid_studentized_external, rtol=CLOSE)


def test_cooks_distance_of_a_group_is_that_of_a_refit():
    X, y = data("linear")
    rows = np.arange(5, 15)
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0, tol=1e-14)
    found = model.diagnostics({"ten": rows, "one": [5]}).columns()
    exog = sm.add_constant(X)
    whole = sm.OLS(y, exog).fit()
    kept = np.setdiff1d(np.arange(60), rows)
    moved = sm.OLS(y[kept], exog[kept]).fit().params - whole.params
    expected = moved @ (exog.T @ exog) @ moved / (whole.mse_resid * 4)
    hat = OLSInfluence(whole)
    np.testing.assert_allclose(found["cooks_distance"], [expected, hat.cooks_distance[0][5]], rtol=1e-7)
    np.testing.assert_allclose(found["leverage"], [hat.hat_matrix_diag[rows].sum(), hat.hat_matrix_diag[5]], rtol=CLOSE)
    assert np.isnan(found["dffits"]).tolist() == [True, False]
    assert found["status"] == ("ok", "ok")


def test_a_row_that_alone_determines_a_parameter_has_its_leverage_and_a_status():
    X, y = data("linear")
    X = np.column_stack([X, np.zeros(60)])
    X[11, 3] = 1.0
    found = GroupInfluence.fit(X, y, estimator="linear", l2=0.0).diagnostics()
    columns = found.columns()
    assert columns["leverage"][11] == pytest.approx(1.0)
    assert [row for row, status in enumerate(columns["status"]) if status != "ok"] == [11]
    assert found.records()[11]["cooks_distance"] is None
    assert isinstance(found.to_pandas(), pd.DataFrame)


def test_models_without_diagnostics_are_refused():
    X, _ = data("linear")
    with pytest.raises(UsageError, match="linear, binary logistic, binomial and Poisson"):
        GroupInfluence.fit(X, np.arange(60) % 3, l2=0.1).diagnostics()
    with pytest.raises(UsageError, match="more rows than parameters: 5 rows, 4 parameters"):
        GroupInfluence.fit(X[:5], X[:5, 0], estimator="linear", l2=0.1).diagnostics()


# --- on the command line ---


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnostics")
    X, y = data("linear")
    np.savez(folder / "d.npz", X_train=X, y_train=y, X_test=X[:2], y_test=y[:2])
    path = str(folder / "m.h5")
    options = ["--estimator", "linear", "--l2", "0", "--quiet"]
    assert run(["train", "--data", str(folder / "d.npz"), "-o", path, *options]) == ExitCode.OK
    return path


def test_the_command_writes_what_python_finds(model, capsys):
    X, y = data("linear")
    found = GroupInfluence.fit(X, y, estimator="linear", l2=0.0).diagnostics().records()
    capsys.readouterr()
    asked = ["influence", "--model", model, "--group", "rows:each", "--diagnostics", "--format", "json"]
    assert run(asked) == ExitCode.OK
    told = capsys.readouterr()
    records = json.loads(told.out)
    assert len(records) == 60
    assert [record["group"] for record in records] == [record["group"] for record in found]
    for key in ("leverage", "cooks_distance", "studentized", "dffits"):
        assert [record[key] for record in records] == pytest.approx([record[key] for record in found], rel=1e-6)
    assert "opposite sign" in told.err


def test_the_table_shows_the_largest_and_says_so(model, capsys):
    assert run(["influence", "--model", model, "--group", "rows:each", "--diagnostics", "--format", "table"]) == 0
    text = capsys.readouterr().out
    assert "the largest 20 of 60" in " ".join(text.split())
    assert text.count("rows:") == 20
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--test", "0"), "--test does not go with --diagnostics"),
        (("--method", "first"), "--method does not go with --diagnostics"),
        (("-o", "x.h5"), "-o does not go with --diagnostics"),
    ],
)
def test_options_that_say_nothing_about_diagnostics_are_refused(model, option, said, capsys):
    assert run(["influence", "--model", model, "--group", "rows:each", "--diagnostics", *option]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
