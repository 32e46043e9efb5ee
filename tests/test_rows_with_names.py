"""Rows keep the names that their file gives them: the number of the record, and the identifier."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from influence_cli.artifacts.model import load_model
from influence_cli.cli import run
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.errors import FileError

M = 60
RNG = np.random.default_rng(4)
AGE = RNG.integers(20, 90, M)
DIED = np.where(AGE + RNG.normal(0, 20, M) > 60, "yes", "no")
NAMES = [f"P{number:03}" for number in RNG.permutation(M)]
ROWS = [f"{NAMES[row]},{AGE[row]},{'NSW'[row % 3]},{DIED[row]}" for row in range(M)]
HEAD = "patient,age,site,died"
OPTIONS = TableOptions(label="died", id_column="patient")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, rows):
    Path(name).write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    return name


def check_rows(data, rows=ROWS):
    """Every row of the data set is the record of the file that it says it is."""
    assert sorted([*data.records_train, *data.records_test]) == list(range(1, len(rows) + 1))
    for records, columns in ((data.records_train, data.columns_train), (data.records_test, data.columns_test)):
        assert (np.diff(records) > 0).all(), "in the order of the file"
        for at, record in enumerate(records):
            name, age, site, died = rows[record - 1].split(",")
            assert [columns[key][at] for key in ("patient", "age", "site", "died")] == [name, int(age), site, died]


def test_a_split_keeps_the_records(here):
    check_rows(load(write("a.csv", ROWS), task="classification", seed=3, table=OPTIONS))


def test_through_a_pattern_of_files_records_run_on_in_the_order_of_the_names(here):
    write("part-2.csv", ROWS[20:45])
    write("part-1.csv", ROWS[:20])
    write("part-3.csv", ROWS[45:])
    data = load("part-*.csv", task="classification", seed=3, table=OPTIONS)
    check_rows(data)
    assert data.digest == load(write("a.csv", ROWS), task="classification", seed=3, table=OPTIONS).digest
    for part, rows in (("a", ROWS[:31]), ("b", ROWS[31:])):
        pl.read_csv("\n".join([HEAD, *rows]).encode()).write_parquet(f"{part}.parquet")
    check_rows(load("?.parquet", task="classification", seed=3, table=OPTIONS))


def test_columns_of_parts_are_of_one_kind(here):
    write("p-1.csv", ROWS[:20])
    write("p-2.csv", [row.replace(",N,", ",1,").replace(",S,", ",2,").replace(",W,", ",3,") for row in ROWS[20:]])
    data = load("p-*.csv", task="classification", table=OPTIONS)
    assert {"1", "2", "3", "N", "S", "W"} == {*data.columns_train["site"].tolist(), *data.columns_test["site"].tolist()}
    Path("p-3.csv").write_text("patient,age,died\nX,1,yes\n", encoding="utf-8")
    with pytest.raises(
        FileError, match=r"p-3.csv: all files of one data set need the same columns, but it has no site"
    ):
        load("p-*.csv", task="classification", table=OPTIONS)


def test_test_rows_of_their_own_file_have_its_records(here):
    write("a.csv", ROWS[:40])
    write("b.csv", ROWS[40:])
    options = TableOptions(label="died", id_column="patient", test_data="b.csv")
    data = load("a.csv", task="classification", table=options)
    assert data.records_train.tolist() == list(range(1, 41)) and data.records_test.tolist() == list(range(1, 21))


def test_rows_that_are_left_out_leave_the_records_of_the_others(here):
    rows = [row if at % 7 else row.replace(f",{AGE[at]},", ",,") for at, row in enumerate(ROWS)]
    options = TableOptions(label="died", id_column="patient", drop_missing=True)
    data = load(write("a.csv", rows), task="classification", seed=1, table=options)
    kept = sorted([*data.records_train, *data.records_test])
    assert kept == [at + 1 for at in range(M) if at % 7]
    for at, record in enumerate(data.records_train):
        assert data.columns_train["patient"][at] == NAMES[record - 1]


def test_arrays_count_from_one_before_the_split(here):
    X = np.arange(40.0).reshape(20, 2)
    np.savez("a.npz", X=X, y=np.arange(20) % 2)
    data = load("a.npz", task="classification")
    assert np.array_equal(X[data.records_train - 1], data.X_train)
    assert np.array_equal(X[data.records_test - 1], data.X_test)
    np.savez("b.npz", X_train=X[:15], y_train=np.arange(15) % 2, X_test=X[15:], y_test=np.arange(5) % 2)
    data = load("b.npz", task="classification")
    assert data.records_train.tolist() == list(range(1, 16)) and data.records_test.tolist() == list(range(1, 6))


@pytest.mark.parametrize("link", [[], ["--link-data"]])
def test_a_model_keeps_records_and_identifiers(here, link):
    from influence_cli.models.linked import linked_rows

    write("a.csv", ROWS)
    assert run(["train", "--data", "a.csv", "--label", "died", "--id", "patient", "-o", "m.h5", "--quiet", *link]) == 0
    check_rows(load_model("m.h5", fetch=linked_rows).dataset)


def test_identifiers_that_occur_twice_are_refused(here, capsys):
    rows = [*ROWS, ROWS[4], ROWS[9], ROWS[4]]
    write("a.csv", rows)
    assert run(["train", "--data", "a.csv", "--label", "died", "--id", "patient", "-o", "m.h5"]) == 3
    error = capsys.readouterr().err
    assert f"identifiers must differ, but {NAMES[4]} (3 rows), {NAMES[9]} (2 rows) occur more than once" in error
    assert not Path("m.h5").exists()


def test_an_older_model_has_no_records(here):
    found = load_model(Path(__file__).parent / "archive" / "model-v1.h5").dataset
    assert found.records_train is None and found.records_test is None


def records(arguments, capsys):
    assert run([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_train_says(here, capsys):
    rows = [row if at % 10 else row.replace(f",{AGE[at]},", ",,") for at, row in enumerate(ROWS)]
    lines = [f"{row},{'FALSE' if at % 3 else 'TRUE'},7" for at, row in enumerate(rows)]
    Path("a.csv").write_text("\n".join([f"{HEAD},smokes,ward", *lines]), encoding="utf-8")
    arguments = ["train", "--data", "a.csv", "--label", "died", "--id", "patient", "--impute", "median", "-o", "m.h5"]
    assert run([*arguments, "--format", "json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)[0]
    data = load_model("m.h5").dataset
    yes, all_rows = int((data.y_train == 1).sum()), len(data.y_train)
    no = all_rows - yes
    shares = {"no": f"no: {no} ({no / all_rows:.0%})", "yes": f"yes: {yes} ({yes / all_rows:.0%})"}
    order = ["no", "yes"] if no >= yes else ["yes", "no"]
    assert f"label died = {', '.join(shares[one] for one in order)}, of {all_rows} training rows" in captured.err
    assert "numbers: age, ward; true or false: smokes; categories: site (3), as 3 columns of 0 and 1" in captured.err
    assert "missing values filled in: age in 6 by " in captured.err
    assert "constant in the training rows, without effect: ward" in captured.err
    frequent = np.argmax(np.bincount(data.y_train))
    assert record["base_rate"] == pytest.approx(np.mean(data.y_test == frequent))


def test_the_columns_of_a_csv_end_with_the_new_keys(here, capsys):
    write("a.csv", ROWS)
    assert run(["train", "--data", "a.csv", "--label", "died", "--id", "patient", "-o", "m.h5", "--format", "csv"]) == 0
    assert next(csv.reader([capsys.readouterr().out.splitlines()[0]]))[-1] == "base_rate"


def test_names_that_hold_commas_are_listed_as_a_group_asks_for_them(here, capsys):
    write("a.csv", [f'"{row[:4]}, ward 1"{row[4:]}' for row in ROWS])
    assert run(["train", "--data", "a.csv", "--label", "died", "--id", "patient", "-o", "m.h5", "--quiet"]) == 0
    assert run(["select", "--model", "m.h5", "--test", "0", "--size", "2", "--format", "table"]) == 0
    listed = re.search(r'training ids (".*?")[:;]', " ".join(capsys.readouterr().out.split()))
    spec = "ids:" + listed[1].replace('", "', '","')
    assert records(["influence", "--model", "m.h5", "--test", "0", "--group", spec], capsys)[0]["size"] == 2


# --- asked for by name ---


@pytest.fixture
def model(here):
    write("a.csv", ROWS)
    assert run(["train", "--data", "a.csv", "--label", "died", "--id", "patient", "-o", "m.h5", "--quiet"]) == 0
    return load_model("m.h5").dataset


def ask(capsys, *arguments):
    code = run(["influence", "--model", "m.h5", "--method", "first", "--quiet", *arguments, "--format", "json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


def test_tests_by_record_and_identifier_are_those_by_number(model, capsys):
    rows = [3, 0, 7]
    by_number = ask(capsys, "--group", "rows:0,4", "--test", "3,0,7")
    by_record = ask(
        capsys, "--group", "rows:0,4", "--test", f"record:{','.join(str(model.records_test[r]) for r in rows)}"
    )
    by_id = ask(capsys, "--group", "rows:0,4", "--test", f"id:{','.join(model.ids_test[row] for row in rows)}")
    assert by_number[0] == by_record[0] == by_id[0] == 0
    for one, other, third in zip(by_number[1], by_record[1], by_id[1], strict=True):
        assert one["test"] == other["test"] == third["test"] and one["first"] == other["first"] == third["first"]


def test_groups_by_record_and_identifier_are_those_by_number(model, capsys):
    rows = [5, 2, 31]
    specs = [
        "rows:2,5,31",
        f"records:{','.join(str(model.records_train[row]) for row in rows)}",
        f"ids:{','.join(model.ids_train[row] for row in rows)}",
    ]
    code, found = ask(capsys, *(part for spec in specs for part in ("--group", spec)), "--test", "0")
    assert code == 0 and {one["size"] for one in found} == {3}
    assert [one["first"] for one in found] == pytest.approx([found[0]["first"]] * 3, rel=1e-14)
    assert found[1]["group"] == f"records:{','.join(map(str, sorted(model.records_train[row] for row in rows)))}"
    code, again = ask(capsys, "--group", found[2]["group"], "--test", "0")
    assert again[0]["first"] == pytest.approx(found[2]["first"], rel=1e-14), "a printed group is a spec"


@pytest.mark.parametrize(
    ("option", "spec", "message"),
    [
        ("--test", "id:P999", "no row of the test rows has the identifier 'P999'"),
        ("--test", "record:61", "there is no record 61: the records are 1 to 60"),
        ("--test", "record:0", "expected the number of a record, 1 or more, found '0'"),
        ("--test", "record:1,1", "record 1 is listed twice"),
        ("--test", "id:", "expected id:NAME, or several with commas between them, found no name"),
        ("--group", "ids:P999", "no row of the training rows has the identifier 'P999'"),
        ("--group", "records:x", "expected the number of a record"),
        ("--group", 'ids:"P1', "expected a quote at the end"),
    ],
)
def test_names_that_there_are_not(model, capsys, option, spec, message):
    other = ("--group", "rows:0") if option == "--test" else ("--test", "0")
    code, error = ask(capsys, option, spec, *other)
    assert code == 2 and message in error


def test_a_name_of_the_other_part_is_said_to_be_there(model, capsys):
    train, test = model.ids_train[0], model.ids_test[0]
    assert (
        f"'{train}' is among the training rows, not the test rows"
        in ask(capsys, "--group", "rows:0", "--test", f"id:{train}")[1]
    )
    assert (
        f"record {model.records_test[0]} is among the test rows, not the training rows"
        in ask(capsys, "--group", f"records:{model.records_test[0]}", "--test", "0")[1]
    )
    said = ask(capsys, "--group", f"ids:{test}", "--test", "0")[1]
    assert f"'{test}' is among" in said and f"--test id:{test} asks for it there" in said
    said = ask(capsys, "--group", "rows:0", "--test", f"id:{train}")[1]
    assert f"--group ids:{train} asks for it there" in said


def test_a_model_without_identifiers_says_so(here, capsys):
    write("a.csv", ROWS)
    assert run(["train", "--data", "a.csv", "--label", "died", "--drop", "patient", "-o", "m.h5", "--quiet"]) == 0
    code, error = ask(capsys, "--group", "ids:P001", "--test", "0")
    assert code == 2 and "this model has no identifiers" in error and "--id COLUMN" in error


def test_identifiers_that_hold_commas_and_quotes_or_are_numbers():
    from influence_cli.specs.names import RowNames, parse_names, written

    names = ('Smith, "Al"', "7", "a b")
    assert parse_names("id", written(names)) == names
    assert RowNames("rows", ids=np.array([5, 7, 9])).rows("id", ["7"]).tolist() == [1]
    assert RowNames("rows", ids=np.array([5.0, 7.0, np.nan])).rows("id", ["7"]).tolist() == [1]


@pytest.mark.parametrize("named", [True, False])
def test_groups_of_one_row_are_called_by_its_name(here, capsys, named):
    """Of the largest single rows a table had the numbers within the split alone, which no file knows."""
    write("a.csv", ROWS)
    options = ["--id", "patient"] if named else ["--drop", "patient"]
    assert run(["train", "--data", "a.csv", "--label", "died", *options, "-o", "m.h5", "--quiet"]) == 0
    data = load_model("m.h5").dataset
    what, names = ("id", data.ids_train) if named else ("record", data.records_train)
    asked = ["--model", "m.h5", "--group", "rows:each", "--test", "0", "--quiet"]
    assert run(["influence", *asked, "-o", "i.h5"]) == 0
    capsys.readouterr()
    for command in ("influence", "groundtruth"):
        assert run([command, *asked, "--format", "table"]) == 0
        page = capsys.readouterr().out
        assert all(f"{row} ({what} {name})" in page for row, name in enumerate(names))
    assert run(["report", "i.h5", "m.h5", "-o", "a.md", "--quiet"]) == 0
    assert f"| 7 ({what} {names[7]}) |" in Path("a.md").read_text(encoding="utf-8")
