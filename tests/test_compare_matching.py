"""``ginf compare``: which figures of which files belong together, and in which cell."""

from dataclasses import replace

import numpy as np
import pytest
from compare_cases import GROUPS, one, part, records, results, table

from influence_cli.analysis.compare import Settings, compare
from influence_cli.analysis.matching import match


@pytest.mark.parametrize(
    ("groups", "cells"),
    [
        ([("coherent:3", 60), ("coherent:50", 50), ("coherent:3:5%", 50), ("coherent:4:50#1", 50)], [[0, 1], [2, 3]]),
        ([("random:1.6%#0", 16), ("random:1.64%#0", 16), ("random:20", 20)], [[0, 1], [2]]),
        ([("cluster:2#0", 2), ("cluster:2#1", 9), ("cluster:3#0", 5)], [[0, 1], [2]]),
        ([("rows:0,5", 2), ("rows:@a=b.txt", 90)], [[0, 1]]),
        ([("column:site=a", 5), ("column:site=b", 70), ("column:age=5", 6)], [[0, 1], [2]]),
    ],
)
def test_groups_that_belong_together_are_one_cell(groups, cells):
    matched = match([("i", results(table(*groups))[0]), ("t", results(table(*groups))[1])])
    found = sorted(sorted(matched.groups.label[row] for row in cell.rows) for cell in matched.cells)
    assert found == sorted(sorted(groups[number][0] for number in cell) for cell in cells)


def test_files_are_matched_by_rows_whatever_their_order_and_labels():
    estimates, truth = results()
    turned = part(truth, np.arange(len(GROUPS))[::-1])
    turned = replace(turned, tests=truth.tests[::-1].copy(), actual=turned.actual[:, ::-1].copy())
    assert records(estimates, turned) == records(estimates, truth)
    labels = tuple(f"rows:@{number}.txt" for number in range(len(GROUPS)))
    renamed = replace(estimates, groups=replace(GROUPS, label=labels, kind=("rows",) * len(GROUPS)))
    assert records(renamed, truth) == records(estimates, truth)


def test_several_files_are_one():
    estimates, truth = results()
    halves = part(truth, np.arange(20)), part(truth, np.arange(20, len(GROUPS)))
    first, second = (replace(estimates, values={name: estimates.values[name]}) for name in ("first", "second"))
    matched = match([("a", halves[1]), ("b", first), ("c", halves[0]), ("d", second)])
    assert compare(matched, Settings(200)).rows == records(estimates, truth)
    assert matched.notes == ()


def test_exact_and_linear_estimates_of_one_method_stand_side_by_side():
    estimates, truth = results()
    exact = replace(estimates, evaluate="exact", values={"second": truth.actual * 3})
    rows = records(estimates, truth, exact)
    assert [row["method"] for row in rows[:3]] == ["first", "second", "second exact"]
    assert one(rows, kind=None, method="second exact")["slope"] == pytest.approx(1 / 3)


def test_pairs_of_one_side_only_are_counted_and_repeated_ones_taken_once():
    estimates, truth = results()
    fewer = part(truth, np.arange(4, len(GROUPS)))
    matched = match([("i", replace(estimates, tests=np.array([17, 40, 99]))), ("t", fewer)])
    assert matched.truth.shape == (30, 2)
    left = "pairs left out: 42 have an estimate but no truth and 30 have a truth but no estimate"
    assert matched.notes == (f"(group, test row) {left}",)
    assert one(compare(matched, Settings(50)).rows, kind=None, method="first")["dropped"] == 0
    matched = match([("i", estimates), ("t", truth), ("u", replace(truth, actual=-truth.actual))])
    assert compare(matched, Settings(200)).rows == records(estimates, truth)
    assert matched.notes == ("102 figures are in more than one file: the first file's are used",)


def test_a_file_that_is_given_twice_counts_once():
    def loaded():
        estimates, truth = results()
        asked = replace(estimates.provenance, config={**estimates.provenance.config, "preprocessing": "refit"})
        return ("i", replace(estimates, provenance=asked)), ("t", truth)

    first, truth = loaded()
    second, _ = loaded()
    matched = match([truth, first, second])
    assert any("are in more than one file" in note for note in matched.notes)
    assert compare(matched, Settings(50)).rows == compare(match([truth, first]), Settings(50)).rows


def test_groups_with_the_same_rows_count_once():
    twice = replace(GROUPS, digest=(GROUPS.digest[1], *GROUPS.digest[1:]))
    estimates, truth = results(twice)
    matched = match([("i", estimates), ("t", truth)])
    assert len(matched.groups) == len(GROUPS) - 1
    assert matched.notes == ("1 groups have the same rows as another one and count once",)


def test_values_that_are_missing_are_told_with_their_reasons():
    estimates, truth = results()
    actual = truth.actual.copy()
    actual[:3], actual[5, 0] = np.nan, np.nan
    unfinished = replace(truth, actual=actual, status=("pending",) * 3 + truth.status[3:])
    estimates.values["second"][9, 0] = np.nan
    assert match([("i", estimates), ("t", unfinished)]).notes == (
        "10 pairs of 4 groups have no true value and are left out: pending (3), no finite value (1)",
        "1 pairs have no estimate by second and are left out",
    )
    # a second file that has the value fills the gap
    filled = match([("i", estimates), ("t", unfinished), ("u", truth)])
    assert (filled.truth == match([("i", estimates), ("t", truth)]).truth).all()
