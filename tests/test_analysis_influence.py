"""``analysis.influence``: blocks of groups and pieces of test rows change nothing; failures are told, never guessed."""

from dataclasses import replace

import numpy as np
import pytest
from cli_tools import ALL_METHODS, save_blobs, save_regression
from oracle import SOFTMAX, Oracle
from scipy.optimize import brentq

from influence_cli.analysis import influence as module
from influence_cli.analysis import question
from influence_cli.analysis.groundtruth import is_an_answer
from influence_cli.analysis.influence import check_methods, influence
from influence_cli.analysis.question import TestRows
from influence_cli.analysis.reliability import Estimation
from influence_cli.core.changed_rows import Changed, estimate_changed
from influence_cli.core.conditions import conditions
from influence_cli.core.estimators import estimate
from influence_cli.core.solvers.cg import Status
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.load import load
from influence_cli.errors import UsageError
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import fit
from influence_cli.results import EXTRAPOLATED, OK, UNCERTAIN, Provenance
from influence_cli.specs.from_python import train_rows
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import plan_groups

METHODS = tuple(ALL_METHODS.split(","))
NOWHERE = Provenance("", "", {})


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    data = load(save_blobs(tmp_path_factory.mktemp("data") / "b.npz"), task="classification")
    return fit(data, ModelSettings("logistic", 0.05, "per-mean", True, False, 1e-12))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    data = load(save_regression(tmp_path_factory.mktemp("data") / "r.npz"), task="regression")
    return fit(data, ModelSettings("linear", 0.05, "per-sum", True, False, 1e-12))


def plan_of(model, *specs):
    data = model.dataset
    return plan_groups([parse_group(spec) for spec in specs], train_rows(data), seed=0)


def run(model, plan, tests, *, solver=None, quantity="loss", **options):
    solver = solver or make_solver(model.objective, model.theta, "cholesky")
    rows = None if tests is None else TestRows(np.array(tests))
    question_of = question.ask(model, rows, quantity)
    extra = {"advance": options.pop("advance")} if "advance" in options else {}
    how = Estimation(**{"methods": ("first", "second"), "evaluate": "linear"} | options)
    return influence(question_of, solver, plan, how, provenance=NOWHERE, **extra)


