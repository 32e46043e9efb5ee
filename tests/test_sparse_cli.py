"""Every command on an svmlight file, against the same rows as dense arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_tools import ALL_METHODS, train
from scipy.sparse import csr_array, csr_matrix

from influence_cli.api import GroupInfluence
from influence_cli.artifacts.model import load_model
from influence_cli.cli import run
from influence_cli.errors import ExitCode, UsageError

SAME = {"rel": 1e-8, "abs": 1e-10}
GROUPS = ["coherent:1", "random:10%x3", "neighbours:5:7", "neighbours:0:5", "cluster:3", "rows:0,3,9"]


def rows(m: int, d: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that differ in their means; row 3 has no number, nor has column 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(m) % classes
    X = (rng.normal(size=(m, d)) + np.linspace(-1, 1, d) * y[:, None]) * (rng.random((m, d)) < 0.4)
    X[:, 1], X[3] = 0.0, 0.0
    return X, y


def save_svmlight(path, X, y) -> str:
    lines = (
        " ".join([repr(label), *(f"{place + 1}:{value!r}" for place, value in enumerate(row) if value)])
        for row, label in zip(X.tolist(), y.tolist(), strict=True)
    )
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def two_models(folder, X, y, test: int, *options: str) -> tuple[str, str]:
    """A model file of the sparse rows and one of the dense; the last ``test`` rows are test rows."""
    one, other = (
        save_svmlight(folder / f"{name}.svm", X[part], y[part])
        for name, part in (("train", slice(0, -test)), ("test", slice(-test, None)))
    )
    arrays = {"X_train": X[:-test], "y_train": y[:-test], "X_test": X[-test:], "y_test": y[-test:]}
    np.savez(folder / "dense.npz", **arrays)
    tight = ("--tol", "1e-12", *options)
    sparse = train(one, folder / "sparse.h5", "--test-data", other, *tight)
    dense = train(str(folder / "dense.npz"), folder / "dense.h5", *tight)
    assert isinstance(load_model(sparse).dataset.X_train, csr_array)
    assert isinstance(load_model(dense).dataset.X_train, np.ndarray)
    return sparse, dense


def records(capsys, command: str, model: str, *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert run([command, "--model", model, "--quiet", "--format", "json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def assert_same_records(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for key in set(one) - {"seconds", "iterations", "grad_norm", "model", "data"}:
            if isinstance(other[key], float):
                assert one[key] == pytest.approx(other[key], **SAME), (key, one, other)
            else:
                assert one[key] == other[key], (key, one, other)


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    return two_models(tmp_path_factory.mktemp("softmax"), *rows(150, 7, 3), 30, "--l2", "0.01")


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """More features than rows."""
    return two_models(tmp_path_factory.mktemp("binary"), *rows(80, 120, 2), 20, "--C", "0.5")


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_estimates_of_every_kind_of_group(kind, solver, request, capsys):
    models = request.getfixturevalue(kind)
    asked = [part for group in GROUPS for part in ("--group", group)]
    methods = ALL_METHODS if solver == "cholesky" else ALL_METHODS.replace(",rif", "")
    asked += ["--test", "0:4", "--method", methods, "--solver", solver]
    assert_same_records(*(records(capsys, "influence", model, *asked) for model in models))


@pytest.mark.parametrize(
    ("quantity", "more"),
    [
        ("margin", []),
        ("prob", ["--evaluate", "exact"]),
        ("logit:2", []),
        ("loss", ["--test", "mean"]),
        ("score:accuracy", ["--evaluate", "exact", "--test", "all"]),
        ("param:0:x3", None),
    ],
)
def test_quantities(softmax, capsys, quantity, more):
    tests = [] if more is None else more if more and "--test" in more else [*more, "--test", "misclassified:3"]
    asked = ["--group", "random:10%x2", "--quantity", quantity, *tests]
    assert_same_records(*(records(capsys, "influence", model, *asked) for model in softmax))


def test_a_gap_between_the_values_of_a_sparse_feature(tmp_path, capsys):
    X, y = rows(100, 4, 2)
    X[:, 2] = np.arange(100) % 3 == 0
    asked = ["--group", "random:10%x2", "--quantity", "gap:x2", "--test", "all"]
    assert_same_records(*(records(capsys, "influence", model, *asked) for model in two_models(tmp_path, X, y, 40)))


def test_retraining_and_comparison(softmax, tmp_path, capsys):
    found = []
    for number, model in enumerate(softmax):
        asked = ["--group", "random:20%x4", "--test", "0:3"]
        estimate, truth = (str(tmp_path / f"{name}{number}.h5") for name in ("estimate", "truth"))
        records(capsys, "influence", model, *asked, "-o", estimate)
        found.append(records(capsys, "groundtruth", model, *asked, "--tol", "1e-11", "-o", truth))
        assert run(["compare", estimate, truth, "--quiet", "--format", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert_same_records(found[0], found[2])
    assert_same_records(found[1], found[3])


def test_selection(softmax, capsys):
    asked = ["--test", "0:2", "--size", "5", "--strategy", "greedy,pgd,relinearize,swap", "--verify"]
    assert_same_records(*(records(capsys, "select", model, *asked) for model in softmax))
    assert_same_records(*(records(capsys, "select", model, "--test", "1", "--flip") for model in softmax))


def test_regressions(tmp_path, capsys):
    X, _ = rows(90, 5, 2)
    for estimator, y in (("linear", X @ np.arange(5) + 0.1), ("poisson", np.floor(np.exp(0.3 * X[:, 0] + 0.5)))):
        folder = tmp_path / estimator
        folder.mkdir()
        models = two_models(folder, X, y, 20, "--estimator", estimator)
        asked = ["--group", "random:10%x2", "--test", "0:3", "--quantity", "prediction", "--method", "second,newton"]
        assert_same_records(*(records(capsys, "influence", model, *asked) for model in models))


def test_networks_say_that_they_take_dense_rows(tmp_path, capsys):
    X, y = rows(40, 3, 2)
    path = save_svmlight(tmp_path / "a.svm", X, y)
    assert run(["train", "--data", path, "--estimator", "mlp", "-o", str(tmp_path / "m.h5")]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert "--estimator mlp takes dense features, and those of" in error and "hint: store them dense" in error
    with pytest.raises(UsageError, match="takes dense features"):
        GroupInfluence.fit(csr_matrix(X), y, estimator="mlp")


def test_scaling_is_not_centring_and_the_user_hears_of_it(tmp_path, capsys):
    X, y = rows(40, 3, 2)
    path = save_svmlight(tmp_path / "a.svm", X, y)
    assert run(["train", "--data", path, "--standardize", "-o", str(tmp_path / "m.h5")]) == 0
    assert "scaled to deviation 1 but not centred" in capsys.readouterr().err
    assert isinstance(load_model(tmp_path / "m.h5").dataset.X_train, csr_array)


def test_a_model_of_scikit_learn_with_an_svmlight_file(tmp_path, capsys):
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    X, y = rows(60, 5, 2)
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=0.5, tol=1e-9)).fit(csr_matrix(X), y)
    skops.dump(model, tmp_path / "m.skops")
    np.savez(tmp_path / "a.npz", X=X, y=y)
    paths = save_svmlight(tmp_path / "a.svm", X, y), str(tmp_path / "a.npz")
    files = [
        train(path, tmp_path / f"{path[-3:]}.h5", "--from", str(tmp_path / "m.skops"), "--tol", "1e-12")
        for path in paths
    ]
    assert isinstance(load_model(files[0]).dataset.X_train, csr_array)
    asked = ["--group", "random:10%x3", "--test", "0:3"]
    assert_same_records(*(records(capsys, "influence", file, *asked) for file in files))
