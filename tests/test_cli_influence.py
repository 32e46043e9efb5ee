"""``ginf influence`` from the command line to its records: keys, formats, and figures against independent ones."""

import functools
import io
import json

import numpy as np
import pytest
from cli_tools import ALL_METHODS, ginf, rows_of, save_blobs, save_regression, train, values_of
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle
from sklearn.linear_model import LinearRegression, Ridge

from influence_cli.artifacts.model import load_model
from influence_cli.artifacts.results import load_influence
from influence_cli.cli import run
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.solvers import choice

NAMES = ("true", "predicted", "record", "id")
KEYS = ["group", "kind", "size", "fraction", "test", "quantity", "base"]
GROUP = [0, 7, 11, 30, 31]
REMOVE = "rows:" + ",".join(map(str, GROUP))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def models(folder):
    """Model files by name, each with the oracle of the same problem."""
    data = {
        SOFTMAX: save_blobs(folder / "three.npz", classes=3),
        LOGISTIC: save_blobs(folder / "two.npz", classes=2),
        LINEAR: save_regression(folder / "line.npz"),
    }
    paths = {kind: train(source, folder / f"{kind}.h5", "--l2", "0.05", "--tol", "1e-12", *extra)
             for kind, source, extra in (
                 (SOFTMAX, data[SOFTMAX], []),
                 (LOGISTIC, data[LOGISTIC], ["--penalty-scaling", "per-sum"]),
                 (LINEAR, data[LINEAR], ["--estimator", "linear"]),
             )}  # fmt: skip
    return {kind: (path, *_oracle(kind, data[kind], path)) for kind, path in paths.items()}


def _oracle(kind, data, path):
    arrays = np.load(data)
    classes = 0 if kind == LINEAR else len(np.unique(arrays["y_train"]))
    oracle = Oracle(kind, arrays["X_train"], arrays["y_train"], classes, l2=0.05)
    theta = oracle.minimise(oracle.uniform())
    np.testing.assert_allclose(np.load(data)["X_test"], load_model(path).dataset.X_test)
    return oracle, theta, arrays["X_test"], arrays["y_test"]


@pytest.fixture(scope="module")
def digits(folder):
    return train("digits", folder / "digits.h5")


