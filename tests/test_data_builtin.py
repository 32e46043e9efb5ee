"""The built-in data sets against their documented laws and against scikit-learn's own arrays."""

import gzip
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from influence_cli.data import builtin
from influence_cli.data.load import load
from influence_cli.errors import ExitCode, FileError, UsageError

SAMPLE = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="module")
def digits():
    return load("digits", task="classification")


def test_digits_hold_every_row_of_scikit_learn_once_in_its_order(digits):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    position = {row.tobytes(): index for index, row in enumerate(X)}
    assert len(position) == len(X) == 1797  # all rows differ, so that a row can be found again
    train = [position[(row * 16).tobytes()] for row in digits.X_train]
    test = [position[(row * 16).tobytes()] for row in digits.X_test]
    assert train == sorted(train)
    assert test == sorted(test)
    assert sorted(train + test) == list(range(1797))
    assert np.array_equal(y[train], digits.y_train)
    assert np.array_equal(y[test], digits.y_test)


def test_digits_that_scikit_learn_keeps_elsewhere_are_the_same(digits, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    elsewhere = builtin.digits(0)
    monkeypatch.undo()
    here = builtin.digits(0)
    assert np.array_equal(here.X_train, elsewhere.X_train) and np.array_equal(here.y_train, elsewhere.y_train)
    assert (here.X_train.dtype, here.y_train.dtype) == (elsewhere.X_train.dtype, elsewhere.y_train.dtype)


def test_digits_are_described(digits):
    assert (digits.X_train.shape, digits.X_test.shape) == ((1438, 64), (359, 64))
    assert digits.classes == tuple("0123456789")
    assert digits.image_shape == (8, 8)
    assert digits.feature_names[:9] == (*(f"pixel_0_{column}" for column in range(8)), "pixel_1_0")
    assert (digits.X_train.min(), digits.X_train.max()) == (0.0, 1.0)
    assert digits.X_train.dtype == np.float64
    assert digits.X_train.flags.c_contiguous
    assert digits.y_train.dtype == np.int64


def test_the_sample_files_are_the_builtin_digits(digits):
    files = load(str(SAMPLE / "digits"), task="classification")
    assert files.digest == digits.digest
    for field in ("X_train", "y_train", "X_test", "y_test"):
        assert np.array_equal(getattr(files, field), getattr(digits, field)), field
    assert (files.feature_names, files.classes, files.image_shape) == (
        digits.feature_names,
        digits.classes,
        digits.image_shape,
    )


def test_the_maker_makes_the_sample_files(tmp_path):
    make = runpy.run_path(str(SAMPLE / "make_digits.py"))["main"]
    make(tmp_path / "new" / "one")
    make(tmp_path / "two")
    committed = sorted((SAMPLE / "digits").iterdir())
    assert [path.name for path in committed] == sorted(path.name for path in (tmp_path / "two").iterdir())
    for path in committed:
        again = (tmp_path / "two" / path.name).read_bytes()
        assert again == (tmp_path / "new" / "one" / path.name).read_bytes()
        assert gzip.decompress(again) == gzip.decompress(path.read_bytes())  # zlib versions may compress differently


def test_synthetic_follows_its_law():
    data = load("synthetic", task="classification")
    assert (data.X_train.shape, data.X_test.shape) == ((10_000, 5), (2_000, 5))
    assert data.classes == ("0", "1")
    mean = builtin.SYNTHETIC_MEAN
    for code, sign in ((0, -1), (1, 1)):
        rows = data.X_train[data.y_train == code]
        assert np.allclose(rows.mean(axis=0), sign * mean, atol=5 / np.sqrt(len(rows)))
        assert np.allclose(np.cov(rows.T), np.eye(5), atol=8 / np.sqrt(len(rows)))
    wrong = ((data.X_test @ mean > 0) != data.y_test).mean()
    bayes = norm.cdf(-np.linalg.norm(mean))
    assert abs(bayes - 0.106) < 5e-4  # the figure in the docstring
    assert abs(wrong - bayes) < 4 * np.sqrt(bayes * (1 - bayes) / 2_000)


def test_blobs_follow_their_law():
    data = load("blobs", task="classification")
    assert (data.X_train.shape, data.X_test.shape) == ((20_000, 5), (4_000, 5))
    assert data.classes == ("0", "1", "2", "3")
    for code, centre in enumerate(builtin.BLOBS_CENTRES):
        rows = data.X_train[data.y_train == code]
        assert abs(len(rows) - 5_000) < 5 * np.sqrt(20_000 * 3 / 16)
        assert np.allclose(rows.mean(axis=0), centre, atol=5 / np.sqrt(len(rows)))
        assert np.allclose(np.cov(rows.T), np.eye(5), atol=8 / np.sqrt(len(rows)))
    distance = np.linalg.norm(data.X_test[:, None] - builtin.BLOBS_CENTRES, axis=2)
    wrong = (distance.argmin(axis=1) != data.y_test).mean()
    bayes = 1 - quad(lambda z: norm.pdf(z) * norm.cdf(z + 2.5) ** 3, -9, 9)[0]
    assert abs(bayes - 0.093) < 5e-4
    assert abs(wrong - bayes) < 4 * np.sqrt(bayes * (1 - bayes) / 4_000)


@pytest.mark.parametrize("name", ["digits", "synthetic", "blobs"])
def test_the_seed_fixes_the_arrays(name):
    first, again, other = (load(name, task="classification", seed=seed).digest for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_train_and_test_rows_are_different_draws():
    data = load("synthetic", task="classification")
    assert len(np.unique(np.vstack([data.X_train, data.X_test]), axis=0)) == 12_000


def test_digits_serve_as_a_regression():
    data = load("digits", task="regression")
    assert data.task == "regression"
    assert data.classes == ()
    assert data.y_train.dtype == np.float64
    assert set(data.y_train) == set(range(10))


def test_numpy_data_sets_do_not_import_scikit_learn():
    code = (
        "import sys; from influence_cli.data.load import load; load('synthetic', task='classification');"
        "load('blobs', task='classification'); sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SAMPLE.parent).returncode == 0


def test_mnist_without_a_network(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", offline)
    with pytest.raises(FileError, match=r"^mnist: could not be had from OpenML: Name or service not known") as caught:
        load("mnist", task="classification")
    assert caught.value.code == ExitCode.FILE
    assert "pass a folder with the four MNIST files" in caught.value.hint
    assert "--data PATH" in caught.value.hint


def _bunch(rows, columns=784):
    pixels = np.random.default_rng(0).integers(0, 255, size=(rows, columns))
    pixels[0, 29] = 255
    return SimpleNamespace(data=pixels, target=np.array([str(row % 2 + 3) for row in range(rows)], dtype=object))


def test_mnist_from_openml(monkeypatch):
    bunch = _bunch(10)
    asked = {}

    def fetch(name, **options):
        asked.update(options, name=name)
        return bunch

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    monkeypatch.setattr(builtin, "MNIST_ROWS", (6, 4))
    data = load("mnist", task="classification")
    assert (asked["name"], asked["version"], asked["as_frame"]) == ("mnist_784", 1, False)
    assert np.array_equal(data.X_train, bunch.data[:6] / 255)
    assert np.array_equal(data.X_test, bunch.data[6:] / 255)
    assert data.X_train[0, data.feature_names.index("pixel_1_1")] == 1.0
    assert data.classes == ("3", "4")
    assert data.y_test.tolist() == [0, 1, 0, 1]
    assert data.image_shape == (28, 28)


def test_mnist_of_another_shape_is_refused(monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *args, **options: _bunch(10, 700))
    with pytest.raises(FileError, match=r"70000 rows of 784 pixels were expected from OpenML, but found .*\(10, 700\)"):
        load("mnist", task="classification")


@pytest.mark.parametrize("fraction", [1, -0.1, 1.5, float("nan")])
def test_a_test_fraction_outside_the_open_interval_is_a_usage_error(fraction):
    with pytest.raises(UsageError, match=f"must lie between 0 and 1, but it is {fraction}"):
        load("digits", task="classification", test_fraction=fraction)


def test_a_negative_seed_is_a_usage_error():
    with pytest.raises(UsageError, match="a whole number from 0, but it is -1"):
        load("synthetic", task="classification", seed=-1)


@pytest.mark.parametrize(("typed", "meant"), [("digit", "digits"), ("MNIST", "mnist"), ("synthetc", "synthetic")])
def test_a_misspelt_name_is_met_with_a_guess(typed, meant):
    with pytest.raises(FileError, match=f"(?m)^'{typed}' is neither a data set nor a path$") as caught:
        load(typed, task="classification")
    assert caught.value.hint.startswith(f"did you mean '{meant}'? ")
    assert "the names are digits, synthetic, blobs, mnist;" in caught.value.hint
    assert ".npz" in caught.value.hint


@pytest.mark.parametrize("typed", ["", "zzz"])
def test_a_name_like_no_other_gets_the_list_only(typed):
    with pytest.raises(FileError, match="neither a data set nor a path") as caught:
        load(typed, task="classification")
    assert caught.value.hint.startswith("the names are digits")


def test_a_builtin_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("synthetic", task="classification").name == "synthetic"
    with pytest.raises(FileError, match=r"^\./synthetic: a folder of data must hold the four IDX files"):
        load("./synthetic", task="classification")
