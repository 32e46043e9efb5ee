"""``ginf compare``: matching, records, checks and what the user sees."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from influence_cli.analysis.compare import Settings, compare
from influence_cli.analysis.matching import match
from influence_cli.artifacts.results import load_result, save_influence, save_truth
from influence_cli.cli import run
from influence_cli.core import agreement
from influence_cli.errors import ExitCode
from influence_cli.results import GroupTable, InfluenceResult, Provenance, TruthResult

M = 1000
TESTS = np.array([17, 40, 41])
PROMISED = "kind,size,test,method,n,pearson,pearson_low,pearson_high,spearman,slope,rmse,relative_error,sign_agreement"
ADDED = "groups,tests,dropped,fraction,size_min,size_max,quantity,status"
KEYS = f"{PROMISED},{ADDED}".split(",")
FOUND_AGAINST = ["against", "difference", "difference_low", "difference_high", "gain"]
ORIGIN = Provenance("d" * 64, "e" * 64, {"seed": 0})


def table(*specs):
    """Groups from (label, size) pairs; different groups have different rows."""
    labels, sizes = zip(*specs, strict=True)
    digests = tuple(f"{hash_of(label):064x}" for label in labels)
    sizes = np.array(sizes, dtype=np.int64)
    return GroupTable(labels, tuple(label.partition(":")[0] for label in labels), sizes, sizes / M, digests)


def hash_of(label):
    return int.from_bytes(label.encode()[:32], "big") * 7919 % 2**251


def drawn(spec, size, times):
    return [(f"{spec}#{number}", size) for number in range(times)]


CLASSES = [(f"coherent:{label}", 90 + label) for label in range(10)]
GROUPS = table(*drawn("random:5%", 50, 12), *drawn("random:360", 360, 12), *CLASSES)


def results(groups=GROUPS, tests=TESTS, noise=None, **changes):
    """Estimates and truth; ``noise`` is that of each method relative to the truth's spread."""
    rng = np.random.default_rng(0)
    shape = (len(groups), len(tests))
    actual = rng.normal(size=shape) + 10.0 * np.arange(len(tests))
    noises = {"first": 0.8, "second": 0.2} if noise is None else noise
    values = {method: actual / 2 + size / 2 * rng.normal(size=shape) for method, size in noises.items()}
    ok = ("ok",) * len(groups)
    estimates = InfluenceResult(ORIGIN, groups, tests, "loss", "linear", np.zeros(len(tests)), values, ok)
    count = len(groups)
    ended = (np.full(count, 1e-9), np.full(count, 5), np.full(count, 0.1))
    truth = TruthResult(ORIGIN, groups, tests, "loss", np.zeros(len(tests)), actual, *ended, ok)
    return replace(estimates, **changes), truth


def records(estimates, truth, *more, **settings):
    files = [("influence.h5", estimates), ("truth.h5", truth), *((f"more{n}.h5", file) for n, file in enumerate(more))]
    return compare(match(files), Settings(**{"resamples": 200, **settings})).rows