def out(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run(["influence", *arguments]) == code
    return capsys.readouterr().out


CASES = [
    *((SOFTMAX, quantity) for quantity in ("loss", "margin", "prob", "logit:2")),
    *((LOGISTIC, quantity) for quantity in ("loss", "margin", "prob", "logit:0", "logit:1")),
    *((LINEAR, quantity) for quantity in ("loss", "prediction")),
]


@pytest.mark.parametrize(("kind", "quantity"), CASES)
def test_every_method_quantity_and_evaluation_against_the_dense_oracle(models, capsys, kind, quantity):
    path, oracle, theta, X, y = models[kind]
    scaling = "per-sum" if kind == LOGISTIC else "per-mean"
    changes = oracle.changes(theta, np.array(GROUP), scaling)
    before = oracle.quantity(quantity, theta, X, y)
    asked = ("--model", path, "--group", REMOVE, "--test", "all", "--quantity", quantity, "--method", ALL_METHODS)
    linear, exact = out(capsys, *asked, "--evaluate", "linear"), out(capsys, *asked)
    np.testing.assert_allclose(values_of(linear, "base"), before, rtol=1e-9)
    gradients = oracle.quantity_gradient(quantity, theta, X, y)
    for method, change in changes.items():
        np.testing.assert_allclose(values_of(linear, method), gradients @ change, rtol=1e-6, atol=1e-12)
        after = oracle.quantity(quantity, theta + change, X, y)
        np.testing.assert_allclose(values_of(exact, method), after - before, rtol=1e-6, atol=1e-12)


def test_the_mean_over_all_test_rows_is_the_mean_of_their_changes(models, capsys):
    for kind in (SOFTMAX, LOGISTIC):
        asked = ("--model", models[kind][0], "--group", REMOVE, "--method", ALL_METHODS)
        for evaluate in ("linear", "exact"):
            one = out(capsys, *asked, "--test", "mean", "--evaluate", evaluate)
            every = out(capsys, *asked, "--test", "all", "--evaluate", evaluate)
            assert [row["test"] for row in rows_of(one)] == ["mean"]
            for key in ("base", *ALL_METHODS.split(",")):
                np.testing.assert_allclose(values_of(one, key)[0], values_of(every, key).mean(), rtol=1e-8)


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
def test_newton_on_a_linear_regression_is_the_refit(folder, capsys, scaling):
    """scikit-learn's Ridge minimises |r|^2 + alpha |w|^2: alpha is lambda over a kept row's weight."""
    data = save_regression(folder / "ridge.npz")
    model = train(data, folder / f"ridge-{scaling}.h5", "--estimator", "linear", "--l2", "0.1", "--tol", "1e-11",
                  "--penalty-scaling", scaling)  # fmt: skip
    arrays = np.load(data)
    X, y = arrays["X_train"], arrays["y_train"]
    kept = np.setdiff1d(np.arange(len(X)), GROUP)
    weight = 1 / (len(kept) if scaling == "per-mean" else len(X))
    refit = Ridge(alpha=0.1 / weight, solver="cholesky", tol=1e-12).fit(X[kept], y[kept])
    full = Ridge(alpha=0.1 * len(X), solver="cholesky", tol=1e-12).fit(X, y)
    asked = ("--model", model, "--group", REMOVE, "--method", "newton")
    actual = refit.predict(arrays["X_test"]) - full.predict(arrays["X_test"])
    found = values_of(out(capsys, *asked, "--test", "all", "--quantity", "prediction"), "newton")
    np.testing.assert_allclose(found, actual, rtol=1e-8)
    losses = [0.5 * (arrays["y_test"] - fitted.predict(arrays["X_test"])) ** 2 for fitted in (full, refit)]
    found = values_of(out(capsys, *asked, "--test", "all", "--evaluate", "exact"), "newton")
    np.testing.assert_allclose(found, losses[1] - losses[0], rtol=1e-7)
    names = {"x1": (refit.coef_[1], full.coef_[1]), "intercept": (refit.intercept_, full.intercept_)}
    for name, (after, before) in names.items():
        for evaluate in ("linear", "exact"):
            text = out(capsys, *asked, "--quantity", f"param:{name}", "--evaluate", evaluate)
            (row,) = rows_of(text)
            assert row["test"] == ""
            np.testing.assert_allclose([float(row["base"]), float(row["newton"])], [before, after - before], rtol=1e-7)


def test_without_a_penalty_and_more_features_than_rows_the_parameters_are_not_unique(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "wide.npz", X=rng.normal(size=(10, 20)), y=rng.normal(size=10))
    arguments = ["train", "--data", str(tmp_path / "wide.npz"), "--estimator", "linear", "--l2", "0"]
    assert run([*arguments, "-o", str(tmp_path / "m.h5")]) == 4
    assert "more features than rows" in capsys.readouterr().err
    assert not (tmp_path / "m.h5").exists()


def test_without_a_penalty_least_squares_is_the_ordinary_one(folder, capsys):
    data = save_regression(folder / "ols.npz", seed=3)
    model = train(data, folder / "ols.h5", "--estimator", "linear", "--l2", "0", "--tol", "1e-11")
    arrays = np.load(data)
    kept = np.setdiff1d(np.arange(len(arrays["X_train"])), GROUP)
    before, after = (
        LinearRegression().fit(arrays["X_train"][rows], arrays["y_train"][rows]).predict(arrays["X_test"])
        for rows in (np.arange(len(arrays["X_train"])), kept)
    )
    text = out(capsys, "--model", model, "--group", REMOVE, "--test", "all", "--quantity", "prediction",
               "--method", "newton")  # fmt: skip
    np.testing.assert_allclose(values_of(text, "newton"), after - before, rtol=1e-8)


def test_misclassified_rows_are_those_the_model_gets_wrong(digits, capsys):
    text = out(capsys, "--model", digits, "--group", "coherent:3", "--test", "misclassified:4", "--quantity", "margin")
    assert len(rows_of(text)) == 4
    assert (values_of(text, "base") < 0).all()
    assert len(set(values_of(text, "test"))) == 4


def test_keys_stand_in_the_agreed_order(digits, capsys):
    text = out(capsys, "--model", digits, "--group", "random:3", "--test", "1", "--method", "newton,first-koh")
    assert text.splitlines()[0].split(",") == [*KEYS, "newton", "first-koh", "evaluate", "status", *NAMES]
    (row,) = rows_of(text)
    hidden = dict.fromkeys(("base", "newton", "first-koh", "true", "predicted"), "")
    assert row | hidden == {
        "group": "random:3", "kind": "random", "size": "3", "fraction": str(3 / 1438), "test": "1",
        "quantity": "loss", "base": "", "newton": "", "first-koh": "", "evaluate": "exact", "status": "ok",
        "true": "", "predicted": "", "record": "10", "id": "",
    }  # fmt: skip


def test_keys_of_a_trained_model(tmp_path, capsys):
    data = save_blobs(tmp_path / "b.npz")
    assert run(["train", "--data", data, "-o", str(tmp_path / "m.h5"), "--format", "json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert list(record)[:16] == [
        "model", "data", "estimator", "rows", "test_rows", "features", "classes", "parameters", "l2",
        "penalty_scaling", "grad_norm", "iterations", "seconds", "train_score", "test_score", "factor",
    ]  # fmt: skip
    assert (record["rows"], record["test_rows"], record["classes"], record["parameters"]) == (60, 12, 3, 12)
    assert record["grad_norm"] <= 1e-8
    assert record["factor"] is True


def test_all_formats_hold_the_same_numbers_to_the_last_digit(digits, tmp_path, capsys):
    asked = ("--model", digits, "--group", "coherent:3", "--group", "random:7x3", "--test", "0:4")
    file = str(tmp_path / "i.h5")
    records = json.loads(out(capsys, *asked, "--format", "json", "-o", file))
    assert len(records) == 16
    lines = out(capsys, *asked, "--format", "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == records
    text = out(capsys, *asked, "--format", "csv")
    assert rows_of(text) == [
        {key: "" if value is None else str(value) for key, value in record.items()} for record in records
    ]
    table = np.genfromtxt(io.StringIO(text), delimiter=",", names=True, dtype=None, comments=None)
    for key in ("size", "fraction", "test", "base", "first", "second"):
        assert table[key].tolist() == [record[key] for record in records]
    columns = load_influence(file).columns()
    saved = {key: values.tolist() if isinstance(values, np.ndarray) else values for key, values in columns.items()}
    assert [dict(zip(saved, row, strict=True)) for row in zip(*saved.values(), strict=True)] == records


def test_values_that_cannot_be_had_are_null_with_a_reason(folder, capsys, monkeypatch):
    """Conjugate gradients that are cut off after two products, far from their tolerance."""
    rng = np.random.default_rng(0)
    np.savez(folder / "wide.npz", X_train=rng.normal(size=(40, 9)), y_train=rng.normal(size=40),
             X_test=rng.normal(size=(2, 9)), y_test=rng.normal(size=2))  # fmt: skip
    model = train(str(folder / "wide.npz"), folder / "wide.h5", "--estimator", "linear", "--solver", "cg")
    monkeypatch.setattr(choice, "conjugate_gradient", functools.partial(choice.conjugate_gradient, max_iterations=2))
    monkeypatch.setattr(Glm, "preconditioner", lambda *_: lambda r: r)
    asked = ("--model", model, "--group", "rows:1", "--test", "all", "--quantity", "prediction", "--solver", "cg")
    asked = (*asked, "--method", "first", "--evaluate", "linear")
    records = json.loads(out(capsys, *asked, "--format", "json", code=4))
    assert [record["first"] for record in records] == [None, None]
    assert all(record["base"] is not None for record in records)
    assert all(record["status"].startswith("first: test row ") for record in records)
    rows = rows_of(out(capsys, *asked, code=4))
    assert [row["first"] for row in rows] == ["", ""]
    run(["influence", *asked])
    assert "1 of 1 groups have values that are null: see status" in capsys.readouterr().err


def test_groups_from_a_pipe(digits, tmp_path, capsys):
    listed = out(capsys, "--model", digits, "--group", "rows:4,7,20", "--group", "random:5", "--test", "2")
    asked = ("influence", "--model", digits, "--test", "2")
    rows = ginf(*asked, "--group", "rows:@-", "--group", "random:5", cwd=tmp_path, stdin="20 4\n7\n")
    specs = ginf(*asked, "--groups", "-", cwd=tmp_path, stdin="# two groups\nrows:4,7,20\n\nrandom:5\n")
    assert specs.stdout == listed
    assert rows.stdout == listed.replace('"rows:4,7,20"', "rows:@-")


def test_cg_and_cholesky_agree_and_the_factor_is_cached_once(tmp_path, capsys):
    model = train("digits", tmp_path / "m.h5", "--solver", "cg")
    capsys.readouterr()
    methods = ("first", "second", "newton")
    asked = ("influence", "--model", model, "--group", "random:5%", "--test", "0,1", "--method", ",".join(methods))
    found = {}
    for solver, said in (
        ("cg", ["solver cg: asked for"]),
        ("cholesky", ["solver cholesky: asked for", f"cached the factor in {model}"]),
        ("auto", [f"solver cholesky: reusing the factor cached in {model}"]),
    ):
        assert run([*asked, "--solver", solver, "--verbose"]) == 0
        found[solver], err = capsys.readouterr()
        assert err.splitlines() == [f"ginf: {line}" for line in said]
    assert found["auto"] == found["cholesky"]
    for method in methods:
        cg, cholesky = (values_of(found[solver], method) for solver in ("cg", "cholesky"))
        np.testing.assert_allclose(cg, cholesky, rtol=1e-8, atol=1e-8 * np.abs(cholesky).max())


def test_quiet_and_threads_change_no_figure(digits, capsys):
    asked = ("--model", digits, "--group", "random:5%x3", "--test", "0:5")
    plain = out(capsys, *asked)
    assert run(["influence", *asked, "--quiet"]) == 0
    assert capsys.readouterr() == (plain, "")
    np.testing.assert_allclose(values_of(out(capsys, *asked, "--threads", "1"), "second"), values_of(plain, "second"))


def test_seed_fixes_the_draws(digits, capsys):
    asked = ("--model", digits, "--group", "random:5%x2", "--test", "0")
    first, again, other = (out(capsys, *asked, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other


def test_more_than_the_memory_holds_is_refused_before_it_starts(models, folder, monkeypatch, capsys):
    monkeypatch.setattr(choice, "available_memory", lambda: 1e4)
    target = folder / "no.h5"
    assert run(["influence", "--model", models[SOFTMAX][0], "--group", REMOVE, "--test", "all", "-o", str(target)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "ginf: error: this needs about" in err
    assert "of memory beside the model, and 10 kB are available" in err
    assert "hint: ask about fewer groups" in err
    assert not target.exists()
