"""Arrays from HDF5 and in the svmlight format, and files of test rows for arrays."""

import gzip
import re

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_array

from influence_cli.artifacts.model import ModelArtifact, save_model
from influence_cli.data.dataset import Dataset
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.errors import ExitCode, FileError, UsageError

RNG = np.random.default_rng(2)
X = np.where(RNG.random((30, 5)) < 0.5, RNG.normal(size=(30, 5)).round(4), 0.0)
X[:, 4] = 1.5
Y = np.arange(30) % 3
KEYS = ["X_train", "y_train", "X_test", "y_test"]


def read(path, **options):
    return load(str(path), task="classification", table=TableOptions(**options))


def refused(path, message, error=FileError, **options):
    with pytest.raises(error, match=f"(?m){message}") as caught:  # a hint follows as a note
        read(path, **options)
    assert caught.value.code == (ExitCode.FILE if error is FileError else ExitCode.USAGE)
    return caught.value


def svm(X, y, first=1):
    """The svmlight format, written from its description."""
    rows = (
        " ".join([f"{label:g}", *(f"{place + first}:{value!r}" for place, value in enumerate(row.tolist()) if value)])
        for row, label in zip(X, y, strict=True)
    )
    return "".join(f"{row}\n" for row in rows)


@pytest.mark.parametrize("keys", [KEYS, [key.lower() for key in KEYS]])
@pytest.mark.parametrize("labels", [Y.astype(np.int8), np.array(["b", "a", "ü"], dtype=object)[Y]])
def test_hdf5_with_its_own_split(tmp_path, keys, labels):
    arrays = dict(zip(keys, (X[:20], labels[:20], X[20:], labels[20:]), strict=True))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file["more"] = np.zeros(3)
    data = read(tmp_path / "a.h5")
    assert np.array_equal(data.X_train, X[:20]) and np.array_equal(data.X_test, X[20:])
    assert [data.classes[code] for code in data.y_test] == [str(label) for label in labels[20:]]
    assert not data.columns_train


def test_hdf5_to_be_split_and_with_a_file_of_test_rows(tmp_path):
    for name, rows in (("a.h5", slice(0, 20)), ("b.hdf5", slice(20, 30))):
        with h5py.File(tmp_path / name, "w") as file:
            file["X"], file["y"] = X[rows], Y[rows]
    assert len(read(tmp_path / "a.h5").X_test) == 4
    data = read(tmp_path / "a.h5", test_data=str(tmp_path / "b.hdf5"))
    assert np.array_equal(data.X_train, X[:20]) and np.array_equal(data.X_test, X[20:])
    np.savez(tmp_path / "c.npz", X=X[20:], y=Y[20:])
    assert read(tmp_path / "a.h5", test_data=str(tmp_path / "c.npz")).digest == data.digest
    np.savez(tmp_path / "d.npz", X_train=X, y_train=Y, X_test=X, y_test=Y)
    refused(tmp_path / "a.h5", "has a split of its own", UsageError, test_data=str(tmp_path / "d.npz"))


def test_a_model_of_ours_is_told_from_data(tmp_path):
    data = Dataset("x", X, Y, X, Y, tuple("abcde"), ("a", "b", "c"))
    save_model(tmp_path / "m.h5", ModelArtifact(data, np.zeros(3), np.zeros((30, 3)), None, {}, {}))
    error = refused(tmp_path / "m.h5", "this is a model that ginf train wrote, not data to train on")
    assert f"--model {tmp_path / 'm.h5'}" in error.hint


def test_hdf5_that_is_something_else(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"a,b\n")
    refused(tmp_path / "a.h5", "an HDF5 file was expected, but this is another kind")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["group/X"] = X
        file["Z"] = X
    error = refused(tmp_path / "b.h5", r"the arrays X_train, .* \(or X, y\) were expected, but found Z$")
    assert "at the root" in error.hint
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["X"], file["y"] = X.astype(complex), Y
    refused(tmp_path / "c.h5", "numbers or strings were expected in X, but it holds complex128")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["X"], file["y"] = h5py.Empty("f8"), Y
    refused(tmp_path / "d.h5", "the dataset X is empty")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["X"], file["y"] = X, Y
    content = (tmp_path / "e.h5").read_bytes()
    (tmp_path / "e.h5").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "e.h5", "a whole HDF5 file was expected, but it is cut short or damaged")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["a.svm", "a.libsvm", "a.svm.gz"])
