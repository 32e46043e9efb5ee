"""Networks through the commands: nothing but the options of ``train`` knows that the model is one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from influence_cli import GroupInfluence
from influence_cli.analysis import groundtruth
from influence_cli.artifacts.model import add_factor
from influence_cli.artifacts.results import load_truth
from influence_cli.cli import run
from influence_cli.core.objectives import mlp
from influence_cli.errors import ExitCode
from influence_cli.models.stored import stored

GROUPS = ("--group", "random:4%x6", "--group", "coherent:1:8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def model(folder):
    """Three classes on a ring that no linear model separates."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 2))
    y = np.digitize(np.hypot(*X.T) + 0.3 * rng.normal(size=240), [0.8, 1.5])
    np.savez(folder / "ring.npz", X=X, y=y)
    path = str(folder / "ring.h5")
    asked = ("train", "--data", str(folder / "ring.npz"), "--estimator", "mlp", "--hidden", "5,4", "-o", path)
    assert run([*asked, "--l2", "0.003", "--activation", "tanh", "--format", "json", "--quiet"]) == ExitCode.OK
    return path


def ask(capsys, *arguments: str, code: ExitCode = ExitCode.OK) -> list[dict]:
    capsys.readouterr()
    assert run([*arguments, "--quiet", "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def fail(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == ExitCode.USAGE
    return capsys.readouterr().err


def test_training_reports_the_gradient_norm_it_reached(folder, model, capsys):
    path = str(folder / "again.h5")
    asked = ("train", "--data", str(folder / "ring.npz"), "--estimator", "mlp", "--hidden", "3", "-o", path)
    (record,) = ask(capsys, *asked, "--tol", "1e-7")
    trained, _ = stored(path)
    reached = trained.objective.gradient(trained.theta, trained.objective.weights)
    assert record["grad_norm"] == pytest.approx(np.linalg.norm(reached), rel=1e-6)
    assert record["grad_norm"] <= 1e-6 and record["parameters"] == 2 * 3 + 3 + 3 * 3 + 3
    (worse,) = ask(capsys, *asked, "--force", "--tol", "1e-2")
    assert 1e-6 < worse["grad_norm"] <= 1e-2


def test_estimates_agree_with_proximal_retraining(folder, model, capsys):
    estimates, truth = str(folder / "i.h5"), str(folder / "t.h5")
    asked = ("--model", model, *GROUPS, "--test", "misclassified:3", "--damping", "0.1")
    ask(capsys, "influence", *asked, "--method", "first,second,newton", "--evaluate", "linear", "-o", estimates)
    ask(capsys, "groundtruth", *asked, "--retrain", "proximal", "-o", truth)
    rows = ask(capsys, "compare", estimates, truth, "--bootstrap", "0")
    pooled = {row["method"]: row["pearson"] for row in rows if row["kind"] is None and row["test"] is None}
    assert pooled["newton"] > 0.99 and min(pooled.values()) > 0.95


@pytest.mark.parametrize("solver", ("cholesky", "cg"))
def test_curvature_and_damping_can_be_changed_without_training_again(model, solver, capsys):
    asked = ("influence", "--model", model, *GROUPS, "--test", "0", "--solver", solver, "--method", "first,newton")
    plain = ask(capsys, *asked)
    same = ask(capsys, *asked, "--curvature", "gauss-newton", "--damping", "0.01")
    assert [row["first"] for row in plain] == pytest.approx([row["first"] for row in same], rel=1e-6)
    damped = ask(capsys, *asked, "--damping", "1e6")
    assert all(abs(row["first"]) < 1e-4 for row in damped)
    asked = ("influence", "--model", model, *GROUPS, "--test", "0", "--solver", solver, "--method", "first")
    exact = ask(capsys, *asked, "--curvature", "hessian")
    assert [row["first"] for row in exact] != pytest.approx([row["first"] for row in plain], rel=1e-3)


def test_a_second_question_makes_no_pass_for_kronecker_factors(folder, capsys, monkeypatch):
    made, whole = [], mlp.layer_sums

    def counted(*arguments):
        made.append(1)
        return whole(*arguments)

    monkeypatch.setattr(mlp, "layer_sums", counted)
    trained, untouched = folder / "kept.h5", folder / "untouched.h5"
    form = ("--estimator", "mlp", "--hidden", "5,4", "--activation", "tanh", "--l2", "0.003")
    ask(capsys, "train", "--data", str(folder / "ring.npz"), *form, "-o", str(trained))
    untouched.write_bytes(trained.read_bytes())
    made.clear()
    asked = ("influence", "--test", "0:3", *GROUPS, "--solver", "cg", "--method", "first,second")
    first = ask(capsys, *asked, "--model", str(trained))
    assert len(made) == 1
    assert ask(capsys, *asked, "--model", str(trained)) == first
    assert len(made) == 1
    damped = ask(capsys, *asked, "--model", str(trained), "--damping", "0.1")
    assert len(made) == 1
    assert ask(capsys, *asked, "--model", str(untouched), "--damping", "0.1") == damped
    assert len(made) == 2

    kept, artifact = stored(str(trained))
    X = kept.dataset.X_train
    first_layer = kept.theta[:15].reshape(5, 3)
    signal = np.hstack([np.tanh(X @ first_layer[:, :2].T + first_layer[:, 2]), np.ones((len(X), 1))])
    second = artifact.kept.layers[5**2 + 3**2 + 4**2 :][:36].reshape(6, 6)
    np.testing.assert_allclose(second, signal.T @ signal / len(X), atol=1e-12)
    add_factor(trained, None, replace(artifact.kept, layers=artifact.kept.layers[1:]))
    capsys.readouterr()
    assert run([*asked, "--model", str(trained)]) == ExitCode.FILE
    assert "/sums/layers has the shape" in capsys.readouterr().err


def test_negative_curvature_is_a_status_and_null_never_a_number(folder, capsys):
    path = str(folder / "rough.h5")
    asked = ("train", "--data", str(folder / "ring.npz"), "--estimator", "mlp", "--hidden", "5,4", "-o", path)
    ask(capsys, *asked, "--tol", "0.05", "--l2", "3e-5")
    asked = ("influence", "--model", path, *GROUPS, "--test", "0", "--method", "first,second,newton")
    found = ask(capsys, *asked, "--curvature", "hessian", "--damping", "0", code=ExitCode.NOT_CONVERGED)
    assert all("negative curvature met: raise --damping" in row["status"] for row in found)
    assert all(row[method] is None for row in found for method in ("first", "second", "newton"))
    found = ask(capsys, *asked, "--curvature", "gauss-newton")
    assert all(np.isfinite(row[method]) for row in found for method in ("first", "second", "newton"))


def test_repeats_measure_the_noise_and_compare_the_ceiling(folder, model, capsys):
    truth, estimates = str(folder / "cold.h5"), str(folder / "ci.h5")
    asked = ("--model", model, "--group", "random:20%x3", "--test", "0,1")
    rows = ask(capsys, "groundtruth", *asked, "--retrain", "cold", "--repeats", "2", "--tol", "1e-4", "-o", truth)
    repeats = load_truth(truth).repeats
    assert repeats.shape == (2, 3, 2)
    assert [row["actual"] for row in rows] == pytest.approx(repeats.mean(axis=0).ravel().tolist())
    assert [row["spread"] for row in rows] == pytest.approx(repeats.std(axis=0, ddof=1).ravel().tolist())
    ask(capsys, "influence", *asked, "-o", estimates)
    (first, *_) = ask(capsys, "compare", estimates, truth, "--bootstrap", "0")
    r = max(np.corrcoef(repeats[0, :, 0], repeats[1, :, 0])[0, 1], 0.0)
    assert first["ceiling"] == pytest.approx(np.sqrt(2 * r / (1 + r)), abs=1e-9)


def test_the_table_says_how_the_truth_was_made_and_shows_its_noise(model, capsys):
    asked = ("groundtruth", "--model", model, "--group", "random:20%", "--test", "0", "--tol", "1e-3", "--quiet")
    capsys.readouterr()
    for options, told in (
        (("--retrain", "cold", "--repeats", "2"), ("from where training began", "mean of 2 seeds", " spread ")),
        (("--retrain", "proximal"), ("minimum of the proximal objective",)),
        (("--retrain", "warm"), ("retrained without each group",)),
    ):
        assert run([*asked, *options, "--format", "table"]) == ExitCode.OK
        shown = " ".join(capsys.readouterr().out.split())
        assert all(part in shown for part in told)


def test_selection_takes_another_curvature_and_damping(model, capsys):
    asked = ("select", "--model", model, "--test", "0", "--size", "5", "--strategy", "greedy")
    (plain,) = ask(capsys, *asked)
    (same,) = ask(capsys, *asked, "--curvature", "gauss-newton", "--damping", "0.01")
    (damped,) = ask(capsys, *asked, "--damping", "1e6")
    assert same["predicted_first"] == pytest.approx(plain["predicted_first"], rel=1e-6)
    assert abs(damped["predicted_first"]) < 1e-4 < plain["predicted_first"]
    assert "--curvature must be one of" in fail(capsys, *asked, "--curvature", "fisher")


def test_verified_selections_are_what_groundtruth_finds(model, capsys):
    asked = ("--model", model, "--test", "0")
    (found,) = ask(capsys, "select", *asked, "--size", "5", "--strategy", "greedy", "--verify")
    rows = "rows:" + ",".join(map(str, found["rows"]))
    (truth,) = ask(capsys, "groundtruth", *asked, "--group", rows)
    assert found["actual"] == truth["actual"]
    (finer,) = ask(capsys, "groundtruth", *asked, "--group", rows, "--tol", "1e-8")
    assert finer["actual"] != truth["actual"]


def test_groups_of_a_block_are_as_many_as_their_curvatures_fit(monkeypatch):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 12))
    fitted = GroupInfluence.fit(X, X[:, 0] > 0, estimator="mlp", hidden=(3,), l2=0.1)
    assert len(groundtruth.truth_blocks(fitted.model, 8)) == 1
    monkeypatch.setattr(groundtruth, "CURVATURE_BYTES", 2 * 8 * 12**2)
    assert [block.stop - block.start for block in groundtruth.truth_blocks(fitted.model, 8)] == [2] * 4


