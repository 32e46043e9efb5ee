"""Groups that columns of a table name: which rows they are, against a loop over the rows in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from influence_cli.errors import UsageError
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import TrainRows, plan_groups

M = 60
RNG = np.random.default_rng(4)
SITES = ["North", "South", "East=West", "A & B", 'the "old" one', "1..2", " padded", None]
COLUMNS = {
    "site": np.array([SITES[index] for index in RNG.integers(0, len(SITES), M)], dtype=object),
    "age": RNG.integers(40, 90, M),
    "dose": np.where(RNG.random(M) < 0.2, np.nan, RNG.integers(0, 5, M) / 2),
    "code": RNG.integers(100, 104, M).astype(np.float64),
    "a=b": np.array([["x", "y"][index] for index in RNG.integers(0, 2, M)], dtype=object),
    "seen": np.array([f"2024-0{index}-15 10:00" for index in RNG.integers(1, 7, M)], dtype=object),
    "same": np.array(["always"] * M, dtype=object),
    "id": np.array([f"P{row:03}" for row in range(M)], dtype=object),
    "huge": 2**60 + np.arange(M) % 3,
}


def plan(*texts, columns=COLUMNS):
    return plan_groups(
        [parse_group(text) for text in texts], TrainRows(np.zeros((M, 1)), np.arange(M) % 2, ("a", "b"), columns or {})
    )


def rows(text):
    drawn = plan(text)
    assert len(drawn) == 1
    return drawn.rows(0).tolist()


def those(test, *names):
    """The oracle: row numbers by a loop."""
    return [row for row in range(M) if test(*(COLUMNS[name][row] for name in names))]


@pytest.mark.parametrize(
    ("text", "names", "test"),
    [
        ("column:site=North", ["site"], lambda site: site == "North"),
        ("column:site=East=West", ["site"], lambda site: site == "East=West"),
        ('column:site="A & B"', ["site"], lambda site: site == "A & B"),
        ('column:site="the ""old"" one"', ["site"], lambda site: site == 'the "old" one'),
        ('column:site="1..2"', ["site"], lambda site: site == "1..2"),
        ('column:site=" padded"', ["site"], lambda site: site == " padded"),
        ("column:site=", ["site"], lambda site: site is None),
        ("column:age=60..75", ["age"], lambda age: 60 <= age <= 75),
        ("column:age=60.5..", ["age"], lambda age: age >= 60.5),
        ("column:age=..60", ["age"], lambda age: age <= 60),
        ("column:dose=1.5", ["dose"], lambda dose: dose == 1.5),
        ("column:dose=1", ["dose"], lambda dose: dose == 1),
        ("column:dose=", ["dose"], np.isnan),
        ("column:dose=0..9", ["dose"], lambda dose: not np.isnan(dose)),
        ("column:code=1.02e2", ["code"], lambda code: code == 102),
        ('column:code="102"', ["code"], lambda code: code == 102),
        ('column:"a=b"=x', ["a=b"], lambda value: value == "x"),
        ("column:seen=2024-02-01..2024-04-15", ["seen"], lambda seen: "02" <= seen[5:7] <= "04"),
        ("column:seen=2024-04-15 10:01..", ["seen"], lambda seen: seen[5:7] >= "05"),
        ("column:age=50..80&site=North", ["age", "site"], lambda age, site: 50 <= age <= 80 and site == "North"),
        ("column:dose=1..&age=..70&code=101", ["dose", "age", "code"], lambda d, a, c: d >= 1 and a <= 70 and c == 101),
        (f"column:huge={2**60 + 1}", ["huge"], lambda huge: int(huge) == 2**60 + 1),
    ],
)
def test_rows_that_meet_the_conditions(text, names, test):
    assert rows(text) == those(test, *names) != []


@pytest.mark.parametrize("name", ["site", "dose", "code", "a=b", "seen", "huge", "id"])
def test_by_parts_the_rows_and_every_label_is_a_spec_for_its_group(name):
    spec = 'by:"a=b"' if name == "a=b" else f"by:{name}"
    drawn = plan(spec)
    assert sorted(row for index in range(len(drawn)) for row in drawn.rows(index)) == list(range(M))
    for index in range(len(drawn)):
        group = drawn.group(index)
        assert group.kind == "column" and group.rows.dtype == np.int64 and drawn.size[index] == group.size
        assert len({str(COLUMNS[name][row]) for row in group.rows}) == 1
        again = plan(group.label)
        assert again.label == (group.label,)
        np.testing.assert_array_equal(again.rows(0), group.rows)


def test_by_is_in_order_with_missing_values_last():
    assert plan("by:dose").label == (
        "column:dose=0", "column:dose=0.5", "column:dose=1", "column:dose=1.5", "column:dose=2", "column:dose=",
    )  # fmt: skip
    assert plan("by:site").label[-2:] == ('column:site="the ""old"" one"', "column:site=")


def test_one_group_twice_is_refused_whichever_way_it_was_asked_for():
    with pytest.raises(UsageError, match=r"the group 'column:code=101' is asked for by 'by:code' and by 'column:code="):
        plan("by:code", "column:code=101")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("by:sites", ["group 'by:sites': expected one of the columns site, age, dose", "did you mean site?"]),
        ("column:Age=5", ["found 'Age'", "did you mean age?"]),
        ("column:site=north", ["no training row has site=north", "A & B, East=West", "did you mean site=North?"]),
        ("column:age=200", ["no training row has age=200; its numbers lie between 4", "column:age=LOW..HIGH"]),
        ("column:age=old", ["column age holds numbers, and 'old' is none"]),
        ("column:age=200..300", ["no training row lies in the range age=200..300"]),
        ("column:age=2024-01-01..", ["column age holds numbers, but the ends of age=2024-01-01.. are dates"]),
        ("column:site=1..2", ["column site holds text, and a range needs numbers or dates", '"1..2"']),
        ("column:age=", ["column age is missing in no training row"]),
        ("column:same=always", ["60 rows of the 60 training rows: nothing would be left to train on"]),
        ("by:same", ["column same has the value always in every training row: nothing would be left"]),
        ("by:age", ["column age is a measurement with", "different numbers, not a grouping", "column:age=4"]),
        ("column:code=101&code=102", ["no training row meets all the conditions (code=101 in", "code=102 in"]),
    ],
)
def test_a_mistake_is_told_what_was_expected_and_found(text, expected):
    with pytest.raises(UsageError) as caught:
        plan(text)
    said = f"{caught.value.message} | {caught.value.hint}"
    assert said.startswith(f"group '{parse_group(text).text}'")
    for piece in expected:
        assert piece in said


def test_text_of_too_many_values_is_refused_without_making_the_groups(monkeypatch):
    monkeypatch.setattr("influence_cli.specs.columns.MOST_GROUPS", 50)
    with pytest.raises(UsageError, match="column id has 60 different values, and a group for each is more than 50"):
        plan("by:id")


def test_data_without_columns_says_so():
    for text in ("by:site", "column:site=North"):
        with pytest.raises(UsageError, match="this data has no named columns") as caught:
            plan(text, columns=None)
        assert "coherent:" in caught.value.hint


def test_nothing_in_a_spec_is_evaluated():
    with pytest.raises(UsageError, match="no training row has"):
        plan("column:site=__import__('os').getcwd()")
    with pytest.raises(UsageError, match="holds numbers, and '5\\+5' is none"):
        plan("column:age=5+5")


@pytest.mark.parametrize(("label", "named"), [("0.0", 0), ("1.0", 1), ("100%", 2), ("1,000", 3), ("$100", 2)])
def test_a_class_is_named_as_the_file_writes_it(label, named):
    data = TrainRows(np.zeros((M, 1)), np.arange(M) % 4, ("0", "1", "100", "1000"), {})
    found = plan_groups([parse_group(f"coherent:{label}"), parse_group(f"coherent:{label}:3")], data)
    assert found.rows(0).tolist() == list(range(named, M, 4))
    assert set(found.rows(1).tolist()) < set(range(named, M, 4))


def test_a_label_that_is_another_text_is_not_read_as_a_number():
    data = TrainRows(np.zeros((M, 1)), np.arange(M) % 2, ("01", "1"), {})
    assert plan_groups([parse_group("coherent:01")], data).rows(0).tolist() == list(range(0, M, 2))
    with pytest.raises(UsageError, match="expected one of the 2 classes"):
        plan_groups([parse_group("coherent:2.0")], data)


def test_rows_without_a_number_are_said_to_be_in_no_group():
    missing = len(those(np.isnan, "dose"))
    found = plan("by:dose:3", "by:age:2", "by:site")
    assert found.notes == (f"by:dose:3: {missing} of {M} training rows have no number in dose and are in no group",)
    assert sum(found.size[: len(plan("by:dose:3"))]) == M - missing
    assert plan("by:age:2,dose:2", "random:5").notes == (
        f"by:age:2,dose:2: {missing} of {M} training rows have no number in age or dose and are in no group",
    )


def test_python_and_the_command_line_warn_of_rows_in_no_group(tmp_path, capsys):
    from cli_tools import train

    from influence_cli import GroupInfluence
    from influence_cli.cli import run

    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{'' if at % 4 == 0 else at},{at % 2 if at < 90 else ''}" for at in range(100)]
    (tmp_path / "train.csv").write_text("\n".join(["x,dose,y", *lines[:60]]) + "\n")
    (tmp_path / "test.csv").write_text("\n".join(["x,dose,y", *lines[60:]]) + "\n")
    options = ("--label", "y", "--test-data", str(tmp_path / "test.csv"), "--impute", "median")
    train(str(tmp_path / "train.csv"), tmp_path / "m.h5", *options)
    asked = ["--model", str(tmp_path / "m.h5"), "--group", "by:dose:2", "--format", "csv"]
    capsys.readouterr()
    assert run(["influence", *asked, "--test", "misclassified:1"]) == 0
    said = capsys.readouterr().err
    assert "by:dose:2: 15 of 60 training rows have no number in dose and are in no group" in said
    assert "--test misclassified:1: 10 test rows have no label and count as not misclassified" in said
    assert run(["select", *asked[:2], "--candidates", "by:dose:2", "--size", "1", "--test", "0"]) == 0
    assert "15 of 60 training rows" in capsys.readouterr().err
    model = GroupInfluence.load(str(tmp_path / "m.h5"))
    with pytest.warns(UserWarning, match="15 of 60 training rows"):
        model.influence(["by:dose:2", "random:5"], "all", quantity="prob:1")
    with pytest.warns(UserWarning, match="by:dose:2: 15 of 60 training rows have no number in dose"):
        assert model.influence({"dose": "by:dose:2"}, "all", quantity="prob:1").groups.label == ("dose#0", "dose#1")
    assert run(["influence", *asked, "--test", "all", "--quantity", "gap:dose"]) == 2
    assert "hint: fill dose in the file of test rows, or name rows that have one" in capsys.readouterr().err
