"""Wald statistics, what flips their significance, and cluster-jackknife standard errors: statsmodels is the oracle."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from cli_tools import rows_of

from influence_cli import GroupInfluence
from influence_cli.analysis.advice import advice
from influence_cli.cli import run
from influence_cli.core.quantities import under
from influence_cli.core.removal import removal
from influence_cli.core.wald import LEVEL, wald_target
from influence_cli.errors import UsageError

M = 120
FAMILIES = {"logistic": sm.families.Binomial(), "poisson": sm.families.Poisson()}


def problem(estimator: str, m: int = M, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 3))
    eta = X @ [0.5, -0.4, 0.1] + 0.3
    y = {
        "linear": eta + rng.normal(size=m),
        "logistic": (eta + rng.logistic(size=m) > 0).astype(int),
        "poisson": rng.poisson(np.exp(eta)),
    }[estimator]
    return X, y


def reference(estimator: str, X: np.ndarray, y: np.ndarray):
    """statsmodels' fit, the intercept last."""
    A = np.column_stack([X, np.ones(len(X))])
    if estimator == "linear":
        return sm.OLS(y, A).fit()
    return sm.GLM(y, A, family=FAMILIES[estimator]).fit(tol=1e-12)


def without(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.delete(values, rows, axis=0)


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
@pytest.mark.parametrize("estimator", ["linear", "logistic", "poisson"])
def test_t_is_that_of_statsmodels_with_and_without_the_rows(estimator, scaling):
    X, y = problem(estimator)
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=0.0, penalty_scaling=scaling)
    groups = [np.arange(0, 20), np.flatnonzero(X[:, 0] > 1.2), np.arange(5, M, 3)]
    after = [reference(estimator, without(X, own), without(y, own)).tvalues for own in groups]
    for at, name in ((0, "x0"), (3, "intercept")):
        base = reference(estimator, X, y).tvalues[at]
        truth = model.groundtruth(groups, quantity=f"t:{name}")
        found = model.influence(groups, quantity=f"t:{name}", errors=True, verify=True)
        assert truth.base[0] == pytest.approx(base, abs=1e-7)
        assert base + truth.actual[:, 0] == pytest.approx([t[at] for t in after], abs=1e-6)
        assert found.actual == pytest.approx(truth.actual, abs=1e-9)
        off = np.abs(found.values["refined"] - truth.actual)
        assert (off <= found.errors["refined"]).all() and (off <= 0.05 * np.abs(truth.actual) + 1e-9).all()
        assert set(truth.status) | set(found.statuses()) == {"ok"}
        assert (truth.records()[0]["test"], truth.records()[0]["quantity"]) == (None, f"t:{name}")
    both = model.influence(groups, quantity="t:x0,intercept", errors=True, verify=True)
    whole = reference(estimator, X, y).tvalues[[0, 3]]
    assert whole + both.actual == pytest.approx(np.array([t[[0, 3]] for t in after]), abs=1e-6)
    for method in ("second", "refined"):
        assert (np.abs(both.values[method] - both.actual) <= both.errors[method]).all()
    assert both.values["first"][:, 1] == pytest.approx(found.values["first"][:, 0], abs=1e-10)


@pytest.mark.parametrize("estimator", ["linear", "logistic", "poisson"])
def test_t_without_all_rows_of_a_category_is_that_of_the_columns_left(estimator):
    """Its column is 0 then, or, of the reference level, the sum of the others is the intercept."""
    X, y = problem(estimator)
    part = np.arange(M) % 3
    A = np.column_stack([X[:, :2], part[:, None] == [1, 2]])
    model = GroupInfluence.fit(A, y, estimator=estimator, l2=0.0)
    base = reference(estimator, A, y).tvalues
    for lost, column in ((1, 2), (0, 3)):
        kept = part != lost
        after = reference(estimator, np.delete(A, column, axis=1)[kept], y[kept]).tvalues
        found = model.influence([~kept], quantity="t:x0,x1", errors=True, verify=True)
        assert base[:2] + found.actual[0] == pytest.approx(after[:2], abs=1e-6)
        off = np.abs(found.values["refined"] - found.actual)
        assert (off <= found.errors["refined"]).all() and (off <= 0.05 * np.abs(found.actual)).all()
        assert set(found.statuses()) == {"ok"}
        (record,) = model.groundtruth([~kept], quantity=f"t:x{column}").records()
        assert record["actual"] is None and record["status"].startswith("unbounded:")
        sentences = " ".join(advice(model.model, model.influence([~kept], quantity=f"t:x{column}"), {}))
        assert "do not determine them: ask about another parameter" in sentences


