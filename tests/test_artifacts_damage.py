"""Every file that is not a right one is refused with its name, the key, what was expected and what to do."""

import json
import shutil

import h5py
import numpy as np
import pytest
from artifact_examples import (
    assert_same,
    example_influence,
    example_linked_model,
    example_model,
    example_sparse_model,
    example_truth,
    load_linked_model,
    numbers,
    sign_again,
)

from influence_cli.artifacts.model import load_model, save_model
from influence_cli.artifacts.results import load_influence, load_truth, save_influence, save_truth
from influence_cli.artifacts.schema import KINDS
from influence_cli.artifacts.storage import kind_of, read
from influence_cli.errors import ExitCode, FileError


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.h5"
    save_model(path, example_model())
    return path


@pytest.fixture
def influence(tmp_path):
    path = tmp_path / "influence.h5"
    save_influence(path, example_influence())
    return path


def refusal(path, load=load_model):
    with pytest.raises(FileError) as caught:
        load(path)
    assert caught.value.code == ExitCode.FILE
    assert str(path) in caught.value.message
    return caught.value


def edit(path, change, *, sign=True):
    with h5py.File(path, "r+") as file:
        change(file)
    if sign:
        sign_again(path)


def put(path, name, value):
    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    edit(path, change)


# --- not one of ours ---


def test_missing(tmp_path):
    error = refusal(tmp_path / "none.h5")
    assert "there is no file" in error.message
    assert error.hint == "make one: ginf train ... -o model.h5"
    assert "ginf influence" in refusal(tmp_path / "none.h5", load_influence).hint
    assert "ginf groundtruth" in refusal(tmp_path / "none.h5", load_truth).hint


def test_folder_and_file_in_place_of_a_folder(tmp_path, model):
    assert "is a folder, expected a model file" in refusal(tmp_path).message
    assert "cannot read" in refusal(model / "deeper.h5").message


def test_empty_and_text(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"")
    assert "is empty" in refusal(path).message
    path.write_text("group,size\n" * 100)
    assert "is not an HDF5 file, expected a model file" in refusal(path).message


def test_foreign_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = numbers(3)
    error = refusal(path)
    assert "is an HDF5 file but not one of ginf's (it holds weights)" in error.message
    assert "ginf train" in error.hint


def test_other_kind(model, influence):
    error = refusal(influence)
    assert "is of kind 'influence', expected 'model'" in error.message
    assert error.hint == "make one: ginf train ... -o model.h5"
    error = refusal(model, load_truth)
    assert "is of kind 'model', expected 'truth'" in error.message
    assert error.hint == "make one: ginf groundtruth ... -o truth.h5"


@pytest.mark.parametrize("kind", ["selected", np.arange(3), 7, b"\xff"])
def test_unknown_kind(model, kind):
    edit(model, lambda file: file.attrs.create("kind", kind))
    for load in (load_model, load_truth, lambda path: kind_of(path, KINDS["truth"])):
        assert "is of kind" in refusal(model, load).message


def test_versions(model):
    edit(model, lambda file: file.attrs.modify("format_version", 5))
    error = refusal(model)
    assert "has format version 5 (made by ginf" in error.message and "reads up to 4" in error.message
    assert "upgrade ginf" in error.hint
    edit(model, lambda file: file.attrs.modify("format_version", 0))
    error = refusal(model)
    assert "has format version 0" in error.message and "older than 1" in error.message
    assert "ginf train" in error.hint
    edit(model, lambda file: file.attrs.create("format_version", "one"))
    assert "format_version is 'one', expected an integer" in refusal(model).message


# --- ours, but not right ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "params/theta",
            np.array([1, 2, np.nan, 4, 5, np.inf]),
            "expected finite numbers, found 2 NaN or infinite of 6",
        ),
        ("params/theta", numbers(6).astype(np.float32), "expected float64 (P,), found float32 (6,)"),
        ("params/theta", numbers(6, 1), "expected float64 (P,), found float64 (6, 1)"),
        ("params/theta", ["a", "b"], "expected float64 (P,), found str (2,)"),
        ("data/y_train", np.zeros(4, np.int64), "found int64 (4,), but m is 5 (from /data/X_train)"),
        ("data/y_train", np.array([0, 1, 3, 1, 0]), "expected codes from 0 to 2, found 0 to 3"),
        ("data/y_test", np.array([2.0, 0.0, 1.0]), "expected int64 for classification, found float64"),
        (
            "data/X_test",
            numbers(3, 5),
            "expected float64 (n, d), found float64 (3, 5), but d is 4 (from /data/X_train)",
        ),
        ("data/feature_names", numbers(4), "expected str (d,), found float64 (4,)"),
        ("gradients/residuals", numbers(5, 3) * np.nan, "found 15 NaN or infinite of 15"),
        ("hessian/cholesky", numbers(6, 5), "expected float32 or float64 (P, P), found float64 (6, 5), but P is 6"),
    ],
)
def test_wrong_dataset(model, name, value, message):
    put(model, name, value)
    text = refusal(model).message
    assert f"/{name}: " in text and message in text


