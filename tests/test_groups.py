"""The mini-language of groups: what parses to what, and what a mistake is told."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest

from influence_cli.errors import UsageError
from influence_cli.specs.columns import Condition
from influence_cli.specs.files import collect_specs, read_group_file
from influence_cli.specs.groups import KINDS, parse_group
from influence_cli.specs.keys import Key
from influence_cli.specs.plan import PLANNERS


def refused(call, *arguments, **options):
    """Message and hint of the error that a call raises."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **options)
    return f"{caught.value.message} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "canonical", "fields"),
    [
        ("coherent:3", "coherent:3", {"label": "3", "size": None, "times": None}),
        (" coherent:3:5%x10 ", "coherent:3:5%x10", {"label": "3", "times": 10, "base": "coherent:3:5%"}),
        ("coherent:x2", "coherent:x2", {"label": "x2", "times": None}),
        ("coherent:box3", "coherent:box3", {"label": "box3", "times": None}),
        ("coherent:box3:7x02", "coherent:box3:7x2", {"label": "box3", "times": 2}),
        ("coherent:5%", "coherent:5%", {"label": "5%", "size": None}),
        ("coherent:a b:c:12", "coherent:a b:c:12", {"label": "a b:c"}),
        ("coherent:*:5%", "coherent:*:5%", {"label": "*"}),
        ("random:05.50%x3", "random:5.5%x3", {"times": 3}),
        ("random:.5%", "random:0.5%", {"times": None}),
        ("random:007", "random:7", {}),
        ("rows:9,0, 5", "rows:0,5,9", {"rows": (0, 5, 9)}),
        ("rows:@a:b x3", "rows:@a:b x3", {"path": "a:b x3"}),
        ("rows:@-", "rows:@-", {"path": "-", "reads_stdin": True}),
        ("neighbours:17:1.6%", "neighbours:17:1.6%", {"row": 17}),
        ("cluster:10", "cluster:10", {"clusters": 10}),
        ("column: site = North West ", "column:site=North West", {}),
        ("column:b=1&a=x&b=1", "column:a=x,b=1", {"conditions": (Condition("a", "x"), Condition("b", "1"))}),
        ("column:age=60..75", "column:age=60..75", {"conditions": (Condition("age", None, "60", "75"),)}),
        ("column:age= -1.5e3 .. ", "column:age=-1.5e3..", {"conditions": (Condition("age", None, "-1.5e3", ""),)}),
        ("column:d=..2024-01-31", "column:d=..2024-01-31", {"conditions": (Condition("d", None, "", "2024-01-31"),)}),
        ("column:site=", "column:site=", {"conditions": (Condition("site", ""),)}),
        (
            'column:"a=b & c"="say ""x"" & y"',
            'column:"a=b & c"="say ""x"" & y"',
            {"conditions": (Condition("a=b & c", 'say "x" & y'),)},
        ),
        ('column:site="North"&n="1..2"', 'column:n="1..2",site=North', {}),
        ("column:size=box2x3", "column:size=box2x3", {"times": None}),
        ("by: site ", "by:site", {"keys": (Key("site"),)}),
        ('by:"a=b"', 'by:"a=b"', {"keys": (Key("a=b"),)}),
        ("by:blood pressure", "by:blood pressure", {"keys": (Key("blood pressure"),)}),
    ],
)
def test_parses_to_one_canonical_object(text, canonical, fields):
    spec = parse_group(text)
    assert spec.text == canonical
    assert spec.kind == canonical.partition(":")[0]
    assert {name: getattr(spec, name) for name in fields} == fields
    assert parse_group(spec.text) == spec


def test_a_spec_is_frozen_and_equal_to_its_other_spellings():
    spec = parse_group("random:5.0%")
    assert spec == parse_group("random:05%") and len({spec, parse_group("random:5%")}) == 1
    with pytest.raises(FrozenInstanceError):
        spec.times = 3


@pytest.mark.parametrize(
    ("size", "m", "rows"),
    [
        ("5%", 1438, 72),  # 71.9
        ("1.6%", 60_000, 960),
        ("2.5%", 100, 3),  # a half goes up, at odd and at even numbers
        ("3.5%", 100, 4),
        ("0.3%", 100, 0),
        ("17", 100, 17),
        ("0.29%", 10_000, 29),  # 28.999... in binary arithmetic
    ],
)
def test_a_percentage_is_of_the_training_rows_to_the_nearest_row(size, m, rows):
    assert parse_group(f"random:{size}").size.of(m) == rows


