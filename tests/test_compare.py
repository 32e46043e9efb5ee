"""``ginf compare``: its records, their intervals, and what is called a gain."""

import json
from dataclasses import replace

import numpy as np
import pytest
from compare_cases import ADDED_AGAINST, FOUND_AGAINST, KEYS, drawn, one, part, records, results, table
from scipy import stats

from influence_cli.analysis.compare import NO_INTERVAL, Settings, compare
from influence_cli.analysis.matching import match
from influence_cli.core import agreement


def test_a_record_for_each_kind_size_test_row_and_method_and_the_pooled_ones():
    rows = records(*results())
    assert [list(row) for row in rows] == [[*KEYS, "cell"]] * len(rows)
    cells = [("random", 50), ("random", 360), ("coherent", 94), (None, None)]
    expected = [
        (kind, size, test, method)
        for kind, size in cells
        for test in ([17, 40, 41, None] if kind else [None])
        for method in ("first", "second")
    ]
    assert [(row["kind"], row["size"], row["test"], row["method"]) for row in rows] == expected
    whole = one(rows, kind="coherent", test=17, method="first")
    assert (whole["size_min"], whole["size_max"], whole["fraction"]) == (90, 99, pytest.approx(0.0945))
    assert {row["status"] for row in rows} == {"ok"}


def test_the_figures_are_those_of_scipy():
    estimates, truth = results()
    rows = records(estimates, truth)
    row = one(rows, size=360, test=40, method="second")
    x, y = estimates.values["second"][12:24, 1], truth.actual[12:24, 1]
    assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert row["slope"] == pytest.approx(stats.linregress(x, y).slope)
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    assert row["relative_error"] == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y))
    assert row["sign_agreement"] == np.mean(np.sign(x) == np.sign(y))
    assert (row["n"], row["groups"], row["tests"]) == (12, 12, 1)
    order = np.argsort(truth.groups.digest[12:24])
    x, y = x[order, None], y[order, None]
    drawn, without = agreement.bootstrap_pearson([x], y, 200, 0)[0], agreement.jackknife_pearson([x], y)[0]
    expected = np.ravel(agreement.interval(drawn, agreement.pearson(x, y), without))
    assert [row["pearson_low"], row["pearson_high"]] == pytest.approx(expected.tolist())


def test_pooled_correlation_is_the_mean_over_test_rows_not_the_difference_between_them():
    estimates, truth = results(noise={"first": 3.0})
    rows = records(estimates, truth)
    each = [row["pearson"] for row in rows if row["kind"] == "random" and row["size"] == 50 and row["test"] is not None]
    pooled = one(rows, kind="random", size=50, test=None)
    assert pooled["pearson"] == pytest.approx(np.mean(each))
    assert stats.pearsonr(estimates.values["first"][:12].ravel(), truth.actual[:12].ravel()).statistic > 0.8 > max(each)
    assert pooled["pearson_low"] < pooled["pearson"] < pooled["pearson_high"]
    assert (pooled["n"], pooled["groups"], pooled["tests"]) == (36, 12, 3)
    everything = one(rows, kind=None, method="first")
    columns = zip(estimates.values["first"].T, truth.actual.T, strict=True)
    assert everything["pearson"] == pytest.approx(np.mean([stats.pearsonr(x, y).statistic for x, y in columns]))


def test_intervals_depend_on_the_seed_and_on_nothing_else():
    estimates, truth = results()
    assert records(estimates, truth) == records(estimates, truth)
    assert compare(match([("a", truth), ("b", estimates)]), Settings(200)).rows == records(estimates, truth)
    low = [one(records(estimates, truth, seed=seed), kind=None, method="first")["pearson_low"] for seed in (0, 1)]
    assert low[0] != low[1]
    alone = records(estimates, part(truth, np.arange(12)))
    assert one(alone, kind="random", test=17, method="first") == one(
        records(estimates, truth), kind="random", size=50, test=17, method="first"
    )


def test_without_resamples_there_are_no_intervals():
    row = records(*results(), resamples=0)[0]
    assert row["pearson"] is not None
    assert row["pearson_low"] is row["pearson_high"] is None
    assert row["status"] == "ok"