def test_missing_entries_are_all_named_at_once(model):
    def change(file):
        del (
            file["params/theta"],
            file["data/y_test"],
            file.attrs["data_name"],
            file["hessian/cholesky"].attrs["damping"],
        )

    edit(model, change)
    error = refusal(model)
    assert "is not a valid model file: \n" in error.message
    assert "/params/theta: missing, expected float64 (P,)" in error.message
    assert "/data/y_test: missing, expected int64 or float64 (n,)" in error.message
    assert "@data_name: missing, expected str" in error.message
    assert "/hessian/cholesky@damping: missing, expected float64" in error.message
    assert "ginf train" in error.hint


def test_group_in_place_of_a_dataset(model):
    def change(file):
        del file["params/theta"]
        file.create_group("params/theta")

    edit(model, change)
    assert "/params/theta: expected float64 (P,), found a group" in refusal(model).message


def test_config_that_is_not_json(model):
    edit(model, lambda file: file.attrs.modify("config", "{l2: 1}"))
    assert "@config: expected JSON, found '{l2: 1}'" in refusal(model).message


def test_methods_without_values(influence):
    edit(influence, lambda file: file.pop("values/second"))
    assert "/values/second: missing" in refusal(influence, load_influence).message
    edit(influence, lambda file: file.pop("values"))
    assert "/values/*: missing, expected float64 (G, T)" in refusal(influence, load_influence).message


def test_status_outside_its_table(influence):
    put(influence, "groups/status", np.array([0, 1, 2, 3], np.int32))
    assert "/groups/status: expected indices from 0 to 2, found 0 to 3" in refusal(influence, load_influence).message


def test_what_a_later_version_adds_is_ignored(model):
    edit(model, lambda file: file.create_dataset("data/from_the_future", data=numbers(5)))
    assert load_model(model).digest == example_model().digest


def test_only_wanted_datasets_are_read(model):
    put(model, "params/theta", np.full(6, np.nan))
    assert "/params/theta" not in read(model, "model", ["/data/y_train"]).arrays


# --- compressed rows ---


@pytest.fixture
def sparse(tmp_path):
    path = tmp_path / "sparse.h5"
    save_model(path, example_sparse_model())
    return path


def test_compressed_rows_that_lack_a_part(sparse):
    edit(sparse, lambda file: file.__delitem__("data/X_train_csr/indptr"))
    assert "/data/X_train_csr/indptr: missing, expected int32 or int64 (m+1,)" in refusal(sparse).message
    edit(sparse, lambda file: file.__delitem__("data/X_train_csr/data"))
    message = refusal(sparse).message
    assert "/data/X_train: missing, expected float64 (m, d) (or /data/X_train_csr/data or @data_link)" in message
    assert "/data/X_train_csr/data: missing, expected beside /data/X_train_csr/indices" in message


def test_dense_and_compressed_rows_exclude_each_other(sparse, model):
    edit(sparse, lambda file: file.create_dataset("data/X_train", data=numbers(5, 4)))
    found = "/data/X_train: found beside /data/X_train_csr/data, expected one of the two"
    assert found in refusal(sparse).message
    edit(sparse, lambda file: [file.__delitem__(f"data/{name}") for name in ("X_train_csr",)])
    assert "/data: expected both splits dense or both in compressed rows" in refusal(sparse).message