def one(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def part(result, rows):
    """Some groups of a truth."""
    groups = result.groups
    picked = GroupTable(
        tuple(groups.label[row] for row in rows),
        tuple(groups.kind[row] for row in rows),
        groups.size[rows],
        groups.fraction[rows],
        tuple(groups.digest[row] for row in rows),
    )
    fields = {name: getattr(result, name)[rows] for name in ("actual", "grad_norm", "iterations", "seconds")}
    return replace(result, groups=picked, **fields, status=tuple(result.status[row] for row in rows))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimates, truth = results()
    save_influence("influence.h5", estimates)
    save_truth("truth.h5", truth)
    return estimates, truth


# --- records ---


def test_a_record_for_each_kind_size_test_row_and_method_and_the_pooled_ones():
    rows = records(*results())
    assert [list(row) for row in rows] == [KEYS] * len(rows)
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
    sampled = agreement.bootstrap_pearson([x[order, None]], y[order, None], 200, 0)[0, :, 0]
    assert [row["pearson_low"], row["pearson_high"]] == pytest.approx(np.percentile(sampled, [2.5, 97.5]).tolist())


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
    assert (dropped["n"], dropped["dropped"], dropped["status"]) == (4, 1, "1 pairs without a value left out")
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


@pytest.mark.parametrize(
    ("groups", "cells"),
    [
        ([("coherent:3", 60), ("coherent:50", 50), ("coherent:3:5%", 50), ("coherent:4:50#1", 50)], [[0, 1], [2, 3]]),
        ([("random:1.6%#0", 16), ("random:1.64%#0", 16), ("random:20", 20)], [[0, 1], [2]]),
        ([("cluster:2#0", 2), ("cluster:2#1", 9), ("cluster:3#0", 5)], [[0, 1], [2]]),
        ([("rows:0,5", 2), ("rows:@a=b.txt", 90)], [[0, 1]]),
        ([("by:site=a", 5), ("by:site=b", 70), ("by:age=5", 6)], [[0, 1], [2]]),
    ],
)
def test_groups_that_belong_together_are_one_cell(groups, cells):
    matched = match([("i", results(table(*groups))[0]), ("t", results(table(*groups))[1])])
    found = sorted(sorted(matched.groups.label[row] for row in cell.rows) for cell in matched.cells)
    assert found == sorted(sorted(groups[number][0] for number in cell) for cell in cells)


# --- gains ---


def test_a_gain_is_one_where_the_interval_of_the_difference_excludes_zero():
    estimates, truth = results(noise={"first": 1.0, "second": 0.1, "worse": 9.0, "twice": 0.0})
    estimates.values["twice"] = 2 * estimates.values["first"]
    rows = records(estimates, truth, against="first")
    assert all(list(row) == [*KEYS, *FOUND_AGAINST] for row in rows)
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


# --- matching ---


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


# --- the command ---


def out(capsys, *arguments):
    code = run(["compare", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_machine_formats_hold_every_record(files, capsys):
    code, text, notes = out(capsys, "truth.h5", "influence.h5", "--format", "json", "--bootstrap", "200")
    assert (code, notes) == (ExitCode.OK, "")
    rows = json.loads(text)
    assert rows == list(records(*files))
    _, text, _ = out(capsys, "influence.h5", "truth.h5", "--format", "csv", "--against", "first")
    assert text.splitlines()[0].split(",") == [*KEYS, *FOUND_AGAINST]
    pooled = list(csv.DictReader(io.StringIO(text)))[-1]
    assert (pooled["kind"], pooled["size"], pooled["test"], pooled["method"]) == ("", "", "", "second")
    _, text, _ = out(capsys, "influence.h5", "truth.h5", "--format", "ndjson")
    assert len(text.splitlines()) == len(rows)


def test_the_table_is_read_at_a_glance(files, capsys):
    code, text, _ = out(capsys, "influence.h5", "truth.h5", "--format", "table", "--against", "first")
    assert code == ExitCode.OK
    lines = [line.split() for line in text.splitlines()]
    starts = [line[:2] for line in lines if line and line[0] in ("random", "coherent", "all")]
    assert starts == [["random", "5%"], ["random", "36%"], ["coherent", "9-9.9%"], ["all", "5-36%"]]
    marked = [line for line in lines if "*" in line and "Pearson," not in line]
    assert [line[:2] for line in marked] == [["*", "second"]] * 4
    assert all("gain" in line for line in marked)
    flat = " ".join(text.split())
    assert "Change of the loss if the group is removed; positive: the group helped this prediction" in flat
    assert "mean over 3 test rows (one by one: --format csv)" in flat
    assert "bootstrap, 1,000 resamples of the groups" in flat
    assert "status" not in flat


def test_the_table_says_why_a_correlation_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    estimates, truth = results(table(("random:5%", 50), ("random:10%", 100)), tests=np.array([3]))
    save_influence("i.h5", estimates)
    save_truth("t.h5", truth)
    code, text, _ = out(capsys, "i.h5", "t.h5", "--format", "table")
    assert code == ExitCode.OK
    assert "fewer than 3 groups" in text
    assert "one test row" in text


def test_notes_go_to_stderr_unless_quiet(files, capsys):
    save_truth("part.h5", part(files[1], np.arange(12)))
    _, text, notes = out(capsys, "influence.h5", "part.h5", "--format", "csv")
    assert notes == "ginf: (group, test row) pairs left out: 66 have an estimate but no truth\n"
    assert "left out" not in text
    assert out(capsys, "influence.h5", "part.h5", "--quiet")[2] == ""


def test_fail_under(files, capsys):
    good = {row["method"]: row["pearson"] for row in records(*files) if row["kind"] is None}
    base = ("influence.h5", "truth.h5", "--format", "csv", "--bootstrap", "0", "--fail-under")
    code, text, notes = out(capsys, *base, f"second={good['second'] - 1e-6}, first=-1")
    assert (code, notes) == (ExitCode.OK, "")
    code, failed_text, notes = out(capsys, *base, "second=0.5,first=0.9999")
    assert (code, failed_text) == (ExitCode.CHECK_FAILED, text)
    expected = f"first has {good['first']:.6g}, expected at least 0.9999"
    assert notes == f"ginf: error: correlation over all groups (--fail-under): {expected}\n"


def test_fail_under_fails_where_there_is_no_correlation(files, capsys):
    save_truth("short.h5", part(files[1], np.arange(2)))
    code, _, notes = out(capsys, "influence.h5", "short.h5", "--quiet", "--fail-under", "first=-1")
    assert code == ExitCode.CHECK_FAILED
    assert "first has no correlation (3 of 3 test rows have no correlation: fewer than 3 groups)" in notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-under", "second"], "--fail-under second: expected METHOD=R with R from -1 to 1, found 'second'"),
        (["--fail-under", "second=90"], "found 'second=90'"),
        (["--fail-under", "first=0.1,=0.9"], "found '=0.9'"),
        (["--fail-under", "first=nan"], "found 'first=nan'"),
        (["--fail-under", "first=0,first=1"], "first is given twice"),
        (["--fail-under", "newton=0.9"], "--fail-under newton: the files hold no estimates by that method"),
        (["--against", "newton"], "--against newton: the files hold no estimates by that method"),
        (["--against", "first", "--bootstrap", "0"], "--against needs resamples"),
        (["--figure", "curve"], "--figure curve needs a file to draw into"),
        (["--figure", "pie"], "--figure must be one of auto, scatter, curve; found 'pie'"),
        (["--format", "xml"], "--format must be one of"),
        (["--bootstrap", "-1"], "--bootstrap"),
    ],
)
def test_wrong_usage(files, capsys, arguments, message):
    code, text, notes = out(capsys, "influence.h5", "truth.h5", *arguments)
    assert (code, text) == (ExitCode.USAGE, "")
    assert message in notes


def test_one_side_alone_is_wrong_usage(files, capsys):
    code, _, notes = out(capsys, "truth.h5")
    assert code == ExitCode.USAGE
    assert "none of the files holds estimates: truth.h5\nhint: add one: ginf influence" in notes
    assert "none of the files holds the truth: influence.h5" in out(capsys, "influence.h5")[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": replace(ORIGIN, data_digest="f" * 64)}, "belong together: they come from different data"),
        ({"provenance": replace(ORIGIN, model_digest="f" * 64)}, "they come from different models"),
        ({"quantity": "margin"}, "influence.h5 and other.h5 measure different quantities: loss and margin"),
    ],
)
def test_files_that_do_not_belong_together(files, capsys, changes, message):
    save_truth("other.h5", replace(files[1], **changes))
    code, text, notes = out(capsys, "influence.h5", "truth.h5", "other.h5")
    assert (code, text) == (ExitCode.FILE, "")
    assert message in notes
    assert "influence.h5 and other.h5" in notes