@pytest.mark.parametrize("evaluate", ["linear", "exact"])
@pytest.mark.parametrize("methods", [METHODS, ("newton",), ("first-koh",), ("first",), ("second",)])
def test_against_the_dense_oracle(softmax, evaluate, methods):
    data = softmax.dataset
    oracle = Oracle(SOFTMAX, data.X_train, data.y_train, 3, l2=0.05)
    theta = oracle.minimise(oracle.uniform())
    plan = plan_of(softmax, "random:1x3", "random:20%x2", "coherent:*")
    found = run(softmax, plan, [3, 0, 7], methods=methods, evaluate=evaluate, quantity="margin")
    X, y = data.X_test[[3, 0, 7]], data.y_test[[3, 0, 7]]
    before, slopes = oracle.quantity("margin", theta, X, y), oracle.quantity_gradient("margin", theta, X, y)
    assert found.tests.tolist() == [3, 0, 7]
    assert set(found.status) == {OK}
    np.testing.assert_allclose(found.base, before, rtol=1e-9)
    for index in range(len(plan)):
        changes = oracle.changes(theta, plan.group(index).rows, "per-mean")
        for method in methods:
            after = oracle.quantity("margin", theta + changes[method], X, y)
            expected = slopes @ changes[method] if evaluate == "linear" else after - before
            np.testing.assert_allclose(found.values[method][index], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("evaluate", ["linear", "exact"])
def test_blocks_and_pieces_change_no_figure(softmax, monkeypatch, evaluate):
    plan = plan_of(softmax, "random:10x11")
    tests = list(range(12)) * 12
    options = {"methods": METHODS, "evaluate": evaluate}
    seen = []
    whole = run(softmax, plan, tests, advance=seen.append, **options)
    assert seen == [11 * 144]
    monkeypatch.setattr(module, "WIDEST", 4)
    monkeypatch.setattr(question, "TEST_BYTES", 1.0)
    assert len(question.ask(softmax, TestRows(np.array(tests)), "loss").targets) == 3
    seen.clear()
    parts = run(softmax, plan, tests, advance=seen.append, **options)
    assert len(seen) == 9
    assert sum(seen) == 11 * 144
    for method in METHODS:
        np.testing.assert_allclose(parts.values[method], whole.values[method], rtol=1e-8, atol=1e-13)
    assert parts.base.tolist() == pytest.approx(whole.base.tolist(), rel=1e-12)
    assert parts.groups.digest == whole.groups.digest
    assert len(set(whole.groups.digest)) == 11


@pytest.mark.parametrize("evaluate", ["linear", "exact"])
def test_every_group_is_estimated_once_whatever_the_test_rows(softmax, monkeypatch, evaluate):
    monkeypatch.setattr(module, "WIDEST", 4)
    monkeypatch.setattr(question, "TEST_BYTES", 1.0)  # 64 test rows at a time
    seen = []

    def counted(objective, theta, solver, groups, *others):
        seen.append(len(groups.share))
        return estimate(objective, theta, solver, groups, *others)

    monkeypatch.setattr(module, "estimate", counted)
    run(softmax, plan_of(softmax, "random:10x11"), list(range(12)) * 12, evaluate=evaluate)
    assert seen == [4, 4, 3]


def test_the_side_that_falls_into_fewer_parts_waits_for_the_other(softmax, monkeypatch):
    plan, tests = plan_of(softmax, "random:10x11"), list(range(12)) * 6
    whole = run(softmax, plan, tests, methods=METHODS)
    monkeypatch.setattr(module, "WIDEST", 4)
    monkeypatch.setattr(module, "HELD_BYTES", 1.0)  # 4 groups at a time
    monkeypatch.setattr(question, "TEST_BYTES", 1.0)
    parts = run(softmax, plan, tests, methods=METHODS)
    for method in METHODS:
        np.testing.assert_allclose(parts.values[method], whole.values[method], rtol=1e-8, atol=1e-13)


def test_the_number_of_solves_does_not_grow_with_the_pairs(softmax):
    """One adjoint solve a test row, one forward solve a group: columns of right-hand sides, counted."""
    solver = make_solver(softmax.objective, softmax.theta, "cholesky")

    class Counting:
        tol, preconditioner, factor = solver.tol, solver.preconditioner, solver.factor
        exact = solver.exact
        columns = 0

        def solve(self, rhs):
            self.columns += rhs.shape[1]
            return solver.solve(rhs)

    plan = plan_of(softmax, "random:10x6")
    for methods, expected in ((("first-koh", "first"), 5), (("first", "second", "second-full"), 5 + 6)):
        counting = Counting()
        run(softmax, plan, range(5), solver=counting, methods=methods)
        assert counting.columns == expected


def test_a_test_row_that_cannot_be_solved_for_is_null_alone(softmax):
    """The solver gives up on one adjoint; every other pair keeps its value, and every group tells."""
    solver = make_solver(softmax.objective, softmax.theta, "cholesky")
    plan = plan_of(softmax, "random:10x3")
    fine = run(softmax, plan, [5, 2, 8], methods=METHODS)

    class Failing:
        calls = 0

        def __getattr__(self, name):
            return getattr(solver, name)

        def solve(self, rhs):
            solution = solver.solve(rhs)
            self.calls += rhs.shape[1] > 1  # a single one is rif's, for the penalty
            if self.calls != 1 or rhs.shape[1] == 1:  # the first is for the test rows
                return solution
            status = np.array([Status.SOLVED, Status.STOPPED, Status.SOLVED])
            return replace(solution, status=status, residual=np.array([0.0, 1e-3, 0.0]))

    found = run(softmax, plan, [5, 2, 8], solver=Failing(), methods=METHODS)
    for method in METHODS:
        expected = fine.values[method].copy()
        if method != "newton":  # it needs no adjoint
            expected[:, 1] = np.nan
        np.testing.assert_array_equal(found.values[method], expected)
    assert len(set(found.status)) == 1
    assert found.status[0].startswith("first-koh: test row 2, solve stopped at relative residual 1.0e-03")


@pytest.mark.parametrize("evaluate", ["linear", "exact"])
def test_a_group_that_cannot_be_solved_for_is_null_alone(softmax, evaluate):
    solver = make_solver(softmax.objective, softmax.theta, "cholesky")
    plan = plan_of(softmax, "random:10x3")
    options = {"methods": ("second",), "evaluate": evaluate}
    fine = run(softmax, plan, [5, 2], **options)

    class Failing:
        def __getattr__(self, name):
            return getattr(solver, name)

        def solve(self, rhs):
            solution = solver.solve(rhs)
            if rhs.shape[1] == 3:
                solution.status[1] = Status.STOPPED
            return solution

    found = run(softmax, plan, [5, 2], solver=Failing(), **options)
    expected = fine.values["second"].copy()
    expected[1] = np.nan
    np.testing.assert_array_equal(found.values["second"], expected)
    assert [status == OK for status in found.status] == [True, False, True]
    assert found.status[1].startswith("second: solve stopped")


def test_an_estimate_beyond_all_numbers_is_null_with_a_reason(regression):
    """Half the square of a residual of 1e200 is no float64."""
    y = regression.dataset.y_test.copy()
    y[1] = 1e200
    model = replace(regression, dataset=replace(regression.dataset, y_test=y))
    with np.errstate(over="ignore", invalid="ignore"):
        found = run(model, plan_of(model, "rows:1,2"), [0, 1], methods=("newton",), evaluate="exact")
    assert np.isfinite(found.values["newton"]).tolist() == [[True, False]]
    assert found.status == ("newton: the estimate is not finite",)


def test_linear_regression_is_quadratic(regression):
    """No third derivative, and newton is exact: second-full is second, and newton the refit by lstsq."""
    plan = plan_of(regression, "random:30%x2")
    found = run(regression, plan, [0, 1, 2], methods=METHODS, quantity="prediction")
    np.testing.assert_allclose(found.values["second-full"], found.values["second"], rtol=1e-12)
    data = regression.dataset
    m, penalty = len(data.X_train), np.diag([0.05] * 4 + [0.0])
    design = np.c_[data.X_train, np.ones(m)]
    for index in range(2):
        kept = np.setdiff1d(np.arange(m), plan.group(index).rows)
        full, part = (
            np.linalg.solve(design[rows].T @ design[rows] / m + penalty, design[rows].T @ data.y_train[rows] / m)
            for rows in (np.arange(m), kept)
        )
        expected = np.c_[data.X_test[:3], np.ones(3)] @ (part - full)
        np.testing.assert_allclose(found.values["newton"][index], expected, rtol=1e-9)


def test_one_parameter_needs_no_test_row(softmax):
    found = run(softmax, plan_of(softmax, "random:5"), None, methods=("newton",), quantity="param:1:intercept")
    assert found.values["newton"].shape == (1, 1)
    assert found.columns()["test"] == [None]
    assert found.base[0] == softmax.theta[softmax.parameter_names.index("1:intercept"), 0]


def test_methods_are_checked():
    assert check_methods(["newton", "first"]) == ("newton", "first")
    with pytest.raises(UsageError, match=r"--method must be one of first-koh, .*; found 'secnd'") as caught:
        check_methods(["first", "secnd"])
    assert caught.value.hint == "did you mean second?"
    for wrong in ([], ["first", "first"]):
        with pytest.raises(UsageError, match="one or more different methods"):
            check_methods(wrong)


def tied_at(model, off=0.0):
    """The model with a test row of class 2 at which classes 0 and 1 have the same score, but for ``off``."""
    data, objective = model.dataset, model.objective
    scores = objective.predict_outputs(model.theta, data.X_test)[0]
    order = np.argsort(scores[0] - scores[1])
    low, high = data.X_test[order[0]], data.X_test[order[-1]]

    def gap(share):
        scores = objective.predict_outputs(model.theta, ((1 - share) * low + share * high)[None])[0, :, 0]
        return scores[0] - scores[1] - off

    share = brentq(gap, 0.0, 1.0, xtol=1e-15)
    X, y = data.X_test.copy(), data.y_test.copy()
    X[0], y[0] = (1 - share) * low + share * high, 2
    return replace(model, dataset=replace(data, X_test=X, y_test=y))


def test_a_linear_margin_at_a_tie_of_rivals_says_so(softmax):
    model = tied_at(softmax)
    plan = plan_of(model, "random:10%x2", "coherent:0")
    found = run(model, plan, [0, 3], quantity="margin")
    assert all(status.startswith(UNCERTAIN) and "test 0," in status for status in found.status)
    assert all(map(is_an_answer, found.status)) and np.isfinite(found.values["first"]).all()
    flags = np.array([[1, 0]] * len(plan))
    assert replace(found, ends=flags).statuses()[:2] == [EXTRAPOLATED, found.status[0]]
    X, y, step = model.dataset.X_test[:1], model.dataset.y_test[:1], 1e-3
    oracle = Oracle(SOFTMAX, model.dataset.X_train, model.dataset.y_train, 3, l2=0.05)
    theta = model.theta[:, 0]
    away = np.random.default_rng(0).normal(size=theta.shape)
    here, *sides = (oracle.quantity("margin", theta + sign * step * away, X, y)[0] for sign in (0, 1, -1))
    assert abs((sides[0] - here) + (sides[1] - here)) > 0.01 * abs(sides[0] - sides[1]), "a kink"
    for other in ({"quantity": "margin", "evaluate": "exact"}, {"quantity": "prob"}):
        assert set(run(model, plan, [0, 3], **other).status) == {OK}
    assert set(run(tied_at(softmax, off=1e-3), plan, [0, 3], quantity="margin").status) == {OK}
    assert set(run(model, plan, [3, 5], quantity="margin").status) == {OK}


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_newton_says_where_the_hessian_without_the_group_is_ill_conditioned(tmp_path, unit):
    """Two columns that differ on the first rows, and elsewhere by 1e-6; the units of a column change nothing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    X[:, 2] = X[:, 1] + np.where(np.arange(60) < 5, 1.0, 1e-6) * rng.normal(size=60)
    y = X @ [1.0, 2.0, -1.0] + rng.normal(size=60)
    X[:, 0] *= unit
    np.savez(tmp_path / "d.npz", X_train=X, y_train=y, X_test=X[:3], y_test=y[:3])
    data = load(tmp_path / "d.npz", task="regression")
    model = fit(data, ModelSettings("linear", 0.0, "per-sum", False, False, 1e-12))
    plan = plan_of(model, "rows:0,1,2,3,4", "rows:10,11,12,13,14")
    found = run(model, plan, [0, 1], methods=("first", "newton"), evaluate="exact")
    kept = X[5:] / np.sqrt((X**2).sum(axis=0))
    condition = np.linalg.cond(kept.T @ kept)
    assert condition > 1e8
    assert found.status[0].startswith(
        UNCERTAIN + "newton: the Hessian without the group has a condition number of about"
    )
    said = float(found.status[0].partition("about ")[2].partition(",")[0])
    assert 0.1 < said / condition < 10
    assert found.status[1] == OK
    assert np.isfinite(found.values["newton"]).all()
    objective, theta = model.objective, model.theta
    solver, gone = make_solver(objective, theta, "cholesky"), model.removal([plan.rows(0), plan.rows(1)])
    light = conditions(objective, theta, gone.removed, solver, gone)
    np.testing.assert_allclose(light, conditions(objective, theta, gone.removed), rtol=0.5)
    without = make_solver(objective, theta, "cg")
    assert run(model, plan, [0], solver=without, methods=("newton",), evaluate="exact").status[0].startswith(UNCERTAIN)
    one = model.removal([plan.rows(0)])
    changed = estimate_changed(objective, theta, solver, one, Changed(objective, one.removed), ("newton",))["newton"]
    assert changed.conditions is not None and 0.1 < changed.conditions[0] / condition < 10
    ridge = fit(data, ModelSettings("linear", 1e-3, "per-sum", False, False, 1e-12))
    if unit == 1.0:
        assert set(run(ridge, plan, [0, 1], methods=("newton",), evaluate="exact").status) == {OK}


def test_the_memory_of_newton_includes_each_groups_own_approximation(softmax):
    """One group needs K factors of D x D for itself, which nothing else in the forecast stands for."""
    plan, P, K = plan_of(softmax, "random:5"), softmax.objective.size, softmax.objective.outputs
    assert softmax.objective.tuning.cheap_preconditioner
    more = {method: module.working_bytes(softmax, plan, 1, (method,)) for method in ("first", "newton", "refined")}
    assert more["newton"] - more["first"] >= 8 * P**2 / K
    assert more["refined"] - more["first"] >= 8 * P**2 / K