def test_many_test_rows_in_blocks(monkeypatch):
    estimates, truth = results(tests=np.arange(7))
    whole = records(estimates, truth, against="first")
    monkeypatch.setattr("influence_cli.analysis.compare.TEST_BLOCK", 3)
    for got, expected in zip(records(estimates, truth, against="first"), whole, strict=True):
        for key, value in expected.items():
            assert got[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value)


def test_what_is_not_defined_is_null_with_a_status():
    estimates, truth = results(table(*drawn("random:50", 50, 5), *drawn("random:60", 60, 2)))
    actual = truth.actual.copy()
    actual[:5, 0], actual[0, 1], actual[:, 2] = 7.0, np.nan, 0.0
    rows = records(estimates, replace(truth, actual=actual))
    constant = one(rows, size=50, test=17, method="first")
    assert constant["pearson"] is constant["pearson_low"] is constant["spearman"] is None
    assert constant["status"] == "constant truth"
    dropped = one(rows, size=50, test=40, method="first")
    assert (dropped["n"], dropped["dropped"], dropped["status"]) == (
        4,
        1,
        "1 pairs without a value left out; no interval from fewer than 8 groups",
    )
    assert dropped["pearson"] is not None
    zero = one(rows, size=50, test=41, method="first")
    assert zero["relative_error"] is None
    assert zero["status"] == "constant truth; no relative error: the truth is 0 throughout"
    pooled = one(rows, size=50, test=None, method="first")
    assert pooled["pearson"] == pytest.approx(dropped["pearson"])
    assert "2 of 3 test rows have no correlation: constant truth" in pooled["status"]
    few = one(rows, size=60, test=40, method="first")
    assert few["pearson"] is few["slope"] is None
    assert (few["status"], few["rmse"] is None) == ("fewer than 3 groups", False)
    json.dumps(rows, allow_nan=False)


def test_a_truth_without_any_value():
    estimates, truth = results()
    matched = match([("i", estimates), ("t", replace(truth, actual=np.full_like(truth.actual, np.nan)))])
    rows = compare(matched, Settings(50)).rows
    assert all(row["pearson"] is row["rmse"] is row["sign_agreement"] is None and row["n"] == 0 for row in rows)
    assert one(rows, kind=None, method="first")["status"].startswith("3 of 3 test rows have no correlation: no values")


def test_a_quantity_without_test_rows_has_pooled_records_only():
    estimates, truth = results(tests=np.array([-2]))
    assert [row["test"] for row in records(estimates, truth)] == [None] * 8
    estimates, truth = results(tests=np.array([-1]))
    assert {row["test"] for row in records(estimates, truth)} == {"mean", None}


def test_a_gain_is_one_where_the_interval_of_the_difference_excludes_zero():
    estimates, truth = results(noise={"first": 1.0, "second": 0.1, "worse": 9.0, "twice": 0.0})
    estimates.values["twice"] = 2 * estimates.values["first"]
    rows = records(estimates, truth, against="first")
    assert all(list(row) == [*KEYS, *FOUND_AGAINST, "cell", *ADDED_AGAINST] for row in rows)
    found = {row["method"]: row for row in rows if row["kind"] is None}
    assert found["second"]["difference"] == pytest.approx(found["second"]["pearson"] - found["first"]["pearson"])
    assert found["second"]["difference_low"] > 0
    assert found["second"]["gain"] is True
    assert found["worse"]["difference_high"] < 0
    assert found["worse"]["gain"] is False
    assert found["twice"]["gain"] is False  # proportional: whatever is not 0 is rounding
    assert [found["first"][key] for key in FOUND_AGAINST] == [None] * 5
    assert found["second"]["against"] == "first"


