"""Counts with an exposure and successes of trials, held against statsmodels' GLM."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from cli_tools import rows_of, values_of
from cli_tools import train as ginf_train

from influence_cli import GroupInfluence
from influence_cli.artifacts.model import load_model
from influence_cli.cli import run
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.glm import Glm

ROWS, GONE = 90, list(range(6))
POISSON = ("--label", "claims", "--exposure", "years", "--estimator", "poisson", "--drop", "won,played")
BINOMIAL = ("--successes", "won", "--trials", "played", "--drop", "claims,years")
PLAIN = ("--l2", "0", "--no-standardize", "--test-fraction", "0")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    age, power, years = rng.normal(size=ROWS), rng.normal(size=ROWS), rng.uniform(0.1, 3.0, ROWS).round(3)
    played = rng.integers(1, 9, ROWS)
    won = rng.binomial(played, 1.0 / (1.0 + np.exp(-0.4 * age + 0.2 * power - 0.3)))
    claims = rng.poisson(years * np.exp(0.3 * age - 0.5 * power))
    return pd.DataFrame({"age": age, "power": power, "years": years, "claims": claims, "played": played, "won": won})


@pytest.fixture
def data(table, tmp_path) -> str:
    table.to_csv(tmp_path / "t.csv", index=False)
    return str(tmp_path / "t.csv")


def peer(table: pd.DataFrame, kind: str, **options):
    """statsmodels' own model of the counts, fitted."""
    X = sm.add_constant(table[["age", "power"]])
    if kind == "poisson":
        model = sm.GLM(table["claims"], X, family=sm.families.Poisson(), exposure=table["years"])
    else:
        successes = np.column_stack([table["won"], table["played"] - table["won"]])
        model = sm.GLM(successes, X, family=sm.families.Binomial())
    return model.fit(tol=1e-12, maxiter=100, **options)


def of_row(fitted, row: pd.Series) -> float:
    """The rate, or share, that it expects of a row."""
    return float(fitted.model.family.link.inverse(fitted.params["const"] + fitted.params[1:] @ row[["age", "power"]]))


@pytest.mark.parametrize(("kind", "options"), [("poisson", POISSON), ("binomial", BINOMIAL)])
def test_parameters_and_retraining_are_those_of_statsmodels(table, data, tmp_path, capsys, kind, options):
    model = ginf_train(data, tmp_path / "m.h5", *options, *PLAIN)
    found, whole, rest = load_model(model), peer(table, kind), peer(table.drop(index=GONE), kind)
    assert found.theta == pytest.approx(whole.params[["age", "power", "const"]].to_numpy(), rel=1e-6)
    assert found.settings["exposure" if kind == "poisson" else "trials"] in ("years", "played")
    capsys.readouterr()
    ask = ["--model", model, "--group", f"rows:{','.join(map(str, GONE))}", "--test", "7", "--quiet"]
    assert run(["groundtruth", *ask, "--quantity", "prediction"]) == 0
    truth = values_of(capsys.readouterr().out, "actual")[0]
    assert truth == pytest.approx(of_row(rest, table.loc[7]) - of_row(whole, table.loc[7]), rel=1e-5)
    assert run(["influence", *ask, "--quantity", "prediction", "--method", "newton"]) == 0
    assert values_of(capsys.readouterr().out, "newton")[0] == pytest.approx(truth, rel=0.05)
    assert run(["select", "--model", model, "--size", "3", "--test", "7", "--verify", "--quiet"]) == 0
    assert rows_of(capsys.readouterr().out)[0]["status"] == "ok"