def changed(part, at, value):
    array = getattr(example_sparse_model().dataset.X_train, part).copy()
    array[at] = value
    return array


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("data", changed("data", 2, np.nan), "/data/X_train_csr/data: expected finite numbers, found 1 NaN or inf"),
        ("data", numbers(3), "/data/X_train_csr/indices: expected int32 or int64 (z,)"),
        ("indices", np.array([0.5] * 9), "/data/X_train_csr/indices: expected int32 or int64 (z,), found float64"),
        ("indices", changed("indices", -1, 4), "/data/X_train_csr/indices: expected columns from 0 to 3, found 0 to 4"),
        ("indices", changed("indices", 0, -1), "/indices: expected columns from 0 to 3, found -1 to 3"),
        ("indices", changed("indices", 0, 3), "/indices: expected columns that rise within a row, found"),
        ("indptr", changed("indptr", 0, 1), "/indptr: expected positions that rise from 0 to"),
        ("indptr", changed("indptr", 2, 0), "/indptr: expected positions that rise from 0 to"),
        ("indptr", changed("indptr", -1, 1 << 20), "/indptr: expected positions that rise from 0 to"),
        ("indptr", np.arange(4), "/data/X_train_csr/indptr: expected 6 positions, one more than rows, found 4"),
    ],
)
def test_compressed_rows_that_are_none(sparse, part, value, message):
    put(sparse, f"data/X_train_csr/{part}", value)
    assert message in refusal(sparse).message


# --- damaged ---


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("example", "save", "load"),
    [
        (example_model, save_model, load_model),
        (example_influence, save_influence, load_influence),
        (example_truth, save_truth, load_truth),
    ],
)
def test_cut_short(tmp_path, example, save, load, share):
    path = tmp_path / "a.h5"
    save(path, example())
    with path.open("r+b") as file:
        file.truncate(max(1, int(path.stat().st_size * share)))
    error = refusal(path, load)
    assert "is damaged or cut short" in error.message or "is not an HDF5 file" in error.message
    assert error.hint.startswith("make one: ginf")


def flip_byte_of(path, name):
    """Change the lowest byte of the dataset's second number, where HDF5 itself would not notice."""
    with h5py.File(path) as file:
        dataset = file[name]
        offset = dataset.id.get_offset()
        if offset is None:
            offset = dataset.id.get_chunk_info(0).byte_offset
        offset += dataset.dtype.itemsize
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/X_train", "/data/X_train: damaged: expected the content whose SHA-256 is in @digests, found another"),
        ("data/X_test", "/data/X_test: damaged"),
        ("hessian/cholesky", "/hessian/cholesky: damaged"),
        ("data/y_train", "is damaged or cut short"),
        ("params/theta", "is damaged or cut short"),
        ("gradients/residuals", "is damaged or cut short"),
    ],
)
def test_one_flipped_bit_in_a_model(model, name, message):
    flip_byte_of(model, name)
    error = refusal(model)
    assert message in error.message
    assert "ginf train" in error.hint


@pytest.mark.parametrize("name", ["values/second", "tests/base", "groups/digest", "groups/status"])
def test_one_flipped_bit_in_a_result(influence, name):
    flip_byte_of(influence, name)
    assert "is damaged or cut short" in refusal(influence, load_influence).message


@pytest.mark.parametrize(
    ("example", "save", "load"),
    [
        (example_model, save_model, load_model),
        (example_linked_model, save_model, load_linked_model),
        (example_influence, save_influence, load_influence),
        (example_truth, save_truth, load_truth),
    ],
)
def test_a_flipped_byte_anywhere_is_noticed_or_does_not_matter(tmp_path, example, save, load):
    path = tmp_path / "a.h5"
    save(path, example())
    right = path.read_bytes()
    noticed = 0
    for offset in range(0, len(right), 41):
        path.write_bytes(right[:offset] + bytes([right[offset] ^ 0xFF]) + right[offset + 1 :])
        try:
            found = load(path)
        except FileError:
            noticed += 1
        else:
            assert_same(found, example())
    assert noticed > 0.8 * len(right) / 41


def test_settings_changed_by_hand(model):
    settings = {**example_model().settings, "l2": 0.5}
    edit(model, lambda file: file.attrs.modify("config", json.dumps(settings)))
    assert "theta and settings whose SHA-256 is @model_digest" in refusal(model).message


def test_a_model_is_readable_where_nothing_may_be_written(tmp_path, model):
    folder = tmp_path / "read only"
    folder.mkdir()
    shutil.copy(model, folder / "model.h5")
    (folder / "model.h5").chmod(0o444)
    folder.chmod(0o555)
    try:
        assert load_model(folder / "model.h5").digest == example_model().digest
    finally:
        folder.chmod(0o755)