def test_many_parameters_are_solved_for_by_products(monkeypatch):
    X, y = problem("logistic")
    exact = GroupInfluence.fit(X, y, l2=0.0).groundtruth("random:20x3", quantity="t:x1").actual
    monkeypatch.setattr("influence_cli.core.wald.has_cheap_factor", lambda objective: False)
    again = GroupInfluence.fit(X, y, l2=0.0).groundtruth("random:20x3", quantity="t:x1").actual
    assert again == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("estimator", ["linear", "logistic", "poisson"])
@pytest.mark.parametrize("level", [None, LEVEL])
def test_its_slopes_are_those_of_finite_differences(estimator, level):
    X, y = problem(estimator)
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=0.0).model
    objective, theta = model.objective, model.theta + 0.05
    gone = np.arange(7, 30)
    w = removal(objective.weights, [gone], "per-mean").removed
    target = under(wald_target(objective, 1, model.theta, model.observations, level), w)
    step = 1e-5
    expected = [
        (target.value(theta + step * unit) - target.value(theta - step * unit))[0, 0] / (2 * step)
        for unit in np.eye(objective.size)[:, :, None]
    ]
    if estimator != "linear":  # of a linear regression the residual variance is stationary at the minimum alone
        assert target.gradient(theta)[:, 0] == pytest.approx(expected, rel=1e-5)
    at_once = target.at_once(theta) * w.kept[0]
    for row in (0, 50, 90):
        less = removal(objective.weights, [np.append(gone, row)], "per-mean").removed
        exact = (under(target, less).value(theta) - target.value(theta))[0, 0]
        assert at_once[row] == pytest.approx(exact, rel=0.15, abs=2e-3)


@pytest.mark.parametrize(
    ("seed", "estimator"), [(2, "linear"), (4, "linear"), (6, "linear"), (4, "poisson"), (8, "poisson")]
)
def test_the_fewest_rows_that_flip_significance_are_found(seed, estimator):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(14, 2))
    y = X @ [0.55, -0.5] + 0.8 * rng.normal(size=14)  # both draws, so that a seed means the same rows
    if estimator == "poisson":
        y = rng.poisson(np.exp(X @ [0.5, -0.3] + 0.5)).astype(float)

    def significant(rows: tuple[int, ...]) -> bool:
        return bool(reference(estimator, without(X, rows), without(y, rows)).pvalues[0] < 0.05)

    before = significant(())
    fewest = next(k for k in (1, 2, 3) if any(significant(rows) != before for rows in combinations(range(14), k)))
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=0.0)
    record = model.select(None, quantity="t:x0", flip=True, flip_of="significance").records()[0]
    assert record["size"] == fewest and record["minimal"] and record["flips"]
    assert significant(tuple(record["rows"])) != before
    assert (record["base"] > 0) is before and (record["after"] > 0) is not before
    assert record["quantity"] == "significance:x0" and record["predicted_second"] is None


def test_a_sign_flips_by_either_name():
    X, y = problem("linear", 40, 3)
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
    found = [model.select(None, quantity=f"{kind}:x2", flip=True).records()[0] for kind in ("t", "param")]
    assert found[0]["rows"] == found[1]["rows"]
    after = reference("linear", without(X, found[0]["rows"]), without(y, found[0]["rows"])).params[2]
    assert after * found[0]["base"] < 0


