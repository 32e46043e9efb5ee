"""What every reader's arrays go through: shapes, types, finite values, labels and the split."""

import re

import numpy as np
import pytest

from influence_cli.data.from_arrays import RawData, prepare_arrays
from influence_cli.errors import ExitCode, FileError


def run(X, y, X_test=None, y_test=None, *, task="classification", test_fraction=0.2, seed=0, names=None):
    pair = [None if array is None else np.asarray(array) for array in (X_test, y_test)]
    raw = RawData(np.asarray(X), np.asarray(y), *pair, feature_names=names)
    return prepare_arrays(raw, "toy", task=task, test_fraction=test_fraction, seed=seed)


def refused(message, *arguments, **options):
    with pytest.raises(FileError, match=f"(?m){message}") as caught:  # a hint follows as a note
        run(*arguments, **options)
    assert caught.value.code == ExitCode.FILE
    assert str(caught.value).startswith("toy: ")
    return caught.value


def numbered(rows):
    """Features that hold the row's own number, so that a split can be traced."""
    return np.arange(rows, dtype=float).reshape(-1, 1)


X4, Y4 = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])


class TestFeatures:
    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float32, np.longdouble, object])
    def test_every_type_of_number_becomes_float64(self, dtype):
        data = run(X4.astype(dtype), Y4, X4[:1].astype(dtype), Y4[:1])
        assert data.X_train.dtype == data.X_test.dtype == np.float64
        assert np.array_equal(data.X_train, X4.astype(dtype).astype(float))

    def test_fortran_order_becomes_c_order(self):
        data = run(np.asfortranarray(X4), Y4, X4, Y4)
        assert data.X_train.flags.c_contiguous
        assert np.array_equal(data.X_train, X4)

    def test_names_of_features(self):
        assert run(X4, Y4, X4, Y4).feature_names == ("x0", "x1")
        assert run(X4, Y4, X4, Y4, names=("age", "dose")).feature_names == ("age", "dose")
        refused("3 feature names were found for 2 features", X4, Y4, X4, Y4, names=("a", "b", "c"))

    @pytest.mark.parametrize("shape", [(), (4,)])
    def test_too_few_dimensions(self, shape):
        refused(r"must be an array of rows and columns, but its shape is \(", np.zeros(shape), Y4)

    def test_no_columns(self):
        refused(r"at least one feature is needed, but the shape of the features is \(4, 0\)", np.zeros((4, 0)), Y4)

    def test_too_few_rows(self):
        refused("at least 2 training rows are needed, but found 1", X4[:1], Y4[:1], X4, Y4)
        refused("at least 1 test rows are needed, but found 0", X4, Y4, X4[:0], Y4[:0])
        refused("at least 2 rows are needed, but found 0", X4[:0], Y4[:0])

    @pytest.mark.parametrize("shape", [(4, 3), (4, 2, 1), (4,)])
    def test_test_rows_of_another_shape(self, shape):
        refused(r"must have the shape of the training rows, \(2,\), but they have \(", X4, Y4, np.zeros(shape), Y4)

    def test_images_must_match_in_height_and_width_and_not_only_in_pixels(self):
        refused(r"\(2, 3\), but they have \(3, 2\)", np.zeros((4, 2, 3)), Y4, np.zeros((4, 3, 2)), Y4)

    @pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
    def test_values_that_are_not_finite_are_counted_and_located(self, value, shown):
        X = X4.copy()
        X[2, 1] = value
        X[3] = np.nan
        where = f"first is {shown} in column dose, row 2 \\(counted from 0\\)"
        names = ("age", "dose")
        error = refused(f"3 of the 8 values in the training rows are not: the {where}", X, Y4, X4, Y4, names=names)
        assert "ginf does not guess" in error.hint
        refused(f"3 of the 8 values in the test rows are not: the {where}", X4, Y4, X, Y4, names=names)
        refused(f"3 of the 8 values in the rows are not: the {where}", X, Y4, names=names)

    def test_a_long_double_beyond_float64_is_not_finite(self):
        if np.finfo(np.longdouble).maxexp <= 1024:
            pytest.skip("long double is float64 on this machine")
        X = X4.astype(np.longdouble)
        X[1, 0] = np.longdouble(10) ** 4000
        refused("1 of the 8 values in the rows is not: the first is inf in column x0, row 1", X, Y4)

    @pytest.mark.parametrize("dtype", [object, str, bytes])
    def test_strings_are_refused_by_column(self, dtype):
        X = np.array([["1", "2"], ["3", "red"], ["5", "6"], ["7", "8"]]).astype(dtype)
        if dtype is object:
            X[:, 0] = [1, 3, 5, 7]
            X[0, 1] = 2
        error = refused("features must be numbers, but column x1 of the rows holds b?'red' in row 1", X, Y4)
        assert "encode categories" in error.hint
        refused("column x1 of the test rows holds b?'red' in row 1", X4, Y4, X, Y4)

    def test_numbers_written_as_strings_are_still_strings(self):
        refused("column x0 of the rows holds '0.0' in row 0", X4.astype(str), Y4)

    def test_missing_objects_are_refused(self):
        refused("column x1 of the rows holds None in row 0", np.array([[1, None], [2, 3]], dtype=object), [0, 1])

    @pytest.mark.parametrize("dtype", [complex, "datetime64[s]"])
    def test_other_types_are_refused(self, dtype):
        refused(f"have the type {re.escape(str(np.dtype(dtype)))}$", X4.astype(int).astype(dtype), Y4)


