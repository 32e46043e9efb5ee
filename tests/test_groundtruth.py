"""``ginf groundtruth``: the figures against scikit-learn and the oracle, and what it says where there are none."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stdout
from contextvars import copy_context

import numpy as np
import pytest
from core_cases import make_oracle
from oracle import LINEAR, LOGISTIC, SOFTMAX
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from threadpoolctl import threadpool_info, threadpool_limits

from influence_cli.analysis import groundtruth
from influence_cli.artifacts.results import load_result, save_truth
from influence_cli.cli import run
from influence_cli.commands.session import jobs_at_a_time
from influence_cli.core.parallel import divided, thread_count
from influence_cli.data.load import load
from influence_cli.errors import ExitCode

PEER = 1e-6
"""Difference in f from refits by scikit-learn at the tightest tolerance that its solvers reach."""


def ask(capsys, *arguments, code=ExitCode.OK):
    """The records that a command prints."""
    threads = [] if "--threads" in arguments else ["--threads", "1"]
    assert run([*map(str, arguments), *threads, "--format", "json", "--quiet"]) == code
    return json.loads(capsys.readouterr().out)


def by_group(records):
    """Label to its records, one a test row."""
    found = {}
    for record in records:
        found.setdefault(record["group"], []).append(record)
    return found


def figures(records, key="actual"):
    return {label: [record[key] for record in rows] for label, rows in by_group(records).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    X, y = load_diabetes(return_X_y=True)
    X, y = X / X.std(axis=0), y / y.std()
    np.savez(folder / "diabetes.npz", X_train=X[:400], y_train=y[:400], X_test=X[400:], y_test=y[400:])
    for kind, seed in ((LOGISTIC, 0), (SOFTMAX, 0), (LINEAR, 0)):
        small = make_oracle(kind, m=70, seed=seed)
        np.savez(
            folder / f"{kind}.npz", X_train=small.X[:60], y_train=small.y[:60], X_test=small.X[60:], y_test=small.y[60:]
        )
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """A model file for these options of ``ginf train``, made once."""
    made = {}

    def train(data, *options):
        key = (data, *options)
        if key not in made:
            made[key] = folder / f"model{len(made)}.h5"
            source = folder / data if data.endswith(".npz") else data
            with redirect_stdout(io.StringIO()):
                assert run(["train", "--data", str(source), *options, "-o", str(made[key]), "--quiet"]) == 0
        return made[key]

    return train


# --- against scikit-learn ---


def refit_loss(task, X, y, rows, X_test, y_test, l2, scaling):
    """Losses of the test rows after scikit-learn's refit without the rows."""
    kept = np.delete(np.arange(len(X)), rows)
    total = len(kept) if scaling == "per-mean" else len(X)
    if task == "regression":
        model = Ridge(alpha=l2 * total, solver="cholesky") if l2 else LinearRegression()
        return 0.5 * (model.fit(X[kept], y[kept]).predict(X_test) - y_test) ** 2
    model = LogisticRegression(C=1 / (l2 * total), tol=1e-12, solver="newton-cg", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its line search cannot resolve the last step
        model.fit(X[kept], y[kept])
    column = {label: number for number, label in enumerate(model.classes_)}
    logs = model.predict_log_proba(X_test)
    return np.array([-logs[row, column[y]] if y in column else np.nan for row, y in enumerate(y_test)])


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
@pytest.mark.parametrize(
    ("data", "estimator", "l2", "specs"),
    [
        ("digits", "logistic", 1e-3, ["rows:5", "random:36%", "random:95%", "coherent:3", "coherent:8:5%"]),
        ("synthetic", "logistic", 1e-4, ["random:1.6%", "random:60%", "random:99%", "coherent:1:30%"]),
        ("diabetes.npz", "linear", 1e-2, ["rows:0", "random:10%", "random:50%", "random:95%"]),
        ("diabetes.npz", "linear", 0.0, ["random:10%", "random:50%", "random:90%"]),
    ],
)
def test_the_truth_is_what_scikit_learn_refits(data, estimator, l2, specs, scaling, folder, trained, capsys):
    model = trained(data, "--estimator", estimator, "--l2", str(l2), "--penalty-scaling", scaling)
    groups = [part for spec in specs for part in ("--group", spec)]
    asked = ("groundtruth", "--model", model, *groups, "--test", "0:8")
    records = ask(capsys, *asked, "--tol", "1e-10")
    assert all(record["grad_norm"] <= 1e-10 for record in records)
    usual = ask(capsys, *asked)
    assert all(record["grad_norm"] <= 1e-8 for record in usual)
    task = {"logistic": "classification", "linear": "regression"}[estimator]
    rows = load(str(folder / data) if data.endswith(".npz") else data, task=task)
    X_test, y_test = rows.X_test[:8], rows.y_test[:8]
    before = refit_loss(task, rows.X_train, rows.y_train, [], X_test, y_test, l2, scaling)
    drawn = drawn_rows(model, specs)
    changed = []
    for label, found in by_group(records).items():
        after = refit_loss(task, rows.X_train, rows.y_train, drawn[label], X_test, y_test, l2, scaling)
        assert [record["base"] for record in found] == pytest.approx(before, abs=PEER)
        actual = [np.nan if record["actual"] is None else record["actual"] for record in found]
        assert actual == pytest.approx(after - before, abs=PEER, nan_ok=True), label
        # the usual tolerance: f moves by |H^-1 grad f| a unit of gradient, which grows as few rows are left
        actual = [np.nan if value is None else value for value in figures(usual)[label]]
        close = PEER if len(drawn[label]) < 0.9 * len(rows.X_train) else 20 * PEER
        assert actual == pytest.approx(after - before, abs=close, nan_ok=True), label
        changed.append(np.nanmax(np.abs(after - before)))
    assert min(changed) > 10 * PEER  # or the comparison says nothing
    if "coherent:3" in specs:
        lost = [record["test"] for record in records if record["actual"] is None]
        assert lost == [row for row in range(8) if rows.classes[y_test[row]] == "3"]
        assert lost


def drawn_rows(model, specs):
    """Label to row numbers, by the function that every command draws with."""
    from influence_cli.artifacts.model import load_model
    from influence_cli.specs.from_python import train_rows
    from influence_cli.specs.groups import parse_group
    from influence_cli.specs.plan import plan_groups

    data = load_model(model).dataset
    plan = plan_groups([parse_group(spec) for spec in specs], train_rows(data))
    groups = [plan.group(index) for index in range(len(plan))]
    return {group.label: group.rows for group in groups}


# --- against the oracle: every model and quantity ---

QUANTITIES = {
    LOGISTIC: ("loss", "prob", "margin", "logit:0", "logit:1"),
    SOFTMAX: ("loss", "prob", "margin", "logit:2"),
    LINEAR: ("loss", "prediction"),
}


@pytest.mark.parametrize("scaling", ["per-mean", "per-sum"])
@pytest.mark.parametrize("kind", QUANTITIES)
def test_every_quantity_of_every_model(kind, scaling, trained, capsys):
    estimator = "linear" if kind == LINEAR else "logistic"
    options = ("--estimator", estimator, "--l2", "0.05", "--penalty-scaling", scaling)
    model = trained(f"{kind}.npz", *options)
    whole = make_oracle(kind, m=70)
    oracle = type(whole)(kind, whole.X[:60], whole.y[:60], whole.classes, 0.05)
    X, y = whole.X[60:], whole.y[60:]
    group = np.array([0, 3, 7, 8, 20, 31])
    theta = oracle.minimise(oracle.uniform())
    after = theta + oracle.refit_change(theta, group, scaling)
    asked = ("groundtruth", "--model", model, "--group", "rows:" + ",".join(map(str, group)), "--tol", "1e-11")
    for quantity in QUANTITIES[kind]:
        change = oracle.quantity(quantity, after, X, y) - oracle.quantity(quantity, theta, X, y)
        found = ask(capsys, *asked, "--test", "all", "--quantity", quantity)
        assert [record["actual"] for record in found] == pytest.approx(change, abs=1e-8), quantity
        assert {record["quantity"] for record in found} == {quantity}
        (mean,) = ask(capsys, *asked, "--test", "mean", "--quantity", quantity)
        assert mean["actual"] == pytest.approx(change.mean(), abs=1e-8)
        assert mean["test"] == "mean"
    name, at = {LOGISTIC: ("x1", 1), SOFTMAX: ("1:x2", 6), LINEAR: ("intercept", 3)}[kind]
    (one,) = ask(capsys, *asked, "--quantity", f"param:{name}")
    assert one["test"] is None
    assert one["base"] == pytest.approx(theta[at], abs=1e-7)  # the model itself is trained to 1e-8
    assert one["actual"] == pytest.approx((after - theta)[at], abs=1e-7)


# --- cold, jobs ---


@pytest.mark.parametrize("data", ["digits", "synthetic", "linear.npz"])
def test_cold_and_warm_starts_agree(data, trained, capsys):
    classes = data != "linear.npz"
    model = trained(data, "--estimator", "logistic" if classes else "linear")
    groups = ["--group", "random:10%x2", "--group", "random:90%"]
    groups += ["--group", "coherent:1", "--group", "coherent:1:5%"] if classes else []
    asked = ("groundtruth", "--model", model, *groups, "--test", "0:6")
    warm, cold = ask(capsys, *asked), ask(capsys, *asked, "--cold")
    assert max(record["grad_norm"] for record in (*warm, *cold)) <= 1e-8
    assert [record["status"] for record in warm] == [record["status"] for record in cold]
    # two points with gradient norms up to 1e-8 are up to 2e-8 / lambda apart
    assert figures(warm) == {label: pytest.approx(values, abs=2e-6) for label, values in figures(cold).items()}
    if data == "digits":
        assert [record["iterations"] for record in warm] != [record["iterations"] for record in cold]


def test_jobs_and_threads_do_not_change_the_figures(trained, capsys):
    model = trained("synthetic", "--l2", "1e-4")
    asked = ("groundtruth", "--model", model, "--group", "random:30%x130", "--test", "misclassified:2")
    one = ask(capsys, *asked, "--jobs", "1", "--threads", "1")
    for options in (("--jobs", "2", "--threads", "2"), ("--jobs", "1", "--threads", "2"), ("--jobs", "4")):
        other = ask(capsys, *asked, *options)
        assert [record["group"] for record in other] == [record["group"] for record in one]
        assert figures(other) == {label: pytest.approx(values, rel=1e-6) for label, values in figures(one).items()}


@pytest.mark.parametrize(
    ("jobs", "threads", "blocks", "expected"),
    [
        (None, 8, 100, (8, 1)),
        (2, 8, 100, (2, 4)),
        (3, 8, 100, (3, 2)),
        (16, 8, 100, (8, 1)),  # never more threads than were granted
        (None, 8, 1, (1, 8)),  # one block alone has them all
        (None, 8, 3, (3, 2)),
        (None, 1, 100, (1, 1)),
        (None, 8, 0, (1, 8)),
    ],
)
def test_jobs_share_the_threads(jobs, threads, blocks, expected):
    with threadpool_limits(threads, user_api="blas"):
        found = jobs_at_a_time(jobs, blocks)
        with divided(found) as begin_job:
            begun = copy_context()
            begun.run(begin_job)
            assert (found, begun.run(thread_count)) == expected


def test_each_job_has_its_share_of_the_blas_threads(trained, capsys, monkeypatch):
    seen = []
    original = groundtruth._retrain_block

    def watched(*arguments):
        seen.append(max((pool["num_threads"] for pool in threadpool_info()), default=1))
        return original(*arguments)

    monkeypatch.setattr(groundtruth, "_retrain_block", watched)
    model = trained("synthetic", "--l2", "1e-4")
    asked = ("groundtruth", "--model", model, "--group", "random:30%x130", "--test", "0")
    ask(capsys, *asked, "--threads", "2", "--jobs", "2")
    assert seen == [1, 1, 1]


# --- what has no value ---


def test_a_limit_is_not_called_null(trained, capsys):
    asked = ["groundtruth", "--model", str(trained("digits")), "--group", "coherent:3", "--test", "0", "--quantity"]
    assert run([*asked, "prob", "--format", "json"]) == ExitCode.OK
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["actual"] is not None
    assert "1 of 1 groups have limiting or uncertain changes: see status" in told.err and "null" not in told.err
    assert run([*asked, "logit:3"]) == ExitCode.OK
    assert "1 of 1 groups have null changes: see status" in capsys.readouterr().err


def test_a_whole_class_with_a_free_intercept_is_null_only_where_f_has_no_finite_value(trained, capsys):
    model = trained("digits")
    asked = ("groundtruth", "--model", model, "--group", "coherent:3", "--group", "random:5%", "--test", "all")
    truth = load("digits", task="classification")
    of_class = [truth.classes[code] == "3" for code in truth.y_test]
    for quantity, without in (("loss", True), ("prob", False)):
        found = by_group(ask(capsys, *asked, "--quantity", quantity))
        nulls = [record["actual"] is None for record in found["coherent:3"]]
        assert nulls == ([flag and without for flag in of_class])
        assert all(record["status"].startswith("unbounded: a class ") for record in found["coherent:3"])
        assert {record["status"] for record in found["random:5%"]} == {"ok"}
        assert max(record["grad_norm"] for record in found["coherent:3"]) <= 1e-8
    sure = [record for record, flag in zip(found["coherent:3"], of_class, strict=True) if flag]
    assert all(record["actual"] == pytest.approx(-record["base"], abs=1e-9) for record in sure)


def test_a_whole_class_under_a_penalised_intercept_has_values_throughout(trained, capsys):
    model = trained("digits", "--penalize-intercept")
    found = ask(capsys, "groundtruth", "--model", model, "--group", "coherent:*", "--test", "0:9")
    assert len(found) == 90
    assert {record["status"] for record in found} == {"ok"}
    assert all(np.isfinite(record["actual"]) and record["grad_norm"] <= 1e-8 for record in found)


def test_a_stalled_group_is_never_passed_off_as_retrained(trained, tmp_path, capsys, monkeypatch):
    from dataclasses import replace

    original = groundtruth.retrain
    monkeypatch.setattr(
        groundtruth, "retrain", lambda *of, **how: replace(original(*of, **how), converged=np.zeros(2, dtype=bool))
    )
    model, path = trained("digits"), tmp_path / "truth.h5"
    asked = ["groundtruth", "--model", str(model), "--group", "random:5%x2", "--test", "0"]
    asked += ["--threads", "1"]
    assert run([*asked, "-o", str(path), "--format", "json"]) == ExitCode.NOT_CONVERGED
    out, err = capsys.readouterr()
    records = json.loads(out)
    assert all(record["actual"] is None and record["actual_error"] is None for record in records)
    assert all(record["status"].startswith("retraining stopped at gradient norm ") for record in records)
    assert all(record["status"].endswith(", with more than 1e-08 of the way to go") for record in records)
    assert "ginf: 2 of 2 groups have null changes: see status" in err
    kept = load_result(path)
    assert np.isnan(kept.actual).all()
    assert run([*asked, "-o", str(path), "--resume", "--quiet"]) == ExitCode.NOT_CONVERGED  # done, and still not well


def test_what_rounding_leaves_is_retrained_whatever_was_asked_for(trained, capsys):
    asked = ("groundtruth", "--model", trained("digits"), "--group", "random:5%x2", "--test", "0")
    wanted, found = ask(capsys, *asked), ask(capsys, *asked, "--tol", "1e-25")
    assert [record["status"] for record in found] == ["ok", "ok"]
    assert all(record["grad_norm"] < 1e-12 for record in found)
    for usual, best in zip(wanted, found, strict=True):
        assert abs(usual["actual"] - best["actual"]) <= usual["actual_error"] + best["actual_error"]
        assert usual["actual_error"] < 1e-5 * abs(usual["actual"])


def test_a_stalled_group_leaves_the_others_their_values(trained, capsys, monkeypatch):
    from dataclasses import replace

    original = groundtruth.retrain

    def stalling(*arguments, **settings):
        found = original(*arguments, **settings)
        return replace(found, converged=np.arange(len(found.converged)) != 1)

    monkeypatch.setattr(groundtruth, "retrain", stalling)
    asked = ("groundtruth", "--model", trained("digits"), "--group", "random:5%x3", "--test", "0")
    found = ask(capsys, *asked, code=ExitCode.NOT_CONVERGED)
    assert [record["actual"] is None for record in found] == [False, True, False]
    assert [record["status"] == "ok" for record in found] == [True, False, True]


def test_rows_that_do_not_determine_the_parameters(trained, capsys):
    model = trained("linear.npz", "--estimator", "linear", "--l2", "0")
    asked = ("groundtruth", "--model", model, "--group", "random:57", "--group", "random:50", "--test", "0")
    found = by_group(ask(capsys, *asked))
    (few,), (enough,) = found["random:57"], found["random:50"]
    assert few["actual"] is None and few["actual_error"] is None
    assert few["status"].startswith("unbounded: without the group the rows leave 1 of 4 parameters open")
    assert enough["status"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tol", "0"], "--tol must be a number greater than 0, found 0"),
        (["--resume"], "--resume goes on with a .h5 file, and none was named"),
    ],
)
def test_wrong_usage(arguments, message, trained, capsys):
    asked = ["groundtruth", "--model", str(trained("digits")), "--group", "random:5%", "--test", "0"]
    assert run([*asked, *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err


# --- beside the estimates ---


def test_estimates_and_truth_speak_of_the_same_rows(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = str(trained("digits"))
    groups = ["random:5%x3", "coherent:*:2%x4", "coherent:7", "neighbours:17:9", "rows:4,8,15", "cluster:3"]
    asked = ["--model", model, *(part for spec in groups for part in ("--group", spec)), "--test", "3,1", "--quiet"]
    asked += ["--threads", "1"]
    assert run(["influence", *asked, "--seed", "7", "-o", "influence.h5"]) == ExitCode.OK
    assert run(["groundtruth", *asked, "--seed", "7", "-o", "truth.h5"]) == ExitCode.OK
    estimates, truth = load_result("influence.h5"), load_result("truth.h5")
    assert estimates.groups.digest == truth.groups.digest
    assert estimates.groups.label == truth.groups.label
    assert estimates.provenance.model_digest == truth.provenance.model_digest
    assert (estimates.tests == truth.tests).all()
    assert estimates.base == pytest.approx(truth.base, abs=0)
    assert run(["compare", "influence.h5", "truth.h5", "--quiet"]) == ExitCode.OK
    capsys.readouterr()
    # another seed draws other rows: compare goes by the digests, not by the labels
    assert run(["groundtruth", *asked, "--seed", "8", "-o", "other.h5"]) == ExitCode.OK
    other = load_result("other.h5")
    drawn = [label.startswith(("random", "coherent:")) and label != "coherent:7" for label in truth.groups.label]
    same = [one == two for one, two in zip(truth.groups.digest, other.groups.digest, strict=True)]
    assert not any(one and two for one, two in zip(drawn, same, strict=True))
    capsys.readouterr()
    assert run(["compare", "influence.h5", "other.h5"]) == ExitCode.OK
    assert "left out" in capsys.readouterr().err


def test_compare_refuses_the_truth_of_another_model(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["--group", "random:5%x3", "--test", "3", "--quiet", "--threads", "1"]
    assert run(["influence", "--model", str(trained("digits")), *asked, "-o", "influence.h5"]) == ExitCode.OK
    other = str(trained("digits", "--penalize-intercept"))
    assert run(["groundtruth", "--model", other, *asked, "-o", "truth.h5"]) == ExitCode.OK
    capsys.readouterr()
    assert run(["compare", "influence.h5", "truth.h5"]) == ExitCode.FILE
    expected = "influence.h5 and truth.h5 do not belong together: they come from different models"
    assert expected in capsys.readouterr().err


def test_compare_leaves_groups_out_that_are_not_done(trained, tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    asked = ["--model", str(trained("digits")), "--group", "random:5%x6", "--test", "3", "--quiet"]
    asked += ["--threads", "1"]
    assert run(["influence", *asked, "-o", "influence.h5"]) == ExitCode.OK
    assert run(["groundtruth", *asked, "-o", "truth.h5"]) == ExitCode.OK
    truth = load_result("truth.h5")
    actual = truth.actual.copy()
    actual[4:] = np.nan
    save_truth("truth.h5", replace(truth, actual=actual, status=("ok",) * 4 + ("pending",) * 2), force=True)
    capsys.readouterr()
    assert run(["compare", "influence.h5", "truth.h5"]) == ExitCode.OK
    assert "2 pairs of 2 groups have no true value and are left out: pending (2)" in capsys.readouterr().err
