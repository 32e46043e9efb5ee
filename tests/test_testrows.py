"""The mini-language of test rows."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from influence_cli.errors import UsageError
from influence_cli.specs.tests import TestRowSpec, choose_tests, parse_tests

N = 60
WRONG = (7, 12, 30, 55)


def mask():
    wrong = np.zeros(N, dtype=bool)
    wrong[list(WRONG)] = True
    return wrong


def forbidden():
    raise AssertionError("the predictions are not needed here")


def refused(text, n=N, misclassified=mask):
    """Message and hint of the error of one spec."""
    with pytest.raises(UsageError) as caught:
        choose_tests(parse_tests(text), n, misclassified)
    return f"{caught.value.message} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "canonical", "rows"),
    [
        ("17", "17", [17]),
        (" 3, 17,5 ", "3,17,5", [3, 17, 5]),
        ("0:5", "0:5", [0, 1, 2, 3, 4]),
        (":3", ":3", [0, 1, 2]),
        ("57:", "57:", [57, 58, 59]),
        ("59:60", "59:60", [59]),
        ("all", "all", list(range(N))),
    ],
)
def test_rows_are_chosen_without_predictions(text, canonical, rows):
    spec = parse_tests(text)
    assert spec.text == canonical and parse_tests(spec.text) == spec
    chosen, mean = choose_tests(spec, N, forbidden)
    assert chosen.tolist() == rows and chosen.dtype == np.int64 and mean is False


def test_the_mean_is_over_all_rows():
    chosen, mean = choose_tests(parse_tests("mean"), N, None)
    assert chosen.tolist() == list(range(N)) and mean is True


@pytest.mark.parametrize(("text", "count"), [("misclassified", 4), ("misclassified:4", 4), ("misclassified:02", 2)])
def test_misclassified_takes_the_first_in_row_order(text, count):
    chosen, mean = choose_tests(parse_tests(text), N, mask)
    assert tuple(chosen) == WRONG[:count] and chosen.dtype == np.int64 and mean is False


def test_a_spec_is_frozen():
    with pytest.raises(FrozenInstanceError):
        parse_tests("17").kind = "all"
    assert parse_tests("misclassified:02") == TestRowSpec("misclassified:2", "misclassified", count=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60", ["test rows '60': expected test rows 0..59, found 60"]),
        ("3,-1", ["expected test rows 0..59, found -1"]),
        ("0:61", ["expected test rows 0..59, found 60"]),
        ("60:", ["expected test rows 0..59, found 60"]),
        ("3,5,3", ["row 3 is listed twice"]),
        ("5:5", ["no row lies from 5 to before 5"]),
        ("9:5", ["no row lies from 9 to before 5"]),
        (":0", ["no row lies from 0 to before 0"]),
        ("-5:3", ["expected row numbers from 0 on, found a negative one"]),
        (":", ["expected START:STOP"]),
        ("0:50:2", ["expected START:STOP with row numbers", "--test 0:50"]),
        ("a:5", ["expected START:STOP"]),
        ("", ["expected 17, 3,5,17, 0:50, :50, record:12, id:P021, misclassified[:N], all, mean or removed, found ''"]),
        ("1.5", ["found '1.5'"]),
        ("3,,5", ["found ''"]),
        ("misclasified", ["found 'misclasified'", "did you mean misclassified?"]),
        ("misclasified:5", ["did you mean misclassified?"]),
        ("Mean", ["did you mean mean?"]),
        ("misclassified:", ["expected a number of at least 1 behind misclassified:, found ''"]),
        ("misclassified:0", ["at least 1", "--test misclassified:10"]),
        ("misclassified:few", ["found 'few'"]),
        ("-1", ["expected test rows 0..59, found -1", "rows are numbered from 0; the last ones are --test 55:60"]),
        ("nr:P021", ["expected START:STOP", "did you mean --test id:P021?"]),
        ("misclassified:5", ["only 4 of the 60 test rows are misclassified", "--test misclassified"]),
    ],
)
def test_a_mistake_is_told_what_was_expected_and_found(text, expected):
    said = refused(text)
    for piece in expected:
        assert piece in said


def test_nothing_is_misclassified():
    said = refused("misclassified", misclassified=lambda: np.zeros(N, bool))
    assert "none of the 60 test rows is misclassified" in said and "--test all" in said
    assert "a regression classifies nothing" in refused("misclassified:3", misclassified=None)


@pytest.mark.parametrize("text", ["all", "mean", "0", "misclassified"])
def test_no_test_rows_at_all(text):
    assert "this data has no test rows" in refused(text, n=0)