def test_svmlight_stays_sparse(tmp_path, name, first):
    content = svm(X, Y, first).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    data = read(tmp_path / name)
    assert all(isinstance(part, csr_array) and part.dtype == np.float64 for part in (data.X_train, data.X_test))
    both = np.vstack([data.X_train.toarray(), data.X_test.toarray()])
    order = [np.lexsort(rows.T) for rows in (both, X)]
    assert np.array_equal(both[order[0]], X[order[1]])
    assert data.classes == ("0", "1", "2") and data.feature_names == ("x0", "x1", "x2", "x3", "x4")


def test_svmlight_test_rows_have_the_features_of_the_training_rows(tmp_path):
    narrow = X[20:].copy()
    narrow[:, 3:] = 0
    (tmp_path / "a.svm").write_text(svm(X[:20], Y[:20]))
    (tmp_path / "b.svm").write_text("# comment\n" + svm(narrow, Y[20:]))
    data = read(tmp_path / "a.svm", test_data=str(tmp_path / "b.svm"))
    assert np.array_equal(data.X_train.toarray(), X[:20]) and np.array_equal(data.X_test.toarray(), narrow)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "1 x:2\n", "1 3:1 2:1\n", "1 1:\n", "\x00\x01"])
def test_svmlight_that_is_something_else(tmp_path, content):
    (tmp_path / "a.svm").write_text(content)
    error = refused(tmp_path / "a.svm", re.escape(f"{tmp_path / 'a.svm'}: the svmlight format was expected"))
    assert "LABEL INDEX:VALUE" in error.hint


def test_svmlight_without_rows_or_features(tmp_path):
    (tmp_path / "a.svm").write_text("")
    refused(tmp_path / "a.svm", "the file holds no rows|no row has a feature|svmlight format was expected")


def test_svmlight_with_more_features_than_names_fit_is_refused(tmp_path):
    (tmp_path / "a.svm").write_text("1 2000000000:1\n0 1:1\n")
    error = refused(tmp_path / "a.svm", "2,000,000,000 features were found, more than the 10,000,000 that ginf holds")
    assert "hash" in error.hint


def test_a_svmlight_row_may_be_empty_and_zeros_that_are_written_are_none(tmp_path):
    (tmp_path / "a.svm").write_text("0 1:0 3:2\n1\n0 2:1\n1 1:1 2:0\n")
    data = read(tmp_path / "a.svm", test_data=str(tmp_path / "a.svm"))
    assert np.array_equal(data.X_train.toarray(), [[0, 0, 2], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert data.X_train.nnz == 3 and data.X_train.indices.dtype == np.int32


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_svmlight_numbers_must_be_finite(tmp_path, value):
    (tmp_path / "a.svm").write_text(f"0 1:1\n1 1:2 3:{value}\n0 2:1\n1 1:1\n")
    refused(tmp_path / "a.svm", rf"1 of the 5 numbers in the rows is not: the first is {value} in column x2, row 1 \(")


def test_sparse_rows_are_scaled_without_centring_and_that_is_said(tmp_path):
    (tmp_path / "a.svm").write_text(svm(X, Y))
    test = {"test_data": str(tmp_path / "a.svm")}
    data = read(tmp_path / "a.svm", standardize=True, **test)
    expected = X / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
    assert np.allclose(data.X_train.toarray(), expected, rtol=1e-12)
    assert np.array_equal(data.X_test.toarray(), data.X_train.toarray())
    assert any("not centred" in note for note in data.notes)
    scale = [feature["scale"] for feature in data.preparation["features"]]
    assert np.allclose(scale[:4], X.std(axis=0)[:4]) and {one["mean"] for one in data.preparation["features"]} == {0.0}


def test_the_digest_of_sparse_rows_is_of_their_numbers(tmp_path):
    (tmp_path / "a.svm").write_text(svm(X, Y))
    (tmp_path / "b.svm").write_text(svm(X, Y).replace("5:1.5", "5:1.25", 1))
    one, same, other = (read(tmp_path / f"{name}.svm").digest for name in "aab")
    assert one == same != other


@pytest.mark.parametrize(("data", "words"), [("digits", "is built in"), ("folder", "a folder with test images")])
def test_files_of_test_rows_go_with_files(tmp_path, data, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    source = data if data == "digits" else folder
    refused(source, words, UsageError, test_data=str(tmp_path / "b.npz"))