def test_nothing_in_common(files, capsys):
    other = results(table(*drawn("random:7%", 70, 5)))[1]
    save_truth("other.h5", other)
    code, _, notes = out(capsys, "influence.h5", "other.h5")
    assert code == ExitCode.FILE
    assert "influence.h5 and other.h5 have nothing in common: 0 groups with the same rows and 3 test rows" in notes
    assert "hint: give both commands the same --model, --group, --test and --seed" in notes


def test_files_of_another_kind(files, tmp_path, capsys):
    code, _, notes = out(capsys, "influence.h5", "nowhere.h5")
    assert code == ExitCode.FILE
    assert "there is no file nowhere.h5" in notes
    assert "ginf groundtruth" in notes
    (tmp_path / "text.h5").write_text("hello")
    assert "text.h5 is not an HDF5 file, expected a result file" in out(capsys, "text.h5", "truth.h5")[2]
    import h5py

    with h5py.File("influence.h5", "r+") as file:
        file.attrs["kind"] = "model"
    code, _, notes = out(capsys, "influence.h5", "truth.h5")
    assert code == ExitCode.FILE
    assert "influence.h5 is of kind 'model', expected 'influence' or 'truth'" in notes


def test_the_kind_is_read_from_the_file(files):
    assert isinstance(load_result("influence.h5"), InfluenceResult)
    assert isinstance(load_result("truth.h5"), TruthResult)
