"""A model file whose digests fit and whose content is not what ``ginf train`` writes: refused in words, never used."""

import json
import shutil

import h5py
import numpy as np
import pytest
from artifact_examples import sign_again
from cli_tools import rows_of, save_blobs, save_regression, train

from influence_cli.artifacts.model import model_digest
from influence_cli.cli import run
from influence_cli.errors import ExitCode


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    data, numbers = save_blobs(folder / "b.npz"), save_regression(folder / "r.npz")
    return {
        "logistic": train(data, folder / "logistic.h5"),
        "linear": train(numbers, folder / "linear.h5", "--estimator", "linear"),
        "mlp": train(data, folder / "mlp.h5", "--estimator", "mlp", "--hidden", "3"),
        "linked": train(data, folder / "linked.h5", "--link-data"),
    }


def edited(models, kind, tmp_path, change):
    """A copy with that change of its content, and every digest as it would be."""
    path = tmp_path / "m.h5"
    shutil.copy(models[kind], path)
    with h5py.File(path, "r+") as file:
        change(file)
        theta, attributes = file["params/theta"][()], dict(file.attrs)
        text = {name: attributes[name].decode() if isinstance(attributes[name], bytes) else attributes[name]
                for name in ("config", "data_digest")}  # fmt: skip
        file.attrs["model_digest"] = model_digest(theta, text["data_digest"], json.loads(text["config"]))
    sign_again(path)
    return path


def settings(**changes):
    def change(file):
        text = file.attrs["config"]
        kept = json.loads(text.decode() if isinstance(text, bytes) else text) | changes
        file.attrs["config"] = json.dumps({key: value for key, value in kept.items() if value is not None})

    return change


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("logistic", {"penalty_scaling": "per-maen"}, "penalty_scaling must be one of per-mean, per-sum; found 'per-m"),
        ("logistic", {"penalty_scaling": None}, "expected the settings penalty_scaling, found none"),
        ("logistic", {"estimator": "logit"}, "estimator must be one of logistic, linear"),
        ("logistic", {"estimator": "linear"}, "linear is for regression, and the rows are of a classification"),
        ("linear", {"estimator": "logistic"}, "logistic is for classification, and the rows are of a regression"),
        ("linear", {"estimator": "poisson"}, "poisson expects responses of at least 0"),
        ("logistic", {"l2": -1.0}, "l2 must be a number of at least 0, found -1"),
        ("logistic", {"tol": -1.0}, "tol must be a number of at least 0, found -1"),
        ("logistic", {"fit_intercept": False}, "/params/theta has the shape"),
        ("logistic", {"hidden": [3]}, "hidden must be widths of at least 1, of a network alone; found [3]"),
        ("mlp", {"hidden": [4]}, "/params/theta has the shape"),
        ("mlp", {"hidden": [0]}, "hidden must be widths of at least 1, of a network alone; found [0]"),
        ("mlp", {"activation": "relu"}, "activation must be one of"),
        ("mlp", {"curvature": "none"}, "curvature must be one of"),
        ("mlp", {"damping": -1.0}, "damping must be a number of at least 0, found -1"),
        ("mlp", {"seed": -1}, "seed must be a whole number from 0, found -1"),
        ("linked", {"estimator": "logit"}, "estimator must be one of logistic, linear"),
        ("linked", {"test_fraction": None}, "the settings of a linked model need test_fraction"),
    ],
)
def test_a_setting_of_a_file_is_checked_as_an_option_is(models, tmp_path, capsys, kind, changes, message):
    path = edited(models, kind, tmp_path, settings(**changes))
    for command in ("influence", "groundtruth"):
        assert run([command, "--model", str(path), "--group", "random:20%", "--test", "0"]) == ExitCode.FILE
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("times", [2.0, 0.5, 0.0])
def test_a_cached_factor_is_no_answer(models, tmp_path, capsys, times):
    asked = ["--group", "random:20%", "--test", "0:3", "--method", "first,newton,rif", "--quiet"]
    assert run(["influence", "--model", models["logistic"], *asked]) == 0
    expected = rows_of(capsys.readouterr().out)

    def change(file):
        file["hessian/cholesky"][...] *= times

    code = run(["influence", "--model", str(edited(models, "logistic", tmp_path, change)), *asked])
    captured = capsys.readouterr()
    if not times:
        assert code == ExitCode.FILE and "/hessian/cholesky: expected a diagonal greater than 0" in captured.err
        return
    found = rows_of(captured.out)
    for method in ("first", "newton", "rif"):
        for one, other in zip(found, expected, strict=True):
            assert float(one[method]) == pytest.approx(float(other[method]), rel=1e-6, abs=1e-9)


def test_rows_that_are_not_there(models, tmp_path, capsys):
    def change(file):
        names = []
        file.visititems(lambda name, item: names.append(name) if getattr(item, "shape", (0,))[:1] == (60,) else None)
        for name in names:
            value = file[name][:0]
            del file[name]
            file[name] = value

    path = edited(models, "logistic", tmp_path, change)
    assert run(["influence", "--model", str(path), "--group", "random:20%", "--test", "0"]) == ExitCode.FILE
    assert "expected at least one training row, found none" in capsys.readouterr().err


def test_parameters_that_are_too_many(models, tmp_path, capsys):
    def change(file):
        del file["params/theta"], file["hessian/cholesky"]
        file["params/theta"] = np.zeros(7)

    path = edited(models, "logistic", tmp_path, change)
    assert run(["influence", "--model", str(path), "--group", "random:20%", "--test", "0"]) == ExitCode.FILE
    assert "/params/theta has the shape (7,), expected" in capsys.readouterr().err


def test_names_that_are_no_text(models, tmp_path, capsys):
    def change(file):
        names = file["data/classes"][()]
        names[1] = b"\xff"
        del file["data/classes"]
        file["data/classes"] = names

    path = edited(models, "logistic", tmp_path, change)
    asked = ["--group", "coherent:*:3", "--test", "0", "--method", "first", "--format", "json", "--quiet"]
    assert run(["influence", "--model", str(path), *asked, "-o", str(tmp_path / "i.h5")]) == 0
    assert "coherent:\\udcff:3" in capsys.readouterr().out
