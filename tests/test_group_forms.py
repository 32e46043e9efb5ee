"""Groups that can be typed: shell-safe joiners, combinations, equal parts, and files that ginf wrote."""

import json
import math
import os
import shlex
import shutil
import sys
from contextlib import suppress

import numpy as np
import pytest
from cli_tools import save_blobs, train

from influence_cli.cli import run
from influence_cli.errors import UsageError
from influence_cli.specs.by import conditions_by_keys
from influence_cli.specs.columns import Condition, parse_conditions
from influence_cli.specs.files import read_group_file
from influence_cli.specs.groups import KINDS, parse_group
from influence_cli.specs.keys import Key, parse_keys
from influence_cli.specs.plan import TrainRows, plan_groups

AGE = np.array([30.0, 40, 50, 60, 70, 80, np.nan, 40])
COLUMNS = {
    "site": np.array(["N", "N", "S", "S", "N", "S", "N", None], dtype=object),
    "sex": np.array(["f", "m", "f", "m", "f", "m", "f", "m"], dtype=object),
    "age": AGE,
    "age:5": AGE,
    "city, state": np.array(["a", "a", "b", "b", "a", "b", "a", "b"], dtype=object),
}


def planned(text):
    plan = plan_groups([parse_group(text)], TrainRows(np.zeros((8, 1)), np.zeros(8, dtype=int), ("a",), COLUMNS))
    return {group.label: group.draw().tolist() for group in plan}


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("a=1,b=2", [("a", "1"), ("b", "2")]),
        ("a=1&b=2", [("a", "1"), ("b", "2")]),
        ("name=Doe, John", [("name", "Doe, John")]),
        ("name=Doe, John,b=2", [("b", "2"), ("name", "Doe, John")]),
        ('name="x,b=2",c=3', [("c", "3"), ("name", "x,b=2")]),
        ('a=1,"b, c"=2', [("a", "1"), ("b, c", "2")]),
    ],
)
def test_a_comma_joins_before_a_name_only(text, conditions):
    found = parse_conditions(text)
    assert sorted((one.column, one.value) for one in found) == conditions
    assert parse_conditions(",".join(one.text for one in found)) == found, "a label is a spec for the same rows"


def test_combinations_of_columns():
    groups = planned("by:site,sex")
    assert groups["column:sex=f,site=N"] == [0, 4, 6]
    assert groups["column:sex=m,site=S"] == [3, 5]
    assert groups["column:sex=m,site="] == [7]
    assert sorted(row for rows in groups.values() for row in rows) == list(range(8))
    for label, rows in groups.items():
        assert planned(label) == {label: rows}


def test_equal_parts_of_numbers():
    groups = planned("by:age:3")
    assert groups == {"column:age=30..40": [0, 1, 7], "column:age=50..60": [2, 3], "column:age=70..80": [4, 5]}
    assert planned("by:age:2,sex")["column:age=30..50,sex=f"] == [0, 2]
    for label, rows in groups.items():
        assert planned(label) == {label: rows}


@pytest.mark.parametrize(
    ("values", "bins", "sizes"),
    [
        ([1] * 30 + [2] * 18 + [3] * 85, 2, [48, 85]),  # at equal shares 3 would end both parts
        ([1] * 30 + [2] * 18 + [3] * 85, 5, [30, 18, 85]),
        ([0] * 49 + [1] * 51, 2, [49, 51]),
        ([0] * 60 + list(range(1, 41)), 4, [60, 13, 13, 14]),
        ([math.nan, *range(9)], 3, [3, 3, 3]),
    ],
)
def test_equal_values_leave_as_many_parts_as_there_can_be(values, bins, sizes):
    parts = conditions_by_keys({"v": np.array(values, dtype=float)}, [Key("v", bins)])
    assert [len(rows) for _, rows in parts] == sizes


def test_columns_whose_names_look_like_more():
    assert list(planned("by:city, state")) == ['column:"city, state"=a', 'column:"city, state"=b']
    assert parse_keys('"a,b":4,c') == (Key("a,b", 4), Key("c"))
    assert parse_keys("x:y") == (Key("x:y"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("by:sex:3", "holds text, and only numbers are cut into parts"),
        ("by:age:1", "a number of parts from 2 on"),
        ("by:age,", "expected the names of columns"),
        ("by:agee:3", "did you mean age?"),
    ],
)
def test_what_is_no_grouping(text, says):
    with pytest.raises(UsageError) as failure:
        planned(text)
    assert says in f"{failure.value.message} {failure.value.hint}"


def test_examples_need_no_quotes_that_are_not_there():
    for kind in KINDS.values():
        spec = kind.example
        assert shlex.split(f"--group {shlex.quote(spec)}")[1] == spec
        assert not set("&<>*") & set(spec)
        parse_group(spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("forms")
    train(save_blobs(made / "b.npz"), made / "m.h5")
    return made


@pytest.mark.parametrize("ending", ["csv", "json", "ndjson", "h5"])
def test_groups_of_a_file_that_ginf_wrote(folder, capsys, ending):
    asked = ["--model", str(folder / "m.h5"), "--test", "1", "--method", "first", "--quiet", "--format", "json"]
    file = str(folder / f"all.{ending}")
    groups = ["--group", "random:5x3", "--group", "rows:1,2", "--group", "cluster:2", "--group", "coherent:1"]
    assert run(["influence", *asked, *groups, "-o", file]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["influence", *asked, "--groups", file]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_selected_rows_are_groups(folder, capsys):
    file = str(folder / "sel.h5")
    asked = ["--model", str(folder / "m.h5"), "--test", "1", "--quiet", "--format", "json"]
    assert run(["select", *asked, "--size", "3", "-o", file]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert run(["influence", *asked, "--method", "first", "--groups", file]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["group"] == "rows:" + ",".join(map(str, found["rows"]))


def test_a_list_of_specs_is_still_one(tmp_path):
    (tmp_path / "g.txt").write_text("# groups\nrandom:5%\ncolumn:a=1,b=2\n")
    assert read_group_file(str(tmp_path / "g.txt")) == ["random:5%", "column:a=1,b=2"]
    assert Condition("a", "1").text == "a=1"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here, whose & this is about")
@pytest.mark.parametrize(("joiner", "is_cut"), [("&", True), (",", False)])
def test_a_group_that_the_shell_cuts_at_an_ampersand_is_told_of(tmp_path, joiner, is_cut):
    pty = pytest.importorskip("pty")
    (tmp_path / "d.csv").write_text("a,b,y\n" + "".join(f"{i % 2},{i % 3},{i % 5 < 2:d}\n" for i in range(30)))
    model = str(tmp_path / "m.h5")
    assert run(["train", "--data", str(tmp_path / "d.csv"), "--label", "y", "-o", model, "--quiet"]) == 0
    ginf = f"{shlex.quote(sys.executable)} -m influence_cli influence --model {shlex.quote(model)} --test 0"
    line = f"set -m; {ginf} --no-verify --group column:a=1{joiner}b=0; wait"
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "--norc", "-c", line])
    said = b""
    with suppress(OSError):  # how Linux says that the other side has closed
        while part := os.read(terminal, 65536):
            said += part
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = " ".join(said.decode().split())
    assert ("the shell has ended the command there; write a comma" in text) == is_cut