def test_what_has_no_wald_statistic_is_refused():
    X, y = problem("logistic")
    with pytest.raises(UsageError, match="has no meaning with a penalty, and the model has l2"):
        GroupInfluence.fit(X, y, l2=1e-3).influence("rows:1", quantity="t:x0")
    with pytest.raises(UsageError, match="is defined for linear, binary logistic"):
        GroupInfluence.fit(X, np.arange(M) % 3, l2=0.0).influence("rows:1", quantity="t:1:x0")
    model = GroupInfluence.fit(X, y, l2=0.0)
    for options, sentence in (
        ({"quantity": "t:x9"}, "no parameter has that name"),
        ({"quantity": "t:x0", "evaluate": "linear"}, "depends on the rows left as well as on the parameters"),
    ):
        with pytest.raises(UsageError, match=sentence):
            model.influence("rows:1", **options)
    with pytest.raises(UsageError, match="for which groups are not ranked"):
        model.select(3, quantity="t:x0")
    with pytest.raises(UsageError, match="flip_of significance is about a coefficient"):
        model.select(None, X[:1], y[:1], flip=True, flip_of="significance")
    separable = GroupInfluence.fit(X, y, l2=0.0).groundtruth([np.flatnonzero((X[:, 0] > 0) != y)], quantity="t:x0")
    assert separable.records()[0]["actual"] is None and separable.status[0].startswith("unbounded:")


def clustered(tmp_path):
    X, y = problem("linear", 60)
    part = np.random.default_rng(5).choice(["a", "b", "c", "d", "e"], 60)
    lines = [",".join(map(str, (*x, value, name))) for x, value, name in zip(X.tolist(), y.tolist(), part, strict=True)]
    (tmp_path / "c.csv").write_text("\n".join(["x0,x1,x2,y,firm", *lines]) + "\n")
    options = [
        "--label",
        "y",
        "--estimator",
        "linear",
        "--l2",
        "0",
        "--drop",
        "firm",
        "--no-standardize",
        "--test-fraction",
        "0",
        "--quiet",
    ]
    assert run(["train", "--data", str(tmp_path / "c.csv"), *options, "-o", str(tmp_path / "c.h5")]) == 0
    everyone = reference("linear", X, y).params
    moves = np.array([reference("linear", X[part != k], y[part != k]).params - everyone for k in np.unique(part)])
    return X, y, part, 0.8 * moves.T @ moves


def test_cluster_jackknife_standard_errors_are_those_of_refits(tmp_path, capsys):
    X, y, part, expected = clustered(tmp_path)
    capsys.readouterr()
    asked = ["--model", str(tmp_path / "c.h5"), "--group", "by:firm", "--quantity", "param:x0"]
    assert run(["groundtruth", *asked, "--format", "json"]) == 0
    done = capsys.readouterr()
    found = [record["crv3"] for record in json.loads(done.out)]
    assert found == pytest.approx([expected[0, 0] ** 0.5] * 5, rel=1e-8)
    assert "cluster-jackknife standard error of x0 (CRV3, 5 clusters)" in done.err
    assert run(["influence", *asked, "--method", "newton", "--format", "csv"]) == 0
    assert float(rows_of(capsys.readouterr().out)[0]["crv3"]) == pytest.approx(expected[0, 0] ** 0.5, rel=1e-7)
    assert run(["influence", *asked, "--format", "table"]) == 0
    assert f"{expected[0, 0] ** 0.5:.4g}"[:5] in capsys.readouterr().out
    assert run(["groundtruth", *asked[:2], "--group", "random:50%x2", *asked[4:], "--format", "csv"]) == 0
    assert "crv3" not in capsys.readouterr().out
    some = ["--group", "column:firm=a", "--group", "column:firm=b"]  # not all rows: nothing is known of the rest
    assert run(["groundtruth", *asked[:2], *some, *asked[4:], "--format", "csv"]) == 0
    assert "crv3" not in capsys.readouterr().out
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
    clusters = {name: np.flatnonzero(part == name) for name in "abcde"}
    assert model.cluster_covariance(clusters) == pytest.approx(expected, rel=1e-7, abs=1e-12)
    with pytest.raises(UsageError, match="divide all training rows among them"):
        model.cluster_covariance("random:50%x2")