def test_percentages_are_exact():
    assert parse_group("random:0.29%").size.percent == Fraction(29, 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("randon:5%", ["group 'randon:5%'", "found 'randon'", "did you mean random?", "--group random:36%x40"]),
        ("neighbors:1:5", ["did you mean neighbours?", "neighbours:17:50"]),
        ("Coherent:3", ["did you mean coherent?"]),
        ("5%", ["expected one of coherent:, random:, rows:, records:, ids:, neighbours:, cluster:", "found '5%'"]),
        ("island=Biscoe", ["did you mean --group column:island=Biscoe?"]),
        ("speed=1..2,size=Large", ["did you mean --group column:speed=1..2,size=Large?"]),
        ("where:island=Biscoe", ["did you mean --group column:island=Biscoe?"]),
        ("island", ["did you mean --group by:island?"]),
        ("0,5,9", ["did you mean --group rows:0,5,9?"]),
        ("column:age>40", ["write a range with its ends, column:NAME=LOW..HIGH", "'column:age=40..'"]),
        ("", ["found ''", "--group random:5%"]),
        ("random", ["expected random:SIZE[xN], found nothing behind random"]),
        ("coherent: ", ["expected coherent:LABEL"]),
        ("coherent::5%", ["no label in ':5%'"]),
        ("random:many", ["expected a SIZE, a number of rows such as 50", "found 'many'", "random:36%x40"]),
        ("random:5%%", ["found '5%%'"]),
        ("random:%", ["found '%'"]),
        ("random:.%", ["found '.%'"]),
        ("random:-5", ["found '-5'"]),
        ("random:1e3", ["found '1e3'"]),
        ("random:٣", ["found '٣'"]),
        ("random:5%x", ["found '5%x'"]),
        ("random:5.5", ["expected a whole number of rows or a percentage, found '5.5'"]),
        ("random:0", ["the size 0 is an empty group; expected at least one row"]),
        ("random:0.00%", ["the size 0% is an empty group"]),
        ("random:101%", ["expected a percentage of at most 100%, found 101%"]),
        ("random:5%x0", ["expected 1 to 1,000,000 draws behind x, found '0'"]),
        ("random:5%x10000000", ["expected 1 to 1,000,000 draws"]),
        ("rows:1,two", ["expected row numbers with commas between them, found 'two'", "rows:0,5,9"]),
        ("rows:1,,2", ["found ''"]),
        ("rows:1.0", ["found '1.0'"]),
        ("rows:4,1,4", ["row 4 is listed twice"]),
        ("rows:1,2x3", ["expected no x3: nothing is random in a list of rows"]),
        ("rows:@", ["expected a file behind @"]),
        ("neighbours:5", ["expected neighbours:ROW:SIZE"]),
        ("neighbours:a:5", ["expected neighbours:ROW:SIZE with a row number first, found 'a:5'"]),
        ("neighbours:5:5x2", ["expected no x2: nothing is random in the nearest rows"]),
        ("cluster:5x2", ["expected no x2"]),
        ("cluster:1", ["expected a number of clusters of at least 2, found '1'"]),
        ("cluster:ten", ["found 'ten'"]),
        ("column:age", ["expected column:NAME=VALUE, found no = behind age", "column:clinic=North,age=60..75"]),
        ("column:=5", ["expected column:NAME=VALUE, found no name"]),
        ("column:a=5&", ["found no name"]),
        ("column:a=5&b", ["found no = behind b"]),
        ("column:a=..", ["expected a range LOW..HIGH for a, found no end of it"]),
        ("column:a=9..5", ["the range 9..5 of a is empty: 9 is larger than 5"]),
        ("column:a=2024-02-01..2024-01-01", ["is empty: 2024-02-01 is later than 2024-01-01"]),
        ("column:a=A..C", ["expected numbers or dates (2024-01-31) at the ends", 'in quotes: a="A..C"']),
        ("column:a=1..2024-01-01", ["expected numbers or dates"]),
        ('column:a="x', ["expected a quote at the end"]),
        ('column:a="x"y', ["expected a comma or the end behind the quoted value, found 'y'"]),
        ('column:a=""', ["expected a value for a, found an empty one", "a="]),
        ("by:", ["expected by:NAME[:BINS][,NAME[:BINS]], found nothing behind by", "--group by:clinic"]),
        ('by:"a"b', ["expected the names of columns"]),
        ("colum:a=5", ["did you mean column?"]),
    ],
)
def test_a_mistake_is_told_what_was_expected_and_found(text, expected):
    said = refused(parse_group, text)
    for piece in expected:
        assert piece in said


def test_long_input_is_cut_in_messages():
    assert len(refused(parse_group, "rows:" + "1," * 5000)) < 400


def test_every_kind_has_a_planner_and_an_example_that_parses():
    assert set(PLANNERS) == set(KINDS)
    for kind in KINDS.values():
        parse_group(kind.example)


def test_a_file_of_groups(tmp_path):
    file = tmp_path / "groups.txt"
    text = "# audit\nrandom:5%x10\n\n  coherent:a #1:5  \nrows:1,2\n"
    file.write_text(text, encoding="utf-8")
    expected = ["random:5%x10", "coherent:a #1:5", "rows:1,2"]
    assert read_group_file(str(file)) == expected
    assert read_group_file("-", io.StringIO(text)) == expected
    specs = collect_specs(["cluster:2"], str(file))
    assert [spec.text for spec in specs] == ["cluster:2", *expected]


def test_a_bad_file_of_groups_is_named_with_its_line():
    said = refused(read_group_file, "-", io.StringIO("random:5\n\nrandon:5\n"))
    assert "standard input:3: group 'randon:5'" in said and "did you mean random?" in said
    assert "standard input holds no group" in refused(read_group_file, "-", io.StringIO("# later\n"))