class TestLabels:
    @pytest.mark.parametrize(
        ("y", "classes", "codes"),
        [
            ([10, 9, 10, 9], ("9", "10"), [1, 0, 1, 0]),
            ([-1, 1, 1, -1], ("-1", "1"), [0, 1, 1, 0]),
            ([3.0, -2.0, -0.0, 0.0], ("-2", "0", "3"), [2, 0, 1, 1]),
            ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
            (["b", "a", "10", "9"], ("10", "9", "a", "b"), [3, 2, 0, 1]),
            (["Zoë", "é", "é", "Zoë"], ("Zoë", "é"), [0, 1, 1, 0]),
            ([b"no", b"yes", b"no", b"no"], ("no", "yes"), [0, 1, 0, 0]),
            (np.array(["x", "y", "y", "y"], dtype=object), ("x", "y"), [0, 1, 1, 1]),
            (np.array([7, 5, 7, 7], dtype=object), ("5", "7"), [1, 0, 1, 1]),
            (np.array([[7], [5], [7], [7]]), ("5", "7"), [1, 0, 1, 1]),
            (np.array([255, 0, 7, 7], dtype=np.uint8), ("0", "7", "255"), [2, 0, 1, 1]),
        ],
    )
    def test_classes_are_sorted_and_print_as_typed(self, y, classes, codes):
        data = run(X4, y, X4, y)
        assert data.classes == classes
        assert data.y_train.dtype == np.int64
        assert data.y_train.tolist() == data.y_test.tolist() == codes

    def test_fractions_that_repeat_are_classes(self):
        y = np.repeat(np.array([1.0, 1.5, 2.0], dtype=np.float32), 10)
        assert run(numbered(30), y).classes == ("1", "1.5", "2")

    def test_a_float32_prints_in_its_own_precision(self):
        y = np.repeat(np.array([0.1, 0.2], dtype=np.float32), 10)
        assert run(numbered(20), y).classes == ("0.1", "0.2")

    @pytest.mark.parametrize("dtype", [float, int, np.uint8])
    def test_many_whole_numbers_that_repeat_are_classes(self, dtype):
        y = np.repeat(np.arange(60), 5).astype(dtype)
        assert len(run(numbered(300), y).classes) == 60

    @pytest.mark.parametrize("dtype", [float, int])
    def test_up_to_twenty_whole_numbers_are_classes_however_rare(self, dtype):
        y = np.arange(20).astype(dtype)
        assert len(run(numbered(20), y, numbered(20), y).classes) == 20

    @pytest.mark.parametrize(
        "y",
        [
            np.random.default_rng(0).normal(size=200),
            np.random.default_rng(0).normal(size=8),
            np.tile(np.arange(25) + 0.5, 20),
            np.random.default_rng(0).integers(0, 300, size=400),
            np.arange(21.0),
        ],
        ids=["normal", "few", "many fractions", "prices", "counting"],
    )
    def test_a_numeric_response_is_recognised(self, y):
        found = f"{len(np.unique(y))} distinct values in {len(y)} rows"
        error = refused(f"the labels look like a numeric response: {found}, such as", numbered(len(y)), y)
        assert "--estimator linear" in error.hint
        assert "store them as strings" in error.hint
        assert ("for counts of events --estimator poisson" in error.hint) == (y.dtype.kind == "i" or y[1] == 1.0)
        strings = np.array([str(value) for value in y])
        assert len(run(numbered(len(y)), strings, numbered(len(y)), strings).classes) == len(np.unique(y))

    @pytest.mark.parametrize(("label", "shown"), [(3.0, "3"), ("cat", "cat"), (True, "True")])
    def test_a_single_class(self, label, shown):
        error = refused(f"at least two classes .* every label of the rows is {shown}$", X4, [label] * 4)
        assert "--estimator linear" in error.hint

    def test_labels_only_in_the_test_rows_are_named(self):
        message = "every test label must occur among the training labels, but 2, 7 is new in 3 of 4 test rows"
        refused(message, X4, Y4, X4, [7, 2, 1, 7])
        refused("but b is new in 1 of 4 test rows", X4, list("acac"), X4, list("abca"))
        refused("but 10, 11, 12, 13, 14 and 4 more is new", numbered(4), Y4, numbered(9), list(range(10, 19)))

    def test_a_class_without_test_rows_is_fine(self):
        assert run(X4, [0, 1, 2, 2], X4[:1], [0]).classes == ("0", "1", "2")

    def test_labels_of_two_types(self):
        refused("the training labels are numbers and the test labels are strings", X4, Y4, X4, list("abab"))
        refused("the training labels are strings and the test labels are numbers", X4, list("abab"), X4, Y4)

    @pytest.mark.parametrize("task", ["classification", "regression"])
    def test_labels_that_are_not_finite(self, task):
        bad = [1.0, np.nan, np.inf, 0.0]
        message = "2 of the 4 labels of the {} rows are not: the first is nan in row 1"
        refused(message.format("training"), X4, bad, X4, Y4, task=task)
        refused(message.format("test"), X4, Y4, X4, bad, task=task)

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.eye(2)[Y4], r"one label a row .* shape \(4, 2\)"),
            (np.array(3), r"one label a row .* shape \(\)"),
            ([0, 1, 0], "the rows need one label each, but there are 4 rows and 3 labels"),
            (["a", "", "b", "a"], "every row needs a label, but row 1 of the rows .* has none"),
            (np.array(["a", None, "b", "a"], dtype=object), "all numbers or all strings, but they hold None"),
            (np.array(["a", 1, "b", 2], dtype=object), "all numbers or all strings, but they hold both"),
            (np.array([b"\xff", b"a", b"a", b"a"]), "must be UTF-8 text"),
            (Y4.astype(complex), "labels must be numbers or strings, but those of the rows have the type complex128"),
        ],
    )
    def test_unusable_labels(self, y, message):
        refused(message, X4, y)

    def test_one_hot_labels_are_met_with_the_remedy(self):
        assert "argmax" in refused("one label a row", X4, np.eye(2)[Y4]).hint


