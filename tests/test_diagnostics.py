"""Diagnostics against statsmodels, and of groups against refits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.outliers_influence import GLMInfluence, OLSInfluence

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import ExitCode, UsageError
from influence_cli.present import diagnostics as present

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


# --- published figures ---

CLASSICS = Path(__file__).parent.parent / "sample_data" / "classics"


def test_duncans_occupations_have_the_published_figures():
    """Fox and Weisberg, An R Companion to Applied Regression: influencePlot(lm(prestige ~ income + education))."""
    table = pd.read_csv(CLASSICS / "duncan.csv", index_col="occupation")
    X, y = table[["income", "education"]], table["prestige"].astype(float)
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0, tol=1e-14)
    np.testing.assert_allclose(model.model.theta[:, 0], [0.59873, 0.54583, -6.06466], atol=5e-6)
    columns, dfbetas = frame(model.diagnostics(), ["income", "education", "intercept"])
    peer = OLSInfluence(sm.OLS(y, sm.add_constant(X)).fit())
    np.testing.assert_allclose(columns["leverage"], peer.hat_matrix_diag, rtol=CLOSE)
    np.testing.assert_allclose(columns["cooks_distance"], peer.cooks_distance[0], rtol=CLOSE)
    np.testing.assert_allclose(columns["studentized"], peer.resid_studentized_external, rtol=CLOSE)
    np.testing.assert_allclose(columns["dffits"], peer.dffits[0], rtol=CLOSE)
    np.testing.assert_allclose(dfbetas, peer.dfbetas, rtol=CLOSE, atol=1e-10)
    published = {
        "minister": (3.1345186, 0.17305816, 0.56637974),
        "reporter": (-2.3970224, 0.05439356, 0.09898456),
        "contractor": (2.0438046, 0.04325517, 0.05852346),
        "conductor": (-1.7040324, 0.19454165, 0.22364122),
        "RR.engineer": (0.8089221, 0.26908963, 0.08096807),
    }
    for name, figures in published.items():
        at = list(table.index).index(name)
        found = [columns[key][at] for key in ("studentized", "leverage", "cooks_distance")]
        np.testing.assert_allclose(found, figures, atol=6e-8)


def test_finneys_vasoconstriction_has_pregibons_figures():
    """Pregibon 1981; the SAS manual prints leverage, DFBETAS and C of each case (P times this Cook's distance)."""
    table = pd.read_csv(CLASSICS / "vasoconstriction.csv", index_col="case")
    X = table[["log_rate", "log_volume"]]
    model = GroupInfluence.fit(X, table["constricted"], l2=0.0, tol=1e-14)
    np.testing.assert_allclose(model.model.theta[:, 0], [4.562, 5.179, -2.875], atol=1e-3)
    columns, dfbetas = frame(model.diagnostics(), ["log_rate", "log_volume", "intercept"])
    y = (table["constricted"] == "yes").astype(float)
    peer_model = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial())
    reached = peer_model.fit(tol=1e-14, maxiter=100).params
    peer = peer_model.fit(start_params=reached, tol=1e-14).get_influence()  # with the weights of the minimum itself
    np.testing.assert_allclose(columns["leverage"], peer.hat_matrix_diag, rtol=CLOSE)
    np.testing.assert_allclose(columns["cooks_distance"], peer.cooks_distance[0], rtol=CLOSE)
    np.testing.assert_allclose(dfbetas, peer.dfbetas, rtol=CLOSE, atol=1e-10)
    printed = {
        1: (0.0927, (-0.0165, 0.0193, 0.0556), 0.00548),
        4: (0.0867, (1.0734, -0.9302, -1.018), 1.2873),
        18: (0.0954, (0.9595, -0.8279, -0.8477), 0.9845),
    }
    for case, (leverage, moved, distance) in printed.items():
        assert columns["leverage"][case - 1] == pytest.approx(leverage, abs=6e-5), case
        np.testing.assert_allclose(dfbetas[case - 1], moved, atol=1e-4)
        assert 3 * columns["cooks_distance"][case - 1] == pytest.approx(distance, abs=6e-5), case


def test_a_class_that_goes_as_a_whole_has_no_cooks_distance():
    X, y = data("logistic")
    found = GroupInfluence.fit(X, y, l2=0.0).diagnostics({"ones": y == 1, "ten": np.arange(10)})
    assert found.records()[0]["cooks_distance"] is None
    assert [status.partition(":")[0] for status in found.status] == ["unbounded", "ok"]


# --- on the command line ---


def test_the_picture_names_the_rows_of_the_largest_distance(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    seen = []
    rendered = present.rendered
    monkeypatch.setattr(present, "rendered", lambda figure, ending: (seen.append(figure), rendered(figure, ending))[1])
    path, picture = str(tmp_path / "m.h5"), tmp_path / "d.svg"
    options = ["--label", "prestige", "--drop", "type", "--id", "occupation", "--test-fraction", "0", "--quiet"]
    trained = ["train", "--data", str(CLASSICS / "duncan.csv"), "--estimator", "linear", "--l2", "0", *options]
    assert run([*trained, "-o", path]) == ExitCode.OK
    asked = ["influence", "-m", path, "-g", "rows:each", "--diagnostics", "--plot", str(picture), "--format", "csv"]
    assert run(asked) == ExitCode.OK
    shown = [text.get_text() for text in seen[0].axes[0].texts]
    assert shown == ["minister", "conductor", "reporter", "RR.engineer", "contractor"]
    assert picture.read_bytes().startswith(b"<?xml")
    assert capsys.readouterr().out.splitlines()[-1].endswith(",ok,45,waiter")
    assert run([*asked[:4], "random:5", *asked[5:], "--force"]) == ExitCode.USAGE
    assert "--plot draws single rows" in capsys.readouterr().err
    assert run(["influence", "-m", path, "-g", "rows:0", "-t", "0", "--plot", "x.png"]) == ExitCode.USAGE
    assert "--plot draws --diagnostics alone" in capsys.readouterr().err


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


def test_what_groups_of_rows_do_not_have_takes_no_column(model, capsys):
    asked = ["influence", "--model", model, "--group", "random:9x2", "--diagnostics", "--format", "table"]
    assert run(asked) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.startswith("Groups of training rows by Cook's distance")
    assert "residual" not in told.out and "DFFITS" not in told.out and "dffits" not in told.err
    assert run([*asked, "--group", "rows:3"]) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.startswith("Training rows by Cook's distance")
    assert "residual" in told.out and "DFFITS" in told.out and "dffits" in told.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--test", "0"), "--test does not go with --diagnostics"),
        (("--method", "first"), "--method does not go with --diagnostics"),
        (("-o", "x.h5"), "expected the ending one of .csv"),
        (("--plot", "x.gif"), "expected a name ending in .png, .svg or .pdf"),
    ],
)
def test_options_that_say_nothing_about_diagnostics_are_refused(model, option, said, capsys):
    assert run(["influence", "--model", model, "--group", "rows:each", "--diagnostics", *option]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