def test_a_run_that_was_cut_off_and_resumed_gives_the_same_bits(folder, model, capsys):
    whole, cut = str(folder / "whole.h5"), str(folder / "cut.h5")
    asked = ("groundtruth", "--model", model, "--group", "random:5%x10", "--test", "0", "--retrain", "proximal")
    ask(capsys, *asked, "-o", whole)
    ask(capsys, *asked, "-o", cut)
    from influence_cli.artifacts.results import save_truth

    done = load_truth(cut)
    status = (*done.status[:8], "pending", "pending")
    kept = np.where(np.arange(10)[:, None] < 8, done.actual, np.nan)
    save_truth(cut, replace(done, status=status, actual=kept), force=True)
    ask(capsys, *asked, "-o", cut, "--resume")
    assert np.array_equal(load_truth(cut).actual, load_truth(whole).actual)


def test_regression_and_two_classes(folder, capsys):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(150, 2))
    np.savez(folder / "curve.npz", X=X, y=np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=150))
    np.savez(folder / "two.npz", X=X, y=(X[:, 0] * X[:, 1] > 0).astype(int))
    for name, estimator, quantity in (("curve", "mlp-regressor", "prediction"), ("two", "mlp", "margin")):
        path = str(folder / f"{name}.h5")
        asked = ("train", "--data", str(folder / f"{name}.npz"), "--estimator", estimator, "--hidden", "6", "-o", path)
        (record,) = ask(capsys, *asked, "--activation", "tanh")
        assert record["test_score"] > 0.8
        asked = ("--model", path, "--group", "random:3%x3", "--test", "0", "--quantity", quantity, "--damping", "0.3")
        found = ask(capsys, "influence", *asked, "--method", "newton", "--evaluate", "exact")
        truth = ask(capsys, "groundtruth", *asked, "--retrain", "proximal")
        assert [row["newton"] for row in found] == pytest.approx([row["actual"] for row in truth], rel=0.1, abs=1e-3)


def test_a_parameter_is_a_quantity_by_its_name(model, capsys):
    asked = ("influence", "--model", model, "--group", "random:4%", "--quantity")
    for name in ("param:h1.0:x0", "param:h2.3:h1.4", "param:0:h2.1", "param:2:intercept"):
        (row,) = ask(capsys, *asked, name)
        assert np.isfinite(row["first"])


def test_wrong_usage_is_answered_with_what_to_do(folder, model, capsys):
    data = ("train", "--data", str(folder / "ring.npz"), "-o", str(folder / "no.h5"))
    assert "--hidden is for networks" in fail(capsys, *data, "--hidden", "4")
    assert "--hidden must be widths" in fail(capsys, *data, "--estimator", "mlp", "--hidden", "4,x")
    assert "--damping must be a number of at least 0" in fail(capsys, *data, "--estimator", "mlp", "--damping", "-1")
    assert "--activation must be one of" in fail(capsys, *data, "--estimator", "mlp", "--activation", "relu")
    asked = ("groundtruth", "--model", model, "--group", "random:4%", "--test", "0")
    assert "--retrain warm knows no seed" in fail(capsys, *asked, "--repeats", "3")
    assert "contradict each other" in fail(capsys, *asked, "--retrain", "warm", "--cold")
