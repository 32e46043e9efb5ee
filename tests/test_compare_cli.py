"""``ginf compare`` as the user meets it: formats, the table, checks and errors."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from compare_cases import ADDED_AGAINST, FOUND_AGAINST, KEYS, ORIGIN, drawn, part, records, results, table

from influence_cli.artifacts.results import load_result, save_influence, save_truth
from influence_cli.cli import run
from influence_cli.errors import ExitCode
from influence_cli.results import InfluenceResult, TruthResult


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimates, truth = results()
    save_influence("influence.h5", estimates)
    save_truth("truth.h5", truth)
    return estimates, truth


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
    assert text.splitlines()[0].split(",") == [*KEYS, *FOUND_AGAINST, "cell", *ADDED_AGAINST]
    pooled = list(csv.DictReader(io.StringIO(text)))[-1]
    assert (pooled["kind"], pooled["size"], pooled["test"], pooled["method"]) == ("", "", "", "second")
    _, text, _ = out(capsys, "influence.h5", "truth.h5", "--format", "ndjson")
    assert len(text.splitlines()) == len(rows)


def test_the_table_is_read_at_a_glance(files, capsys):
    code, text, _ = out(capsys, "influence.h5", "truth.h5", "--format", "table", "--against", "first")
    assert code == ExitCode.OK
    lines = [line.split() for line in text.splitlines()]
    starts = [line[:2] for line in lines if line and line[0] in ("random,", "coherent,", "all,")]
    assert starts == [["random,", "5%"], ["random,", "36%"], ["coherent,", "9-9.9%"], ["all,", "5-36%"]]
    marked = [line for line in lines if "*" in line and "Pearson," not in line]
    assert [line[:2] for line in marked] == [["*", "second"]] * 4
    assert all("gain" in line for line in marked)
    flat = " ".join(text.split())
    assert "Change of the loss if the group is removed; positive: the group helped this prediction" in flat
    assert "mean over 3 test rows (one by one: --format csv)" in flat
    assert "bootstrap, 1,000 resamples of the groups" in flat
    assert "error by: change of the error, relative to that of first; below 0 is better" in flat
    second = [row for row in records(*files, against="first") if row["test"] is None and row["method"] == "second"]
    changes = [f"{row['error_change']:+.0%}" for row in second]
    assert [line[line.index("gain") + 1] for line in marked] == changes
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
        (["--resample", "rows"], "--resample must be one of groups, groups-tests; found 'rows'"),
        (["--resample", "groups-tests", "--bootstrap", "0"], "--resample groups-tests needs resamples"),
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
