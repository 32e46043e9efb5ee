"""Readers of IDX folders and .npz files: what they read, and how they answer every kind of damage."""

import gzip
import struct
import zipfile

import numpy as np
import pytest

from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.errors import ExitCode, FileError

TRAIN_X, TRAIN_Y = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_X, TEST_Y = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(array, code=0x08, dtype=">u1"):
    """The bytes of an IDX file, written from the format's description and not with the project's own maker."""
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.astype(dtype).tobytes()


def arrays(train=12, test=6, height=2, width=3, largest=200):
    rng = np.random.default_rng(7)
    X = rng.integers(0, largest + 1, size=(train + test, height, width))
    X[0, 1, 2], X[1, 0, 1] = largest, 0
    y = np.arange(train + test) % 3 + 4
    return {TRAIN_X: X[:train], TRAIN_Y: y[:train], TEST_X: X[train:], TEST_Y: y[train:]}


@pytest.fixture
def folder(tmp_path):
    for name, array in arrays().items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def read(path):
    return load(str(path), task="classification")


def refused(path, message, task="classification"):
    with pytest.raises(FileError, match=f"(?m){message}") as caught:  # a hint follows as a note
        load(str(path), task=task)
    assert caught.value.code == ExitCode.FILE
    return caught.value


def test_an_idx_folder_is_read_flattened_and_scaled_by_its_largest_training_pixel(folder):
    found, wanted = read(folder), arrays()
    assert np.array_equal(found.X_train, wanted[TRAIN_X].reshape(12, 6) / 200)
    assert np.array_equal(found.X_test, wanted[TEST_X].reshape(6, 6) / 200)
    assert found.classes == ("4", "5", "6")
    assert np.array_equal(found.y_train, wanted[TRAIN_Y] - 4)
    assert np.array_equal(found.y_test, wanted[TEST_Y] - 4)
    assert found.image_shape == (2, 3)
    assert found.feature_names == tuple(f"pixel_{row}_{column}" for row in range(2) for column in range(3))


def test_a_test_pixel_above_every_training_pixel_does_not_change_the_scale(folder):
    images = arrays()[TEST_X]
    images[0, 0, 0] = 250
    (folder / TEST_X).write_bytes(idx(images))
    assert read(folder).X_test[0, 0] == 250 / 200


@pytest.mark.parametrize("rename", [
    lambda name: name.replace("-idx", ".idx"),
    lambda name: name.replace("t10k", "test"),
    lambda name: name.replace("-", "_"),
    str.upper,
])  # fmt: skip
def test_other_spellings_of_the_four_names(folder, rename):
    digest = read(folder).digest
    for path in list(folder.iterdir()):
        path.rename(folder / rename(path.name))
    assert read(folder).digest == digest


def test_gzip_is_told_from_the_content_and_not_from_the_name(folder):
    digest = read(folder).digest
    for name in (TRAIN_X, TEST_Y):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    (folder / TEST_X).write_bytes(gzip.compress((folder / TEST_X).read_bytes()))
    (folder / TRAIN_Y).rename(folder / f"{TRAIN_Y}.gz")
    assert read(folder).digest == digest


def test_a_plain_file_goes_before_its_gzipped_copy_and_other_files_do_not_matter(folder):
    digest = read(folder).digest
    (folder / f"{TRAIN_X}.gz").write_bytes(b"not looked at")
    (folder / "README").write_text("not looked at")
    (folder / "train-images-idx3-ubyte.d").mkdir()
    assert read(folder).digest == digest


def test_two_candidates_for_one_file_are_refused(folder):
    (folder / "test-images.idx3-ubyte").write_bytes((folder / TEST_X).read_bytes())
    refused(folder, r"one file of test images was expected, but found t10k-images\S+ and test-images\.idx3-ubyte")


