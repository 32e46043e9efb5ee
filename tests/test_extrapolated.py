"""Estimates where retraining has no finite value: they are there, and say what they are."""

import json

import numpy as np
import pytest
from cli_tools import save_blobs, train

from influence_cli import GroupInfluence
from influence_cli.artifacts.results import load_influence
from influence_cli.cli import run
from influence_cli.results import EXTRAPOLATED, LIMIT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extrapolated")
    for classes in (2, 3):
        train(save_blobs(folder / f"{classes}.npz", classes=classes), folder / f"{classes}.h5")
    train(str(folder / "3.npz"), folder / "held.h5", "--penalize-intercept")
    rng = np.random.default_rng(0)
    np.savez(folder / "counts.npz", X=rng.normal(size=(40, 2)), y=(np.arange(40) < 12) * rng.poisson(3.0, size=40))
    train(str(folder / "counts.npz"), folder / "counts.h5", "--estimator", "poisson", "--test-fraction", "0.3")
    return folder


def records(capsys, command, *arguments):
    code = run([command, *arguments, "--format", "json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("quantity", ["loss", "prob", "margin", "logit:0", "logit:1"])
@pytest.mark.parametrize("name", ["2.h5", "3.h5"])
def test_the_status_stands_where_the_truth_is_null_and_only_there(folder, capsys, name, quantity):
    asked = ("--model", str(folder / name), "--group", "coherent:1", "--group", "random:9", "--test", "all")
    code, estimates = records(capsys, "influence", *asked, "--quantity", quantity)
    assert code == 0
    _, truth = records(capsys, "groundtruth", *asked, "--quantity", quantity)
    told = [row["status"] == EXTRAPOLATED for row in estimates]
    assert told == [row["actual"] is None for row in truth]
    along = [row["status"].startswith("unbounded: ") for row in truth]
    assert [row["status"] in (EXTRAPOLATED, LIMIT) for row in estimates] == along
    assert any(along) and not all(along)
    for row, true in zip(estimates, truth, strict=True):
        if row["status"] == LIMIT:
            assert row["refined"] == pytest.approx(true["actual"], abs=1e-7 + 0.05 * abs(true["actual"]))
        assert (true["status"] == "ok") == (row["status"] == "ok")
    assert all(row["first"] is not None and row["second"] is not None for row in estimates)
    assert any(told) == (quantity != "prob")


def test_a_penalised_intercept_holds_every_value(folder, capsys):
    asked = ("--model", str(folder / "held.h5"), "--group", "coherent:1", "--test", "all")
    assert {row["status"] for row in records(capsys, "influence", *asked)[1]} == {"ok"}


def test_counts_all_of_which_are_left_at_0(folder, capsys):
    with np.load(folder / "counts.npz") as data:
        assert (data["y"] > 0).sum() > 5
    model = str(folder / "counts.h5")
    import h5py

    with h5py.File(model) as file:
        rows = np.flatnonzero(file["data/y_train"][:] > 0)
    asked = ("--model", model, "--group", "rows:" + ",".join(map(str, rows)), "--test", "all")
    _, estimates = records(capsys, "influence", *asked)
    _, truth = records(capsys, "groundtruth", *asked)
    assert [row["status"] == EXTRAPOLATED for row in estimates] == [row["actual"] is None for row in truth]
    assert any(row["status"] == EXTRAPOLATED for row in estimates)


def test_the_file_keeps_it_and_the_table_shows_it(folder, tmp_path, capsys):
    path = tmp_path / "i.h5"
    asked = ["influence", "--model", str(folder / "3.h5"), "--group", "random:9", "--group", "coherent:1"]
    assert run([*asked, "--test", "all", "-o", str(path), "--format", "table"]) == 0
    assert EXTRAPOLATED in capsys.readouterr().out
    kept = load_influence(path)
    assert kept.ends is not None
    assert not kept.ends[0].any()
    assert kept.ends[1].any()
    assert kept.statuses() == [row["status"] for row in kept.records()]
    assert run([*asked[:5], "--test", "all", "-o", str(path), "--force", "--quiet"]) == 0
    assert load_influence(path).ends is None


@pytest.mark.parametrize("estimator", ["linear", "poisson"])
def test_fewer_rows_than_parameters_leave_predictions_open(estimator):
    """The last pivot of such a Hessian is rounding, which a small one before it raises."""
    rng = np.random.default_rng(5)
    X, groups = rng.normal(size=(60, 3)), [np.sort(rng.permutation(60)[3:]) for _ in range(200)]
    y = 1.0 + rng.poisson(np.exp(X @ [0.5, -0.5, 0.25]))
    model = GroupInfluence.fit(X, y, estimator=estimator, l2=0.0)
    truth = model.groundtruth(groups, rng.normal(size=(1, 3)), y[:1], quantity="prediction").records()
    assert {row["actual"] for row in truth} == {None}
    assert all(row["status"].startswith("unbounded: ") for row in truth)


def test_three_rows_left_for_four_parameters_separate_whatever_their_classes():
    """Retraining runs off to where nothing has curvature or slope; what was left in the end looked like a minimum."""
    rng = np.random.default_rng(10)
    X, slopes = rng.normal(size=(60, 3)), rng.normal(size=3)
    y = (X @ slopes + rng.logistic(size=60) / 2 > 0).astype(int)
    groups = [np.sort(rng.permutation(60)[:57]) for _ in range(20)]
    model = GroupInfluence.fit(X, y, l2=0.0)
    for asked in (model.groundtruth, model.influence):
        rows = asked(groups, X[:1], y[:1], quantity="prob").records()
        assert all(row["status"].startswith("unbounded: ") for row in rows)
        for row, group in zip(rows, groups, strict=True):
            # A row that was kept goes to its class; any other one goes wherever the free parameter takes it.
            found = row["actual"] if asked == model.groundtruth else row["refined"]
            assert found == (None if 0 in group else pytest.approx(1.0 - row["base"], abs=1e-12))


@pytest.mark.parametrize("classes", [2, 3])
def test_what_separable_rows_leave_open_is_what_a_linear_program_says(classes):
    """Rows of rounded features, so that some separate wholly, some in part, and some touch."""
    from scipy.optimize import linprog

    seen = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = np.round(rng.normal(size=(50, 2)))
        y = (X @ rng.normal(size=(2, classes)) / 2 + rng.gumbel(size=(50, classes))).argmax(axis=1)
        groups = [np.sort(rng.choice(50, size, replace=False)) for size in (30, 38, 43, 46)]
        groups = [group for group in groups if len(set(np.delete(y, group))) == classes]
        model = GroupInfluence.fit(X, y, l2=0.0)
        rows = model.groundtruth(groups, [[0.3, -0.4]], [1], quantity="loss").records()
        for row, group in zip(rows, groups, strict=True):
            kept = np.delete(np.arange(50), group)
            own = np.eye(classes)[y[kept]]
            forms = np.array([
                np.kron(one - np.eye(classes)[k], [*x, 1.0])
                for one, x, at in zip(own, X[kept], y[kept], strict=True) for k in range(classes) if k != at
            ])  # fmt: skip
            grow = linprog(-forms.sum(axis=0), A_ub=-forms, b_ub=np.zeros(len(forms)), bounds=(-1, 1))
            finite = -grow.fun < 1e-9 and np.linalg.matrix_rank(forms) == forms.shape[1] - 3
            seen.add(finite)
            assert row["status"].startswith("ok" if finite else "unbounded: "), (seed, len(kept))
    assert seen == {True, False}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("score", ["average_precision", "roc_auc"])
def test_ranks_by_what_tends_to_zero_have_no_limit(score, classes):
    """Without its rows a class has slopes that tend to 0, and the sign they have on the way there orders the rows."""
    if (score, classes) == ("roc_auc", 3):
        score = "roc_auc_ovr"  # of probabilities, which the other classes' slopes order
    rng = np.random.default_rng(3)
    y = np.repeat(np.arange(classes), 25)
    X = rng.normal(size=(len(y), 2)) + 2 * np.c_[np.cos(y), np.sin(y)]
    tests, labels = rng.normal(size=(10, 2)), np.arange(10) % classes
    model = GroupInfluence.fit(X, y, l2=1e-2)
    groups = {str(label): y == label for label in range(1, classes)}
    warm, cold = (
        model.groundtruth(groups, tests, labels, quantity=f"score:{score}", retrain=how).records()
        for how in ("warm", "cold")
    )
    for one, other in zip(warm, cold, strict=True):
        assert one["actual"] == other["actual"]
        if score == "roc_auc_ovr":
            assert one["actual"] is not None
        else:
            assert one["actual"] is None
            assert one["status"].startswith("unbounded: ") and other["status"].startswith("unbounded: ")


@pytest.mark.parametrize("family", ["binary", "multinomial", "counts"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_a_class_that_is_lost_has_the_same_limit_wherever_retraining_starts(family, l2):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(90, 3))
    y = {
        "binary": lambda: (X[:, 0] + rng.normal(size=90) > 0).astype(int),
        "multinomial": lambda: np.digitize(X[:, 0] + rng.normal(size=90), [-0.7, 0.7]),
        "counts": lambda: rng.poisson(np.exp(X[:, 0] - 1)).astype(float),
    }[family]()
    counts = family == "counts"
    model = GroupInfluence.fit(X, y, estimator="poisson" if counts else "logistic", l2=l2)
    groups = [np.flatnonzero(y > 0)] if counts else [np.flatnonzero(y == k) for k in np.unique(y)]
    asked = {"X_test": X[:4], "y_test": y[:4], "quantity": "prediction" if counts else "prob"}
    warm, cold = (model.groundtruth(groups, **asked, retrain=how) for how in ("warm", "cold"))
    assert all(status.startswith("unbounded:") for status in cold.status)
    assert cold.status == warm.status
    assert np.allclose(cold.actual, warm.actual, atol=1e-9, equal_nan=True)
    if l2:
        assert np.isfinite(cold.actual).all()
    if family == "binary" and l2:  # what is left is of one class
        after = np.array([y[:4] == 1, y[:4] == 0])
        assert np.allclose(cold.actual + cold.base, after, atol=1e-12)