def test_the_difference_is_paired():
    estimates, truth = results(noise={"first": 1.0})
    close = estimates.values["first"] + 0.02 * truth.actual
    rows = records(replace(estimates, values={**estimates.values, "close": close}), truth, against="first")
    row = one(rows, kind=None, method="close")
    assert row["difference_high"] - row["difference_low"] < 0.2 * (row["pearson_high"] - row["pearson_low"])
    # where one method has no value the difference is taken over the groups that both have
    close[:6] = np.nan
    rows = records(replace(estimates, values={**estimates.values, "close": close}), truth, against="first")
    row = one(rows, kind="random", size=50, test=17, method="close")
    x, z, y = close[6:12, 0], estimates.values["first"][6:12, 0], truth.actual[6:12, 0]
    assert row["difference"] == pytest.approx(stats.pearsonr(x, y).statistic - stats.pearsonr(z, y).statistic)
    assert one(rows, kind="random", size=50, test=17, method="first")["n"] == 12


def test_a_figure_whose_resamples_lie_to_one_side_has_no_interval_and_says_so():
    """Over many test rows the bias of resampling few groups adds up, and their spread does not."""
    estimates, truth = results(tests=np.arange(400), noise={"first": 1.0, "second": 0.4})
    rows = records(estimates, truth, against="first")
    pooled = one(rows, kind="coherent", test=None, method="second")
    assert pooled["pearson_low"] is pooled["pearson_high"] is None
    assert pooled["status"] == f"pearson: {NO_INTERVAL}"
    assert pooled["difference_low"] < pooled["difference"] < pooled["difference_high"]
    plain = records(estimates, truth, resamples=0)
    assert one(plain, kind="coherent", test=None, method="second")["status"] == "ok"


def test_resampling_test_rows_as_well_changes_pooled_intervals_only():
    """Against the plain sum over the test rows drawn, and wider: here the correlations of the test rows differ."""
    estimates, truth = results(tests=np.arange(12))
    noisy = {name: values.copy() for name, values in estimates.values.items()}
    noisy["first"][:, :6] = np.random.default_rng(4).normal(size=noisy["first"][:, :6].shape)
    estimates = replace(estimates, values=noisy)
    fixed = records(estimates, truth, against="first")
    both = records(estimates, truth, against="first", resample="groups-tests")
    pooled = []
    for before, after in zip(fixed, both, strict=True):
        if before["test"] is not None:
            assert after == before
        elif before["method"] == "first":
            pooled.append([row["pearson_high"] - row["pearson_low"] for row in (before, after)])
            assert after["pearson"] == before["pearson"]
            assert after["status"] == "ok"
    assert len(pooled) == 4
    assert all(wide > 1.3 * narrow for narrow, wide in pooled)
    gap = one(both, kind="random", size=50, test=None, method="second")
    assert gap["difference_low"] < gap["difference"] < gap["difference_high"]


def test_few_test_rows_have_no_interval_over_test_rows():
    rows = records(*results(), against="first", resample="groups-tests")
    pooled = one(rows, kind="random", size=50, test=None, method="second")
    assert pooled["status"] == "no interval over test rows from fewer than 8 of them"
    assert [pooled[key] for key in ("pearson_low", "pearson_high", "difference_low", "gain")] == [None] * 4
    single = one(rows, kind="random", size=50, test=17, method="second")
    assert (single["status"], single["pearson_low"] is None) == ("ok", False)


def test_beside_the_gain_stands_the_change_of_the_error_on_common_pairs():
    estimates, truth = results()
    values = {name: array.copy() for name, array in estimates.values.items()}
    values["second"][3, 1] = np.nan
    rows = records(replace(estimates, values=values), truth, against="first")
    keep = np.arange(12) != 3
    x, z, y = (array[:12, 1][keep] for array in (values["second"], values["first"], truth.actual))
    expected = np.linalg.norm(x - y) / np.linalg.norm(z - y) - 1.0
    row = one(rows, kind="random", size=50, test=40, method="second")
    assert row["error_change"] == pytest.approx(expected, rel=1e-12)
    keep = np.isfinite(values["second"])
    x, z, y = (array[keep] for array in (values["second"], values["first"], truth.actual))
    expected = np.linalg.norm(x - y) / np.linalg.norm(z - y) - 1.0
    assert one(rows, kind=None, method="second")["error_change"] == pytest.approx(expected, rel=1e-12)
    assert one(rows, kind=None, method="first")["error_change"] is None