@pytest.mark.parametrize(("code", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_other_idx_types_keep_their_values(folder, code, dtype):
    for name in (TRAIN_X, TEST_X):
        (folder / name).write_bytes(idx(arrays()[name] - 100, code, dtype))
    assert np.array_equal(read(folder).X_train, arrays()[TRAIN_X].reshape(12, 6) - 100)


def test_images_that_are_all_zero_are_not_divided_by_zero(folder):
    (folder / TRAIN_X).write_bytes(idx(np.zeros((12, 2, 3))))
    assert not read(folder).X_train.any()


@pytest.mark.parametrize("name", [TRAIN_X, TRAIN_Y, TEST_X, TEST_Y])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    error = refused(folder, f"must hold the four IDX files, but it has no {name}$")
    assert all(standard in error.hint for standard in arrays())


def test_a_folder_without_any_of_them(tmp_path):
    refused(tmp_path, "must hold the four IDX files, but it has none of them")


def damaged(folder, name, content, message):
    (folder / name).write_bytes(content)
    return refused(folder, rf"{name}: {message}")


def test_wrong_magic(folder):
    damaged(folder, TRAIN_X, b"\x89PNG....", "an IDX file begins with 00 00, .* begins with the bytes 89 50 4e 47")
    damaged(folder, TRAIN_X, struct.pack(">HBBI", 0, 0x07, 1, 0), "an IDX file begins with .* the bytes 00 00 07 01")
    damaged(folder, TRAIN_X, struct.pack(">HBB", 0, 0x08, 200), "an IDX file begins with .* the bytes 00 00 08 c8")
    damaged(folder, TRAIN_X, b"", "an IDX file begins with .* this file is empty")


def test_a_file_cut_short_or_too_long(folder):
    whole = idx(arrays()[TRAIN_X])
    assert len(whole) == 88
    damaged(folder, TRAIN_X, whole[:-1], "88 bytes were expected for 12x2x3 values, but found 87")
    damaged(folder, TRAIN_X, whole + b"xy", "88 bytes were expected for 12x2x3 values, but found 90")
    damaged(folder, TRAIN_X, whole[:15], "16 bytes were expected for the header, but found 15")


def test_a_header_that_promises_more_than_memory_holds(folder):
    damaged(folder, TRAIN_X, struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), r"\d+ bytes were expected .* found 16")


def test_damaged_gzip(folder):
    whole = gzip.compress(idx(arrays()[TRAIN_X]))
    message = "a whole gzip file was expected, but it is cut short or damaged"
    damaged(folder, TRAIN_X, whole[:-12], message)
    damaged(folder, TRAIN_X, whole[:5], message)
    damaged(folder, TRAIN_X, whole[:-8] + b"\0\0\0\0" + whole[-4:], rf"{message} \(CRC")
    damaged(folder, TRAIN_X, whole[:10] + b"\xff" * 30 + whole[40:], message)


def test_counts_and_sizes_that_do_not_match(folder):
    good = arrays()
    (folder / TRAIN_Y).write_bytes(idx(good[TRAIN_Y][:-1]))
    refused(folder, "the train split must have one label an image, but it has 12 images and 11 labels")
    (folder / TRAIN_Y).write_bytes(idx(good[TRAIN_Y]))
    (folder / TEST_X).write_bytes(idx(good[TEST_X].reshape(6, 3, 2)))
    refused(folder, "test images must have the size of the training images, 2x3, but they are 3x2")


def test_swapped_images_and_labels(folder):
    for images, labels in ((TRAIN_X, TRAIN_Y), (TEST_X, TEST_Y)):
        (folder / images).rename(folder / "x")
        (folder / labels).rename(folder / images)
        (folder / "x").rename(folder / labels)
    error = refused(folder, "images must have two or more dimensions and the labels one, but they have 1 and 3")
    assert error.hint == "are the image and label files swapped?"


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 2, 3), "at least 2 training rows are needed, but found 0"), ((12, 0, 3), "at least one feature is needed")],
)
def test_images_without_rows_or_pixels(folder, shape, message):
    for name, rows in ((TRAIN_X, shape[0]), (TEST_X, min(6, shape[0]))):
        (folder / name).write_bytes(idx(np.zeros((rows, *shape[1:]))))
        labels = name.replace("images-idx3", "labels-idx1")
        (folder / labels).write_bytes(idx(arrays()[labels][:rows]))
    refused(folder, message)


def test_one_idx_file_instead_of_its_folder(folder):
    error = refused(folder / TRAIN_X, "this is one of four IDX files")
    assert error.hint == f"pass the folder: --data {folder}"


@pytest.fixture
def quartet():
    rng = np.random.default_rng(3)
    y = np.arange(30) % 3
    X = rng.normal(size=(30, 4))
    return {"X_train": X[:20], "y_train": y[:20], "X_test": X[20:], "y_test": y[20:]}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_with_its_own_split_is_taken_as_it_is(tmp_path, quartet, save):
    path = tmp_path / "data.NPZ"
    with path.open("wb") as file:
        save(file, **quartet, note="other keys do not matter")
    found = load(str(path), task="classification", test_fraction=0.5, seed=9)
    for key, array in quartet.items():
        assert np.array_equal(getattr(found, key), array)
    assert found.feature_names == ("x0", "x1", "x2", "x3")
    assert found.image_shape is None
    assert found.name == str(path)


def test_an_npz_in_the_spelling_of_keras(tmp_path, quartet):
    np.savez(tmp_path / "a.npz", **{key.lower(): array for key, array in quartet.items()})
    assert np.array_equal(read(tmp_path / "a.npz").X_train, quartet["X_train"])
    np.savez(tmp_path / "b.npz", x_train=np.zeros(1), **quartet)
    assert np.array_equal(read(tmp_path / "b.npz").X_train, quartet["X_train"])