class TestRegression:
    @pytest.mark.parametrize("dtype", [bool, int, np.float32, object])
    def test_responses_become_float64(self, dtype):
        data = run(X4, Y4.astype(dtype), X4, Y4.astype(dtype), task="regression")
        assert data.y_train.dtype == data.y_test.dtype == np.float64
        assert data.y_train.tolist() == [0.0, 1.0, 0.0, 1.0]
        assert data.classes == ()
        assert data.task == "regression"

    def test_a_constant_response_is_fine(self):
        assert run(X4, [5, 5, 5, 5], task="regression").y_train.tolist() == [5.0, 5.0, 5.0]

    def test_test_responses_may_be_new(self):
        assert run(X4, Y4, X4, [9.5, 8, 7, 6], task="regression").y_test[0] == 9.5

    def test_string_responses_are_refused(self):
        message = "regression needs numeric responses, but those of the {} are strings such as 'a'"
        assert "--estimator logistic" in refused(message.format("rows"), X4, list("abab"), task="regression").hint
        refused(message.format("test rows"), X4, Y4, X4, list("abab"), task="regression")


class TestSplit:
    @pytest.mark.parametrize("task", ["classification", "regression"])
    @pytest.mark.parametrize("fraction", [0.05, 0.2, 0.33, 0.5, 0.9])
    def test_every_row_goes_to_one_part_in_its_order_with_its_label(self, task, fraction):
        y = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [50, 30, 20]))
        data = run(numbered(100), y, task=task, test_fraction=fraction)
        train, test = data.X_train[:, 0].astype(int), data.X_test[:, 0].astype(int)
        assert sorted([*train, *test]) == list(range(100))
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
        assert np.array_equal(data.y_train, y[train])
        assert np.array_equal(data.y_test, y[test])
        assert len(test) == round(100 * fraction)

    @pytest.mark.parametrize("counts", [(50, 30, 20), (11, 7, 2), (997, 3, 2), (5, 5, 5, 5)])
    @pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
    def test_classes_keep_their_proportion_to_within_one_row(self, counts, fraction):
        total = sum(counts)
        data = run(numbered(total), np.repeat(np.arange(len(counts)), counts), test_fraction=fraction)
        assert len(data.y_test) == round(total * fraction)
        for count, held in zip(counts, np.bincount(data.y_test, minlength=len(counts)), strict=True):
            assert abs(held - count * len(data.y_test) / total) < 1 or held == count - 1

    def test_the_rows_of_a_class_are_drawn_evenly(self):
        y = np.repeat([0, 1], [10, 6])
        drawn = np.zeros(16)
        for seed in range(400):
            drawn[run(numbered(16), y, test_fraction=0.5, seed=seed).X_test[:, 0].astype(int)] += 1
        assert (abs(drawn - 200) < 5 * np.sqrt(400 / 4)).all()

    @pytest.mark.parametrize("task", ["classification", "regression"])
    def test_the_seed_fixes_the_split(self, task):
        y = np.tile([0, 1], 50)
        first, again, other = (run(numbered(100), y, task=task, seed=seed).digest for seed in (5, 5, 6))
        assert first == again
        assert first != other

    def test_a_tiny_fraction_still_gives_one_test_row(self):
        for task in ("classification", "regression"):
            assert len(run(numbered(40), np.tile([0, 1], 20), task=task, test_fraction=1e-9).y_test) == 1

    def test_fewer_test_rows_than_classes(self):
        data = run(numbered(40), np.repeat(np.arange(10), 4), test_fraction=0.1)
        assert len(set(data.y_test)) == len(data.y_test) == 4

    def test_a_huge_fraction_leaves_a_training_row_of_each_class(self):
        data = run(numbered(40), np.repeat([0, 1, 2], [30, 8, 2]), test_fraction=0.999)
        assert np.bincount(data.y_train).tolist() == [1, 1, 1]
        assert len(run(numbered(40), np.zeros(40), task="regression", test_fraction=0.999).y_train) == 2

    def test_a_class_with_one_row_cannot_be_split(self):
        error = refused(r"a class needs two rows .* but class 7 has one$", numbered(5), [1, 1, 7, 2, 2])
        assert "--test-data" in error.hint and "for an amount --estimator linear" in error.hint
        refused(r"but classes 7, 8 have one each$", numbered(6), [1, 1, 7, 2, 2, 8])
        error = refused(r"but class b has one$", numbered(5), ["a", "a", "b", "c", "c"])
        assert "linear" not in error.hint
        assert run(numbered(5), [1, 1, 7, 2, 2], numbered(1), [1]).classes == ("1", "2", "7")

    def test_two_rows_cannot_be_split_for_a_regression(self):
        message = "at least 3 rows are needed to split off a test row, but there are 2"
        refused(message, X4[:2], [1, 2], task="regression")

    def test_a_given_split_ignores_fraction_and_seed(self):
        first, other = (run(X4, Y4, X4, Y4, test_fraction=f, seed=s).digest for f, s in ((0.2, 0), (0.7, 5)))
        assert first == other