def test_the_command_flips_significance(tmp_path, capsys):
    clustered(tmp_path)
    asked = ["select", "--model", str(tmp_path / "c.h5"), "--quantity", "t:x2", "--flip"]
    assert run([*asked, "--flip-of", "significance", "-o", str(tmp_path / "f.h5"), "--format", "table"]) == 0
    assert "|t| of x2 minus the limit of significance at 5%" in " ".join(capsys.readouterr().out.split())
    assert run(["show", str(tmp_path / "f.h5"), "--format", "table"]) == 0
    assert run([*asked[:-1], "--size", "3", "--flip-of", "sign"]) == 2
    assert "add --flip" in capsys.readouterr().err
    assert run([*asked, "--flip-of", "size"]) == 2
    assert run(["influence", *asked[1:-1], "--group", "rows:each", "--top", "3"]) == 0
    assert "--evaluate exact, as the quantity depends on the rows left" in capsys.readouterr().err


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimator", ["linear", "logistic", "poisson"])
def test_cluster_covariances_of_all_families_are_those_of_refits(estimator, weighted):
    X, y = problem(estimator)
    part = np.arange(M) % 6
    weights = np.random.default_rng(1).integers(1, 5, M).astype(float) if weighted else np.ones(M)
    A = np.column_stack([X, np.ones(M)])
    of = {"linear": sm.families.Gaussian(), **FAMILIES}[estimator]

    def refit(kept):
        return sm.GLM(y[kept], A[kept], family=of, freq_weights=weights[kept]).fit(tol=1e-13).params

    moves = np.array([refit(part != k) for k in range(6)]) - refit(part >= 0)
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=0.0, sample_weight=weights if weighted else None)
    clusters = {f"c{k}": np.flatnonzero(part == k) for k in range(6)}
    assert model.cluster_covariance(clusters) == pytest.approx(5 / 6 * moves.T @ moves, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize(
    ("estimator", "published"), [("linear", 0.00019211063418441514), ("poisson", 0.0013646812579437312)]
)
def test_strikes_by_airport_are_those_of_pyfixest(estimator, published):
    """pyfixest 0.60 (feols and fepois, CRV3) leaves (G - 1)/G out and multiplies by G/(G - 1) (N - 1)/(N - k)."""
    with (Path(__file__).parent.parent / "sample_data" / "strikes.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    speed, damaged = (np.array([float(row[name]) for row in rows]) for name in ("speed", "damaged"))
    airport = np.array([row["airport"] for row in rows])
    model = GroupInfluence.fit(speed[:, None], damaged, estimator=estimator, l2=0.0)
    found = model.cluster_covariance({str(name): np.flatnonzero(airport == name) for name in np.unique(airport)})
    count, m = len(np.unique(airport)), len(rows)
    theirs = found[0, 0] * (count / (count - 1)) ** 2 * (m - 1) / (m - 2)
    assert theirs**0.5 == pytest.approx(published, rel=3e-8)


def test_several_coefficients_are_asked_about_at_once(tmp_path, monkeypatch, capsys):
    """Each has its records, its standard error and its agreement, as if it were asked alone; refits are the truth."""
    X, y, part, expected = clustered(tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    asked = ["--model", "c.h5", "--group", "by:firm"]
    both = [*asked, "--quantity", "param:x0,x2"]
    how = ["--method", "second,newton"]  # refined ends where all its figures are good enough
    assert run(["groundtruth", *both, "-o", "t.h5", "--format", "json"]) == 0
    done = capsys.readouterr()
    records = json.loads(done.out)
    assert [record["quantity"] for record in records] == ["param:x0", "param:x2"] * 5
    assert {record["test"] for record in records} == {None}
    everyone = reference("linear", X, y).params
    for record, name in zip(records[::2], np.unique(part), strict=True):
        move = reference("linear", X[part != name], y[part != name]).params - everyone
        assert record["actual"] == pytest.approx(move[0], rel=1e-7)
        assert records[records.index(record) + 1]["actual"] == pytest.approx(move[2], rel=1e-7)
    assert [record["crv3"] for record in records[:2]] == pytest.approx(np.diag(expected)[[0, 2]] ** 0.5, rel=1e-8)
    assert done.err.count("cluster-jackknife standard error of") == 2
    assert run(["influence", *both, *how, "-o", "i.h5", "--format", "table"]) == 0
    page = capsys.readouterr().out
    assert page.index("The model: param:x0 now") < page.index("The model: param:x2 now")
    assert page.count("cluster-jackknife standard error of") == 2
    assert run(["compare", "i.h5", "t.h5", "--format", "json", "--fail-under", "second=0"]) == 0
    together = json.loads(capsys.readouterr().out)
    alone = []
    for name in ("x0", "x2"):
        for command, *options in (["influence", *how], ["groundtruth"]):
            own = [*options, "--quantity", f"param:{name}", "-o", f"{name}-{command}.h5"]
            assert run([command, *asked, *own]) == 0
        capsys.readouterr()
        assert run(["compare", f"{name}-influence.h5", f"{name}-groundtruth.h5", "--format", "json"]) == 0
        alone += json.loads(capsys.readouterr().out)
    assert together == alone
    assert run(["report", "i.h5", "t.h5", "-o", "a.md"]) == 0
    sections = [line for line in (tmp_path / "a.md").read_text().splitlines() if line.startswith("## ")]
    assert [line for line in sections if "Change of" in line] == [
        f"## Change of the parameter {name} if a group is removed" for name in ("x0", "x2")
    ]
    assert run(["compare", "i.h5", "t.h5", "--plot", "a.png"]) == 2
    assert "--plot draws one quantity, and the files hold 2" in capsys.readouterr().err


def test_pages_say_what_several_quantities_of_the_model_are(tmp_path, monkeypatch, capsys):
    clustered(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = ["--model", "c.h5", "--group", "by:firm", "--quantity", "t:x0,x2"]
    assert run(["influence", *asked, "-o", "i.h5"]) == run(["groundtruth", *asked, "-o", "t.h5"]) == 0
    for command, sentence in (
        (["compare", "i.h5", "t.h5"], "Change of the Wald statistic of x0, x2 if the group"),
        (["compare", "i.h5", "t.h5"], "correlation: Pearson, 1 figure of the model"),
        (["show", "i.h5"], "i.h5: estimates for 5 groups and 2 figures of the model"),
        (["show", "t.h5"], "t.h5: retraining without 5 groups, for 2 figures of the model"),
    ):
        capsys.readouterr()
        assert run([*command, "--format", "table"]) == 0
        assert sentence in " ".join(capsys.readouterr().out.split())
    assert run(["influence", "--model", "c.h5", "--group", "by:firm", "--quantity", "param:x0,x2", "-o", "p.h5"]) == 0
    capsys.readouterr()
    assert run(["show", "p.h5", "--format", "table"]) == 0
    assert "\\n" not in capsys.readouterr().out
    for quantity, sentence in (("t:x0", "depends on the rows left"), ("param:x0,x2", "one quantity, found 5 and 2")):
        assert run(["influence", *asked[:-1], quantity, "--explain"]) == 2
        said = capsys.readouterr().err
        assert sentence in said and "--test" not in said


def test_names_of_several_coefficients(tmp_path):
    rng = np.random.default_rng(2)
    frame = {"a,b": rng.normal(size=40), "c": rng.normal(size=40), "d": rng.normal(size=40)}
    pandas = pytest.importorskip("pandas")
    X, y = pandas.DataFrame(frame), rng.normal(size=40)
    model = GroupInfluence.fit(X, y, estimator="linear", l2=0.1)
    each = {name: model.groundtruth("rows:1", quantity=f"param:{name}").actual.item() for name in frame}
    assert model.groundtruth("rows:1", quantity='param:d,"a,b"').actual.tolist() == [[each["d"], each["a,b"]]]
    with pytest.raises(UsageError, match="no parameter has that name: cc") as caught:
        model.influence("rows:1", quantity="param:d,cc")
    assert "did you mean c?" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        model.influence("rows:1", quantity="param:d,a,b")
    assert 'the parameters are "a,b", c, d' in (caught.value.hint or "")
    for several in (["param:c", "param:d"], None):
        with pytest.raises(UsageError, match="quantity must be a text, found"):
            model.influence("rows:1", quantity=several)
    with pytest.raises(UsageError, match="names a parameter twice"):
        model.influence("rows:1", quantity="param:d,d")
    with pytest.raises(UsageError, match="a search is about one quantity, and param:c,d names 2"):
        model.select(3, quantity="param:c,d")