def test_an_npz_of_images_is_flattened_but_not_scaled(tmp_path):
    X = np.arange(8 * 6).reshape(8, 2, 3)
    for extra in ((), (1,)):
        np.savez(tmp_path / "a.npz", X=X.reshape(8, 2, 3, *extra), y=np.repeat([0, 1], 4))
        found = read(tmp_path / "a.npz")
        assert found.image_shape == (2, 3)
        assert found.feature_names[-1] == "pixel_1_2"
        both = np.vstack([found.X_train, found.X_test])
        assert np.array_equal(both[both[:, 0].argsort()], X.reshape(8, 6))


def test_an_npz_of_colour_images_is_flattened_without_an_image_shape(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((8, 2, 3, 3)), y=np.repeat([0, 1], 4))
    found = read(tmp_path / "a.npz")
    assert found.image_shape is None
    assert found.feature_names == tuple(f"x{column}" for column in range(18))


def test_missing_keys_are_answered_with_the_keys_found(tmp_path, quartet):
    del quartet["y_test"]
    np.savez(tmp_path / "a.npz", **quartet)
    error = refused(tmp_path / "a.npz", r"y_test \(or X, y\) were expected, but found X_train, y_train, X_test$")
    assert "numpy.savez" in error.hint
    with zipfile.ZipFile(tmp_path / "b.npz", "w"):
        pass
    refused(tmp_path / "b.npz", "but found no array")


@pytest.mark.parametrize("key", ["X_train", "y_test"])
def test_object_arrays_are_never_unpickled(tmp_path, quartet, key):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    quartet[key] = np.array([Trap()] * len(quartet[key]), dtype=object)
    np.savez(tmp_path / "a.npz", **quartet)
    error = refused(tmp_path / "a.npz", f"strings were expected in {key}, but it is an array of Python objects")
    assert "astype" in error.hint
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"a,b\n1,2\n", b"\x80\x04\x95."])
def test_a_foreign_file_with_the_ending_npz(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "an .npz file was expected, but this is another kind")


def test_an_npy_file_with_the_ending_npz(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    refused(tmp_path / "a.npz", "an .npz file was expected, but this is another kind")


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("report.txt", "hello")
    refused(tmp_path / "a.npz", "but found report.txt")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for key in ("X", "y"):
            archive.writestr(key, "hello")
    refused(tmp_path / "b.npz", "a NumPy array was expected in X, but it is another kind of file")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
def test_a_truncated_npz(tmp_path, quartet, keep):
    path = tmp_path / "a.npz"
    np.savez(path, **quartet)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    refused(path, "a whole .npz file was expected, but it is cut short or damaged")


@pytest.mark.parametrize(("save", "text"), [(np.savez, "Bad CRC-32"), (np.savez_compressed, "decompressing|CRC-32")])
def test_a_flipped_byte_in_an_npz(tmp_path, quartet, save, text):
    path = tmp_path / "a.npz"
    save(path, **quartet)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF  # inside the values of X_train, which are the first entry
    path.write_bytes(content)
    refused(path, f"cut short or damaged .*({text})")


@pytest.mark.parametrize("name", ["rows.csv.zip", "rows.pickle", "rows"])
def test_a_kind_that_is_not_read(tmp_path, name):
    (tmp_path / name).write_text("a,b\n")
    refused(tmp_path / name, r"expected a folder of four IDX files or a file of the kind \.csv, .* this kind is not")


def test_an_archive_of_tables_is_no_workbook(tmp_path):
    for name in ("rows.csv", "rows.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("inside.csv", "x,y\n1,a\n")
    with pytest.raises(FileError, match="this is a ZIP archive, not text"):
        load(str(tmp_path / "rows.csv"), task="classification", table=TableOptions(label="y"))
    with pytest.raises(FileError, match="but this kind is not supported"):
        load(str(tmp_path / "rows.zip"), task="classification", table=TableOptions(label="y"))


def test_a_workbook_has_a_sentence_of_its_own(tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    error = refused(tmp_path / "rows.xlsx", "this is a workbook of a spreadsheet, which ginf does not read")
    assert error.hint == "save it as CSV"


@pytest.mark.parametrize("name", ["missing/data", "missing.npz"])
def test_a_path_that_does_not_exist(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    error = refused(name, f"^{name}: no such file or folder$")
    assert "the names are digits" in error.hint


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/x", "a\0b/c"])
def test_a_path_that_cannot_be(name):
    refused(name, "the path cannot be read|no such file or folder")