@pytest.mark.parametrize(("kind", "options"), [("poisson", POISSON), ("binomial", BINOMIAL)])
def test_diagnostics_are_those_of_statsmodels(table, data, tmp_path, capsys, kind, options):
    model = ginf_train(data, tmp_path / "m.h5", *options, *PLAIN)
    capsys.readouterr()
    assert run(["influence", "--model", model, "--group", "rows:each", "--diagnostics", "--quiet"]) == 0
    text, expected = capsys.readouterr().out, peer(table, kind).get_influence()
    for key, values in (
        ("leverage", expected.hat_matrix_diag),
        ("cooks_distance", expected.cooks_distance[0]),
        ("studentized", expected.resid_studentized),
    ):
        assert values_of(text, key) == pytest.approx(np.asarray(values), rel=1e-5, abs=1e-8), key


def test_shares_are_the_single_trials_that_they_stand_for(table):
    X, won, played = (table[key].to_numpy() for key in (["age", "power"], "won", "played"))
    grouped = GroupInfluence.fit(X, won, trials=played, estimator="binomial", l2=0.01)
    at = np.repeat(np.arange(ROWS), played)
    single = np.concatenate([np.arange(n) < k for k, n in zip(won, played, strict=True)]).astype(int)
    expanded = GroupInfluence.fit(X[at], single, l2=0.01)
    assert grouped.model.theta == pytest.approx(expanded.model.theta, rel=1e-7)
    groups = [np.array([0, 1, 2]), np.arange(20)]
    found, expected = (
        model.groundtruth(own, X[:4], quantity="prediction" if model is grouped else "prob:1").actual
        for model, own in ((grouped, groups), (expanded, [np.flatnonzero(np.isin(at, one)) for one in groups]))
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_each_derivative_of_shares_is_the_finite_difference_of_the_one_before(table):
    X, y = table[["age", "power"]].to_numpy(), (table["won"] / table["played"]).to_numpy()
    model, rng, h = Glm(X, y, Binomial(), l2=0.1), np.random.default_rng(1), 1e-5
    theta, u = (0.5 * rng.normal(size=(3, 1)) for _ in range(2))
    w = rng.random(ROWS) / ROWS

    def slope(f):
        return (f(theta + h * u) - f(theta - h * u)) / (2 * h)

    assert (model.gradient(theta, w) * u).sum() == pytest.approx(slope(lambda t: model.value(t, w))[0], rel=1e-8)
    assert model.curvature(theta, w)(u) == pytest.approx(slope(lambda t: model.gradient(t, w)), rel=1e-7)
    assert model.third(theta, w, u) == pytest.approx(slope(lambda t: model.curvature(t, w)(u)), rel=1e-7)
    assert Binomial().loss(np.array([[[-40.0, 0.3, 40.0]]]), np.array([0.0, 0.5, 1.0]))[0, 1] == pytest.approx(
        np.log1p(np.exp(0.3)) - 0.15 - np.log(2), rel=1e-12
    )


def test_a_group_with_every_success_leaves_a_share_of_zero(tmp_path, capsys):
    rows = "\n".join(f"{i % 7},{int(i < 3)},{1 + i % 4}" for i in range(24))
    (tmp_path / "t.csv").write_text(f"x,won,played\n{rows}\n")
    model = ginf_train(str(tmp_path / "t.csv"), tmp_path / "m.h5", *BINOMIAL[:4], "--test-fraction", "0")
    capsys.readouterr()
    ask = ["--model", model, "--group", "rows:0,1,2", "--test", "5", "--quantity", "prediction", "--quiet"]
    assert run(["groundtruth", *ask]) == 0
    found = capsys.readouterr().out
    assert values_of(found, "actual") == pytest.approx(-values_of(found, "base"), rel=1e-9)
    assert rows_of(found)[0]["status"].startswith("unbounded")


def test_what_the_response_is_is_said_and_the_score_counts_exposure(table, data, tmp_path, capsys):
    command = ["train", "--data", data, *POISSON, *PLAIN, "-o", str(tmp_path / "m.h5"), "--format", "json"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "the response is claims / years, a rate" in err and "offset log(years)" in err
    assert "removes its whole exposure" in err
    fitted = peer(table, "poisson")
    assert json.loads(out)[0]["train_score"] == pytest.approx(1 - fitted.deviance / fitted.null_deviance, rel=1e-8)
    assert run([*command, "--link-data", "--force"]) == 0
    assert run(["influence", "--model", str(tmp_path / "m.h5"), "--group", "rows:0", "--test", "1"]) == 0


@pytest.mark.parametrize(
    ("options", "change", "sentence", "code"),
    [
        (POISSON, {"years": 0}, "--exposure years must be a number over 0 in every row, found 0 in record 1", 3),
        (POISSON, {"years": None}, "must be a number over 0 in every row, found none in record 1", 3),
        (POISSON, {"claims": -1}, "claims must be a count of at least 0 in every row, found -1 in record 1", 3),
        (BINOMIAL, {"won": 99}, "won counts successes and cannot be more than --trials played, found 99 of", 3),
        (BINOMIAL, {"played": 0}, "--trials played must be a number over 0", 3),
        (POISSON[:4], {}, "--exposure is for counts", 2),
        (BINOMIAL[:2], {}, "--successes and --trials belong together", 2),
        ((*BINOMIAL, "--label", "claims"), {}, "--label and --successes both name the response", 2),
        ((*BINOMIAL, "--estimator", "poisson"), {}, "--estimator poisson exclude each other", 2),
        ((*POISSON, "--keep", "years"), {}, "years is what the response is divided by: it cannot be", 2),
        (("--label", "won", "--estimator", "binomial"), {}, "binomial expects responses from 0 to 1", 3),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(table, tmp_path, capsys, options, change, sentence, code):
    own = table.astype(object)
    for key, value in change.items():
        own.loc[0, key] = value
    own.to_csv(tmp_path / "t.csv", index=False)
    command = ["train", "--data", str(tmp_path / "t.csv"), *options, "-o", str(tmp_path / "m.h5")]
    assert run(command) == code
    assert sentence in capsys.readouterr().err


def test_python_takes_exposure_and_keeps_it(table, tmp_path):
    X = table[["age", "power"]]
    model = GroupInfluence.fit(X, table["claims"], exposure=table["years"], estimator="poisson", l2=0)
    assert model.model.theta[:, 0] == pytest.approx(
        peer(table, "poisson").params[["age", "power", "const"]].to_numpy(), rel=1e-6
    )
    model.save(str(tmp_path / "m.h5"))
    assert GroupInfluence.load(str(tmp_path / "m.h5")).model.observations == pytest.approx(table["years"].sum())
    with pytest.raises(Exception, match="exposure must be a number over 0 in every row, found 0 in row 2"):
        GroupInfluence.fit(X, table["claims"], exposure=table["years"].where(table.index != 2, 0), estimator="poisson")
    with pytest.raises(Exception, match="trials is for estimator binomial"):
        GroupInfluence.fit(X, table["won"], trials=table["played"])


def test_a_mean_over_rows_counts_each_once_and_says_so(table, data, tmp_path, capsys):
    model = ginf_train(data, tmp_path / "m.h5", *POISSON, *PLAIN)
    capsys.readouterr()
    assert run(["influence", "--model", model, "--group", "rows:0,1,2,3,4,5", "--test", "mean"]) == 0
    found = capsys.readouterr()
    before, after = peer(table, "poisson"), peer(table.drop(index=GONE), "poisson")
    rates, seen = [[of_row(one, row) for _, row in table.iterrows()] for one in (before, after)], table["claims"]
    losses = [np.array(rate) - seen / table["years"] * np.log(rate) for rate in rates]
    assert values_of(found.out, "refined")[0] == pytest.approx((losses[1] - losses[0]).mean(), rel=0.05)
    assert "each counts once, whatever its years" in found.err
    assert run(["influence", "--model", model, "--group", "rows:0", "--test", "0"]) == 0
    assert "counts once" not in capsys.readouterr().err
